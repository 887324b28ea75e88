//! Real servers of the cases about what clients say: nginx with a site, nsd with zones.

use std::{fmt::Write as _, fs, time::Duration};

use anyhow::Result;

use crate::fixtures::stage::Stage;

/// The agent follows nginx's access log.
pub(super) const LOG: &str = "[logs]\nfiles = [\"{dir}/access.log\"]\nstate = \"{dir}/logs.json\"\n";
/// Pages of the site.
pub(super) const PAGES: usize = 60;
/// Zones of [`zones`].
pub(super) const ZONES: usize = 20;
/// Hosts of each.
pub(super) const HOSTS: usize = 30;
/// Words that scanners try as paths and as names.
const WORDS: &str = include_str!("content/words.txt");

/// A site of 60 pages on ports 80 and 443, nothing under other names.
pub(super) fn site(stage: &mut Stage<'_>) -> Result<()> {
    nginx(stage, "return 404;", "combined")
}

/// The same, which is what other names get, too.
pub(super) fn site_of_all_names(stage: &mut Stage<'_>) -> Result<()> {
    nginx(stage, "root www;", "combined")
}

/// The same as [`site`], and the log says which name was asked for.
pub(super) fn site_that_logs_names(stage: &mut Stage<'_>) -> Result<()> {
    nginx(stage, "return 404;", "names")
}

fn nginx(stage: &mut Stage<'_>, other_names: &str, format: &str) -> Result<()> {
    let www = stage.directory().join("www");
    fs::create_dir_all(www.join("news"))?;
    fs::write(www.join("style.css"), "body { margin: 1em }\n")?;
    fs::write(www.join("logo.png"), [0x89, b'P', b'N', b'G'])?;
    fs::write(www.join("index.html"), page(0))?;
    for number in 0..PAGES {
        fs::write(www.join(format!("page{number}.html")), page(number))?;
    }
    stage.file("words", WORDS)?;
    let host = &stage.lab.victim;
    stage.run(
        host,
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.test -keyout {dir}/key.pem -out {dir}/cert.pem",
        Duration::from_secs(60),
    )?;
    let config = format!(
        "daemon off; master_process off; pid nginx.pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\nlog_format names '$host:$server_port $remote_addr - $remote_user [$time_local] \"$request\" $status \
         $body_bytes_sent \"$http_referer\" \"$http_user_agent\"';\naccess_log access.log {format}; default_type text/html;\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
         server {{ listen 80; listen [::]:80; listen 443 ssl; server_name shop.test 10.77.0.1; root www;\n\
         location = /item {{ return 200 'item $arg_id'; }}\n\
         location = /wp-login.php {{ if ($request_method = POST) {{ return 302 /wp-admin/; }} return 200 'login'; }}\n\
         location ~ ^/wp-(admin|json)/ {{ return 200 'well'; }} }}\n\
         server {{ listen 80 default_server; listen [::]:80 default_server; listen 443 ssl default_server; {other_names} }}\n}}\n",
    );
    stage.file("nginx.conf", &config)?;
    stage.start("nginx", host, "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf")?;
    stage.await_port("nginx", host, 80)
}

/// A page that links to three others; every eighth links to one that is gone.
fn page(number: usize) -> String {
    let links = (1..=3).fold(String::new(), |mut links, link| {
        // Writing to a String does not fail.
        let _ = write!(links, "<a href=/page{}.html>more</a>", (number * 3 + link) % PAGES);
        links
    });
    let gone = if number % 8 == 7 { format!("<a href=/gone{number}.html>old</a>") } else { String::new() };
    format!(
        "<html><head><title>Page {number}</title><link rel=stylesheet href=/style.css></head><body>\
         <img src=/logo.png>{links}{gone}<a href=\"/item?id={number}\">buy</a></body></html>\n"
    )
}

/// A name server of one zone with a few names, of which it gives the whole to nobody.
pub(super) fn zone(stage: &mut Stage<'_>) -> Result<()> {
    stage.file("words", WORDS)?;
    nsd(stage, &["shop.test".to_owned()], "")
}

/// A name server of many zones, which the scanning host may have as a whole.
pub(super) fn zones(stage: &mut Stage<'_>) -> Result<()> {
    let names: Vec<_> = (0..ZONES).map(|number| format!("zone{number}.test")).collect();
    nsd(stage, &names, " provide-xfr: {scanner} NOKEY\n")
}

fn nsd(stage: &mut Stage<'_>, zones: &[String], allowed: &str) -> Result<()> {
    let mut records =
        "@ MX 10 mail\n@ A 192.0.2.1\nns1 A 10.77.0.1\nmail A 192.0.2.2\nwww A 192.0.2.3\napi A 192.0.2.4\n"
            .to_owned();
    for host in 0..HOSTS {
        writeln!(records, "host{host} A 192.0.2.{}", host + 5)?;
    }
    let zones: Vec<_> = zones.iter().map(|zone| (zone.as_str(), records.as_str())).collect();
    serve_zones(stage, &zones, allowed)
}

/// A name server of these zones with these records.
pub(super) fn serve_zones(stage: &mut Stage<'_>, zones: &[(&str, &str)], allowed: &str) -> Result<()> {
    let mut config = "server:\n ip-address: 0.0.0.0\n username: \"\"\n zonesdir: {dir}\n database: \"\"\n pidfile: {dir}/nsd.pid\n \
         xfrdfile: {dir}/xfrd\n xfrdir: {dir}\n zonelistfile: {dir}/zones\n server-count: 1\nremote-control:\n control-enable: no\n"
        .to_owned();
    for (zone, records) in zones {
        let text =
            format!("$ORIGIN {zone}.\n$TTL 300\n@ SOA ns1 admin 1 3600 600 86400 300\n@ NS ns1\n{records}");
        let file = stage.file(zone, &text)?;
        write!(config, "zone:\n name: {zone}\n zonefile: {file}\n{allowed}")?;
    }
    stage.file("nsd.conf", &stage.fill(&config))?;
    let host = &stage.lab.victim;
    stage.start("nsd", host, "nsd -d -c {dir}/nsd.conf")?;
    stage.await_port("nsd", host, 53)
}
