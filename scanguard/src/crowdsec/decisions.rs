//! Turns the Local API's stream of decisions into orders. Pure: it never asks for the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ipnet::IpNet;
use jiff::SignedDuration;
use scanguard_common::numbered;
use serde::{Deserialize, Deserializer};

use super::alerts::is_own;
use crate::{
    cidr::parse_net,
    respond::{
        LONGEST_BAN,
        cause::Cause,
        decided::{Decided, Lifts},
    },
};

/// How many characters of a scenario are kept.
const MAX_SCENARIO: usize = 200;

/// The answer of `GET /v1/decisions/stream`. For an empty list, the Local API writes `null`. An answer without both
/// keys is some other JSON. It must not count as "there are no decisions", because that would end all bans.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "StreamBody")]
pub struct Stream {
    new: Vec<Decision>,
    deleted: Vec<Decision>,
}

/// The answer before the check. A missing key is `None`; a key with `null` is empty.
#[derive(Deserialize)]
struct StreamBody {
    #[serde(default, deserialize_with = "present")]
    new: Option<Vec<Decision>>,
    #[serde(default, deserialize_with = "present")]
    deleted: Option<Vec<Decision>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Decision>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

impl TryFrom<StreamBody> for Stream {
    type Error = &'static str;

    fn try_from(body: StreamBody) -> Result<Self, Self::Error> {
        match body {
            StreamBody { new: None, deleted: None } => Err("neither \"new\" nor \"deleted\" is in it"),
            StreamBody { new, deleted } => {
                Ok(Self { new: new.unwrap_or_default(), deleted: deleted.unwrap_or_default() })
            }
        }
    }
}

/// A decision in the format of the Local API.
#[derive(Clone, Debug, Deserialize)]
struct Decision {
    id: u64,
    duration: String,
    origin: String,
    scenario: String,
    scope: String,
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

numbered! {
    /// The result for a new decision.
    Fate {
        /// It is kept, and the policy judges it.
        Kept = "kept",
        /// It follows from this machine's own alert.
        Own = "own",
        /// It is not about an address or a network.
        Scope = "other_scope",
        /// It is no ban.
        Kind = "other_type",
        /// It cannot be read.
        Malformed = "malformed",
        /// There is no room.
        LeftOut = "left_out",
    }
}

/// The orders that the agent must carry out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders {
    /// Networks to ban, and networks whose ban ends.
    pub decided: Decided,
    /// The results for the new decisions.
    pub fates: BTreeMap<Fate, u64>,
    /// Decisions that are kept now.
    pub kept: usize,
}

/// The decisions in force, up to a limit. A network may have several.
#[derive(Debug)]
pub struct Decisions {
    machine: String,
    most: usize,
    by_id: HashMap<u64, IpNet>,
    by_net: BTreeMap<IpNet, BTreeMap<u64, Kept>>,
    /// The newest decision so far. Older ones are not counted again.
    newest: u64,
}

#[derive(Debug)]
struct Kept {
    scenario: String,
    /// When it ends, by the monotonic clock.
    ends: Duration,
}

impl Decisions {
    /// No decisions yet. Those from alerts of `machine` are its own.
    pub fn new(machine: &str, most: u32) -> Self {
        Self {
            machine: machine.to_owned(),
            most: most as usize,
            by_id: HashMap::new(),
            by_net: BTreeMap::new(),
            newest: 0,
        }
    }

    /// Takes an answer: all decisions in force (`full`), or the changes.
    pub fn take(&mut self, stream: Stream, full: bool, at: Duration) -> Orders {
        let Stream { mut new, deleted } = stream;
        // If there is no room for all, decisions of this site take precedence over global lists.
        new.sort_by_key(Decision::is_listed);
        let newest = new.iter().map(|decision| decision.id).max().unwrap_or(0);
        let mut touched = BTreeSet::new();
        if full {
            self.by_id.clear();
            self.by_net.clear();
            // The Local API has restarted its numbering.
            self.newest = if newest < self.newest { 0 } else { self.newest };
        } else {
            for decision in deleted {
                touched.extend(self.remove(decision.id));
            }
        }
        let mut fates = BTreeMap::new();
        for decision in new {
            let (id, fate) = (decision.id, self.keep(decision, at, &mut touched));
            if id > self.newest {
                *fates.entry(fate).or_default() += 1;
            }
        }
        self.newest = self.newest.max(newest);
        let longest = |net: &IpNet| Some((*net, self.cause(*net, at)?));
        let bans: Vec<_> = touched.iter().filter_map(longest).collect();
        let lifts = if full {
            Lifts::AllBut(self.by_net.keys().copied().collect())
        } else {
            Lifts::These(touched.into_iter().filter(|net| !self.by_net.contains_key(net)).collect())
        };
        Orders { decided: Decided { bans, lifts }, fates, kept: self.by_id.len() }
    }

    fn keep(&mut self, decision: Decision, at: Duration, touched: &mut BTreeSet<IpNet>) -> Fate {
        let id = decision.id;
        let (net, kept) = match decision.read(&self.machine, at) {
            Ok(read) => read,
            Err(fate) => return fate,
        };
        touched.extend(self.remove(id));
        if self.by_id.len() >= self.most {
            return Fate::LeftOut;
        }
        self.by_id.insert(id, net);
        self.by_net.entry(net).or_default().insert(id, kept);
        touched.insert(net);
        Fate::Kept
    }

    fn remove(&mut self, id: u64) -> Option<IpNet> {
        let net = self.by_id.remove(&id)?;
        if let Some(of_net) = self.by_net.get_mut(&net) {
            of_net.remove(&id);
            if of_net.is_empty() {
                self.by_net.remove(&net);
            }
        }
        Some(net)
    }

    /// The decision that lasts longest.
    fn cause(&self, net: IpNet, at: Duration) -> Option<Cause> {
        let (id, kept) = self.by_net.get(&net)?.iter().max_by_key(|(_, kept)| kept.ends)?;
        let lasts = kept.ends.saturating_sub(at);
        Some(Cause::Crowdsec { decision: *id, scenario: kept.scenario.clone(), lasts })
    }
}

impl Decision {
    /// Whether it comes from a list that CrowdSec gives to everybody.
    fn is_listed(&self) -> bool {
        self.origin == "CAPI" || self.origin.starts_with("lists")
    }

    fn read(self, machine: &str, at: Duration) -> Result<(IpNet, Kept), Fate> {
        if is_own(&self.scenario, machine) {
            return Err(Fate::Own);
        }
        if !self.scope.eq_ignore_ascii_case("ip") && !self.scope.eq_ignore_ascii_case("range") {
            return Err(Fate::Scope);
        }
        if !self.kind.eq_ignore_ascii_case("ban") {
            return Err(Fate::Kind);
        }
        let net = parse_net(&self.value).map_err(|_| Fate::Malformed)?.trunc();
        let lasts =
            self.duration.parse().ok().and_then(|lasts: SignedDuration| Duration::try_from(lasts).ok());
        // An ended decision has no effect.
        let lasts = lasts.filter(|lasts| !lasts.is_zero()).ok_or(Fate::Malformed)?.min(LONGEST_BAN);
        let visible = self.scenario.chars().map(|c| if c.is_control() { ' ' } else { c });
        Ok((net, Kept { scenario: visible.take(MAX_SCENARIO).collect(), ends: at.saturating_add(lasts) }))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    const HOUR: u64 = 3_600;

    fn decision(id: u64, value: &str, duration: &str, scenario: &str) -> serde_json::Value {
        let scope = if value.contains('/') { "Range" } else { "Ip" };
        serde_json::json!({
            "id": id, "duration": duration, "origin": "cscli", "scenario": scenario, "scope": scope, "type": "ban",
            "value": value,
        })
    }

    fn stream(new: &[serde_json::Value], deleted: &[serde_json::Value]) -> Stream {
        serde_json::from_value(serde_json::json!({ "new": new, "deleted": deleted })).unwrap()
    }

    /// Which networks are banned, by which decision, and for how many seconds; and whose ban ends.
    fn said(orders: &Orders) -> (Vec<(String, u64, u64)>, Vec<String>) {
        let ban = |(net, cause): &(IpNet, Cause)| match cause {
            Cause::Crowdsec { decision, lasts, .. } => (net.to_string(), *decision, lasts.as_secs()),
            Cause::Rule { .. } | Cause::Feed { .. } | Cause::Hand { .. } | Cause::Fleet { .. } => {
                panic!("{cause:?}")
            }
        };
        let lifts = match &orders.decided.lifts {
            Lifts::These(nets) => nets.iter().map(ToString::to_string).collect(),
            Lifts::AllBut(nets) => nets.iter().map(|net| format!("not {net}")).collect(),
        };
        (orders.decided.bans.iter().map(ban).collect(), lifts)
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn answers_as_crowdsec_gives_them_are_read() {
        let answer = r#"{"deleted":[{"duration":"-11.735871ms","id":2,"origin":"cscli","scenario":"test","scope":"Ip",
            "type":"ban","value":"1.2.3.4"}],"new":[{"duration":"58m1.099368413s","id":3,"origin":"crowdsec",
            "scenario":"crowdsecurity/ssh-bf","scope":"Ip","type":"ban","value":"192.0.2.7","uuid":"x"},{"duration":
            "1h29m59.099365535s","id":4,"origin":"cscli","scenario":"test","scope":"Range","type":"ban",
            "value":"198.51.100.9/24"},{"duration":"3h59m59.9s","id":7,"origin":"cscli","scenario":"b","scope":"Ip",
            "type":"ban","value":"fd77::5"}]}"#;
        let mut decisions = Decisions::new("edge-1", 9);
        let orders = decisions.take(serde_json::from_str(answer).unwrap(), true, at(100));
        let (mut bans, lifts) = said(&orders);
        bans.sort();
        let owned = |net: &str, id, seconds| (net.to_owned(), id, seconds);
        assert_eq!(
            bans,
            [
                owned("192.0.2.7/32", 3, 3_481),
                owned("198.51.100.0/24", 4, 5_399),
                owned("fd77::5/128", 7, 14_399)
            ]
        );
        assert_eq!(lifts.len(), 3);
        let nothing =
            decisions.take(serde_json::from_str(r#"{"deleted":null,"new":null}"#).unwrap(), false, at(110));
        assert_eq!((said(&nothing), nothing.kept), ((vec![], vec![]), 3));
    }

    #[test]
    fn what_is_no_ban_of_an_address_or_follows_from_our_own_is_counted_and_no_more() {
        let with = |key: &str, value: &str| {
            let mut decision = decision(1, "192.0.2.7", "1h", "s");
            decision[key] = value.into();
            decision
        };
        for (wrong, fate) in [
            (with("scope", "Country"), Fate::Scope),
            (with("type", "captcha"), Fate::Kind),
            (with("value", "me"), Fate::Malformed),
            (with("duration", "soon"), Fate::Malformed),
            (with("duration", "-1h"), Fate::Malformed),
            (with("duration", "0s"), Fate::Malformed),
            (with("scenario", "scanguard/slow_scan@edge-1"), Fate::Own),
            (with("scenario", "scanguard/slow_scan@edge-2"), Fate::Kept),
            (with("scope", "ip"), Fate::Kept),
        ] {
            for full in [true, false] {
                let mut decisions = Decisions::new("edge-1", 9);
                let orders = decisions.take(stream(from_ref(&wrong), &[]), full, at(0));
                assert_eq!(orders.fates, BTreeMap::from([(fate, 1)]), "{wrong}");
                assert_eq!(orders.decided.bans.len(), usize::from(fate == Fate::Kept), "{wrong}");
            }
        }
    }

    #[test]
    fn of_several_decisions_the_longest_holds_until_it_is_deleted() {
        let mut decisions = Decisions::new("", 9);
        let (short, long) = (decision(1, "192.0.2.7", "1h", "a"), decision(2, "192.0.2.7", "4h", "b"));
        let net = "192.0.2.7/32".to_owned();
        let orders = decisions.take(stream(&[short.clone(), long.clone()], &[]), true, at(0));
        assert_eq!(said(&orders).0, [(net.clone(), 2, 4 * HOUR)]);
        let orders = decisions.take(stream(&[], &[long]), false, at(60));
        assert_eq!(said(&orders), (vec![(net.clone(), 1, HOUR - 60)], vec![]));
        let orders = decisions.take(stream(&[], from_ref(&short)), false, at(70));
        assert_eq!((said(&orders), orders.kept), ((vec![], vec![net]), 0));
        let orders = decisions.take(stream(&[], &[short]), false, at(80));
        assert_eq!(said(&orders), (vec![], vec![]), "what was never known ends nothing");
    }

    #[test]
    fn a_full_answer_says_who_is_left_and_counts_nothing_twice() {
        let mut decisions = Decisions::new("", 9);
        let (one, two) = (decision(8, "192.0.2.7", "1h", "a"), decision(9, "192.0.2.8", "1h", "a"));
        assert_eq!(decisions.take(stream(&[one, two.clone()], &[]), true, at(0)).fates[&Fate::Kept], 2);
        let orders = decisions.take(stream(&[two], &[]), true, at(0));
        assert_eq!(
            said(&orders),
            (vec![("192.0.2.8/32".to_owned(), 9, HOUR)], vec!["not 192.0.2.8/32".to_owned()])
        );
        assert!(orders.fates.is_empty());
        // A Local API that was installed anew.
        let orders = decisions.take(stream(&[decision(1, "192.0.2.9", "1h", "a")], &[]), true, at(0));
        assert_eq!(orders.fates[&Fate::Kept], 1);
    }

    #[test]
    fn there_is_room_for_so_many_and_those_made_here_come_first() {
        let mut decisions = Decisions::new("", 2);
        let mut new: Vec<_> = (1..=5).map(|id| decision(id, &format!("192.0.2.{id}"), "1h", "a")).collect();
        new[..4].iter_mut().for_each(|listed| listed["origin"] = "CAPI".into());
        let orders = decisions.take(stream(&new, &[]), true, at(0));
        assert_eq!((orders.kept, orders.fates[&Fate::LeftOut]), (2, 3));
        assert_eq!(said(&orders).0.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), [1, 5]);
        assert_eq!((decisions.by_id.len(), decisions.by_net.len()), (2, 2));
        decisions.take(stream(&[], &new), false, at(1));
        assert_eq!((decisions.by_id.len(), decisions.by_net.len()), (0, 0));
    }
}
