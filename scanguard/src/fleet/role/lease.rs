//! Leases of partitions: entries of a bucket that end by themselves, changed by compare and set. The revision of an entry
//! is the fencing token: who comes later has a greater one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use async_nats::jetstream::kv::{Store, UpdateErrorKind};
use bytes::Bytes;

/// How long a lease lasts that is not renewed.
pub(super) const LASTS: Duration = Duration::from_secs(5);
/// Who could not renew a lease for this long behaves as if it were over, before it is.
const OVER: Duration = Duration::from_millis(3_500);

/// A lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// Its revision: the fencing token.
    revision: u64,
    /// When the last renewal began that worked.
    renewed: Instant,
}

impl Lease {
    /// Its token, as long as it lasts.
    pub(super) fn token(&self) -> Option<u64> {
        (self.renewed.elapsed() < OVER).then_some(self.revision)
    }
}

/// The leases of an instance.
pub(super) struct Leases {
    store: Store,
    name: String,
    held: BTreeMap<u8, Lease>,
}

fn key(partition: u8) -> String {
    format!("p{partition}")
}

impl Leases {
    pub(super) fn new(store: Store, name: String) -> Self {
        Self { store, name, held: BTreeMap::new() }
    }

    fn value(&self) -> Bytes {
        self.name.clone().into()
    }

    /// Takes the lease of a partition, if nobody has it.
    pub(super) async fn take(&mut self, partition: u8) -> Option<Lease> {
        let began = Instant::now();
        let revision = self.store.create(key(partition), self.value()).await.ok()?;
        let lease = Lease { revision, renewed: began };
        self.held.insert(partition, lease);
        Some(lease)
    }

    /// Renews all, and forgets those that others have or that are over.
    pub(super) async fn renew(&mut self) {
        let value = self.value();
        let renewals = self.held.iter().map(|(partition, held)| {
            let (store, value, revision) = (self.store.clone(), value.clone(), held.revision);
            let partition = *partition;
            async move { (partition, Instant::now(), store.update(key(partition), value, revision).await) }
        });
        for (partition, began, result) in futures_util::future::join_all(renewals).await {
            match result {
                Ok(revision) => {
                    self.held.insert(partition, Lease { revision, renewed: began });
                }
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                    tracing::warn!("fleet: the lease of partition {partition} is another's");
                    self.held.remove(&partition);
                }
                Err(error) => {
                    tracing::warn!("fleet: the lease of partition {partition} was not renewed: {error}");
                }
            }
        }
        self.held.retain(|_, lease| lease.token().is_some());
    }

    /// Whether this instance has the lease.
    pub(super) fn holds(&self, partition: u8) -> bool {
        self.lease(partition).is_some()
    }

    /// The lease of a partition, if it is not over.
    pub(super) fn lease(&self, partition: u8) -> Option<Lease> {
        self.held.get(&partition).copied().filter(|lease| lease.token().is_some())
    }

    /// Ends a lease, so that others can take it at once.
    pub(super) async fn give_back(&mut self, partition: u8) {
        if let Some(held) = self.held.remove(&partition)
            && let Err(error) = self.store.delete_expect_revision(key(partition), Some(held.revision)).await
        {
            // It ends by itself.
            tracing::debug!("fleet: the lease of partition {partition} was not given back: {error}");
        }
    }
}
