//! Visitors of a web site, and those who ask a name server.

use std::{fmt::Write as _, thread, time::Duration};

use anyhow::Result;

use crate::{
    fixtures::stage::Stage,
    matrix::cases::servers::{HOSTS, PAGES, ZONES},
};

/// Headers that a browser sends along.
const HEADERS: &str =
    "-A {browser} -H Accept:text/html,*/*;q=0.8 -H Accept-Language:en -H Upgrade-Insecure-Requests:1";

/// Fails where a link is dead.
fn wget(stage: &Stage<'_>, arguments: &str) -> Result<()> {
    let ended = stage.client(&format!("wget -q --mirror -e robots=off -P {{dir}}/mirror {arguments}"));
    let pages = stage.directory().join("mirror/10.77.0.1/page59.html");
    if pages.exists() { Ok(()) } else { ended }
}

pub(super) fn mirror(stage: &mut Stage<'_>) -> Result<()> {
    wget(stage, "http://{victim}/")
}

pub(super) fn mirror_tls(stage: &mut Stage<'_>) -> Result<()> {
    wget(stage, "--no-check-certificate https://{victim}/")
}

pub(super) fn load(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("wrk -t 1 -c 20 -d 5s http://{victim}/page7.html")
}

/// Icons are asked for with each page by some; one who looks for the login of a site that has none is no scanner.
pub(super) fn browser(stage: &mut Stage<'_>) -> Result<()> {
    stage.client(&format!(
        "curl -s {HEADERS} -e http://{{victim}}/ http://{{victim}}/page[0-{}].html http://{{victim}}/style.css http://{{victim}}/logo.png",
        PAGES - 1
    ))?;
    let icons = [
        "favicon.ico",
        "robots.txt",
        "apple-touch-icon.png",
        "apple-touch-icon-precomposed.png",
        "apple-touch-icon-120x120.png",
        "apple-touch-icon-120x120-precomposed.png",
        "site.webmanifest",
        "browserconfig.xml",
        "ads.txt",
        "sitemap.xml",
        ".well-known/security.txt",
        ".well-known/change-password",
        "administrator/",
        "phpmyadmin",
    ];
    for icon in icons {
        stage.client(&format!("curl -s {HEADERS} http://{{victim}}/{icon}"))?;
    }
    Ok(())
}

fn every_200_ms(stage: &Stage<'_>, path: &str) -> Result<()> {
    for _ in 0..50 {
        stage.client(&format!("curl -s -A uptime/1.0 -o /dev/null http://{{victim}}/{path}"))?;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

pub(super) fn monitor(stage: &mut Stage<'_>) -> Result<()> {
    every_200_ms(stage, "page1.html")
}

pub(super) fn monitor_gone(stage: &mut Stage<'_>) -> Result<()> {
    every_200_ms(stage, "healthz")
}

/// His editor calls the site's API all the time.
pub(super) fn editor(stage: &mut Stage<'_>) -> Result<()> {
    for password in ["first", "second", "right"] {
        stage.client(&format!("curl -s {HEADERS} http://{{victim}}/wp-login.php"))?;
        stage
            .client(&format!("curl -s {HEADERS} -d log=me&pwd={password} http://{{victim}}/wp-login.php"))?;
    }
    for path in
        ["wp-admin/", "wp-admin/post.php?post=[1-20]&action=edit", "wp-json/wp/v2/posts/[1-40]?context=edit"]
    {
        stage.client(&format!("curl -s {HEADERS} http://{{victim}}/{path}"))?;
    }
    stage.client(&format!("curl -s {HEADERS} http://{{victim}}/wp-admin/admin-ajax.php?tick=[1-20]"))
}

/// Several libraries and versions of TLS, as many people behind one NAT have.
pub(super) fn many_kinds(stage: &mut Stage<'_>) -> Result<()> {
    let kinds = [
        "curl -sk -o /dev/null https://{victim}/",
        "curl -sk --tls-max 1.2 -o /dev/null https://{victim}/",
        "curl -sk --http1.1 -o /dev/null https://{victim}/",
        "curl -sk --ciphers ECDHE+AESGCM -o /dev/null https://{victim}/",
        "curl -sk --tls13-ciphers TLS_AES_128_GCM_SHA256 -o /dev/null https://{victim}/",
        "curl -sk -o /dev/null --resolve shop.test:443:{victim} https://shop.test/",
        "wget -q --no-check-certificate -O /dev/null https://{victim}/",
        "wget -q --no-check-certificate --secure-protocol=TLSv1_2 -O /dev/null https://{victim}/",
        "openssl s_client -connect {victim}:443",
        "openssl s_client -tls1_2 -connect {victim}:443",
        "openssl s_client -curves P-256 -connect {victim}:443",
        "openssl s_client -alpn http/1.1 -connect {victim}:443",
    ];
    kinds.iter().try_for_each(|kind| stage.client(kind))
}

pub(super) fn resolver(stage: &mut Stage<'_>) -> Result<()> {
    let names = (0..ZONES * HOSTS).fold(String::new(), |mut names, number| {
        let (zone, host) = (number % ZONES, number / ZONES);
        let host = if host % 10 == 9 { format!("gone{host}") } else { format!("host{host}") };
        // Writing to a String does not fail.
        let _ = writeln!(names, "{host}.zone{zone}.test");
        names
    });
    stage.file("names", &names)?;
    stage.client("dig @{victim} +short +tries=1 -f {dir}/names")
}

pub(super) fn secondary(stage: &mut Stage<'_>) -> Result<()> {
    (0..5).try_for_each(|zone| {
        stage.client(&format!("dig @{{victim}} +short SOA zone{zone}.test"))?;
        stage.client(&format!("dig @{{victim}} +short AXFR zone{zone}.test"))
    })
}
