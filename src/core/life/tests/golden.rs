//! Records of each schema, as a version wrote them in the middle of a handover or after it: an upgrade goes on from them.
//!
//! `golden/1-NAME.json` and `golden/2-NAME.json` are of the same instant of the same story. A key that changes or
//! goes needs a number of its own, and files beside these.

use serde_json::Value;

use super::story::{Story, hands_over_on_recommendation};
use super::*;
use crate::core::incident::{Phase, Registrations};

const NAMES: [&str; 5] = ["waiting", "leaving", "left", "coming-back", "reinstated"];

fn text(schema: u32, name: &str) -> String {
    let path = format!("{}/src/core/life/tests/golden/{schema}-{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("a golden file")
}

fn read(schema: u32, name: &str) -> Incident {
    Incident::read(&text(schema, name)).expect("an incident")
}

/// The story of the golden files with this name, up to their instant.
fn story(name: &str) -> Story {
    match name {
        "waiting" => {
            let mut story = Story::with(Owner::Maintain, hands_over_on_recommendation);
            story.run(10).recommend();
            story.run(10);
            story
        }
        "leaving" => noticed(Owner::Instant, 10),
        "left" => noticed(Owner::Maintain, 90),
        _ => {
            let mut story = noticed(Owner::Detach, 90);
            story.withdraw();
            story.run_until(|story| story.record().is_some_and(|record| record.phase == Phase::ComingBack));
            if name == "reinstated" {
                story.run(60);
            }
            story
        }
    }
}

/// Tells whether whoever knows `golden` finds all of it in `written`. What is added beside it disturbs nobody.
fn holds(written: &Value, golden: &Value) -> bool {
    match (written, golden) {
        (Value::Object(written), Value::Object(golden)) => {
            golden.iter().all(|(key, golden)| written.get(key).is_some_and(|written| holds(written, golden)))
        }
        (Value::Array(written), Value::Array(golden)) => {
            written.len() == golden.len() && written.iter().zip(golden).all(|(written, golden)| holds(written, golden))
        }
        _ => written == golden,
    }
}

#[test]
fn this_version_writes_the_latest_schema() {
    for name in NAMES {
        let golden: Value = serde_json::from_str(&text(2, name)).expect("JSON");
        let written = serde_json::to_value(read(2, name)).expect("it is written");
        assert!(holds(&written, &golden), "{name}: {written:#}");
    }
}

#[test]
fn an_earlier_schema_tells_the_same() {
    let phases = [Phase::Waiting, Phase::Leaving, Phase::Left, Phase::ComingBack, Phase::Closed(Closed::Reinstated)];
    for (name, phase) in NAMES.into_iter().zip(phases) {
        let (earlier, latest) = (read(1, name), read(2, name));
        assert_eq!(latest.phase, phase, "{name}");
        // Schema 1 does not tell when the instance began to leave, but when the first target group had taken it.
        let since = |at: Option<crate::core::model::BootInstant>| at.map(|at| at.as_duration().as_secs());
        assert_eq!(since(earlier.leaving_since), since(latest.leaving_since), "{name}");
        let upgraded = Incident {
            leaving_since: latest.leaving_since,
            begun_by_notice: latest.begun_by_notice,
            launch: latest.launch,
            ..earlier
        };
        assert_eq!(upgraded, latest, "{name}");
    }
}

#[test]
fn schema_1_told_of_a_look_up_that_went_on() {
    let mut record: Value = serde_json::from_str(&text(1, "leaving")).expect("JSON");
    let found = record["known"]["registrations"].take();
    record["known"]["found"] = found;
    let incident = Incident::read(&record.to_string()).expect("an incident");
    assert!(matches!(incident.registrations, Registrations::SoFar(found) if found.len() == 2));
}

#[test]
fn a_schema_of_a_later_version_is_refused_by_its_number() {
    let later = text(2, "left").replace("\"schema\": 2", "\"schema\": 3");
    let error = Incident::read(&later).expect_err("not understood").to_string();
    assert!(error.contains("schema 3"), "{error}");
}

#[test]
fn an_upgrade_in_the_middle_goes_on_where_the_version_before_was() {
    for schema in [1, 2] {
        let mut story = story("coming-back");
        story.disk = Some(read(schema, "coming-back"));
        story.restart();
        story.run(60);
        assert_eq!(closed(&story), Some(Closed::Reinstated), "{}", story.tale());
        story.is_as_before();

        for name in ["leaving", "left"] {
            let mut story = self::story(name);
            let launched = story.launched();
            story.disk = Some(read(schema, name));
            story.restart();
            story.run(80);
            assert!(is_complete(&story), "{schema} {name}: {}", story.tale());
            assert_eq!(story.launched(), launched, "{schema} {name}: one successor");
            assert!(story.aws.places().is_empty(), "{schema} {name}");
        }
    }
}
