use tokio::time::sleep;

use super::{
    testing::{Server, send},
    *,
};
use crate::{detect::rules::testing::Script, metrics::Register, respond::cause::Cause};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(server: &Server) -> Settings {
    Settings {
        url: server.endpoint.clone(),
        machine: "edge-1".to_owned(),
        password: Some("secret".to_owned().into()),
        key: Some("key".to_owned().into()),
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(2),
        ..Settings::default()
    }
}

fn start(settings: &Settings) -> Link {
    let metrics = Arc::new(CrowdsecMetrics::new(&Register::default()).unwrap());
    Link::start(settings, Clock::start(), metrics)
}

fn event() -> Event {
    let rules = crate::detect::rules::Settings::default().rules().rules;
    let rule = rules.into_iter().find(|rule| rule.name() == "vertical_scan").unwrap();
    let mut script = Script::new(rule, crate::detect::settings::Settings::default());
    for port in 1..=40 {
        script.syn(7, 1, port);
    }
    script.events().remove(0)
}

fn see(link: &mut Link, number: usize) {
    let mut event = event();
    event.finding.id = number.to_string();
    link.see(&event, |_| vec![("192.0.2.7/32".parse().unwrap(), true)]);
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn login(expires: &str) -> String {
    format!("{{\"code\":200,\"expire\":\"{expires}\",\"token\":\"t\"}}")
}

const LATE: &str = "2999-01-01T00:00:00Z";

#[tokio::test]
async fn findings_are_pushed_by_one_login_which_is_renewed_when_it_is_worth_nothing() {
    let server = Server::new(|number, request, stream| async move {
        if request.starts_with("POST /v1/watchers/login ") {
            assert!(request.contains("\"machine_id\":\"edge-1\",\"password\":\"secret\""), "{request}");
            send(stream, "200 OK", &login(LATE)).await;
        } else if number == 2 {
            send(stream, "401 Unauthorized", "{\"message\":\"token is expired\"}").await;
        } else {
            assert!(request.contains("authorization: Bearer t\r\n"), "{request}");
            send(stream, "201 Created", "[\"1\"]").await;
        }
    })
    .await;
    let mut link = start(&Settings { push: true, ..settings(&server) });
    for number in 0..3 {
        see(&mut link, number);
        wait_for("the push", || link.status().unwrap().push.unwrap().pushed == number as u64 + 1).await;
    }
    let asked = server.asked();
    let asked: Vec<_> = asked.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let (login, alerts) = ("/v1/watchers/login", "/v1/alerts");
    assert_eq!(asked, [login, alerts, alerts, login, alerts, alerts]);
    assert_eq!(link.status().unwrap().pull, None);
}

#[tokio::test]
async fn what_a_local_api_never_takes_is_left_out_and_the_rest_goes_on() {
    let server = Server::new(|_, request, stream| async move {
        if request.starts_with("POST /v1/watchers/login ") {
            send(stream, "200 OK", &login(LATE)).await;
        } else if request.contains("finding\",\"value\":\"0\"") {
            send(stream, "500 Internal Server Error", "{\"message\":\"validation failure\"}").await;
        } else {
            send(stream, "201 Created", "[\"1\"]").await;
        }
    })
    .await;
    let mut link = start(&Settings { push: true, ..settings(&server) });
    see(&mut link, 0);
    wait_for("the refusal", || link.status().unwrap().push.unwrap().error.is_some()).await;
    see(&mut link, 1);
    wait_for("the end", || link.status().unwrap().push.unwrap().pushed == 1).await;
    assert_eq!(link.status().unwrap().push.unwrap().left_out, 1);
}

#[tokio::test]
async fn the_queue_is_bounded_and_waits_for_a_local_api_that_is_down() {
    let mut down = settings(&Server::new(|_, _, _| async {}).await);
    // Nobody listens at this port.
    down.url.port = 9;
    let mut link = start(&Settings { push: true, ..down });
    for number in 0..QUEUE + 200 {
        see(&mut link, number);
    }
    wait_for("the error", || link.status().unwrap().push.unwrap().error.is_some()).await;
    let push = link.status().unwrap().push.unwrap();
    assert!(push.queued <= QUEUE && (150..=200).contains(&push.left_out) && push.pushed == 0, "{push:?}");
    let started = Instant::now();
    link.close().await;
    assert!(started.elapsed() < PATIENCE / 2, "the end of the agent waits");
}

#[tokio::test]
async fn decisions_are_asked_for_whole_at_first_and_after_each_failure() {
    let decision = r#"{"duration":"1h","id":1,"origin":"cscli","scenario":"s","scope":"Ip","type":"ban","value":"192.0.2.7"}"#;
    let server = Server::new(move |number, _, stream| async move {
        match number {
            0 | 3 => send(stream, "200 OK", &format!("{{\"new\":[{decision}],\"deleted\":null}}")).await,
            2 => send(stream, "200 OK", "no JSON").await,
            _ => send(stream, "200 OK", "{\"new\":null,\"deleted\":null}").await,
        }
    })
    .await;
    let mut link = start(&Settings { pull: true, ..settings(&server) });
    let orders = link.next().await;
    assert!(
        matches!(orders.decided.bans.as_slice(), [(_, Cause::Crowdsec { decision: 1, .. })]),
        "{orders:?}"
    );
    assert_eq!(link.next().await.decided.bans, []);
    let before = link.status().unwrap().pull.unwrap();
    assert_eq!((before.decisions, before.seconds_since_pull), (1, Some(0)));
    wait_for("the failure", || link.status().unwrap().pull.unwrap().error.is_some()).await;
    assert_eq!(link.status().unwrap().pull.unwrap().decisions, 1, "the last good state stays");
    let again = link.next().await;
    assert_eq!((again.decided.bans.len(), again.fates.len()), (1, 0));
    link.next().await;
    let full: Vec<_> = server.asked().iter().take(5).map(|asked| asked.contains("startup=true")).collect();
    assert_eq!(full, [true, false, false, true, false]);
    assert_eq!(link.status().unwrap().pull.unwrap().error, None);
}

#[tokio::test]
async fn other_settings_begin_anew_and_nothing_is_asked_where_all_is_off() {
    let server = Server::new(|_, _, stream| send(stream, "200 OK", "{\"new\":null}")).await;
    let off = settings(&server);
    let mut link = start(&off);
    assert_eq!(link.status(), None);
    see(&mut link, 0);
    sleep(Duration::from_millis(100)).await;
    assert!(server.asked().is_empty());
    link.restart(&Settings { pull: true, ..off.clone() }, Clock::start());
    link.next().await;
    assert!(!server.asked().is_empty());
    link.restart(&off, Clock::start());
    sleep(Duration::from_millis(200)).await;
    let asked = server.asked().len();
    sleep(Duration::from_millis(300)).await;
    assert_eq!((server.asked().len(), link.status()), (asked, None), "the old task goes on");
}
