//! How the epochs continue when the agent is gone.
//!
//! The agent numbers its polls. Much is kept until the next poll: what a port answered, the distinct things of a
//! source, the rest of a sampling budget. With `sensor.persist` the program outlives the agent. Then it moves the
//! epoch on by itself, by the kernel's clock. So the work of hours never looks like one burst, and nothing is
//! remembered for ever.

/// Jiffies are shifted right by so many bits to limit how long the answer of a port is remembered: 1,024 jiffies are a
/// second where the kernel counts 1,000 a second. They are ten seconds where it counts 100, the least that can be
/// configured (`HZ`, kernel/Kconfig.hz).
pub const MEMORY_SHIFT: u32 = 10;

/// By how many epochs to move on. The running epoch has lasted for `passed` jiffies, of `longest` at most; the result
/// may be 0. If `longest` is 0, an epoch lasts until the agent ends it.
#[inline(always)]
pub const fn overdue(passed: u64, longest: u32) -> u32 {
    if longest == 0 || passed < longest as u64 {
        return 0;
    }
    (passed / longest as u64) as u32
}

/// Whether one epoch comes after another. Epochs are numbered modulo 2^32.
#[inline(always)]
pub const fn is_after(epoch: u32, other: u32) -> bool {
    epoch.wrapping_sub(other).cast_signed() > 0
}

/// The first epoch whose activity is new to an agent that has read everything before `stopped` and that ends the epoch
/// `ended`. The source was last active in `last`. If the program moved on in between, the distinct things of the
/// source's last two epochs are kept, and nothing says when the rest happened.
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

/// Whether something that was noted in an epoch still counts. It counts for `age` epochs.
///
/// Another CPU may have noted it in an epoch that this CPU has not seen yet.
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
    fn notes_are_fresh_for_as_many_epochs_as_they_should() {
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
