//! A small HTTP client for outgoing calls: http and https, with a time limit for each request and a size limit for
//! each answer. For existing connections use [`exchange`].

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Idle connections are closed after this time. Servers close theirs a little later.
const IDLE: Duration = Duration::from_secs(30);

/// The TLS settings of outgoing calls: they trust the certificates that this host trusts (`SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name others).
///
/// # Errors
/// No version of TLS can be used, which is a mistake in the build.
pub fn tls() -> Result<ClientConfig, rustls::Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        tracing::warn!(
            "this host trusts no certificate authority: https will not work (package ca-certificates)"
        );
    }
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// There is no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The certificates that this host trusts could not be used.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The host could not be reached, or the connection broke.
    #[error("{}", causes(.0))]
    Connection(#[from] legacy::Error),
    /// The answer broke off, or is too large.
    #[error("the answer: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
}

/// The error with its cause, because hyper's own message alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    patience: Duration,
    max_answer: usize,
}

impl HttpClient {
    /// A client with this time limit for a whole answer and this size limit in bytes. For https see [`tls`]; a host
    /// without certificates can still use http.
    ///
    /// # Errors
    /// [`HttpError::Tls`]: no version of TLS can be used, which is a mistake in the build.
    pub fn new(patience: Duration, max_answer: usize) -> Result<Self, HttpError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls()?).https_or_http().enable_http1().build();
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { client, patience, max_answer })
    }

    /// Sends a request and waits for the whole answer, whatever its status.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let exchange = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), self.max_answer).collect().await;
            Ok(Answer { status, body: body.map_err(HttpError::Answer)?.to_bytes() })
        };
        timeout(self.patience, exchange).await.unwrap_or(Err(HttpError::Timeout(self.patience)))
    }
}

/// The data from a connection is not a valid answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// It broke off, or is not HTTP.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// It is too large.
    #[error("length limit exceeded")]
    TooLarge,
}

/// Sends a request over a new connection, and reads the whole answer up to a size limit. If the future is dropped,
/// everything stops.
///
/// # Errors
/// See [`ExchangeError`].
pub async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
    max_answer: usize,
) -> Result<Answer, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The request returns the errors of the connection, too.
    let drive = async {
        let _ = connection.await;
        pending::<Infallible>().await
    };
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_answer).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => ExchangeError::Broken(*error),
            Err(_) => ExchangeError::TooLarge,
        })?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::select! {
        answer = answer => answer,
        never = drive => match never {},
    }
}
