//! The committed corpora of the fuzzers, each file run through its target: what was found once is not found again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use scanguard_tests::fuzz::TARGETS;

/// A directory of the fuzzers.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
}

/// What is in a directory, without extensions.
fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    entries.map(|entry| stem(entry.expect("an entry").path())).collect()
}

#[test]
fn every_target_has_a_fuzzer_and_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&directory("targets")), targets);
    assert_eq!(names(&directory("corpus")), targets);
}

#[test]
fn every_file_of_every_corpus_holds() {
    for (name, target) in TARGETS {
        let corpus = directory("corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(&corpus).expect("a corpus") {
            let path = entry.expect("an entry").path();
            // Shown if the target panics.
            println!("{}", path.display());
            target(&fs::read(&path).expect("a file"));
            files += 1;
        }
        assert!(files > 0, "{} is empty", corpus.display());
    }
}
