//! A hostile file in each place that a reload reads: it is refused by name, and the main loop does not wait for it.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::scanguard,
        lab::{Lab, PATIENCE, Process, run},
        scenario::Scenario,
    },
    tables::scans::SCANS,
};

use crate::trial;

/// More than any place takes; a hole, which takes no room on the disk.
const HUGE: u64 = (1 << 30) + 1;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "fault: a hostile file in any place that a reload reads is refused, and nothing waits for it",
        hostile_files,
    )]
}

/// A place in the configuration that names a file.
struct Place {
    /// Words of the answer that name it.
    words: &'static str,
    /// The configuration, but for the path.
    config: &'static str,
    /// The configuration with such a file is wrong. Else it is taken, with a warning.
    refused: bool,
}

const fn place(words: &'static str, config: &'static str) -> Place {
    Place { words, config, refused: true }
}

const PLACES: &[Place] = &[
    Place { words: "feed ", config: "[feeds]\nfiles = [\"FILE\"]\n", refused: false },
    place("geo.country", "[geo]\ncountry = \"FILE\"\n"),
    place("geo.asn", "[geo]\nasn = \"FILE\"\n"),
    place("content.lists.agents", "[content.lists]\nagents = \"FILE\"\n"),
    place("content.lists.paths", "[content.lists]\npaths = \"FILE\"\n"),
    place("content.lists.ja4", "[content.lists]\nja4 = \"FILE\"\n"),
    place("fingerprints.syn", "[fingerprints]\nsyn = \"FILE\"\n"),
    place("metrics.web_config", "[metrics]\nweb_config = \"FILE\"\n"),
    place("tls_server_config.cert_file", "[metrics]\nweb_config = \"WEB\"\n"),
    place("page.admin_token_file", "[page]\nadmin_token_file = \"FILE\"\n"),
    place(
        "crowdsec.password_file",
        "[crowdsec]\npush = true\nmachine_id = \"a\"\npassword_file = \"FILE\"\n",
    ),
    place("crowdsec.bouncer_key_file", "[crowdsec]\npull = true\nbouncer_key_file = \"FILE\"\n"),
    place(
        "sinks[0].secret_file",
        "[[sinks]]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nsecret_file = \"FILE\"\n",
    ),
];

/// Puts something in the place of a file.
type Make = fn(&Path) -> Result<()>;

const HOSTILE: &[(&str, Make)] = &[
    ("a pipe", |path| run(Command::new("mkfifo").arg(path)).map(drop)),
    ("/dev/zero", |path| run(Command::new("mknod").arg(path).args(["c", "1", "5"])).map(drop)),
    ("a directory", |path| Ok(fs::create_dir(path)?)),
    ("1 GiB", |path| Ok(secret(path)?.set_len(HUGE)?)),
    ("rotten bytes", |path| {
        secret(path)?;
        Ok(fs::write(path, [0xff, 0, 0xfe, b'\n', b'{', 0x80].repeat(1000))?)
    }),
];

/// A file that only its owner can read: its rights are not what it is refused for.
fn secret(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn remove(path: &Path) -> Result<()> {
    Ok(if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }?)
}

/// Exit code of `scanguard reload`, and its output.
fn reload(lab: &Lab) -> Result<(Option<i32>, String)> {
    let mut command = scanguard(&lab.victim, &["reload"])?;
    let said = lab.victim.directory().join("said");
    let output = File::create(&said)?;
    let child = command.stdout(output.try_clone()?).stderr(output).spawn()?;
    let status = Process::new(child).wait_within(PATIENCE)?;
    Ok((status.code(), fs::read_to_string(said)?))
}

fn hostile_files() -> Result<()> {
    let right = "[rules.vertical_scan]\nservices = 20\n";
    let scenario = Scenario::new(right)?.with(&["--format", "json"]);
    let config = scenario.file();
    let directory = scenario.lab.victim.directory();
    let [hostile, web] = ["hostile", "web.yml"].map(|name| directory.join(name));
    let [hostile_path, web_path] = [&hostile, &web].map(|path| path.to_str());
    let (hostile_path, web_path) = (hostile_path.context("UTF-8")?, web_path.context("UTF-8")?);
    fs::write(&web, "tls_server_config: {cert_file: hostile, key_file: hostile}\n")?;
    scenario.run(|lab, agent| {
        for (what, make) in HOSTILE {
            make(&hostile).with_context(|| (*what).to_owned())?;
            for place in PLACES {
                let text = place.config.replace("FILE", hostile_path).replace("WEB", web_path);
                scenario.configure(&text)?;
                let (code, said) = reload(lab).with_context(|| format!("{what} as {}", place.words))?;
                let wanted = if place.refused { 3 } else { 0 };
                let Place { words: named, .. } = place;
                ensure!(
                    code == Some(wanted) && said.contains(named),
                    "{what} as {named}: exit code {code:?}: {said}"
                );
            }
            remove(&hostile)?;
            // The configuration itself.
            remove(&config)?;
            make(&config)?;
            let (code, said) = reload(lab).with_context(|| format!("{what} as the configuration"))?;
            let named = said.contains("scanguard.toml");
            ensure!(code == Some(3) && named, "{what} as the configuration: exit code {code:?}: {said}");
            remove(&config)?;
        }
        // A log is opened only once it is a file: it is no error that it is none yet.
        (HOSTILE[0].1)(&hostile)?;
        scenario.configure(&format!("[logs]\nfiles = [\"{hostile_path}\"]\n"))?;
        let (code, said) = reload(lab).context("a pipe as a log")?;
        ensure!(code == Some(0), "a pipe as a log: exit code {code:?}: {said}");

        scenario.configure(right)?;
        let (code, said) = reload(lab)?;
        ensure!(code == Some(0), "exit code {code:?}: {said}");
        let before = agent.settled()?.probes("syn");
        SCANS[0].run(lab)?;
        let counted = agent.settled()?.probes("syn") - before;
        ensure!(counted >= 1000.0, "{counted}: {}", agent.said());
        Ok(())
    })
}
