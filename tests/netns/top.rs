//! `scanguard top` on a real terminal, that of tmux, over a real agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::binary,
    lab::{Lab, Namespace, PATIENCE, Process, SCANNER, SCANNER_INTERFACE, VICTIM, run, wait_for},
    scenario::Scenario,
    screen,
};

use crate::{PICTURES, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "top: a scan appears, is banned from the keyboard, and q leaves the terminal as it was",
            watched,
        ),
        trial("top: SIGTERM leaves the terminal as it was, and NO_COLOR is respected", ended),
        trial("top: filter, sort, pause, detail and allow from the keyboard", driven),
        trial("top: without an agent or a terminal it says so", without),
    ]
}

/// A server of tmux with one shell in the namespace; it ends with this.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn start(namespace: &Namespace, columns: u16, rows: u16) -> Result<Self> {
        let directory = namespace.directory();
        let terminal = Self { socket: directory.join("tmux.sock") };
        let mut command = namespace.command("tmux");
        command.arg("-S").arg(&terminal.socket).args(["-f", "/dev/null", "new-session", "-d"]);
        command.args(["-x", &columns.to_string(), "-y", &rows.to_string()]);
        command.args(["env", "PS1=ready> ", "sh"]);
        command
            .env("SCANGUARD_SOCKET", directory.join("control.sock"))
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        run(&mut command).context("tmux")?;
        terminal.shows("ready>")?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = run(Command::new("tmux").arg("-S").arg(&self.socket).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(|_| ())
    }

    /// Presses Escape, and waits for what that shows: with a key right behind it it would be another key.
    fn leave(&self, shows: &str) -> Result<()> {
        self.press(&["Escape"])?;
        self.shows(shows).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has this, and gives it.
    fn shows(&self, text: &str) -> Result<String> {
        let mut last = String::new();
        let shown = wait_for(text, PATIENCE, || {
            last = self.screen().ok()?;
            last.contains(text).then(|| last.clone())
        });
        shown.with_context(|| format!("{text:?} is not on the screen:\n{last}"))
    }

    /// State of the terminal that a program can leave changed: its modes, whether the other screen is on, whether the
    /// cursor shows.
    fn state(&self) -> Result<String> {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"])?;
        let modes = run(Command::new("stty").args(["-a", "-F", tty.trim()]))?;
        let flags =
            self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"])?;
        // The shell itself is at its prompt both times.
        Ok(format!("{flags}{}", String::from_utf8_lossy(&modes.stdout)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If it has ended already, all the better.
        let _ = self.tmux(&["kill-server"]);
    }
}

/// A screen that is shown in the docs.
const COLUMNS: u16 = 110;
const ROWS: u16 = 18;

fn scan(lab: &Lab) -> Result<()> {
    let mut command = lab.scanner.command("nmap");
    run(command.args("-n -Pn -sS -p 1-300 --max-retries 1".split(' ')).arg(VICTIM)).map(|_| ())
}

fn watched() -> Result<()> {
    Scenario::defaults()?.run(|lab, agent| {
        let terminal = Terminal::start(&lab.victim, COLUMNS, 24)?;
        let before = terminal.state()?;
        let top = format!("{} top; echo over $?", binary()?.display());
        terminal.press(&[&top, "Enter"])?;
        terminal.shows("Nobody has probed")?;
        ensure!(terminal.state()?.starts_with("1 0"), "the other screen is not on: {}", terminal.state()?);

        scan(lab)?;
        let screen = terminal.shows("vertical_scan")?;
        let row = screen.lines().find(|line| line.contains(SCANNER)).context("the scanner's row")?;
        ensure!(row.contains("300"), "its probes: {row}");
        ensure!(agent.json(&["sources"])?["sources"][0]["net"] == "10.77.0.2/32");
        ensure!(agent.order(&["sources", "--sort", "probes"])?.contains("300 syn"));
        ensure!(agent.json(&["findings"])?["findings"][0]["rule"] == "vertical_scan");
        ensure!(agent.order(&["findings"])?.contains("1 of 1 open finding"));
        ensure!(!agent.ask(&["findings", "--limit", "201"])?.0, "more than there may be");

        terminal.tmux(&["resize-window", "-x", "20", "-y", "10"])?;
        terminal.shows("Sources")?;
        terminal.tmux(&["resize-window", "-x", "110", "-y", "24"])?;
        terminal.press(&["Enter"])?;
        terminal.shows("history   ")?;
        terminal.press(&["b"])?;
        terminal.shows(&format!("Ban {SCANNER}"))?;
        ensure!(agent.json(&["bans"])?["bans"].as_array().is_some_and(Vec::is_empty), "banned unasked");
        terminal.press(&["h"])?;
        terminal.shows("is banned for 1h")?;
        ensure!(agent.json(&["bans"])?["bans"][0]["by"] == "hand");
        terminal.leave("SOURCE")?;
        terminal.press(&["3"])?;
        terminal.shows("from scanguard top")?;
        terminal.press(&["q"])?;
        let screen = terminal.shows("over 0")?;
        ensure!(!screen.contains("vertical_scan"), "its picture is left:\n{screen}");
        wait_for("the terminal is as it was", PATIENCE, || (terminal.state().ok()? == before).then_some(()))?;
        Ok(())
    })
}

/// In dry-run, with several sources: keys do what docs/top.md says. The pictures there are of this.
fn driven() -> Result<()> {
    const OTHER: &str = "10.77.0.9";
    let scenario = Scenario::new("[response]\nmode = \"dry-run\"\nallow_spoofable = true\n")?;
    scenario.run(|lab, agent| {
        lab.scanner.ip(&format!("addr add {OTHER}/24 dev {SCANNER_INTERFACE}"))?;
        agent.order(&[
            "ban",
            "198.51.100.0/24",
            "--for",
            "24h",
            "--reason",
            "brute force at another site",
        ])?;
        let other =
            ["-n", "-Pn", "-sX", "-p", "1-150", "--max-retries", "1", "-S", OTHER, "-e", SCANNER_INTERFACE];
        run(lab.scanner.command("nmap").args(other).arg(VICTIM))?;
        // Goes on meanwhile, and is ended with this.
        let mut slow = lab.scanner.command("nmap");
        slow.args("-n -Pn -sS -p 1-20000 --max-retries 0 --max-rate 150".split(' ')).arg(VICTIM);
        let _slow = Process::new(slow.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);

        let terminal = Terminal::start(&lab.victim, COLUMNS, ROWS)?;
        terminal.press(&[&format!("clear; {} top", binary()?.display()), "Enter"])?;
        terminal.shows("vertical_scan")?;
        terminal.shows("xmas_scan")?;
        if let Some(directory) = std::env::var_os(PICTURES) {
            pictures(&terminal, Path::new(&directory))?;
        }
        let first_row = |screen: &str| screen.lines().nth(4).unwrap_or_default().to_owned();
        wait_for("by rate the one that goes on is the first", PATIENCE, || {
            first_row(&terminal.screen().ok()?).starts_with(&format!("{SCANNER} ")).then_some(())
        })?;
        terminal.press(&["/xmas", "Enter"])?;
        wait_for("the filter hides the other", PATIENCE, || {
            let screen = terminal.screen().ok()?;
            (screen.contains(OTHER) && !screen.contains(&format!("{SCANNER} "))).then_some(())
        })?;
        terminal.leave(&format!("{SCANNER} "))?;
        terminal.press(&["s"])?;
        terminal.shows("by probes")?;

        terminal.press(&["p"])?;
        terminal.shows("PAUSED")?;
        let paused = terminal.screen()?;
        thread::sleep(Duration::from_secs(3));
        ensure!(terminal.screen()? == paused, "what is paused moves:\n{}", terminal.screen()?);
        terminal.press(&["p"])?;
        wait_for("it goes on", PATIENCE, || (terminal.screen().ok()? != paused).then_some(()))?;

        terminal.press(&["/vertical", "Enter", "a"])?;
        terminal.shows(&format!("Never ban {SCANNER}"))?;
        terminal.press(&["y"])?;
        terminal.shows("allowed")?;
        ensure!(
            agent.ask(&["explain", SCANNER])?.1.contains("never banned"),
            "{:?}",
            agent.ask(&["explain", SCANNER])?
        );
        terminal.leave(OTHER)?;
        terminal.press(&["3"])?;
        terminal.shows("brute force")?;
        terminal.press(&["/brute", "Enter", "u"])?;
        terminal.shows("End the ban of 198.51.100.0/24?")?;
        terminal.press(&["y"])?;
        terminal.shows("Nothing here has the text of the filter")?;
        terminal.press(&["q"])?;
        Ok(())
    })
}

/// The pictures of docs/top.md: the sources after a while, and one in detail.
fn pictures(terminal: &Terminal, directory: &Path) -> Result<()> {
    let draw = |name: &str, title: &str| {
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"])?;
        Ok::<_, anyhow::Error>(fs::write(directory.join(name), screen::svg(&screen, COLUMNS.into(), title))?)
    };
    terminal.press(&["Home"])?;
    thread::sleep(Duration::from_secs(25));
    draw("top-sources.svg", "scanguard top: sources, with rates as lines, classes and findings")?;
    terminal.press(&["Enter"])?;
    terminal.shows("history   ")?;
    draw("top-detail.svg", "scanguard top: what is known of one source")?;
    terminal.leave("SOURCE")?;
    terminal.press(&["2"])?;
    terminal.shows("xmas_scan")?;
    draw("top-findings.svg", "scanguard top: open findings")?;
    terminal.press(&["1"])?;
    terminal.shows("vertical_scan").map(drop)
}

fn ended() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    let mut agent = scenario.start()?;
    let terminal = Terminal::start(&lab.victim, 80, 24)?;
    let before = terminal.state()?;
    let top = format!("NO_COLOR=1 {} top; echo over $?", binary()?.display());
    terminal.press(&[&top, "Enter"])?;
    terminal.shows("Nobody has probed")?;
    scan(lab)?;
    terminal.shows("vertical_scan")?;
    let coloured = terminal.tmux(&["capture-pane", "-p", "-e"])?;
    let sequences = coloured.split("\u{1b}[").skip(1).filter_map(|rest| Some(rest.split_once('m')?.0));
    let is_colour = |code: u8| matches!(code, 30..=38 | 40..=48 | 90..=107);
    let colours = sequences.flat_map(|codes| codes.split(';')).filter_map(|code| code.parse().ok());
    ensure!(!colours.into_iter().any(is_colour), "coloured: {coloured:?}");
    // The agent goes, the picture stays and says so.
    agent.end()?;
    terminal.shows("OLD PICTURE")?;
    let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"])?;
    let child = run(Command::new("pgrep").args(["-P", shell.trim()]))?;
    run(Command::new("kill").args(["-TERM", String::from_utf8_lossy(&child.stdout).trim()]))?;
    terminal.shows("over 0")?;
    wait_for("the terminal is as it was", PATIENCE, || (terminal.state().ok()? == before).then_some(()))
}

fn without() -> Result<()> {
    let namespace = Namespace::new("alone")?;
    let terminal = Terminal::start(&namespace, 120, 24)?;
    let binary = binary()?;
    terminal.press(&[&format!("{} top; echo over $?", binary.display()), "Enter"])?;
    let screen = terminal.shows("over 1")?;
    ensure!(screen.contains("no agent answers at"), "{screen}");
    let output =
        namespace.command(binary.to_str().context("UTF-8")?).arg("top").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("top needs a terminal"), "{said}");
    Ok(())
}
