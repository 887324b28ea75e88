use std::{fs, time::Duration};

use super::{
    super::{
        Mode,
        responder::testing::{Bench, metrics},
        testing::now,
    },
    *,
};

/// Keeps until that came to an end.
async fn kept(keeper: &mut Keeper, bench: &mut Bench) {
    keeper.keep(&mut bench.responder, now(1)).await;
    while keeper.writing.as_ref().is_some_and(|writing| !writing.task.is_finished()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    keeper.finish_writing(&mut bench.responder).await;
}

#[tokio::test]
async fn what_could_not_be_read_is_never_written_over() {
    let directory = std::env::temp_dir().join(format!("scanguard-keeper-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let mut bench = Bench::new(Mode::Enforce);

    // Moved aside, as a directory can be.
    let path = directory.join("state.json");
    fs::create_dir(&path).unwrap();
    let (mut keeper, state) = Keeper::open(path.clone(), metrics(), now(0));
    assert!(state.is_none() && !keeper.blocked);
    kept(&mut keeper, &mut bench).await;
    assert!(path.is_file() && directory.join("state.json.unreadable-19700101T000000Z").is_dir());

    // Nothing can be moved, nor written, below what is no directory.
    let path = directory.join("state.json/below.json");
    let (mut keeper, state) = Keeper::open(path.clone(), metrics(), now(0));
    assert!(state.is_none());
    bench.responder.stay_dirty();
    kept(&mut keeper, &mut bench).await;
    let error = keeper.error().unwrap();
    assert!(error.contains("nor moved aside"), "{error}");
    fs::remove_file(directory.join("state.json")).unwrap();
    kept(&mut keeper, &mut bench).await;
    assert!(keeper.error().is_none() && path.is_file());
    fs::remove_dir_all(&directory).unwrap();
}
