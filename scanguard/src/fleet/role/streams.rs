//! The streams of a fleet, with their limits.

use std::time::Duration;

use async_nats::jetstream::{
    Context, kv,
    stream::{Config, DiscardPolicy, Republish, RetentionPolicy, StorageType},
};

use super::lease;
use crate::fleet::{
    settings::Run,
    snapshot::{MOST_BYTES, PIECE, SLOTS},
    wire::{
        ALL_DECISIONS, ALL_FINDINGS, ALL_OUT, ALL_SIGHTINGS, ALL_STATES, DECISIONS, FINDINGS, LEASES,
        MAX_MESSAGE, OLDEST, PARTITIONS, SIGHTINGS, STATES,
    },
};

/// Within this time, the server takes the same message once.
const DUPLICATES: Duration = Duration::from_secs(10 * 60);
/// The same of decisions.
const DECISIONS_BYTES: i64 = 256 << 20;

/// Those of findings, which are for people and storage, are kept this long.
const FINDINGS_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// And take this much.
const FINDINGS_BYTES: i64 = 256 << 20;

/// The most bytes of all snapshots, with those that the server adds to each piece.
const STATES_BYTES: i64 = (PARTITIONS as i64 * SLOTS as i64 * MOST_BYTES as i64) / 8 * 9;

/// The stream of snapshots. Each piece replaces the one before it in its place.
fn states(settings: &Run) -> Config {
    Config {
        name: STATES.to_owned(),
        description: Some("What instances of the role know, for those that take a partition over".to_owned()),
        subjects: vec![ALL_STATES.to_owned()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas.into(),
        max_message_size: i32::try_from(PIECE + 1_024).unwrap_or(i32::MAX),
        max_messages_per_subject: 1,
        max_bytes: STATES_BYTES,
        max_age: OLDEST,
        allow_direct: true,
        ..Config::default()
    }
}

/// The streams as they should be.
pub(super) fn configs(settings: &Run) -> [Config; 3] {
    let base = Config {
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: settings.replicas.into(),
        max_message_size: i32::try_from(MAX_MESSAGE).unwrap_or(i32::MAX),
        duplicate_window: DUPLICATES,
        allow_direct: true,
        deny_delete: true,
        max_age: OLDEST,
        ..Config::default()
    };
    let sightings = Config {
        name: SIGHTINGS.to_owned(),
        description: Some("What the members of the fleet saw".to_owned()),
        subjects: vec![ALL_SIGHTINGS.to_owned()],
        max_bytes: i64::from(settings.store_gib) << 30,
        ..base.clone()
    };
    let findings = Config {
        name: FINDINGS.to_owned(),
        description: Some("What rules of single members found".to_owned()),
        subjects: vec![ALL_FINDINGS.to_owned()],
        max_bytes: FINDINGS_BYTES,
        max_age: FINDINGS_AGE,
        ..base.clone()
    };
    let decisions = Config {
        name: DECISIONS.to_owned(),
        description: Some("What was decided, the last about each source".to_owned()),
        subjects: vec![ALL_DECISIONS.to_owned()],
        max_bytes: DECISIONS_BYTES,
        max_messages_per_subject: 1,
        republish: Some(Republish {
            source: ALL_DECISIONS.to_owned(),
            destination: ALL_OUT.replace('*', "{{wildcard(1)}}"),
            headers_only: false,
        }),
        ..base
    };
    [sightings, findings, decisions]
}

/// Makes the streams that are missing, and says where those that are there differ. Gives the bucket of leases.
///
/// # Errors
/// There is no JetStream, or it refuses.
pub(super) async fn ensure(context: &Context, settings: &Run) -> Result<kv::Store, String> {
    for wanted in configs(settings) {
        let name = wanted.name.clone();
        let mut stream = context
            .get_or_create_stream(wanted.clone())
            .await
            .map_err(|error| format!("stream {name}: {error}"))?;
        let info = stream.info().await.map_err(|error| format!("stream {name}: {error}"))?;
        for difference in differences(&wanted, &info.config) {
            tracing::warn!("fleet: the stream {name} is not as it should be: {difference}");
        }
    }
    // Without it, who takes a partition over reads the window.
    let states = states(settings);
    match context.get_or_create_stream(states.clone()).await {
        Ok(stream) => {
            for difference in differences(&states, &stream.cached_info().config) {
                tracing::warn!("fleet: the stream {STATES} is not as it should be: {difference}");
            }
        }
        Err(error) => tracing::warn!("fleet: there will be no snapshots: stream {STATES}: {error}"),
    }
    let bucket = kv::Config {
        bucket: LEASES.to_owned(),
        description: "Who works on which partition".to_owned(),
        history: 1,
        max_age: lease::LASTS,
        storage: StorageType::File,
        num_replicas: settings.replicas.into(),
        ..kv::Config::default()
    };
    match context.get_key_value(LEASES).await {
        Ok(store) => Ok(store),
        Err(_) => context.create_key_value(bucket).await.map_err(|error| format!("bucket {LEASES}: {error}")),
    }
}

fn differences(wanted: &Config, has: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, is_same: bool, should: String, is: String| {
        if !is_same {
            differences.push(format!("{what} is {is}, and should be {should}"));
        }
    };
    let list = |subjects: &[String]| subjects.join(" ");
    compare("subjects", wanted.subjects == has.subjects, list(&wanted.subjects), list(&has.subjects));
    let (should, is) = (wanted.max_messages_per_subject, has.max_messages_per_subject);
    let is_same = should.max(0) == is.max(0);
    compare("max_msgs_per_subject", is_same, should.to_string(), is.to_string());
    let (should, is) = (wanted.max_age, has.max_age);
    compare("max_age", should == is, format!("{should:?}"), format!("{is:?}"));
    let republishes = |config: &Config| config.republish.as_ref().map(|one| one.destination.clone());
    let (should, is) = (republishes(wanted), republishes(has));
    compare("republish", should == is, format!("{should:?}"), format!("{is:?}"));
    compare("allow_direct", has.allow_direct, "true".to_owned(), has.allow_direct.to_string());
    differences
}
