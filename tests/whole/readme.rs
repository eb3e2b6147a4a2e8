//! What README shows is what the program takes and gives.

use serde_json::Value;
use spot_relay::config::{Config, sample};
use spot_relay::webhook::Announcement;

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
    for kind in spot_relay::model::MilestoneKind::ALL {
        assert!(README.contains(&format!("`{}`", kind.as_str())), "{}", kind.as_str());
    }
    for name in ["SIGNAL", "ACTION", "DEADLINE", "SECONDS_LEFT", "INSTANCE_ID", "INSTANCE_TYPE", "AVAILABILITY_ZONE"] {
        assert!(README.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
    for name in ["REGION", "OWNER", "OWNER_ID", "TARGET_GROUPS", "SUCCESSOR_ID", "OUTCOME"] {
        assert!(README.contains(&format!("`SPOT_RELAY_{name}`")), "{name}");
    }
}
