//! The command line: what can be given on it, and the commands.

pub mod check_config;
pub mod control;
pub mod detach;
pub mod doctor;
pub mod exit;
pub mod fleet;
pub mod keep_filters;
pub mod manual;
mod progress;
pub mod replay;
pub mod top;

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use self::top::Top;
use crate::{
    app::arguments::{Arguments as Run, interface_name},
    cidr::network,
    content::lists::BuiltIn,
    export::forms::Format,
    sensor::{egress::keeper, settings::check_pin},
};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SCANGUARD_REVISION"), ")");

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 other failure, 2 wrong command line, 3 wrong configuration, 4 missing privileges,
5 the kernel lacks something, 6 interface unknown, taken or unable, 7 metrics address not to be had,
8 another agent is running, 9 control socket or lock not to be had, 10 pins not to be used.";

/// eBPF/XDP scan sensor: finds active scanning (MITRE ATT&CK T1595) at the network card.
#[derive(Debug, Parser)]
#[command(name = "scanguard", version = VERSION, after_help = EXIT_CODES)]
pub struct Cli {
    /// Level of the log on standard error: error, warn, info, debug, trace, or a tracing filter.
    #[arg(long, global = true, env = "SCANGUARD_LOG", default_value = "info", value_name = "FILTER", value_parser = log_filter)]
    pub log: String,
    /// Log errors only, and show no progress: the same as --log error.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more: -v is --log debug, -vv is --log trace.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The requested tracing filter: the shorter options override `--log` and its variable.
    #[must_use]
    pub fn filter(&self) -> &str {
        match (self.quiet, self.verbose) {
            (true, _) => "error",
            (false, 0) => &self.log,
            (false, 1) => "debug",
            (false, _) => "trace",
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch interfaces: findings go to standard output, metrics to http://localhost:9823/metrics.
    Run(Run),
    /// Read captures (pcap, pcapng) as if their packets arrived here: findings go to standard output, a summary
    /// to standard error.
    Replay(Replay),
    /// Check a configuration file, and list all errors by line.
    CheckConfig {
        /// Configuration file.
        file: PathBuf,
    },
    /// Give the agent's user what only root can give, before a service manager starts the agent as that user: the directory
    /// of pins (`sensor.persist`), and what is to be seen of SSH servers. The unit does it; `run` as root needs it not.
    Prepare {
        /// Configuration file; without: /etc/scanguard/scanguard.toml if it exists, or else the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Detach the programs that an agent with `sensor.persist = true` left attached, and remove its pins, and the filters of
    /// agents that were killed.
    Detach {
        /// Directory of the pins. Default: as in /etc/scanguard/scanguard.toml, or else /sys/fs/bpf/scanguard.
        #[arg(long, value_name = "DIRECTORY", value_parser = pin)]
        pin: Option<PathBuf>,
    },
    /// Watch sources, findings and bans on a terminal; ban and allow from there.
    Top(Top),
    #[command(flatten)]
    #[expect(missing_docs, reason = "they are documented there")]
    Control(control::Command),
    /// Many hosts see and act as one: compare what the members of a fleet say, or prepare one.
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Print a commented configuration file with every default.
    PrintConfig,
    /// Print a built-in list of `[content.lists]` or `[fingerprints]`, to be changed and named there.
    PrintList {
        /// Name of the list.
        list: BuiltIn,
    },
    /// Print completions for a shell.
    Completions {
        /// Name of the shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages and completions, for packagers.
    #[command(hide = true)]
    Manual {
        /// Output directory: man/ and completions/ are created in it.
        directory: PathBuf,
    },
    /// Keep the filters of an agent that starts this process.
    #[command(hide = true)]
    KeepFilters(keeper::Arguments),
    /// Check whether this kernel, these interfaces and these privileges suffice, and whether the configured agent
    /// finds what it needs. Changes nothing.
    Doctor(Doctor),
}

/// `scanguard doctor`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Doctor {
    /// Interface to look at; may be given several times. Without: those that are configured, or all but the loopback.
    #[arg(long = "iface", value_name = "NAME", value_parser = interface_name)]
    pub interfaces: Vec<String>,
    /// Configuration file; without: /etc/scanguard/scanguard.toml if it exists, or else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory in which pinning must be possible. Default: as configured.
    #[arg(long, value_name = "DIRECTORY", value_parser = pin)]
    pub pin: Option<PathBuf>,
    /// The user that the agent is to become. Default: as configured.
    #[arg(long, value_name = "NAME", env = "SCANGUARD_USER")]
    pub user: Option<String>,
}

const REPLAY_EXIT_CODES: &str = "\
Exit codes: 0 all captures were read; 1 one could not be read, or not to its end (what was
found until then is printed, and the others are read); 2 wrong command line, 3 wrong
configuration, 4 missing privileges, 5 the kernel lacks something.";

/// `scanguard replay`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = REPLAY_EXIT_CODES)]
pub struct Replay {
    /// Captures, in the order of their time; - is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Our own addresses, such as 192.0.2.0/24; may be given several times. Only packets to them, and their answers,
    /// are examined. Without: every packet counts as one that arrived here, even the answers of our own hosts.
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub local: Vec<IpNet>,
    /// Configuration file; without: /etc/scanguard/scanguard.toml if it exists, or else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How findings look on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Have the kernel run the XDP program on each packet, rather than count here. Needs root; finds the same.
    #[arg(long)]
    pub through_kernel: bool,
    /// Salt for the estimates of distinct ports and addresses. Without: a random number, as in the agent. With: the
    /// same captures give the same lines.
    #[arg(long, value_name = "NUMBER")]
    pub salt: Option<u64>,
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn pin(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    check_pin(&path).map(|()| path)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    fn filter(options: &[&str]) -> String {
        let line = ["scanguard"].iter().chain(options).chain(&["print-config"]);
        super::Cli::try_parse_from(line).unwrap().filter().to_owned()
    }

    #[test]
    fn quiet_and_verbose_go_before_log() {
        assert_eq!(filter(&["--log", "warn"]), "warn");
        assert_eq!(filter(&["--log", "warn", "-q"]), "error");
        assert_eq!(filter(&["-v"]), "debug");
        assert_eq!(filter(&["--log", "warn", "-vv"]), "trace");
        assert!(super::Cli::try_parse_from(["scanguard", "-q", "-v", "print-config"]).is_err());
    }

    #[test]
    fn what_is_written_wrongly_is_a_wrong_command_line_and_says_what_is_meant() {
        for (line, said) in [
            (&["--log", "a=b=c", "print-config"][..], "invalid value 'a=b=c'"),
            (&["replay", "--local", "10.66.0.7/24", "x.pcap"], "is \"10.66.0.0/24\" meant?"),
            (&["ban", "192.0.2.7", "--for", "1x"], "\"1h 30m\" or \"7d\""),
        ] {
            let error = super::Cli::try_parse_from([&["scanguard"], line].concat()).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn relative_files_are_those_of_the_working_directory() {
        let parse = |value: &str| {
            let line = ["scanguard", "run", "--socket", value, "--state", "/run/state.json"];
            match super::Cli::try_parse_from(line)?.command {
                super::Command::Run(run) => Ok((run.socket.unwrap(), run.state.unwrap())),
                other => panic!("{other:?}"),
            }
        };
        let here = std::env::current_dir().unwrap();
        let (socket, state) = parse("control.sock").unwrap();
        assert_eq!(socket, here.join("control.sock"));
        assert_eq!(state.to_str(), Some("/run/state.json"));
        for wrong in ["", "/", ".."] {
            let parsed: Result<_, clap::Error> = parse(wrong);
            assert_eq!(parsed.unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn the_helper_is_started_by_the_name_of_its_command() {
        let line = ["scanguard", super::keeper::COMMAND, "--ethernet", "3", "--bare", "4", "--", "eth0"];
        let parsed = super::Cli::try_parse_from(line).unwrap().command;
        assert!(matches!(parsed, super::Command::KeepFilters(_)), "{parsed:?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
