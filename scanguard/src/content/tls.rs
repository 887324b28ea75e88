//! The ClientHello of TLS 1.0 to 1.3 over TCP: the requested server, and the kind of client.
//!
//! This parser exists because the available ones (tls-parser, rustls) need a whole hello. A hello with post-quantum
//! keys is longer than a segment, and the server's name in a cut one is still useful. QUIC hides its hello in
//! encrypted packets, and DTLS has its own records: neither is read. An SSL 2.0 hello is no TLS record.

use super::{
    Hello, Junk,
    extension::{ALPN, SERVER_NAME, SIGNATURE_ALGORITHMS, SUPPORTED_VERSIONS},
    ja4::Ja4,
    text,
};

/// Content type of a record with handshake messages (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// All versions of records are 3.x.
const MAJOR_VERSION: u8 = 3;
/// How many bytes a record has at most before it is encrypted (RFC 8446, 5.1).
const MAX_FRAGMENT: usize = 1 << 14;
/// Handshake type (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;

/// `NameType.host_name` (RFC 6066, 3).
const HOST_NAME: u8 = 0;

/// The hello at the start of a connection. If it was cut, it has the server's name only if that was seen.
///
/// # Errors
/// It is no hello, or it ends before the server's name.
pub(super) fn hello(bytes: &[u8]) -> Result<Hello, Junk> {
    let message = message(bytes)?;
    let (header, rest) = message.split_first_chunk::<4>().ok_or(Junk::Cut)?;
    let [CLIENT_HELLO, high, middle, low] = *header else { return Err(Junk::Syntax) };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    let is_whole = rest.len() >= length;
    let body = Reader(rest.get(..length).unwrap_or(rest));
    let mut read = Read::default();
    match (read.body(body), is_whole) {
        // A list ends within the message, or a message ends within a list.
        (Err(Wrong), _) | (Ok(Progress::Within), true) => Err(Junk::Syntax),
        (Ok(Progress::End), true) => {
            Ok(Hello { server_name: read.server_name, ja4: Some(read.ja4.to_string()) })
        }
        // A cut hello may seem to end where old ones without extensions do.
        (Ok(Progress::End | Progress::Within), false) => match read.server_name {
            Some(name) => Ok(Hello { server_name: Some(name), ja4: None }),
            None => Err(Junk::Cut),
        },
    }
}

/// The handshake message from its records, as far as it was seen. Clients may split it at any byte.
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Junk> {
    let mut message = Vec::with_capacity(bytes.len());
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let [HANDSHAKE, MAJOR_VERSION, _, high, low] = *header else {
            // The bytes after a whole hello (early data, or the end of middlebox compatibility) do not belong to it.
            break;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > MAX_FRAGMENT {
            return Err(Junk::Syntax);
        }
        let (fragment, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        message.extend_from_slice(fragment);
        bytes = after;
    }
    Ok(message)
}

/// The message has an impossible value.
struct Wrong;

/// Where the message ends.
enum Progress {
    /// Where a hello may end.
    End,
    /// Within an element.
    Within,
}

/// The parts of a hello that were read so far.
#[derive(Default)]
struct Read {
    server_name: Option<String>,
    ja4: Ja4,
}

impl Read {
    fn body(&mut self, mut body: Reader<'_>) -> Result<Progress, Wrong> {
        let Some(version) = body.number() else { return Ok(Progress::Within) };
        self.ja4.version = version;
        let before_suites = body.take(32).and_then(|_random| body.short_vector());
        let Some(session) = before_suites else { return Ok(Progress::Within) };
        if session.0.len() > 32 {
            return Err(Wrong);
        }
        let Some(suites) = body.vector() else { return Ok(Progress::Within) };
        self.ja4.set_cipher_suites(suites.numbers().ok_or(Wrong)?);
        let Some(_compression) = body.short_vector() else { return Ok(Progress::Within) };
        // Before TLS 1.2, a hello may end here.
        if body.0.is_empty() {
            return Ok(Progress::End);
        }
        let Some(length) = body.number() else { return Ok(Progress::Within) };
        let length = usize::from(length);
        if body.0.len() > length {
            return Err(Wrong);
        }
        let is_cut = body.0.len() < length;
        while !body.0.is_empty() {
            let extension = body.number().and_then(|kind| Some((kind, body.vector()?)));
            let Some((kind, content)) = extension else { return Ok(Progress::Within) };
            self.extension(kind, content).ok_or(Wrong)?;
        }
        Ok(if is_cut { Progress::Within } else { Progress::End })
    }

    /// Returns nothing if its contents break the syntax.
    fn extension(&mut self, kind: u16, mut content: Reader<'_>) -> Option<()> {
        self.ja4.push_extension(kind);
        match kind {
            SERVER_NAME => self.server_name = server_name(content.vector()?)?,
            ALPN => self.ja4.set_protocol(content.vector()?.short_vector()?.0),
            SIGNATURE_ALGORITHMS => self.ja4.set_signature_algorithms(content.vector()?.numbers()?),
            SUPPORTED_VERSIONS => self.ja4.set_supported_versions(content.short_vector()?.numbers()?),
            _ => {}
        }
        Some(())
    }
}

/// The host name in a list of names, which has one at most. An impossible name is escaped, not refused: the request
/// matters.
fn server_name(mut names: Reader<'_>) -> Option<Option<String>> {
    while !names.0.is_empty() {
        let [kind] = *names.take(1)? else { return None };
        let name = names.vector()?;
        if kind == HOST_NAME {
            let mut text = String::new();
            text::push_escaped(&mut text, name.0.get(..MAX_NAME).unwrap_or(name.0), &[]);
            return Some(Some(text));
        }
    }
    Some(None)
}

/// How many bytes of a name are kept: no host name has more (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;

/// Takes bytes from the front; nothing if there are too few.
#[derive(Clone, Copy)]
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Two bytes.
    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// A length of one byte, and as many bytes.
    fn short_vector(&mut self) -> Option<Self> {
        let (length, rest) = self.0.split_first()?;
        let (content, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(Self(content))
    }

    /// A length of two bytes, and as many bytes.
    fn vector(&mut self) -> Option<Self> {
        let mut ahead = *self;
        let length = ahead.number()?;
        let content = ahead.take(length.into())?;
        *self = ahead;
        Some(Self(content))
    }

    /// All of it as numbers of two bytes; nothing if one byte remains.
    fn numbers(self) -> Option<impl Iterator<Item = u16> + use<'b>> {
        let (numbers, rest) = self.0.as_chunks::<2>();
        rest.is_empty().then(|| numbers.iter().map(|number| u16::from_be_bytes(*number)))
    }
}

#[cfg(test)]
mod tests;
