use std::{fs, time::Duration};

use super::{
    super::{
        Mode,
        responder::testing::{Bench, metrics},
        testing::now,
    },
    *,
};

/// Calls `keep` until the write has ended.
async fn kept(state_writer: &mut StateWriter, bench: &mut Bench) {
    state_writer.keep(&mut bench.responder, now(1)).await;
    while state_writer.writing.as_ref().is_some_and(|writing| !writing.task.is_finished()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    state_writer.finish_writing(&mut bench.responder).await;
}

#[tokio::test]
async fn what_could_not_be_read_is_never_written_over() {
    let directory = std::env::temp_dir().join(format!("scanguard-keeper-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let mut bench = Bench::new(Mode::Enforce);

    // A directory can be moved aside.
    let path = directory.join("state.json");
    fs::create_dir(&path).unwrap();
    let (mut state_writer, state) = StateWriter::open(path.clone(), metrics(), now(0));
    assert!(state.is_none() && !state_writer.blocked);
    kept(&mut state_writer, &mut bench).await;
    assert!(path.is_file() && directory.join("state.json.unreadable-19700101T000000Z").is_dir());

    // Below a path that is not a directory, nothing can be moved or written.
    let path = directory.join("state.json/below.json");
    let (mut state_writer, state) = StateWriter::open(path.clone(), metrics(), now(0));
    assert!(state.is_none());
    bench.responder.stay_dirty();
    kept(&mut state_writer, &mut bench).await;
    let error = state_writer.error().unwrap();
    assert!(error.contains("nor moved aside"), "{error}");
    fs::remove_file(directory.join("state.json")).unwrap();
    kept(&mut state_writer, &mut bench).await;
    assert!(state_writer.error().is_none() && path.is_file());
    fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn the_file_says_when_the_agent_ended_though_nothing_changed_since_it_was_written() {
    let path = std::env::temp_dir().join(format!("scanguard-ended-{}.json", std::process::id()));
    let mut bench = Bench::new(Mode::Enforce);
    let (mut state_writer, _) = StateWriter::open(path.clone(), metrics(), now(0));
    kept(&mut state_writer, &mut bench).await;
    let saved = || match state::load(&path, now(9).wall) {
        Loaded::State(state) => state.saved,
        other => panic!("{other:?}"),
    };
    let first = saved();
    state_writer.close(&mut bench.responder, now(7)).await;
    let last = saved();
    fs::remove_file(&path).unwrap();
    assert_eq!((first, last), (now(1).wall, now(7).wall));
}
