//! The page at / of the metrics listener: state, findings, sources, bans and charts, updated live.
//!
//! ```text
//! poll -> history (a ring)            -> charts
//! main task -> picture (once a second) -> server-sent events -> browser -> orders (with a token) -> main task
//! ```
//! It needs nothing from outside: its three files are part of the agent. Data from the network enters the document as
//! text only; the Content-Security-Policy forbids anything else.

mod feed;
pub mod history;
pub mod metrics;
mod overview;
pub mod settings;
mod slots;
#[cfg(test)]
mod tests;
mod token_auth;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse as _, Response, Sse, sse::KeepAlive},
    routing::{MethodRouter, get},
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use self::{
    feed::Feed,
    history::{History, Levels, Totals},
    metrics::PageMetrics,
    settings::Settings,
    slots::Slots,
    token_auth::TokenAuth,
};
use crate::{
    clock::Now,
    control::{agent_handle::AgentHandle, metrics::ControlMetrics, server::orders},
    secret::Secret,
};

const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");

/// The browser loads only our own files from this server, runs no inline scripts, and cannot turn text into code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The page.
pub struct Page {
    history: Arc<Mutex<History>>,
    auth: Arc<TokenAuth>,
    max_clients: u32,
    metrics: Arc<PageMetrics>,
}

impl Page {
    /// A page with an empty history; `None` if it is switched off.
    pub fn new(settings: &Settings, metrics: Arc<PageMetrics>) -> Option<Self> {
        if !settings.enabled {
            return None;
        }
        metrics.limit(settings.max_clients);
        Some(Self {
            history: Arc::new(Mutex::new(History::new(settings.history))),
            auth: Arc::new(TokenAuth::new(settings.admin_token.as_ref(), Arc::clone(&metrics))),
            max_clients: settings.max_clients,
            metrics,
        })
    }

    /// Replaces or removes the token.
    pub fn set_token(&self, token: Option<&Secret>) {
        self.auth.set(token);
    }

    /// Stores the totals after a poll for the charts.
    pub fn note(&self, now: Now, totals: Totals, levels: Levels) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).note(now, totals, levels);
    }

    /// The routes. Starts a task that updates browsers until `stopped`; after that no browser is served.
    pub fn serve(
        &self,
        agent: AgentHandle,
        control: Arc<ControlMetrics>,
        stopped: watch::Receiver<()>,
    ) -> Router {
        let Self { history, auth, max_clients, metrics } = self;
        let (history, auth) = (Arc::clone(history), Arc::clone(auth));
        let slots = Slots::new(*max_clients, Arc::clone(metrics));
        let feed = Arc::new(Feed::new(agent.clone(), Arc::clone(&history), Arc::clone(&auth), slots));
        let (pace, mut end) = (Arc::clone(&feed), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = pace.run() => {}
                // An error means that the agent has gone.
                _ = end.changed() => {}
            }
        });
        let orders = orders(agent, control).layer(from_fn_with_state(auth, token_auth::guard));
        Router::new()
            .route("/page/events", get(events).with_state((feed, stopped)))
            .route("/page/history", get(samples).with_state(history))
            .nest("/page/orders", orders)
            .route("/", file("text/html; charset=utf-8", HTML))
            .route("/page/style.css", file("text/css; charset=utf-8", STYLE))
            .route("/page/page.js", file("text/javascript; charset=utf-8", SCRIPT))
            .route("/page/icon.svg", file("image/svg+xml", ICON))
            .layer(map_response(with_headers))
    }
}

fn file(content_type: &'static str, text: &'static str) -> MethodRouter {
    get(move || async move { ([(header::CONTENT_TYPE, content_type)], text) })
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn events(State((feed, stopped)): State<(Arc<Feed>, watch::Receiver<()>)>) -> Response {
    let pictures = stream::unfold(feed.slot(stopped), |mut client| async move {
        client.next().await.map(|events| (events, client))
    });
    let events = pictures.flat_map(|events| stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// All samples, the oldest first.
async fn samples(State(history): State<Arc<Mutex<History>>>) -> Response {
    let page = serde_json::to_vec(&history.lock().unwrap_or_else(PoisonError::into_inner).chart());
    match page {
        Ok(page) => ([(header::CONTENT_TYPE, "application/json")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
