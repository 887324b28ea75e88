//! SIP: requests, the users that they name, and the name of the software.

use super::{Greeting, Language, Manner, Tried};

/// Users are compared by so many bytes at most; longer ones are cut.
const MAX_USER: usize = 64;
/// How many headers are looked at.
const MAX_HEADERS: usize = 40;

/// A request. `rest` is what follows its first line, as far as it was seen.
///
/// A phone names its own user by REGISTER. OPTIONS asks what somebody can do. INVITE is not looked at: everybody who
/// calls names others' users by it.
pub(super) fn read(method: &str, target: &str, rest: &[u8]) -> Greeting {
    let text = String::from_utf8_lossy(rest);
    let headers = text.lines().filter_map(|line| line.split_once(':')).take(MAX_HEADERS);
    let (mut agent, mut from, mut to, mut has_credentials) = (None, None, None, false);
    for (name, value) in headers {
        let (name, value) = (name.trim(), value.trim());
        let is =
            |long: &str, short: &str| name.eq_ignore_ascii_case(long) || name.eq_ignore_ascii_case(short);
        if is("user-agent", "user-agent") {
            agent.get_or_insert(value);
        } else if is("from", "f") {
            from.get_or_insert(value);
        } else if is("to", "t") {
            to.get_or_insert(value);
        } else if is("authorization", "proxy-authorization") {
            has_credentials = true;
        }
    }
    let user = match method {
        "REGISTER" => to.and_then(user_of),
        "OPTIONS" => user_of(target),
        _ => None,
    };
    let kind = if has_credentials { Tried::KnownUser } else { Tried::User };
    Greeting {
        language: Language::Sip,
        manner: Manner::Ordinary,
        tried: user.map(|user| (kind, user.as_bytes().iter().copied().take(MAX_USER).collect())),
        client: agent.or(from).map(str::to_owned),
    }
}

/// The user in `"Name" <sip:user@host>;tag=x` or `sip:user@host`.
fn user_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("sip:").or_else(|| address.split_once("sips:"))?;
    let end = rest.find(['>', ';', ' ']).unwrap_or(rest.len());
    let (user, _) = rest[..end].split_once('@')?;
    (!user.is_empty()).then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: &str = "\r\nVia: SIP/2.0/UDP 192.0.2.1:5061;rport\r\nTo: \"101\"<sip:101@198.51.100.1>\r\n\
        From: \"101\"<sip:101@198.51.100.1>;tag=1\r\nUser-Agent: friendly-scanner\r\nCall-ID: 1\r\n";

    #[test]
    fn a_phone_names_its_user_and_its_software() {
        let said = read("REGISTER", "sip:198.51.100.1", REGISTER.as_bytes());
        assert_eq!(said.tried, Some((Tried::User, b"101".to_vec())));
        assert_eq!(said.client.as_deref(), Some("friendly-scanner"));
        let with = format!("{REGISTER}authorization: Digest username=\"101\"\r\n");
        let said = read("REGISTER", "sip:198.51.100.1", with.as_bytes());
        assert_eq!(said.tried, Some((Tried::KnownUser, b"101".to_vec())));
    }

    #[test]
    fn others_users_are_named_by_everybody_who_calls() {
        assert_eq!(read("INVITE", "sip:00972@198.51.100.1", REGISTER.as_bytes()).tried, None);
        assert_eq!(read("ACK", "sip:101@198.51.100.1", REGISTER.as_bytes()).tried, None);
        let asked = read("OPTIONS", "sip:101@198.51.100.1", REGISTER.as_bytes());
        assert_eq!(asked.tried, Some((Tried::User, b"101".to_vec())));
        assert_eq!(read("OPTIONS", "sip:198.51.100.1", b"\r\n").tried, None, "a peer, whether it is there");
    }

    #[test]
    fn without_a_name_of_its_software_the_sender_stands_for_it() {
        let said = read("OPTIONS", "sip:nm", b"\r\nFrom: <sip:nm@nm>;tag=root\r\n");
        assert_eq!(said.client.as_deref(), Some("<sip:nm@nm>;tag=root"));
    }
}
