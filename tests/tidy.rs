//! The shape of the code as tests: folders, headers, unfinished work. What is said of it in the crate's documentation holds.
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

#[test]
fn files_are_of_a_length_that_can_be_read() {
    for (path, text) in sources() {
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        assert!(is_test(&path) || lines <= 490, "{} has {lines} lines", path.display());
    }
}
