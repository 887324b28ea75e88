//! How many samples are taken, and at which ports.

use crate::{address::Address, content::Begins, flow::stir, outcome::numbered, wire::protocol};

numbered! {
    /// Why a payload was not sampled, though it begins like something that is.
    LeftOut[LEFT_OUTS] {
        /// Its source has used up its budget of this epoch.
        SourceBudget = "source_budget",
        /// This CPU has used up its budget of this epoch.
        CpuBudget = "cpu_budget",
        /// The ring buffer had no room: the agent is too slow, or it is gone.
        RingFull = "ring_full",
        /// The packet's bytes could not be read.
        Unreadable = "unreadable",
    }
}

/// A set of ports, with one bit each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports([u64; PORT_WORDS]);

/// Number of words in [`Ports`].
pub const PORT_WORDS: usize = 65_536 / 64;

impl Ports {
    /// No port.
    pub const NONE: Self = Self([0; PORT_WORDS]);

    /// A set of these ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Self::NONE;
        for port in ports {
            let (word, bit) = place(port);
            set.0[word] |= bit;
        }
        set
    }

    /// The words, see [`place`].
    pub const fn words(&self) -> &[u64; PORT_WORDS] {
        &self.0
    }

    /// Whether the set has this port.
    pub fn contains(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.0[word] & bit != 0
    }
}

/// The word and the bit of a port in the set.
#[inline(always)]
pub const fn place(port: u16) -> (usize, u64) {
    (port as usize / 64, 1 << (port % 64))
}

/// Number of places in the table of budgets, 8 bytes each; a power of two. When a source takes the place of another
/// one, it begins with a full budget. The budget of the CPU bounds this.
pub const BUDGETS: usize = 16_384;

/// Which budget pays for a sample. Samples that anybody can forge use up no budget of the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum BudgetKind {
    /// The source sent it, as the connection proves ([`crate::proof`]).
    Proven,
    /// Anybody may have sent it with the address of the source.
    Unproven,
    /// This host sent it to the source.
    Answer,
}

impl BudgetKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Proven, Self::Unproven, Self::Answer];
}

/// The place and the tag of a source's budget.
#[inline(always)]
pub fn budget_place(source: Address, kind: BudgetKind, salt: u64) -> (u32, u32) {
    let [high, low] = source.words();
    let hash = stir(stir(stir(salt, high), low), kind as u64);
    ((hash >> 50) as u32 & (BUDGETS as u32 - 1), hash as u32)
}

/// Number of budgets of each CPU, all of the same size: for TCP connections, for DNS over UDP, for segments that no
/// connection proves, and for other protocols over UDP.
pub const CPU_BUDGETS: usize = 4;

/// Which budget of a CPU pays. Datagrams and segments with forged numbers use up only their own budgets.
#[inline(always)]
pub const fn cpu_place(protocol: u8, kind: BudgetKind, begins: Begins) -> u32 {
    match (kind, begins) {
        (_, Begins::Greeting) if protocol != protocol::TCP => 3,
        _ if protocol != protocol::TCP => 1,
        (BudgetKind::Proven | BudgetKind::Answer, _) => 0,
        (BudgetKind::Unproven, _) => 2,
    }
}

/// How many samples may be taken. So many come back with each epoch. Unused ones are saved for some epochs, so that a
/// burst is seen as well where epochs are short. At most 65,535 are saved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Budget {
    /// Samples in an epoch.
    pub samples: u32,
    /// For how many epochs unused samples are saved, at least one.
    pub epochs: u32,
}

/// Takes one sample from a budget. Gives the number to keep, or nothing if the budget is used up. `held` is the number
/// that was kept before: tag, epoch and how many were taken. A source that comes back after a multiple of 65,536
/// epochs finds less than its budget; no source finds more.
#[inline(always)]
pub fn charge(held: u64, tag: u32, epoch: u32, budget: Budget) -> Option<u64> {
    let Budget { samples, epochs } = budget;
    let taken = if held >> 32 == u64::from(tag) {
        let passed = epoch.wrapping_sub((held >> 16) as u32) & 0xffff;
        (held & 0xffff).saturating_sub(u64::from(passed) * u64::from(samples))
    } else {
        0
    };
    let saved = u64::from(samples) * u64::from(epochs.max(1));
    let is_left = saved.min(0xffff) > taken;
    is_left.then_some(u64::from(tag) << 32 | u64::from((epoch & 0xffff) << 16) | (taken + 1))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_set_holds_its_ports_and_no_others() {
        let ports = [0, 53, 63, 64, 80, 443, 8080, 65_535];
        let set = Ports::new(ports);
        for port in 0..=u16::MAX {
            assert_eq!(set.contains(port), ports.contains(&port), "{port}");
        }
    }

    /// How many of the wanted samples were taken, and the number to keep.
    fn taken(held: u64, tag: u32, epoch: u32, samples: u32, wanted: u32) -> (u32, u64) {
        taken_of_saved(held, tag, epoch, Budget { samples, epochs: 1 }, wanted)
    }

    fn taken_of_saved(mut held: u64, tag: u32, epoch: u32, budget: Budget, wanted: u32) -> (u32, u64) {
        let mut count = 0;
        for _ in 0..wanted {
            if let Some(now) = charge(held, tag, epoch, budget) {
                held = now;
                count += 1;
            }
        }
        (count, held)
    }

    #[test]
    fn a_budget_is_for_one_epoch_and_one_source() {
        let (count, held) = taken(0, 7, 1, 10, 100);
        assert_eq!(count, 10);
        assert_eq!(taken(held, 7, 1, 10, 100).0, 0);
        assert_eq!(taken(held, 7, 2, 10, 100).0, 10, "the next epoch");
        assert_eq!(taken(held, 8, 1, 10, 100).0, 10, "another source");
        assert_eq!(taken(held, 7, 1, 12, 100).0, 2, "a larger budget");
        assert_eq!(taken(0, 7, 1, 0, 100).0, 0, "none");
    }

    #[test]
    fn an_unused_budget_is_saved_for_some_epochs_and_a_used_one_comes_back_epoch_by_epoch() {
        let budget = Budget { samples: 10, epochs: 5 };
        let (mut held, mut counts) = (0, [0; 6]);
        for (count, epoch) in counts.iter_mut().zip([1, 1, 2, 4, 5, 100]) {
            (*count, held) = taken_of_saved(held, 7, epoch, budget, 100);
        }
        assert_eq!(counts, [50, 0, 10, 20, 10, 50]);
        assert_eq!(taken_of_saved(held, 7, 100 + 0x1_0000, budget, 100).0, 0, "never more");
        assert_eq!(taken_of_saved(0, 7, 1, Budget::default(), 100).0, 0, "none");
        let largest = Budget { samples: u32::MAX, epochs: u32::MAX };
        assert_eq!(taken_of_saved(0, 7, 1, largest, 70_000).0, 65_535);
    }

    #[test]
    fn an_epoch_that_goes_round_gives_back_as_any_other() {
        let budget = Budget { samples: 10, epochs: 5 };
        let (_, held) = taken_of_saved(0, 7, 0xffff, budget, 100);
        assert_eq!(taken_of_saved(held, 7, 0x1_0001, budget, 100).0, 20);
    }

    #[test]
    fn the_largest_budget_ends_too() {
        assert_eq!(taken(0, u32::MAX, u32::MAX, u32::MAX, 70_000).0, 65_535);
    }

    #[test]
    fn proven_messages_unproven_ones_and_answers_have_budgets_of_their_own() {
        let source = Ipv4Addr::new(192, 0, 2, 1).into();
        let places = BudgetKind::ALL.map(|kind| budget_place(source, kind, 7));
        let [proven, unproven, answer] = places;
        assert!(proven != unproven && unproven != answer && answer != proven);
        assert!(places.iter().all(|(place, _)| (*place as usize) < BUDGETS));
        let of_cpu = |protocol, begins| BudgetKind::ALL.map(|kind| cpu_place(protocol, kind, begins));
        for (begins, datagrams) in [(Begins::Query, 1), (Begins::Greeting, 3)] {
            let of = |protocol| of_cpu(protocol, begins);
            assert_eq!((of(protocol::TCP), of(protocol::UDP)), ([0, 2, 0], [datagrams; 3]));
            assert!((datagrams as usize) < CPU_BUDGETS);
        }
    }
}
