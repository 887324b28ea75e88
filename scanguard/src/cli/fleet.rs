//! `scanguard fleet`: runs the role that compares hosts, asks it, and prepares a fleet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use clap::Subcommand;
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cidr,
    config::{Config, access},
    export::{http, metrics::CONTENT_TYPE},
    fleet::{
        init::{self, Plan},
        role::{self, InstanceReport, RoleMetrics},
        settings::Settings,
    },
    http_server::{self, Limits, metrics::Listener},
    sandbox::Sandbox,
    stdio::say,
    words::count,
};

/// `/metrics` of the role.
const LIMITS: Limits = Limits {
    connections: 16,
    head: Duration::from_secs(10),
    request: Duration::from_secs(30),
    stall: Duration::from_secs(10),
    max_head: 16 * 1024,
    max_body: 1024,
};

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Compare what the members say, and decide. Needs no root; two or more share the work.
    Run(File),
    /// Show members, partitions, who works on them, and the last decisions.
    Status {
        #[command(flatten)]
        #[expect(missing_docs, reason = "it is documented there")]
        file: File,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show which members saw what of an address, and what is decided.
    Explain {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        #[expect(missing_docs, reason = "it is documented there")]
        file: File,
    },
    /// Write the configuration of a NATS server, and credentials for each host. Credentials that are there stay, so
    /// that hosts can be added.
    Init(Init),
}

/// The configuration.
#[derive(Clone, Debug, clap::Args)]
pub struct File {
    /// Configuration file; without: /etc/scanguard/scanguard.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `scanguard fleet init`.
#[derive(Clone, Debug, clap::Args)]
pub struct Init {
    /// Directory for nats-server.conf and creds/.
    pub directory: PathBuf,
    /// Name of a host; may be given several times.
    #[arg(long = "member", value_name = "NAME")]
    pub members: Vec<String>,
    /// File with the names of hosts, one a line.
    #[arg(long, value_name = "FILE")]
    pub members_file: Option<PathBuf>,
    /// Name of a machine that runs `scanguard fleet run`; may be given several times.
    #[arg(long = "runner", value_name = "NAME")]
    pub runners: Vec<String>,
    /// Where the server listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4222")]
    pub listen: SocketAddr,
    /// The server's certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Where the server keeps its streams.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/nats")]
    pub store: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// The configuration is wrong, or nobody answers.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Run(file) => run_role(&file).await,
        Command::Status { file, json } => {
            let settings = settings(&file)?;
            let answers = role::ask(&settings, "status", String::new(), false).await;
            let answers = answers.map_err(anyhow::Error::msg)?;
            let reports: Result<Vec<InstanceReport>, _> =
                answers.iter().map(|answer| serde_json::from_slice(answer)).collect();
            let mut reports = reports.context("the answer of another version")?;
            reports.sort_by(|one, other| one.name.cmp(&other.name));
            if json {
                say(serde_json::to_string_pretty(&reports)?)?;
            } else {
                say(status(&reports).trim_end())?;
            }
            Ok(())
        }
        Command::Explain { address, file } => {
            let (config, _) = Config::find(file.config.as_deref())?;
            let source = config.sensor.sources().of(address.into());
            let net = config.sensor.sources().net(&source);
            let answers = role::ask(&settings(&file)?, "explain", net.to_string(), true).await;
            let answers = answers.map_err(anyhow::Error::msg)?;
            let lines: Vec<String> =
                serde_json::from_slice(&answers[0]).context("another version's answer")?;
            if lines.is_empty() {
                say(format_args!("{}: no member saw it within the window", cidr::name(net)))?;
            } else {
                say(format_args!("{}:\n  {}", cidr::name(net), lines.join("\n  ")))?;
            }
            Ok(())
        }
        Command::Init(init) => prepare(init),
    }
}

fn settings(file: &File) -> Result<Settings> {
    let (config, path) = Config::find(file.config.as_deref())?;
    if !config.fleet.is_on() {
        let path = path.map_or_else(|| "the defaults".to_owned(), |path| path.display().to_string());
        bail!("{path}: there is no fleet: [fleet] has no url");
    }
    Ok(config.fleet)
}

async fn run_role(file: &File) -> Result<()> {
    let settings = settings(file)?;
    let (config, _) = Config::find(file.config.as_deref())?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let listener = http::bind(settings.run.listen).await?;
    let metrics = Arc::new(RoleMetrics::new().context("the metrics")?);
    // First, so that threads of the library have no more.
    let _sandbox = if config.security.sandbox {
        Sandbox::enter(access::reading(access::file(file.config.as_deref()))).await?
    } else {
        Sandbox::off()?
    };
    let (stop, stopped) = watch::channel(());
    let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&metrics));
    let open = move |stream: TcpStream| {
        let router = router.clone();
        async move { Ok((stream, router)) }
    };
    let mut ending = stopped.clone();
    let served = metrics.listeners.of(Listener::Metrics);
    let server = tokio::spawn(async move {
        // An error means that the role is gone, which is also a reason to stop.
        let end = async { ending.changed().await.unwrap_or_default() };
        http_server::serve(listener, LIMITS, served, open, end).await;
    });
    tracing::info!("metrics at http://{}/metrics", settings.run.listen);
    let end = async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
            _ = interrupt.recv() => tracing::info!("SIGINT: ending"),
        }
    };
    let ran = role::run(&settings, metrics, end).await;
    drop((stop, stopped));
    server.await.context("the metrics listener")?;
    Ok(ran?)
}

async fn page(State(metrics): State<Arc<RoleMetrics>>) -> Response {
    match metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn status(reports: &[InstanceReport]) -> String {
    let mut lines = Vec::new();
    for InstanceReport { name, partitions, members_heard, .. } in reports {
        let numbers: Vec<_> = partitions.iter().map(|part| part.partition.to_string()).collect();
        let lag = partitions.iter().map(|part| part.lag).max().unwrap_or(0);
        let sources: usize = partitions.iter().map(|part| part.sources).sum();
        let in_force: usize = partitions.iter().map(|part| part.in_force).sum();
        lines.push(format!(
            "{name}: partitions {}; lag {lag} ms; {}; {}; {} in force",
            if numbers.is_empty() { "none".to_owned() } else { numbers.join(" ") },
            count(*members_heard, "member"),
            count(sources, "source"),
            count(in_force, "decision"),
        ));
        let unread: Vec<_> =
            partitions.iter().filter(|part| !part.is_read).map(|part| part.partition.to_string()).collect();
        if !unread.is_empty() {
            lines.push(format!("  still reads the window of {}", unread.join(" ")));
        }
    }
    let held: usize = reports.iter().map(|report| report.partitions.len()).sum();
    let all = usize::from(crate::fleet::wire::PARTITIONS);
    if held < all {
        lines.push(format!("NOBODY works on {} of {all} partitions", all - held));
    }
    let mut members = BTreeMap::new();
    for member in reports.iter().flat_map(|report| &report.members) {
        let known = members.entry(&member.name).or_insert((u64::MAX, 0, None));
        known.0 = member.seconds_since_last.min(known.0);
        known.1 += member.messages;
        known.2 = known.2.take().or(member.aside.as_ref());
    }
    lines.push("members:".to_owned());
    lines.extend(members.iter().map(|(name, (last, messages, aside))| {
        let aside = aside.map_or(String::new(), |why| format!("; LEFT ASIDE: {why}"));
        format!("  {name}: {messages} messages, the last {last} s ago{aside}")
    }));
    let mut recent: Vec<_> =
        reports.iter().flat_map(|report| &report.partitions).flat_map(|part| &part.recent).collect();
    recent.sort_by_key(|recent| recent.seconds_ago);
    lines.push(if recent.is_empty() { "no decisions".to_owned() } else { "last decisions:".to_owned() });
    lines.extend(recent.iter().take(20).map(|recent| {
        let decision = &recent.decision;
        format!(
            "  {} s ago: {} of {}: {}: {}",
            recent.seconds_ago,
            decision.verdict.label(),
            cidr::name(decision.source),
            decision.rule,
            decision.reason
        )
    }));
    let findings: usize =
        reports.iter().flat_map(|report| &report.partitions).map(|part| part.findings).sum();
    if findings > 0 {
        lines.push(format!("{} of members; the last:", count(findings, "finding")));
    }
    let mut last: Vec<_> =
        reports.iter().flat_map(|report| &report.partitions).flat_map(|part| &part.last_findings).collect();
    last.sort();
    lines.extend(last.iter().take(10).map(|(_, words)| format!("  {words}")));
    lines.join("\n") + "\n"
}

fn prepare(init: Init) -> Result<()> {
    let Init { directory, mut members, members_file, runners, listen, tls_cert, tls_key, store } = init;
    if let Some(path) = members_file {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        members.extend(names.map(str::to_owned));
    }
    let plan = Plan { directory, members, runners, listen, tls: tls_cert.zip(tls_key), store };
    let written = init::write(&plan)?;
    say(format_args!("written: {}", written.server.display()))?;
    for path in &written.new {
        say(format_args!("new:     {}", path.display()))?;
    }
    for path in &written.kept {
        say(format_args!("kept:    {}", path.display()))?;
    }
    say(
        "Next: start nats-server with that configuration, copy each file of credentials to its host (mode 600), set \
         [fleet] there, and run `scanguard fleet run` on the machines that run the role.",
    )?;
    Ok(())
}
