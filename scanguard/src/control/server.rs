//! The HTTP server of the control socket.

use std::{convert::Infallible, future::Future, io, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
};

use super::{
    Answer, Ask, Outcome, Request,
    agent_handle::{AgentHandle, NoAnswer},
    listing::ListQuery,
    metrics::ControlMetrics,
    peer::{Peer, Rights},
};
use crate::{
    cidr::parse_net,
    http_server::{self, Limits, State as ConnectionState, metrics::ServerMetrics},
    respond::{
        Mode,
        orders::{Order, OrderError},
    },
};

/// Most bytes in a request's body.
pub const MAX_BODY: usize = 16 * 1024;
/// Most requests that wait for the main task.
pub const QUEUE: usize = 32;
/// Clients are on this host, and each sends one request at a time.
const LIMITS: Limits = Limits {
    connections: 32,
    head: Duration::from_secs(5),
    request: Duration::from_secs(30),
    stall: Duration::from_secs(10),
    max_head: 16 * 1024,
    max_body: MAX_BODY,
};
/// Most characters in a reason.
const MAX_REASON: usize = 500;

/// The state that requests are answered from.
#[derive(Clone)]
struct Shared {
    agent: AgentHandle,
    metrics: Arc<ControlMetrics>,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: UnixListener,
    rights: Rights,
    requests: mpsc::Sender<Request>,
    metrics: Arc<ControlMetrics>,
    served: ServerMetrics,
    shutdown: impl Future<Output = ()>,
) {
    let shared = Shared { agent: AgentHandle::new(requests), metrics };
    let open = |stream| open(stream, rights, shared.clone());
    http_server::serve(listener, LIMITS, served, open, shutdown).await;
}

/// Answers the requests of one connection, until it ends or sends something that is not HTTP.
pub async fn connection(
    stream: UnixStream,
    rights: Rights,
    requests: mpsc::Sender<Request>,
    metrics: Arc<ControlMetrics>,
) {
    let (_stop, stopped) = watch::channel(());
    let state = Arc::new(watch::Sender::new(ConnectionState::new()));
    let opening = open(stream, rights, Shared { agent: AgentHandle::new(requests), metrics });
    // The reason for a cut connection does not matter for a single client.
    let _ = http_server::hold(opening, LIMITS, state, stopped).await;
}

/// Rights of a connection.
async fn open(stream: UnixStream, rights: Rights, shared: Shared) -> io::Result<(UnixStream, Router)> {
    let peer = Peer::of(&stream).inspect_err(|error| {
        tracing::warn!("the client of the control socket cannot be identified: {error}");
    })?;
    let router = if rights.permit(&peer) {
        router(shared).layer(Extension(peer))
    } else {
        tracing::warn!("{peer} has no right to use the control socket: refused");
        shared.metrics.requested(Outcome::Forbidden);
        Router::new().fallback(forbidden)
    };
    Ok((stream, router))
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/bans", get(bans))
        .route("/v1/explain/{address}", get(explain))
        .route("/v1/sources", get(sources))
        .route("/v1/findings", get(findings))
        .route("/v1/picture", get(picture))
        .route("/v1/actors", get(actors))
        .route("/v1/actors/explain/{pattern}", get(explain_actors))
        .route("/v1/actors/forget", post(forget_actors))
        .nest("/v1", by_hand())
        .route("/v1/disallow", post(disallow))
        .route("/v1/mode", post(mode))
        .route("/v1/confirm", post(confirm))
        .route("/v1/reload", post(reload))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
}

/// The requests that the page may send, too.
fn by_hand() -> Router<Shared> {
    Router::new().route("/ban", post(ban)).route("/unban", post(unban)).route("/allow", post(allow))
}

/// `POST /ban`, `/unban` and `/allow` for another server. That server authenticates the client and adds the [`Peer`]
/// in whose name the order is given.
pub fn orders(agent: AgentHandle, metrics: Arc<ControlMetrics>) -> Router {
    by_hand().layer(DefaultBodyLimit::max(MAX_BODY)).with_state(Shared { agent, metrics })
}

/// The answer to a request that is not carried out.
#[derive(Debug, Deserialize, Serialize)]
pub struct ErrorBody {
    /// The reason, in words.
    pub error: String,
    /// All errors in a configuration that was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

pub(crate) fn error(status: StatusCode, error: &dyn std::fmt::Display) -> Response {
    json(status, &ErrorBody { error: error.to_string(), problems: Vec::new() })
}

fn misconfigured(problems: Vec<String>) -> Response {
    let error = "the old configuration stays, the new one is wrong".to_owned();
    json(StatusCode::UNPROCESSABLE_ENTITY, &ErrorBody { error, problems })
}

async fn forbidden() -> Result<Infallible, Response> {
    let said =
        "you have no right to use this socket: only root, the agent's user and members of control.group have";
    Err(error(StatusCode::FORBIDDEN, &said))
}

async fn unknown(State(shared): State<Shared>) -> Response {
    shared.metrics.requested(Outcome::Invalid);
    error(StatusCode::NOT_FOUND, &"there is nothing of this name")
}

async fn status(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    shared.ask(peer, Ok(Ask::Status)).await
}

async fn bans(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    shared.ask(peer, Ok(Ask::Bans)).await
}

async fn explain(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(address): Path<String>,
) -> Response {
    let address = address.parse::<IpAddr>().map(|ip| Ask::Explain(ip.to_canonical()));
    shared.ask(peer, address.map_err(|_| "no address".to_owned())).await
}

async fn sources(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let ask = listed(query)
        .and_then(|query| Ok(Ask::Sources { rows: query.rows()?, sort: query.sort.unwrap_or_default() }));
    shared.ask(peer, ask).await
}

async fn findings(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let order = "findings come by when their sources were seen last: sort is for sources";
    shared.ask(peer, in_own_order(query, order).map(Ask::Findings)).await
}

async fn picture(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let order = "of a picture, each list has its own order";
    shared.ask(peer, in_own_order(query, order).map(Ask::Picture)).await
}

async fn actors(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    let order = "programs come by when they were seen last: sort is for sources";
    shared.ask(peer, in_own_order(query, order).map(Ask::Actors)).await
}

async fn explain_actors(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(who): Path<String>,
) -> Response {
    shared.ask(peer, pattern(&who).map(Ask::ExplainActors)).await
}

/// The requested number of rows, for lists that cannot be sorted. The given reason is the error otherwise.
fn in_own_order(query: Result<Query<ListQuery>, QueryRejection>, order: &str) -> Result<usize, String> {
    let query = listed(query)?;
    if query.sort.is_some() { Err(order.to_owned()) } else { query.rows() }
}

fn listed(query: Result<Query<ListQuery>, QueryRejection>) -> Result<ListQuery, String> {
    query.map(|Query(query)| query).map_err(|rejection| rejection.body_text())
}

/// The body of `POST /v1/ban`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BanBody {
    /// Address or network.
    pub net: String,
    /// Duration in seconds; `None` means until it is removed by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The body of `POST /v1/unban`, `/v1/allow` and `/v1/disallow`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetBody {
    /// Address or network.
    pub net: String,
}

/// The body of `POST /v1/actors/forget`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PatternBody {
    /// A path or a unit, or a pattern of some, with `*`, `?` and `[]`.
    pub pattern: String,
}

/// The body of `POST /v1/mode`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModeBody {
    /// The new mode.
    pub mode: Mode,
    /// The change must be confirmed within this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_seconds: Option<f64>,
}

async fn ban(State(shared): State<Shared>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    let ask = read(&body).and_then(|BanBody { net, seconds, reason }| {
        let reason = reason.unwrap_or_else(|| "by hand".to_owned());
        if reason.chars().count() > MAX_REASON || reason.contains(char::is_control) {
            return Err(format!("a reason is one line of at most {MAX_REASON} characters"));
        }
        Ok(Ask::Order(Order::Ban { net: parse_net(&net)?, lasts: seconds.map(duration), reason }))
    });
    shared.ask(peer, ask).await
}

async fn unban(State(shared): State<Shared>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    shared.ask(peer, net(&body).map(|net| Ask::Order(Order::Unban { net }))).await
}

async fn allow(State(shared): State<Shared>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    shared.ask(peer, net(&body).map(|net| Ask::Order(Order::Allow { net }))).await
}

async fn disallow(State(shared): State<Shared>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    shared.ask(peer, net(&body).map(|net| Ask::Order(Order::Disallow { net }))).await
}

async fn forget_actors(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let ask = read(&body).and_then(|body: PatternBody| Ok(Ask::ForgetActors(pattern(&body.pattern)?)));
    shared.ask(peer, ask).await
}

fn pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(text).map_err(|error| format!("no pattern: {error}"))
}

async fn mode(State(shared): State<Shared>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    let ask = read(&body).map(|ModeBody { mode, confirm_seconds }| {
        Ask::Order(Order::Mode { mode, confirm: confirm_seconds.map(duration) })
    });
    shared.ask(peer, ask).await
}

async fn confirm(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    shared.ask(peer, Ok(Ask::Order(Order::Confirm))).await
}

async fn reload(State(shared): State<Shared>, Extension(peer): Extension<Peer>) -> Response {
    shared.ask(peer, Ok(Ask::Reload)).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn net(body: &[u8]) -> Result<ipnet::IpNet, String> {
    read(body).and_then(|NetBody { net }| parse_net(&net))
}

/// Turns an invalid duration into one that the policy refuses.
fn duration(seconds: f64) -> Duration {
    let too_long = if seconds > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(seconds).unwrap_or(too_long)
}

impl Shared {
    /// Sends a question to the main task and waits for the answer.
    async fn ask(&self, peer: Peer, ask: Result<Ask, String>) -> Response {
        let (outcome, response) = match ask {
            Ok(ask) => self.hand_on(peer, ask).await,
            Err(wrong) => (Outcome::Invalid, error(StatusCode::BAD_REQUEST, &wrong)),
        };
        self.metrics.requested(outcome);
        response
    }

    async fn hand_on(&self, peer: Peer, ask: Ask) -> (Outcome, Response) {
        match &ask {
            Ask::Order(order) => tracing::info!("{peer} asks for {order:?}"),
            Ask::Reload => tracing::info!("{peer} asks for a reload"),
            Ask::ForgetActors(pattern) => tracing::info!("{peer} asks to forget the programs {pattern}"),
            Ask::Bans
            | Ask::Status
            | Ask::Explain(_)
            | Ask::Sources { .. }
            | Ask::Findings(_)
            | Ask::Picture(_)
            | Ask::Actors(_)
            | Ask::ExplainActors(_) => {
                tracing::debug!("{peer} asks for {ask:?}");
            }
        }
        match self.agent.ask(peer, ask).await {
            Ok(Answer::Done(done)) => (Outcome::Done, json(StatusCode::OK, &done)),
            Ok(Answer::Bans(bans)) => (Outcome::Done, json(StatusCode::OK, &bans)),
            Ok(Answer::Status(status)) => (Outcome::Done, json(StatusCode::OK, &status)),
            Ok(Answer::Explanation(why)) => (Outcome::Done, json(StatusCode::OK, &why)),
            Ok(Answer::Sources(sources)) => (Outcome::Done, json(StatusCode::OK, &sources)),
            Ok(Answer::Findings(findings)) => (Outcome::Done, json(StatusCode::OK, &findings)),
            Ok(Answer::Picture(picture)) => (Outcome::Done, json(StatusCode::OK, &picture)),
            Ok(Answer::Actors(actors)) => (Outcome::Done, json(StatusCode::OK, &actors)),
            Ok(Answer::ActorReports(reports)) => (Outcome::Done, json(StatusCode::OK, &reports)),
            Ok(Answer::Refused(refused)) => {
                tracing::info!("refused: {refused}");
                (Outcome::Refused, error(code(&refused), &refused))
            }
            // The agent has logged the errors already.
            Ok(Answer::Misconfigured(problems)) => (Outcome::Refused, misconfigured(problems)),
            Err(none @ NoAnswer::Ending) => (Outcome::Busy, error(StatusCode::SERVICE_UNAVAILABLE, &none)),
            Err(none @ NoAnswer::Late) => (Outcome::Busy, error(StatusCode::GATEWAY_TIMEOUT, &none)),
        }
    }
}

fn code(error: &OrderError) -> StatusCode {
    match error {
        OrderError::NotBanned(_)
        | OrderError::NotAllowedByHand { .. }
        | OrderError::UnknownProgram(_)
        | OrderError::UnknownActor(_) => StatusCode::NOT_FOUND,
        OrderError::Refused { .. }
        | OrderError::BannedAround { .. }
        | OrderError::Listed { .. }
        | OrderError::AllowsEverybody(_)
        | OrderError::HostBits { .. }
        | OrderError::Confirm => StatusCode::UNPROCESSABLE_ENTITY,
        OrderError::AllowedFull | OrderError::NothingToConfirm(_) | OrderError::NothingLeaves => {
            StatusCode::CONFLICT
        }
        OrderError::Kernel(_) | OrderError::NotInKernel(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
