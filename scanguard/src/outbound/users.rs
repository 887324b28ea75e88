//! The names of users of this host.

use std::{collections::BTreeMap, path::Path};

use super::text::clean;
use crate::whole_file;

/// The file that has them.
pub const FILE: &str = "/etc/passwd";
/// The largest size of that file.
const MAX_BYTES: u64 = 1 << 20;
/// How many users are kept.
const MAX_USERS: usize = 16_384;
/// The longest name that is taken.
const MAX_NAME: usize = 64;

/// Names by number. They are read once: the sandbox may keep the file out of reach later.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Users(BTreeMap<u32, String>);

impl Users {
    /// The users of this file; none if it cannot be read.
    pub fn read(path: &Path) -> Self {
        whole_file::read(path, MAX_BYTES).map(|bytes| Self::parse(&bytes)).unwrap_or_default()
    }

    /// The users in the form of passwd(5). The first name of a number counts.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut users = BTreeMap::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
            let uid = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse::<u32>().ok());
            let Some(uid) = uid.filter(|_| !name.is_empty() && name.len() <= MAX_NAME) else { continue };
            if users.len() < MAX_USERS {
                users.entry(uid).or_insert_with(|| clean(name));
            }
        }
        Self(users)
    }

    /// The name of a user.
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_file_and_broken_lines_are_left_out() {
        let users = Users::parse(
            b"root:x:0:0:root:/root:/bin/bash\n\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\nbad\nx:y:z:\ntoor:x:0:0::/:/bin/sh\n+::::::\n",
        );
        assert_eq!((users.name(0), users.name(33), users.name(1)), (Some("root"), Some("www-data"), None));
        assert_eq!(Users::read(Path::new("/nonexistent")), Users::default());
    }
}
