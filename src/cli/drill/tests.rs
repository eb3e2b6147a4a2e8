//! The text before a drill, as snapshots at two widths, plain and coloured.

use std::time::Duration;

use super::text;
use crate::cli::screen::Paint;
use crate::core::config::{Leave, When};
use crate::core::drill::{HealthyOthers, Survey};
use crate::core::handover::LookedUp;
use crate::core::handover::tests::identity_of;
use crate::core::model::*;
use crate::core::plan::{GroupRequest, Plan};

const WEB: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

fn registration() -> Registration {
    let target = |port| Target { id: "i-0b54cda58fbbee87e".into(), port };
    Registration::new(TargetGroupArn::new(WEB), TargetType::Instance, vec![target(8080), target(8081)])
}

fn group(hooks: usize, max_size: i32) -> Plan {
    let hook = LifecycleHook { name: "drain".into(), heartbeat_timeout: Duration::from_secs(300) };
    let group = AutoScalingGroup {
        name: "shop-asg".into(),
        arn: "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:1:autoScalingGroupName/shop-asg".into(),
        termination_hooks: vec![hook; hooks],
        target_groups: vec![TargetGroupArn::new(WEB)],
        max_size,
        desired_capacity: 3,
        health_check_type: "ELB".into(),
        availability_zones: vec!["eu-west-1a".into(), "eu-west-1b".into()],
        ..AutoScalingGroup::default()
    };
    Plan::Group { group, how: if hooks > 0 { GroupRequest::Terminate } else { GroupRequest::Detach } }
}

fn survey(plan: Plan, healthy: usize, max_size: i32) -> Survey {
    Survey {
        identity: identity_of("i-0b54cda58fbbee87e"),
        boot_id: "boot".into(),
        leave: Leave::default(),
        known: LookedUp { registrations: Some(vec![registration()]), plan: Some(plan), ..LookedUp::default() },
        others: vec![HealthyOthers { name: "web".into(), healthy }],
        group_state: Some(GroupState { members: Vec::new(), desired_capacity: 3, max_size, ..GroupState::default() }),
        notice: None,
        lifecycle_state: Some("InService".into()),
        record: None,
        not_in_the_policy: Vec::new(),
    }
}

/// Escape characters can be seen.
fn renderings(survey: &Survey) -> String {
    let one = |(width, coloured)| {
        let paint = Paint { coloured };
        let mut lines = text::plan(survey, Duration::from_secs(120), paint, width);
        lines.extend(text::calls(&survey.calls(), paint, width));
        // An ARN is one word, and is never broken.
        let fits = |line: &String| line.contains("arn:") || line.chars().count() <= width;
        assert!(coloured || lines.iter().all(fits), "{lines:#?}");
        let text = lines.join("\n").replace('\x1b', "␛");
        format!("=== {width} columns, {}\n{text}\n", if coloured { "coloured" } else { "plain" })
    };
    [(80, false), (120, false), (80, true), (120, true)].map(one).join("\n")
}

#[test]
fn a_dry_run_reads_well() {
    insta::assert_snapshot!("dry_run", renderings(&survey(group(0, 9), 2, 9)));
}

#[test]
fn where_the_group_may_launch_one_first_its_successor_comes_first_and_elsewhere_after_the_leaving() {
    let actions = |survey: &Survey| -> Vec<&str> {
        survey.calls().iter().filter(|call| !call.comes_back).map(|call| call.action).collect()
    };
    let auto = survey(group(0, 9), 2, 9);
    assert!(auto.steps()[0].starts_with("have group shop-asg launch one more (LaunchInstances) and serve on"));
    assert!(auto.steps()[1].starts_with("once the successor is healthy, and early enough to drain: leave web"));
    assert_eq!(actions(&auto), ["LaunchInstances", "DeregisterTargets", "DetachInstances", "CreateTags"]);
    let at_once = Survey { leave: Leave { when: When::AtOnce, ..Leave::default() }, ..auto.clone() };
    assert!(at_once.steps()[0].starts_with("leave web") && at_once.steps()[1].starts_with("detach from group"));
    assert_eq!(actions(&at_once), ["DeregisterTargets", "DetachInstances", "CreateTags"]);
    let Plan::Group { group, .. } = group(0, 9) else { panic!("a group") };
    let rebalances = survey(Plan::Group { group, how: GroupRequest::Observe }, 2, 9);
    assert!(rebalances.steps()[0].starts_with("leave web"), "it launches at a real signal only");
}

#[test]
fn what_speaks_against_a_drill_reads_well() {
    let survey = survey(group(1, 3), 0, 3);
    insta::assert_snapshot!("objections", renderings(&survey));
    assert_eq!(survey.objections().len(), 2);
}

#[test]
fn what_cannot_come_back_or_may_be_replaced_speaks_against_it() {
    let not_in_the_policy = vec!["autoscaling:AttachInstances"];
    let stays_out = Survey { not_in_the_policy, ..survey(group(0, 9), 2, 9) };
    assert!(matches!(stays_out.objections().as_slice(), [one] if one.contains("autoscaling:AttachInstances")));
    let Plan::Group { mut group, .. } = group(0, 9) else { panic!("a group") };
    group.health_check_type = "ELB".into();
    let stays_in = survey(Plan::Group { group, how: GroupRequest::Observe }, 2, 9);
    assert!(matches!(stays_in.objections().as_slice(), [one] if one.contains("may replace it")));
}

#[test]
fn an_address_behind_an_application_load_balancer_comes_back_late_and_that_is_said_before() {
    let mut survey = survey(group(0, 9), 2, 9);
    let says = |survey: &Survey| survey.costs().iter().any(|cost| cost.contains("serves nothing there for 300 s"));
    assert!(!says(&survey));
    survey.known.registrations.iter_mut().flatten().for_each(|it| it.target_type = TargetType::Ip);
    assert!(says(&survey));
    survey.known.registrations.iter_mut().flatten().for_each(|it| it.network = true);
    assert!(!says(&survey));
}
