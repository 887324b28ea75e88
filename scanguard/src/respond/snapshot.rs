//! The part of the response that outlives the agent: to and from the content of the state file. Pure: time is passed
//! in.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use jiff::SignedDuration;

use super::{
    LONGEST_BAN, Mode, ModeCause, ModeState,
    allow::MAX_ALLOWED_BY_HAND,
    ban_table::{Ban, BanTable, Past},
    settings::Settings,
    state::{SavedBan, SavedMode, SavedPast, State},
};
use crate::{clock::Now, sensor::gate::Extent};

/// The content of a state file, by this agent's settings and clock.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) mode: ModeState,
    pub(super) ban_table: BanTable,
    pub(super) by_hand: BTreeSet<IpNet>,
}

impl Restored {
    /// The content without a state file.
    pub(super) fn nothing(settings: &Settings, now: Now) -> Self {
        let mode = ModeState::configured(settings.mode, now);
        Self { mode, ban_table: BanTable::default(), by_hand: BTreeSet::new() }
    }

    /// The content of this state file.
    pub(super) fn from_state(state: State, settings: &Settings, now: Now) -> Self {
        let mut restored = Self::nothing(settings, now);
        restored.restore_mode(state.mode, settings);
        let most = settings.max_bans as usize;
        for SavedPast { net, level, ended, dry } in state.past.into_iter().take(most) {
            // A time in the future was written by a wrong clock.
            let past = Past { level, ended: ended.min(now.wall), dry };
            restored.ban_table.remember(net.trunc(), past, most);
        }
        // A start in the future comes from a wrong clock. Its age is unknown, but the remaining time is not.
        let since_then = now.wall.max(state.saved);
        for SavedBan { net, extent, origin, reason, since, ends, level, dry } in state.bans {
            let most = match extent {
                Extent::Full => most,
                Extent::Shield => settings.max_shields as usize,
            };
            if restored.ban_table.len(extent) >= most {
                continue;
            }
            let left =
                ends.map(|ends| Duration::try_from(ends.duration_since(since_then)).unwrap_or_default());
            // A ban that ended in the meantime is removed and remembered like any other.
            let ends = left.map(|left| now.at.saturating_add(left.min(LONGEST_BAN)));
            let since = since.min(now.wall);
            let net = net.trunc();
            restored.ban_table.insert(Ban { net, extent, origin, reason, since, ends, level, dry });
        }
        restored.by_hand.extend(state.allowed.iter().take(MAX_ALLOWED_BY_HAND).map(IpNet::trunc));
        restored
    }

    fn restore_mode(&mut self, saved: SavedMode, settings: &Settings) {
        let SavedMode { mode, cause, since, configured } = saved;
        if configured == settings.mode {
            self.mode = ModeState { mode, cause, since, configured, deadline: None };
        } else {
            tracing::info!(
                "response.mode was changed to {}: that holds, not the {mode} of the state file",
                settings.mode
            );
        }
    }
}

/// The content for the state file.
pub(super) fn state(mode: &ModeState, ban_table: &BanTable, by_hand: &BTreeSet<IpNet>, now: Now) -> State {
    let ModeState { mode, cause, since, configured, deadline } = *mode;
    let mode = match deadline {
        // An agent that dies before the confirmation must not enforce after its restart.
        Some(_) => SavedMode { mode: Mode::DryRun, cause: ModeCause::Unconfirmed, since, configured },
        None => SavedMode { mode, cause, since, configured },
    };
    let mut state = State::new(now.wall, mode);
    state.bans = ban_table.bans().map(|ban| saved_ban(ban, now)).collect();
    let past = ban_table.past();
    state.past = past
        .map(|(net, past)| SavedPast { net, level: past.level, ended: past.ended, dry: past.dry })
        .collect();
    state.allowed = by_hand.iter().copied().collect();
    state
}

fn saved_ban(ban: &Ban, now: Now) -> SavedBan {
    SavedBan {
        net: ban.net,
        extent: ban.extent,
        origin: ban.origin.clone(),
        reason: ban.reason.clone(),
        since: ban.since,
        ends: ban.left(now.at).and_then(|left| {
            now.wall.checked_add(SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX)).ok()
        }),
        level: ban.level,
        dry: ban.dry,
    }
}
