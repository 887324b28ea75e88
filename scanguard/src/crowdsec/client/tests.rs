use std::time::Instant;

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

use super::{
    super::testing::{Server, send},
    *,
};

const LIMIT: Duration = Duration::from_millis(500);

async fn ask(server: &Server) -> Result<Stream, ClientError> {
    Client::new(server.endpoint.clone(), LIMIT).decisions(&"key".to_owned().into(), true).await
}

async fn label(server: &Server) -> (&'static str, String) {
    let error = ask(server).await.expect_err("no answer");
    (error.label(), error.to_string())
}

#[tokio::test]
async fn a_request_says_who_asks_and_for_what() {
    let server = Server::new(|_, _, stream| send(stream, "200 OK", "{\"new\":null,\"deleted\":null}")).await;
    ask(&server).await.unwrap();
    let asked = server.asked().remove(0);
    let port = server.endpoint.port;
    for line in [
        "GET /v1/decisions/stream?startup=true&scopes=ip,range&dedup=false HTTP/1.1\r\n".to_owned(),
        "x-api-key: key\r\n".to_owned(),
        format!("host: 127.0.0.1:{port}\r\n"),
        format!("user-agent: {AGENT}\r\n"),
    ] {
        assert!(asked.contains(&line), "{line:?}: {asked}");
    }
}

#[tokio::test]
async fn nobody_there_and_errors_are_said() {
    let server =
        Server::new(|_, _, stream| send(stream, "403 Forbidden", "{\"message\":\"access\\nforbidden\"}"))
            .await;
    assert_eq!(label(&server).await, ("status", "status 403 Forbidden: access forbidden".to_owned()));
    let server = Server::new(|_, _, stream| async move {
        send(stream, "500 Internal Server Error", &"x".repeat(9_999)).await;
    })
    .await;
    let (label, said) = label(&server).await;
    assert!(label == "status" && said.len() < 300, "{said}");
    let endpoint = server.endpoint.clone();
    drop(server);
    // The listener ends with its task.
    sleep(Duration::from_millis(50)).await;
    let error = Client::new(endpoint, LIMIT).decisions(&"key".to_owned().into(), true).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for body in [
        "",
        "[]",
        "{}",
        "{\"message\":\"hello\"}",
        "{\"new\":7}",
        "<html>",
        "{\"new\":[{\"id\":-1}]}",
        &"[".repeat(100_000),
    ] {
        let text = body.to_owned();
        let server = Server::new(move |_, _, stream| {
            let text = text.clone();
            async move { send(stream, "200 OK", &text).await }
        })
        .await;
        assert_eq!(label(&server).await.0, "malformed", "{body:.20}");
    }
    for raw in ["220 mail ESMTP\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{", "\0\0\0\0\r\n\r\n"] {
        let server = Server::new(move |_, _, mut stream: TcpStream| async move {
            let _ = stream.write_all(raw.as_bytes()).await;
        })
        .await;
        assert_eq!(label(&server).await.0, "broken", "{raw:?}");
    }
}

#[tokio::test]
async fn who_is_slow_is_not_waited_for() {
    let silent = Server::new(|_, _, stream| async move {
        let _stream = stream;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    // Single bytes, for ever.
    let drip = Server::new(|_, _, mut stream: TcpStream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[").await;
        while stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for server in [silent, drip] {
        let started = Instant::now();
        assert_eq!(label(&server).await.0, "timeout");
        assert!(started.elapsed() < 4 * LIMIT, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_limit() {
    let server = Server::new(|_, _, mut stream: TcpStream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[").await;
        while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
    })
    .await;
    let client = Client::new(server.endpoint.clone(), Duration::from_secs(60));
    let error = client.decisions(&"key".to_owned().into(), true).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge), "{error}");
}

#[test]
fn only_what_a_local_api_says_of_the_request_is_a_refusal() {
    let status =
        |code| ClientError::Status { status: StatusCode::from_u16(code).unwrap(), said: String::new() };
    for code in [400, 403, 413, 500] {
        assert!(status(code).is_refusal(), "{code}");
    }
    for code in [401, 408, 429, 502, 503, 504, 521] {
        assert!(!status(code).is_refusal(), "{code}");
    }
    let html = serde_json::from_str::<Vec<String>>("<html>").unwrap_err();
    assert!(!ClientError::Malformed(html).is_refusal(), "some other server answers");
    assert!(!ClientError::TooLarge.is_refusal() && status(401).is_unauthorized());
}
