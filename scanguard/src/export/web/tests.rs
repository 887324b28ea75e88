use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, middleware::from_fn_with_state, routing::get};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    export::metrics::{Limits as Caps, Metrics},
    http_server::{self, Limits, metrics::Listener},
};

/// The hash of "right", at the lowest cost.
fn hash(cost: u32) -> String {
    bcrypt::hash("right", cost).unwrap()
}

/// A directory with certificates: of two authorities, of a server and a client by the first, and of a client by the second.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("scanguard-web-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let files = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(files.0.join("certs")).unwrap();
        for authority in ["ca", "other-ca"] {
            files.certificate(authority, "-addext basicConstraints=critical,CA:TRUE");
        }
        files.signed("server", "ca");
        files.signed("client", "ca");
        files.signed("stranger", "other-ca");
        files
    }

    fn signed(&self, name: &str, by: &str) {
        let signer = format!(
            "-CA certs/{by}.pem -CAkey certs/{by}.key -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE"
        );
        self.certificate(name, &signer);
    }

    fn certificate(&self, name: &str, more: &str) {
        // Without the extensions from the system's configuration.
        fs::write(self.0.join("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n").unwrap();
        let arguments = format!(
            "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} \
             -keyout certs/{name}.key -out certs/{name}.pem {more}"
        );
        let made = Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).output();
        let made = made.expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("certs").join(name)).unwrap()
    }

    fn read(&self, yaml: &str) -> Result<WebConfig, String> {
        let path = self.0.join("web.yml");
        fs::write(&path, yaml).unwrap();
        WebConfig::read(&path).map_err(|error| error.to_string())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: certs/server.pem\n  key_file: certs/server.key\n";

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn what_the_toolkit_takes_is_taken() {
    let files = Files::new();
    let inline = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        indented(&files.text("server.pem")),
        indented(&files.text("server.key"))
    );
    let users =
        format!("basic_auth_users:\n  alice: {}\n  bob: {}\n", hash(4), hash(4).replace("$2b$", "$2y$"));
    let verified = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: certs/ca.pem\n";
    let given = "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: certs/ca.pem\n";
    let chosen = "  min_version: TLS12\n  max_version: TLS13\n  prefer_server_cipher_suites: false\n  \
                  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n  \
                  curve_preferences: [CurveP256, X25519]\n";
    let headers = "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
                   Strict-Transport-Security: max-age=1\n";
    let absolute = TLS.replace("certs/", &format!("{}/certs/", files.0.display()));
    // The text; whether it uses TLS, whether it admits everybody, whether passwords are sent unencrypted.
    let rows = [
        (TLS.to_owned(), true, true, false),
        (absolute, true, true, false),
        (inline, true, true, false),
        (users.clone(), false, false, true),
        (format!("{TLS}{users}"), true, false, false),
        (format!("{TLS}{verified}"), true, false, false),
        (format!("{TLS}{given}"), true, true, false),
        (format!("{TLS}{chosen}{headers}"), true, true, false),
        (headers.to_owned(), false, true, false),
        (format!("# nothing else\n{TLS}basic_auth_users:\n"), true, true, false),
    ];
    for (yaml, speaks_tls, is_open, tells) in rows {
        let config = files.read(&yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        let found = (config.scheme() == "https", config.is_open(), config.tells_passwords());
        assert_eq!(found, (speaks_tls, is_open, tells), "{yaml}");
        let shown = format!("{config:?}");
        assert!(!shown.contains("$2") && !shown.contains("PRIVATE"), "a secret is shown: {shown}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name_and_without_a_secret() {
    let files = Files::new();
    let with = |more: &str| format!("{TLS}  {more}\n");
    let user = |hash: &str| format!("basic_auth_users:\n  alice: {hash}\n");
    let rows = [
        (String::new(), "neither tls_server_config nor basic_auth_users"),
        ("tls_server_config:\n".to_owned(), "neither"),
        ("- a\n".to_owned(), "line 1"),
        (format!("{TLS}tls_server: {{}}\n"), "tls_server"),
        (format!("{TLS}{TLS}"), "tls_server_config"),
        (with("key_fil: a"), "key_fil"),
        (
            "tls_server_config: {key_file: certs/server.key}\n".to_owned(),
            "tls_server_config.cert_file: it is missing",
        ),
        (
            "tls_server_config: {cert_file: certs/server.pem}\n".to_owned(),
            "tls_server_config.key_file: it is missing",
        ),
        (with("cert: PEM"), "tls_server_config.cert: there is cert_file, too"),
        (TLS.replace("server.pem", "none.pem"), "certs/none.pem: No such file"),
        (TLS.replace("server.pem", "server.key"), "tls_server_config.cert_file: no certificate in PEM"),
        (TLS.replace("server.key", "server.pem"), "no private key in PEM"),
        (TLS.replace("server.key", "client.key"), "it does not go with the certificate"),
        (with("client_auth_type: RequireAnyClientCert"), "say RequireAndVerifyClientCert"),
        (with("client_auth_type: Everybody"), "\"Everybody\" is not one of"),
        (
            with("client_auth_type: RequireAndVerifyClientCert"),
            "tls_server_config.client_ca_file: it is missing",
        ),
        (with("client_ca_file: certs/ca.pem"), "say RequireAndVerifyClientCert"),
        (with("client_allowed_sans: [a.example]"), "client_allowed_sans"),
        (with("min_version: TLS10"), "tls_server_config.min_version: \"TLS10\" is not spoken here"),
        (format!("{TLS}  min_version: TLS13\n  max_version: TLS12\n"), "newer than max_version"),
        (with("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"), "there are: TLS_AES_256_GCM_SHA384"),
        (with("curve_preferences: [CurveP521]"), "there are: X25519, CurveP256, CurveP384"),
        (format!("{TLS}http_server_config: {{http2: true}}\n"), "http_server_config.http2"),
        (format!("{TLS}http_server_config: {{headers: {{X-Other: a}}}}\n"), "headers.X-Other"),
        (format!("{TLS}http_server_config: {{headers: {{X-Frame-Options: all}}}}\n"), "deny, sameorigin"),
        (format!("{TLS}rate_limit: {{interval: 1s}}\n"), "rate_limit"),
        (user("secret-in-the-clear"), "basic_auth_users.alice: this is no bcrypt hash"),
        (user(&hash(4).replace("$04$", "$15$")), "the cost 15 is not within 4 to 14"),
        (format!("basic_auth_users:\n  alice: {0}\n  alice: {0}\n", hash(4)), "alice"),
    ];
    for (yaml, word) in rows {
        let said = files.read(&yaml).expect_err(&yaml);
        assert!(said.contains("web.yml: ") && said.contains(word), "{yaml}: {said}");
        assert!(!said.contains("secret-in-the-clear"), "{said}");
    }
    let none = WebConfig::read(&files.0.join("none.yml")).expect_err("it is not there");
    assert!(none.to_string().contains("none.yml: No such file"), "{none}");
}

#[test]
fn all_files_that_it_names_are_known() {
    let files = Files::new();
    fs::write(files.0.join("web.yml"), format!("{TLS}  client_ca_file: /etc/ca.pem\n")).unwrap();
    let certs = files.0.join("certs");
    let wanted = [certs.join("server.pem"), certs.join("server.key"), PathBuf::from("/etc/ca.pem")];
    assert_eq!(named(&files.0.join("web.yml")), wanted);
}

/// A listener with access control.
struct Site {
    address: SocketAddr,
    access: Arc<Access>,
    metrics: Metrics,
    server: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Site {
    async fn start(config: WebConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let caps = Caps { sources: 1, history: 1, findings: 1, visitors: 1 };
        let metrics = Metrics::new(caps, std::iter::empty()).unwrap();
        let access = Arc::new(Access::new(config, metrics.listeners.clone()));
        let router = Router::new()
            .route("/", get(|| async { "inside" }))
            .route("/own", get(|| async { ([("x-frame-options", "DENY")], "inside") }));
        let limits = Limits {
            connections: 64,
            head: Duration::from_millis(800),
            request: Duration::from_secs(20),
            stall: Duration::from_secs(10),
            max_head: 8192,
            max_body: 100,
        };
        let (served, opens) = (metrics.listeners.of(Listener::Metrics), Arc::clone(&access));
        let server = tokio::spawn(async move {
            let open = |stream| {
                let (router, access) = (router.clone(), Arc::clone(&opens));
                async move {
                    let (stream, visit) = access.open(stream).await?;
                    Ok((stream, router.layer(from_fn_with_state(visit, guard))))
                }
            };
            http_server::serve(listener, limits, served, open, std::future::pending()).await;
        });
        Self { address, access, metrics, server }
    }

    async fn ask(&self, path: &str, authorization: &str) -> String {
        ask(TcpStream::connect(self.address).await.unwrap(), path, authorization).await
    }

    /// A request over TLS from a client that trusts `ca`, with a certificate if one is named.
    async fn ask_by_tls(&self, files: &Files, certificate: Option<&str>, path: &str) -> io::Result<String> {
        self.ask_with(files, certificate, path, "").await
    }

    async fn ask_with(
        &self,
        files: &Files,
        certificate: Option<&str>,
        path: &str,
        headers: &str,
    ) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(files.text("ca.pem").as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let pem = |kind: &str| files.text(&format!("{name}.{kind}")).into_bytes();
                let certificate = CertificateDer::from_pem_slice(&pem("pem")).unwrap();
                let key = PrivateKeyDer::from_pem_slice(&pem("key")).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(request(path, headers).as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn count(&self, series: &str) -> usize {
        let page = String::from_utf8(self.metrics.encode().unwrap().to_vec()).unwrap();
        let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    fn unauthorized(&self, reason: &str) -> usize {
        self.count(&format!("scanguard_listener_unauthorized_total{{reason=\"{reason}\"}}"))
    }

    async fn expect_cut_off(&self, reason: &str, count: usize) {
        let series = format!("scanguard_listener_cut_off_total{{listener=\"metrics\",reason=\"{reason}\"}}");
        for _ in 0..500 {
            if self.count(&series) == count {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{reason}: {} rather than {count}", self.count(&series));
    }
}

fn request(path: &str, authorization: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n")
}

async fn ask(mut stream: TcpStream, path: &str, authorization: &str) -> String {
    stream.write_all(request(path, authorization).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    read.expect("it ends").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn basic(user: &str, password: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn who_has_the_password_is_let_in_and_nobody_else_whatever_the_path() {
    let files = Files::new();
    let users = format!("basic_auth_users:\n  alice: {}\n  bob: {}\n", hash(4), hash(5));
    let site = Site::start(files.read(&users).unwrap()).await;
    for user in ["alice", "bob", "alice"] {
        let answer = site.ask("/", &basic(user, "right")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("inside"), "{answer}");
    }
    let wrong = [
        (basic("alice", "wrong"), "wrong_credentials"),
        (basic("alice", ""), "wrong_credentials"),
        (basic("", "right"), "wrong_credentials"),
        (basic("mallory", "right"), "wrong_credentials"),
        (basic("ALICE", "right"), "wrong_credentials"),
        (String::new(), "no_credentials"),
        ("Authorization: Basic !!\r\n".to_owned(), "no_credentials"),
        ("Authorization: Bearer cmlnaHQ=\r\n".to_owned(), "no_credentials"),
        ("Authorization: Basic YWxpY2U=\r\n".to_owned(), "no_credentials"),
    ];
    for (place, (authorization, reason)) in wrong.iter().enumerate() {
        let before = site.unauthorized(reason);
        let path = ["/", "/own", "/none"][place % 3];
        let answer = site.ask(path, authorization).await;
        assert!(
            answer.starts_with("HTTP/1.1 401") && !answer.contains("inside"),
            "{authorization}: {answer}"
        );
        assert!(answer.contains("www-authenticate: Basic realm=\"ScanGuard\""), "{answer}");
        assert_eq!(site.unauthorized(reason), before + 1, "{authorization}");
    }
    assert_eq!(site.unauthorized("busy"), 0);
}

#[tokio::test]
async fn whoever_guesses_takes_neither_the_cpu_nor_the_place_of_who_has_the_password() {
    let files = Files::new();
    // Slow enough that all requests arrive while the first is compared.
    let users = format!("basic_auth_users:\n  alice: {}\n", hash(7));
    let site = Arc::new(Site::start(files.read(&users).unwrap()).await);
    let slow = Instant::now();
    assert!(site.ask("/", &basic("alice", "right")).await.starts_with("HTTP/1.1 200"));
    let slow = slow.elapsed();
    let guesses: Vec<_> = (0..30)
        .map(|number| {
            let site = Arc::clone(&site);
            tokio::spawn(async move { site.ask("/", &basic("alice", &format!("guess {number}"))).await })
        })
        .collect();
    sleep(slow / 2).await;
    let remembered = Instant::now();
    assert!(site.ask("/", &basic("alice", "right")).await.starts_with("HTTP/1.1 200"));
    let remembered = remembered.elapsed();
    let mut busy = 0;
    for guess in guesses {
        let answer = guess.await.unwrap();
        let is_busy = answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 5");
        assert!(is_busy || answer.starts_with("HTTP/1.1 401"), "{answer}");
        busy += usize::from(is_busy);
    }
    assert!(busy > 0 && busy == site.unauthorized("busy"), "{busy} were sent away");
    assert_eq!(busy + site.unauthorized("wrong_credentials"), 30);
    assert!(remembered < slow * 3, "{remembered:?}, where a comparison takes {slow:?}");
}

#[tokio::test]
async fn other_users_are_asked_for_after_a_reload() {
    let files = Files::new();
    let users = |name: &str| files.read(&format!("basic_auth_users:\n  {name}: {}\n", hash(4))).unwrap();
    let site = Site::start(users("alice")).await;
    assert!(site.ask("/", &basic("alice", "right")).await.starts_with("HTTP/1.1 200"));
    site.access.set(users("bob"));
    assert!(site.ask("/", &basic("alice", "right")).await.starts_with("HTTP/1.1 401"));
    assert!(site.ask("/", &basic("bob", "right")).await.starts_with("HTTP/1.1 200"));
    let mut kept = TcpStream::connect(site.address).await.unwrap();
    let mut said = [0; 1024];
    let often = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", basic("bob", "right"));
    for _ in 0..2 {
        kept.write_all(often.as_bytes()).await.unwrap();
        let length = kept.read(&mut said).await.unwrap();
        assert!(said[..length].ends_with(b"inside"));
    }
    site.access.set(WebConfig::default());
    kept.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut last = String::new();
    timeout(Duration::from_secs(10), kept.read_to_string(&mut last)).await.expect("it ends").unwrap();
    assert!(last.contains("connection: close") && last.ends_with("inside"), "{last}");
    assert!(site.ask("/", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_are_said_with_every_answer_that_has_none_of_its_own() {
    let files = Files::new();
    let yaml = "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    X-Content-Type-Options: nosniff\n";
    let site = Site::start(files.read(yaml).unwrap()).await;
    let (plain, own) = (site.ask("/", "").await, site.ask("/own", "").await);
    assert!(plain.contains("x-frame-options: sameorigin") && plain.contains("nosniff"), "{plain}");
    assert!(own.contains("x-frame-options: DENY") && !own.contains("sameorigin"), "{own}");
}

#[tokio::test]
async fn tls_is_spoken_and_whoever_does_not_is_told_so_or_cut_off() {
    let files = Files::new();
    for versions in ["", "  max_version: TLS12\n", "  min_version: TLS13\n"] {
        let site = Site::start(files.read(&format!("{TLS}{versions}")).unwrap()).await;
        let answer = site.ask_by_tls(&files, None, "/").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("inside"), "{answer}");
    }
    let site = Site::start(files.read(TLS).unwrap()).await;
    let plain = site.ask("/", "").await;
    assert!(plain.starts_with("HTTP/1.1 400") && plain.contains("https"), "{plain}");
    site.expect_cut_off("handshake", 1).await;
    let mut noise = TcpStream::connect(site.address).await.unwrap();
    noise.write_all(&[0x16, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    site.expect_cut_off("handshake", 2).await;
    // One hello that arrives only in part, and one of which nothing arrives.
    let mut slow = TcpStream::connect(site.address).await.unwrap();
    slow.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await.unwrap();
    let _silent = TcpStream::connect(site.address).await.unwrap();
    site.expect_cut_off("head_timeout", 2).await;
    assert!(site.ask_by_tls(&files, None, "/").await.unwrap().ends_with("inside"));
}

#[tokio::test]
async fn connections_after_a_reload_get_the_new_certificate() {
    let files = Files::new();
    files.signed("foreign", "other-ca");
    let site = Site::start(files.read(&TLS.replace("server.", "foreign.")).unwrap()).await;
    assert!(
        site.ask_by_tls(&files, None, "/").await.is_err(),
        "a certificate that the client does not trust"
    );
    site.access.set(files.read(TLS).unwrap());
    assert!(site.ask_by_tls(&files, None, "/").await.unwrap().ends_with("inside"));
}

#[tokio::test]
async fn where_client_certificates_are_wanted_only_those_of_the_authority_come_in() {
    let files = Files::new();
    let authority = "  client_ca_file: certs/ca.pem\n  client_auth_type";
    let needed = files.read(&format!("{TLS}{authority}: RequireAndVerifyClientCert\n")).unwrap();
    let site = Site::start(needed).await;
    assert!(site.ask_by_tls(&files, Some("client"), "/").await.unwrap().ends_with("inside"));
    assert!(site.ask_by_tls(&files, Some("stranger"), "/").await.is_err());
    assert!(site.ask_by_tls(&files, None, "/").await.is_err());
    site.expect_cut_off("handshake", 2).await;
    site.access.set(files.read(&format!("{TLS}{authority}: VerifyClientCertIfGiven\n")).unwrap());
    assert!(site.ask_by_tls(&files, None, "/").await.unwrap().ends_with("inside"));
    assert!(site.ask_by_tls(&files, Some("stranger"), "/").await.is_err());
}

#[tokio::test]
async fn where_nobody_can_log_in_only_this_host_gets_more_than_the_probes() {
    let site = Site::start(WebConfig::default()).await;
    assert!(site.ask("/", "").await.starts_with("HTTP/1.1 200"));
    let by_proxy = "X-Forwarded-For: 192.0.2.1\r\n";
    let refused = site.ask("/", by_proxy).await;
    assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("inside"), "{refused}");
    for path in ["/metrics", "/page/events", "/none"] {
        assert!(site.ask(path, by_proxy).await.starts_with("HTTP/1.1 403"), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert!(site.ask(path, by_proxy).await.starts_with("HTTP/1.1 404"), "{path} is not of this router");
    }
    assert_eq!((site.unauthorized("forwarded"), site.unauthorized("foreign_host")), (4, 0));
    site.access.set(WebConfig::default().with_public_metrics(true));
    assert!(site.ask("/metrics", by_proxy).await.starts_with("HTTP/1.1 404"));
    assert!(site.ask("/metrics/", by_proxy).await.starts_with("HTTP/1.1 403"));
    assert!(site.ask("/", by_proxy).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn users_come_from_anywhere_and_public_metrics_need_no_password() {
    let files = Files::new();
    let users = files.read(&format!("basic_auth_users:\n  alice: {}\n", hash(4))).unwrap();
    let site = Site::start(users.clone()).await;
    let by_proxy = format!("{}X-Forwarded-For: 192.0.2.1\r\n", basic("alice", "right"));
    assert!(site.ask("/", &by_proxy).await.starts_with("HTTP/1.1 200"));
    assert!(site.ask("/metrics", "").await.starts_with("HTTP/1.1 401"));
    site.access.set(users.with_public_metrics(true));
    assert!(site.ask("/metrics", "").await.starts_with("HTTP/1.1 404"), "this router has none");
    assert!(site.ask("/", "").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn a_verified_certificate_is_a_login() {
    let files = Files::new();
    let given = format!("{TLS}  client_ca_file: certs/ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n");
    let site = Site::start(files.read(&given).unwrap()).await;
    let by_proxy = |certificate| site.ask_with(&files, certificate, "/", "Via: 1.1 edge\r\n");
    assert!(by_proxy(Some("client")).await.unwrap().ends_with("inside"));
    assert!(by_proxy(None).await.unwrap().starts_with("HTTP/1.1 403"));
}
