//! Faults around a sensor, their outcomes, and the tests that show them: docs/reliability.md is made of this.

use std::fmt::Write as _;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The fault, in words.
    pub fault: &'static str,
    /// The sensor's reaction.
    pub outcome: &'static str,
    /// The test of the layer `netns` that shows it.
    pub test: &'static str,
}

const fn fault(fault: &'static str, outcome: &'static str, test: &'static str) -> Fault {
    Fault { fault, outcome, test }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    fault(
        "the agent is killed in a scan, and started again (`sensor.persist`)",
        "the kernel goes on counting and dropping; the next agent goes on with its counts: nothing is lost, nothing counted twice, no banned packet passes",
        "persist: across restarts and a kill no packet is lost and none passes a ban",
    ),
    fault(
        "the same, for findings",
        "events that were written before are not written again",
        "persist: findings that were reported before a restart are not reported again",
    ),
    fault(
        "the agent is restarted",
        "each start says how long nobody watched: not at all with `sensor.persist`, else since the agent before ended",
        "persist: a restart with it misses nothing, and one without it says how long it was blind",
    ),
    fault(
        "the agent is killed before enforcing is confirmed (`enforce --confirm`, `sensor.persist`)",
        "when the time to confirm is over, the kernel no longer drops anything, neither by bans nor by feeds",
        "persist: enforcing that is not confirmed ends though the agent is killed",
    ),
    fault(
        "a scan while no agent runs (`sensor.persist`)",
        "the next agent finds it",
        "persist: a scan while no agent ran is found by the next",
    ),
    fault(
        "no agent runs for long (`sensor.persist`), and services start meanwhile where ports were probed",
        "the results of these probes are forgotten within seconds, so clients of these services are not accused",
        "persist: clients of a service that started while no agent ran are no scanners",
    ),
    fault(
        "no agent runs for long, and a source probes one port now and then",
        "the next agent reads the last two active half minutes of each source: activity over hours is no burst, a scan is one",
        "persist: occasional probes while no agent ran are no scan, and a real scan is one",
    ),
    fault(
        "the agent is killed (without `sensor.persist`)",
        "the kernel detaches the program; the next agent starts as the first did",
        "a killed agent leaves nothing and can be started again",
    ),
    fault(
        "two agents",
        "the second does not start, names the first, exit code 8",
        "response: one agent at a time, and a killed one leaves no trouble",
    ),
    fault(
        "two agents, one of them persisting",
        "likewise",
        "persist: the second of two agents names the first, exit code 8",
    ),
    fault(
        "the interface goes away and comes back",
        "the agent reports the loss, other interfaces go on, and the program is attached again when the interface returns",
        "an interface that goes away is reported, and attached again when it returns",
    ),
    fault(
        "an interface is not there at the start",
        "the agent says so, lists those that there are, and watches the others; it is attached when it appears",
        "interfaces: one that comes late is attached then, and the others are watched meanwhile",
    ),
    fault(
        "no interface is there at the start, or none is named and there is no default route",
        "the agent waits: /readyz is 503 with the reason, /healthz 200; it is attached when one appears",
        "interfaces: where there is none yet the agent waits, is not ready, and says so",
    ),
    fault(
        "hundreds of interfaces come and go while the agent does not read (ENOBUFS)",
        "the overrun is counted, and all addresses are read anew",
        "interfaces: hundreds that come and go lose nothing but announcements, which are made up for",
    ),
    fault(
        "the interface is renamed, and named back",
        "the agent reports the loss and the new name, and attaches again when an interface of the old name exists",
        "fault: an interface that is renamed is lost, and attached again by its old name",
    ),
    fault(
        "the interface goes down and up, its MTU changes",
        "the program stays, and every probe is counted",
        "fault: down and up and another MTU leave the program where it is",
    ),
    fault(
        "the driver has no native XDP",
        "exit code 6, and the message names a solution; generic mode is used only on request",
        "generic mode is only taken when it is asked for",
    ),
    fault(
        "another XDP program is there",
        "it is never replaced: exit code 6, with its name and owner",
        "another xdp program is never replaced, exit code 6",
    ),
    fault(
        "a program of libxdp is there, alone or in its dispatcher",
        "exit code 6; the message names it, the programs that the dispatcher runs, and the command that ends it: [coexistence](coexistence.md)",
        "coexistence: behind xdp-filter in native mode it does not start and says the way out",
    ),
    fault(
        "libxdp or iproute2 want the interface of a running sensor",
        "the kernel refuses them; the sensor goes on counting",
        "coexistence: libxdp and iproute2 cannot take its place, and it counts on",
    ),
    fault(
        "somebody takes the program off by force (`bpftool link detach`)",
        "the agent reports and counts the loss, and attaches again at the next poll",
        "coexistence: taken off by force it says so and attaches again",
    ),
    fault(
        "the same, of the egress program",
        "likewise; the agent also reports the missing evidence, and if there was no room for the program, it attaches it as soon as there is",
        "egress: taken off by force it says so and attaches again",
    ),
    fault(
        "jumbo frames, which lie in several buffers",
        "they count like any other, in both modes; the headers must be in the first buffer: [coexistence](coexistence.md#jumbo-frames)",
        "jumbo: with an MTU of 9000, native mode, a scan among bulk transfers is found, nothing is junk",
    ),
    fault(
        "the agent is killed, and the kernel has no tcx",
        "a helper process removes the filter of tc; if that is killed, too, the next agent or `scanguard detach` does",
        "clsact: what an agent and its helper left behind is taken over, or removed by detach",
    ),
    fault(
        "somebody else has filters of tc at the interface",
        "they and their clsact stay; if they come first, the agent says so: [coexistence](coexistence.md#filters-of-tc)",
        "clsact: filters of others stay, before and after, and so does their clsact",
    ),
    fault(
        "the egress program cannot be attached",
        "the agent reports the loss, and everything else works",
        "egress: where it cannot be attached, the loss is reported and all else works",
    ),
    fault(
        "no bpffs, a read-only one, or another's pins",
        "exit code 10, nothing is changed",
        "persist: no bpffs, a read-only one, and pins of others are exit code 10",
    ),
    fault(
        "the table of sources is full",
        "totals stay exact, evictions are counted, and a scanner is still found",
        "fault: with a table that is full evictions are counted, totals stay exact and a scan is found",
    ),
    fault(
        "there are as many bans as allowed (`response.max_bans`)",
        "the ban that ends soonest makes room, but none that was made by hand; if there is no such ban, the new one is refused, reported and counted",
        "fault: at the limit of bans one more is refused, and the present ones stay",
    ),
    fault(
        "the agent stands still (SIGSTOP) and the ring buffer runs over",
        "wake-ups without room are counted, totals stay exact, and every scan is found at the next poll",
        "fault: an agent that stood still counts the trips it lost, and finds every scan",
    ),
    fault(
        "the disk with the state file is full",
        "bans work, `status` shows that the state is not written, and the state is written as soon as there is room",
        "fault: a full disk does not stop bans, and the state is written when there is room",
    ),
    fault(
        "the disk with the state file hangs",
        "bans work, `status` shows since when the disk hangs, and SIGTERM ends the agent after a moment; it detaches and reports the possible loss",
        "fault: a disk that hangs keeps neither bans nor the end waiting, and is reported",
    ),
    fault(
        "the disk with the findings is full",
        "no half line is written, and waiting lines are written when there is room",
        "a full disk leaves no half line, and the file goes on when there is room",
    ),
    fault(
        "nobody reads the standard output",
        "neither the sensor nor its end waits",
        "a standard output that nobody reads stops neither the sensor nor its end",
    ),
    fault(
        "the state file is corrupt",
        "the agent moves it aside, reports it, and starts",
        "response: bans outlive the agent, and a corrupt state file does not stop it",
    ),
    fault(
        "the agent has no file descriptors left",
        "it goes on counting and finding, and answers again when connections end",
        "fault: without file descriptors it goes on, and answers again when there are some",
    ),
    fault(
        "the agent is started with too few file descriptors for its maps",
        "exit code 1, and the message names the limit to raise; nothing is attached",
        "fault: with too few file descriptors to start it says which limit to raise",
    ),
    fault(
        "thousands of clients of the metrics listener send nothing, send byte by byte, never read, send 10 MiB or no HTTP",
        "they are cut off and counted, the slowest first; scrapes are answered meanwhile, polls go on, memory and descriptors stay bounded",
        "fault: hostile clients of the metrics listener keep nobody from a scrape",
    ),
    fault(
        "clients of the control socket do the same",
        "likewise; `scanguard status` is answered meanwhile",
        "fault: hostile clients of the control socket keep nobody from an answer",
    ),
    fault(
        "a table of more memory than the host or the control group has",
        "exit code 1 with both figures, before anything is made; doctor reports it, too",
        "fault: a table of more memory than there is is refused with both figures",
    ),
    fault(
        "a control group with little memory to spare",
        "the tables are allocated at the start: the agent goes on in a flood, totals stay exact, and a scan is found",
        "fault: with little memory left in its control group it goes on counting and finding",
    ),
    fault(
        "a routing table of a hundred thousand routes",
        "the agent checks routes as it reads them, and keeps none in memory",
        "fault: a hundred thousand routes take no memory of the agent",
    ),
    fault(
        "the clock is set forward by a year, and back by two",
        "bans end when they are due, scans are found; at the next start, bans from a clock that ran ahead keep the time that was left",
        "fault: a clock that is set forward and back neither prolongs nor ends a ban",
    ),
    fault(
        "all of it, for long: scans, a flood, honest clients, reloads, a kill",
        "every packet is counted, no honest client is accused, memory does not grow; [half an hour of it](soak.md)",
        "fault: a short soak loses nothing",
    ),
    fault(
        "1,000 reloads (10,000 in the soak)",
        "each is taken; threads, descriptors and memory stay where they were",
        "fault: a thousand reloads leave no descriptor, thread or memory behind",
    ),
    fault(
        "a wrong configuration at a reload",
        "the old one stays in force as a whole, and every error is reported with its line",
        "a reload takes all of a right configuration and nothing of a wrong one",
    ),
    fault(
        "a pipe, a device, a directory, 1 GiB or rotten bytes where a file is read, at a reload",
        "the agent refuses the file by name and does not wait for it; the old configuration stays, and the agent goes on counting",
        "fault: a hostile file in any place that a reload reads is refused, and nothing waits for it",
    ),
    fault(
        "thousands of processes each connect once and are gone at once",
        "each attempt is counted, or counted as lost, by name; the agent takes no memory for them",
        "outbound: of many processes that connect once, none is lost and memory stays",
    ),
    fault(
        "a host behind this one forges thousands of addresses",
        "they take no room among the actors, and a scan by a program of this host is found",
        "outbound: a flood of forged hosts behind this one hides nobody",
    ),
    fault(
        "a program asks for more targets than there is room for",
        "those that are forgotten for that are counted, and a scan by another program is found",
        "outbound: a flood of targets is counted, and hides nobody",
    ),
    fault(
        "the file of programs that use the network (`actors.json`) is cut off, empty, garbage or of another version",
        "it is moved aside by name, programs are learned anew, and scans are found",
        "outbound: a file of programs that is wrong is moved aside, and they are learned anew",
    ),
];

/// docs/reliability.md.
pub fn page() -> String {
    let mut page = "# What may go wrong

This page is generated from the table in tests/src/tables/faults.rs: `cargo xtask docs --write`. Each row names the
test that causes the fault for the real agent on real interfaces (`cargo xtask test netns`, as root). A row without its
test fails the run.

| what goes wrong | what happens | shown by |
|---|---|---|
"
    .to_owned();
    for Fault { fault, outcome, test } in FAULTS {
        // Writing to a string does not fail.
        let _ = writeln!(page, "| {fault} | {outcome} | `{test}` |");
    }
    page
}
