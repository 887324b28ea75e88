//! The metrics listener: /metrics, /healthz, /readyz, and the page or else a list of these paths.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{
    health::{Health, Unwell},
    metrics::{CONTENT_TYPE, Metrics},
    settings::Settings,
    web::{self, Access},
};
use crate::http_server::{self, Limits, metrics::Listener};

/// Prometheus's own time limit is 10 s by default; a slow connection may need longer for a page.
const LIMITS: Limits = Limits {
    connections: 0,
    head: Duration::from_secs(10),
    request: Duration::from_secs(30),
    stall: Duration::from_secs(10),
    max_head: 16 * 1024,
    max_body: 16 * 1024,
};

/// The state that requests are answered from.
#[derive(Clone)]
pub struct Shared {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the agent works.
    pub health: Arc<Health>,
    /// The routes of / and everything below /page; `None` if there is only a list of the other paths.
    pub page: Option<Router>,
    /// The users that have access, and whether TLS is used.
    pub access: Arc<Access>,
}

/// The listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error("{0} is taken by another process: choose another address with --listen or metrics.listen")]
    Taken(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
}

/// Binds the listener. On a host without IPv6, `[::]` means all IPv4 addresses.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let mut result = TcpListener::bind(address).await;
    if let Err(error) = &result
        && address.is_ipv6()
        && address.ip().is_unspecified()
        && error.raw_os_error() == Some(libc::EAFNOSUPPORT)
    {
        tracing::info!("this host has no IPv6: listening on IPv4 only");
        result = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Other { address, error },
    })
}

/// Answers requests until `shutdown`, then finishes those under way.
pub async fn serve(
    listener: TcpListener,
    shared: Shared,
    settings: &Settings,
    shutdown: impl Future<Output = ()>,
) {
    let served = shared.metrics.listeners.of(Listener::Metrics);
    let access = Arc::clone(&shared.access);
    let page = shared.page.clone().unwrap_or_else(|| Router::new().route("/", get(landing)));
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shared)
        .merge(page);
    let limits = Limits { connections: settings.max_connections as usize, ..LIMITS };
    let open = |stream| {
        let (router, access) = (router.clone(), Arc::clone(&access));
        async move {
            let (stream, visit) = access.open(stream).await?;
            Ok((stream, router.layer(from_fn_with_state(visit, web::guard))))
        }
    };
    http_server::serve(listener, limits, served, open, shutdown).await;
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match shared.metrics.encode() {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Liveness: the main loop runs.
async fn healthz(State(shared): State<Shared>) -> Response {
    well(shared.health.alive(Instant::now()))
}

/// Readiness: packets are seen.
async fn readyz(State(shared): State<Shared>) -> Response {
    match shared.health.ready(Instant::now()) {
        Ok(Some(waiting)) => format!("ok; waiting: {waiting}\n").into_response(),
        ready => well(ready.map(drop)),
    }
}

fn well(health: Result<(), Unwell>) -> Response {
    match health {
        Ok(()) => "ok\n".into_response(),
        Err(unwell) => (StatusCode::SERVICE_UNAVAILABLE, format!("{unwell}\n")).into_response(),
    }
}

async fn landing() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>ScanGuard</title></head>\n",
        "<body>\n<h1>ScanGuard ",
        env!("CARGO_PKG_VERSION"),
        "</h1>\n<p>eBPF/XDP scan sensor.</p>\n<ul>\n",
        "<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>\n",
        "<li><a href=\"/healthz\">/healthz</a>: is it alive?</li>\n",
        "<li><a href=\"/readyz\">/readyz</a>: does it see packets?</li>\n",
        "</ul>\n</body>\n</html>\n",
    ))
}
