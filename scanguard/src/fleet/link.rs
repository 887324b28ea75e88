//! The connection to the NATS servers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::settings::{Identity, Settings, seed};

/// How long a server may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is tried this often. A server that is gone is noticed at the second time.
const PING: Duration = Duration::from_secs(10);
/// The longest wait before a server is tried again.
const LAST_WAIT: Duration = Duration::from_secs(8);

/// There can be no connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An address is not one that the client library takes.
    #[error("fleet.url: {0}")]
    Address(std::io::Error),
    /// There are no credentials, or the client library does not take them.
    #[error("fleet.credentials_file: {0}")]
    Credentials(String),
    /// The library gave up.
    #[error("NATS: {0}")]
    Connect(#[from] async_nats::ConnectError),
}

/// The state of the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct State {
    /// Whether there is one.
    pub(super) connected: bool,
    /// How often there was a new one.
    pub(super) times: u64,
    /// What goes wrong, by what is being done.
    errors: BTreeMap<&'static str, String>,
}

impl State {
    /// What goes wrong, in words.
    pub(super) fn error(&self) -> Option<String> {
        let errors: Vec<_> =
            self.errors.iter().map(|(doing, error)| format!("cannot {doing}: {error}")).collect();
        (!errors.is_empty()).then(|| errors.join("; "))
    }
}

/// What the library is at.
const CONNECT: &str = "connect";

/// A connection that is made anew for ever, and what is known of it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) client: Client,
    state: Arc<Mutex<State>>,
    /// Changes with each new connection.
    pub(super) connections: watch::Receiver<u64>,
}

impl Link {
    /// Connects in the background. `talks`: whether each new connection, and the end of one, is logged.
    ///
    /// # Errors
    /// See [`LinkError`]: it will never be possible with these settings.
    pub(super) async fn open(settings: &Settings, talks: bool) -> Result<Self, LinkError> {
        let (told, connections) = watch::channel(0);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let on_event = move |event: Event| {
            note(&shared, &told, &event, talks);
            std::future::ready(())
        };
        let addresses: Result<Vec<ServerAddr>, _> =
            settings.servers.iter().map(|server| server.to_string().parse()).collect();
        let client = options(settings)?
            .event_callback(on_event)
            .retry_on_initial_connect()
            .connect(addresses.map_err(LinkError::Address)?)
            .await?;
        Ok(Self { client, state, connections })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Notes that something failed, or that it works again; said if it changed.
    pub(super) fn note(&self, doing: &'static str, error: Option<String>) {
        let errors = &mut self.lock().errors;
        match error {
            None => {
                if errors.remove(doing).is_some() {
                    tracing::info!("fleet: can {doing} again");
                }
            }
            Some(error) => {
                if errors.get(doing) != Some(&error) {
                    tracing::warn!("fleet: cannot {doing}, trying again: {error}");
                }
                errors.insert(doing, error);
            }
        }
    }
}

fn note(state: &Mutex<State>, told: &watch::Sender<u64>, event: &Event, talks: bool) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Connected => {
            state.connected = true;
            state.times += 1;
            state.errors.remove(CONNECT);
            told.send_replace(state.times);
            if talks {
                tracing::info!("fleet: connected");
            }
        }
        Event::Disconnected | Event::Closed => {
            if state.connected && talks {
                tracing::warn!("fleet: the connection is gone; this host goes on alone until it is back");
            }
            state.connected = false;
        }
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            let said = event.to_string();
            if state.errors.get(CONNECT) != Some(&said) {
                tracing::warn!("fleet: {said}");
            }
            state.errors.insert(CONNECT, said);
        }
        Event::LameDuckMode | Event::Draining => tracing::info!("fleet: {event}"),
    }
}

/// The prefix of the subjects at which this name gets answers. Nobody else may listen there.
pub(super) fn inbox(name: &str) -> String {
    format!("_INBOX_{name}")
}

fn options(settings: &Settings) -> Result<ConnectOptions, LinkError> {
    let options = match &settings.identity {
        Some(Identity::Credentials(secret)) => {
            let text = secret.reveal();
            if text.contains("NATS USER JWT") {
                ConnectOptions::with_credentials(text)
                    .map_err(|error| LinkError::Credentials(error.to_string()))?
            } else {
                let seed = seed(text).ok_or_else(|| LinkError::Credentials("no seed in it".to_owned()))?;
                ConnectOptions::with_nkey(seed.to_owned())
            }
        }
        Some(Identity::Certificate { certificate, key }) => {
            ConnectOptions::new().add_client_certificate(certificate.clone(), key.clone())
        }
        None => return Err(LinkError::Credentials("there are none".to_owned())),
    };
    let options = match &settings.ca_file {
        Some(path) => options.add_root_certificates(path.clone()),
        None => options,
    };
    // Jitter, so that not all hosts call at once when a server comes back.
    let wait = |attempts: usize| {
        let longest = Duration::from_millis(100 << attempts.min(7)).min(LAST_WAIT);
        longest.mul_f64(0.5 + f64::from(super::random() as u16) / f64::from(u16::MAX) / 2.0)
    };
    Ok(options
        .name(format!("scanguard {}", settings.name))
        .custom_inbox_prefix(inbox(&settings.name))
        .require_tls(settings.servers.iter().all(|server| server.is_tls))
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(wait))
}
