//! `scanguard doctor` says what the configured agent would miss, and changes nothing.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    crowdsec::Crowdsec,
    lab::{Lab, VICTIM_INTERFACE},
    pinned::Bpffs,
};

use crate::{counts::config_file, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("doctor: it says what the configured agent would miss, and changes nothing", doctor)]
}

/// The report, whose exit code is known, without what its columns are filled up with.
fn report(lab: &Lab, arguments: &[&str], code: i32) -> Result<String> {
    let common = ["doctor", "--iface", VICTIM_INTERFACE];
    let mut doctor = Agent::spawn(&lab.victim, &[common.as_slice(), arguments].concat())?;
    let got = doctor.exit_code()?;
    let lines =
        doctor.lines().into_iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n");
    let report = lines.collect::<String>() + &doctor.said();
    ensure!(got == Some(code), "exit code {got:?}, not {code}: {report}");
    Ok(report)
}

fn doctor() -> Result<()> {
    let lab = Lab::new()?;
    let bpffs = Bpffs::mount()?;
    let pin = bpffs.pin().display().to_string();
    let directory = lab.victim.directory();
    let state = directory.join("state/state.json").display().to_string();
    let socket = directory.join("control.sock").display().to_string();
    let files = format!("[response]\nstate = \"{state}\"\n[control]\nsocket = \"{socket}\"\n");
    let persist = format!("[sensor]\npersist = true\npin = \"{pin}\"\n");

    let mut crowdsec = Crowdsec::start(&lab.victim)?;
    let link = format!("{}\npush = true\npull = true\n", crowdsec.settings());
    let config = config_file(&[persist.as_str(), &files, &link].concat())?;
    let good = report(&lab, &["--config", &config.path()], 0)?;
    for line in [
        format!("ok configuration {}", config.path()),
        format!("ok pins {pin}: can be written"),
        format!("ok state file {state} can be written"),
        format!("ok control socket {socket} can be made"),
        "ok crowdsec push http://127.0.0.1:8080 takes findings of edge-1".to_owned(),
        "ok crowdsec pull http://127.0.0.1:8080 tells its decisions".to_owned(),
    ] {
        ensure!(good.contains(&line), "{line}: {good}");
    }
    println!("{good}");
    ensure!(!bpffs.pin().exists() && !directory.join("state").exists(), "something was made");
    crowdsec.stop();
    let without = report(&lab, &["--config", &config.path()], 0)?;
    for line in ["loss crowdsec push no findings are pushed", "loss crowdsec pull no decisions are pulled"] {
        ensure!(without.contains(line), "{line}: {without}");
    }

    let config = config_file(&files)?;
    let nowhere = directory.join("nowhere").display().to_string();
    let nowhere = report(&lab, &["--config", &config.path(), "--pin", &nowhere], 10)?;
    ensure!(nowhere.contains("BAD pins") && nowhere.contains("not on a BPF file system"), "{nowhere}");
    bpffs.make_read_only()?;
    let locked = report(&lab, &["--config", &config.path(), "--pin", &pin], 10)?;
    ensure!(locked.contains("BAD pins") && locked.contains("read-only"), "{locked}");
    let config = config_file(&format!(
        "[response]\nstate = \"{pin}/state.json\"\n[control]\nsocket = \"{}/socket\"\ngroup = \"nosuchgroup\"\n",
        config.path()
    ))?;
    let denied = report(&lab, &["--config", &config.path()], 9)?;
    for line in [
        "BAD state file",
        "Read-only file system",
        "BAD control socket",
        "is not a directory",
        "BAD control group",
    ] {
        ensure!(denied.contains(line), "{line}: {denied}");
    }
    let config = config_file("[sensor]\nmode = \"fast\"\n")?;
    let wrong = report(&lab, &["--config", &config.path()], 3)?;
    ensure!(wrong.contains("BAD configuration") && wrong.contains("sensor.mode"), "{wrong}");
    Ok(())
}
