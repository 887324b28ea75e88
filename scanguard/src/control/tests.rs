use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, watch},
};

use super::{
    client::{Client, ClientError},
    metrics::ControlMetrics,
    server::{BanBody, MAX_BODY, ModeBody, NetBody},
    socket::{Control, ControlError, bind},
    *,
};
use crate::{
    cli::exit::Exit,
    http_server::metrics::{Listener, ListenerMetrics},
    metrics::Register,
    privileges::effective_user,
    respond::{Mode, report::Done},
};

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sg-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn settings(&self) -> settings::Settings {
        settings::Settings { socket: self.0.join("run/control.sock"), group: String::new() }
    }

    fn bind(&self) -> Result<Control, ControlError> {
        bind(&self.settings(), &self.0.join("lib/state.json"))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server whose main task echoes each order.
struct Server {
    client: Client,
    path: PathBuf,
    _stop: watch::Sender<()>,
    _directory: Directory,
}

impl Server {
    fn start(name: &str, rights: Option<peer::Rights>) -> Self {
        let directory = Directory::new(name);
        let control = directory.bind().unwrap();
        let (ask, mut asked) = mpsc::channel::<Request>(server::QUEUE);
        let (stop, mut stopped) = watch::channel(());
        let metrics = std::sync::Arc::new(ControlMetrics::new(&Register::default()).unwrap());
        let served = ListenerMetrics::new(&Register::default()).unwrap().of(Listener::Control);
        let path = directory.settings().socket;
        tokio::spawn(async move {
            let rights = rights.unwrap_or(control.rights);
            server::serve(control.listener, rights, ask, metrics, served, async move {
                let _ = stopped.changed().await;
            })
            .await;
            drop(control.guard);
        });
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                let said = format!("{} {:?}", request.peer.uid, request.ask);
                let answer = match request.ask {
                    Ask::Reload => Answer::Misconfigured(vec!["x:1: wrong".to_owned(), said]),
                    _ => Answer::Done(Done { said, notes: Vec::new() }),
                };
                let _ = request.answer.send(answer);
            }
        });
        Self { client: Client::new(&path), path, _stop: stop, _directory: directory }
    }

    async fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<String, ClientError> {
        self.client.post(path, body).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[tokio::test]
async fn orders_arrive_as_they_were_given_with_who_gave_them() {
    let server = Server::start("orders", None);
    let body = BanBody { net: "192.0.2.0/24".to_owned(), seconds: Some(1.5), reason: None };
    let said = server.post("/v1/ban", &body).await.unwrap();
    let order = "Order(Ban { net: 192.0.2.0/24, lasts: Some(1.5s), reason: \\\"by hand\\\" })";
    assert!(said.contains(&format!("{} {order}", effective_user())), "{said}");
    let said = server.post("/v1/unban", &NetBody { net: "::ffff:192.0.2.7".to_owned() }).await.unwrap();
    assert!(said.contains("Unban { net: 192.0.2.7/32 }"), "{said}");
    let mode = ModeBody { mode: Mode::Enforce, confirm_seconds: Some(30.0) };
    let said = server.post("/v1/mode", &mode).await.unwrap();
    assert!(said.contains("Mode { mode: Enforce, confirm: Some(30s) }"), "{said}");
    let said = server.client.get("/v1/explain/192.0.2.7").await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("Explain(192.0.2.7)"));
    for (path, ask) in [
        ("/v1/sources", "Sources { rows: 50, sort: Rate }"),
        ("/v1/sources?limit=200&sort=last", "Sources { rows: 200, sort: Last }"),
        ("/v1/findings?limit=1", "Findings(1)"),
    ] {
        let said = server.client.get(path).await.unwrap();
        assert!(String::from_utf8_lossy(&said).contains(ask), "{path}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_taken_is_told_with_all_that_is_wrong() {
    let server = Server::start("reload", None);
    let error = server.post("/v1/reload", &serde_json::Map::new()).await.unwrap_err();
    let ClientError::Misconfigured { problems, .. } = &error else { panic!("{error:?}") };
    assert_eq!(problems[0], "x:1: wrong");
    assert!(problems[1].contains(&format!("{} Reload", effective_user())), "{problems:?}");
    assert!(error.to_string().contains("the old configuration stays"), "{error}");
    assert!(error.to_string().ends_with(&problems.join("\n")), "{error}");
    assert_eq!(Exit::of(&error.into()), Exit::Config);
}

#[tokio::test]
async fn what_is_no_request_is_refused_with_the_reason() {
    let server = Server::start("invalid", None);
    let ban = |net: &str, seconds, reason: &str| BanBody {
        net: net.to_owned(),
        seconds,
        reason: Some(reason.to_owned()),
    };
    for (result, word) in [
        (server.post("/v1/ban", &ban("me", None, "")).await, "no address or network"),
        (server.post("/v1/ban", &ban("192.0.2.7", None, "a\nb")).await, "one line"),
        (server.post("/v1/ban", &ban("192.0.2.7", None, &"x".repeat(501))).await, "at most 500"),
        (
            server.post("/v1/ban", &serde_json::json!({ "net": "192.0.2.7", "until": 1 })).await,
            "unknown field",
        ),
        (server.post("/v1/unban", &serde_json::json!([])).await, "invalid"),
        (server.post("/v1/mode", &serde_json::json!({ "mode": "block" })).await, "unknown variant"),
        (server.post("/v1/nothing", &()).await, "nothing of this name"),
    ] {
        match result {
            Err(ClientError::Refused(said)) => assert!(said.contains(word), "{said}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    for (path, word) in [
        ("/v1/sources?limit=0", "not from 1 to 200"),
        ("/v1/sources?limit=201", "not from 1 to 200"),
        ("/v1/sources?limit=-1", "invalid"),
        ("/v1/sources?sort=name", "unknown variant"),
        ("/v1/findings?sort=rate", "sort is for sources"),
        ("/v1/findings?all", "unknown field"),
    ] {
        match server.client.get(path).await {
            Err(ClientError::Refused(said)) => assert!(said.contains(word), "{path}: {said}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    // Times that overflow or are not valid reach the policy unchanged.
    for (seconds, expected) in [(1e300, "18446744073709551615.999999999s"), (-1.0, "0ns")] {
        let said = server.post("/v1/ban", &ban("192.0.2.7", Some(seconds), "")).await.unwrap();
        assert!(said.contains(expected), "{said}");
    }
    assert!(server.post("/v1/ban", &ban("192.0.2.7", None, &"x".repeat(MAX_BODY))).await.is_err());
}

#[tokio::test]
async fn a_peer_without_the_right_is_refused() {
    // Root always has access. If the test runs as another user, that user is the one without the right.
    if effective_user() == 0 {
        return;
    }
    let server = Server::start("forbidden", Some(peer::Rights { own: effective_user() + 1, group: None }));
    match server.client.get("/v1/status").await {
        Err(ClientError::Refused(said)) => assert!(said.contains("no right"), "{said}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_http_is_cut_off() {
    let server = Server::start("garbage", None);
    let mut stream = UnixStream::connect(&server.path).await.unwrap();
    let _ = stream.write_all(&[0x16, 3, 1, 0, 0xff, 0xff]).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "it is still open");
    assert!(server.client.get("/v1/status").await.is_ok());
}

#[tokio::test]
async fn the_socket_is_for_the_group_only_and_goes_with_the_agent() {
    let directory = Directory::new("mode");
    let control = directory.bind().unwrap();
    let path = directory.settings().socket;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(control);
    assert!(!path.exists());
    match Client::new(&path).get("/v1/status").await {
        Err(error @ ClientError::NoAgent { .. }) => {
            assert!(error.to_string().contains("Is `scanguard run` running?"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_agent_at_a_time_and_a_dead_ones_socket_is_replaced() {
    let directory = Directory::new("two");
    let first = directory.bind().unwrap();
    match directory.bind() {
        Err(error @ ControlError::Held { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Simulates a killed agent: the lock is gone, the socket is still there.
    let path = directory.settings().socket;
    let Control { listener, guard, .. } = first;
    fs::hard_link(&path, path.with_extension("kept")).unwrap();
    drop((listener, guard));
    fs::rename(path.with_extension("kept"), &path).unwrap();
    let second = directory.bind().unwrap();
    drop(second);
    fs::write(&path, "no socket").unwrap();
    assert!(matches!(directory.bind(), Err(ControlError::Occupied(_))));
    let unknown = settings::Settings { group: "no-such-group".to_owned(), ..directory.settings() };
    let error = bind(&unknown, &directory.0.join("state.json")).expect_err("there is no such group");
    assert!(error.to_string().contains("groupadd --system no-such-group"), "{error}");
    // The systemd unit restarts the agent after other codes.
    assert_eq!(Exit::of(&error.into()), Exit::Config);
}
