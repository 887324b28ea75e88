//! Wordlist scan: one source requests many paths, most of which do not exist (gobuster, ffuf, dirb, feroxbuster,
//! wfuzz).
//!
//! Crawlers follow links, so most of the paths that they request exist; monitors request the same few paths. Some
//! honest clients fail often, too: a crawler of a site with dead links fails slowly, and a browser on a page with
//! missing pictures sends a Referer. For both, the threshold is four times as high. Bursts are judged in slices of ten
//! seconds, so that the rule finds a scan whatever its source requested before. Distinct paths are compared, so that
//! repeated requests for an existing path hide nothing.
//!
//! Words are what list tools ask for: by GET or POST, or by methods that HTTP does not have. Of paths asked for by HEAD,
//! four count as one, because copying programs look by HEAD for what they then put there. Paths of other methods
//! (DELETE, PROPFIND) count with as many words, or sixteen as one. Names that machines made (hashes) count as one name.
//! Words that pages sent the client to are told, and ban nobody.
//!
//! Names of parameters are words of a list, too (arjun, x8, ffuf with `?FUZZ=1`), whatever the answer is: a hundred distinct
//! ones, of which nearly each request has new ones. A client that follows links asks with the same ones again and
//! again.
//!
//! A status that shows neither (a redirect of everything to a login or to HTTPS, a request for a password) is no
//! failure. Then, and if no answers are visible, very many paths, at a speed and in a manner that no browser has, are
//! evidence that is not sure. A site that answers 200 to everything hides wordlist scans from this rule, but not
//! requests for sensitive paths.

use super::{
    content_rule::{Common, count, estimate, failed, graded},
    entry::Entry,
};
use crate::{
    content::{By, ContentStats, burst::mostly_missed},
    detect::{Confidence, Rule, Severity, Technique, rules::least},
    settings::Section,
};

/// The entry of this rule in the registry.
pub(super) const RULE: Entry<Settings> = Entry {
    name: "wordlist_scan",
    bans: true,
    default: Settings::default,
    read: Settings::read,
    basics: |settings| settings.common.into(),
    build: |settings| Box::new(WordlistScan(settings)),
};

/// `[rules.wordlist_scan]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settings {
    /// The settings that every content rule has.
    common: Common,
    /// Threshold: distinct paths that did not exist.
    paths: u32,
    /// The same threshold if the source is slow, or sends a Referer.
    slow_paths: u32,
    /// Threshold: distinct paths, if it is unknown whether they exist.
    unknown_paths: u32,
    /// Threshold: distinct names of parameters, of which nearly each request has new ones.
    parameters: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            common: Common::new(Severity::Medium),
            paths: 50,
            slow_paths: 200,
            unknown_paths: 300,
            parameters: 100,
        }
    }
}

impl Settings {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            common: Common::read(&mut section, default.common),
            // The limit is `MOST`.
            paths: section.number("paths", default.paths, 2..=1_500),
            slow_paths: section.number("slow_paths", default.slow_paths, 2..=1_500),
            unknown_paths: section.number("unknown_paths", default.unknown_paths, 2..=1_500),
            // The limit is `MOST_PARAMETERS`.
            parameters: section.number("parameters", default.parameters, 20..=700),
        };
        least(&section, ("paths", settings.paths), ("slow_paths", settings.slow_paths));
        least(&section, ("paths", settings.paths), ("unknown_paths", settings.unknown_paths));
        section.finish();
        settings
    }
}

/// Above this, the bitmap of 512 bits is not precise enough.
const MOST: u64 = 1_500;

/// The same for names of parameters, in a bitmap of 256 bits.
const MOST_PARAMETERS: u64 = 700;

/// The rule.
struct WordlistScan(Settings);

impl WordlistScan {
    /// Whether the source guessed so many times the words by itself.
    fn is_certain(&self, stats: &ContentStats, times: u64) -> bool {
        let web = &stats.web;
        let [paths, slow] = self.thresholds(times);
        // This check is cheap, and most sources end here.
        if web.missed < paths {
            return false;
        }
        let words = web.words(By::Client);
        let is_hasty = words >= paths && web.guessed_paths() >= paths;
        is_hasty || (words >= slow && mostly_missed(web.missed_paths().value, web.met_paths().value))
    }

    /// The same, if pages sent it to some of them.
    fn is_told(&self, stats: &ContentStats, times: u64) -> bool {
        let web = &stats.web;
        let [_, slow] = self.thresholds(times);
        web.missed >= slow
            && web.words(By::Anybody) >= slow
            && mostly_missed(web.missed_paths().value, web.met_paths().value)
    }

    /// Whether names of parameters were guessed.
    fn is_of_parameters(&self, stats: &ContentStats, by: By, times: u64) -> bool {
        let least = (u64::from(self.0.parameters) * times).min(MOST_PARAMETERS);
        stats.web.guessed_parameters(by) >= least
    }

    fn thresholds(&self, times: u64) -> [u64; 2] {
        [self.0.paths, self.0.slow_paths].map(|least| (u64::from(least) * times).min(MOST))
    }

    fn is_likely(&self, stats: &ContentStats) -> bool {
        let (web, least) = (&stats.web, u64::from(self.0.unknown_paths));
        web.requests >= least && web.burst_paths() >= least && web.paths().value >= least
    }
}

impl Rule for WordlistScan {
    fn name(&self) -> &'static str {
        RULE.name
    }

    fn techniques(&self) -> &'static [Technique] {
        &[Technique::WordlistScanning]
    }

    fn severity(&self) -> Severity {
        self.0.common.severity
    }

    fn hear(&self, stats: &ContentStats) -> Option<Confidence> {
        let own = |times| self.is_certain(stats, times) || self.is_of_parameters(stats, By::Client, times);
        let told = |times| self.is_told(stats, times) || self.is_of_parameters(stats, By::Anybody, times);
        graded(stats, own, told).or_else(|| self.is_likely(stats).then_some(Confidence::Low))
    }

    fn words(&self, stats: &ContentStats) -> String {
        let web = &stats.web;
        let is_of_paths = self.is_certain(stats, 1) || self.is_told(stats, 1);
        if !is_of_paths && self.is_of_parameters(stats, By::Anybody, 1) {
            return format!(
                "{} with about {} names of parameters, new ones in nearly each: a wordlist scan (arjun, x8, ffuf)",
                count(web.requests, "request"),
                web.guessed_parameters(By::Anybody)
            );
        }
        let what = if is_of_paths {
            "a wordlist scan (gobuster, ffuf)"
        } else {
            "as in a wordlist scan, though it is not known whether they were there"
        };
        format!(
            "{} for {}{}: {what}",
            count(web.requests, "request"),
            estimate(web.paths(), "path"),
            failed(web)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::{Oddity, Request, Said, Sender},
        detect::rules::content_script::{
            NOBODY, Play, Script, by_method, found, from_link, get, odd, queried, sent_by, with_credentials,
        },
    };

    /// A digest, another for each number.
    fn identifier(number: u64) -> String {
        format!(
            "{:016x}{:016x}",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number.wrapping_mul(0x0dbd_a4d1_96b5_1337)
        )
    }

    /// The name of a parameter, another for each number.
    fn name(number: u64) -> String {
        [number / 26 / 26 % 26, number / 26 % 26, number % 26, 4]
            .map(|letter| char::from(b'a' + letter as u8))
            .into_iter()
            .collect()
    }

    fn rule() -> Box<dyn Rule> {
        Box::new(WordlistScan(Settings::default()))
    }

    #[test]
    fn words_of_a_list_are_found() {
        let scans: [(&str, Script); 23] = [
            ("a name of a parameter in each request, all of which are answered", |play| {
                for word in 0..150 {
                    play.at(word / 50).asked(1, queried("/item", &format!("id=1&{}=x", name(word))), 200);
                }
            }),
            ("chunks of names of parameters", |play| {
                for chunk in 0..30 {
                    let query: Vec<_> =
                        (0..20).map(|word| format!("{}=1", name(20 * chunk + word))).collect();
                    play.at(chunk / 20).asked(1, queried("/item", &query.join("&")), 200);
                }
            }),
            ("maps of scripts that nobody has", |play| {
                play.asked(1, get("/chunk.js"), 200);
                for word in 0..100 {
                    play.at(word / 50).logged(1, get(&format!("/word{word}.js.map")), 404);
                }
            }),
            ("copies of pages that are there", |play| {
                for page in 0..100 {
                    play.asked(1, get(&format!("/page{page}.php")), 200);
                }
                for page in 0..100 {
                    play.at(20 + page / 50).asked(1, get(&format!("/page{page}.php.bak")), 404);
                }
            }),
            ("each before another random identifier", |play| {
                for word in 0..100 {
                    let path = format!("/word{word}/{}", identifier(word));
                    play.at(word / 50).logged(1, get(&path), 404);
                }
            }),
            ("each behind another random identifier", |play| {
                for word in 0..100 {
                    let path = format!("/{}/word{word}.php", identifier(word));
                    play.at(word / 50).logged(1, get(&path), 404);
                }
            }),
            ("words, some of them with versions", |play| {
                for word in 0..100 {
                    play.at(word / 50).logged(1, get(&format!("/backup/word{word}-1.0.zip")), 404);
                }
            }),
            ("in the log", |play| {
                for word in 0..100 {
                    play.at(word / 50).logged(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("on the wire, over ten connections, with a site behind it", |play| {
                for word in 0..200 {
                    let status = if word % 10 == 0 { 200 } else { 404 };
                    play.at(word / 100).asked(1, get(&format!("/word{word}")), status);
                }
            }),
            ("refused rather than not found", |play| {
                for word in 0..100 {
                    play.at(word / 50).logged(1, get(&format!("/word{word}")), 403);
                }
            }),
            ("slowly", |play| {
                for word in 0..400 {
                    play.at(word * 2).logged(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("with a referer", |play| {
                for word in 0..400 {
                    play.at(word / 50).logged(1, from_link(&format!("/word{word}")), 404);
                }
            }),
            ("all redirected to a login", |play| {
                for word in 0..600 {
                    play.at(word / 50).logged(1, get(&format!("/word{word}")), 302);
                }
            }),
            ("after a visit, long before", |play| {
                play.asked(1, get("/"), 200);
                for word in 0..100 {
                    play.at(1_700 + word / 50).logged(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("all redirected, after a visit long before", |play| {
                play.asked(1, get("/"), 200);
                for word in 0..600 {
                    play.at(1_700 + word / 50).logged(1, get(&format!("/word{word}")), 302);
                }
            }),
            ("by somebody who has read all of the site", |play| {
                play.browse(1, 150);
                for word in 0..100 {
                    play.at(1_700 + word / 50).logged(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("with the first page asked for once for every two words", |play| {
                for word in 0..200 {
                    if word % 2 == 0 {
                        play.logged(1, get("/"), 200);
                    }
                    play.at(word / 50).logged(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("the same, slowly", |play| {
                for word in 0..400 {
                    play.at(word * 2).logged(1, get(&format!("/word{word}")), 404).logged(1, get("/"), 200);
                }
            }),
            ("by HEAD", |play| {
                for word in 0..447 {
                    let status = if word % 10 == 0 { 200 } else { 404 };
                    play.at(word / 100).asked(1, by_method("HEAD", &format!("/word{word}")), status);
                }
            }),
            ("by a method that HTTP does not have", |play| {
                for word in 0..100 {
                    let request = match odd("/", Oddity::Method) {
                        Said::Request(request) => Said::Request(Request {
                            method: "FOO".to_owned(),
                            path: format!("/word{word}"),
                            ..request
                        }),
                        other => other,
                    };
                    play.at(word / 50).asked(1, request, 405);
                }
            }),
            ("by OPTIONS, with very many words", |play| {
                for word in 0..1_200 {
                    play.at(word / 1_000).asked(1, by_method("OPTIONS", &format!("/word{word}")), 404);
                }
            }),
            ("by somebody who earned a credit before", |play| {
                for day in 0..4 {
                    play.at(day * 24 * 3600).asked(1, get("/feed"), 200);
                }
                for word in 0..400 {
                    play.at(5 * 24 * 3600 + word / 100).asked(1, get(&format!("/word{word}")), 404);
                }
            }),
            ("no answers seen", |play| {
                for word in 0..600 {
                    play.at(word / 50).say(1, get(&format!("/word{word}")));
                }
            }),
        ];
        for (name, script) in scans {
            assert_eq!(found(rule(), script), [1], "{name}");
        }
    }

    #[test]
    fn what_is_not_sure_says_so() {
        let confidence = |status: u16| {
            let mut play = Play::new(rule());
            for word in 0..600 {
                play.at(word / 50).logged(1, get(&format!("/word{word}")), status);
            }
            play.events().first().map(|event| event.finding.confidence)
        };
        assert_eq!(confidence(404), Some(Confidence::High));
        assert_eq!(confidence(302), Some(Confidence::Low));
        assert_eq!(confidence(401), Some(Confidence::Low));
        assert_eq!(confidence(200), None, "a site that answers 200 to everything hides it");
    }

    #[test]
    fn a_credit_and_a_page_take_away_certainty_but_not_from_a_scan_of_many_words() {
        let confidence = |days: u64, sender: Sender, words: u64| {
            let mut play = Play::new(rule());
            for day in 0..days {
                play.at(day * 24 * 3600).asked(1, get("/feed"), 200);
            }
            for word in 0..words {
                let request = sent_by(sender, get(&format!("/word{word}")));
                play.at(5 * 24 * 3600 + word / 100).asked(1, request, 404);
            }
            play.events().last().map(|event| event.finding.confidence)
        };
        assert_eq!(confidence(0, Sender::Client, 400), Some(Confidence::High));
        assert_eq!(confidence(0, Sender::Page, 150), None);
        assert_eq!(confidence(0, Sender::Page, 1_000), Some(Confidence::Low));
        assert_eq!(confidence(0, Sender::OwnPage, 1_000), Some(Confidence::Low));
        assert_eq!(confidence(4, Sender::Client, 400), Some(Confidence::Low));
        assert_eq!(confidence(4, Sender::Client, 1_200), Some(Confidence::High));
        assert_eq!(confidence(1, Sender::Client, 400), Some(Confidence::High), "a single visit earns none");
    }

    #[test]
    fn a_login_is_a_credit_if_this_host_asked_for_it() {
        let confidence = |asks: bool| {
            let mut play = Play::new(rule());
            if asks {
                play.asked(1, get("/dav/"), 401);
            }
            play.asked(1, with_credentials("/dav/"), 200);
            for file in 0..120 {
                play.at(file / 50).asked(1, with_credentials(&format!("/dav/file{file}")), 404);
            }
            play.events().last().map(|event| event.finding.confidence)
        };
        assert_eq!(confidence(false), Some(Confidence::High), "anybody can write credentials");
        assert_eq!(confidence(true), None);
    }

    #[test]
    fn who_asks_whether_something_is_there_where_that_is_ignored_is_not() {
        let confidence = |ignore: &str| {
            let mut play = Play::new(rule());
            let config = format!("[content]\nignore = [{ignore}]\n");
            play.set_content(crate::config::Config::parse(&config).expect("a configuration").content);
            for item in 0..1_000 {
                play.at(item / 50).asked(1, get(&format!("/{item}.narinfo")), 404);
            }
            play.events().first().map(|event| event.finding.confidence)
        };
        assert_eq!(confidence(""), Some(Confidence::High));
        assert_eq!(confidence("\"*.narinfo\""), None);
    }

    #[test]
    fn crawlers_monitors_and_browsers_are_not() {
        let quiet: [(&str, Script); 32] = [
            ("a beacon with very many names", |play| {
                let query: Vec<_> = (0..150).map(|word| format!("{}=1", name(word))).collect();
                for second in 0..300 {
                    play.at(second).asked(1, queried("/beacon", &query.join("&")), 204);
                }
            }),
            ("a crawler of a shop with very many properties to filter by", |play| {
                for page in 0..2_000 {
                    let query = format!("category=7&{}={page}", name(page / 3 % 140));
                    play.at(page / 4).asked(1, queried("/shop", &query), 200);
                }
            }),
            ("a client that keeps caches out by a name of its own each time", |play| {
                for request in 0..500 {
                    play.at(request / 4).asked(
                        1,
                        queried("/feed", &format!("{}=1", identifier(request))),
                        200,
                    );
                }
            }),
            ("developers' tools that look for the map of each script", |play| {
                for script in 0..70 {
                    play.asked(1, get(&format!("/chunk{script}.js")), 200);
                }
                for script in 0..70 {
                    play.at(20).asked(1, get(&format!("/chunk{script}.js.map")), 404);
                }
            }),
            ("a reader of feeds that are gone", |play| {
                for feed in 0..150 {
                    play.asked(1, get(&format!("/blog{feed}/feed")), if feed % 10 == 0 { 200 } else { 410 });
                }
            }),
            ("a build that asks its cache for each action", |play| {
                for action in 0..200 {
                    play.at(action / 50).asked(1, get(&format!("/ac/{}", identifier(action))), 404);
                }
            }),
            ("a build that asks one repository after another for packages", |play| {
                for artifact in 0..120 {
                    let path = format!("/repository/org/g{artifact}/a{artifact}/1.0/a{artifact}-1.0.pom");
                    play.at(artifact / 50).asked(1, get(&path), 404);
                }
            }),
            ("an app that asks for the image of each item", |play| {
                for item in 0..95 {
                    let path = format!("/Items/{}/Images/Primary", identifier(item));
                    play.at(item / 50).asked(1, get(&path), if item % 6 == 0 { 200 } else { 404 });
                }
            }),
            ("an app that asks for thumbnails of what it just sent", |play| {
                for asset in 0..60u64 {
                    let path = format!("/api/assets/123e4567-e89b-12d3-a456-{asset:012x}/thumbnail");
                    play.asked(1, get("/api/assets"), 201).asked(1, get(&path), 404);
                }
            }),
            ("a client that asks for what its rooms may have", |play| {
                for room in 0..80u64 {
                    let path = format!(
                        "/_matrix/client/v3/user/@u:h.example/rooms/!room{room}x:h.example/account_data/x"
                    );
                    play.asked(1, get(&path), 404);
                }
            }),
            ("wget --mirror", |play| {
                for page in 0..3_000 {
                    let status = if page % 5 == 0 { 404 } else { 200 };
                    play.at(page / 100).asked(1, from_link(&format!("/page{page}")), status);
                }
            }),
            ("wget --mirror, whose answers are not seen", |play| {
                for page in 0..3_000 {
                    play.at(page / 100).say(1, from_link(&format!("/page{page}")));
                }
            }),
            ("a link checker of a site with many dead links", |play| {
                for page in 0..3_000 {
                    let status = if page % 2 == 0 { 404 } else { 200 };
                    play.at(page / 20).logged(1, get(&format!("/page{page}")), status);
                }
            }),
            ("a search engine that asks for what was there long ago", |play| {
                for page in 0..150 {
                    play.at(page * 10).logged(1, get(&format!("/old/{page}")), 404);
                }
            }),
            ("a search engine on the port that sends everybody to HTTPS", |play| {
                for page in 0..3_000 {
                    play.at(page).logged(1, get(&format!("/page{page}")), 301);
                }
            }),
            ("a browser on a page whose pictures are gone", |play| {
                for picture in 0..150 {
                    play.logged(1, from_link(&format!("/thumbnail{picture}.jpg")), 404);
                }
            }),
            ("a fast crawl of a site that is too large for the bitmaps", |play| {
                for page in 0..30_000 {
                    let status = if page % 10 == 0 { 404 } else { 200 };
                    play.at(page / 500).logged(1, get(&format!("/page{page}")), status);
                }
            }),
            ("a monitor of twenty pages that are not there", |play| {
                for check in 0..600 {
                    for page in 0..20 {
                        play.at(check * 10).logged(1, get(&format!("/health{page}")), 404);
                    }
                }
            }),
            ("a browser that misses a dozen pictures now and then", |play| {
                for page in 0..10 {
                    play.at(page * 300).logged(1, get(&format!("/page{page}")), 200);
                    for picture in 0..12 {
                        play.logged(1, from_link(&format!("/{page}/{picture}.jpg")), 404);
                    }
                }
            }),
            ("wrk", |play| {
                for request in 0..20_000 {
                    play.at(request / 10_000).asked(1, get("/"), 200);
                }
            }),
            ("wrk on a page that is not there", |play| {
                for request in 0..20_000 {
                    play.at(request / 10_000).asked(1, get("/gone"), 404);
                }
            }),
            ("a monitor of a page that is not there", |play| {
                for minute in 0..600 {
                    play.at(minute * 60).logged(1, get("/health"), 404).logged(1, get("/"), 200);
                }
            }),
            ("a client whose password has expired", |play| {
                for item in 0..1_000 {
                    play.at(item / 2).logged(1, get(&format!("/api/item/{item}")), 401);
                }
            }),
            ("a phone's backup that deletes what is gone already", |play| {
                for chunk in 0..150 {
                    let status = if chunk % 10 < 8 { 404 } else { 204 };
                    let path = format!("/dav/.SeedVaultAndroidBackup/chunk{chunk}");
                    play.at(chunk / 10).logged(1, by_method("DELETE", &path), status);
                }
            }),
            ("a desktop that copies files", |play| {
                for file in 0..300 {
                    let path = format!("/dav/photos/img_{file}.jpg");
                    play.at(file / 10).logged(1, by_method("PROPFIND", &path), 404);
                    play.logged(1, by_method("PUT", &path), 201);
                }
            }),
            ("a backup that looks for all chunks first", |play| {
                for chunk in 0..1_000u64 {
                    let path = format!(
                        "/backup/data/{:032x}",
                        (u128::from(chunk) + 7) * 0x0123_4567_89ab_cdef_0123_4567_89ab
                    );
                    play.at(chunk / 50).logged(1, by_method("HEAD", &path), 404);
                }
            }),
            ("a debugger that asks for the map of each script", |play| {
                for script in 0..70 {
                    play.asked(1, from_link(&format!("/assets/chunk-{script}.js")), 200);
                }
                for script in 0..70 {
                    play.at(20).asked(1, get(&format!("/assets/chunk-{script}.js.map")), 404);
                }
            }),
            ("a reader of feeds that are gone", |play| {
                for feed in 0..100 {
                    play.asked(1, get(&format!("/old/blog{feed}/feed")), 410);
                }
            }),
            ("a copy of a folder that looks for all files first", |play| {
                for file in 0..180 {
                    play.at(file / 50).asked(1, by_method("HEAD", &format!("/bucket/img_{file}.jpg")), 404);
                }
                for file in 0..180 {
                    play.at(4 + file / 50).asked(
                        1,
                        by_method("PUT", &format!("/bucket/img_{file}.jpg")),
                        200,
                    );
                }
            }),
            ("files that are looked for by GET and then put there", |play| {
                for file in 0..300 {
                    play.at(file / 20).asked(1, get(&format!("/bucket/img_{file}.jpg")), 404);
                    play.asked(1, by_method("PUT", &format!("/bucket/img_{file}.jpg")), 201);
                }
            }),
            ("somebody who comes each day, and misses a hundred things", |play| {
                for day in 0..4 {
                    play.at(day * 24 * 3600).asked(1, get("/feed"), 200);
                }
                for item in 0..120 {
                    play.at(5 * 24 * 3600 + item / 50).asked(1, get(&format!("/item{item}")), 404);
                }
            }),
            ("clients of a server that is ill", |play| {
                for item in 0..1_000 {
                    play.at(item / 5).logged(1, get(&format!("/api/item/{item}")), 503);
                }
            }),
        ];
        for (name, script) in quiet {
            assert_eq!(found(rule(), script), NOBODY, "{name}");
        }
    }
}
