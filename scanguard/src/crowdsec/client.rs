//! The requests of the Local API. Whatever the other end is: its answer comes in time and is not too large, or there
//! is an error.

use std::{io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use jiff::Timestamp;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::{alerts::Alert, decisions::Stream, settings::Endpoint};
use crate::{
    http_client::{self, Answer, ExchangeError, exchange},
    secret::Secret,
};

/// How many bytes an answer may have: a hundred thousand decisions.
const MAX_ANSWER: usize = 16 << 20;
/// How many characters of an error message are kept.
const MAX_SAID: usize = 200;
/// The name of this client, as the Local API logs it and `cscli` lists it.
const AGENT: &str = concat!("scanguard/v", env!("CARGO_PKG_VERSION"));
/// The header with a bouncer's key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server answers there.
    #[error("{endpoint} cannot be reached: {error}")]
    Unreachable {
        /// The address.
        endpoint: Endpoint,
        /// The error.
        error: io::Error,
    },
    /// There is a server, but no TLS with it: usually because this host does not trust its certificate.
    #[error("{endpoint}: no TLS: {error}")]
    Tls {
        /// The address.
        endpoint: Endpoint,
        /// The error.
        error: io::Error,
    },
    /// It took too long.
    #[error("{endpoint} did not answer within {} s", .limit.as_secs_f64())]
    Timeout {
        /// The address.
        endpoint: Endpoint,
        /// How long the client waited.
        limit: Duration,
    },
    /// The connection broke, or the server does not speak HTTP.
    #[error("{endpoint}: {error}")]
    Broken {
        /// The address.
        endpoint: Endpoint,
        /// The error.
        error: hyper::Error,
    },
    /// The answer is too large.
    #[error("the answer is larger than {} MiB", MAX_ANSWER >> 20)]
    TooLarge,
    /// The answer is an error.
    #[error("status {status}: {said}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// The message of the Local API.
        said: String,
    },
    /// The answer has the wrong form.
    #[error("the answer does not come from a Local API: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The request cannot be sent.
    #[error("the request: {0}")]
    Request(#[from] hyper::http::Error),
}

impl ClientError {
    /// All names that [`Self::label`] returns.
    pub const LABELS: [&'static str; 8] =
        ["unreachable", "tls", "timeout", "broken", "too_large", "status", "malformed", "request"];

    /// The name in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Broken { .. } => "broken",
            Self::TooLarge => "too_large",
            Self::Status { .. } => "status",
            Self::Malformed(_) => "malformed",
            Self::Request(_) => "request",
        }
    }

    /// Whether the login must be renewed.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::UNAUTHORIZED)
    }

    /// Whether the Local API refused the contents of the request, as far as this is known: it says 500 for contents
    /// that it cannot read. An error of a gateway in between, with or without a server behind it, tells nothing about
    /// the contents.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                let is_of_the_moment =
                    matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
                        || status.is_server_error() && *status != StatusCode::INTERNAL_SERVER_ERROR;
                !is_of_the_moment && !self.is_unauthorized()
            }
            Self::Request(_) => true,
            Self::Malformed(_)
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooLarge => false,
        }
    }
}

/// The token that a logged-in machine sends with each request.
#[derive(Clone, Debug)]
pub struct Token {
    value: Secret,
    /// When it expires.
    pub expires: Timestamp,
}

#[derive(Serialize)]
struct Login<'a> {
    machine_id: &'a str,
    password: &'a str,
    scenarios: [&'a str; 0],
}

#[derive(Deserialize)]
struct LoggedIn {
    token: String,
    expire: Timestamp,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

/// A client of one Local API.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    limit: Duration,
    /// How to speak TLS, if it is used; or the error that prevents it.
    tls: Option<Result<Arc<ClientConfig>, String>>,
}

impl Client {
    /// A client of this address. An answer may take this long.
    pub fn new(endpoint: Endpoint, limit: Duration) -> Self {
        let config = || http_client::tls().map(Arc::new).map_err(|error| error.to_string());
        let tls = endpoint.is_tls.then(config);
        Self { endpoint, limit, tls }
    }

    /// Logs a machine in.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn login(&self, machine: &str, password: &Secret) -> Result<Token, ClientError> {
        let body =
            serde_json::to_vec(&Login { machine_id: machine, password: password.reveal(), scenarios: [] })?;
        let LoggedIn { token, expire } =
            self.ask(Method::POST, "/v1/watchers/login", None, body.into()).await?;
        Ok(Token { value: token.into(), expires: expire })
    }

    /// Pushes alerts.
    ///
    /// # Errors
    /// See [`ClientError`]. The Local API may have taken some of them.
    pub async fn push(&self, token: &Token, alerts: &[Alert]) -> Result<(), ClientError> {
        let body = serde_json::to_vec(alerts)?;
        let authorization = format!("Bearer {}", token.value.reveal());
        let header = (header::AUTHORIZATION, authorization);
        // The numbers of the alerts, which are not needed.
        self.ask::<Vec<String>>(Method::POST, "/v1/alerts", Some(header), body.into()).await.map(drop)
    }

    /// All decisions in force (`full`), or the changes since the last request.
    ///
    /// # Errors
    /// See [`ClientError`]. The changes may then be lost: the next request must ask for all decisions.
    pub async fn decisions(&self, key: &Secret, full: bool) -> Result<Stream, ClientError> {
        // Without dedup=false, the answer has only the longest decision of each address, and not those that remain
        // when it ends.
        let path = format!("/v1/decisions/stream?startup={full}&scopes=ip,range&dedup=false");
        let header = (API_KEY, key.reveal().to_owned());
        self.ask(Method::GET, &path, Some(header), Bytes::new()).await
    }

    /// Whether the Local API accepts a bouncer's key. Unlike [`Self::decisions`], this does not change what a running
    /// agent gets next.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn check_key(&self, key: &Secret) -> Result<(), ClientError> {
        let header = (API_KEY, key.reveal().to_owned());
        // An address that nobody has (RFC 5737): the answer is short.
        let path = "/v1/decisions?ip=192.0.2.0";
        self.ask::<IgnoredAny>(Method::GET, path, Some(header), Bytes::new()).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        secret: Option<(HeaderName, String)>,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::USER_AGENT, AGENT)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        if let Some((name, value)) = secret {
            let mut value = HeaderValue::try_from(value).map_err(hyper::http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body))?;
        let Answer { status, body } = timeout(self.limit, self.send(request))
            .await
            .map_err(|_| ClientError::Timeout { endpoint: self.endpoint.clone(), limit: self.limit })??;
        if status.is_success() { Ok(serde_json::from_slice(&body)?) } else { Err(refused(status, &body)) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let endpoint = || self.endpoint.clone();
        let stream = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port))
            .await
            .map_err(|error| ClientError::Unreachable { endpoint: endpoint(), error })?;
        let Some(tls) = &self.tls else {
            return self.exchange(stream, request).await;
        };
        let secured = async {
            let tls = tls.as_ref().map_err(|error| io::Error::other(error.clone()))?;
            let name = ServerName::try_from(self.endpoint.host.clone()).map_err(io::Error::other)?;
            TlsConnector::from(Arc::clone(tls)).connect(name, stream).await
        };
        let stream = secured.await.map_err(|error| ClientError::Tls { endpoint: endpoint(), error })?;
        self.exchange(stream, request).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, ClientError> {
        exchange(stream, request, MAX_ANSWER).await.map_err(|error| match error {
            ExchangeError::Broken(error) => ClientError::Broken { endpoint: self.endpoint.clone(), error },
            ExchangeError::TooLarge => ClientError::TooLarge,
        })
    }
}

fn refused(status: StatusCode, answer: &[u8]) -> ClientError {
    let said = match serde_json::from_slice::<Said>(answer) {
        Ok(Said { message }) => message,
        Err(_) => String::from_utf8_lossy(answer).into_owned(),
    };
    let said = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SAID).collect();
    ClientError::Status { status, said }
}

#[cfg(test)]
mod tests;
