//! Clients of web sites and of applications that speak HTTP.

use std::{fmt::Write as _, fs, thread, time::Duration};

use anyhow::Result;

use super::{Case, Step, addresses, honest};
use crate::{
    fixtures::{clients::serve_upgrades, stage::Stage, visitor::Visitor},
    matrix::cases::servers,
};

/// Another client of the same host.
const OTHER: &str = "10.77.0.66";

const fn site(report: &'static str, name: &'static str, packets: u32, prepare: Step, act: Step) -> Case {
    honest("web sites and applications", report, name, packets, act).after(prepare)
}

/// nginx on port 80: each pattern of paths has an answer, the first that matches, and all others are there.
fn serve(stage: &mut Stage<'_>, answers: &[(&str, u16)]) -> Result<()> {
    serve_hosts(stage, &[("_", answers)])
}

/// The same for several virtual hosts, the first of which is for all other names.
fn serve_hosts(stage: &mut Stage<'_>, hosts: &[(&str, &[(&str, u16)])]) -> Result<()> {
    let mut servers = String::new();
    for (number, (name, answers)) in hosts.iter().enumerate() {
        let default = if number == 0 { " default_server" } else { "" };
        writeln!(servers, "server {{ listen 80{default}; server_name {name};")?;
        for (pattern, status) in *answers {
            writeln!(servers, "location ~ \"{pattern}\" {{ return {status} 'here\\n'; }}")?;
        }
        writeln!(servers, "location / {{ return 200 'a page\\n'; }} }}")?;
    }
    let config = format!(
        "daemon off; master_process off; pid nginx.pid;\nevents {{ worker_connections 512; }}\n\
         http {{\naccess_log off; client_max_body_size 10m; server_names_hash_bucket_size 128;\n\
         client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         {servers}}}\n"
    );
    stage.file("nginx.conf", &config)?;
    let host = &stage.lab.victim;
    stage.start("nginx", host, "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf")?;
    stage.await_port("nginx", host, 80)
}

fn visitor<'l>(stage: &Stage<'l>) -> Visitor<'l> {
    Visitor::new(&stage.lab.scanner)
}

/// A digest, another for each number.
fn digest(number: u64) -> String {
    let part = |factor: u64| number.wrapping_add(1).wrapping_mul(factor);
    format!("{:016x}{:016x}", part(0x9e37_79b9_7f4a_7c15), part(0x0dbd_a4d1_96b5_1337))
}

/// A UUID, another for each number.
fn uuid(number: u64) -> String {
    let digits = digest(number);
    format!(
        "{}-{}-4{}-a{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[13..16],
        &digits[17..20],
        &digits[20..32]
    )
}

pub(super) const CASES: &[Case] = &[
    site(
        "coreruleset/coreruleset#4776",
        "Mastodon and other servers, whose hosts have names of scanners in theirs, fetch a page",
        8,
        |stage| serve(stage, &[]),
        |stage| {
            for host in ["damassine.social", "wildernessus.example", "jazzmap.example", "nikto.example"] {
                let agent = format!("Mastodon/4.5.11 (http.rb/5.3.1; +https://{host}/)");
                visitor(stage).called(&agent).get("/page1.html", 200)?;
            }
            Ok(())
        },
    )
    .tested(),
    site(
        "apache/incubator-kie-issues#1750",
        "Maven asks for 120 artifacts that another repository has, and for 12 that are here",
        100,
        |stage| serve(stage, &[("/g[0-9]+/", 404)]),
        |stage| {
            let mut maven = visitor(stage).called("Apache-Maven/3.9.9 (Java 21.0.4; Linux 6.8)");
            for artifact in 0..132 {
                let (group, status) = if artifact % 11 == 10 { ("ours", 200) } else { ("g1", 404) };
                maven.get(&format!("/repository/org/{group}/a{artifact}/1.{artifact}/a{artifact}-1.{artifact}.pom"), status)?;
            }
            Ok(())
        },
    ),
    site(
        "bunkerweb/bunkerweb#3896",
        "a browser with its developer tools open asks for the maps of 70 scripts",
        100,
        |stage| serve(stage, &[("[.]map$", 404)]),
        |stage| {
            let mut browser = visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/");
            (0..70).try_for_each(|chunk| browser.get(&format!("/assets/chunk-{chunk}.js"), 200))?;
            // Later than the slice of ten seconds in which the scripts came.
            thread::sleep(Duration::from_secs(11));
            let mut tools = visitor(stage).called("Mozilla/5.0");
            (0..70).try_for_each(|chunk| tools.get(&format!("/assets/chunk-{chunk}.js.map"), 404))?;
            tools.get("/", 200)
        },
    ),
    site(
        "crowdsecurity/hub#735",
        "a Jellyfin app asks for the pictures of 95 items, of which 80 have none",
        80,
        |stage| serve(stage, &[("^/Items/.*[0-9]/Images", 404), ("^/Sessions", 403)]),
        |stage| {
            let mut app = visitor(stage).called("Jellyfin-Android/2.6");
            for item in 0..95 {
                let (end, status) = if item % 6 == 0 { ("a", 200) } else { ("0", 404) };
                app.get(&format!("/Items/{}{end}/Images/Primary?maxHeight=300", &digest(item)[..31]), status)?;
            }
            (0..20).try_for_each(|_| app.ask("POST", "/Sessions/Playing/Progress", b"{}", 403))?;
            app.get("/System/Info/Public", 200)
        },
    )
    .tested(),
    site(
        "crowdsecurity/hub#547",
        "a Matrix client catches up: 80 of 100 things are not there, as the protocol says",
        80,
        |stage| serve(stage, &[("/account_data/|/thumbnail/|/profile/", 404)]),
        |stage| {
            let mut element = visitor(stage).called("Element/1.11.80 (Linux)");
            for room in 0..60 {
                let room = format!("!OGEhHVWSdvArJz{room}:matrix.example");
                let user = "@me:matrix.example";
                element.get(&format!("/_matrix/client/v3/user/{user}/rooms/{room}/account_data/m.fully_read"), 404)?;
            }
            for file in 0..20 {
                let file = digest(file);
                element.get(&format!("/_matrix/client/v1/media/thumbnail/matrix.example/{file}"), 404)?;
            }
            (0..20).try_for_each(|step| element.get(&format!("/_matrix/client/v3/sync?since=s{step}"), 200))
        },
    ),
    site(
        "bazelbuild/bazel#16454",
        "a build asks its cache for 200 actions, none of which is there, and stores them",
        240,
        |stage| serve(stage, &[("^/ac/", 404)]),
        |stage| {
            let mut bazel = visitor(stage).called("bazel/7.4.0");
            (0..200).try_for_each(|action| bazel.get(&format!("/ac/{}", digest(action)), 404))?;
            (0..200).try_for_each(|action| bazel.ask("PUT", &format!("/cas/{}", digest(action)), b"result", 200))
        },
    ),
    site(
        "crowdsecurity/crowdsec#3462",
        "a monitor polls the first pages of 45 virtual hosts, of which 36 have none; users use them",
        120,
        |stage| {
            addresses(stage, &[OTHER])?;
            let names: Vec<_> = (0..45).map(|number| format!("s{number}.corp.test")).collect();
            let mut hosts: Vec<(&str, &[(&str, u16)])> = vec![("_", &[("", 404)])];
            for (number, name) in names.iter().enumerate() {
                hosts.push((name, if number < 36 { &[("^/$", 404)] } else { &[] }));
            }
            serve_hosts(stage, &hosts)
        },
        |stage| {
            let (mut user, mut monitor) = (visitor(stage).from(OTHER), visitor(stage).called("Uptime-Kuma/2.0"));
            for number in 0..45 {
                user.turn_to(&format!("s{number}.corp.test"));
                user.get("/app/", 200)?;
            }
            for number in (0..45).chain(0..45) {
                monitor.turn_to(&format!("s{number}.corp.test"));
                monitor.get("/", if number < 36 { 404 } else { 200 })?;
            }
            Ok(())
        },
    )
    .tested(),
    site(
        "fail2ban/fail2ban#1550",
        "the browser of an app writes absolute targets of this very site, also of three articles that are gone",
        12,
        |stage| {
            addresses(stage, &[OTHER])?;
            serve(stage, &[("^/gone", 404)])
        },
        |stage| {
            visitor(stage).from(OTHER).get("/page1.html", 200)?;
            let mut app = visitor(stage).called("Mozilla/5.0 [FBAN/FBIOS;FBAV/61.0]");
            (0..3).try_for_each(|page| app.get(&format!("http://shop.test:80/gone{page}"), 404))?;
            app.get("http://SHOP.test/page2.html", 200)
        },
    )
    .tested(),
    site(
        "grafana/grafana#57656",
        "a dashboard sends the SQL of twelve panels in its URLs, twice",
        24,
        |stage| serve(stage, &[]),
        |stage| {
            let mut browser = visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/d/1/load");
            for panel in (0..12).chain(0..12) {
                browser.get(
                    &format!(
                        "/api/datasources/proxy/1/query?query=SELECT+table_name+FROM+information_schema.tables+where+t>{panel}+and+1=1"
                    ),
                    200,
                )?;
            }
            Ok(())
        },
    ),
    site(
        "Automattic/jetpack#9312",
        "a WordPress app looks for the interface of a hardened blog, which refuses it",
        8,
        |stage| serve(stage, &[("^/(xmlrpc[.]php|wp-)", 403)]),
        |stage| {
            let mut app = visitor(stage).called("wp-iphone/25.1");
            app.ask("HEAD", "/", b"", 200)?;
            app.ask("POST", "/xmlrpc.php", b"<methodCall/>", 403)?;
            for path in ["/xmlrpc.php?rsd", "/wp-login.php", "/wp-admin/", "/wp-json/"] {
                app.get(path, 403)?;
            }
            app.get("/", 200)
        },
    ),
    site(
        "fail2ban/fail2ban#1784",
        "thirty people behind one address, three of whom each look for one application that is not here",
        60,
        |stage| serve(stage, &[("^/(wp-login[.]php|phpmyadmin|administrator)", 404)]),
        |stage| {
            for person in 0..30 {
                let mut browser = visitor(stage).called(&format!("Mozilla/5.0 (person {person})"));
                browser.get(&format!("/page{person}.html"), 200)?;
                match person {
                    3 => browser.get("/wp-login.php", 404)?,
                    12 => browser.get("/phpmyadmin/", 404)?,
                    21 => browser.get("/administrator/", 404)?,
                    _ => {}
                }
                thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        },
    ),
    site(
        "FreshRSS/FreshRSS#6973",
        "a reader refreshes 67 feeds, of which 55 are gone for good",
        60,
        |stage| serve(stage, &[("^/old", 410), ("^/new.*atom", 200)]),
        |stage| {
            let mut reader = visitor(stage).called("FreshRSS/1.26.1 (Linux; https://freshrss.org)");
            (0..55).try_for_each(|feed| reader.get(&format!("/old/blog{feed}/feed"), 410))?;
            (0..12).try_for_each(|feed| reader.get(&format!("/new/blog{feed}/atom.xml"), 200))
        },
    ),
    site(
        "fbonalair/traefik-crowdsec-bouncer#31",
        "Windows opens 25 folders over WebDAV and asks for four files in each, which are not there",
        100,
        |stage| serve(stage, &[("(desktop[.]ini|folder[.]jpg|Thumbs[.]db|AutoRun[.]inf)$", 404), ("^/dav/", 207)]),
        |stage| {
            let mut windows =
                visitor(stage).called("Microsoft-WebDAV-MiniRedir/10.0.22631").with("Depth", "0");
            for folder in 0..25 {
                windows.ask("PROPFIND", &format!("/dav/folder{folder}/"), b"", 207)?;
                for file in ["desktop.ini", "folder.jpg", "Thumbs.db", "AutoRun.inf"] {
                    windows.ask("PROPFIND", &format!("/dav/folder{folder}/{file}"), b"", 404)?;
                }
            }
            Ok(())
        },
    ),
    site(
        "crowdsecurity/hub#366",
        "Nextcloud's page asks for 60 old paths once more after a folder was renamed",
        60,
        |stage| serve(stage, &[("^/dav/old", 404), ("^/dav/", 207)]),
        |stage| {
            let mut page = visitor(stage).called("Mozilla/5.0").with("Depth", "0");
            (0..60).try_for_each(|file| page.ask("PROPFIND", &format!("/dav/old/report{file}.odt"), b"", 404))?;
            (0..15).try_for_each(|file| page.ask("PROPFIND", &format!("/dav/new/report{file}.odt"), b"", 207))
        },
    ),
    site(
        "Finsys/dockhand#1467",
        "a picker loads 120 icons, of which 100 cannot be had",
        100,
        |stage| serve(stage, &[("^/api/icons/refused", 403)]),
        |stage| {
            let mut browser = visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/logos");
            (0..120).try_for_each(|icon| {
                let (name, status) = if icon % 6 == 0 { ("there", 200) } else { ("refused", 403) };
                browser.get(&format!("/api/icons/{name}{icon}"), status)
            })
        },
    ),
    site(
        "mitchellkrogza/nginx-ultimate-bad-bot-blocker#534",
        "a search engine follows a broken link on each of 60 pages",
        80,
        |stage| serve(stage, &[("tel:", 404)]),
        |stage| {
            let mut bot = visitor(stage).called("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)");
            (0..60).try_for_each(|page| {
                bot.get(&format!("/page{page}"), 200)?;
                bot.get(&format!("/page{page}/tel:58656{page}"), 404)
            })
        },
    ),
    site(
        "crowdsecurity/crowdsec#1464",
        "a Mattermost client logs in: 45 calls at once, a third of which fail",
        40,
        |stage| serve(stage, &[("^/api/v4/no", 403)]),
        |stage| {
            let mut app = visitor(stage).called("Mattermost/5.9 (Desktop)");
            (0..45).try_for_each(|call| {
                let (name, status) = if call % 3 == 0 { ("no", 403) } else { ("yes", 200) };
                app.get(&format!("/api/v4/{name}{call}"), status)
            })
        },
    ),
    site(
        "crowdsecurity/hub#1163",
        "apps of a NAS ask for 60 covers, of which 40 are missing, and for 20 things that they may not have",
        60,
        |stage| serve(stage, &[("^/cover/no", 404), ("^/webapi/entry", 403)]),
        |stage| {
            let mut app = visitor(stage).called("DS audio/4.20");
            for cover in 0..60 {
                let (name, status) = if cover % 3 == 2 { ("yes", 200) } else { ("no", 404) };
                app.get(&format!("/cover/{name}{cover}.jpg"), status)?;
            }
            (0..20).try_for_each(|_| app.get("/webapi/entry.cgi?api=SYNO.AudioStation", 403))
        },
    ),
    site(
        "crowdsecurity/crowdsec#3561",
        "the Immich app uploads 60 pictures and asks for the thumbnail of each before it is there",
        160,
        |stage| serve(stage, &[("^/api/assets$", 201), ("/thumbnail$", 404)]),
        |stage| {
            let mut app = visitor(stage).called("Immich_Android_1.126");
            let picture = vec![b'x'; 50_000];
            (0..60).try_for_each(|_| app.ask("POST", "/api/assets", &picture, 201))?;
            (0..60).try_for_each(|asset| app.get(&format!("/api/assets/{}/thumbnail", uuid(asset)), 404))?;
            app.get("/api/server/ping", 200)
        },
    ),
    site(
        "owasp-modsecurity/ModSecurity#2149",
        "a reader of titles that end in dots, and of a page that is called by four of them",
        8,
        |stage| serve(stage, &[]),
        |stage| {
            let mut reader = visitor(stage).called("Mozilla/5.0");
            for target in
                ["/a.../1", "/b..c/2", "/?dataname=..", "/wiki/...", "/wiki/....", "/wiki/....?edit", "/wiki/..../talk"]
            {
                reader.get(target, 200)?;
            }
            Ok(())
        },
    )
    .tested(),
    site(
        "Wikid82/Charon#939",
        "an administrator with too few rights opens a panel, whose twelve parts ask again each second",
        80,
        |stage| serve(stage, &[("^/api/", 403)]),
        |stage| {
            let mut panel = visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/admin");
            for _ in 0..12 {
                (0..12).try_for_each(|part| panel.get(&format!("/api/v1/part{part}"), 403))?;
                thread::sleep(Duration::from_secs(1));
            }
            panel.get("/admin", 200)
        },
    ),
    site(
        "stamparm/maltrail#19355",
        "FreshRSS shows 100 icons by one script",
        80,
        |stage| serve(stage, &[]),
        |stage| {
            let mut reader = visitor(stage).called("Mozilla/5.0");
            (0..100).try_for_each(|icon| reader.get(&format!("/p/f.php?h={icon:08x}"), 200))
        },
    ),
    site(
        "fosrl/pangolin#3054",
        "a page fetches the targets of all its 120 links ahead",
        100,
        |stage| serve(stage, &[]),
        |stage| {
            let mut browser = visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/");
            (0..120).try_for_each(|link| browser.get(&format!("/page{link}?_rsc=1"), 200))
        },
    ),
    site(
        "crowdsecurity/crowdsec#4491",
        "Safari makes a folder in Nextcloud and loads 60 previews",
        60,
        |stage| serve(stage, &[("^/dav/new", 201), ("^/preview/no", 404), ("^/dav/", 207)]),
        |stage| {
            let mut safari = visitor(stage).called("Mozilla/5.0 (Macintosh) Safari/605.1.15");
            safari.ask("MKCOL", "/dav/new", b"", 201)?;
            for file in 0..60 {
                safari.ask("PROPFIND", &format!("/dav/file{file}"), b"", 207)?;
                let (name, status) = if file % 12 == 0 { ("no", 404) } else { ("yes", 200) };
                safari.get(&format!("/preview/{name}{file}"), status)?;
            }
            Ok(())
        },
    ),
    site(
        "crowdsecurity/crowdsec#1451",
        "a phone fetches 150 contacts one by one",
        120,
        |stage| serve(stage, &[]),
        |stage| {
            let mut phone = visitor(stage).called("iOS/18.1 (22B83) dataaccessd/1.0");
            (0..150).try_for_each(|contact| phone.get(&format!("/carddav/{}.vcf", uuid(contact)), 200))
        },
    ),
    site(
        "crowdsecurity/hub#1774",
        "a client of a code forge asks for twelve submodules, and is sent elsewhere",
        12,
        |stage| serve(stage, &[("[.]git$", 302)]),
        |stage| {
            let mut git = visitor(stage).called("git/2.47.0");
            (0..12).try_for_each(|module| git.ask("HEAD", &format!("/group/repo{module}.git"), b"", 302))
        },
    ),
    site(
        "crowdsecurity/hub#1785",
        "an application has paths that backdoors are called by, too",
        12,
        |stage| serve(stage, &[]),
        |stage| {
            let mut client = visitor(stage).called("Mozilla/5.0");
            for path in ["/v1.php", "/info.php", "/test.php", "/console/", "/ocs/v1.php", "/ocs/v2.php"].repeat(3) {
                client.get(path, 200)?;
            }
            Ok(())
        },
    ),
    site(
        "coreruleset/coreruleset#4452",
        "a browser loads ten scripts whose names have those of secret files in them",
        8,
        |stage| serve(stage, &[]),
        |stage| {
            let mut browser = visitor(stage).called("Mozilla/5.0");
            for path in ["framework.pack.js", "jquery.history.min.js", "env.js", "config.phpx", "wp-login.php.css"] {
                browser.get(&format!("/assets/{path}"), 200)?;
                browser.get(&format!("/static/{path}"), 200)?;
            }
            Ok(())
        },
    ),
    site(
        "coreruleset/coreruleset#4783",
        "twenty devices whose User-Agents look odd",
        24,
        |stage| serve(stage, &[]),
        |stage| {
            for number in 0..5 {
                for agent in ["AppleTV6,2/11.1", "PO#8700/1", &digest(number), "okhttp/4 xfa10"] {
                    let mut device = visitor(stage).called(agent);
                    (0..3).try_for_each(|page| device.get(&format!("/page{page}"), 200))?;
                }
            }
            Ok(())
        },
    ),
    site(
        "coreruleset/coreruleset#1838",
        "WebDAV with bodies of more than one segment: SEARCH, REPORT, MKCALENDAR, PROPFIND",
        12,
        |stage| serve(stage, &[("^/.well-known", 207)]),
        |stage| {
            let body = format!("<d:propfind xmlns:d=\"DAV:\">{}</d:propfind>", "y".repeat(3_000));
            let mut client = visitor(stage).called("Thunderbird/128.4");
            for method in ["SEARCH", "REPORT", "MKCALENDAR", "PROPFIND"].repeat(3) {
                client.ask(method, "/.well-known/carddav", body.as_bytes(), 207)?;
            }
            Ok(())
        },
    ),
    site(
        "major7apps/pensyve#202",
        "notes whose text looks like attacks are saved",
        8,
        |stage| serve(stage, &[("^/notes", 201)]),
        |stage| {
            let mut editor = visitor(stage).called("Mozilla/5.0");
            (0..10).try_for_each(|_| {
                editor.ask("POST", "/notes", b"{\"text\": \"../../x ${jndi:ldap://x} <script>\"}", 201)
            })
        },
    ),
    site(
        "coreruleset/coreruleset#3750",
        "searches for prose with the words of SQL",
        16,
        |stage| serve(stage, &[]),
        |stage| {
            let mut user = visitor(stage).called("Mozilla/5.0");
            for words in ["Take+a+left+(1+mile)", "Union+von+Europa", "4.+Select+one", "rock+and+1+=+one"].repeat(5) {
                user.get(&format!("/?q={words}"), 200)?;
            }
            Ok(())
        },
    ),
    site(
        "crowdsecurity/crowdsec#4518",
        "a social network previews a link that somebody has posted",
        16,
        |stage| serve(stage, &[]),
        |stage| {
            let mut bot = visitor(stage)
                .called("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)")
                .with("Range", "bytes=0-524287");
            bot.ask("HEAD", "/article", b"", 200)?;
            (0..20).try_for_each(|query| {
                bot.get(&format!("/article?fbclid={}{}", digest(query), "a".repeat(300)), 200)
            })
        },
    ),
    site(
        "AdguardTeam/AdGuardHome#1639",
        "TLS clients of five kinds, thirty hellos each",
        200,
        servers::site,
        |stage| {
            let kinds = [
                "curl -sk -o /dev/null https://{victim}/page[1-30].html",
                "wget -q --no-check-certificate -O /dev/null https://{victim}/",
                "openssl s_client -connect {victim}:443",
                "curl -sk --tls-max 1.2 -o /dev/null https://{victim}/",
                "curl -sk --http1.1 -H Connection:close -o /dev/null https://{victim}/page[1-30].html",
            ];
            kinds.iter().try_for_each(|kind| stage.client(kind))?;
            (0..29).try_for_each(|_| stage.client(kinds[2]))
        },
    ),
    site(
        "SignalK/signalk-server#2728",
        "a stream that is no HTTP any more after an upgrade, in which somebody types requests",
        16,
        |stage| {
            let server = serve_upgrades(&stage.lab.victim, 8080)?;
            stage.keep(server);
            Ok(())
        },
        |stage| {
            let mut client = visitor(stage).port(8080).with("Connection", "Upgrade").with("Upgrade", "tcp");
            client.ask("POST", "/containers/1/attach?stream=1", b"", 101)?;
            for _ in 0..20 {
                client.send(b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n")?;
                thread::sleep(Duration::from_millis(20));
                client.send(b"GET /.git/HEAD HTTP/1.1\r\nHost: a\r\n\r\n")?;
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        },
    )
    .tested(),
    site(
        "SpiderLabs/owasp-modsecurity-crs#1737",
        "Jetpack posts to a blog that refuses it",
        8,
        |stage| serve(stage, &[("^/$", 403)]),
        |stage| {
            let mut jetpack = visitor(stage).called("Jetpack by WordPress.com").with("Referer", "http://shop.test/");
            (0..10).try_for_each(|_| {
                jetpack.ask("POST", "/?for=jetpack&token=1", b"<?xml version=\"1.0\"?><methodCall/>", 403)
            })
        },
    ),
    site(
        "roots/trellis#1687",
        "an administrator's page polls with the login as its referer",
        24,
        |stage| serve(stage, &[("^/wp-login", 302)]),
        |stage| {
            let mut browser =
                visitor(stage).called("Mozilla/5.0").with("Referer", "http://shop.test/wp-login.php");
            browser.ask("POST", "/wp-login.php", b"log=me", 302)?;
            browser.ask("POST", "/wp-login.php?action=2fa", b"code=1", 302)?;
            (0..30).try_for_each(|_| browser.ask("POST", "/wp-admin/admin-ajax.php", b"action=heartbeat", 200))
        },
    ),
    site(
        "ovh/infrastructure-roadmap#120",
        "a neighbour in the /64 of a client that is banned",
        12,
        servers::site,
        |stage| {
            addresses(stage, &["fd77::66", "fd77::77"])?;
            // What becomes of the other does not matter here.
            for path in [".env", ".git/HEAD", ".aws/credentials"] {
                let _ = stage.client(&format!("curl -s -m 2 --interface fd77::66 http://[{{victim6}}]/{path}"));
            }
            (0..5).try_for_each(|page| {
                stage.client(&format!("curl -s -m 5 --interface fd77::77 http://[{{victim6}}]/page{page}.html"))
            })
        },
    )
    .beside("fd77::66"),
    site(
        "ntop/ntopng#8632",
        "wget fetches a tree of 200 pages, a connection for each",
        320,
        |stage| {
            servers::site(stage)?;
            let tree = stage.directory().join("www/tree");
            fs::create_dir_all(&tree)?;
            let mut index = String::new();
            for page in 0..200 {
                writeln!(index, "<a href=page{page}.html>{page}</a>")?;
                fs::write(tree.join(format!("page{page}.html")), "a page")?;
            }
            Ok(fs::write(tree.join("index.html"), index)?)
        },
        |stage| {
            stage.client("wget -q -r --no-parent --no-http-keep-alive -P {dir}/copy http://{victim}/tree/index.html")
        },
    ),
];
