//! Words that only a machine chose: digests, UUIDs, numbers of things. Nobody guesses them, so they are in no word list.

/// Least length of a number. Lists have years, dates, and short numbers.
const LEAST_DIGITS: usize = 10;
/// Least length of hexadecimal digits.
const LEAST_HEX: usize = 16;
/// Least length of random letters and digits, such as Base64.
const LEAST_MIXED: usize = 16;
/// Least length of random digits and letters of one case, such as Base32, and least number of runs of digits in it.
const LEAST_ONE_CASE: (usize, usize) = (24, 4);

/// The lengths of a directory by which identifiers are spread.
const SHARD: std::ops::RangeInclusive<usize> = 2..=4;

/// Whether a run of letters and digits is an identifier.
pub(super) fn is_identifier(word: &str) -> bool {
    let length = word.len();
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    if length < LEAST_DIGITS || !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    let is_hex = length >= LEAST_HEX && digits > 0 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits == length || is_hex || is_random(word)
}

/// Whether its letters and digits are mixed as in no word. Words joined as in `getUserById` have pieces of several
/// letters; random text has pieces of one or two.
fn is_random(word: &str) -> bool {
    let (mut pieces, mut runs_of_digits, mut before) = (0, 0, None::<u8>);
    for byte in word.bytes() {
        let is_new_number = byte.is_ascii_digit() && !before.is_some_and(|before| before.is_ascii_digit());
        let goes_on = match before {
            None => false,
            Some(before) if byte.is_ascii_digit() => before.is_ascii_digit(),
            Some(before) => byte.is_ascii_lowercase() && before.is_ascii_alphabetic(),
        };
        pieces += usize::from(!goes_on);
        runs_of_digits += usize::from(is_new_number);
        before = Some(byte);
    }
    let (least, least_runs) = LEAST_ONE_CASE;
    let is_one_case = word.bytes().all(|byte| !byte.is_ascii_uppercase())
        || word.bytes().all(|byte| !byte.is_ascii_lowercase());
    if is_one_case {
        word.len() >= least && runs_of_digits >= least_runs
    } else {
        word.len() >= LEAST_MIXED && pieces * 5 >= word.len() * 2
    }
}

/// A path without what nobody guesses, for counting distinct guesses: paths that differ only in identifiers, or in the
/// names of versioned files, become equal.
pub(super) fn shape(path: &str) -> String {
    let segments: Vec<_> = path.split('/').collect();
    if is_versioned_file(&segments) {
        let root = segments.iter().find(|segment| !segment.is_empty()).copied().unwrap_or_default();
        return format!("/{root}/{MARK}");
    }
    let plain = segments
        .iter()
        .map(|segment| if has_sigil(segment) { MARK.to_owned() } else { without_identifiers(segment) });
    let mut plain: Vec<_> = plain.collect();
    for place in (1..plain.len()).rev() {
        if plain[place].contains(MARK) && is_shard(&plain[place - 1]) {
            MARK.clone_into(&mut plain[place - 1]);
        }
    }
    plain.join("/")
}

/// Whether a segment is a directory by which identifiers are spread: `/ab/abcdef...`.
fn is_shard(segment: &str) -> bool {
    SHARD.contains(&segment.len()) && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a path has the form by which repositories of packages name files: `group/name/1.0/name-1.0.jar` (Maven),
/// `name/-/name-1.0.tgz` (npm). Only somebody who knows name and version asks for it.
fn is_versioned_file(segments: &[&str]) -> bool {
    let Some((file, directories)) = segments.split_last() else { return false };
    directories.windows(2).any(|pair| {
        let &[name, version] = pair else { return false };
        let rest = file.strip_prefix(name).filter(|_| !name.is_empty());
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix('-')) else { return false };
        let is_number = rest.starts_with(|char: char| char.is_ascii_digit());
        is_number && (version == "-" || (!version.is_empty() && rest.starts_with(version)))
    })
}

/// Whether a segment is a name of something on a named server, such as `@user:example.org` (Matrix, appendices 4.2).
fn has_sigil(segment: &str) -> bool {
    segment.starts_with(['@', '!', '#', '$']) && segment.contains(':')
}

/// A text in which each identifier, UUIDs included, is a mark: two texts that differ only in identifiers become equal.
fn without_identifiers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let uuid = rest.get(..UUID.len()).filter(|start| is_uuid(start) && !goes_on(rest, UUID.len()));
        let run = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_alphanumeric()).len();
        let (length, is_mark) = match uuid {
            Some(uuid) => (uuid.len(), true),
            None if run > 0 => (run, is_identifier(&rest[..run])),
            None => (first.len_utf8(), false),
        };
        let (part, after) = rest.split_at(length);
        plain.push_str(if is_mark { MARK } else { part });
        rest = after;
    }
    plain
}

/// Stands for an identifier. No path that a parser gives has this character.
const MARK: &str = "\u{1}";
/// The form of a UUID (RFC 9562, 4).
const UUID: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

fn is_uuid(text: &str) -> bool {
    text.bytes().zip(UUID.bytes()).all(|(byte, form)| match form {
        b'-' => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// Whether letters or digits follow at this place.
fn goes_on(text: &str, at: usize) -> bool {
    text.get(at..).and_then(|rest| rest.chars().next()).is_some_and(|char| char.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_chose_is_an_identifier() {
        for word in [
            "0123456789",
            "1764430000123",
            "0123456789abcdef",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "3F2504E04F8911D39A0C0305E82C3301",
            "dQw4w9WgXcQdQw4w9WgXcQ",
            "OGEhHVWSdvArJzumhm",
            "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        ] {
            assert!(is_identifier(word), "{word}");
        }
    }

    #[test]
    fn what_lists_have_is_none() {
        for word in [
            "",
            "admin",
            "2024",
            "20240131",
            "123456789",
            "deadbeef",
            "wordpress",
            "configuration",
            "phpmyadmin2011",
            "getAllUsersByIdAndName",
            "WordPressPlugin2023Backup",
            "INTERNATIONALIZATION",
            "administratorconsole2019final1",
            "facadefacadefacade",
            "eval-stdin",
            "jquery3",
        ] {
            assert!(!is_identifier(word), "{word}");
        }
        // Every word that the tests scan with.
        for word in include_str!("../../../tests/src/matrix/cases/content/words.txt").lines() {
            assert_eq!(without_identifiers(word), word);
        }
    }

    #[test]
    fn texts_that_differ_only_in_identifiers_are_equal_without_them() {
        let rows = [
            ("/ac/e3b0c44298fc1c149afbf4c8996fb924", "/ac/\u{1}"),
            ("/cas/sha256:e3b0c44298fc1c149afbf4c8996fb924", "/cas/sha256:\u{1}"),
            ("/assets/123e4567-e89b-12d3-a456-426614174000/thumbnail", "/assets/\u{1}/thumbnail"),
            ("/x-123e4567-e89b-12d3-a456-426614174000z", "/x-123e4567-e89b-12d3-a456-426614174000z"),
            ("/static/main.0123456789abcdef.js", "/static/main.\u{1}.js"),
            ("/admin/0123456789abcdef", "/admin/\u{1}"),
            ("/admin0123456789/ü", "/admin0123456789/ü"),
            ("/backup/2024/site.zip", "/backup/2024/site.zip"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(without_identifiers(text), expected, "{text}");
        }
    }

    #[test]
    fn shapes_are_equal_where_only_what_nobody_guesses_differs() {
        let rows = [
            ("/repository/org/x/a1/1.0/a1-1.0.pom", "/repository/\u{1}"),
            ("/repository/com/y/b/2.0-rc1/b-2.0-rc1.jar.sha1", "/repository/\u{1}"),
            ("/npm/left-pad/-/left-pad-1.3.0.tgz", "/npm/\u{1}"),
            ("/data/0f/0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e", "/data/\u{1}/\u{1}"),
            ("/lfs/ab/cdef/3f2504e04f8911d39a0c0305e82c3301", "/lfs/\u{1}/\u{1}/\u{1}"),
            ("/admin/3f2504e04f8911d39a0c0305e82c3301", "/admin/\u{1}"),
            (
                "/_matrix/client/v3/user/@u:h.example/rooms/!OGEhHVWSdvArJzumhm:h.example/account_data/x",
                "/_matrix/client/v3/user/\u{1}/rooms/\u{1}/account_data/x",
            ),
            ("/Items/3F2504E04F8911D39A0C0305E82C3301/Images/Primary", "/Items/\u{1}/Images/Primary"),
        ];
        for (path, expected) in rows {
            assert_eq!(shape(path), expected, "{path}");
        }
        for path in [
            "/",
            "",
            "/admin/",
            "/backup/backup.zip",
            "/backup/backup-old.zip",
            "/backup/db/db-2024.sql",
            "/site//site-2024.sql",
            "/a/a-1.zip",
            "/@user",
            "/x:y",
        ] {
            assert_eq!(shape(path), path);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-f0-9/.üA-Z-]{0,80}|\\PC{0,40}") {
            proptest::prop_assert!(shape(&text).len() <= text.len() + 3);
        }
    }
}
