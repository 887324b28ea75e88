//! Notifications to systemd: ready, alive, reloading, ending (sd_notify(3)). Without systemd they go nowhere, which
//! is fine.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The connection to the service manager.
pub struct ServiceManager {
    /// How often the manager expects a sign of life; `None` if it expects none.
    every: Option<Duration>,
    alive_sent: Option<Instant>,
}

impl ServiceManager {
    /// Reads from the environment whether a service manager listens.
    pub fn new() -> Self {
        let mut microseconds = 0;
        let asks = sd_notify::watchdog_enabled(false, &mut microseconds);
        // A third of the watchdog's time leaves room for a long poll.
        Self { every: asks.then(|| Duration::from_micros(microseconds) / 3), alive_sent: None }
    }

    /// Reports that the agent is attached and polls, at first or after a reload. `systemctl status` shows `status`.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports that the agent reads its configuration again. [`Self::ready`] follows, whatever the result.
    pub fn reloading(&self) {
        // Without the time systemd still accepts this, except for units of Type=notify-reload.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => {
                tracing::debug!("the time of a reload: {error}");
                tell(&[NotifyState::Reloading]);
            }
        }
    }

    /// Reports that the agent ends.
    pub fn ending(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Reports that the main loop is alive; `now` is passed in.
    pub fn alive(&mut self, now: Instant) {
        let Some(every) = self.every else { return };
        if self.alive_sent.is_none_or(|sent| now.saturating_duration_since(sent) >= every) {
            self.alive_sent = Some(now);
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Whether a service manager listens, which is told by datagrams to a Unix socket.
pub fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

impl Default for ServiceManager {
    fn default() -> Self {
        Self::new()
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!("the service manager could not be notified: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixDatagram, process::Command};

    use super::*;

    const NAME: &str = "service::tests::a_service_manager_hears_how_it_goes";
    const SECOND: Duration = Duration::from_secs(1);

    /// The messages of an agent with a watchdog of three seconds.
    fn play() {
        let mut service = ServiceManager::new();
        let start = Instant::now();
        service.ready("attached");
        for after in [0, 500, 1000, 1900, 2000] {
            service.alive(start + Duration::from_millis(after));
        }
        service.reloading();
        service.ready("read again");
        service.ending();
    }

    fn heard(of: &UnixDatagram) -> Vec<String> {
        let mut heard = Vec::new();
        let mut message = [0; 256];
        while let Ok(length) = of.recv(&mut message) {
            heard.push(String::from_utf8(message[..length].to_vec()).unwrap());
        }
        heard
    }

    /// The environment belongs to the whole process, so a child process plays the agent.
    #[test]
    fn a_service_manager_hears_how_it_goes() {
        if env::var_os("NOTIFY_SOCKET")
            .is_some_and(|path| path.to_string_lossy().contains("scanguard-service-"))
        {
            return play();
        }
        let path = env::temp_dir().join(format!("scanguard-service-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        // The watchdog applies to one process only, as systemd defines it.
        let mut agent = Command::new("sh");
        agent.args(["-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"]).arg(env::current_exe().unwrap());
        agent.args([NAME, "--exact"]).env("NOTIFY_SOCKET", &path);
        let status =
            agent.env("WATCHDOG_USEC", (3 * SECOND).as_micros().to_string()).output().unwrap().status;
        socket.set_nonblocking(true).unwrap();
        let heard = heard(&socket);
        fs::remove_file(path).unwrap();

        assert!(status.success());
        let first_lines: Vec<_> = heard.iter().filter_map(|message| message.lines().next()).collect();
        assert_eq!(
            first_lines,
            ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "RELOADING=1", "READY=1", "STOPPING=1"]
        );
        assert!(heard[0].contains("\nSTATUS=attached\n"), "{heard:?}");
        assert!(heard[4].contains("\nMONOTONIC_USEC="), "{heard:?}");
        assert!(heard[5].contains("\nSTATUS=read again\n"), "{heard:?}");
    }
}
