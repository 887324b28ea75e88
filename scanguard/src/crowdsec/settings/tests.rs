use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::config::Config;

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("scanguard-crowdsec-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn where_the_local_api_is_is_said_by_a_plain_url() {
    for (text, host, port, private) in [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, true),
        ("http://127.0.0.1:8080/", "127.0.0.1", 8080, true),
        ("http://[::1]:8080", "::1", 8080, true),
        ("http://localhost", "localhost", 80, true),
        ("http://lapi.example:8080", "lapi.example", 8080, false),
        ("https://lapi.example:8080", "lapi.example", 8080, true),
        ("https://lapi.example", "lapi.example", 443, true),
    ] {
        let endpoint = Endpoint::try_from(text.to_owned()).expect(text);
        assert_eq!((endpoint.host.as_str(), endpoint.port, endpoint.is_private()), (host, port, private));
        assert_eq!(Endpoint::try_from(endpoint.to_string()), Ok(endpoint));
    }
    for text in
        ["", "127.0.0.1:8080", "http://", "ftp://a:1", "http://a:1/v1", "http://u:p@a:1", "http://a:99999"]
    {
        assert!(Endpoint::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn secrets_are_read_from_files_that_nobody_else_can_read_and_never_shown() {
    let directory = Directory::new("secrets");
    let good = directory.file("good", "hush-hush\n", 0o600);
    let text = format!("[crowdsec]\npull = true\nbouncer_key_file = \"{good}\"\n");
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.crowdsec.key.as_ref().map(Secret::reveal), Some("hush-hush"));
    assert_eq!(config.crowdsec.password, None, "what is not needed is not read");
    assert!(!format!("{config:?}").contains("hush"), "a secret is shown");

    for (name, text, mode, said) in [
        ("readable", "key", 0o644, "chmod 600"),
        ("group", "key", 0o640, "mode 640"),
        ("empty", "\n", 0o600, "not one line"),
        ("lines", "a\nb\n", 0o600, "not one line"),
        ("spaces", "a b", 0o600, "not one line"),
        ("long", &"k".repeat(5_000), 0o600, "not one line"),
    ] {
        let path = directory.file(name, text, mode);
        let text = format!("[crowdsec]\npull = true\nbouncer_key_file = \"{path}\"\n");
        let problems = Config::parse(&text).expect_err(name);
        assert!(problems[0].line == 3 && problems[0].message.contains(said), "{name}: {problems:?}");
    }
    for (path, said) in [("/nonexistent", "No such file"), ("/", "not a file"), ("/dev/null", "not a file")] {
        let text = format!("[crowdsec]\npull = true\nbouncer_key_file = \"{path}\"\n");
        let problems = Config::parse(&text).expect_err(path);
        assert!(problems[0].message.contains(said), "{path}: {problems:?}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_said_with_its_line() {
    let text = "\
[crowdsec]
url = \"127.0.0.1:8080\"
push = true
machine = \"a b\"
pull = true
interval = \"0s\"
max_decisions = 0
";
    let problems = Config::parse(text).expect_err("it is wrong");
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 3, 4, 5, 6, 7], "{problems:#?}");
}
