//! Steps that run in a guest, and their results on its console.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    arch::Arch,
    kernels::{Kernel, Series},
};
use crate::{process, workspace::Workspace};

/// One thing that is tried.
pub(super) struct Step {
    /// Its name on the console.
    name: &'static str,
    /// Its title on the page.
    pub(super) title: &'static str,
    /// Its command, as a line of the shell.
    command: &'static str,
    /// In how many seconds it must end there.
    seconds: u32,
}

impl Step {
    /// Whether it is one of these; of none, each is.
    fn is_in(&self, names: &[&str]) -> bool {
        names.is_empty() || names.contains(&self.name)
    }
}

/// The name of a step that somebody gave.
///
/// # Errors
/// There is no such step.
pub(super) fn step(name: &str) -> Result<&'static str, String> {
    STEPS.iter().map(|step| step.name).find(|known| *known == name).ok_or_else(|| format!("no step {name:?}"))
}

/// All, in their order; the first is the doctor.
pub(super) const STEPS: [Step; 8] = [
    Step {
        name: "doctor",
        title: "doctor",
        command: "scanguard doctor --iface edge0 --user 64873",
        seconds: 400,
    },
    Step {
        name: "run",
        title: "run",
        // Ended by a signal after it has been seen to run; without a program it ends by itself.
        command: "timeout -s TERM 60 scanguard run --iface edge0 --user root --mode native --listen 127.0.0.1:9823 --socket /tmp/s --state /tmp/st",
        seconds: 120,
    },
    Step {
        name: "progrun",
        title: "prog-run: packet table",
        command: "progrun packet --skip bench",
        seconds: 600,
    },
    Step {
        name: "native",
        title: "veth, native",
        // What comes, and what leaves.
        command: "sh -c \"netns --exact 'native: every packet of the table on the wire' && \
                  netns --exact 'egress: resets are counted as tcpdump counts them'\"",
        seconds: 480,
    },
    Step {
        name: "generic",
        title: "veth, generic",
        command: "netns --exact 'generic: every packet of the table on the wire'",
        seconds: 240,
    },
    Step {
        name: "scan",
        title: "nmap scan found",
        command: "netns --exact 'native: nmap -n -Pn -sS -p 1-1000 {victim}'",
        seconds: 240,
    },
    Step {
        name: "persist",
        title: "taken over (persist)",
        command: "netns --exact 'persist: without it, the next agent takes over and leaves nothing'",
        seconds: 240,
    },
    Step {
        name: "sandbox",
        title: "sandbox",
        // What it has given up, and what code in it may try.
        command: "sh -c \"netns --exact 'sandbox: no thread has a capability, and all have their system calls filtered' && \
                  netns --exact 'sandbox: all that code could try that took the agent over is refused'\"",
        seconds: 480,
    },
];

/// How long a guest may take that runs all steps.
pub(super) const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Begins the lines that the script writes of a step, and ends the last.
const MARK: &str = "@@";

/// The result of a step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Outcome {
    /// Its exit code; none: it was never reached, or the guest stopped in it.
    pub(super) code: Option<i32>,
    /// Tests that passed and that failed, if it ran any.
    pub(super) tests: (u64, u64),
    /// Its output.
    pub(super) output: Vec<String>,
}

impl Outcome {
    /// Whether it ended well; of tests, at least one ran.
    pub(super) fn is_good(&self, step: &Step) -> bool {
        let tests = step.command.contains("progrun") || step.command.contains("netns");
        self.code == Some(0) && self.tests.1 == 0 && (!tests || self.tests.0 > 0)
    }
}

/// The results of each of [`STEPS`].
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Results(pub(super) Vec<Outcome>);

impl Results {
    /// One line for each step.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(step, outcome): (&Step, &Outcome)| {
            let (passed, failed) = outcome.tests;
            format!("{:<24} exit {:?}, tests: {passed} passed, {failed} failed", step.title, outcome.code)
        };
        STEPS.iter().zip(&self.0).map(line).collect()
    }

    /// Whether all of these steps came as is expected of the kernel; of all steps, if none is named.
    pub(super) fn is_as_expected(&self, series: &Series, steps: &[&str]) -> bool {
        let mut ran = STEPS.iter().zip(&self.0).filter(|(step, _)| step.is_in(steps));
        ran.all(|(step, outcome)| outcome.is_good(step))
            && self.losses().iter().all(|loss| series.expects(loss))
    }

    /// Doctor's lines about losses and faults.
    pub(super) fn losses(&self) -> Vec<String> {
        let doctor = self.0.first().map_or(&[][..], |doctor| &doctor.output);
        doctor
            .iter()
            .filter(|line| line.starts_with("loss ") || line.starts_with("BAD "))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }
}

/// The first process of the guest: loads these modules and tries these steps, or all if none is named, then turns it off.
pub(super) fn script(arch: Arch, modules: &[String], steps: &[&str]) -> String {
    let interfaces =
        "ip link add edge0 type veth peer name peer0; ip link set edge0 up; ip link set peer0 up\n";
    let steps = STEPS.iter().filter(|step| step.is_in(steps));
    let steps = steps.map(|step| line(step.name, step.seconds, step.command)).collect::<String>();
    format!("{}{interfaces}{steps}poweroff -f\n", beginning(arch, modules))
}

/// What the first process of each guest begins with.
pub(super) fn beginning(arch: Arch, modules: &[String]) -> String {
    let mut text = format!(
        "#!/bin/sh
export PATH=/bin:/sbin SCANGUARD_SLOWNESS=4
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
mount -t tmpfs run /run; mkdir -p /run/netns; mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cg /sys/fs/cgroup
exec </dev/null >/dev/{} 2>&1
",
        arch.console()
    );
    for module in modules {
        text += &format!("insmod /modules/{module}\n");
    }
    text + "ip link set lo up\n"
}

/// The line of the script that runs a step, and marks on the console where it begins and ends.
pub(super) fn line(name: &str, seconds: u32, command: &str) -> String {
    format!("echo '{MARK} begin {name}'; timeout {seconds} {command}; echo \"{MARK} end {name} $?\"\n")
}

/// Runs the guest to its end, or until it has taken as long as it may; its console goes to `log`, and is given.
///
/// # Errors
/// qemu cannot be started, or the guest never came to the first step.
pub(super) fn boot(
    ws: &Workspace,
    arch: Arch,
    kernel: &Kernel,
    image: &Path,
    log: &Path,
    limit: Duration,
    with: impl FnOnce(Command) -> Command,
) -> Result<String> {
    let mut qemu = arch.qemu(ws);
    qemu.args(["-smp", "2", "-m", "2G"]);
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"]);
    qemu.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
    qemu.args(["-append", &format!("console={} panic=-1 quiet mitigations=off", arch.console())]);
    let mut qemu = with(qemu);
    println!("$ {}", process::shown(&qemu));
    let mut guest =
        qemu.stdin(Stdio::null()).stdout(File::create(log)?).spawn().context("cannot start qemu")?;
    let deadline = Instant::now() + limit;
    while guest.try_wait()?.is_none() {
        if Instant::now() > deadline {
            println!("{}: not done after {} min, ended", kernel.release, limit.as_secs() / 60);
            guest.kill()?;
            guest.wait()?;
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    let said = String::from_utf8_lossy(&fs::read(log)?).replace('\r', "");
    if !said.contains(MARK) {
        bail!("{} did not boot, see {}", kernel.release, ws.display(log));
    }
    Ok(said)
}

/// Reads the console.
pub(super) fn read(said: &str) -> Results {
    Results(STEPS.iter().map(|step| outcome(said, step.name)).collect())
}

/// What became of the step of that name.
pub(super) fn outcome(said: &str, name: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let Some((_, rest)) = said.split_once(&format!("{MARK} begin {name}\n")) else {
        return outcome;
    };
    let end = format!("{MARK} end {name} ");
    let (inside, after) = rest.split_once(&end).unwrap_or((rest, ""));
    outcome.code = after.split_whitespace().next().and_then(|code| code.parse().ok());
    outcome.output = inside.lines().map(str::to_owned).collect();
    for line in inside.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let count = |what| crate::test::count_of(what, line);
        outcome.tests = (outcome.tests.0 + count("passed"), outcome.tests.1 + count("failed"));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::{super::kernels::ALL, *};

    #[test]
    fn the_console_is_read_step_by_step_and_one_that_was_not_reached_is_not_good() {
        let said = "boot\n@@ begin doctor\nok    kernel 6.1\nloss  egress   gone;  lost\n@@ end doctor 0\n\
                    @@ begin progrun\ntest result: ok. 3 passed; 1 failed; 0 ignored\n@@ end progrun 101\n\
                    @@ begin native\ntest result: ok. 1 passed; 0 failed\n@@ end native 0\n@@ begin scan\n";
        let results = read(said);
        let codes: Vec<_> = results.0.iter().map(|outcome| outcome.code).collect();
        assert_eq!(codes, [Some(0), None, Some(101), Some(0), None, None, None, None]);
        assert_eq!(results.0[2].tests, (3, 1));
        assert_eq!(results.losses(), ["loss egress gone; lost"]);
        let good: Vec<_> =
            STEPS.iter().zip(&results.0).map(|(step, outcome)| outcome.is_good(step)).collect();
        assert_eq!(good, [true, false, false, true, false, false, false, false]);
        assert!(ALL.iter().all(|series| !results.is_as_expected(series, &[])));
    }

    #[test]
    fn a_test_step_that_ran_no_test_is_not_good() {
        let outcome = Outcome { code: Some(0), ..Outcome::default() };
        assert!(!outcome.is_good(&STEPS[2]) && outcome.is_good(&STEPS[0]));
    }

    #[test]
    fn only_the_steps_that_are_asked_for_run_and_count() {
        let asked = [step("doctor").unwrap()];
        let script = script(Arch::X86, &["veth.ko".to_owned()], &asked);
        assert!(script.contains("begin doctor") && !script.contains("begin progrun"), "{script}");
        assert!(script.contains("insmod /modules/veth.ko"), "{script}");
        let results = read("@@ begin doctor\n@@ end doctor 0\n");
        assert!(results.is_as_expected(&ALL[1], &asked));
        assert!(step("dance").is_err());
    }

    #[test]
    fn a_kernel_that_loses_what_it_should_not_is_not_as_expected_though_doctor_ends_well() {
        let asked = [step("doctor").unwrap()];
        let series = Series { losses: &["landlock"], ..ALL[1] };
        let said =
            |line: &str| read(&format!("@@ begin doctor\nok    kernel   6.1\n{line}\n@@ end doctor 0\n"));
        assert!(said("loss  landlock   absent").is_as_expected(&series, &asked));
        assert!(!said("loss  egress program   gone").is_as_expected(&series, &asked));
    }
}
