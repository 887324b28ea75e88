//! The output formats of events. Pure: they make one line from an event and the known facts about this host.

mod actor;
mod attack;
mod ecs;
mod eve;
mod json;
pub(crate) mod names;
mod ocsf;
mod text;

use serde::Deserialize;
use serde_json::Value;

use self::{json::json, text::text};
use crate::detect::findings::Event;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One readable line an event.
    Text,
    /// One JSON object a line, as docs/findings.md describes it.
    Json,
    /// Detection Finding of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// Alert of Suricata's EVE log.
    Eve,
    /// Elastic Common Schema.
    Ecs,
}

/// The name of this program in forms that ask for a product.
const PRODUCT: &str = "ScanGuard";
/// The name of its vendor, likewise.
const VENDOR: &str = "ScanGuard";
/// Its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A format of lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Text { colour: bool },
    Json,
    Ocsf,
    Eve,
    Ecs,
}

/// Facts that a format adds to the event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Context {
    /// Known bits of an IPv6 source.
    pub ipv6_prefix: u8,
    /// The name of this host.
    pub host: String,
}

impl Context {
    /// Reads the name of this host; IPv6 sources have this prefix length.
    pub fn here(ipv6_prefix: u8) -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = name.trim();
        Self { ipv6_prefix, host: if name.is_empty() { "localhost" } else { name }.to_owned() }
    }
}

/// Formats events as lines.
#[derive(Clone, Debug)]
pub struct Formatter {
    form: Form,
    context: Context,
    one_direction: bool,
}

impl Formatter {
    /// `on_terminal` decides what [`Format::Auto`] means; text is coloured on request.
    pub fn new(format: Format, terminal: bool, colour: bool, context: Context) -> Self {
        let form = match format {
            Format::Auto if terminal => Form::Text { colour },
            Format::Text => Form::Text { colour },
            Format::Auto | Format::Json => Form::Json,
            Format::Ocsf => Form::Ocsf,
            Format::Eve => Form::Eve,
            Format::Ecs => Form::Ecs,
        };
        Self { form, context, one_direction: false }
    }

    /// Formats for machines: never coloured.
    pub fn plain(format: Format, context: Context) -> Self {
        Self::new(format, false, false, context)
    }

    /// Sets whether the events are of a capture that has only one direction. At first they are not.
    pub fn set_one_direction(&mut self, one: bool) {
        self.one_direction = one;
    }

    /// The facts that it adds.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The event as one line, without its end.
    ///
    /// # Errors
    /// The event cannot be written as JSON: a mistake in this module.
    pub fn line(&self, event: &Event) -> serde_json::Result<String> {
        match self.form {
            Form::Text { colour } => Ok(text(event, self.context.ipv6_prefix, colour)),
            Form::Json => {
                let event = json(event, self.context.ipv6_prefix).of_one_direction(self.one_direction);
                serde_json::to_string(&event)
            }
            Form::Ocsf => serde_json::to_string(&ocsf::event(event, &self.context)),
            Form::Eve => serde_json::to_string(&eve::event(event, &self.context)),
            Form::Ecs => serde_json::to_string(&ecs::event(event, &self.context)),
        }
    }
}

/// Puts the known values into an object, and leaves the unknown out.
fn put(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

#[cfg(test)]
mod own_tests;
/// Compares one finding's life in every format with the files in `golden/`. `SCANGUARD_WRITE_GOLDEN=1` writes them
/// anew.
#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::detect::{
        findings::EventKind,
        geo::{Country, Network, Origin},
        rules::testing::Script,
    };

    /// Events of a source that the databases know: opened and closed.
    fn life() -> [Event; 2] {
        let rules = crate::detect::rules::Settings::default().rules().rules;
        let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
        let mut script = Script::new(rule, crate::detect::settings::Settings::default());
        for port in 1..=40 {
            script.syn(7, 1, port);
        }
        let mut opened = script.events().remove(0);
        opened.finding.id = "3f9a0c11-1".to_owned();
        opened.finding.targets.truncate(2);
        opened.finding.origin = Origin {
            country: Country::new("DE"),
            network: Some(Network { number: 64_500, organization: Some("Example".to_owned()) }),
        };
        let closed = Event {
            time: opened.time.checked_add(jiff::SignedDuration::from_secs(300)).unwrap(),
            kind: EventKind::Closed,
            finding: opened.finding.clone(),
        };
        [opened, closed]
    }

    fn context() -> Context {
        Context { ipv6_prefix: 64, host: "edge1".to_owned() }
    }

    fn value(format: Format, event: &Event) -> Value {
        serde_json::from_str(&Formatter::plain(format, context()).line(event).unwrap()).unwrap()
    }

    #[test]
    fn every_form_is_as_the_golden_files_have_it() {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/export/forms/golden");
        for event in life() {
            for (name, format) in
                [("json", Format::Json), ("ocsf", Format::Ocsf), ("eve", Format::Eve), ("ecs", Format::Ecs)]
            {
                let path = directory.join(format!("{name}-{}.json", event.kind.label()));
                let now = serde_json::to_string_pretty(&value(format, &event)).unwrap() + "\n";
                // The files and the page must not change with every release.
                let now = now.replace(&format!("\"{VERSION}\""), "\"0.1.0\"");
                if std::env::var_os("SCANGUARD_WRITE_GOLDEN").is_some() {
                    fs::write(&path, &now).unwrap();
                }
                let golden = fs::read_to_string(&path).unwrap_or_default();
                assert_eq!(now, golden, "{}", path.display());
            }
        }
    }

    /// A finding about what leaves, of a process in a container.
    fn outbound() -> Event {
        use crate::{
            detect::rules::outbound::testing::{OutScript, PROGRAM},
            outbound::{baseline::News, identity::testing::Draft},
        };
        let group = format!("/system.slice/docker-{}.scope", "3f9a0c11d2e4".repeat(6).get(..64).unwrap());
        let draft = Draft::new("/usr/bin/python3", &group)
            .words(&["python3", "scan.py", "--token", "hunter2", "a\nb\u{1b}[31m"])
            .parents(&["sh", "containerd-shim"]);
        let mut script = OutScript::all_rules();
        script.is(PROGRAM, &draft, News::default());
        (0..40).for_each(|host| _ = script.ask(PROGRAM, host, 22));
        let mut event = script.events().remove(0);
        event.finding.id = "3f9a0c11-2".to_owned();
        event.finding.targets.truncate(1);
        event
    }

    #[test]
    fn what_leaves_is_as_the_golden_files_have_it() {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/export/forms/golden");
        let event = outbound();
        for (name, format) in
            [("json", Format::Json), ("ocsf", Format::Ocsf), ("eve", Format::Eve), ("ecs", Format::Ecs)]
        {
            let path = directory.join(format!("{name}-outbound.json"));
            let now = serde_json::to_string_pretty(&value(format, &event)).unwrap() + "\n";
            let now = now.replace(&format!("\"{VERSION}\""), "\"0.1.0\"");
            if std::env::var_os("SCANGUARD_WRITE_GOLDEN").is_some() {
                fs::write(&path, &now).unwrap();
            }
            assert_eq!(now, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
            assert!(!now.contains("hunter2"), "{now}");
        }
        let line = Formatter::plain(Format::Text, context()).line(&event).unwrap();
        assert_eq!(
            line,
            "1970-01-01T00:00:05.000Z opened  high   outbound_sweep T1595.001 python3 (docker container 3f9a0c11d2e4, \
             uid 33, pid 4711): 40 SYNs to 40 addresses, port 22, within 1m; 40 failed; from /usr/bin/python3 \
             scan.py --token *** a\\nb\\u{1b}[31m; started by sh < containerd-shim"
        );
    }

    #[test]
    fn the_page_of_alert_forms_shows_the_golden_files() {
        let page = include_str!("../../../../docs/alerts.md");
        for golden in [
            include_str!("golden/ocsf-opened.json"),
            include_str!("golden/eve-opened.json"),
            include_str!("golden/ecs-opened.json"),
        ] {
            assert!(page.contains(golden), "docs/alerts.md does not show this any more:\n{golden}");
        }
    }

    #[test]
    fn sources_that_are_all_forged_have_no_address_in_any_form() {
        let [mut event, _] = life();
        event.finding.source = scanguard_common::address::Address::UNSPECIFIED;
        event.finding.targets.clear();
        for format in [Format::Json, Format::Ocsf, Format::Eve, Format::Ecs] {
            let line = value(format, &event).to_string();
            assert!(!line.contains("\"::\"") && !line.contains("0.0.0.0\""), "{line}");
        }
        let evidences = &value(Format::Ocsf, &event)["evidences"];
        assert!(evidences.is_null(), "{evidences}");
    }

    #[test]
    fn an_ipv6_source_is_an_address_and_its_prefix_apart() {
        let [mut event, _] = life();
        event.finding.source = "2001:db8::".parse::<std::net::IpAddr>().unwrap().into();
        let ocsf = value(Format::Ocsf, &event);
        assert_eq!(ocsf["evidences"][0]["src_endpoint"]["ip"], "2001:db8::");
        assert_eq!(ocsf["unmapped"]["source"]["prefix"], 64);
        let ecs = value(Format::Ecs, &event);
        assert_eq!(
            (&ecs["source"]["ip"], &ecs["scanguard"]["source"]["prefix"]),
            (&"2001:db8::".into(), &64.into())
        );
        assert_eq!(value(Format::Eve, &event)["src_ip"], "2001:db8::");
    }

    #[test]
    fn every_rule_has_a_signature_id_of_its_own() {
        let settings = crate::detect::rules::Settings::default();
        let mut rules = settings.rules().rules;
        rules.extend(settings.outbound());
        let mut ids: Vec<_> = rules.iter().map(|rule| eve::signature_id(rule.name())).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), rules.len());
    }
}
