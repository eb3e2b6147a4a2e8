//! What README shows is what the program takes and gives.

use serde_json::Value;
use spot_relay::core::config::{Config, sample};
use spot_relay::telemetry::webhook::Announcement;

const README: &str = include_str!("../../README.md");

fn block(language: &str) -> &'static str {
    let start = format!("```{language}\n");
    let (_, rest) = README.split_once(&start).expect("a block of this language");
    rest.split("```").next().expect("its text")
}

#[test]
fn the_configuration_it_shows_is_the_default_one() {
    assert_eq!(Config::parse(block("toml"), "README.md").expect("a configuration"), Config::default());
    assert_eq!(block("toml"), sample(), "README shows the sample");
}

#[test]
fn the_error_it_shows_is_the_one_that_is_told() {
    let wrong = Config::parse("\n\n\n[leave]\nquite-for = \"3s\"\n", "/etc/spot-relay/config.toml");
    let told = format!("```text\nspot-relay: {}\n```", wrong.expect_err("a wrong one"));
    assert!(README.contains(&told), "{told}");
}

#[test]
fn the_configuration_that_is_packaged_is_the_sample() {
    let packaged = include_str!("../../packaging/config.toml");
    let (header, rest) = packaged.split_once("\n\n").expect("a header");
    assert!(header.lines().all(|line| line.starts_with("# ")), "{header}");
    assert_eq!(rest, sample());
}

#[test]
fn the_webhook_body_it_shows_has_the_keys_that_are_posted() {
    let shown: Value = serde_json::from_str(block("json")).expect("JSON");
    let posted = serde_json::to_value(Announcement::sample("deregistered")).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&shown), keys(&posted));
}

#[test]
fn every_milestone_and_every_variable_of_a_hook_is_named() {
    for kind in spot_relay::core::model::MilestoneKind::ALL {
        assert!(README.contains(&format!("`{}`", kind.as_str())), "{}", kind.as_str());
    }
    for name in ["SIGNAL", "ACTION", "DEADLINE", "SECONDS_LEFT", "INSTANCE_ID", "INSTANCE_TYPE", "AVAILABILITY_ZONE"] {
        assert!(README.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
    for name in ["REGION", "OWNER", "OWNER_ID", "TARGET_GROUPS", "SUCCESSOR_ID", "OUTCOME"] {
        assert!(README.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
}

/// Every line of every block of `language`, in the order of the page.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("its text")).collect()
}

#[test]
fn every_toml_and_json_block_can_be_read() {
    for text in blocks("toml") {
        assert!(Config::parse(text, "README.md").is_ok(), "{text}");
    }
    for text in blocks("json") {
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
    }
}

/// The command lines of spot-relay in README's blocks for the shell, as words; variables before them left out.
fn command_lines() -> Vec<Vec<&'static str>> {
    let mut found = Vec::new();
    for block in blocks("sh") {
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

#[test]
fn its_table_of_commands_has_every_command_with_its_exit_codes() {
    let program = spot_relay::cli::command();
    for command in program.get_subcommands().filter(|one| !one.is_hide_set()) {
        let start = format!("| `spot-relay {}` |", command.get_name());
        let row = README.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {start}"));
        let codes = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default().trim();
        let told = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert_eq!(told.strip_prefix("Exit status: "), Some(codes), "{row}");
    }
}
