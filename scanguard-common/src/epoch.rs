//! How epochs go on when the agent is gone.
//!
//! The agent numbers its polls, and much is kept until the next: what a port met, which distinct things a source did, how much
//! may still be sampled. With `sensor.persist` the program outlives the agent. Then it moves the epoch on by itself, by the
//! kernel's clock, so that what was done over hours is never one burst, and nothing is remembered for ever.

/// Jiffies are shifted by so many bits to tell for how long what a port met is remembered at most: 1,024 of them are a second
/// where the kernel counts 1,000 a second, and ten where it counts 100, the least that it can be configured to (`HZ`,
/// kernel/Kconfig.hz).
pub const MEMORY_SHIFT: u32 = 10;

/// By how many epochs to move on when one has lasted for `passed` jiffies, of `longest` at most; 0: by none. With 0 for
/// `longest` an epoch lasts until the agent ends it.
#[inline(always)]
pub const fn overdue(passed: u64, longest: u32) -> u32 {
    if longest == 0 || passed < longest as u64 {
        return 0;
    }
    (passed / longest as u64) as u32
}

/// Whether an epoch comes after another. They are numbered modulo 2^32.
#[inline(always)]
pub const fn is_after(epoch: u32, other: u32) -> bool {
    epoch.wrapping_sub(other).cast_signed() > 0
}

/// From which epoch on what a source did is new to an agent that has read all before `stopped` and ends the epoch `ended`; the
/// source did something last in `last`. Where the program moved on in between, of the source's distinct things those of its
/// last two epochs are kept, and nothing says when all else was.
pub const fn unread(last: u32, stopped: u32, ended: u32) -> u32 {
    let kept = last.wrapping_sub(1);
    if is_after(kept, ended) {
        ended
    } else if is_after(kept, stopped) {
        kept
    } else {
        stopped
    }
}

/// Whether something that was noted in an epoch still counts: for `age` epochs it does.
///
/// Another CPU may have noted it in an epoch that is new to this one.
#[inline(always)]
pub const fn is_fresh(noted: u32, now: u32, age: u32) -> bool {
    now.wrapping_sub(noted).cast_signed() <= age.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_moved_on_once_it_has_lasted_for_as_long_as_it_may() {
        assert_eq!([overdue(0, 100), overdue(99, 100), overdue(100, 100), overdue(350, 100)], [0, 0, 1, 3]);
        assert_eq!(overdue(u64::MAX, 0), 0, "for ever");
    }

    #[test]
    fn an_agent_that_comes_in_time_has_read_all_but_the_epoch_that_it_ends() {
        for last in [7, 8, 9] {
            assert_eq!(unread(last, 8, 8), 8);
        }
        assert_eq!(unread(u32::MAX, u32::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn an_agent_that_comes_late_reads_the_last_two_epochs_of_each_source() {
        assert_eq!(unread(5, 8, 100), 8, "it did nothing since");
        assert_eq!(unread(8, 8, 100), 8);
        assert_eq!(unread(9, 8, 100), 8);
        assert_eq!(unread(50, 8, 100), 49);
        assert_eq!(unread(100, 8, 100), 99);
        assert_eq!(unread(3, u32::MAX - 1, 5), 2, "the numbers may wrap");
    }

    #[test]
    fn what_was_noted_counts_for_as_long_as_it_should() {
        for (noted, now, fresh) in [
            (5, 5, true),
            (6, 5, true),
            (5, 15, true),
            (5, 16, false),
            (u32::MAX - 1, 8, true),
            (u32::MAX - 1, 9, false),
        ] {
            assert_eq!(is_fresh(noted, now, 10), fresh, "noted in {noted}, now {now}");
        }
    }
}
