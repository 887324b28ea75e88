//! The commands that talk to a running agent: their arguments, and the requests that they send.

pub(crate) mod ask;
pub(crate) mod words;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::{
    ask::{ask, mode, order},
    words::{actor_reports, actors, bans, explanation, findings, sources, status},
};
use crate::{
    cidr::parse_net,
    config::{Config, DEFAULT_PATH},
    control::{
        client::Client,
        listing::{ROWS, Sort},
        server::{BanBody, NetBody, PatternBody},
    },
    respond::Mode,
    settings::Interval,
};

/// Where to reach the agent.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct At {
    /// The agent's control socket; without: control.socket of /etc/scanguard/scanguard.toml, or
    /// /run/scanguard/control.sock.
    #[arg(long, value_name = "PATH", env = "SCANGUARD_SOCKET")]
    pub socket: Option<PathBuf>,
}

impl At {
    /// The client for the agent's socket.
    pub(crate) fn client(&self) -> Client {
        // A member of the group may not be able to read the file. Then the default path is used.
        let configured = || Config::control(Path::new(DEFAULT_PATH)).unwrap_or_default().socket;
        Client::new(&self.socket.clone().unwrap_or_else(configured))
    }
}

/// The commands that talk to a running agent.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Ban an address or a network by hand.
    Ban {
        /// Address or network, such as 192.0.2.7 or 2001:db8::/64.
        #[arg(value_name = "ADDR|CIDR", value_parser = parse_net)]
        net: IpNet,
        /// For how long, such as 1h or 7d; without: until `scanguard unban`.
        #[arg(long = "for", value_name = "TIME", value_parser = clap::value_parser!(Interval))]
        lasts: Option<Interval>,
        /// Reason, shown by `bans` and `explain`.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "documentation would become the help of all commands")]
        at: At,
    },
    /// End the ban of an address or a network, or the shield from it.
    Unban {
        /// Banned address or network; an IPv6 address stands for its prefix if that is banned.
        #[arg(value_name = "ADDR|CIDR", value_parser = parse_net)]
        net: IpNet,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Never ban an address or a network; bans within it are ended.
    Allow {
        /// Address or network.
        #[arg(value_name = "ADDR|CIDR", value_parser = parse_net)]
        net: IpNet,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Undo an earlier `allow`.
    Disallow {
        /// Address or network, as it was allowed.
        #[arg(value_name = "ADDR|CIDR", value_parser = parse_net)]
        net: IpNet,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// List bans and shields, with their origin and the time left.
    Bans {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Show the agent's state.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Explain why an address is banned or not, with the evidence.
    Explain {
        /// The address.
        address: IpAddr,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// List the sources that probed within the last 15 minutes, and how they probed.
    Sources {
        /// Order of the sources.
        #[arg(long, value_enum, default_value_t)]
        sort: Sort,
        /// Number of rows, up to 200.
        #[arg(long, value_name = "NUMBER", default_value_t = ROWS)]
        limit: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// List the open findings.
    Findings {
        /// Number of rows, up to 200; the latest come first.
        #[arg(long, value_name = "NUMBER", default_value_t = ROWS)]
        limit: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// List the programs that use the network from this host: since when, how, and when last.
    #[command(args_conflicts_with_subcommands = true)]
    Actors {
        #[command(subcommand)]
        #[expect(missing_docs, reason = "documentation would become the help of all commands")]
        action: Option<ActorsAction>,
        /// Number of rows, up to 200; the latest come first.
        #[arg(long, value_name = "NUMBER", default_value_t = ROWS)]
        limit: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Drop packets of banned sources.
    Enforce {
        /// Go back to dry-run unless `scanguard confirm` comes within this time, such as 30s.
        #[arg(long, value_name = "TIME", value_parser = clap::value_parser!(Interval))]
        confirm: Option<Interval>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Confirm the mode enforce, so that it stays in force.
    Confirm {
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Make the agent read its configuration again: it applies all of it, or nothing (exit code 3, with all errors).
    Reload {
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Ban, but only count the packets that would be dropped.
    DryRun {
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Ban no source.
    Observe {
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
}

/// What to do with the programs that use the network.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ActorsAction {
    /// Explain why actors are blocked or not, with what they did and what they fall short of.
    Explain {
        /// Name or path of a program, unit, id of a container, pid, or address of a host behind this one; or a pattern of
        /// some with *, ? and [].
        #[arg(value_name = "WHO")]
        who: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
    /// Forget programs: they are new when they are seen again.
    Forget {
        /// Path of an executable, or unit, or a pattern of some with *, ? and [].
        #[arg(value_name = "PATTERN")]
        pattern: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "as above")]
        at: At,
    },
}

/// Sends the request, and prints the answer.
///
/// # Errors
/// No agent runs, or it refuses.
pub async fn run(command: Command) -> Result<()> {
    let seconds = |interval: Interval| interval.0.as_secs_f64();
    match command {
        Command::Ban { net, lasts, reason, at } => {
            let body = BanBody { net: net.to_string(), seconds: lasts.map(seconds), reason };
            order(&at, "/v1/ban", &body).await
        }
        Command::Unban { net, at } => order(&at, "/v1/unban", &NetBody { net: net.to_string() }).await,
        Command::Allow { net, at } => order(&at, "/v1/allow", &NetBody { net: net.to_string() }).await,
        Command::Disallow { net, at } => order(&at, "/v1/disallow", &NetBody { net: net.to_string() }).await,
        Command::Enforce { confirm, at } => mode(&at, Mode::Enforce, confirm.map(seconds)).await,
        Command::DryRun { at } => mode(&at, Mode::DryRun, None).await,
        Command::Observe { at } => mode(&at, Mode::Observe, None).await,
        Command::Confirm { at } => order(&at, "/v1/confirm", &serde_json::Map::new()).await,
        Command::Reload { at } => order(&at, "/v1/reload", &serde_json::Map::new()).await,
        Command::Bans { json, at } => ask(&at, "/v1/bans", json, bans).await,
        Command::Status { json, at } => ask(&at, "/v1/status", json, status).await,
        Command::Sources { sort, limit, json, at } => {
            let path = format!("/v1/sources?limit={limit}&sort={}", sort.label());
            ask(&at, &path, json, sources).await
        }
        Command::Findings { limit, json, at } => {
            ask(&at, &format!("/v1/findings?limit={limit}"), json, findings).await
        }
        Command::Actors { action: Some(ActorsAction::Forget { pattern, at }), .. } => {
            order(&at, "/v1/actors/forget", &PatternBody { pattern }).await
        }
        Command::Actors { action: Some(ActorsAction::Explain { who, json, at }), .. } => {
            let who = utf8_percent_encode(&who, NON_ALPHANUMERIC);
            ask(&at, &format!("/v1/actors/explain/{who}"), json, actor_reports).await
        }
        Command::Actors { action: None, limit, json, at } => {
            ask(&at, &format!("/v1/actors?limit={limit}"), json, actors).await
        }
        Command::Explain { address, json, at } => {
            ask(&at, &format!("/v1/explain/{}", address.to_canonical()), json, explanation).await
        }
    }
}
