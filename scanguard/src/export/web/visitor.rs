//! Tells whether a request comes from this host itself, and not from elsewhere by way of it.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, Uri, Version, header, uri::Authority};

use crate::http_server::metrics::Unauthorized;

/// Headers that only proxies add. Headers that begin with [`FORWARDED`] are like them.
const PROXY: [HeaderName; 8] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
    HeaderName::from_static("x-original-forwarded-for"),
];
const FORWARDED: &str = "x-forwarded";

/// Whether both ends of a connection are loopback addresses. The own address of a card does not count: forwarded
/// connections may bear it.
pub(super) fn is_loopback(ends: [SocketAddr; 2]) -> bool {
    ends.iter().all(|end| end.ip().to_canonical().is_loopback())
}

/// Whether a request was sent on this host, to a name of this host. `at_loopback` is what [`is_loopback`] says of its
/// connection.
///
/// # Errors
/// Why it was not.
pub(super) fn check(
    at_loopback: bool,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Unauthorized> {
    if !at_loopback {
        return Err(Unauthorized::Elsewhere);
    }
    // Browsers, curl and Prometheus send HTTP/1.1. nginx sends HTTP/1.0 and, by default, no header that names the client.
    let is_old = version < Version::HTTP_11;
    let by_proxy = |name: &HeaderName| PROXY.contains(name) || name.as_str().starts_with(FORWARDED);
    if is_old || headers.keys().any(by_proxy) {
        return Err(Unauthorized::Forwarded);
    }
    // A foreign page can give its own name this host's address (DNS rebinding), but the browser then sends that name.
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        (_, _) => None,
    };
    let is_own = named.is_some_and(|named| is_own(&named)) && uri.authority().is_none_or(is_own);
    if is_own { Ok(()) } else { Err(Unauthorized::ForeignHost) }
}

/// Whether this name can mean only the host on which it is used.
fn is_own(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_plain = !authority.as_str().contains('@');
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    is_plain && (host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(pair) {
            headers.append(name, value);
        }
        headers
    }

    fn judge(lines: &[(&'static str, &'static str)]) -> Result<(), Unauthorized> {
        check(true, Version::HTTP_11, &Uri::from_static("/"), &headers(lines))
    }

    #[test]
    fn both_ends_of_the_connection_are_at_loopback() {
        let rows = [
            ("127.0.0.1:40000", "127.0.0.1:9823", true),
            ("127.8.8.8:40000", "127.0.0.1:9823", true),
            ("[::1]:40000", "[::1]:9823", true),
            ("[::ffff:127.0.0.1]:40000", "[::ffff:127.0.0.1]:9823", true),
            ("10.0.0.5:40000", "10.0.0.5:9823", false),
            ("127.0.0.1:40000", "10.0.0.5:9823", false),
            ("10.0.0.5:40000", "127.0.0.1:9823", false),
            ("[::ffff:10.0.0.5]:40000", "[::ffff:10.0.0.5]:9823", false),
            ("[::]:40000", "[::1]:9823", false),
        ];
        for (peer, local, expected) in rows {
            assert_eq!(
                is_loopback([peer.parse().unwrap(), local.parse().unwrap()]),
                expected,
                "{peer} {local}"
            );
        }
        let said = check(false, Version::HTTP_11, &Uri::from_static("/"), &headers(&[("host", "localhost")]));
        assert_eq!(said, Err(Unauthorized::Elsewhere));
    }

    #[test]
    fn a_name_that_can_be_another_host_is_no_name_of_this_one() {
        for own in [
            "localhost",
            "localhost:9823",
            "LocalHost:1",
            "127.0.0.1:9823",
            "127.1.2.3",
            "[::1]:9823",
            "[::1]",
        ] {
            assert_eq!(judge(&[("host", own)]), Ok(()), "{own}");
        }
        let foreign = [
            "rebound.example:9823",
            "localhost.example",
            "edge",
            "0.0.0.0:9823",
            "10.0.0.5:9823",
            "127.0.0.1.nip.io",
            "127.0.0.1@rebound.example",
            "rebound.example@127.0.0.1",
            "localhost:9823, rebound.example",
            "",
        ];
        for host in foreign {
            assert_eq!(judge(&[("host", host)]), Err(Unauthorized::ForeignHost), "{host}");
        }
        assert_eq!(judge(&[]), Err(Unauthorized::ForeignHost));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(judge(&twice), Err(Unauthorized::ForeignHost));
        let absolute = |uri| check(true, Version::HTTP_11, &Uri::from_static(uri), &headers(&twice[..1]));
        assert_eq!(absolute("http://127.0.0.1:9823/"), Ok(()));
        assert_eq!(absolute("http://rebound.example/"), Err(Unauthorized::ForeignHost));
    }

    #[test]
    fn what_a_proxy_on_this_host_passes_on_is_not_from_this_host() {
        for name in
            ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"]
        {
            let said = judge(&[("host", "localhost"), (name, "127.0.0.1")]);
            assert_eq!(said, Err(Unauthorized::Forwarded), "{name}");
        }
        let said =
            check(true, Version::HTTP_10, &Uri::from_static("/"), &headers(&[("host", "127.0.0.1:9823")]));
        assert_eq!(said, Err(Unauthorized::Forwarded));
    }
}
