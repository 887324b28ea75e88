//! The order of the modules. ARCHITECTURE.md lists those of the agent from the ground up, and each uses only those before it.
//! In all crates, no two files of one folder use each other, directly or by way of others. A folder's `mod.rs` and the
//! files below it are one thing: they may.

mod uses;

use std::collections::{BTreeMap, BTreeSet};

use self::uses::{Crate, Module, Target, Use};

/// The crates whose names nobody but one module has in its code.
const KEPT: [(&str, &str); 3] = [("aya", "sensor"), ("aya_log", "sensor"), ("aya_obj", "sensor")];

fn read(name: &str) -> Crate {
    let source = crate::path(name).join("src");
    Crate::read(name, &|file| std::fs::read_to_string(source.join(file)).ok())
}

/// Where something is used, for a message.
fn place(name: &str, at: &Use) -> String {
    format!("{name}/src/{}:{}", at.file.display(), at.line)
}

/// The modules that ARCHITECTURE.md has in its numbered list of layers, from the ground up.
fn order(architecture: &str) -> Vec<&str> {
    let (_, section) = architecture.split_once("\n## Layers\n").expect("it has a section \"Layers\"");
    let section = section.split("\n## ").next().unwrap_or_default();
    let (_, list) = section.split_once("\n1. ").expect("it has a numbered list");
    list.split("\n\n").next().unwrap_or_default().split('`').skip(1).step_by(2).collect()
}

/// Uses of modules that do not stand before their user.
fn upwards(name: &str, order: &[&str], uses: &[Use]) -> Vec<String> {
    let rank = |module: &str| order.iter().position(|one| *one == module);
    let mut wrong = Vec::new();
    for at in uses {
        let Target::Here(of) = &at.of else { continue };
        let (Some(user), Some(used)) = (at.by.first(), of.first()) else { continue };
        if user != used && rank(used) > rank(user) {
            let place = place(name, at);
            wrong.push(format!(
                "{place}: `{user}` uses `{used}`, which stands above it in the layers of ARCHITECTURE.md"
            ));
        }
    }
    wrong
}

/// Uses by which modules of one of these folders use each other in a circle.
fn circles(folders: &[&Module], name: &str, uses: &[Use]) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in folders {
        // The modules that each module uses, with the places.
        let mut used: BTreeMap<&str, BTreeMap<&str, &Use>> = BTreeMap::new();
        for at in uses {
            let Target::Here(target) = &at.of else { continue };
            let within = |module: &[String]| module.len() > folder.len() && module.starts_with(folder);
            if !within(&at.by) || !within(target) {
                continue;
            }
            let (user, target) = (at.by[folder.len()].as_str(), target[folder.len()].as_str());
            if user != target {
                used.entry(user).or_default().entry(target).or_insert(at);
            }
        }
        for (user, targets) in &used {
            for (target, at) in targets.iter().filter(|(target, _)| reaches(&used, target, user)) {
                wrong.push(format!(
                    "{}: `{user}` uses `{target}`, and that uses `{user}`, maybe by way of others: files of one \
                     folder may not",
                    place(name, at)
                ));
            }
        }
    }
    wrong
}

fn reaches<T>(used: &BTreeMap<&str, BTreeMap<&str, T>>, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(used.get(module).into_iter().flat_map(|targets| targets.keys().copied()));
        }
    }
    false
}

/// Uses of other crates by modules that are not to know them.
fn strangers(name: &str, uses: &[Use]) -> Vec<String> {
    let mut wrong = Vec::new();
    for at in uses {
        let Target::Elsewhere(used) = &at.of else { continue };
        let Some((_, keeper)) = KEPT.iter().find(|(kept, _)| kept == used) else { continue };
        if at.by.first().is_none_or(|user| user != keeper) {
            let place = place(name, at);
            wrong.push(format!("{place}: only `{keeper}` uses the crate `{used}`"));
        }
    }
    wrong
}

#[test]
fn a_module_of_the_agent_uses_only_those_below_it() {
    let agent = read("scanguard");
    let architecture = crate::read("ARCHITECTURE.md");
    let order = order(&architecture);
    let listed: BTreeSet<_> = order.iter().copied().collect();
    assert_eq!(listed.len(), order.len(), "a module stands twice in the layers of ARCHITECTURE.md");
    assert_eq!(listed, agent.children(&[]), "the layers of ARCHITECTURE.md, and the modules that there are");
    let uses = agent.uses();
    let wrong = [upwards("scanguard", &order, &uses), strangers("scanguard", &uses)].concat();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_files_of_one_folder_use_each_other_in_a_circle() {
    let mut wrong = Vec::new();
    for name in ["scanguard", "scanguard-common", "scanguard-ebpf"] {
        let all = read(name);
        // The agent's folders stand in an order, which is the other test's.
        let is_ordered = name == "scanguard";
        let folders: Vec<_> = all.modules().filter(|folder| !(is_ordered && folder.is_empty())).collect();
        wrong.extend(circles(&folders, name, &all.uses()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Small crates that break the rules, and are found out.
mod examples {
    use std::path::Path;

    use super::*;

    fn example(files: &[(&str, &str)]) -> Crate {
        let text = |file: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == file);
            found.map(|(_, text)| (*text).to_owned())
        };
        Crate::read("example", &text)
    }

    #[test]
    fn a_use_is_found_wherever_it_stands() {
        let of = example(&[
            ("lib.rs", "mod high; mod low;"),
            ("high.rs", "pub struct High; pub fn high() {}"),
            (
                "low.rs",
                "use crate::{\n    high::High as Above,\n};\nfn one() {\n    crate::high::high();\n    \
                 println!(\"{:?}\",\n        [super::high::high()]);\n}\n#[error(\"{}\",\n    crate::high::high())]\nstruct Error;",
            ),
        ]);
        let wrong = upwards("example", &["low", "high"], &of.uses());
        let lines: Vec<_> = wrong.iter().map(|wrong| wrong.split(':').nth(1).unwrap_or_default()).collect();
        assert_eq!(lines, ["2", "5", "7", "10"], "{wrong:#?}");
        assert_eq!(upwards("example", &["high", "low"], &of.uses()), Vec::<String>::new());
    }

    #[test]
    fn code_for_tests_only_may_use_everything() {
        let of = example(&[
            ("lib.rs", "mod high; mod low;"),
            ("high.rs", ""),
            (
                "low.rs",
                "#[cfg(test)] use crate::high; #[cfg(test)] mod tests { use crate::high; } #[cfg(test)] mod more;",
            ),
            ("low/more.rs", "use crate::high;"),
        ]);
        assert_eq!(upwards("example", &["low", "high"], &of.uses()), Vec::<String>::new());
    }

    #[test]
    fn a_circle_is_found_also_by_way_of_a_third_and_of_what_the_folder_hands_on() {
        let of = example(&[
            ("lib.rs", "mod folder;"),
            ("folder/mod.rs", "mod one; mod two; mod three; mod apart; pub use self::three::Three;"),
            ("folder/one.rs", "use super::two::Two;"),
            ("folder/two.rs", "use super::Three; pub struct Two;"),
            ("folder/three.rs", "use crate::folder; pub struct Three; fn three() { folder::one::one() }"),
            ("folder/apart.rs", "use super::one;"),
        ]);
        let wrong = circles(&of.modules().collect::<Vec<_>>(), "example", &of.uses());
        let users: Vec<_> = wrong.iter().map(|wrong| wrong.split('`').nth(1).unwrap_or_default()).collect();
        assert_eq!(users, ["one", "three", "two"], "{wrong:#?}");
    }

    #[test]
    fn a_crate_that_one_module_keeps_is_found_elsewhere() {
        let of = example(&[
            ("lib.rs", "mod sensor; mod app;"),
            ("sensor.rs", "use aya::Ebpf;"),
            ("app.rs", "fn load(ebpf: &aya::Ebpf) {}"),
        ]);
        let wrong = strangers("example", &of.uses());
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        assert!(wrong[0].ends_with("app.rs:1: only `sensor` uses the crate `aya`"), "{wrong:#?}");
    }
}
