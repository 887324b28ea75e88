//! Follows the logs beside the agent's loop, and passes on their events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, block_in_place},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{settings::Settings, tail::Tail, unread::UnreadFile};
use crate::{content::ContentEvent, logs::metrics::LogMetrics};

/// How often the task looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How many bytes it reads at most between two looks. That is some 20,000 lines; a flood of lines must not take the
/// CPU.
const LOOK_BYTES: usize = 4 << 20;
/// How often it saves how far the files were read.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last save may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The followed logs.
pub struct Logs {
    batches: mpsc::Receiver<Vec<ContentEvent>>,
    follower: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    unread: Option<watch::Receiver<Vec<UnreadFile>>>,
}

impl Logs {
    /// Follows the logs of the settings, if there are any.
    pub fn follow(settings: &Settings, metrics: &Arc<LogMetrics>) -> Self {
        // One batch waits while the next is made.
        let (hand, batches) = mpsc::channel(1);
        let mut unread = None;
        let follower = (!settings.files.is_empty()).then(|| {
            let (stop, stopped) = oneshot::channel();
            let tail = Tail::new(settings.clone(), Arc::clone(metrics));
            unread = Some(tail.unread());
            (stop, tokio::spawn(follow(tail, hand, stopped)))
        });
        Self { batches, follower, unread }
    }

    /// The files of which no line can be read.
    pub fn unread(&self) -> Vec<UnreadFile> {
        self.unread.as_ref().map(|unread| unread.borrow().clone()).unwrap_or_default()
    }

    /// The events of new lines; nothing if no logs are followed. The caller may cancel this and call it again.
    pub async fn next(&mut self) -> Option<Vec<ContentEvent>> {
        let said = self.batches.recv().await;
        if said.is_none()
            && let Some((_, follower)) = self.follower.take()
            && let Err(error) = follower.await
        {
            tracing::error!("the access logs are no longer followed, until a reload changes [logs]: {error}");
        }
        said
    }

    /// Ends the task: passes the last events to `hear`. The next task continues right behind them.
    pub async fn end(&mut self, hear: &mut dyn FnMut(Vec<ContentEvent>)) {
        let Some((stop, follower)) = self.follower.take() else {
            return;
        };
        // The task may have ended by itself, which is reported below.
        let _ = stop.send(());
        let ended = async {
            while let Some(batch) = self.batches.recv().await {
                hear(batch);
            }
            follower.await
        };
        match timeout(PATIENCE, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("the access logs were no longer followed: {error}"),
            Err(_) => tracing::error!(
                "the disk does not answer, and the agent does not wait for it: some lines of access logs may be \
                 read again"
            ),
        }
    }
}

async fn follow(mut tail: Tail, hand: mpsc::Sender<Vec<ContentEvent>>, mut stopped: oneshot::Receiver<()>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut saved = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = looks.tick() => {}
        }
        block_in_place(|| tail.look(Timestamp::now()));
        let mut left = LOOK_BYTES;
        while left > 0 && stopped.is_empty() {
            let read = block_in_place(|| tail.read(Timestamp::now()));
            let batch = tail.take();
            // Only the agent's end closes it, and then `end` takes what is there.
            if !batch.is_empty() && hand.send(batch).await.is_err() {
                return;
            }
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        if saved.elapsed() >= SAVE_INTERVAL {
            saved = Instant::now();
            block_in_place(|| tail.save(Timestamp::now()));
        }
    }
    block_in_place(|| tail.close(Timestamp::now()));
}
