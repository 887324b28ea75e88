//! Tests all content rules together: honest content gives no finding, and one scan gives one finding of one rule.

use super::{
    content_script::{Play, from_link, get, odd, to},
    testing::address,
};
use crate::{
    content::{Oddity, Said},
    detect::{
        Confidence, Severity,
        feeds::Feeds,
        findings::{EventKind, Spoofable},
    },
};

fn told(play: &Play) -> Vec<&'static str> {
    let mut rules: Vec<_> = play.events().iter().map(|event| event.finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// The rule under which each finding ended, in the order of their opening.
fn findings(play: &Play) -> Vec<&'static str> {
    let mut findings: Vec<(&str, &'static str)> = Vec::new();
    for event in play.events() {
        match findings.iter_mut().find(|(id, _)| *id == event.finding.id) {
            Some((_, rule)) => *rule = event.finding.rule,
            None => findings.push((&event.finding.id, event.finding.rule)),
        }
    }
    findings.into_iter().map(|(_, rule)| rule).collect()
}

fn by(agent: &str, said: Said) -> Said {
    match said {
        Said::Request(mut request) => {
            request.agent = Some(agent.to_owned());
            Said::Request(request)
        }
        other => other,
    }
}

#[test]
fn honest_clients_are_quiet_to_all_rules() {
    let mut play = Play::all_rules();
    play.browse(1, 200);
    for page in 0..2_000 {
        let status = if page % 8 == 0 { 404 } else { 200 };
        play.at(2_000 + page / 100).asked(2, from_link(&format!("/page{page}")), status);
        play.at(2_000 + page / 100).asked(3, get("/"), 200);
    }
    for page in 0..500 {
        play.at(3_000 + page * 2);
        let bot = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)";
        let status = if page % 3 == 0 { 404 } else { 200 };
        play.asked(4, by(bot, to("www.example.org", &format!("/old/{page}"))), status);
        let monitor = "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)";
        play.asked(5, by(monitor, to(&format!("shop{}.example.org", page % 30), "/")), 200);
        play.looked_up(6, &format!("www.zone{page}.example"), 1, if page % 2 == 0 { 3 } else { 0 });
    }
    assert_eq!(told(&play), [""; 0]);
}

#[test]
fn a_tool_is_one_finding_for_each_technique() {
    let mut gobuster = Play::all_rules();
    let mut nikto = Play::all_rules();
    for word in 0..300 {
        gobuster.at(word / 100).asked(1, by("gobuster/3.6", get(&format!("/word{word}"))), 404);
        nikto.at(word / 100);
        match word % 4 {
            0 => nikto.asked(1, get("/.env"), 404),
            1 => nikto.asked(1, odd("/../../etc/passwd", Oddity::Traversal), 400),
            2 => nikto.asked(1, by("Mozilla/5.00 (Nikto/2.5.0)", get("/")), 200),
            _ => nikto.asked(1, get(&format!("/cgi/{word}")), 404),
        };
    }
    assert_eq!(findings(&gobuster), ["scanner_agent", "wordlist_scan"]);
    assert_eq!(findings(&nikto), ["scanner_agent", "wordlist_scan"]);
    let first = nikto.events().first().map(|event| event.finding.rule);
    assert_eq!(first, Some("sensitive_paths"), "which the rule about agents took over");
}

#[test]
fn what_is_said_in_somebodys_name_is_not_held_against_him() {
    let mut play = Play::all_rules();
    play.browse(1, 10);
    play.forge(1, get("/.env"));
    let [event] = play.events() else { panic!("{:?}", told(&play)) };
    let finding = &event.finding;
    assert_eq!((finding.rule, finding.confidence), ("sensitive_paths", Confidence::Low));
    assert_eq!(finding.known(), (Confidence::Low, Spoofable::Yes));
}

#[test]
fn what_was_said_within_connections_is_told_apart_and_not_hidden() {
    let mut play = Play::all_rules();
    // The finding is of the rule that covers the others, but anybody can have sent the content.
    play.forge(1, by("sqlmap/1.8", get("/")));
    play.say(1, get("/.env"));
    let tracker = play.detector.tracker();
    let open: Vec<_> =
        tracker.of(&address(1)).iter().map(|finding| (finding.rule, finding.known().1)).collect();
    assert_eq!(open, [("scanner_agent", Spoofable::Yes), ("sensitive_paths", Spoofable::Said { times: 1 })]);
    play.say(1, by("sqlmap/1.8", get("/")));
    let last = play.events().last().unwrap();
    assert_eq!((last.kind, last.finding.rule), (EventKind::Updated, "scanner_agent"));
    assert_eq!(last.finding.known(), (Confidence::High, Spoofable::Said { times: 2 }));
    // Forged content does not take the proof away again.
    play.forge(1, by("sqlmap/1.8", get("/"))).forge(1, get("/.env"));
    let tracker = play.detector.tracker();
    assert!(tracker.of(&address(1)).iter().all(|finding| !finding.known().1.is_possible()));
}

#[test]
fn a_finding_that_is_over_is_not_told_again_for_the_same() {
    let mut play = Play::all_rules();
    for word in 0..100 {
        play.logged(1, get(&format!("/word{word}")), 404);
    }
    play.at(1_000).logged(1, get("/"), 200);
    play.at(1_001).logged(1, get("/gone"), 404);
    let kinds: Vec<_> = play.events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Opened, EventKind::Updated, EventKind::Closed]);
    let sizes: Vec<_> = play.events().iter().map(|event| event.finding.size()).collect();
    assert!((40..=60).contains(&sizes[0]), "distinct paths are estimated: {sizes:?}");
    assert_eq!(sizes[1..], [100, 100]);
}

#[test]
fn a_listed_source_is_worse() {
    let path = std::env::temp_dir().join(format!("scanguard-known-talk-{}.txt", std::process::id()));
    std::fs::write(&path, "192.0.2.1\n").unwrap();
    let (feeds, problems) = Feeds::load(std::slice::from_ref(&path), &Feeds::default());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(problems, []);
    let mut play = Play::all_rules();
    play.detector.set_feeds(feeds);
    play.say(1, get("/.env"));
    let finding = &play.events()[0].finding;
    assert_eq!(finding.severity, Severity::High);
    assert!(finding.reason.contains("listed in scanguard-known-talk"), "{}", finding.reason);
}
