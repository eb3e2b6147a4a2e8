//! The page in each state, as snapshots at several widths, plain and coloured; and what the report says to machines.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::page;
use super::report::{Presence, StatusReport, StatusSources};
use crate::cli::screen::Paint;
use crate::core::duty::DutyReport;
use crate::core::incident::{Incident, Outcome, Start};
use crate::core::life::Standing;
use crate::core::model::{
    Action, BootInstant, Identity, IncidentId, InstanceId, LifeCycle, Milestone, MilestoneKind, Registration, Signal,
    Target, TargetGroupArn, TargetType,
};
use crate::host::files::{CredentialsStatus, MetadataTrouble, Moment, OwnerStatus, Status};
use crate::host::lock::LockedDaemon;

/// When the daemon started, on the boot clock.
const START: u64 = 1_000;
/// When the notice came.
const NOTICE: u64 = 20_000;

fn at(seconds: f64) -> BootInstant {
    BootInstant::since_boot(Duration::from_secs_f64(seconds))
}

fn moment(seconds: f64) -> Moment {
    let booted: Timestamp = "2026-01-31T06:00:00Z".parse().unwrap();
    Moment { at: booted + Duration::from_secs_f64(seconds), boot: at(seconds) }
}

fn arn(name: &str) -> TargetGroupArn {
    TargetGroupArn::new(format!(
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/0123456789abcdef"
    ))
}

fn registration(name: &str, ports: &[u16], network: bool) -> Registration {
    let target = |port: &u16| Target { id: "i-us".to_owned(), port: *port };
    Registration {
        deregistration_delay: Duration::from_secs(if network { 120 } else { 300 }),
        network,
        ..Registration::new(arn(name), TargetType::Instance, ports.iter().map(target).collect())
    }
}

/// A daemon that watches, as of its last word at `seconds`.
fn watching(seconds: f64) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 4711,
        process_started: Some(1),
        since: moment(START as f64),
        written: moment(seconds),
        ended: None,
        interval: Duration::from_secs(1),
        last_good_look: Some(moment(seconds - 0.5)),
        trouble: None,
        credentials: None,
        state: Standing::Watching,
        says: "watching; on a notice: deregister from web (2 ports)".to_owned(),
        instance: Some(Identity {
            instance_id: InstanceId::new("i-0123456789abcdef0"),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            instance_type: "m7g.large".into(),
            private_ip: "10.0.0.1".into(),
            ipv6_addresses: Some(Vec::new()),
            account_id: "123456789012".into(),
            vpc_id: Some("vpc-1".into()),
            subnet_id: None,
            life_cycle: LifeCycle::Spot,
        }),
        owner: Some(OwnerStatus { kind: "auto-scaling-group".to_owned(), id: Some("shop-asg".to_owned()) }),
        on_a_notice: Some(
            "deregister from udp (port 53) and web (2 ports), detach from group shop-asg, which launches the successor"
                .to_owned(),
        ),
        registrations: Some(vec![registration("web", &[8081, 8080], false), registration("udp", &[53], true)]),
        handover: None,
        duties: Vec::new(),
    }
}

fn milestone(milestone: MilestoneKind, after: f64, group: Option<&str>, message: &str) -> Milestone {
    let successor = milestone.as_str().starts_with("successor");
    Milestone {
        milestone,
        at: at(NOTICE as f64 + after),
        left: Some(Duration::from_secs_f64((110.0 - after).max(0.0))),
        target_group: group.map(arn),
        successor_id: successor.then(|| InstanceId::new("i-0fedcba9876543210")),
        owner: None,
        message: message.to_owned(),
    }
}

/// A notice with 110 s, and the milestones of the first `seconds`.
fn record(seconds: f64) -> Incident {
    use MilestoneKind as Kind;
    let all = [
        milestone(Kind::Noticed, 0.0, None, "AWS will terminate this instance in 110.0 s"),
        milestone(Kind::Deregistered, 0.04, Some("web"), "deregistered from web: ports 8080, 8081"),
        milestone(Kind::Deregistered, 0.05, Some("udp"), "deregistered from udp: port 53"),
        milestone(Kind::SuccessorRequested, 0.31, None, "group shop-asg launches a successor"),
        milestone(Kind::Left, 1.2, Some("web"), "left web: target health shows draining"),
        milestone(Kind::Left, 1.4, Some("udp"), "left udp: target health shows draining"),
        milestone(Kind::Quiet, 9.7, None, "no request is open"),
        milestone(Kind::SuccessorRunning, 31.0, None, "successor i-0fedcba9876543210 is running in eu-west-1c"),
        milestone(Kind::SuccessorRegistered, 33.0, Some("web"), "successor i-0fedcba9876543210 is registered in web"),
        milestone(Kind::SuccessorHealthy, 61.5, Some("web"), "successor i-0fedcba9876543210 is healthy in web"),
    ];
    let (instance_id, boot_id) = (InstanceId::new("i-0123456789abcdef0"), "boot".into());
    let id = IncidentId { instance_id, boot_id, action: Some(Action::Terminate), number: 0 };
    let start = Start { clocks: (moment(NOTICE as f64).at, at(NOTICE as f64)), ..Start::default() };
    Incident {
        milestones: all.into_iter().filter(|it| it.at <= at(NOTICE as f64 + seconds)).collect(),
        ..Incident::new(id, Signal::Notice, at(NOTICE as f64 + 110.0), start)
    }
}

fn duty(duty: &str, done: bool, what: &str) -> DutyReport {
    serde_json::from_value(serde_json::json!({"duty": duty, "done": done, "what": what})).unwrap()
}

fn handing_over() -> Status {
    Status {
        state: Standing::HandingOver,
        says: "no request is open: 2 connections, on which nothing has moved for 3.0 s".to_owned(),
        handover: Some(record(12.0)),
        duties: vec![
            duty("leave web", true, "left after 1.2 s"),
            duty("leave udp", true, "left after 1.4 s"),
            duty("quiet", true, "after 9.7 s: no request is open"),
            duty("successor", false, "i-0fedcba9876543210 is not running yet: Pending"),
            duty("successor in web", false, "not registered"),
        ],
        ..watching(NOTICE as f64 + 11.8)
    }
}

fn in_part() -> Status {
    let done = duty("leave web", true, "left after 1.2 s");
    let undone = duty("successor in udp", false, "registered, not seen healthy yet: time was up");
    let message = "handed over in part, time is up: successor in udp: registered, not seen healthy yet: time was up";
    let mut record = record(110.0);
    record.milestones.push(milestone(MilestoneKind::HandedOver, 110.0, None, message));
    record.milestones.push(milestone(
        MilestoneKind::Survived,
        240.0,
        None,
        "this instance lives on: the notice is gone",
    ));
    record.outcome = Some(Outcome { complete: false, duties: vec![done, undone] });
    Status {
        state: Standing::HandedOver,
        says: message.to_owned(),
        handover: Some(record),
        ..watching(NOTICE as f64 + 115.0)
    }
}

fn complete() -> Incident {
    let mut record = record(62.0);
    record.milestones.push(milestone(MilestoneKind::HandedOver, 61.5, None, "handed over completely in 61.5 s"));
    record.outcome = Some(Outcome { complete: true, duties: vec![duty("leave web", true, "left after 1.2 s")] });
    record
}

fn blind() -> Status {
    let why = "no answer within 2 s".to_owned();
    Status {
        trouble: Some(MetadataTrouble { since: moment(NOTICE as f64 - 40.0), why }),
        last_good_look: Some(moment(NOTICE as f64 - 41.0)),
        ..watching(NOTICE as f64)
    }
}

/// The status a few seconds after the daemon's last word.
fn found(status: Option<Status>, lives: bool, after: f64) -> StatusSources {
    let written = status.as_ref().map_or(at(NOTICE as f64), |status| status.written.boot);
    let now = written + Duration::from_secs_f64(after);
    let presence = Presence::of(status.as_ref(), lives, None, now);
    let path = "/run/spot-relay/status.json".to_owned();
    StatusSources { status, record: None, presence, dry_runs: Vec::new(), path, now }
}

fn rendered(found: &StatusSources, coloured: bool, width: usize) -> Vec<String> {
    page::lines(&StatusReport::of(found), Paint { coloured }, width)
}

/// Every rendering under its heading; escape characters can be seen.
fn renderings(found: &StatusSources) -> String {
    let one = |(width, coloured)| {
        let text = rendered(found, coloured, width).join("\n").replace('\x1b', "␛");
        format!("=== {width} columns, {}\n{text}\n", if coloured { "coloured" } else { "plain" })
    };
    [(80, false), (120, false), (40, false), (80, true), (120, true)].map(one).join("\n")
}

#[test]
fn watching_reads_well() {
    insta::assert_snapshot!("watching", renderings(&found(Some(watching(NOTICE as f64)), true, 4.0)));
}

#[test]
fn handing_over_reads_well() {
    insta::assert_snapshot!("handing over", renderings(&found(Some(handing_over()), true, 0.2)));
}

#[test]
fn handed_over_in_part_reads_well() {
    insta::assert_snapshot!("in part", renderings(&found(Some(in_part()), true, 2.0)));
}

#[test]
fn not_running_reads_well_with_the_record_of_the_last_handover() {
    let found = StatusSources { record: Some(complete()), ..found(None, false, 0.0) };
    insta::assert_snapshot!("not running", renderings(&found));
}

#[test]
fn a_daemon_that_died_or_stands_still_or_is_blind_reads_well() {
    insta::assert_snapshot!("died", renderings(&found(Some(watching(NOTICE as f64)), false, 500.0)));
    insta::assert_snapshot!("stands still", renderings(&found(Some(watching(NOTICE as f64)), true, 90.0)));
    insta::assert_snapshot!("blind", renderings(&found(Some(blind()), true, 3.0)));
}

#[test]
fn on_a_low_terminal_what_the_duties_do_is_seen_first() {
    for (status, last) in [(handing_over(), "not registered"), (in_part(), "lives on")] {
        let report = StatusReport::of(&found(Some(status), true, 1.0));
        for height in [23, 15] {
            let lines = page::lines_within(&report, Paint { coloured: false }, 80, height);
            let end = lines.last().cloned().unwrap_or_default();
            assert!(lines.len() <= height && end.contains(last), "{height}: {lines:#?}");
            assert_eq!(lines.iter().any(|line| line.contains("left to the deadline")), height == 23, "{lines:#?}");
        }
        let tall = page::lines_within(&report, Paint { coloured: false }, 80, 60);
        assert_eq!(tall, page::lines(&report, Paint { coloured: false }, 80));
    }
    let mut status = in_part();
    status.state = Standing::Watching;
    let report = StatusReport::of(&found(Some(status), true, 1.0));
    let lines = page::lines_within(&report, Paint { coloured: false }, 80, 23);
    assert!(lines.len() <= 23 && lines.iter().any(|line| line.contains("on a notice")), "{lines:#?}");
}

#[test]
fn no_line_is_wider_than_the_terminal_and_colours_change_nothing_else() {
    let states = [watching(NOTICE as f64), handing_over(), in_part(), blind()];
    for found in states.map(|status| found(Some(status), true, 1.0)) {
        for width in [40, 41, 47, 60, 80, 100, 120] {
            let plain = rendered(&found, false, width);
            let longest = plain.iter().max_by_key(|line| line.chars().count()).unwrap();
            assert!(longest.chars().count() <= width, "{width}: {longest:?}");
            let coloured = rendered(&found, true, width).join("\n");
            let parts = coloured.split("\x1b[").enumerate();
            let stripped: String =
                parts.map(|(n, part)| if n == 0 { part } else { part.split_once('m').unwrap().1 }).collect();
            assert_eq!(stripped, plain.join("\n"));
        }
    }
}

#[test]
fn presence_is_told_by_the_process_its_last_word_and_its_end() {
    let status = watching(NOTICE as f64);
    let of = |status: &Status, lives, age: f64| {
        Presence::of(Some(status), lives, None, status.written.boot + Duration::from_secs_f64(age))
    };
    assert_eq!(of(&status, true, 59.0), Presence::Running);
    assert_eq!(of(&status, true, 61.0), Presence::Silent);
    assert_eq!(of(&status, false, 1.0), Presence::Ended);
    let ended = Status { ended: Some(status.since.at), ..status.clone() };
    assert_eq!(of(&ended, true, 1.0), Presence::Ended);
    assert_eq!(Presence::of(None, false, None, at(1.0)), Presence::Absent);
    // Another one has the lock, and could not write.
    const SEVEN: LockedDaemon = LockedDaemon { pid: Some(7) };
    let now = status.written.boot;
    assert_eq!(Presence::of(Some(&status), false, Some(SEVEN), now), Presence::Untold(SEVEN));
    assert_eq!(Presence::of(None, false, Some(SEVEN), now), Presence::Untold(SEVEN));
    assert_eq!(Presence::of(Some(&status), true, Some(SEVEN), now), Presence::Running);
    let presence = Presence::Untold(SEVEN);
    let untold = StatusReport::of(&StatusSources { presence, ..found(None, false, 1.0) });
    assert!(untold.running && untold.pid == Some(7) && untold.problems[0].what.contains("process 7"), "{untold:?}");
}

#[test]
fn an_old_look_is_a_problem_with_or_without_trouble() {
    let problems = |status: Status| StatusReport::of(&found(Some(status), true, 3.0)).problems.len();
    assert_eq!(problems(watching(NOTICE as f64)), 0);
    assert_eq!(problems(blind()), 1);
    assert_eq!(problems(Status { trouble: None, ..blind() }), 1);
    assert_eq!(problems(Status { trouble: None, interval: Duration::from_secs(60), ..blind() }), 0);
    let never = Status { last_good_look: None, since: moment(NOTICE as f64 - 30.0), ..watching(NOTICE as f64) };
    assert_eq!(problems(never), 1);
}

#[test]
fn only_what_changed_is_news() {
    let report = |status: &Status, after| StatusReport::of(&found(Some(status.clone()), true, after));
    let open = handing_over();
    assert!(!report(&open, 9.0).is_news_after(&report(&open, 1.0)));
    let later = Status { written: moment(NOTICE as f64 + 13.0), duties: Vec::new(), ..open.clone() };
    assert!(!report(&later, 0.0).is_news_after(&report(&open, 0.0)));
    let milestone = Status { handover: Some(record(32.0)), ..open.clone() };
    assert!(report(&milestone, 0.0).is_news_after(&report(&open, 0.0)));
    assert!(report(&open, 61.0).is_news_after(&report(&open, 0.0)));
    assert!(report(&in_part(), 0.0).is_news_after(&report(&open, 0.0)));
}

/// The schema is a promise: a test that has to be changed is a promise broken.
#[test]
fn the_schema_is_what_readme_promises() {
    let json = serde_json::to_value(StatusReport::of(&found(Some(in_part()), true, 2.0))).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(json["schema"], 1);
    assert_eq!(
        keys(&json),
        "age_seconds credentials ended handover instance metadata on_a_notice owner pid problems registrations running \
         running_seconds says schema since state version"
    );
    assert_eq!(keys(&json["metadata"]), "age_seconds interval_seconds last_good_look trouble trouble_since");
    assert_eq!(
        keys(&json["registrations"][0]),
        "deregistration_delay_seconds name network_load_balancer ports target_group"
    );
    assert_eq!(
        keys(&json["handover"]),
        "action begun_at closed deadline duties instance_id milestones outcome seconds seconds_to_deadline signal"
    );
    assert_eq!(
        keys(&json["handover"]["milestones"][1]),
        "at message milestone seconds seconds_left successor_id target_group"
    );
    assert_eq!(keys(&json["handover"]["duties"][0]), "done duty what");
    assert_eq!(json["handover"]["milestones"][7]["at"], "2026-01-31T11:33:51Z");
    assert_eq!((&json["handover"]["seconds"], &json["handover"]["outcome"]), (&110.0.into(), &"partial".into()));
}

#[test]
fn a_notice_after_the_end_does_not_change_what_the_handover_was() {
    let mut record = complete();
    record.milestones.iter_mut().for_each(|it| it.left = None);
    record.milestones[0].milestone = MilestoneKind::Recommended;
    record.milestones.push(milestone(MilestoneKind::Noticed, 70.0, None, "which has handed over already"));
    let report = StatusReport::of(&StatusSources { record: Some(record), ..found(None, false, 0.0) });
    let text = page::lines(&report, Paint { coloured: false }, 80).join("\n");
    assert!(text.contains("  outcome      complete in 61.5 s\n"), "no notice stood then: {text}");
    assert!(text.contains("  signal       Spot interruption notice (terminate)\n"), "{text}");
    assert!(text.contains("  begun        2026-01-31 11:33:20 UTC\n"), "{text}");
    assert!(!text.contains("left to the deadline"), "{text}");
}

#[test]
fn trouble_with_credentials_is_told_as_what_it_is() {
    let credentials =
        CredentialsStatus { expires: Some(moment(NOTICE as f64 + 60.0).at), trouble: Some("ExpiredToken".to_owned()) };
    let status = Status { credentials: Some(credentials), ..watching(NOTICE as f64) };
    let report = StatusReport::of(&found(Some(status), true, 10.0));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(
        (&json["credentials"]["seconds_left"], &json["credentials"]["trouble"]),
        (&50.0.into(), &"ExpiredToken".into())
    );
    assert!(json["problems"][0]["what"].as_str().unwrap().contains("trouble with its credentials"));
    let text = page::lines(&report, Paint { coloured: false }, 80).join("\n");
    assert!(text.starts_with("spot-relay 0.1.0 is watching, and cannot call AWS"), "{text}");
}

#[test]
fn with_nothing_found_every_key_is_there_all_the_same() {
    let json = serde_json::to_value(StatusReport::of(&found(None, false, 0.0))).unwrap();
    assert_eq!((&json["running"], &json["state"]), (&false.into(), &"not-running".into()));
    assert!(json["handover"].is_null() && json.as_object().unwrap().len() == 18);
    assert!(json["problems"][0]["remedy"][0].as_str().unwrap().contains("systemctl start spot-relay"));
}
