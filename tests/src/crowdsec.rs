//! CrowdSec's Local API, the real one, in a namespace: its own database and configuration, and no word to anybody else.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    certificate::certificate,
    lab::{Namespace, Process, run, wait_for},
};

/// Where it listens, within its namespace.
pub const LISTEN: &str = "127.0.0.1:8080";
/// Under which name the agent pushes.
pub const MACHINE: &str = "edge-1";
/// Long enough for it to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Made up: nothing but this test ever knows it.
const PASSWORD: &str = "a-password-of-a-test";

/// A Local API with its files.
pub struct Crowdsec<'n> {
    namespace: &'n Namespace,
    directory: PathBuf,
    is_tls: bool,
    process: Option<Process>,
}

impl<'n> Crowdsec<'n> {
    /// Sets one up with a machine and a bouncer for the agent, and starts it.
    ///
    /// # Errors
    /// It is not installed (`cargo xtask setup`), or does not start.
    pub fn start(namespace: &'n Namespace) -> Result<Self> {
        let directory = namespace.directory().join("crowdsec");
        for part in ["data", "hub", "notifications", "plugins"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fs::write(directory.join("config.yaml"), config(&directory, ""))?;
        // As the package brings them.
        fs::write(directory.join("simulation.yaml"), "simulation: false\n")?;
        fs::write(directory.join("profiles.yaml"), PROFILES)?;
        fs::write(directory.join("hub/.index.json"), "{}")?;
        fs::write(directory.join("cscli.yaml"), "")?;
        let mut crowdsec = Self { namespace, directory, is_tls: false, process: None };
        let own = crowdsec.directory.join("cscli.yaml").display().to_string();
        crowdsec.cscli(&["machines", "add", "cscli", "--auto", "--file", &own])?;
        crowdsec.cscli(&["machines", "add", MACHINE, "--password", PASSWORD, "--file", "/dev/null"])?;
        let key = crowdsec.cscli(&["bouncers", "add", MACHINE, "--output", "raw"])?;
        crowdsec.secret("key", key.trim())?;
        crowdsec.secret("password", PASSWORD)?;
        crowdsec.resume()?;
        Ok(crowdsec)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start; what it said is part of the error.
    pub fn resume(&mut self) -> Result<()> {
        let path = self.directory.join("log");
        let log = fs::File::create(&path)?;
        // Without its agent, which reads logs.
        let mut command = self.command("crowdsec");
        command.arg("-no-cs").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut process = Process::new(command.spawn().context("crowdsec")?);
        let up = wait_for("the Local API", PATIENCE, || {
            if process.child.try_wait().ok().flatten().is_some() {
                return Some(false);
            }
            let connect = || TcpStream::connect(LISTEN).context("connect");
            self.namespace.enter(connect).is_ok().then_some(true)
        });
        ensure!(matches!(up, Ok(true)), "crowdsec: {}", fs::read_to_string(path).unwrap_or_default());
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again, with TLS from now on; the file of its certificate.
    ///
    /// # Errors
    /// As there.
    pub fn resume_with_tls(&mut self) -> Result<PathBuf> {
        let certificate = certificate(&self.directory)?;
        let tls = format!(
            "    tls:\n      cert_file: {}\n      key_file: {}\n",
            certificate.certificate.display(),
            certificate.key.display()
        );
        fs::write(self.directory.join("config.yaml"), config(&self.directory, &tls))?;
        self.is_tls = true;
        self.resume()?;
        Ok(certificate.certificate)
    }

    /// Ends it; what it knows stays.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Runs `cscli` and gives what it says.
    ///
    /// # Errors
    /// It failed.
    pub fn cscli(&self, arguments: &[&str]) -> Result<String> {
        let output = run(self.command("cscli").args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `cscli` and reads the JSON that it says.
    ///
    /// # Errors
    /// It failed, or says something else.
    pub fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let said = self.cscli(&[arguments, &["--output", "json"]].concat())?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// The agent's section `[crowdsec]`, without a line's end.
    pub fn settings(&self) -> String {
        let directory = self.directory.display();
        let scheme = if self.is_tls { "https" } else { "http" };
        format!(
            "[crowdsec]\nurl = \"{scheme}://{LISTEN}\"\nmachine = \"{MACHINE}\"\npassword_file = \"{directory}/password\"\n\
             bouncer_key_file = \"{directory}/key\"\ninterval = \"1s\""
        )
    }

    fn secret(&self, name: &str, secret: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, secret)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command(program);
        command.arg("-c").arg(self.directory.join("config.yaml")).current_dir(&self.directory);
        command
    }
}

/// What Debian's package has, but for paths: without the central API, without metrics, in the foreground.
fn config(directory: &Path, tls: &str) -> String {
    let directory = directory.display();
    format!(
        "common:
  daemonize: false
  log_media: stdout
  log_level: info
  working_dir: .
config_paths:
  config_dir: {directory}/
  data_dir: {directory}/data/
  simulation_path: {directory}/simulation.yaml
  hub_dir: {directory}/hub/
  index_path: {directory}/hub/.index.json
  notification_dir: {directory}/notifications/
  plugin_dir: {directory}/plugins/
cscli:
  output: human
  color: \"no\"
db_config:
  log_level: info
  type: sqlite
  db_path: {directory}/data/crowdsec.db
plugin_config:
  user: nobody
  group: nogroup
api:
  client:
    credentials_path: {directory}/cscli.yaml
  server:
    log_level: info
    listen_uri: {LISTEN}
    profiles_path: {directory}/profiles.yaml
{tls}prometheus:
  enabled: false
"
    )
}

/// Debian's own.
const PROFILES: &str = "name: default_ip_remediation
filters:
 - Alert.Remediation == true && Alert.GetScope() == \"Ip\"
decisions:
 - type: ban
   duration: 4h
on_success: break
";
