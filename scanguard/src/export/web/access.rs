//! Access to the metrics listener: applies the current configuration to each connection and each request.

use std::{
    io::{Error, Result},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{WebConfig, passwords::Comparer, tls::Tls, visitor};
use crate::http_server::metrics::{ListenerMetrics, Unauthorized};

/// The first byte of a TLS connection: a record of a handshake; RFC 8446, 5.1.
const HANDSHAKE: u8 = 0x16;
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    this is an https address, and the request was plain http\n";
/// What everybody gets: they tell whether the agent works, and nothing else.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];
const METRICS: &str = "/metrics";
/// Most bytes read of a plain request.
const MAX_REQUEST: u64 = 64 * 1024;

/// A connection, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> Stream for S {}

/// The current configuration, and the users that it has admitted.
pub struct Access {
    in_force: RwLock<Arc<WebConfig>>,
    comparer: Comparer,
    metrics: ListenerMetrics,
}

impl Access {
    /// Access by this configuration.
    pub fn new(config: WebConfig, metrics: ListenerMetrics) -> Self {
        Self { in_force: RwLock::new(Arc::new(config)), comparer: Comparer::new(), metrics }
    }

    /// Replaces the configuration. New connections use its certificates, new requests its users.
    pub fn set(&self, config: WebConfig) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.comparer.forget();
    }

    fn in_force(&self) -> Arc<WebConfig> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Accepts a connection: does its TLS handshake, and returns the stream for HTTP with the data to check its
    /// requests.
    ///
    /// # Errors
    /// The handshake failed.
    pub(crate) async fn open(self: &Arc<Self>, stream: TcpStream) -> Result<(Pin<Box<dyn Stream>>, Visit)> {
        let begun_by = self.in_force();
        let tls = begun_by.tls.as_ref().map(Tls::config);
        let at_loopback = visitor::is_loopback([stream.peer_addr()?, stream.local_addr()?]);
        let mut visit = Visit { access: Arc::clone(self), begun_by, at_loopback, has_certificate: false };
        let Some(config) = tls else {
            return Ok((Box::pin(stream), visit));
        };
        let mut first = [HANDSHAKE];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic() {
            return Err(refuse_plain(stream).await);
        }
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        // It was verified in the handshake.
        visit.has_certificate = stream.get_ref().1.peer_certificates().is_some();
        Ok((Box::pin(stream), visit))
    }
}

/// A connection, with the configuration that was in force when it was opened.
#[derive(Clone)]
pub(crate) struct Visit {
    access: Arc<Access>,
    begun_by: Arc<WebConfig>,
    at_loopback: bool,
    has_certificate: bool,
}

impl Visit {
    /// Decides whether a request is answered.
    async fn admit(
        &self,
        config: &WebConfig,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> std::result::Result<(), Unauthorized> {
        let path = uri.path();
        if path == METRICS && config.public_metrics {
            return Ok(());
        }
        if !config.users.is_empty() {
            return self.access.comparer.check(&config.users, headers).await;
        }
        if self.has_certificate || PROBES.contains(&path) {
            return Ok(());
        }
        visitor::check(self.at_loopback, version, uri, headers)
    }
}

/// Tells a browser at http://HOST:9823/ what is wrong.
async fn refuse_plain(mut stream: TcpStream) -> Error {
    let sent = async {
        stream.write_all(PLAIN).await?;
        stream.shutdown().await?;
        // If unread data remains when a connection is closed, the client never gets the answer.
        io::copy(&mut stream.take(MAX_REQUEST), &mut io::sink()).await
    };
    sent.await.err().unwrap_or_else(|| Error::other("plain HTTP where TLS is wanted"))
}

/// Admits only users, if any are configured, and otherwise only this host itself, but for what is public. A connection that was opened under an older configuration gets one
/// answer and is closed: otherwise a client with frequent requests could stay for ever with an old certificate.
pub(crate) async fn guard(State(visit): State<Visit>, request: Request, next: Next) -> Response {
    let config = visit.access.in_force();
    let admitted = visit.admit(&config, request.version(), request.uri(), request.headers()).await;
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(why) => {
            visit.access.metrics.unauthorized(why);
            tracing::debug!("{} {}: {}", request.method(), request.uri().path(), why.label());
            refusal(why)
        }
    };
    for (name, value) in &config.headers {
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    if !Arc::ptr_eq(&config, &visit.begun_by) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refusal(why: Unauthorized) -> Response {
    match why {
        Unauthorized::NoCredentials | Unauthorized::Wrong => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"ScanGuard\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, challenge, "user and password are wanted\n").into_response()
        }
        Unauthorized::Busy => {
            let wait = [(header::RETRY_AFTER, "5")];
            (StatusCode::SERVICE_UNAVAILABLE, wait, "too many passwords at once\n").into_response()
        }
        Unauthorized::Elsewhere | Unauthorized::Forwarded | Unauthorized::ForeignHost => {
            (StatusCode::FORBIDDEN, format!("{}{NEEDED}", words(why))).into_response()
        }
    }
}

const NEEDED: &str = "\nThis is for users with a password (metrics.web_config), and for the host itself at \
                      127.0.0.1 or localhost, without a proxy.\n`metrics.public_metrics = true` opens /metrics to \
                      everybody. See docs/listener.md.\n";

const fn words(why: Unauthorized) -> &'static str {
    match why {
        Unauthorized::Elsewhere => "this request comes from another host",
        Unauthorized::Forwarded => "this request comes by a proxy",
        Unauthorized::ForeignHost => "the host of this URL is not 127.0.0.1 or localhost",
        Unauthorized::NoCredentials | Unauthorized::Wrong | Unauthorized::Busy => {
            "user and password are wanted"
        }
    }
}
