//! Drivers of network cards: a guest with cards that qemu emulates, connected by taps on this host, and docs/drivers.md.

use std::{
    collections::BTreeMap,
    fs,
    process::{self as processes, Command},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Args, Guests, guest,
    kernels::{self, Flavour},
};
use crate::{process, workspace::Workspace};

/// A card that is tried.
struct Card {
    name: &'static str,
    /// Its words on the page.
    title: &'static str,
    /// qemu's device.
    device: &'static str,
    /// Its queues.
    queues: u32,
    mtu: u32,
}

/// All. rtl8139 is there for its message.
const CARDS: [Card; 9] = [
    Card { name: "virtio-net", title: "virtio_net", device: "virtio-net-pci", queues: 1, mtu: 1500 },
    Card { name: "virtio-net-9000", title: "virtio_net", device: "virtio-net-pci", queues: 1, mtu: 9000 },
    Card {
        name: "virtio-net-mq",
        title: "virtio_net, 2 queues",
        device: "virtio-net-pci,mq=on,vectors=6",
        queues: 2,
        mtu: 1500,
    },
    Card {
        name: "virtio-net-plain",
        title: "virtio_net, guest offloads off",
        device: "virtio-net-pci,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off",
        queues: 1,
        mtu: 1500,
    },
    Card {
        name: "virtio-net-fixed",
        title: "virtio_net, guest offloads on and fixed (`ctrl_guest_offloads=off`)",
        device: "virtio-net-pci,ctrl_guest_offloads=off",
        queues: 1,
        mtu: 1500,
    },
    Card { name: "e1000e", title: "e1000e", device: "e1000e", queues: 1, mtu: 1500 },
    Card { name: "vmxnet3", title: "vmxnet3", device: "vmxnet3", queues: 1, mtu: 1500 },
    Card { name: "vmxnet3-9000", title: "vmxnet3", device: "vmxnet3", queues: 1, mtu: 9000 },
    Card { name: "rtl8139", title: "rtl8139 (8139cp)", device: "rtl8139", queues: 1, mtu: 1500 },
];

/// The card that sends. Its own driver is not what is tried.
const SENDER: Card = Card { name: "sender", title: "", device: "virtio-net-pci", queues: 1, mtu: 9000 };

/// Drivers, and what they and the agent need of a kernel.
const MODULES: [&str; 7] =
    ["virtio_pci", "virtio_net", "e1000e", "vmxnet3", "8139cp", "sch_ingress", "cls_bpf"];

/// Series that are tried.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// The test that is run for each card.
const TEST: &str = "card: what it takes, counts and costs";

/// In how many seconds.
const SECONDS: u32 = 420;

/// How long a guest may take to boot and to end.
const AROUND: Duration = Duration::from_secs(120);

/// The name of a card that somebody gave.
///
/// # Errors
/// There is no such card.
pub(super) fn card(name: &str) -> Result<&'static str, String> {
    let names = || CARDS.map(|card| card.name).join(", ");
    CARDS
        .iter()
        .map(|card| card.name)
        .find(|known| *known == name)
        .ok_or_else(|| format!("there are {}", names()))
}

/// Tries the cards.
///
/// # Errors
/// A guest cannot be made or does not boot, or a card does not do what is expected of all: to be watched in some mode, with
/// equal counts, and in the best that there is by `--mode auto`.
pub(super) fn run(ws: &Workspace, guests: &Guests, args: &Args) -> Result<()> {
    let page = ws.docs().join("drivers.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let mut rows = read(&text)?;
    let mut failed = Vec::new();
    let series =
        if args.series.is_empty() { SERIES.map(str::to_owned).to_vec() } else { args.series.clone() };
    let cards: Vec<_> =
        CARDS.iter().filter(|card| args.cards.is_empty() || args.cards.contains(&card.name)).collect();
    for series in kernels::chosen(&series)? {
        let kernel = guests.archive.get(ws, series, Flavour::Full)?;
        println!("{}: booting", kernel.release);
        let image = guests.image(ws, &kernel, &MODULES, |modules| script(guests, modules, &cards))?;
        let log = guests.directory.join(format!("{}-drivers.log", kernel.release));
        let hub = Hub::new(ws, &cards)?;
        let limit = AROUND + Duration::from_secs(u64::from(SECONDS) * cards.len() as u64);
        let with = |qemu: Command| hub.connect(ws, &qemu, &cards);
        let said = guest::boot(ws, guests.arch, &kernel, &image, &log, limit, with)?;
        drop(hub);
        for card in &cards {
            let outcome = guest::outcome(&said, card.name);
            let seen = Seen::of(&outcome.output);
            println!("  {}, MTU {}: exit {:?}: {seen:?}", card.title, card.mtu, outcome.code);
            if outcome.code != Some(0) || outcome.tests != (1, 0) {
                failed.push(format!("{} on {}", card.name, kernel.release));
                continue;
            }
            rows.insert(key(card, series.name), row(card, series.name, &seen));
        }
        println!("  console: {}", ws.display(&log));
        if args.write {
            // Somebody may have changed the page meanwhile.
            let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
            fs::write(&page, write(&text, &rows)?).with_context(|| page.display().to_string())?;
        }
    }
    if !failed.is_empty() {
        bail!("not what is expected of them: {}", failed.join(", "));
    }
    Ok(())
}

fn script(guests: &Guests, modules: &[String], cards: &[&Card]) -> String {
    let mut text = guest::beginning(guests.arch, modules);
    for (number, card) in (1..).zip(cards) {
        let command = format!(
            "env SCANGUARD_CARDS={},{} SCANGUARD_CARDS_MTU={} netns --nocapture --exact '{TEST}'",
            mac(number),
            mac(0),
            card.mtu
        );
        text += &guest::line(card.name, SECONDS, &command);
    }
    text + "poweroff -f\n"
}

fn mac(number: usize) -> String {
    format!("52:54:00:73:67:{number:02x}")
}

/// The link of all cards: taps and a bridge in a network namespace of this host, which goes with its guard.
struct Hub {
    namespace: String,
}

impl Hub {
    fn new(ws: &Workspace, cards: &[&Card]) -> Result<Self> {
        let namespace = format!("scanguard-vm-{}", processes::id());
        process::run(ws.command("ip").args(["netns", "add", &namespace]))?;
        let hub = Self { namespace };
        // A bridge that learns nothing hands every frame to everybody, and says nothing itself.
        let mut batch = "link add hub type bridge ageing_time 0 mcast_snooping 0 stp_state 0\n".to_owned();
        for (number, card) in with_sender(cards).enumerate() {
            let queues = if card.queues > 1 { "multi_queue" } else { "" };
            batch += &format!("tuntap add dev tap{number} mode tap vnet_hdr {queues}\n");
            batch += &format!("link set tap{number} mtu {} master hub up\n", SENDER.mtu);
        }
        batch += "link set hub up\n";
        // Packet filters of a bridge drop what is no valid packet, as rows of the packet table are. Not every host has them.
        let lines = format!(
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1\n\
             for filter in /proc/sys/net/bridge/bridge-nf-call-*; do if [ -e $filter ]; then echo 0 >$filter; fi; done\n\
             ip -batch - <<'END'\n{batch}END\n"
        );
        process::run(hub.inside(ws, "sh").args(["-c", &lines]))?;
        Ok(hub)
    }

    fn inside(&self, ws: &Workspace, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = ws.command("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// qemu with the cards, inside.
    fn connect(&self, ws: &Workspace, qemu: &Command, cards: &[&Card]) -> Command {
        let mut command = self.inside(ws, qemu.get_program());
        command.args(qemu.get_args());
        for (number, card) in with_sender(cards).enumerate() {
            let queues = if card.queues > 1 { format!(",queues={}", card.queues) } else { String::new() };
            command.arg("-netdev").arg(format!(
                "tap,id=net{number},ifname=tap{number},script=no,downscript=no,vhost=off{queues}"
            ));
            command.arg("-device").arg(format!("{},netdev=net{number},mac={}", card.device, mac(number)));
        }
        command
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Nobody is left to tell; the taps go with it.
        _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn with_sender<'c>(cards: &'c [&'c Card]) -> impl Iterator<Item = &'c Card> {
    [&SENDER].into_iter().chain(cards.iter().copied())
}

/// What the test printed.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    /// Megabits in a second without the agent.
    without: Option<u64>,
    /// In each of [`MODES`].
    modes: [Mode; 3],
    /// What `--mode auto` took.
    auto: String,
}

/// What was seen of a mode.
#[derive(Debug, Default, Eq, PartialEq)]
enum Mode {
    /// Nothing.
    #[default]
    Unknown,
    /// The driver does not take it.
    Refused(String),
    /// Frames of the table and packets of a scan that were counted like tcpdump counts them; megabits in a second.
    Taken([u64; 3]),
}

/// The names of modes, in the order of [`Seen::modes`].
const MODES: [&str; 3] = ["native", "generic", "tc"];

impl Seen {
    fn of(output: &[String]) -> Self {
        let mut seen = Self::default();
        for line in output.iter().filter_map(|line| line.split_once("card: ")).map(|(_, line)| line) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match first {
                "without" => seen.without = rest.trim().parse().ok(),
                "auto" => seen.auto = rest.trim_start_matches("takes ").trim().to_owned(),
                mode => {
                    if let Some(place) = MODES.iter().position(|known| *known == mode) {
                        seen.modes[place] = Mode::of(rest);
                    }
                }
            }
        }
        seen
    }
}

impl Mode {
    fn of(line: &str) -> Self {
        if let Some(reason) = line.strip_prefix("refused: ") {
            return Self::Refused(reason.trim().to_owned());
        }
        let numbers: Vec<_> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().map_or(Self::Unknown, Self::Taken)
    }

    fn words(&self, without: Option<u64>) -> String {
        match self {
            Self::Unknown => "not seen".to_owned(),
            Self::Refused(reason) => format!("refused: {}", reason.replace('|', "\\|")),
            Self::Taken([frames, packets, megabits]) => {
                let share = without.filter(|without| *without > 0).map(|without| megabits * 100 / without);
                let share = share.map(|share| format!(", {share} %")).unwrap_or_default();
                format!("{frames} frames and {packets} packets counted; {megabits} Mbit/s{share}")
            }
        }
    }
}

type Rows = BTreeMap<(usize, usize), String>;

const HEADER: &str = "\
| card | MTU | kernel | native mode | generic mode | by tc | without the agent | `auto` takes |
|---|---|---|---|---|---|---|---|
";

const BEGIN: &str = "<!-- Generated by `cargo xtask vm --drivers --write`. -->\n";
const END: &str = "<!-- Generated until here. -->\n";

fn key(card: &Card, series: &str) -> (usize, usize) {
    let card = CARDS.iter().position(|known| known.name == card.name);
    (
        card.unwrap_or(usize::MAX),
        kernels::ALL.iter().position(|known| known.name == series).unwrap_or(usize::MAX),
    )
}

fn row(card: &Card, series: &str, seen: &Seen) -> String {
    let without = seen.without.map_or_else(|| "not seen".to_owned(), |megabits| format!("{megabits} Mbit/s"));
    let modes = seen.modes.each_ref().map(|mode| mode.words(seen.without)).join(" | ");
    format!("| {} | {} | {series} | {modes} | {without} | {} |", card.title, card.mtu, seen.auto)
}

/// The page's generated part, and what is around it.
fn parts(page: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = page.split_once(BEGIN).context("docs/drivers.md has no generated part")?;
    let (inside, after) = rest.split_once(END).context("the generated part of docs/drivers.md has no end")?;
    Ok((before, inside, after))
}

/// The rows of a page.
fn read(page: &str) -> Result<Rows> {
    let (_, inside, _) = parts(page)?;
    let mut rows = Rows::new();
    // Rows of another shape than this version's say something else than its header.
    for line in inside.lines().filter(|_| inside.contains(HEADER)) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [title, mtu, series, ..] = cells[..] else { continue };
        let card = CARDS.iter().find(|card| card.title == title && card.mtu.to_string() == mtu);
        if let Some(card) = card {
            rows.insert(key(card, series), line.to_owned());
        }
    }
    Ok(rows)
}

/// The page with these rows.
fn write(page: &str, rows: &Rows) -> Result<String> {
    let (before, _, after) = parts(page)?;
    let rows = rows.values().fold(String::new(), |text, row| text + row + "\n");
    Ok(format!("{before}{BEGIN}\n{HEADER}{rows}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(lines: &str) -> Vec<String> {
        lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_the_test_prints_becomes_a_row() {
        let seen = Seen::of(&output(
            "noise\ncard: without 400\ncard: native refused: not supported; the hypervisor | hands over\n\
             card: generic taken: table 151 scan 1004 with 300\ncard: tc refused: no tcx\n\
             card: auto takes generic\n",
        ));
        assert_eq!(seen.modes[1], Mode::Taken([151, 1004, 300]));
        let row = row(&CARDS[4], "6.1", &seen);
        assert!(
            row.contains("| 1500 | 6.1 | refused: not supported; the hypervisor \\| hands over | 151 frames"),
            "{row}"
        );
        assert!(row.ends_with("300 Mbit/s, 75 % | refused: no tcx | 400 Mbit/s | generic |"), "{row}");
    }

    #[test]
    fn what_was_not_run_stays_on_the_page() {
        let page = format!("before\n{BEGIN}\n{HEADER}\n{END}after\n");
        let seen = Seen::default();
        let mut rows = Rows::from([(key(&CARDS[0], "6.12"), row(&CARDS[0], "6.12", &seen))]);
        let page = write(&page, &rows).unwrap();
        assert_eq!(read(&page).unwrap(), rows);
        rows.insert(key(&CARDS[1], "6.1"), row(&CARDS[1], "6.1", &seen));
        let text = write(&page, &rows).unwrap();
        assert_eq!(read(&text).unwrap(), rows);
        assert!(text.starts_with("before\n") && text.ends_with("after\n"));
    }

    #[test]
    fn the_page_in_the_tree_has_the_shape_that_is_written() {
        let page = include_str!("../../../docs/drivers.md");
        let rows = read(page).unwrap();
        assert_eq!(write(page, &rows).unwrap(), page, "cargo xtask vm --drivers --write");
    }

    #[test]
    fn a_card_that_there_is_not_is_answered_with_those_that_there_are() {
        assert!(card("e1000e").is_ok());
        assert!(card("ne2000").unwrap_err().contains("vmxnet3"));
    }
}
