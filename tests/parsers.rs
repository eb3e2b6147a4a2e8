//! Every parser of bytes from outside, given what nobody meant to write: random text, and good bodies bent at random.
//! Nothing panics, and whatever is made of them stays within its bounds. `FUZZ_CASES` sets how many are tried of each;
//! it runs without the SDK: `cargo test --release --no-default-features --test parsers`.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use spot_relay::core::config::Config;
use spot_relay::core::incident::Incident;
use spot_relay::core::life::{Life, Recommendation};
use spot_relay::core::model::{BootInstant, Identity, InstanceId, LifeCycle};
use spot_relay::core::notice::{self, FirstSight, Notice, TWO_MINUTES, parse_http_date, parse_recommendation};
use spot_relay::core::plan::RaisedCapacity;

const CASES: u32 = 1_500;

/// Values that programs trip over, in the place of a number or a string.
const EXTREMES: [&str; 22] = [
    "0",
    "-1",
    "1e308",
    "-1e308",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
    "-9223372036854775809",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"\\u0000\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:60Z\"",
    "\"-009999-01-01T00:00:00Z\"",
    "\"1 Jan 10000 00:00:00 GMT\"",
    "\"i-\\u202e\"",
    "\"\\u001b[2J\"",
    "4294967296",
    "0.0000000001",
];

/// A way to bend a text: where (a fraction of it), and what comes there.
#[derive(Clone, Debug)]
enum Bend {
    Cut(f64, usize),
    Insert(f64, String),
    Repeat(f64, usize),
    /// The nth value after a colon becomes an extreme one.
    Value(usize, usize),
}

fn bend() -> impl Strategy<Value = Bend> {
    prop_oneof![
        (0.0..1.0, 1..20usize).prop_map(|(at, length)| Bend::Cut(at, length)),
        (0.0..1.0, any::<String>()).prop_map(|(at, text)| Bend::Insert(at, text)),
        (0.0..1.0, 1..200usize).prop_map(|(at, length)| Bend::Repeat(at, length)),
        (0..60usize, 0..EXTREMES.len()).prop_map(|(nth, value)| Bend::Value(nth, value)),
    ]
}

fn bent(text: &str, bends: &[Bend]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let place = |letters: &[char], at: f64| ((letters.len() as f64) * at) as usize;
    for bend in bends {
        match bend {
            Bend::Cut(at, length) => {
                let from = place(&letters, *at);
                letters.drain(from..(from + length).min(letters.len()));
            }
            Bend::Insert(at, text) => {
                let from = place(&letters, *at);
                letters.splice(from..from, text.chars());
            }
            Bend::Repeat(at, length) => {
                let from = place(&letters, *at);
                let again: Vec<char> = letters.iter().skip(from).take(*length).copied().collect();
                letters.splice(from..from, again);
            }
            Bend::Value(nth, value) => {
                let colons: Vec<usize> =
                    letters.iter().enumerate().filter(|(_, it)| **it == ':').map(|(at, _)| at).collect();
                let Some(from) = colons.get(nth % colons.len().max(1)).map(|at| at + 1) else { continue };
                let rest = letters.iter().skip(from).position(|it| matches!(it, ',' | '}' | ']' | '\n'));
                let to = rest.map_or(letters.len(), |rest| from + rest);
                letters.splice(from..to, EXTREMES[*value].chars());
            }
        }
    }
    letters.into_iter().collect()
}

/// Random text, or a good one bent one to four times.
fn texts(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    let text = (0..good.len(), prop::collection::vec(bend(), 1..5)).prop_map(|(n, bends)| bent(good[n], &bends));
    prop_oneof![1 => any::<String>(), 4 => text]
}

fn each(strategy: impl Strategy<Value = String>, check: impl Fn(&str)) {
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(Cases { cases, failure_persistence: None, ..Cases::default() });
    let ran = runner.run(&strategy, |text| {
        check(&text);
        Ok(())
    });
    ran.expect("no text is too much");
}

fn aws_now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().expect("a time")
}

fn now() -> BootInstant {
    BootInstant::since_boot(Duration::from_secs(600))
}

const NOTICES: [&str; 3] = [
    r#"{"action": "terminate", "time": "2026-01-31T12:02:00Z"}"#,
    r#"{"action":"hibernate","time":"2026-01-31T12:02:00.123456789Z"}"#,
    "{\n  \"action\": \"stop\",\n  \"time\": \"2026-01-31T12:02:00+01:00\"\n}",
];

#[test]
fn a_notice_never_gives_more_than_two_minutes() {
    each(texts(&NOTICES), |text| {
        let Ok(notice) = Notice::parse(text) else { return };
        let _ = notice.to_string();
        let deadline = notice.deadline(aws_now(), now());
        assert!(deadline >= now() && deadline <= now() + TWO_MINUTES, "{text}: {deadline:?}");
        for absent_before in [false, true] {
            if let FirstSight::New { deadline } = notice.first_sight(aws_now(), now(), absent_before) {
                assert!(deadline <= now() + TWO_MINUTES, "{text}");
            }
        }
        let mut life = life(None);
        life.saw_notice(Some(notice), aws_now(), now());
        live(&mut life);
    });
}

#[test]
fn a_recommendation_and_a_date_are_times_or_nothing() {
    const GOOD: [&str; 3] =
        [r#"{"noticeTime": "2026-01-31T12:00:00Z"}"#, "Sat, 31 Jan 2026 12:00:00 GMT", "8 May 2026 16:00:00 GMT"];
    each(texts(&GOOD), |text| {
        let recommended = parse_recommendation(text);
        let recommended_at = match recommended {
            Some(Recommendation::Given(time)) => time,
            _ => None,
        };
        for time in recommended_at.into_iter().chain(parse_http_date(text)) {
            assert!(notice::plausible(time).is_some(), "{text}: {time}");
        }
        if let Some(recommended) = recommended {
            let mut life = life(None);
            life.saw_notice(None, aws_now(), now());
            life.saw_recommendation(recommended, now());
            live(&mut life);
        }
    });
}

#[test]
fn scheduled_events_are_rows_or_nothing() {
    const GOOD: [&str; 2] = [
        r#"[{"Code": "system-reboot", "EventId": "instance-event-0a", "State": "active", "NotBefore": "31 Jan 2026 12:05:00 GMT", "NotAfter": "", "Description": "scheduled reboot"}]"#,
        r#"[{"Code": "instance-stop", "NotBefore": "2026-01-31T12:05:00Z"}, {"Code": "system-maintenance", "Description": "[Completed] x"}]"#,
    ];
    each(texts(&GOOD), |text| {
        let events = notice::parse_scheduled_events(text);
        events.iter().for_each(|event| assert!(!event.code.is_empty() && !event.id.is_empty(), "{text}"));
        let mut life = life(None);
        life.saw_notice(None, aws_now(), now());
        life.saw_scheduled_events(events, now());
        live(&mut life);
    });
}

#[test]
fn a_configuration_is_read_or_told_what_is_wrong() {
    const GOOD: [&str; 2] = [
        "target-groups = [\"web\", \"api:8080\"]\n[watch]\ninterval = \"1s\"\nrebalance = \"prepare\"\n[leave]\nreserve = \"10s\"\n",
        "[hooks]\nnotice = [\"/bin/true\"]\ntimeout = \"20s\"\n[notify]\nwebhook = \"https://a/b\"\n[metrics]\nlisten = \"127.0.0.1:1\"\n",
    ];
    each(texts(&GOOD), |text| match Config::parse(text, "x") {
        Ok(config) => assert!(config.unwise().iter().all(|it| !it.what.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}

#[test]
fn a_tag_on_a_fleet_is_a_capacity_or_nothing() {
    each(texts(&["4..5", "4", "10..12"]), |text| {
        let tags = BTreeMap::from([("spot-relay:base-capacity".to_owned(), text.to_owned())]);
        let _ = RaisedCapacity::read(&tags);
    });
}

/// One that went through a handover by a launch template and was closed, and one in its middle.
const RECORDS: [&str; 2] = [
    r#"{"incident": {"instance_id": "i-us", "boot_id": "boot", "action": "terminate", "number": 0}, "signal": "notice", "time": "2026-01-31T12:02:00Z", "begun_at": "2026-01-31T12:00:00Z", "begun": {"secs": 590, "nanos": 0}, "deadline": {"secs": 710, "nanos": 0}, "known": {"registrations": [], "plan": {"ask": "nobody", "why": "x"}}, "milestones": [{"milestone": "noticed", "at": {"secs": 590, "nanos": 0}, "left": {"secs": 120, "nanos": 0}, "target_group": null, "successor_id": null, "owner": "nobody", "message": "m"}], "outcome": {"complete": true, "duties": [{"duty": "quiet", "done": true, "what": "x"}]}, "closed": null}"#,
    r#"{"incident": {"instance_id": "i-us", "boot_id": "another", "action": "stop", "number": 1}, "signal": "rebalance-recommendation", "terminating": false, "time": null, "begun_at": "2026-01-31T11:00:00Z", "begun": {"secs": 0, "nanos": 0}, "deadline": {"secs": 18446744073709551615, "nanos": 0}, "known": {"registrations": null, "plan": null}, "milestones": [], "outcome": null, "certain": true, "survived": true, "recommended": true, "launched_first": true}"#,
];

#[test]
fn a_record_of_whatever_content_begins_no_endless_life() {
    let read = |text: &str| Incident::read(text);
    for good in RECORDS {
        read(good).expect("a good record is read");
    }
    each(texts(&RECORDS), |text| {
        let Ok(record) = read(text) else { return };
        let _ = (record.was_quiet(), record.was_seen_through());
        let mut life = life(Some(record));
        life.saw_notice(None, aws_now(), now());
        live(&mut life);
        life.saw_notice(Notice::parse(NOTICES[0]).ok(), aws_now(), now() + Duration::from_secs(5));
        live(&mut life);
    });
}

fn life(record: Option<Incident>) -> Life {
    let identity = Identity {
        instance_id: InstanceId::new("i-us"),
        region: "eu-west-1".into(),
        availability_zone: "eu-west-1a".into(),
        instance_type: "m5.large".into(),
        private_ip: "10.0.0.1".into(),
        ipv6_addresses: Some(Vec::new()),
        account_id: "1".into(),
        vpc_id: None,
        subnet_id: None,
        life_cycle: LifeCycle::Spot,
    };
    Life::new(identity, "boot".into(), Config::default(), false, record)
}

/// Asks a life for its calls for a while and answers none: it never asks for more than a handful at once.
fn live(life: &mut Life) {
    let mut now = now() + Duration::from_secs(6);
    for _ in 0..20 {
        assert!(life.due(now).len() < 50);
        let _ = (life.take_milestones(), life.take_remarks(), life.flags(), life.standing(), life.incident_to_write());
        match life.wake() {
            Some(wake) if wake > now => now = wake,
            _ => now = now + Duration::from_secs(1),
        }
    }
}

#[test]
fn a_key_of_a_mebibyte_is_refused_at_once() {
    let key = "k".repeat((1 << 20) - 16);
    let began = std::time::Instant::now();
    assert!(Config::parse(&format!("[watch]\n{key} = 1"), "c").is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
}
