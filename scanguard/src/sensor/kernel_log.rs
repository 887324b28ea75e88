//! The log of the kernel program.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

/// Adds it to the agent's log, until the process ends.
pub fn drain(ebpf: &mut aya::Ebpf) {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        // At a log level that passes nothing, the verifier has removed the map together with its users.
        Err(error) => return tracing::debug!("no log of the kernel program: {error}"),
    };
    tokio::spawn(async move {
        // SAFETY: the logger owns its descriptor, which stays the same and open until it is dropped.
        let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let Ok(mut logger) = logger else {
            return tracing::warn!("the log of the kernel program cannot be read");
        };
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
