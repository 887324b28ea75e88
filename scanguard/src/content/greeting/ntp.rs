//! NTP: requests that ask for something else than the time.

use super::{Greeting, Language, Manner};

/// Modes for control (RFC 9327) and for private requests of ntpd.
const CONTROL: u8 = 6;
const PRIVATE: u8 = 7;
/// The private requests for the last clients of the server, which floods are made with (CVE-2013-5211).
const MONLIST: [u8; 2] = [20, 42];

/// A request. Administrators and monitors ask for the state of the server, too; for its last clients nobody does any
/// more.
pub(super) fn read(bytes: &[u8]) -> Option<Greeting> {
    let [first, _, _, request, 0, 0, 0, 0, ..] = bytes else { return None };
    if !(0x08..0x28).contains(first) {
        return None;
    }
    let manner = match first & 7 {
        CONTROL => Manner::Odd,
        PRIVATE if MONLIST.contains(request) => Manner::Probe,
        PRIVATE => Manner::Odd,
        _ => return None,
    };
    Some(Greeting::of(Language::Ntp, manner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_not_looked_at_and_the_list_of_clients_is_a_probe() {
        let manner = |start: [u8; 4]| read(&[start, [0; 4], [0; 4]].concat()).map(|said| said.manner);
        assert_eq!(manner([0x17, 0, 3, 42]), Some(Manner::Probe));
        assert_eq!(manner([0x17, 0, 2, 42]), Some(Manner::Probe));
        assert_eq!(manner([0x17, 0, 3, 16]), Some(Manner::Odd));
        assert_eq!(manner([0x16, 2, 0, 1]), Some(Manner::Odd));
        for client in [0x1b, 0x23, 0xe3, 0x13] {
            assert_eq!(manner([client, 0, 6, 0xec]), None, "{client:#x}");
        }
        assert_eq!(read(&[0x16, 2, 0, 1, 5, 0, 0, 0]), None, "an answer has a status");
    }
}
