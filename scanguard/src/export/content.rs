//! The content that a source sent, as JSON; `docs/findings.md` describes it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{content::summary::Summary, observe::distinct::Estimate};

/// Fields that do not apply are absent: a DNS scan has no requests.
#[derive(Serialize)]
pub(super) struct JsonContent<'f> {
    said: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Services>,
    #[serde(skip_serializing_if = "is_zero")]
    broken: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<&'f str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    examples: &'f [Box<str>],
}

#[derive(Serialize)]
struct Http {
    requests: u64,
    failed: u64,
    paths: u64,
    missed_paths: u64,
    sensitive_paths: u64,
    hosts: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    oddities: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Tls {
    hellos: u64,
    server_names: u64,
    fingerprints: u64,
}

#[derive(Serialize)]
struct Dns {
    queries: u64,
    names: u64,
    missed_names: u64,
}

#[derive(Serialize)]
struct Services {
    greetings: u64,
    protocols: Vec<&'static str>,
    communities: u64,
    users: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl<'f> JsonContent<'f> {
    pub(super) fn new(said: u64, summary: &'f Summary) -> Self {
        let Summary {
            requests,
            failed,
            paths,
            missed_paths,
            sensitive_paths,
            hosts,
            oddities,
            broken,
            hellos,
            server_names,
            fingerprints,
            queries,
            names,
            missed_names,
            greetings,
            languages,
            communities,
            users,
            tools,
            examples,
        } = summary;
        let value = |estimate: &Estimate| estimate.value;
        Self {
            said,
            http: (*requests > 0).then(|| Http {
                requests: *requests,
                failed: *failed,
                paths: value(paths),
                missed_paths: value(missed_paths),
                sensitive_paths: value(sensitive_paths),
                hosts: value(hosts),
                oddities: oddities.iter().map(|(oddity, count)| (oddity.label(), *count)).collect(),
            }),
            tls: (*hellos > 0).then(|| Tls {
                hellos: *hellos,
                server_names: value(server_names),
                fingerprints: value(fingerprints),
            }),
            dns: (*queries > 0).then(|| Dns {
                queries: *queries,
                names: value(names),
                missed_names: value(missed_names),
            }),
            services: (*greetings > 0).then(|| Services {
                greetings: *greetings,
                protocols: languages.labels().collect(),
                communities: value(communities),
                users: value(users),
            }),
            broken: *broken,
            tools: tools.iter().map(|tool| &**tool).collect(),
            examples,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        content::settings::Settings,
        detect::rules::content_script::{Play, get},
        export::{
            forms::{Context, Format, Formatter},
            writer::FindingsWriter,
        },
    };

    fn lines(play: &Play, json: bool) -> Vec<String> {
        let mut output = Vec::new();
        let format = if json { Format::Json } else { Format::Text };
        let formatter = Formatter::new(format, false, false, Context::here(64));
        let mut writer = FindingsWriter::new(&mut output, formatter);
        play.events().iter().for_each(|event| writer.write(event).unwrap());
        String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
    }

    fn scan(play: &mut Play) {
        for word in 0..100 {
            play.at(word / 50).logged(1, get(&format!("/word{word}\x1b[2J")), 404);
        }
        play.at(1_000);
    }

    #[test]
    fn a_line_says_what_was_said_and_how_it_is_known() {
        let mut play = Play::all_rules();
        scan(&mut play);
        let json: serde_json::Value = serde_json::from_str(lines(&play, true).last().unwrap()).unwrap();
        assert_eq!((&json["rule"], &json["event"]), (&"wordlist_scan".into(), &"closed".into()));
        assert_eq!(json["techniques"], serde_json::json!(["T1595.003"]));
        assert_eq!(json["confidence"], "high");
        assert_eq!(json["spoofable"], "no: 100 times it was said within connections with this source");
        let content = &json["content"];
        assert_eq!((&content["said"], &content["http"]["requests"]), (&100.into(), &100.into()));
        assert_eq!(content["http"]["failed"], 100);
        assert!((90..=110).contains(&content["http"]["missed_paths"].as_u64().unwrap()), "{content}");
        assert!(content.get("dns").is_none() && content.get("tools").is_none(), "{content}");
        assert_eq!(content["examples"][0], "/word0\\u{1b}[2J");
    }

    #[test]
    fn a_line_for_people_has_no_more_than_text_of_what_was_said() {
        let mut play = Play::all_rules();
        scan(&mut play);
        let lines = lines(&play, false);
        assert!(lines[0].contains(" opened  medium wordlist_scan T1595.003 192.0.2.1: "), "{lines:?}");
        assert!(lines.last().unwrap().contains("; said in all 100 times: 100 requests for "), "{lines:?}");
        assert!(!lines.concat().contains('\x1b'));
    }

    #[test]
    fn where_nothing_may_be_named_nothing_is() {
        let mut play = Play::all_rules();
        play.set_content(Settings { redact: true, ..Settings::default() });
        scan(&mut play);
        let lines = lines(&play, true).concat() + &lines(&play, false).concat();
        assert!(lines.contains("wordlist_scan") && !lines.contains("word0"), "{lines}");
    }
}
