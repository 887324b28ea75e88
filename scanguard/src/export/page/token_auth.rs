//! Authorizes orders from the page: only clients with the admin token may send them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::metrics::{PageMetrics, TurnedAway};
use crate::{
    control::{peer::Peer, server::error},
    secret::Secret,
};

/// How many wrong tokens are checked in each [`WINDOW`].
const MAX_WRONG: u32 = 10;
/// The length of the window in which wrong tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// The header of the token. `Authorization` may already hold the listener's user, and the browser sets it by itself.
const TOKEN: HeaderName = HeaderName::from_static("scanguard-token");

/// The token, and the number of recent wrong ones.
pub(super) struct TokenAuth {
    lock: Mutex<Lock>,
    metrics: Arc<PageMetrics>,
}

#[derive(Default)]
struct Lock {
    /// The token's hash. Its length is constant, so a comparison reveals nothing about the token's length.
    token: Option<[u8; 32]>,
    /// The start of the current window, and its number of wrong tokens.
    wrong: Option<(Instant, u32)>,
    /// When each reason was last logged.
    said: BTreeMap<TurnedAway, Instant>,
}

impl TokenAuth {
    pub(super) fn new(token: Option<&Secret>, metrics: Arc<PageMetrics>) -> Self {
        let auth = Self { lock: Mutex::default(), metrics };
        auth.set(token);
        auth
    }

    /// Replaces the token.
    pub(super) fn set(&self, token: Option<&Secret>) {
        let hash = token.map(|token| Sha256::digest(token.reveal().as_bytes()).into());
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).token = hash;
    }

    /// Whether a token is configured.
    pub(super) fn has_token(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).token.is_some()
    }

    fn check(&self, headers: &HeaderMap, now: Instant) -> Result<(), TurnedAway> {
        // A form of a foreign page cannot send JSON. A script of one must ask the server first (CORS), and gets no
        // permission.
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().trim_ascii());
        let is_json = content_type.is_some_and(|value| value.eq_ignore_ascii_case(b"application/json"));
        if !is_json {
            return Err(TurnedAway::ContentType);
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let token = lock.token.ok_or(TurnedAway::NoToken)?;
        let wrong = match lock.wrong {
            Some((since, wrong)) if now.duration_since(since) < WINDOW => (since, wrong),
            Some(_) | None => (now, 0),
        };
        // Even the right token is refused then. Otherwise guessing could continue.
        if wrong.1 >= MAX_WRONG {
            return Err(TurnedAway::TooMany);
        }
        let said = match headers.get(TOKEN) {
            Some(token) => Some(token.as_bytes()),
            None => headers.get(header::AUTHORIZATION).and_then(|value| bearer(value.as_bytes())),
        };
        let is_right = said.is_some_and(|said| Sha256::digest(said).as_slice().ct_eq(&token).into());
        if is_right {
            return Ok(());
        }
        lock.wrong = Some((wrong.0, wrong.1 + 1));
        Err(TurnedAway::Wrong)
    }

    /// Whether to log this: once in each [`WINDOW`], because strangers could fill the log.
    fn is_news(&self, why: TurnedAway, now: Instant) -> bool {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = lock.said.get(&why).is_none_or(|said| now.duration_since(*said) >= WINDOW);
        if is_news {
            lock.said.insert(why, now);
        }
        is_news
    }
}

/// The token in `Bearer TOKEN`; RFC 6750, 2.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Passes only requests with the token. Their orders are given in the name of the agent's own user.
pub(super) async fn guard(State(auth): State<Arc<TokenAuth>>, mut request: Request, next: Next) -> Response {
    let now = Instant::now();
    match auth.check(request.headers(), now) {
        Ok(()) => {
            tracing::info!("{} {}: with the page's admin token", request.method(), request.uri().path());
            request.extensions_mut().insert(Peer::this_process());
            next.run(request).await
        }
        Err(why) => {
            auth.metrics.turned_away(why);
            if auth.is_news(why, now) {
                tracing::warn!(
                    "an order from the page was refused: {}; the same refusal within a minute is only counted \
                     (scanguard_page_orders_refused_total)",
                    words(why)
                );
            }
            refusal(why)
        }
    }
}

const fn words(why: TurnedAway) -> &'static str {
    match why {
        TurnedAway::NoToken => "no admin token is configured: set admin_token_file in [page]",
        TurnedAway::Wrong => "this is not the admin token",
        TurnedAway::TooMany => "too many wrong tokens: wait a minute, or use `scanguard` on the host",
        TurnedAway::ContentType => "the body has to be application/json",
    }
}

fn refusal(why: TurnedAway) -> Response {
    let status = match why {
        TurnedAway::NoToken => StatusCode::FORBIDDEN,
        TurnedAway::Wrong => StatusCode::UNAUTHORIZED,
        TurnedAway::TooMany => StatusCode::TOO_MANY_REQUESTS,
        TurnedAway::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    let response = error(status, &words(why));
    match why {
        TurnedAway::Wrong => ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response(),
        TurnedAway::TooMany => ([(header::RETRY_AFTER, "60")], response).into_response(),
        TurnedAway::NoToken | TurnedAway::ContentType => response,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::metrics::Register;

    fn auth(token: Option<&str>) -> TokenAuth {
        let token = token.map(|token| Secret::from(token.to_owned()));
        TokenAuth::new(token.as_ref(), Arc::new(PageMetrics::new(&Register::default()).unwrap()))
    }

    fn headers(token: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::AUTHORIZATION, HeaderValue::from_str(token).unwrap()),
        ])
    }

    #[test]
    fn only_the_token_itself_opens() {
        let (auth, now) = (auth(Some("0123456789abcdef")), Instant::now());
        assert_eq!(auth.check(&headers("Bearer 0123456789abcdef"), now), Ok(()));
        assert_eq!(auth.check(&headers("bearer 0123456789abcdef"), now), Ok(()));
        for wrong in ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Bearer ", "0123456789abcdef", ""]
        {
            assert_eq!(auth.check(&headers(wrong), now), Err(TurnedAway::Wrong), "{wrong}");
        }
        let mut beside = headers("Basic dXNlcjpwYXNzd29yZA==");
        beside.insert(TOKEN, HeaderValue::from_static("0123456789abcdef"));
        assert_eq!(auth.check(&beside, now), Ok(()));
        beside.insert(TOKEN, HeaderValue::from_static("0123456789abcdeF"));
        assert_eq!(auth.check(&beside, now), Err(TurnedAway::Wrong));
        let mut none = headers("");
        none.remove(header::AUTHORIZATION);
        assert_eq!(auth.check(&none, now), Err(TurnedAway::Wrong));
        let mut form = headers("Bearer 0123456789abcdef");
        form.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(auth.check(&form, now), Err(TurnedAway::ContentType));
    }

    #[test]
    fn guessing_is_stopped_for_the_rest_of_the_minute() {
        let (auth, now) = (auth(Some("0123456789abcdef")), Instant::now());
        for _ in 0..MAX_WRONG {
            assert_eq!(auth.check(&headers("Bearer guess"), now), Err(TurnedAway::Wrong));
        }
        let right = headers("Bearer 0123456789abcdef");
        assert_eq!(auth.check(&right, now + WINDOW / 2), Err(TurnedAway::TooMany));
        assert_eq!(auth.check(&right, now + WINDOW), Ok(()));
    }

    #[test]
    fn a_refusal_is_said_once_a_minute_for_each_reason_and_counted_each_time() {
        let (auth, now) = (auth(Some("0123456789abcdef")), Instant::now());
        let said = |why, at| (0..1_000).filter(|_| auth.is_news(why, at)).count();
        assert_eq!((said(TurnedAway::ContentType, now), said(TurnedAway::Wrong, now)), (1, 1));
        assert_eq!(said(TurnedAway::ContentType, now + WINDOW / 2), 0);
        assert_eq!(said(TurnedAway::ContentType, now + WINDOW), 1);
    }

    #[test]
    fn another_token_replaces_the_old_one_and_without_one_nothing_opens() {
        let (auth, now) = (auth(Some("0123456789abcdef")), Instant::now());
        auth.set(Some(&Secret::from("fedcba9876543210".to_owned())));
        assert_eq!(auth.check(&headers("Bearer 0123456789abcdef"), now), Err(TurnedAway::Wrong));
        assert_eq!(auth.check(&headers("Bearer fedcba9876543210"), now), Ok(()));
        auth.set(None);
        assert_eq!(auth.check(&headers("Bearer fedcba9876543210"), now), Err(TurnedAway::NoToken));
        assert!(!auth.has_token());
    }
}
