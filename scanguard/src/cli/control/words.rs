//! The agent's answers as text for people.

use crate::{
    cidr::name,
    control::listing::{ACTIVE, ActorReport, ActorReports, Actors, Findings, Sources, Status},
    crowdsec::CrowdsecStatus,
    fleet::member::FleetStatus,
    respond::{
        Extent, Mode,
        report::{BanReport, Bans, Explanation, FindingReport, ReflexReport, ShieldCounts},
    },
    sandbox::{self, landlock::Enforced},
    words::{classes, count, left},
};

fn line(ban: &BanReport) -> String {
    let packets = ban.packets.map_or_else(String::new, |packets| packets.to_string());
    format!(
        "{:<24} {:<8} {:<9} {:<12} {:>9}  {}{}\n",
        name(ban.net),
        ban.response.label(),
        ban.origin.label(),
        left(ban.seconds_left),
        packets,
        ban.reason,
        match ban.spared {
            0 => String::new(),
            spared => format!(" (spares {} of it)", count(spared, "allowed network")),
        }
    )
}

/// The output of `scanguard bans`.
pub(super) fn bans(answer: &Bans) -> String {
    let counted = match answer.mode {
        Mode::Enforce => "DROPPED",
        Mode::DryRun => "COUNTED",
        // In this mode no packet is dropped or counted; counts from another mode stay.
        Mode::Observe => "PACKETS",
    };
    let mut text =
        format!("{:<24} {:<8} {:<9} {:<12} {counted:>9}  REASON\n", "WHO", "RESPONSE", "BY", "LEFT");
    text.extend(answer.bans.iter().map(line));
    let [bans, shields] =
        Extent::ALL.map(|extent| answer.bans.iter().filter(|ban| ban.response == extent).count());
    text.push_str(&format!("mode {}; {}", answer.mode, count(bans, "ban")));
    if shields > 0 {
        text.push_str(&format!(", {}", count(shields, "shield")));
    }
    if answer.feed_networks > 0 {
        text.push_str(&format!(", and {} of feeds", count(answer.feed_networks, "network")));
    }
    text + "\n"
}

/// What to say if most packets are not IP.
pub(in crate::cli) const MOSTLY_NOT_IP: &str =
    "MOSTLY NOT IP: more than half within the last minute; is this the right interface? (docs/drivers.md)";

/// The output of `scanguard status`.
pub(super) fn status(answer: &Status) -> String {
    let response = &answer.response;
    let mut lines = vec![
        format!(
            "scanguard {}, process {}, up {}",
            answer.version,
            answer.pid,
            left(Some(answer.uptime_seconds))
        ),
        format!("mode        {}, {} since {:.0}", response.mode, response.mode_cause, response.mode_since),
    ];
    if let Some(seconds) = response.confirm_seconds_left {
        lines.push(format!("confirm     within {}, or it goes back to dry-run", left(Some(seconds))));
    }
    for (interface, mode) in &answer.interfaces {
        let way = answer.egress.iter().find(|(name, _)| name == interface);
        let leaving = match way {
            Some((_, way)) => format!("; what leaves: {}", way.as_deref().unwrap_or("not seen")),
            // An agent of an earlier version does not say.
            None => String::new(),
        };
        let mode = mode.as_deref().unwrap_or("NOT ATTACHED: waited for");
        lines.push(format!("interface   {interface}: {mode}{leaving}"));
        let more = [answer.fallbacks.get(interface), answer.unwatched.get(interface).map(|gap| &gap.said)];
        lines.extend(more.into_iter().flatten().map(|said| format!("            {said}")));
    }
    if answer.mostly_not_ip {
        lines.push(format!("packets     {MOSTLY_NOT_IP}"));
    }
    let counts = response.bans;
    lines.push(format!(
        "bans        {} by rules, {} by hand, {} by CrowdSec{}{}; at most {}; drop = \"{}\"",
        counts.rule,
        counts.hand,
        counts.crowdsec,
        if counts.fleet > 0 { format!(", {} by the fleet", counts.fleet) } else { String::new() },
        // This is rare.
        if counts.adopted > 0 { format!(", {} adopted", counts.adopted) } else { String::new() },
        response.max_bans,
        response.drop
    ));
    let ShieldCounts { on, held, most } = response.shields;
    let off = if on { "" } else { "; no new ones (response.shield)" };
    lines.push(format!("shields     {held}; at most {most}{off}"));
    lines.push(format!("reflex      {}", response.reflex.map_or_else(|| "off".to_owned(), reflex)));
    lines.extend(answer.crowdsec.iter().flat_map(crowdsec));
    lines.extend(answer.fleet.as_ref().map(fleet));
    lines.push(format!(
        "feeds       {} networks banned, {} not",
        response.feed_networks, response.feed_networks_left_out
    ));
    let breaker = if response.circuit_breaker_open {
        "OPEN, rules make no new bans until the storm is over"
    } else {
        "closed"
    };
    lines.push(format!(
        "breaker     {breaker}: bans in {} networks within the last minute, at most {}",
        response.bans_last_minute, response.max_per_minute
    ));
    lines.extend(answer.unread_logs.iter().map(|file| format!("logs        NOT READ: {file}")));
    lines.extend(answer.sandbox.as_ref().map(confined));
    lines.push(format!("findings    {} open", answer.findings_open));
    let error = response.state_file_error.as_ref().map(|error| format!(": NOT WRITTEN: {error}"));
    lines.push(format!("state file  {}{}", response.state_file, error.unwrap_or_default()));
    lines.push(format!("allowed     {} networks are never banned:", response.allowed.len()));
    lines.extend(
        response.allowed.iter().map(|allowed| format!("  {:<24}  {}", name(allowed.net), allowed.why)),
    );
    lines.join("\n") + "\n"
}

fn fleet(answer: &FleetStatus) -> String {
    let FleetStatus { servers, name, connected, told, waiting, error } = answer;
    let connection = if *connected { "connected" } else { "NOT CONNECTED" };
    let trouble = error.as_ref().map_or(String::new(), |error| format!(": FAILS: {error}"));
    format!(
        "fleet       {name} at {}: {connection}, {} told, {waiting} waiting{trouble}",
        servers.join(", "),
        count(usize::try_from(*told).unwrap_or(usize::MAX), "sighting")
    )
}

fn crowdsec(answer: &CrowdsecStatus) -> Vec<String> {
    let trouble =
        |error: &Option<String>| error.as_ref().map_or(String::new(), |error| format!(": FAILS: {error}"));
    let mut lines = vec![format!("crowdsec    {}", answer.url)];
    lines.extend(answer.pull.as_ref().map(|pull| {
        let age = match pull.seconds_since_pull {
            Some(seconds) => format!("{} ago", left(Some(seconds))),
            None => "never".to_owned(),
        };
        format!("  pull      {}, pulled {age}{}", count(pull.decisions, "decision"), trouble(&pull.error))
    }));
    lines.extend(answer.push.as_ref().map(|push| {
        format!(
            "  push      {} pushed, {} waiting, {} left out{}",
            count(push.pushed, "finding"),
            push.queued,
            push.left_out,
            trouble(&push.error)
        )
    }));
    lines
}

/// The privileges that the agent has given up.
fn confined(report: &sandbox::Report) -> String {
    if !report.enabled {
        return format!("sandbox     OFF: user {}, all privileges are kept", report.user);
    }
    let files = match report.landlock {
        Enforced::Fully => "files by Landlock",
        Enforced::Partly => "files by an older Landlock",
        Enforced::Not => "NO LANDLOCK",
    };
    let calls = if report.seccomp { "system calls filtered" } else { "NO SECCOMP" };
    let user = if report.is_root { "ROOT" } else { &report.user };
    let capabilities = sandbox::kept(&report.capabilities);
    format!("sandbox     user {user}; capabilities: {capabilities}; {calls}; {files}")
}

/// The sources that the kernel holds by itself.
fn reflex(reflex: ReflexReport) -> String {
    format!(
        "at {} closed services, or addresses without one, a source is shielded from for {} ms",
        reflex.services, reflex.milliseconds
    )
}

/// The lines that explain why an address is banned or not.
pub(crate) fn explanation(answer: &Explanation) -> String {
    let mut lines = vec![format!("{}: {}", answer.address, answer.verdict)];
    if let (Some(_), Some((feed, net))) = (&answer.ban, &answer.feed) {
        lines.push(format!("feed      {feed} lists {net}"));
    }
    if let Some((ended, level)) = &answer.before {
        lines.push(format!("before    its ban no. {} by a rule ended {ended:.0}", u64::from(*level) + 1));
    }
    lines.extend(answer.findings.iter().flat_map(finding_lines));
    match &answer.history {
        Some(history) => {
            let probes: Vec<_> =
                history.probes.iter().map(|(class, count)| format!("{count} {class}")).collect();
            lines.push(format!(
                "history   {} within {}, the last {} ago; {} completed",
                if probes.is_empty() { "no probes".to_owned() } else { probes.join(", ") },
                left(Some(history.seconds_since_first)),
                left(Some(history.seconds_since_last)),
                count(history.completed, "connection")
            ));
        }
        None => lines.push("history   none: it has sent no probes, or only long ago".to_owned()),
    }
    if let Some(said) = &answer.said {
        lines.push(format!("said      {said}"));
    }
    lines.join("\n") + "\n"
}

/// The lines about a finding as evidence.
fn finding_lines(finding: &FindingReport) -> [String; 4] {
    [
        format!(
            "finding   {} {}: severity {}, confidence {}, {} from {:.0} to {:.0}",
            finding.id,
            finding.rule,
            finding.severity.label(),
            finding.confidence.label(),
            finding.said.clone().unwrap_or_else(|| count(finding.probes, "probe")),
            finding.first_seen,
            finding.last_seen
        ),
        format!("  why     {}", finding.reason),
        format!("  forged  {}", finding.spoofable),
        format!("  policy  {}", finding.policy),
    ]
}

/// The output of `scanguard actors explain`.
pub(super) fn actor_reports(answer: &ActorReports) -> String {
    let mut lines: Vec<String> = answer.actors.iter().flat_map(actor_report).collect();
    let untold = answer.matching - answer.actors.len().min(answer.matching);
    if untold > 0 {
        lines.push(format!("{untold} more match"));
    }
    lines.join("\n") + "\n"
}

fn actor_report(report: &ActorReport) -> Vec<String> {
    let mut lines =
        vec![format!("{}: {}", report.actor, report.verdict), format!("kind      {}", report.kind)];
    lines.extend(report.command.iter().map(|command| format!("command   {command}")));
    lines.extend(report.allowed.iter().map(|allowed| format!("allowed   {allowed}")));
    lines.extend(report.findings.iter().flat_map(finding_lines));
    let attempts = match classes(&report.attempts) {
        none if none.is_empty() => "nothing new asked for".to_owned(),
        some => some,
    };
    lines.push(format!(
        "history   {attempts} within {}, the last {} ago; {} answered, {} refused",
        left(Some(report.seconds_since_first)),
        left(Some(report.seconds_since_last)),
        report.answered,
        report.refused,
    ));
    lines.extend(report.short_of.iter().map(|(rule, said)| format!("short of  {rule}: {said}")));
    lines
}

/// The output of `scanguard sources`.
pub(super) fn sources(answer: &Sources) -> String {
    let mut text = format!(
        "{:<24} {:>8} {:>10} {:>8} {:>6} {:>9} {:>9} {:<2} {:<8} {:<24} PROBES BY CLASS\n",
        "SOURCE", "RATE/S", "PROBES", "SERVICES", "HOSTS", "COMPLETED", "LAST", "CC", "BAN", "FINDINGS"
    );
    for source in &answer.sources {
        text.push_str(&format!(
            "{:<24} {:>8.1} {:>10} {:>8} {:>6} {:>9} {:>9} {:<2} {:<8} {:<24} {}\n",
            name(source.net),
            source.per_second,
            source.probes,
            source.services,
            source.hosts,
            source.completed,
            left(Some(source.seconds_since_last)),
            source.country.as_deref().unwrap_or(""),
            source.ban.label(),
            source.rules.join(", "),
            classes(&source.classes)
        ));
    }
    text + &format!(
        "{} of {} that probed within the last {} minutes; {} remembered\n",
        answer.sources.len(),
        count(answer.active, "source"),
        ACTIVE.as_secs() / 60,
        answer.remembered
    )
}

/// The output of `scanguard actors`.
pub(super) fn actors(answer: &Actors) -> String {
    let mut text = format!("{:<32} {:<20} {:<20} {:<15} EXECUTABLE\n", "UNIT", "SINCE", "LAST", "HOW");
    for program in &answer.programs {
        let updated = program.updated.map_or_else(String::new, |at| format!(" (updated {at:.0})"));
        text.push_str(&format!(
            "{:<32} {:<20.0} {:<20.0} {:<15} {}{updated}\n",
            program.class,
            program.since,
            program.last,
            program.how.join(","),
            program.path,
        ));
    }
    text + &format!(
        "{} of {}; who is new is told from {:.0} on\n",
        answer.programs.len(),
        count(answer.known, "program"),
        answer.learned_at
    )
}

/// The output of `scanguard findings`.
pub(super) fn findings(answer: &Findings) -> String {
    let mut text = format!(
        "{:<24} {:<20} {:<8} {:<10} {:<20} WHY\n",
        "SOURCE", "RULE", "SEVERITY", "CONFIDENCE", "LAST"
    );
    for open in &answer.findings {
        let finding = &open.finding;
        text.push_str(&format!(
            "{:<24} {:<20} {:<8} {:<10} {:<20.0} {}: {}{}\n",
            open.who(),
            finding.rule,
            finding.severity.label(),
            finding.confidence.label(),
            finding.last_seen,
            open.size(),
            finding.reason,
            open.command.as_ref().map_or_else(String::new, |command| format!("; {command}")),
        ));
    }
    text + &format!("{} of {}\n", answer.findings.len(), count(answer.open, "open finding"))
}
