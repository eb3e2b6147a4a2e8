//! The shape of the code as tests: folders, headers, unfinished work. What is said of it in the crate's documentation holds.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every source file with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("a directory").map_while(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    collect(&root.join("tests"), &mut files);
    assert!(files.len() > 50, "the sources were found");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file");
        (path.strip_prefix(root).expect("below the root").to_owned(), text)
    };
    files.into_iter().map(read).collect()
}

/// The folder of a file below src: `core` for `src/core/handover/leave.rs`; `None` for `src/lib.rs`.
fn folder(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let mut parts = below.components();
    let first = parts.next()?.as_os_str().to_str()?;
    parts.next().map(|_| first.to_owned())
}

/// A file of tests beside the code: `tests.rs`, or anything below a folder `tests`.
fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The folders of the crate that a file imports or names, wherever in the file that is.
fn imports(text: &str) -> Vec<String> {
    let names = text.split("crate::").skip(1);
    names
        .map(|rest| rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

/// The folders of `src`, and what each may import besides itself. The folder list is the architecture.
const FOLDERS: [(&str, &[&str]); 7] = [
    ("core", &[]),
    ("cloud", &["core"]),
    ("host", &["core"]),
    ("telemetry", &["core"]),
    ("daemon", &["core", "cloud", "host", "telemetry"]),
    ("cli", &["core", "cloud", "host", "telemetry", "daemon", "sim"]),
    ("sim", &[]),
];

#[test]
fn the_folders_are_the_architecture() {
    let mut files = 0;
    for (path, text) in sources() {
        if !path.starts_with("src") {
            continue;
        }
        let Some(own) = folder(&path) else {
            let name = path.file_name().and_then(|name| name.to_str());
            assert!(matches!(name, Some("lib.rs" | "main.rs")), "{} stands in no folder", path.display());
            continue;
        };
        let below = FOLDERS.iter().find(|(name, _)| *name == own).map(|(_, below)| *below);
        let below = below.unwrap_or_else(|| panic!("{} is no folder of the architecture", path.display()));
        for import in imports(&text) {
            assert!(import == own || below.contains(&import.as_str()), "{} imports {import}", path.display());
        }
        files += 1;
    }
    assert!(files > 100, "the sources were found");
}

#[test]
fn the_core_knows_nothing_of_the_outside() {
    const FORBIDDEN: [&str; 12] = [
        "async fn",
        ".await",
        "tokio",
        "tracing",
        "aws_sdk",
        "reqwest",
        "std::net",
        "std::fs",
        "std::env",
        "SystemTime",
        "Instant::now",
        "Timestamp::now",
    ];
    for (path, text) in sources() {
        if !path.starts_with("src/core") || is_test(&path) {
            continue;
        }
        for word in FORBIDDEN {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in sources() {
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // In two parts, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("], ["#[", "ignore"]];
    for (path, text) in sources() {
        for word in words.map(|parts| parts.concat()) {
            assert!(!text.contains(&word), "{}: {word}", path.display());
        }
    }
}

/// A source file's text without the tests that stand in it.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The files of `src` that are no tests, without the tests that stand in them.
fn code() -> Vec<(PathBuf, String)> {
    let all = sources().into_iter().filter(|(path, _)| path.starts_with("src") && !is_test(path));
    all.map(|(path, text)| (path, without_tests(&text).to_owned())).collect()
}

#[test]
fn files_are_of_a_length_that_can_be_read() {
    for (path, text) in sources() {
        let lines = without_tests(&text).lines().count();
        assert!(is_test(&path) || lines <= 450, "{} has {lines} lines", path.display());
    }
}

#[test]
fn functions_are_of_a_length_that_can_be_read() {
    const MOST: usize = 60;
    for (path, text) in code() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let before_name = line.trim_start().split("fn ").next().unwrap_or_default();
            let is_function = line.contains("fn ")
                && before_name
                    .split_whitespace()
                    .all(|word| word.starts_with("pub") || matches!(word, "async" | "const" | "super)" | "crate)"));
            if !is_function || line.trim_end().ends_with([';', '}']) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines.iter().skip(number).position(|line| *line == end).map_or(0, |length| length + 1);
            assert!(length <= MOST, "{}:{}: a function of {length} lines", path.display(), number + 1);
        }
    }
}

/// Nouns that are one thing in two folders: AWS's, and the owner, which the simulator plays.
const SHARED_NOUNS: [&str; 15] = [
    "AutoScalingGroup",
    "Fleet",
    "FleetType",
    "Instance",
    "InstanceState",
    "LaunchTemplate",
    "LifeCycle",
    "LifecycleAction",
    "LifecycleHook",
    "Notice",
    "Owner",
    "Subnet",
    "Target",
    "TargetGroup",
    "TargetType",
];

#[test]
fn a_type_name_means_one_thing() {
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in code() {
        let Some(own) = folder(&path) else { continue };
        for line in text.lines() {
            let mut words = line.split_whitespace().filter(|word| !word.starts_with("pub"));
            let is_type = matches!(words.next(), Some("struct" | "enum" | "trait" | "type"));
            if let Some(name) = words.next().filter(|_| is_type && !line.starts_with(' ')) {
                let name: String = name.chars().take_while(|letter| letter.is_alphanumeric()).collect();
                folders.entry(name).or_default().insert(own.clone());
            }
        }
    }
    assert!(folders.len() > 200, "the types were found");
    for (name, folders) in folders {
        let may_be_shared = SHARED_NOUNS.contains(&name.as_str());
        assert!(folders.len() < 2 || may_be_shared, "{name} is a type in {folders:?}: give each its own name");
    }
}

/// The module of a file: `["core", "plan"]` for `src/core/plan.rs`, and `["cli"]` for `src/cli/mod.rs`.
fn module(path: &Path) -> Vec<String> {
    let below = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let parts = below.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The paths of a tree of a `use`: `a::b` and `a::c::d` of `a::{b, c::d}`.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((before, inside)) = tree.trim().strip_suffix('}').and_then(|tree| tree.split_once('{')) else {
        return vec![tree.trim().to_owned()];
    };
    let (mut depth, mut branch, mut branches) = (0, String::new(), Vec::new());
    for letter in inside.chars().chain([',']) {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        if letter == ',' && depth == 0 {
            branches.push(std::mem::take(&mut branch));
        } else {
            branch.push(letter);
        }
    }
    let branches = branches.iter().filter(|branch| !branch.trim().is_empty()).flat_map(|branch| paths_of(branch));
    branches.map(|branch| format!("{}{branch}", before.trim())).collect()
}

/// The modules of the crate that a file names, in a `use` or within a line. What it only hands on (`pub use`) is none of them.
fn named_modules(own: &[String], text: &str, all: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let (mut paths, mut rest) = (Vec::new(), String::new());
    for statement in code.split_inclusive(';') {
        let trimmed = statement.trim_start();
        if let Some(tree) = trimmed.strip_prefix("use ") {
            paths.extend(paths_of(tree.trim_end_matches(';')));
        } else if !(trimmed.starts_with("pub") && trimmed.contains(" use ")) {
            rest.push_str(statement);
        }
    }
    // A visibility is no import.
    let rest = rest.replace("pub(in crate::", "pub(in ");
    let is_of_a_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    paths.extend(rest.split(|letter| !is_of_a_path(letter)).filter(|word| word.contains("::")).map(str::to_owned));
    let absolute = |path: &String| {
        let mut parts =
            path.split("::").map(|part| part.split_whitespace().next().unwrap_or_default().to_owned()).peekable();
        let mut from = own.to_vec();
        match parts.peek().map(String::as_str) {
            Some("crate") => from.clear(),
            Some("self" | "super") => {}
            Some(first) if all.contains(&[own, &[first.to_owned()]].concat()) => {}
            _ => return None,
        }
        for part in parts {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(from.pop()),
                _ => from.push(part),
            }
        }
        (1..=from.len()).rev().map(|length| from[..length].to_vec()).find(|module| all.contains(module))
    };
    paths.iter().filter_map(absolute).filter(|module| module != own).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let code = code();
    let all: BTreeSet<Vec<String>> = code.iter().map(|(path, _)| module(path)).collect();
    let mut left: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> =
        code.iter().map(|(path, text)| (module(path), named_modules(&module(path), text, &all))).collect();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 300, "the imports were found");
    // Whoever imports nobody that is left is in no circle.
    while let Some(free) = left.iter().find(|(_, imports)| imports.iter().all(|it| !left.contains_key(it))) {
        let free = free.0.clone();
        left.remove(&free);
    }
    let circle: Vec<String> = left.keys().map(|module| module.join("/")).collect();
    assert!(circle.is_empty(), "these import each other in a circle: {circle:?}");
}
