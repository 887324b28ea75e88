//! The unit of systemd of a process, from the path of its control group; and the class of units whose names differ by an
//! instance only.

/// Kinds of units that have processes.
const KINDS: [&str; 6] = [".service", ".scope", ".socket", ".mount", ".swap", ".slice"];

/// The unit of a control group: the last name in its path that is one. A slice counts only if there is no other.
pub fn of(group: &str) -> Option<&str> {
    let is_unit = |name: &&str, kinds: &[&str]| {
        kinds.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind))
    };
    let (slice, others) = KINDS.split_last().map(|(slice, others)| ([*slice], others))?;
    let names = || group.split('/');
    let own = names().rfind(|name| is_unit(name, others));
    own.or_else(|| names().rfind(|name| is_unit(name, &slice)))
}

/// Whether processes of this control group are those of a user who logged in, or of this user's own services.
pub fn is_login(group: &str) -> bool {
    group.split('/').any(|name| name.starts_with("user-") && name.ends_with(".slice"))
}

/// Fewest digits of a part that is an id and no name.
const ID: usize = 8;

/// The name of a unit, or the path of a group, without what differs from one instance to the next: what stands behind
/// `@`, numbers, and long hexadecimal numbers. `session-3.scope` becomes `session-#.scope`.
pub fn class(name: &str) -> String {
    let (stem, kind) = match KINDS.iter().find_map(|kind| name.strip_suffix(kind)) {
        Some(stem) => (stem, &name[stem.len()..]),
        None => (name, ""),
    };
    let mut class = String::with_capacity(name.len());
    let (stem, is_instance) = stem.split_once('@').map_or((stem, false), |(stem, _)| (stem, true));
    let mut rest = stem;
    while !rest.is_empty() {
        let is_part = |character: char| character.is_ascii_alphanumeric();
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (part, more) = rest.split_at(end);
        class.push_str(if is_id(part) { "#" } else { part });
        let other = more.find(is_part).unwrap_or(more.len());
        let (between, more) = more.split_at(other);
        class.push_str(between);
        rest = more;
    }
    if is_instance {
        class.push('@');
    }
    class.push_str(kind);
    class
}

/// Whether a part of a name is a number, a long hexadecimal number, or one of those behind a letter (`run-u123`).
fn is_id(part: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |text: &str| text.len() >= ID && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let behind = part.char_indices().nth(1).map_or("", |(place, _)| &part[place..]);
    digits(part)
        || hexadecimal(part)
        || part.starts_with(['u', 'p', 'r', 'c']) && (digits(behind) || hexadecimal(behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_last_one_in_the_path() {
        for (path, unit, login) in [
            ("/system.slice/web.service", Some("web.service"), false),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service"), false),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope"), true),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service",
                Some("sync.service"),
                true,
            ),
            ("/system.slice/web.service/workers/1", Some("web.service"), false),
            ("/custom.slice", Some("custom.slice"), false),
            ("/init.scope", Some("init.scope"), false),
            ("/docker/abc", None, false),
            ("/", None, false),
            ("", None, false),
            (".service", None, false),
        ] {
            assert_eq!((of(path), is_login(path)), (unit, login), "{path}");
        }
    }

    #[test]
    fn instances_of_one_unit_are_one_class() {
        for (name, expected) in [
            ("web.service", "web.service"),
            ("session-3.scope", "session-#.scope"),
            ("sshd@12-192.0.2.1:22-198.51.100.2:40312.service", "sshd@.service"),
            ("run-u123.service", "run-#.service"),
            ("run-r3f9a0c11d2e44bb0a7d0.scope", "run-#.scope"),
            ("app-org.gnome.Terminal-1234.scope", "app-org.gnome.Terminal-#.scope"),
            ("postgresql@16-main.service", "postgresql@.service"),
            ("php8.2-fpm.service", "php8.#-fpm.service"),
            ("/jobs/17/worker", "/jobs/#/worker"),
            ("cafe.service", "cafe.service"),
        ] {
            assert_eq!(class(name), expected);
        }
    }
}
