//! The committed corpora of the fuzzers, each file run through its target: what was found once is not found again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{TestError, TestRunner},
};
use scanguard_tests::fuzz::TARGETS;

/// A directory of the fuzzers.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Names of the files in a directory, without extensions.
fn names(directory: &Path) -> BTreeSet<String> {
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    entries(directory).into_iter().map(stem).collect()
}

/// The files of a corpus.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = entries(&directory("corpus").join(name));
    assert!(!paths.is_empty(), "the corpus of {name} is empty");
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

#[test]
fn every_target_has_a_fuzzer_and_a_corpus_and_nothing_else_has() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&directory("targets")), targets);
    assert_eq!(names(&directory("corpus")), targets);
    let manifest = fs::read_to_string(directory("Cargo.toml")).expect("a manifest");
    for name in &targets {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "no [[bin]] for {name}");
    }
}

#[test]
fn every_file_of_every_corpus_holds() {
    for (name, target) in TARGETS {
        for (path, bytes) in corpus(name) {
            // Shown if the target panics.
            println!("{}", path.display());
            target(&bytes);
        }
    }
}

/// The beginning of one file and the end of another, with some bytes changed. No coverage leads it, as it does libFuzzer, but it
/// needs nothing: `PROPTEST_CASES=1000000` makes it long.
#[test]
fn changes_of_files_of_every_corpus_hold() {
    let change = (
        any::<[Index; 2]>(),
        any::<[Index; 2]>(),
        prop::collection::vec((any::<Index>(), any::<u8>()), 0..8),
        any::<bool>(),
    );
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        let outcome = TestRunner::default().run(&change, |(files, cuts, bytes, is_spliced)| {
            let [first, second] = files.map(|file| &file.get(&corpus).1);
            let [first_cut, second_cut] =
                [(first, cuts[0]), (second, cuts[1])].map(|(file, cut)| cut.index(file.len() + 1));
            let mut input = if is_spliced {
                [&first[..first_cut], &second[second_cut..]].concat()
            } else {
                first.clone()
            };
            for (at, byte) in bytes {
                if !input.is_empty() {
                    let at = at.index(input.len());
                    input[at] = byte;
                }
            }
            // A failing input is shown as it is, small.
            prop_assert!(std::panic::catch_unwind(|| target(&input)).is_ok(), "{}", input.escape_ascii());
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, _)) => panic!("{name}: {reason}"),
            Err(TestError::Abort(reason)) => panic!("{name}: given up: {reason}"),
        }
    }
}
