//! DNS messages, as far as they were seen: what was asked, and how it was answered.
//!
//! `domain` reads a message lazily, question by question, so that one that was cut after its question is as good as a whole one.

use domain::base::{Message, ParsedName, Question, iana::Opcode};
use scanguard_common::content::Begins;

use super::{Junk, Query, Said, text};

/// Questions that are looked at in a message. Servers answer one (RFC 9619).
const MAX_QUESTIONS: usize = 4;
/// Messages that are looked at in a segment.
const MAX_MESSAGES: usize = 16;

/// What a datagram says.
pub(super) fn datagram(bytes: &[u8], begins: Begins) -> Vec<Said> {
    let mut said = Vec::new();
    message(bytes, begins, &mut said);
    said
}

/// What a segment says: messages with their lengths before them (RFC 1035, 4.2.2), the last one perhaps cut.
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
        // An answer that nobody asked for, or a query of this host's own.
        (false, true) | (true, false) => {}
    }
}

fn query(message: &Message<[u8]>, said: &mut Vec<Said>) {
    match message.header().opcode() {
        Opcode::QUERY => {}
        // Servers among themselves, and sessions (RFC 8490): nothing is looked for by these.
        Opcode::NOTIFY | Opcode::UPDATE | Opcode::DSO => return,
        // IQUERY and STATUS, which no server answers, and what is not assigned.
        _ => return said.push(Said::Junk(Junk::Syntax)),
    }
    let counts = message.header_counts();
    for question in message.question().take(MAX_QUESTIONS) {
        match question {
            Ok(question) => said.push(Said::Query(Query {
                name: name(&question),
                kind: question.qtype().to_int(),
                class: question.qclass().to_int(),
            })),
            Err(_) => return said.push(Said::Junk(wrong(message))),
        }
    }
    // A query for a cookie alone asks nothing (RFC 7873, 5.4).
    let asks_nothing = counts.qdcount() == 0 && counts.arcount() == 0;
    if asks_nothing || counts.qdcount() > 1 {
        said.push(Said::Junk(Junk::Syntax));
    }
}

/// The response code. One that needs the additional section (RFC 6891, 6.1.3) is not put together: those are about EDNS itself.
fn answer(message: &Message<[u8]>) -> Said {
    let code = message.header().rcode().to_int().into();
    match message.question().next() {
        Some(Ok(question)) => Said::Answer { code, name: name(&question) },
        // A refusal may leave the question out.
        None => Said::Answer { code, name: String::new() },
        Some(Err(_)) => Said::Junk(wrong(message)),
    }
}

/// Whether a question could not be read because it ends too early, or because of what it says.
fn wrong(message: &Message<[u8]>) -> Junk {
    let mut rest = message.as_slice().get(HEADER..).unwrap_or_default();
    // Only whole plain labels up to the end are a beginning; a pointer is wrong in the first name of a message.
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

/// Lower case, without the last dot: at most 255 bytes, of which escapes make four characters each.
fn name(question: &Question<ParsedName<&[u8]>>) -> String {
    let mut text = String::new();
    for label in question.qname().iter().filter(|label| !label.is_root()) {
        if !text.is_empty() {
            text.push('.');
        }
        text::push_escaped(&mut text, label.as_slice(), b".");
    }
    text
}

#[cfg(test)]
mod tests;
