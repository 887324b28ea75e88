//! What one source says first to services, in protocols other than HTTP, TLS and DNS: statistics within some time.

use std::sync::Arc;

use super::{
    greeting::{Language, Manner, Tried},
    tools::keep,
};
use crate::observe::distinct::{Estimate, Sketch};

/// So many sets of algorithms one program of SSH offers: the keys that it knows of a host come first.
const SETS_OF_PROGRAM: u64 = 3;
/// An offer of a single key exchange is worth so many others.
const SETS_OF_SINGLE: u64 = 4;
/// There must be so many times as many users as there are of those that have another explanation. Fewer may be an
/// error of the estimates.
const USERS_OF_PHONE: u64 = 2;

/// First words in short form.
pub(super) struct Opened<'t> {
    pub(super) language: Language,
    pub(super) manner: Manner,
    /// Whether the port belongs to another protocol.
    pub(super) is_foreign: bool,
    /// The kind of thing that it tries, and the hash of it.
    pub(super) tried: Option<(Tried, u64)>,
    /// A hash of what the software calls itself.
    pub(super) software: Option<u64>,
    /// The scanner that it is by this name.
    pub(super) tool: Option<&'t Arc<str>>,
    /// A hash of the client's port.
    pub(super) port: u64,
}

/// First words in protocols of services.
#[derive(Clone, Debug)]
pub struct Services {
    /// How many there were.
    pub greetings: u64,
    /// Those that only tools say that look for what is there, and those of scanners by name.
    pub probes: u64,
    /// Scanners that the names of the software are.
    pub tools: Vec<Arc<str>>,
    languages: Languages,
    odd: Languages,
    probed: Languages,
    foreign: Languages,
    communities: Sketch<2>,
    users: Sketch<4>,
    known_users: Sketch<4>,
    /// Ports of the client from which users without credentials came.
    user_ports: Sketch<4>,
    algorithms: Sketch<2>,
    single_exchanges: Sketch<2>,
    /// Names of the software of SSH.
    programs: Sketch<2>,
    proposals: Sketch<2>,
}

impl Services {
    pub(super) const EMPTY: Self = Self {
        greetings: 0,
        probes: 0,
        tools: Vec::new(),
        languages: Languages::NONE,
        odd: Languages::NONE,
        probed: Languages::NONE,
        foreign: Languages::NONE,
        communities: Sketch::EMPTY,
        users: Sketch::EMPTY,
        known_users: Sketch::EMPTY,
        user_ports: Sketch::EMPTY,
        algorithms: Sketch::EMPTY,
        single_exchanges: Sketch::EMPTY,
        programs: Sketch::EMPTY,
        proposals: Sketch::EMPTY,
    };

    pub(super) fn open(&mut self, opened: &Opened<'_>) {
        let Opened { language, manner, is_foreign, tried, software, tool, port } = *opened;
        self.greetings += 1;
        self.languages.add(language);
        if is_foreign {
            self.foreign.add(language);
        }
        if manner == Manner::Odd {
            self.odd.add(language);
        }
        if manner == Manner::Probe || tool.is_some() {
            self.probes += 1;
            self.probed.add(language);
        }
        if let Some(tool) = tool {
            keep(&mut self.tools, tool);
        }
        if let (Language::Ssh, Some(software)) = (language, software) {
            self.programs.add(software);
        }
        match tried {
            Some((Tried::Community, hash)) => self.communities.add(hash),
            Some((Tried::User, hash)) => {
                self.users.add(hash);
                self.user_ports.add(port);
            }
            Some((Tried::KnownUser, hash)) => self.known_users.add(hash),
            Some((Tried::Algorithms, hash)) => self.algorithms.add(hash),
            Some((Tried::SingleExchange, hash)) => self.single_exchanges.add(hash),
            Some((Tried::Proposal, hash)) => self.proposals.add(hash),
            None => {}
        }
    }

    /// All protocols that it spoke.
    pub fn languages(&self) -> Languages {
        self.languages
    }

    /// Protocols in which it asked as tools do, or which it spoke to the ports of others.
    pub fn odd(&self) -> Languages {
        Languages(self.odd.0 | self.probed.0 | self.foreign.0)
    }

    /// Protocols of [`Self::probes`].
    pub fn probed(&self) -> Languages {
        self.probed
    }

    /// Protocols that it spoke to the ports of others.
    pub fn foreign(&self) -> Languages {
        self.foreign
    }

    /// Distinct communities of SNMP.
    pub fn communities(&self) -> Estimate {
        self.communities.count().at_most(self.greetings)
    }

    /// Distinct users of SIP that were guessed. Phones behind one address have a port each, and show credentials when
    /// they are asked for them; so does a gateway that registers many users from one port.
    pub fn users(&self) -> Estimate {
        let explained = self.known_users.count().value + self.user_ports.count().value;
        let users = self.users.count().at_most(self.greetings);
        let is_more = users.value >= USERS_OF_PHONE * explained;
        Estimate {
            value: if is_more { users.value.saturating_sub(explained.saturating_sub(1)) } else { 0 },
            ..users
        }
    }

    /// Distinct sets of algorithms that were offered by SSH, beyond those that so many programs have. Those with a single
    /// key exchange count for themselves, and several times.
    pub fn algorithms(&self) -> Estimate {
        let sets = self.algorithms.count().at_most(self.greetings);
        let of_programs = SETS_OF_PROGRAM * self.programs.count().value;
        let single = self.single_exchanges.count().at_most(self.greetings).value;
        let value = sets.value.saturating_sub(of_programs).max(SETS_OF_SINGLE * single);
        Estimate { value, ..sets }
    }

    /// Distinct proposals of IKE.
    pub fn proposals(&self) -> Estimate {
        self.proposals.count().at_most(self.greetings)
    }
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Languages(u32);

impl Languages {
    /// No protocol.
    pub const NONE: Self = Self(0);

    fn add(&mut self, language: Language) {
        self.0 |= 1 << language.index();
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names.
    pub fn labels(self) -> impl Iterator<Item = &'static str> {
        Language::ALL
            .into_iter()
            .filter(move |language| self.0 & 1 << language.index() != 0)
            .map(Language::label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Opened<'_> = Opened {
        language: Language::Sip,
        manner: Manner::Ordinary,
        is_foreign: false,
        tried: None,
        software: None,
        tool: None,
        port: 0,
    };

    /// A hash as good as those of the tracker.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn users(said: impl IntoIterator<Item = (Tried, u64, u64)>) -> u64 {
        let mut services = Services::EMPTY;
        for (kind, user, port) in said {
            services.open(&Opened { tried: Some((kind, hash(user))), port: hash(port), ..PLAIN });
        }
        services.users().value
    }

    #[test]
    fn users_from_one_port_without_credentials_are_guesses() {
        let guesses = users((100..120).map(|user| (Tried::User, user, 5_061)));
        assert!((18..=22).contains(&guesses), "{guesses}");
        assert!(users((100..1_000).map(|user| (Tried::User, user, 5_061))) > 100);
    }

    #[test]
    fn phones_behind_one_address_and_gateways_are_no_guessers() {
        assert!(users([(Tried::User, 1, 5_060)]) <= 1);
        for phones in [10, 50, 200, 1_000] {
            let behind_nat = (0..phones).map(|user| (Tried::User, user, 10_000 + user));
            assert_eq!(users(behind_nat), 0, "{phones} whose server is away");
            let gateway =
                (0..phones).flat_map(|user| [(Tried::User, user, 5_060), (Tried::KnownUser, user, 5_060)]);
            assert_eq!(users(gateway), 0, "{phones} behind a gateway");
        }
    }

    #[test]
    fn many_sets_of_algorithms_of_one_program_are_tried_out_and_those_of_many_programs_are_not() {
        let sets = |programs: u64, each: u64| {
            let mut services = Services::EMPTY;
            for program in 0..programs {
                let line = Opened { language: Language::Ssh, software: Some(hash(program)), ..PLAIN };
                services.open(&line);
                for set in 0..each {
                    let offer = Some((Tried::Algorithms, hash(1_000 * program + set)));
                    services.open(&Opened { tried: offer, software: None, ..line });
                }
            }
            services.algorithms().value
        };
        assert!(sets(1, 12) >= 8);
        assert!(sets(1, 3) == 0 && sets(20, 2) == 0);
    }

    #[test]
    fn single_key_exchanges_one_after_the_other_are_tried_out() {
        let single = |offers: u64| {
            let mut services = Services::EMPTY;
            for offer in 0..offers {
                for _ in 0..10 {
                    let tried = Some((Tried::SingleExchange, hash(offer)));
                    services.open(&Opened { language: Language::Ssh, tried, ..PLAIN });
                }
            }
            services.algorithms().value
        };
        assert_eq!((single(1), single(2)), (4, 8));
    }

    #[test]
    fn protocols_are_counted_once_and_named() {
        let mut services = Services::EMPTY;
        for (language, manner, is_foreign) in [
            (Language::Ntp, Manner::Odd, false),
            (Language::Ntp, Manner::Odd, false),
            (Language::Ike, Manner::Ordinary, false),
            (Language::Smb, Manner::Ordinary, true),
            (Language::Memcached, Manner::Probe, false),
        ] {
            services.open(&Opened { language, manner, is_foreign, ..PLAIN });
        }
        assert_eq!(services.odd().labels().collect::<Vec<_>>(), ["ntp", "memcached", "smb"]);
        assert_eq!((services.languages().len(), services.probes), (4, 1));
        assert_eq!(services.foreign().labels().collect::<Vec<_>>(), ["smb"]);
        assert!(Languages::NONE.is_empty());
    }
}
