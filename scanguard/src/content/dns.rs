//! DNS messages, as far as they were seen: the questions, and the answers to them.
//!
//! `domain` reads a message lazily, question by question, so that a message that was cut after its question is as good
//! as a whole one.

use domain::{
    base::{
        Message, ParsedName,
        iana::{Opcode, Rtype},
    },
    rdata::A,
};
use scanguard_common::content::Begins;

use super::{Answer, Junk, Query, Said, text};

/// How many questions of a message are read. Servers answer one (RFC 9619).
const MAX_QUESTIONS: usize = 4;
/// How many records of a section are read.
const MAX_RECORDS: usize = 16;
/// How many messages of a segment are read.
const MAX_MESSAGES: usize = 16;

/// The events of a datagram.
pub(super) fn datagram(bytes: &[u8], begins: Begins) -> Vec<Said> {
    let mut said = Vec::new();
    message(bytes, begins, &mut said);
    said
}

/// The events of a segment: messages, each behind its length (RFC 1035, 4.2.2). The last one may be cut.
pub(super) fn segment(mut bytes: &[u8], begins: Begins) -> Vec<Said> {
    let mut said = Vec::new();
    for _ in 0..MAX_MESSAGES {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length));
        let (content, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if length < HEADER {
            said.push(Said::Junk(Junk::Syntax));
            break;
        }
        message(content, begins, &mut said);
        bytes = after;
    }
    if said.is_empty() && bytes.len() == 1 {
        said.push(Said::Junk(Junk::Cut));
    }
    said
}

/// Bytes of a message's header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

fn message(bytes: &[u8], begins: Begins, said: &mut Vec<Said>) {
    let Ok(message) = Message::from_slice(bytes) else {
        return said.push(Said::Junk(Junk::Cut));
    };
    match (begins.is_answer(), message.header().qr()) {
        (false, false) => query(message, said),
        (true, true) => said.push(answer(message)),
        // An unsolicited answer, or an answer to this host's own query.
        (false, true) | (true, false) => {}
    }
}

fn query(message: &Message<[u8]>, said: &mut Vec<Said>) {
    match message.header().opcode() {
        Opcode::QUERY => {}
        // Servers use these among themselves, or for sessions (RFC 8490). They are no way to search.
        Opcode::NOTIFY | Opcode::UPDATE | Opcode::DSO => return,
        // IQUERY and STATUS, which no server answers, and unassigned numbers.
        _ => return said.push(Said::Junk(Junk::Syntax)),
    }
    let counts = message.header_counts();
    for question in message.question().take(MAX_QUESTIONS) {
        match question {
            Ok(question) => said.push(Said::Query(Query {
                name: name(question.qname()),
                kind: question.qtype().to_int(),
                class: question.qclass().to_int(),
            })),
            Err(_) => return said.push(Said::Junk(wrong(message))),
        }
    }
    // A query only for a cookie asks nothing (RFC 7873, 5.4).
    let asks_nothing = counts.qdcount() == 0 && counts.arcount() == 0;
    if asks_nothing || counts.qdcount() > 1 {
        said.push(Said::Junk(Junk::Syntax));
    }
}

/// The response code. Codes that need the additional section (RFC 6891, 6.1.3) are not completed: they are about EDNS
/// itself.
fn answer(message: &Message<[u8]>) -> Said {
    let code = message.header().rcode().to_int().into();
    match message.question().next() {
        Some(Ok(question)) => Said::Answer(Answer {
            code,
            name: name(question.qname()),
            zone: denying_zone(message),
            is_listing: lists(message).unwrap_or_default(),
        }),
        // A refusal may omit the question.
        None => Said::Answer(Answer { code, ..Answer::default() }),
        Some(Err(_)) => Said::Junk(wrong(message)),
    }
}

/// The owner of the SOA record in the authority section, as far as the message was seen.
fn denying_zone(message: &Message<[u8]>) -> Option<String> {
    let records = message.authority().ok()?.take(MAX_RECORDS).map_while(Result::ok);
    let soa = records.into_iter().find(|record| record.rtype() == Rtype::SOA)?;
    Some(name(&soa.owner()))
}

/// Whether there are addresses in the answer, all of 127.0.0.0/8.
fn lists(message: &Message<[u8]>) -> Option<bool> {
    let mut addresses = 0;
    for record in message.answer().ok()?.take(MAX_RECORDS).map_while(Result::ok) {
        if let Some(record) = record.to_record::<A>().ok()? {
            if !record.data().addr().is_loopback() {
                return Some(false);
            }
            addresses += 1;
        }
    }
    Some(addresses > 0)
}

/// Why a question could not be read: it ends too early, or its contents are wrong.
fn wrong(message: &Message<[u8]>) -> Junk {
    let mut rest = message.as_slice().get(HEADER..).unwrap_or_default();
    // A cut name has only whole plain labels up to its end. A pointer is wrong in the first name of a message.
    while let Some((length, after)) = rest.split_first() {
        match length {
            0 => return if after.len() < 4 { Junk::Cut } else { Junk::Syntax },
            1..=63 => rest = after.get(usize::from(*length)..).unwrap_or_default(),
            64.. => return Junk::Syntax,
        }
    }
    if message.as_slice().len() - HEADER > MAX_NAME { Junk::Syntax } else { Junk::Cut }
}

/// Bytes of a name on the wire (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;

/// In lower case, without the last dot: at most 255 bytes. An escape turns one of them into four characters.
fn name(name: &ParsedName<&[u8]>) -> String {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        text::push_escaped(&mut text, label.as_slice(), b".");
    }
    text
}

#[cfg(test)]
mod tests;
