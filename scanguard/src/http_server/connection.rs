//! One connection, from its beginning to its end.

use std::{
    convert::Infallible,
    error::Error as _,
    future::{Future, pending},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    response::IntoResponse as _,
};
use http_body_util::Limited;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::sleep_until,
};
use tokio_io_timeout::TimeoutStream;

use super::metrics::CutOff;
use super::{
    Limits,
    state::{Answer, Phase, State},
};

/// Answers the requests of a connection until it ends or is cut off. `opening` gives the stream and the service. When
/// the sender of `stopped` is dropped, the current request is finished.
///
/// # Errors
/// Why the connection was cut off.
pub(crate) async fn hold<S>(
    opening: impl Future<Output = io::Result<(S, Router)>> + Send,
    limits: Limits,
    state: Arc<watch::Sender<State>>,
    mut stopped: watch::Receiver<()>,
) -> Result<(), CutOff>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut watched = state.subscribe();
    let mut speaking = pin!(speak(opening, limits, state, stopped.clone()));
    let mut is_stopping = false;
    loop {
        let now_at = *watched.borrow_and_update();
        let deadline = async {
            match now_at.deadline(&limits) {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            result = &mut speaking => return result,
            Ok(()) = watched.changed() => {}
            _ = stopped.changed(), if !is_stopping => match now_at.phase {
                Phase::Waiting | Phase::Streaming => return Ok(()),
                Phase::Answering => is_stopping = true,
            },
            () = deadline => return Err(now_at.overdue()),
        }
    }
}

async fn speak<S>(
    opening: impl Future<Output = io::Result<(S, Router)>>,
    limits: Limits,
    state: Arc<watch::Sender<State>>,
    mut stopped: watch::Receiver<()>,
) -> Result<(), CutOff>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (stream, router) = opening.await.map_err(|error| {
        tracing::debug!("a connection could not be opened: {error}");
        CutOff::Handshake
    })?;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.stall));
    let is_too_large = Arc::new(AtomicBool::new(false));
    let too_large = Arc::clone(&is_too_large);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        state.send_replace(State::at(Phase::Answering));
        let (router, state) = (router.clone(), Arc::clone(&state));
        let is_too_large = request.body().size_hint().lower() > limits.max_body as u64;
        too_large.fetch_or(is_too_large, Ordering::Relaxed);
        async move {
            let response = if is_too_large {
                refuse(limits.max_body)
            } else {
                let body = |body| Body::new(Limited::new(body, limits.max_body));
                match router.call(request.map(body)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            };
            if is_endless(&response) {
                state.send_replace(State::at(Phase::Streaming));
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, state)))
        }
    });
    let connection = http1::Builder::new()
        // There is a limit for that already, which hyper's own timer does not know.
        .header_read_timeout(None)
        .max_buf_size(limits.max_head)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match result {
        Err(error) => judge(&error),
        Ok(()) if is_too_large.load(Ordering::Relaxed) => Err(CutOff::BodyTooLarge),
        Ok(()) => Ok(()),
    }
}

fn refuse(max_body: usize) -> Response<Body> {
    let said = format!("a request's body has at most {max_body} bytes\n");
    let mut response = (StatusCode::PAYLOAD_TOO_LARGE, said).into_response();
    // Unread bytes could not be distinguished from the next request.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Server-sent events have no end. Their sender limits them.
fn is_endless(response: &Response<Body>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// A client that leaves in the middle is normal.
fn judge(error: &hyper::Error) -> Result<(), CutOff> {
    tracing::debug!("a connection: {error}");
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if error.is_parse_too_large() {
        Err(CutOff::HeadTooLarge)
    } else if error.is_parse() {
        Err(CutOff::Invalid)
    } else if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        Err(CutOff::Stalled)
    } else {
        Ok(())
    }
}
