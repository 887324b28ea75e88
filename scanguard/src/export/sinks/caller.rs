//! Posts bodies to one URL, and decides what an HTTP answer means for a retry.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Request, StatusCode, header, http::HeaderValue};

use super::worker::Failure;
use crate::http_client::{Answer, HttpClient};

/// The media type of JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes read of an answer. Only its beginning is used, in error messages.
const MAX_ANSWER: usize = 64 << 10;
/// Most characters of it in a message.
const SHOWN: usize = 200;

/// The URL, with its client.
pub(super) struct Caller {
    url: String,
    /// Headers of each request.
    headers: HeaderMap,
    client: Result<HttpClient, String>,
}

impl Caller {
    pub(super) fn new(url: String, headers: HeaderMap) -> Self {
        let client = HttpClient::new(PATIENCE, MAX_ANSWER).map_err(|error| error.to_string());
        Self { url, headers, client }
    }

    /// Posts a body with additional headers. Headers of the configuration take precedence.
    pub(super) async fn post(&self, mut headers: HeaderMap, body: Bytes) -> Result<(), Failure> {
        let client = self.client.as_ref().map_err(|why| Failure::Away(why.clone()))?;
        let agent = HeaderValue::from_static(concat!("scanguard/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let request = Request::builder().method(Method::POST).uri(&self.url).body(Full::new(body));
        let mut request = request.map_err(|error| Failure::Refused(error.to_string()))?;
        *request.headers_mut() = headers;
        let answer = client.send(request).await;
        judge(&answer.map_err(|error| Failure::Away(format!("{}: {error}", self.url)))?, &self.url)
    }
}

/// The meaning of an answer: an overloaded or broken receiver may recover, but one that rejects the request always
/// will.
fn judge(answer: &Answer, url: &str) -> Result<(), Failure> {
    let Answer { status, body } = answer;
    if status.is_success() {
        return Ok(());
    }
    let said: String =
        String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let why = format!("{url}: {status}: {said}");
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_server_error() || passing.contains(status) {
        Err(Failure::Unable(why))
    } else {
        Err(Failure::Refused(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let judged = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            judge(&Answer { status, body: Bytes::from_static(b"said\n") }, "http://x/")
        };
        assert_eq!(judged(202), Ok(()));
        for status in [408, 429, 500, 503] {
            assert!(matches!(judged(status), Err(Failure::Unable(_))), "{status}");
        }
        for status in [301, 400, 401, 404, 410, 413] {
            assert!(matches!(judged(status), Err(Failure::Refused(_))), "{status}");
        }
        let why = judged(500).unwrap_err().to_string();
        assert_eq!(why, "http://x/: 500 Internal Server Error: said");
    }
}
