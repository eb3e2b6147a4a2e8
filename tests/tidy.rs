//! The shape of the code as tests: layers, headers, unfinished work. What is said of it in the crate's documentation holds.
#![expect(clippy::expect_used, reason = "a test that fails says where")]

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

/// The module of a file below src: `handover` for `src/handover/leave.rs`.
fn module(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// The crate's own modules that a file imports or names.
fn imports(text: &str) -> Vec<String> {
    let without_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let names = without_tests.split("crate::").skip(1);
    names
        .map(|rest| rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect())
        .collect()
}

const PURE: [&str; 11] =
    ["model", "retry", "config", "notice", "plan", "policy", "handover", "arrival", "life", "drill", "watchdog"];
const EDGES: [&str; 14] = [
    "aws", "boot", "hooks", "imds", "journal", "lock", "metrics", "probe", "process", "record", "signals", "sockets",
    "systemd", "webhook",
];

fn files_of(modules: &[&str]) -> Vec<(PathBuf, String)> {
    let is_test =
        |path: &Path| path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    let of = |path: &Path| module(path).is_some_and(|module| modules.contains(&module.as_str()));
    let files: Vec<_> = sources().into_iter().filter(|(path, _)| of(path) && !is_test(path)).collect();
    assert!(files.len() >= modules.len());
    files
}

#[test]
fn the_pure_layers_know_nothing_of_the_outside() {
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
    for (path, text) in files_of(&PURE) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
        for import in imports(&text) {
            assert!(PURE.contains(&import.as_str()), "{} imports {import}", path.display());
        }
    }
}

#[test]
fn edges_do_not_know_each_other_and_decide_nothing() {
    for (path, text) in files_of(&EDGES) {
        let own = module(&path).expect("a module");
        for import in imports(&text) {
            // A record holds what the core knows; its types are data.
            let allowed = import == own || PURE.contains(&import.as_str());
            assert!(allowed, "{} imports {import}", path.display());
        }
    }
}

#[test]
fn the_simulator_and_the_daemon_do_not_know_each_other() {
    for (path, text) in files_of(&["sim"]) {
        for import in imports(&text) {
            assert_eq!(import, "sim", "{} imports {import}", path.display());
        }
    }
    for (path, text) in files_of(&["daemon", "aws", "imds", "handover"]) {
        assert!(!imports(&text).contains(&"sim".to_owned()), "{}", path.display());
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

#[test]
fn files_are_of_a_length_that_can_be_read() {
    for (path, text) in sources() {
        let is_test = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        assert!(is_test || lines <= 490, "{} has {lines} lines", path.display());
    }
}
