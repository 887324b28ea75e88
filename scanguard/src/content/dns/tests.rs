use proptest::prelude::*;

use super::*;

/// Messages of real tools.
const DIG: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig");
const DIG_ANY: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig_any");
const DIG_CHAOS: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig_chaos");
const DIG_ESCAPED: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/dig_escaped");
const NMAP_STATUS: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/nmap_status");
const NXDOMAIN: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/nxdomain");
const TCP_AXFR: &[u8] = include_bytes!("../../../../fuzz/corpus/dns/tcp_axfr");

fn asked(bytes: &[u8]) -> Vec<Said> {
    datagram(bytes, Begins::Query)
}

fn query(name: &str, kind: u16, class: u16) -> Said {
    Said::Query(Query { name: name.to_owned(), kind, class })
}

fn junk(junk: Junk) -> Said {
    Said::Junk(junk)
}

/// A query with these flags, these counts of questions and of additional records, and these contents.
fn message(flags: u16, questions: u16, additional: u16, content: &[u8]) -> Vec<u8> {
    let header = [7, flags, questions, 0, 0, additional].map(u16::to_be_bytes).concat();
    [&header, content].concat()
}

#[test]
fn queries_of_real_tools_are_read() {
    assert_eq!(asked(DIG), [query("www.example.org", 1, 1)]);
    assert_eq!(asked(DIG_ANY), [query("example.org", 255, 1)]);
    assert_eq!(asked(DIG_CHAOS), [query("version.bind", 16, 3)]);
    assert_eq!(segment(TCP_AXFR, Begins::Query), [query("example.org", 252, 1)]);
}

#[test]
fn bytes_that_no_host_is_called_are_escaped() {
    assert_eq!(asked(DIG_ESCAPED), [query(r"a\046b\000c\255.example.org", 1, 1)]);
}

#[test]
fn answers_give_their_code_and_name() {
    let said = datagram(NXDOMAIN, Begins::Answer);
    let answer = |code, name: &str| Answer { code, name: name.to_owned(), ..Answer::default() };
    assert_eq!(said, [Said::Answer(answer(3, "www.example.org"))]);
    let refused = message(0x8005, 0, 0, &[]);
    assert_eq!(datagram(&refused, Begins::Answer), [Said::Answer(answer(5, ""))]);
}

/// An answer for a.example.org with these records, behind so many in the answer section.
fn answered(code: u16, answers: u16, authority: u16, records: &[u8]) -> Answer {
    const QUESTION: &[u8] = b"\x01a\x07example\x03org\0\0\x01\0\x01";
    let header = [7, 0x8000 | code, 1, answers, authority, 0].map(u16::to_be_bytes).concat();
    match datagram(&[&header, QUESTION, records].concat(), Begins::Answer).remove(0) {
        Said::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_negative_answer_names_the_zone_unless_it_is_cut_off() {
    // The owner is a pointer to "org", or to "example.org".
    let soa = |at: u8| [&[0xc0, at, 0, 6, 0, 1, 0, 0, 1, 0, 0, 22, 0, 0][..], &[0; 20]].concat();
    let zone = |records: &[u8]| answered(3, 0, 1, records).zone;
    assert_eq!(zone(&soa(14)).as_deref(), Some("example.org"));
    assert_eq!(zone(&soa(22)).as_deref(), Some("org"));
    assert_eq!(zone(&soa(14)[..20]), None, "cut");
    assert_eq!(zone(&[]), None);
    let ns = [0xc0, 14, 0, 2, 0, 1, 0, 0, 1, 0, 0, 2, 0xc0, 14];
    assert_eq!(answered(0, 0, 1, &ns).zone, None);
}

#[test]
fn addresses_that_are_all_of_this_host_are_listings() {
    let a = |address: [u8; 4]| [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4][..], &address].concat();
    let is_listing = |count, records: &[u8]| answered(0, count, 0, records).is_listing;
    assert!(is_listing(1, &a([127, 0, 0, 2])));
    assert!(is_listing(2, &[a([127, 0, 0, 2]), a([127, 0, 1, 9])].concat()));
    assert!(!is_listing(2, &[a([127, 0, 0, 2]), a([192, 0, 2, 1])].concat()));
    assert!(!is_listing(1, &a([192, 0, 2, 1])));
    assert!(!is_listing(0, &[]));
    let text = [0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 0, 0, 2, 1, b'x'];
    assert!(!is_listing(1, &text));
}

#[test]
fn what_goes_the_other_way_says_nothing() {
    assert_eq!(datagram(NXDOMAIN, Begins::Query), []);
    assert_eq!(datagram(DIG, Begins::Answer), []);
}

#[test]
fn a_message_that_is_cut_after_its_question_is_as_good_as_whole_and_one_cut_before_is_cut() {
    let question_ends = HEADER + 17 + 4;
    for length in 0..DIG.len() {
        let expected = if length < question_ends { junk(Junk::Cut) } else { query("www.example.org", 1, 1) };
        assert_eq!(asked(&DIG[..length]), [expected], "{length}");
    }
}

#[test]
fn pointers_in_a_question_end_and_are_wrong() {
    for pointer in
        [&[0xc0, 12][..], &[0xc0, 200], &[1, b'a', 0xc0, 12], &[0xc0, 14, 0xc0, 12], &[0x41, 0], &[0x80]]
    {
        let looped = message(0, 1, 0, &[pointer, &[0, 1, 0, 1]].concat());
        assert_eq!(asked(&looped), [junk(Junk::Syntax)], "{pointer:?}");
    }
    let long = [&[63; 64][..], &[63; 64], &[63; 64], &[63; 64], &[63; 64], &[0, 0, 1, 0, 1]].concat();
    assert_eq!(asked(&message(0, 1, 0, &long)), [junk(Junk::Syntax)]);
}

#[test]
fn opcodes_of_servers_say_nothing_and_those_that_nobody_answers_are_junk() {
    let question = [0, 0, 6, 0, 1];
    for opcode in [4, 5, 6] {
        assert_eq!(asked(&message(opcode << 11, 1, 0, &question)), [], "{opcode}");
    }
    for opcode in [1, 3, 7, 15] {
        assert_eq!(asked(&message(opcode << 11, 1, 0, &question)), [junk(Junk::Syntax)], "{opcode}");
    }
    assert_eq!(asked(NMAP_STATUS), [junk(Junk::Syntax)]);
}

#[test]
fn no_question_is_junk_unless_a_cookie_is_asked_for() {
    assert_eq!(asked(&message(0, 0, 0, &[])), [junk(Junk::Syntax)]);
    assert_eq!(asked(&message(0, 0, 1, &[0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0])), []);
}

#[test]
fn several_questions_are_told_and_called_junk_and_their_number_is_bounded() {
    let root = [0, 0, 6, 0, 1];
    let two = message(0, 2, 0, &root.repeat(2));
    assert_eq!(asked(&two), [query("", 6, 1), query("", 6, 1), junk(Junk::Syntax)]);
    assert_eq!(asked(&message(0, 60_000, 0, &root.repeat(50))).len(), MAX_QUESTIONS + 1);
}

#[test]
fn messages_in_a_segment_are_told_one_by_one() {
    let two = [TCP_AXFR, TCP_AXFR].concat();
    assert_eq!(segment(&two, Begins::Query).len(), 2);
    let cut = &two[..two.len() - 45];
    assert_eq!(segment(cut, Begins::Query), [query("example.org", 252, 1), junk(Junk::Cut)]);
    assert_eq!(segment(&[0, 3, 1, 2, 3], Begins::Query), [junk(Junk::Syntax)]);
    assert_eq!(segment(&TCP_AXFR.repeat(99), Begins::Query).len(), MAX_MESSAGES);
    for short in [&[][..], &[0]] {
        assert!(segment(short, Begins::Query).len() <= 1);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe_and_what_comes_out_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for begins in [Begins::Query, Begins::Answer] {
            for said in [datagram(&bytes, begins), segment(&bytes, begins)].concat() {
                if let Said::Query(Query { name, .. }) | Said::Answer(Answer { name, .. }) = said {
                    prop_assert!(name.len() <= 4 * MAX_NAME);
                }
            }
        }
    }

    #[test]
    fn any_change_of_a_query_is_safe(changes in prop::collection::vec((2usize..56, any::<u8>()), 1..6)) {
        let mut bytes = DIG.to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        prop_assert!(asked(&bytes).len() <= MAX_QUESTIONS + 1);
    }
}
