//! What README and the pages of `docs` show is what the program takes and gives. `UPDATE_DOCS=1` writes the parts that are
//! made from the program's own definitions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use spot_relay::core::config::{Config, TABLES, sample};
use spot_relay::core::model::MilestoneKind;
use spot_relay::telemetry::webhook::Announcement;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README and every page of `docs`: where it stands, and its text.
fn pages() -> Vec<(PathBuf, String)> {
    let folder = std::fs::read_dir(root().join("docs")).expect("the folder of documents");
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let paths = folder.map(|entry| entry.expect("a file").path()).filter(is_page).chain([root().join("README.md")]);
    let mut pages: Vec<_> = paths.map(|path| (path.clone(), std::fs::read_to_string(path).expect("a page"))).collect();
    pages.sort();
    assert!(pages.len() >= 10, "the pages were found");
    pages
}

pub(crate) fn page(name: &str) -> String {
    let found = pages().into_iter().find(|(path, _)| path.ends_with(name));
    found.unwrap_or_else(|| panic!("no page {name}")).1
}

/// The text between two marks of a page has to be `wanted`; UPDATE_DOCS=1 makes it so.
fn assert_made(name: &str, begin: &str, end: &str, wanted: &str) {
    let text = page(name);
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{name} has no {begin:?}"));
    let (there, after) = rest.split_once(end).unwrap_or_else(|| panic!("{name} has no {end:?}"));
    if std::env::var_os("UPDATE_DOCS").is_some() && there != wanted {
        std::fs::write(root().join("docs").join(name), [before, begin, wanted, end, after].concat()).expect("written");
        return;
    }
    assert_eq!(there, wanted, "docs/{name} is behind the program: UPDATE_DOCS=1 cargo test --test whole documents");
}

#[test]
fn every_page_can_be_read_in_one_sitting() {
    for (path, text) in pages() {
        let most = if path.ends_with("README.md") { 200 } else { 300 };
        let lines = text.lines().count();
        assert!(lines <= most, "{} has {lines} lines", path.display());
    }
}

/// As GitHub makes the anchor of a heading.
fn anchor(heading: &str) -> String {
    let letters = heading.trim_start_matches('#').trim().to_lowercase();
    letters
        .chars()
        .filter(|it| it.is_alphanumeric() || " -_".contains(*it))
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

/// The README of each folder below `packaging`.
fn packaged_pages(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path());
    let pages = entries.flat_map(|path| match path.is_dir() {
        true => packaged_pages(&path),
        false if path.ends_with("README.md") => {
            let text = std::fs::read_to_string(&path).expect("a page");
            vec![(path, text)]
        }
        false => Vec::new(),
    });
    pages.collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    let packaged = packaged_pages(&root().join("packaging"));
    assert!(packaged.len() >= 3, "the pages were found");
    for (path, text) in pages().into_iter().chain(packaged) {
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).expect("a page");
                let anchors: BTreeSet<_> = text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
                assert!(anchors.contains(fragment), "{}: {link}", path.display());
            }
        }
    }
    assert!(links > 15, "the links were found");
}

#[test]
fn the_configuration_it_shows_is_the_default_one() {
    assert_made("configuration.md", "the defaults:\n\n```toml\n", "```\n", &sample());
    let keys = TABLES.iter().flat_map(|table| {
        let name =
            if table.name.is_empty() { "Before the first table".to_owned() } else { format!("[{}]", table.name) };
        let heading = format!("\n### {name}\n\n{}\n\n| key | default | meaning |\n|---|---|---|\n", table.meaning);
        let cell = |text: &str| text.replace('|', "\\|");
        let row = move |key: &spot_relay::core::config::Key| {
            format!("| `{}` | `{}` | {} |\n", key.name, cell(key.default), cell(key.meaning))
        };
        std::iter::once(heading).chain(table.keys.iter().map(row))
    });
    let begin = "and writes it with UPDATE_DOCS=1 -->\n";
    assert_made("configuration.md", begin, "<!-- end of keys -->", &keys.collect::<String>());
}

#[test]
fn its_table_of_commands_has_every_command_with_its_exit_codes() {
    let program = spot_relay::cli::command();
    let row = |command: &clap::Command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let told = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let codes =
            told.strip_prefix("Exit status: ").unwrap_or_else(|| panic!("{} tells no exit codes", command.get_name()));
        format!("| `spot-relay {}` | {about} | {codes} |\n", command.get_name())
    };
    let rows: String = program.get_subcommands().filter(|one| !one.is_hide_set()).map(row).collect();
    let begin = "| command | does | exit codes |\n|---|---|---|\n";
    assert_made("operating.md", begin, "\nCommon options", &rows);
}

#[test]
fn the_error_it_shows_is_the_one_that_is_told() {
    let wrong = Config::parse("\n\n\n[leave]\nquite-for = \"3s\"\n", "/etc/spot-relay/config.toml");
    let told = format!("```text\nspot-relay: {}\n```", wrong.expect_err("a wrong one"));
    assert!(page("configuration.md").contains(&told), "{told}");
}

#[test]
fn the_configuration_that_is_packaged_is_the_sample() {
    let path = root().join("packaging/config.toml");
    let packaged = std::fs::read_to_string(&path).expect("the packaged configuration");
    let (header, rest) = packaged.split_once("\n\n").expect("a header");
    assert!(header.lines().all(|line| line.starts_with("# ")), "{header}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, format!("{header}\n\n{}", sample())).expect("written");
    }
    assert_eq!(rest, sample(), "packaging/config.toml is behind: UPDATE_DOCS=1 cargo test --test whole documents");
}

#[test]
fn the_webhook_body_it_shows_has_the_keys_that_are_posted() {
    let text = page("hooks-and-webhook.md");
    let body = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a body");
    let shown: Value = serde_json::from_str(body).expect("JSON");
    let posted = serde_json::to_value(Announcement::sample("deregistered")).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&shown), keys(&posted));
}

#[test]
fn every_milestone_and_every_variable_of_a_hook_is_named() {
    let (milestones, variables) = (page("how-it-works.md"), page("hooks-and-webhook.md"));
    for kind in MilestoneKind::ALL {
        assert!(milestones.contains(&format!("| `{}` |", kind.as_str())), "{}", kind.as_str());
    }
    for name in ["SIGNAL", "ACTION", "DEADLINE", "SECONDS_LEFT", "INSTANCE_ID", "INSTANCE_TYPE", "AVAILABILITY_ZONE"] {
        assert!(variables.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
    for name in ["REGION", "OWNER", "OWNER_ID", "TARGET_GROUPS", "SUCCESSOR_ID", "OUTCOME"] {
        assert!(variables.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
}

/// Every block of `language` on every page, with the page's place.
/// The numbers of questions, as U1, in a text.
fn questions(text: &str) -> BTreeSet<u32> {
    let text = text.replace("\\n", " ");
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter_map(|word| word.strip_prefix('U')?.parse().ok()).collect()
}

#[test]
fn the_script_asks_every_question_that_is_unverified() {
    let page = page("aws.md");
    let (_, section) = page.split_once("## 5. Unverified").expect("the section");
    let (section, _) = section.split_once("## 6.").expect("the next one");
    let script = std::fs::read_to_string(root().join("packaging/verify-aws")).expect("the script");
    let asked: String = script.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let listed = section.lines().filter(|line| line.starts_with("| U")).count();
    assert!(listed >= 11 && questions(section).len() == listed, "each row has a number of its own");
    assert_eq!(questions(&asked), questions(section));
}

fn blocks(language: &str) -> Vec<(PathBuf, String)> {
    let fence = format!("```{language}\n");
    let of_page = |(path, text): (PathBuf, String)| {
        let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("its text").to_owned());
        blocks.map(|block| (path.clone(), block)).collect::<Vec<_>>()
    };
    pages().into_iter().flat_map(of_page).collect()
}

#[test]
fn every_toml_and_json_block_can_be_read() {
    for (path, text) in blocks("toml") {
        assert!(Config::parse(&text, "a page").is_ok(), "{}: {text}", path.display());
    }
    for (path, text) in blocks("json") {
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}: {text}", path.display());
    }
}

/// The command lines of spot-relay in the pages' blocks for the shell, as words; variables before them left out.
fn command_lines() -> Vec<Vec<&'static str>> {
    let mut found = Vec::new();
    for (_, block) in blocks("sh") {
        for line in block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>() {
            let line: &'static str = line.leak();
            let line = line.split(" #").next().unwrap_or_default().split(" | ").next().unwrap_or_default();
            let is_ours = |word: &&str| *word == "spot-relay" || word.ends_with("/spot-relay");
            let words = line.split_whitespace().skip_while(|word| !is_ours(word)).collect::<Vec<_>>();
            let cargo = line
                .strip_prefix("cargo run -- ")
                .map(|rest| std::iter::once("spot-relay").chain(rest.split_whitespace()).collect::<Vec<_>>());
            found.extend(cargo.or(Some(words)).filter(|words| words.len() > 1));
        }
    }
    found
}

#[test]
fn every_command_line_it_shows_can_be_typed() {
    let lines = command_lines();
    assert!(
        lines.iter().any(|line| line.contains(&"demo")) && lines.iter().any(|line| line.contains(&"run")),
        "{lines:?}"
    );
    for line in lines {
        let redirected = line.iter().position(|word| word.starts_with(['>', '<', '&', ';'])).unwrap_or(line.len());
        let words = line.iter().take(redirected);
        let parsed = spot_relay::cli::command().try_get_matches_from(words);
        assert!(parsed.is_ok(), "{line:?}: {}", parsed.map(|_| ()).expect_err("an error"));
    }
}
