//! Users and their passwords, which are stored as bcrypt hashes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bcrypt::HashParts;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Semaphore, oneshot};

use super::{Wrong, file::File, wrong};
use crate::{http_server::metrics::Unauthorized, secret::Secret};

/// Each step doubles the work: 14 takes a second or two, and a request has 30.
const MAX_COST: u32 = 14;
/// Passwords that may wait for their comparison. More are rejected: the queue would take longer than a scrape may.
const MAX_WAITING: usize = 8;
/// After a wrong password, no comparison runs for this multiple of its time: so guessing uses at most a quarter of
/// one CPU.
const PAUSE: u32 = 3;
/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The users with access; if there are none, everybody has access.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Users {
    hashes: BTreeMap<String, Secret>,
    /// The hash with the highest cost. It is compared for unknown users, so that the time does not reveal which users
    /// exist.
    slowest: Secret,
}

impl Users {
    pub(super) fn new(file: &File) -> Result<Self, Wrong> {
        let hashes = file.users.clone().unwrap_or_default();
        let mut costs = Vec::new();
        for (user, hash) in &hashes {
            let key = format!("basic_auth_users.{user}");
            let parts: HashParts = hash.reveal().parse().map_err(|_| {
                wrong(
                    key.clone(),
                    "this is no bcrypt hash: `htpasswd -nBC 10 \"\" | tr -d ':\\n'` makes one of a password",
                )
            })?;
            if !(4..=MAX_COST).contains(&parts.get_cost()) {
                let why = format!("the cost {} is not within 4 to {MAX_COST}", parts.get_cost());
                return Err(wrong(key, why));
            }
            costs.push((parts.get_cost(), hash));
        }
        let slowest = costs.iter().max_by_key(|(cost, _)| *cost).map(|(_, hash)| (*hash).clone());
        let slowest = slowest.unwrap_or_default();
        Ok(Self { hashes, slowest })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// The credentials that a client sends.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

/// Parses `Basic USER:PASSWORD`; RFC 7617, 2.
fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    let (scheme, said) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let said = BASE64_STANDARD.decode(said.trim_ascii()).ok()?;
    let colon = said.iter().position(|byte| *byte == b':')?;
    let (user, password) = (said.get(..colon)?, said.get(colon + 1..)?);
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

/// Compares passwords one after the other, and remembers the correct ones.
pub(super) struct Comparer {
    /// For each user a hash of the last correct password: one entry for each user.
    right: Mutex<HashMap<String, [u8; 32]>>,
    queue: Semaphore,
    turn: Arc<Semaphore>,
}

impl Comparer {
    pub(super) fn new() -> Self {
        Self {
            right: Mutex::default(),
            queue: Semaphore::new(MAX_WAITING),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Forgets the correct passwords.
    pub(super) fn forget(&self) {
        self.right.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether a request comes from one of the users.
    pub(super) async fn check(&self, users: &Users, headers: &HeaderMap) -> Result<(), Unauthorized> {
        if users.is_empty() {
            return Ok(());
        }
        let Credentials { user, password } = credentials(headers).ok_or(Unauthorized::NoCredentials)?;
        let known = users.hashes.get(&user);
        let hash = known.unwrap_or(&users.slowest);
        let digest: [u8; 32] =
            Sha256::new().chain_update(hash.reveal()).chain_update(&password).finalize().into();
        if known.is_some() && self.was_right(&user, &digest) {
            return Ok(());
        }
        if self.compare(password, hash.clone()).await? && known.is_some() {
            self.right.lock().unwrap_or_else(PoisonError::into_inner).insert(user, digest);
            return Ok(());
        }
        Err(Unauthorized::Wrong)
    }

    fn was_right(&self, user: &str, digest: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(user).is_some_and(|right| right.ct_eq(digest).into())
    }

    /// Whether a password matches a hash. It runs in a thread where it blocks nothing, and never twice at once.
    async fn compare(&self, password: Vec<u8>, hash: Secret) -> Result<bool, Unauthorized> {
        let _waiting = self.queue.try_acquire().map_err(|_| Unauthorized::Busy)?;
        let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| Unauthorized::Busy)?;
        let (sender, receiver) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let is_right = bcrypt::verify(password, hash.reveal()).unwrap_or(false);
            // The client may have gone. The pause follows all the same, so that guessing gets no cheaper.
            let _ = sender.send(is_right);
            if !is_right {
                thread::sleep((begun.elapsed() * PAUSE).min(MAX_PAUSE));
            }
            drop(turn);
        });
        receiver.await.map_err(|_| Unauthorized::Busy)
    }
}
