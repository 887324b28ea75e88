//! The arguments of a process as text, without what looks like a secret.
//!
//! Replaced by `***`:
//! * what stands behind a name such as `--password`, `token=`, `API_KEY=` or `-Dsecret:`, in the same word or in the next
//! * what some tools take behind a single letter (`mysql -pSECRET`, `sshpass -p SECRET`, `redis-cli -a SECRET`)
//! * the password in `-u user:password`, and user and password in a URL
//! * parameters of a URL with such names
//! * what stands behind `Authorization:`, `Cookie:` and headers with such names, and behind `Bearer` and `Basic`
//! * parts of words that look random: at least 20 characters with letters and digits and at least 3.5 bits for
//!   each, or at least 32 hexadecimal digits
//!
//! This is a guess. A password that stands alone, in no such place and shorter than that, stays.

use serde::Deserialize;

use super::text::clean;

/// `[outbound] arguments`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Arguments {
    /// They are told without what looks like a secret.
    #[default]
    Redacted,
    /// They are not told.
    None,
    /// They are told as they are.
    Full,
}

/// Least length of a part of a word that may be random.
const LONG: usize = 20;
/// Least entropy of its characters, in bits for each. Of 20 random letters and digits it is about 4; names and paths of
/// that length have letters only.
const ENTROPY: f64 = 3.5;
/// As many hexadecimal digits are an id or a key, whatever their entropy.
const HEXADECIMAL: usize = 32;
/// What stands in the place of a secret.
const SECRET: &str = "***";

/// Parts of names whose values are secrets.
const WORDS: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "passwort",
    "secret",
    "token",
    "apikey",
    "credential",
    "auth",
    "cookie",
    "bearer",
    "signature",
    "privkey",
];
/// Whole parts of names, between `-`, `_` and `.`.
const PARTS: [&str; 8] = ["pass", "pwd", "pw", "key", "psk", "pin", "sid", "cred"];

/// Tools, and the letters behind which they take a secret. The first name that begins the tool's counts.
const LETTERS: [(&str, &str); 16] = [
    ("mysql", "p"),
    ("mariadb", "p"),
    ("sshpass", "p"),
    ("mongo", "p"),
    ("docker", "p"),
    ("podman", "p"),
    ("hydra", "p"),
    ("medusa", "p"),
    ("ncrack", "p"),
    ("crackmapexec", "p"),
    ("nxc", "p"),
    ("netexec", "p"),
    ("ldap", "w"),
    ("redis-cli", "a"),
    ("mosquitto_", "P"),
    ("ipmitool", "P"),
];

/// The words of a process as text: the program's own name left out, and `[...]` at the end if there were more. Nothing if
/// they are not to be told, or there are none.
pub fn told(words: &[u8], cut: bool, how: Arguments) -> Option<String> {
    let mut words: Vec<_> =
        words.strip_suffix(b"\0").unwrap_or(words).split(|byte| *byte == 0).map(clean).collect();
    let tool = words.first()?.rsplit('/').next().unwrap_or_default().to_owned();
    words.remove(0);
    let mut words = match how {
        Arguments::None => return None,
        Arguments::Full => words,
        Arguments::Redacted => redacted(&words, &tool),
    };
    words.iter_mut().for_each(|word| {
        if word.is_empty() || word.contains(' ') {
            *word = format!("'{word}'");
        }
    });
    if cut {
        words.push("[...]".to_owned());
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// What becomes of the word after a word.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Next {
    /// It stands for itself.
    Any,
    /// It is a secret, unless it is an option itself.
    Secret,
    /// It is a name with a password behind a colon, maybe.
    User,
}

fn redacted(words: &[String], tool: &str) -> Vec<String> {
    let letters = LETTERS.iter().find(|(name, _)| tool.starts_with(name)).map_or("", |(_, letters)| letters);
    let mut next = Next::Any;
    let redact = |word: &String| {
        let this = std::mem::replace(&mut next, Next::Any);
        match this {
            Next::Secret if !word.starts_with("--") => return SECRET.to_owned(),
            Next::User => return user(word),
            Next::Secret | Next::Any => {}
        }
        if let Some((at, letter)) = word.strip_prefix('-').and_then(|rest| rest.char_indices().next())
            && letters.contains(letter)
        {
            let behind = &word[1 + at + letter.len_utf8()..];
            if behind.is_empty() {
                next = Next::Secret;
                return word.clone();
            }
            return format!("-{letter}{SECRET}");
        }
        if let Some(behind) =
            ["-u", "-U", "--user", "--proxy-user"].iter().find_map(|name| word.strip_prefix(name))
        {
            match behind.strip_prefix('=').unwrap_or(behind) {
                "" => next = Next::User,
                value if value.contains([':', '%']) && !value.starts_with('-') => {
                    return format!("{}{}", &word[..word.len() - value.len()], user(value));
                }
                _ => {}
            }
        }
        let is_flag = word.starts_with('-') && !word.contains(['=', ':']) && is_secret_name(word);
        let is_scheme = ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        let is_header = word.strip_suffix(':').is_some_and(is_secret_name);
        if is_flag || is_scheme || is_header {
            next = Next::Secret;
            return word.clone();
        }
        if let Some(named) = named(word) { named } else { random(&url(word)) }
    };
    words.iter().map(redact).collect()
}

/// A user without the password behind the name.
fn user(text: &str) -> String {
    match text.split_once([':', '%']) {
        // It is a URL or an address and no user.
        Some((name, rest)) if !rest.starts_with("//") && !rest.is_empty() => format!("{name}:{SECRET}"),
        Some(_) | None => random(&url(text)),
    }
}

/// `NAME=value` and `Name: value` with a secret's name, without the value.
fn named(word: &str) -> Option<String> {
    let end = word.find(['=', ':'])?;
    let (name, value) = word.split_at(end);
    let behind = value.get(1..)?;
    // The name of a scheme is none of a value.
    let is_value = !behind.is_empty() && !behind.starts_with("//");
    (is_value && is_secret_name(name)).then(|| {
        let blank = if behind.starts_with(' ') { " " } else { "" };
        format!("{name}{}{blank}{SECRET}", &value[..1])
    })
}

/// Whether what has this name is a secret. Upper case counts as lower case, and so does a change within a word
/// (`apiKey`).
fn is_secret_name(name: &str) -> bool {
    let name = name.trim_start_matches('-');
    // A path or a sentence is no name.
    if name.is_empty() || name.len() > 64 || name.contains(['/', ' ']) {
        return false;
    }
    let lower = name.to_ascii_lowercase();
    let mut parts = String::with_capacity(name.len() + 4);
    let mut before = ' ';
    for character in name.chars() {
        if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
            parts.push('-');
        }
        parts.push(character.to_ascii_lowercase());
        before = character;
    }
    let author = lower.contains("author") && !lower.contains("authoriz");
    WORDS.iter().any(|word| lower.contains(word) && !(*word == "auth" && author))
        || parts.split(['-', '_', '.']).any(|part| PARTS.contains(&part))
}

/// A word without user and password of the URLs in it, and without secret parameters.
fn url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host = host.rsplit_once('@').map_or_else(|| host.to_owned(), |(_, host)| format!("{SECRET}@{host}"));
    let Some((path, query)) = path.split_once('?') else {
        return format!("{scheme}://{host}{path}");
    };
    let parameters =
        query.split('&').map(|parameter| named(parameter).unwrap_or_else(|| parameter.to_owned()));
    format!("{scheme}://{host}{path}?{}", parameters.collect::<Vec<_>>().join("&"))
}

/// A word without its parts that look random.
fn random(word: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "+_-".contains(character);
    let mut told = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (part, more) = rest.split_at(end);
        told.push_str(if is_random(part) { SECRET } else { part });
        let between = more.find(is_part).unwrap_or(more.len());
        told.push_str(&more[..between]);
        rest = &more[between..];
    }
    told
}

fn is_random(part: &str) -> bool {
    let has = |of: fn(&u8) -> bool| part.bytes().any(|byte| of(&byte));
    if part.len() >= HEXADECIMAL && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return true;
    }
    part.len() >= LONG && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && entropy(part) >= ENTROPY
}

/// The entropy of the characters of a text, in bits for each.
fn entropy(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let all = text.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(line: &str, how: Arguments) -> Option<String> {
        told(line.replace(' ', "\0").as_bytes(), false, how)
    }

    #[test]
    fn secrets_are_not_told() {
        for (line, expected) in [
            ("python3 scan.py --password=hunter2 x", "scan.py --password=*** x"),
            ("python3 scan.py --password hunter2 x", "scan.py --password *** x"),
            ("java -Ddb.password=hunter2 -jar x.jar", "-Ddb.password=*** -jar x.jar"),
            (
                "env AWS_SECRET_ACCESS_KEY=abc FOO_TOKEN=x PATH=/bin sh",
                "AWS_SECRET_ACCESS_KEY=*** FOO_TOKEN=*** PATH=/bin sh",
            ),
            ("tool --api-key k1 --apiKey=k2 --access_key k3", "--api-key *** --apiKey=*** --access_key ***"),
            ("tool --auth-token t --pass p --pw=q", "--auth-token *** --pass *** --pw=***"),
            ("mysql -uroot -psecret -h db", "-uroot -p*** -h db"),
            ("/usr/bin/sshpass -p secret ssh host", "-p *** ssh host"),
            ("redis-cli -h db -a secret ping", "-h db -a *** ping"),
            ("nmap -p 22,80 --open 192.0.2.0/24", "-p 22,80 --open 192.0.2.0/24"),
            ("curl -u bob:secret http://x", "-u bob:*** http://x"),
            ("curl -ubob:secret http://x", "-ubob:*** http://x"),
            ("curl --user=bob:secret http://x", "--user=bob:*** http://x"),
            ("curl -u bob http://x", "-u bob http://x"),
            ("smbclient -U bob%secret //h/s", "-U bob:*** //h/s"),
            ("git clone https://bob:secret@git.example/x.git", "clone https://***@git.example/x.git"),
            ("psql postgresql://bob:secret@db:5432/app", "postgresql://***@db:5432/app"),
            ("curl https://x/y?token=abc&page=2", "https://x/y?token=***&page=2"),
            ("curl -H Authorization: Bearer abc", "-H Authorization: *** abc"),
            ("curl Bearer abc", "Bearer ***"),
            ("tool 9f86d081884c7d659a2feaa0c55ad015", "***"),
            ("tool --id=ghp_a8Fk2LmQ9xZ7vB3nR5tY1wE6", "--id=***"),
            ("tool x/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0/y", "x/***.***/y"),
        ] {
            assert_eq!(told_of(line, Arguments::Redacted).as_deref(), Some(expected), "{line}");
        }
        let header =
            told(b"curl\0-H\0Authorization: Bearer abc\0-H\0X-Api-Key: k\0", false, Arguments::Redacted);
        assert_eq!(header.as_deref(), Some("-H 'Authorization: ***' -H 'X-Api-Key: ***'"));
    }

    #[test]
    fn ordinary_arguments_stay() {
        for line in [
            "x /usr/lib/python3/dist-packages/some-long-module-name/main.py",
            "x --author=bob --keyboard us --monkey --passive --compass=1",
            "x -p 8080:80 -v",
            "x -Pn -sS -T4 --max-rate 10000 198.51.100.0/24",
            "x 2001:db8::1 [2001:db8::1]:443 192.0.2.1:22",
            "x http://192.0.2.1:8080/path",
            "x --spring.config.location=classpath:application.yml",
            "x -c /etc/nginx/nginx.conf -g daemon",
        ] {
            assert_eq!(told_of(line, Arguments::Redacted).as_deref(), line.strip_prefix("x "), "{line}");
        }
    }

    #[test]
    fn arguments_are_told_as_is_wanted_and_never_more_than_text() {
        let line = "tool --password x";
        assert_eq!(told_of(line, Arguments::Full).as_deref(), Some("--password x"));
        assert_eq!(told_of(line, Arguments::None), None);
        assert_eq!(told_of("tool", Arguments::Full), None);
        assert_eq!(told(b"", false, Arguments::Full), None);
        let cut = told(b"sh\0-c\0a b\n\xff\0", true, Arguments::Redacted);
        assert_eq!(cut.as_deref(), Some("-c 'a b\\n\u{fffd}' [...]"));
        assert_eq!(told(b"x\0\0y\0", false, Arguments::Redacted).as_deref(), Some("'' y"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken(words in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)) {
            let text = told(&words, true, Arguments::Redacted).unwrap_or_default();
            proptest::prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
