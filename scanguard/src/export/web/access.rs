//! Access to the metrics listener: applies the current configuration to each connection and each request.

use std::{
    io::{Error, Result},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{WebConfig, passwords::Comparer, tls::Tls};
use crate::http_server::metrics::{ListenerMetrics, Unauthorized};

/// The first byte of a TLS connection: a record of a handshake; RFC 8446, 5.1.
const HANDSHAKE: u8 = 0x16;
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    this is an https address, and the request was plain http\n";
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
        let visit = Visit { access: Arc::clone(self), begun_by };
        let Some(config) = tls else {
            return Ok((Box::pin(stream), visit));
        };
        let mut first = [HANDSHAKE];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic() {
            return Err(refuse_plain(stream).await);
        }
        Ok((Box::pin(TlsAcceptor::from(config).accept(stream).await?), visit))
    }
}

/// A connection, with the configuration that was in force when it was opened.
#[derive(Clone)]
pub(crate) struct Visit {
    access: Arc<Access>,
    begun_by: Arc<WebConfig>,
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

/// Admits only users, if any are configured. A connection that was opened under an older configuration gets one
/// answer and is closed: otherwise a client with frequent requests could stay for ever with an old certificate.
pub(crate) async fn guard(State(visit): State<Visit>, request: Request, next: Next) -> Response {
    let Visit { access, begun_by } = visit;
    let config = access.in_force();
    let mut response = match access.comparer.check(&config.users, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(why) => {
            access.metrics.unauthorized(why);
            tracing::debug!("{} {}: {}", request.method(), request.uri().path(), why.label());
            refusal(why)
        }
    };
    for (name, value) in &config.headers {
        response.headers_mut().entry(name).or_insert_with(|| value.clone());
    }
    if !Arc::ptr_eq(&config, &begun_by) {
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
    }
}
