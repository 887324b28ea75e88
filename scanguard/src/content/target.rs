//! The target of a request, and its oddities. Requests on the wire and in access logs use the same code.
//!
//! The code decodes targets as servers and their applications may. It keeps only the path: it looks at queries and at
//! session ids in paths, and forgets them.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use percent_encoding::percent_decode_str;

use super::{
    Oddity, Request,
    attacks::{Attack, Attacks},
    parameters,
    sender::Shown,
    url::{absolute, host_of},
};

/// Methods that IANA has registered (RFC 9110, WebDAV and its extensions, PATCH, HTTP/2's preface).
const METHODS: [&str; 41] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    // This one is not registered, but caches in front of servers have it everywhere.
    "PURGE",
];

/// Parts of SQL that tools try and that no application writes into its links. They are in lower case; a blank stands for
/// `+` and for SQL's empty comment, too. They are few and long on purpose: a shop's search for "select" is none.
const SQL: [&str; 15] = [
    "union select",
    "union all select",
    "';waitfor delay",
    "; waitfor delay",
    "pg_sleep(",
    "select sleep(",
    "and sleep(",
    "or sleep(",
    "benchmark(5",
    "information_schema.",
    "extractvalue(",
    "updatexml(",
    "xp_cmdshell",
    "dbms_pipe.",
    "utl_inaddr.",
];

/// The same of scripts for browsers.
const SCRIPTS: [&str; 6] =
    ["<script", "</script", "<svg/onload", "<svg onload", "onerror=alert", "javascript:alert"];

/// The same of commands, of files of the system, and of code for the server.
const COMMANDS: [&str; 19] = [
    "/etc/passwd",
    "/etc/shadow",
    "/bin/sh",
    "/bin/bash",
    "cmd.exe",
    "$(id)",
    "`id`",
    ";id;",
    "|id|",
    "php://input",
    "php://filter",
    "expect://",
    "auto_prepend_file",
    "<?php",
    "base64_decode(",
    "class.module.classloader",
    "java.lang.runtime",
    "invokefunction&function",
    "\0",
];

/// Those of them that no statement of SQL has.
const OTHERS: [&str; 8] =
    ["<script", "</script", "/etc/passwd", "/etc/shadow", "/bin/sh", "/bin/bash", "xp_cmdshell", "<?php"];

/// Bytes that disguise others in a target: IIS's `%u` and UTF-8 that is longer than necessary (CVE-2000-0884), in
/// lower case.
const DISGUISES: [(&str, &str); 9] = [
    ("%u002e", "."),
    ("%u002f", "/"),
    ("%u2215", "/"),
    ("%u005c", "\\"),
    ("%u2216", "\\"),
    ("%c0%ae", "."),
    ("%c0%af", "/"),
    ("%e0%80%ae", "."),
    ("%c1%9c", "\\"),
];

/// How often a target is decoded at most. Servers decode once; tools try twice.
const MOST_DECODINGS: usize = 3;
/// How many look-ups may be nested. Beyond this, it is none of the logging library's own configurations.
const MOST_NESTED: usize = 16;
/// How many bytes of a method, a path, a host and a user agent are kept. The code examines all of them.
const KEPT: [usize; 4] = [32, 1024, 255, 512];

/// The headers of a request that matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'h> {
    /// Host.
    pub host: Option<&'h str>,
    /// User-Agent.
    pub agent: Option<&'h str>,
    /// Those that tell whether a page sent the client.
    pub shown: Shown<'h>,
    /// Whether there are credentials.
    pub has_credentials: bool,
    /// Another header's value that has `${`, by which loggers look things up. Only whether it does, and a hash, are kept.
    pub looking_up: Option<&'h str>,
}

/// The target of a request, and its oddities, which no browser writes.
///
/// The path is decoded once, as servers do, and has no query, fragment or session id. An absolute target, and one of
/// CONNECT, is odd even if the Host header has the same name. Clients write these to a proxy, and a client that
/// searches for an open proxy writes the same name in both places. The tracker knows the names that are served here.
pub fn examine(method: &str, target: &str, headers: &Headers<'_>) -> Request {
    let Headers { host, agent, shown, has_credentials, looking_up } = *headers;
    let (authority, rest) = split(method, target);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = match path.split('#').next().unwrap_or_default() {
        "" if authority.is_some() => "/",
        path => path,
    };
    let is_known = METHODS.contains(&method);
    let is_token = !method.is_empty() && method.bytes().all(is_token_byte);
    let mut odd = Odd::default();
    odd.note(Oddity::Method, is_token && !is_known, method);
    odd.note(
        Oddity::Proxy,
        authority.is_some(),
        &format!("{method} {}{path}", authority.unwrap_or_default()),
    );
    odd.in_path(path);
    // Each parameter by itself, so that the same odd one is the same, whatever stands beside it.
    query.split('&').for_each(|parameter| odd.in_parameter(parameter));
    if climbs_in_query(&decodings(query)) {
        odd.note(Oddity::Traversal, true, query);
    }
    for text in [looking_up, host, agent, shown.referer].into_iter().flatten() {
        odd.note(Oddity::Jndi, asks_jndi(&text.to_lowercase()), text);
    }
    for text in [host, agent, shown.referer].into_iter().flatten() {
        let is_shell = text.contains("() {");
        odd.note(Oddity::Injection, is_shell, text);
        odd.attacks.join(Attacks::of(is_shell.then_some(Attack::Command)));
    }
    odd.note(Oddity::Binary, !is_token || target.contains(is_binary), target);
    let [method_bytes, path_bytes, host_bytes, agent_bytes] = KEPT;
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let host = authority.or(host).and_then(host_of).map(|host| cut(&host, host_bytes));
    Request {
        method: cut(method, method_bytes),
        path: cut(&without_parameters(&decoded), path_bytes),
        is_cut: false,
        target_port: authority
            .filter(|_| method != "CONNECT")
            .and_then(|authority| port_of(target, authority)),
        agent: agent.filter(|agent| !agent.is_empty()).map(|agent| cut(agent, agent_bytes)),
        referer: shown
            .referer
            .and_then(absolute)
            .and_then(|(authority, _)| host_of(authority))
            .map(|host| cut(&host, host_bytes)),
        sender: shown.sender(host.as_deref()),
        has_credentials,
        host,
        oddities: odd.kinds(),
        odd_part: odd.part(),
        attacks: odd.attacks,
        parameters: parameters::names(query),
        status: None,
    }
}

/// What is odd in a request.
#[derive(Default)]
struct Odd {
    found: [bool; Oddity::ALL.len()],
    attacks: Attacks,
    hasher: DefaultHasher,
}

impl Odd {
    fn note(&mut self, oddity: Oddity, is_so: bool, part: &str) {
        if is_so {
            self.found[oddity.index()] = true;
            (oddity, part).hash(&mut self.hasher);
            match oddity {
                Oddity::Traversal => self.attacks.add(Attack::Traversal),
                Oddity::Jndi => self.attacks.add(Attack::Jndi),
                _ => {}
            }
        }
    }

    fn in_path(&mut self, path: &str) {
        let seen = decodings(path);
        let has = |is: fn(&str) -> bool| seen.iter().any(|text| is(text));
        self.note(Oddity::Traversal, has(climbs), path);
        self.note(Oddity::Jndi, has(asks_jndi), path);
        self.inject(&seen, path);
    }

    fn in_parameter(&mut self, parameter: &str) {
        let seen = decodings(parameter);
        let has = |is: fn(&str) -> bool| seen.iter().any(|text| is(text));
        self.note(Oddity::Jndi, has(asks_jndi), parameter);
        if !is_statement(&seen) {
            self.inject(&seen, parameter);
        }
    }

    /// Notes what is injected in a part, by its decodings.
    fn inject(&mut self, seen: &[String], part: &str) {
        let found = Attacks::of(seen.iter().flat_map(|text| injections(text)));
        self.note(Oddity::Injection, found != Attacks::default(), part);
        self.attacks.join(found);
    }

    fn kinds(&self) -> Vec<Oddity> {
        Oddity::ALL.into_iter().filter(|oddity| self.found[oddity.index()]).collect()
    }

    fn part(&self) -> u64 {
        self.hasher.finish()
    }
}

/// How statements of SQL begin that somebody may send to a database that speaks HTTP.
const STATEMENTS: [&str; 8] =
    ["select ", "with ", "show ", "insert into ", "explain ", "describe ", "create ", "alter "];

/// Whether the whole value of a parameter is a statement of SQL, and has nothing but that. Databases with an interface
/// of HTTP take them (ClickHouse, InfluxDB, Druid). An injection is a part of SQL behind something else.
fn is_statement(parameter: &[String]) -> bool {
    let is_statement = |text: &String| {
        let value = text.split_once('=').map_or(text.as_str(), |(_, value)| value).replace('+', " ");
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        STATEMENTS.iter().any(|begin| value.starts_with(begin))
            && !OTHERS.iter().any(|part| value.contains(part))
    };
    parameter.last().is_some_and(is_statement)
}

/// The authority of a target that has one, and the rest of the target (RFC 9112, 3.2).
fn split<'t>(method: &str, target: &'t str) -> (Option<&'t str>, &'t str) {
    if method == "CONNECT" {
        return (Some(target), "");
    }
    match absolute(target) {
        Some((authority, rest)) => (Some(authority), rest),
        None => (None, target),
    }
}

/// The port of an authority, or that of the URI's scheme.
fn port_of(uri: &str, authority: &str) -> Option<u16> {
    let (_, rest) = authority.rsplit_once([']', '@']).unwrap_or(("", authority));
    let scheme = || match uri.split_once(':')?.0.to_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    match rest.rsplit_once(':') {
        Some((_, port)) if !port.is_empty() => port.parse().ok(),
        _ => scheme(),
    }
}

/// Removes parameters of path segments, which have session ids: `/cart;jsessionid=1` becomes `/cart`. A parameter
/// without a value stays, such as in `/..;/`.
fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(';') {
        return path.into();
    }
    let segments = path.split('/').map(|segment| match segment.split_once(';') {
        Some((name, parameters)) if parameters.contains('=') => name,
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/").into()
}

/// A text in lower case: undecoded, decoded once, twice and so on, until nothing changes.
fn decodings(text: &str) -> Vec<String> {
    let mut seen = vec![text.to_lowercase()];
    while seen.len() <= MOST_DECODINGS
        && let Some(last) = seen.last()
        && last.contains('%')
    {
        let plain = DISGUISES
            .iter()
            .filter(|(disguise, _)| last.contains(disguise))
            .fold(Cow::Borrowed(last), |text, (disguise, plain)| Cow::Owned(text.replace(disguise, plain)));
        let next = percent_decode_str(&plain).decode_utf8_lossy().to_lowercase();
        if next == *last {
            break;
        }
        seen.push(next);
    }
    seen
}

/// Whether a path leaves its directory.
///
/// Four dots are a name as any other: titles of pages end so. But a filter that takes `../` out of `....//` leaves
/// `../`.
fn climbs(path: &str) -> bool {
    let mut segments = path.split(['/', '\\']).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split([';', '\0']).next().unwrap_or_default().trim_end();
        let is_followed_by_two_slashes = segments.peek().is_some_and(|next| next.is_empty());
        match name {
            ".." => return true,
            "...." if is_followed_by_two_slashes && segments.clone().count() > 1 => return true,
            _ => {}
        }
    }
    false
}

/// Whether a query leaves its directory. It must do so twice at once: links of honest applications have a single `../`.
fn climbs_in_query(query: &[String]) -> bool {
    query.iter().any(|text| ["../../", "..\\..\\", "....//...."].iter().any(|up| text.contains(up)))
}

/// Whether log4j would look something up by JNDI in it. Inner look-ups that give letters are resolved, such as
/// `${lower:j}`, `${::-j}` and `${env:NONE:-j}`. The text is in lower case.
fn asks_jndi(text: &str) -> bool {
    if !text.contains("${") {
        return false;
    }
    let mut open: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '}']) {
        let (before, from) = rest.split_at(at);
        if let Some(inner) = open.last_mut() {
            inner.push_str(before);
        }
        rest = &from[1..];
        if let Some(after) = rest.strip_prefix('{').filter(|_| from.starts_with('$')) {
            if open.len() == MOST_NESTED {
                return true;
            }
            open.push(String::new());
            rest = after;
        } else if from.starts_with('}')
            && let Some(lookup) = open.pop()
        {
            if is_jndi(&lookup) {
                return true;
            }
            if let Some(outer) = open.last_mut() {
                outer.push_str(resolved(&lookup));
            }
        }
    }
    if let Some(inner) = open.last_mut() {
        inner.push_str(rest);
    }
    // The end may be cut off.
    open.iter().any(|lookup| is_jndi(lookup))
}

fn is_jndi(lookup: &str) -> bool {
    lookup.trim_start().starts_with("jndi:")
}

/// The result of a look-up that disguises a letter.
fn resolved(lookup: &str) -> &str {
    let letters = lookup.strip_prefix("lower:").or_else(|| lookup.strip_prefix("upper:"));
    match (letters, lookup.split_once(":-")) {
        // The upper case of a dotless i is a plain I.
        (Some("ı"), _) => "i",
        (Some(letters), _) => letters,
        (None, Some((_, default))) => default,
        (None, None) => "",
    }
}

/// The kinds of injection in a text.
fn injections(text: &str) -> impl Iterator<Item = Attack> {
    let text = text.replace('+', " ").replace("/**/", " ");
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let found = [
        (Attack::Sql, has(&SQL) || compares_numbers(&text)),
        (Attack::Script, has(&SCRIPTS)),
        (Attack::Command, has(&COMMANDS)),
    ];
    found.into_iter().filter_map(|(attack, is_so)| is_so.then_some(attack))
}

/// Whether there is ` and 4711=4711` or similar text. Tools use it to find out whether a parameter reaches SQL.
fn compares_numbers(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    [" and ", " or "].iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let after = text[at + word.len()..].trim_start_matches(['(', '\'', ' ']);
            let (left, rest) = after.split_at(digits(after));
            let right = rest.trim_start_matches(['\'', ' ']).strip_prefix('=');
            !left.is_empty() && right.is_some_and(|right| digits(right.trim_start_matches(['\'', ' '])) > 0)
        })
    })
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Raw letters beyond ASCII break the rules too, but careless programs write them. Bytes that are no text became
/// U+FFFD.
fn is_binary(char: char) -> bool {
    char.is_control() || char == char::REPLACEMENT_CHARACTER
}

/// The beginning of a text: at most this many bytes, and whole characters.
fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these headers: Host, User-Agent, Referer.
    fn with(method: &str, target: &str, headers: [Option<&str>; 3]) -> Request {
        let [host, agent, referer] = headers;
        examine(
            method,
            target,
            &Headers { host, agent, shown: Shown { referer, ..Shown::default() }, ..Headers::default() },
        )
    }

    fn of(method: &str, target: &str) -> Request {
        examine(method, target, &Headers::default())
    }

    #[test]
    fn paths_are_decoded_and_have_no_query_and_no_session() {
        let rows = [
            ("/", "/"),
            ("/a%20b/%C3%BC?token=secret", "/a b/ü"),
            ("/%2egit/HEAD#top", "/.git/HEAD"),
            ("/cart;jsessionid=0123;v=1/items?x", "/cart/items"),
            ("/..;/manager", "/..;/manager"),
            ("/100%", "/100%"),
            ("/%ff", "/\u{fffd}"),
            ("*", "*"),
            ("http://Example.org?secret", "/"),
            ("http://example.org/x?secret", "/x"),
            ("index.html", "index.html"),
            ("", ""),
        ];
        for (target, path) in rows {
            assert_eq!(of("GET", target).path, path, "{target}");
        }
        assert_eq!(of("GET", &"/ü".repeat(9_999)).path.len(), 1024);
    }

    #[test]
    fn hosts_are_names_only() {
        let rows = [
            (Some("Example.ORG:8080"), Some("example.org")),
            (Some("example.org."), Some("example.org")),
            (Some("[2001:DB8::1]:443"), Some("2001:db8::1")),
            (Some("2001:db8::1"), Some("2001:db8::1")),
            (Some("192.0.2.1"), Some("192.0.2.1")),
            (Some(":80"), None),
            (Some(""), None),
            (None, None),
        ];
        for (host, expected) in rows {
            assert_eq!(with("GET", "/", [host, None, None]).host.as_deref(), expected, "{host:?}");
        }
        let request = with("GET", "http://user:word@other.net:81/", [Some("a.org"), None, None]);
        assert_eq!(request.host.as_deref(), Some("other.net"), "the target is what counts (RFC 9112, 3.2.2)");
        let referers = [
            ("https://Search.example:8443/find?q=secret", Some("search.example")),
            ("android-app://com.example/", None),
            ("no address", None),
            ("", None),
        ];
        for (referer, expected) in referers {
            let request = with("GET", "/", [None, None, Some(referer)]);
            assert_eq!(request.referer.as_deref(), expected, "{referer}");
        }
    }

    #[test]
    fn absolute_targets_have_a_port() {
        let rows = [
            ("GET", "http://a.example/", Some(80)),
            ("GET", "HTTPS://a.example", Some(443)),
            ("GET", "http://user:1@a.example:8080/x", Some(8080)),
            ("GET", "http://user:1@a.example/x:2", Some(80)),
            ("GET", "http://[2001:db8::1]:81/", Some(81)),
            ("GET", "http://[2001:db8::1]/", Some(80)),
            ("GET", "http://a.example:/", Some(80)),
            ("GET", "http://a.example:x/", None),
            ("GET", "gopher://a.example/", None),
            ("GET", "/x", None),
            ("CONNECT", "a.example:443", None),
        ];
        for (method, target, port) in rows {
            assert_eq!(of(method, target).target_port, port, "{target}");
        }
    }

    #[test]
    fn attacks_are_of_several_kinds() {
        use Attack::{Command, Jndi, Script, Sql, Traversal};
        let rows: [(&str, &[Attack]); 6] = [
            ("/search?q=select+a+union", &[]),
            (
                "/?a=%3Cscript%3Ealert(1)&b=UNION+SELECT+ALL&c=..%2F..%2F..%2Fetc%2Fpasswd",
                &[Script, Sql, Traversal, Command],
            ),
            ("/?a=%3Csvg/onload=x", &[Script]),
            ("/?id=1+or+7=7", &[Sql]),
            ("/?id=$(id)", &[Command]),
            ("/?id=${jndi:ldap://x/}", &[Jndi]),
        ];
        for (target, expected) in rows {
            assert_eq!(of("GET", target).attacks, Attacks::of(expected.iter().copied()), "{target}");
        }
        let shock = with("GET", "/", [None, Some("() { :;}; echo"), None]);
        assert_eq!(shock.attacks, Attacks::of([Command]));
    }

    #[test]
    fn what_browsers_and_applications_write_is_not_odd() {
        let rows = [
            ("GET", "/"),
            ("GET", "/search?q=select+a+union+and+2+or+more"),
            ("GET", "/search?q=rock+and+roll&page=2&or=1"),
            ("GET", "/a/b..c/..d/e../f...g/.../h?next=../x"),
            ("GET", "/wiki/...."),
            ("GET", "/wiki/..../"),
            ("GET", "/wiki/..../edit"),
            ("GET", "/something-here..../1234"),
            ("GET", "/%E2%82%AC/%C3%BC?a=%2F&b=%25"),
            ("GET", "/ü?raw=ü"),
            ("GET", "/price?sum=$%7B5%7D&t=${name}"),
            ("POST", "/wp-admin/admin-ajax.php?action=heartbeat"),
            ("GET", "/login?back=https%3A%2F%2Fexample.org%2Fhome%3Fa%3Db"),
            ("GET", "/docs/etc/passwords.html"),
            ("GET", "/search?q=%22cats%22+or+%22dogs%22&p='a'+or+'b'"),
            ("OPTIONS", "*"),
            ("PROPFIND", "/remote.php/dav/files/"),
            ("VERSION-CONTROL", "/x"),
        ];
        for (method, target) in rows {
            assert_eq!(of(method, target).oddities, [], "{method} {target}");
        }
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let referer = "https://example.org/?q=${x}";
        let request = with("GET", "/", [Some("example.org"), Some(agent), Some(referer)]);
        assert_eq!((request.oddities.as_slice(), request.agent.as_deref()), ([].as_slice(), Some(agent)));
    }

    #[test]
    fn what_they_never_write_is() {
        use Oddity::{Binary, Injection, Jndi, Method, Proxy, Traversal};
        let rows: &[(&str, &str, &[Oddity])] = &[
            ("FOO", "/", &[Method]),
            ("get", "/", &[Method]),
            ("GET", "http://example.org/", &[Proxy]),
            ("CONNECT", "example.org:443", &[Proxy]),
            ("GET", "/../../etc/hosts", &[Traversal]),
            ("GET", "/a/%2e%2E/b", &[Traversal]),
            ("GET", "/a/..%2f..%5cb", &[Traversal]),
            ("GET", "/%252e%252e/x", &[Traversal]),
            ("GET", "/%25252e%25252e/x", &[Traversal]),
            ("GET", "/%c0%ae%C0%AE/x", &[Traversal]),
            ("GET", "/scripts/..%c0%af../x", &[Traversal]),
            ("GET", "/..%u2215x", &[Traversal]),
            ("GET", "/..\\x", &[Traversal]),
            ("GET", "/..;/manager/html", &[Traversal]),
            ("GET", "/....//....//x", &[Traversal]),
            ("GET", "/a/....//x", &[Traversal]),
            ("GET", "/..../\\x", &[Traversal]),
            ("GET", "/?file=..%2F..%2Fx", &[Traversal]),
            ("GET", "/?a=${jndi:ldap://192.0.2.1/a}", &[Jndi]),
            ("GET", "/$%7Bjndi:ldap://192.0.2.1/a%7D", &[Jndi]),
            ("GET", "/?a=${${lower:J}ndi:${lower:l}dap://x}", &[Jndi]),
            ("GET", "/?a=${${::-j}${::-n}${::-d}${::-i}:rmi://x}", &[Jndi]),
            ("GET", "/?a=${${env:X:-j}ndi${env:X:-:}ldap://x}", &[Jndi]),
            ("GET", "/?a=${jnd${upper:ı}:ldap://x}", &[Jndi]),
            ("GET", "/?a=${jn${env::-}di:ldap", &[Jndi]),
            ("GET", "/?id=1'+UNION/**/SELECT+1,2--", &[Injection]),
            ("GET", "/?id=1%20AND%204711%3D4711", &[Injection]),
            ("GET", "/?id=1)+AND+(12=12", &[Injection]),
            ("GET", "/?id=1'+OR+'7'='7", &[Injection]),
            ("GET", "/?id=1'+OR+1=1--", &[Injection]),
            ("GET", "/?q=%3Cscript%3Ealert(1)%3C/script%3E", &[Injection]),
            ("GET", "/?q=%253Cscript%253E", &[Injection]),
            ("GET", "/?f=/etc/passwd%00.png", &[Injection]),
            ("GET", "/x%00.php", &[Injection]),
            ("GET", "/cgi-bin/..%2f..%2f/bin/sh", &[Traversal, Injection]),
            ("\u{16}\u{3}\u{1}", "\u{fffd}", &[Binary]),
            ("GET", "/\u{1}", &[Binary]),
            ("", "", &[Binary]),
        ];
        for (method, target, oddities) in rows {
            assert_eq!(of(method, target).oddities, *oddities, "{method} {target}");
        }
        let header = with("GET", "/", [None, Some("${${lower:j}NDI:dns://x}"), None]);
        assert_eq!(header.oddities, [Jndi]);
        let header = with("GET", "/", [None, None, Some("() { :;}; echo")]);
        assert_eq!(header.oddities, [Injection]);
        assert_eq!(of("GET", &format!("/?{}", "${a".repeat(5_000))).oddities, [Jndi], "too deep for a log");
    }

    proptest::proptest! {
        #[test]
        fn no_request_is_too_odd(method in ".{0,9}", target in "[/.%2e5c${}:jndi;?# -~\\PC]{0,200}", host in ".*") {
            let request = with(&method, &target, [Some(&host), Some(&target), Some(&target)]);
            proptest::prop_assert!(request.path.len() <= KEPT[1]);
        }
    }
}
