//! What goes wrong around it: the metadata, AWS, credentials, clocks. Each row of docs/aws.md 6 that the main job can meet.

use std::io::Write as _;
use std::time::{Duration, Instant};

use spot_relay::sim::{Fault, FaultKind, Nth, Owner, Settings};

use crate::scenario::{AT_ONCE, Daemon, Scenario, eventually, target_group, world};

fn settings(owner: Owner) -> Settings {
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    Settings { owner, target_groups: vec![group], ..world() }
}

fn fault(action: &str, nth: Nth, kind: FaultKind) -> Fault {
    Fault { service: None, action: action.to_owned(), nth, kind }
}

fn status(status: u16, code: &str) -> FaultKind {
    FaultKind::Status { status, code: code.to_owned(), message: "made by the test".to_owned() }
}

/// The metadata fails in one way for a while, with the notice coming meanwhile; the daemon lives, names it once when it
/// begins and once when it is over, and hands over.
fn check_metadata(action: &str, kind: FaultKind) {
    let context = format!("{action} {kind:?}");
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()));
    let mut daemon = scenario.ready();
    scenario.sim.fault(fault(action, Nth::All, kind));
    if action == "token" {
        // The daemon holds a good token: let it be refused, so that it asks for another.
        scenario.sim.fault(fault("spot/instance-action", Nth::All, status(401, "Unauthorized")));
    }
    daemon.wait_for_line("does not answer as it should");
    scenario.sim.notice("terminate", Duration::from_secs(100));
    std::thread::sleep(Duration::from_secs(2));
    assert!(!daemon.has_ended(), "{context}");
    scenario.sim.clear_faults();
    daemon.wait_for_line("answers again, after");
    daemon.wait_for("handed-over");
    assert_eq!(daemon.lines_with("does not answer as it should").len(), 1, "{context}: named once");
    assert_eq!(daemon.lines_with("answers again").len(), 1, "{context}");
    scenario.assert_handed_over(&["web"], &context);
}

#[test]
fn metadata_that_answers_401() {
    check_metadata("spot/instance-action", status(401, "Unauthorized"));
}

#[test]
fn metadata_that_refuses_tokens() {
    check_metadata("token", status(400, "Bad Request"));
}

#[test]
fn metadata_that_is_turned_off() {
    check_metadata("spot/instance-action", status(403, "Forbidden"));
}

#[test]
fn metadata_that_is_overloaded() {
    check_metadata("spot/instance-action", status(503, "Service Unavailable"));
}

#[test]
fn metadata_that_hangs() {
    check_metadata("spot/instance-action", FaultKind::Hang);
}

#[test]
fn metadata_that_drops_connections() {
    check_metadata("spot/instance-action", FaultKind::Drop);
}

#[test]
fn metadata_that_answers_garbage() {
    check_metadata("spot/instance-action", FaultKind::Body { status: 200, body: "\u{1}\u{2} not a notice".to_owned() });
}

#[test]
fn metadata_that_answers_html() {
    let body = "<html><body><h1>200 OK</h1></body></html>".to_owned();
    check_metadata("spot/instance-action", FaultKind::Body { status: 200, body });
}

#[test]
fn metadata_whose_body_does_not_end() {
    check_metadata("spot/instance-action", FaultKind::EndlessBody);
}

#[test]
fn metadata_that_redirects() {
    check_metadata("spot/instance-action", FaultKind::Redirect("http://127.0.0.1:9/".to_owned()));
}

#[test]
fn one_lost_look_is_tried_again_at_once_and_is_no_news() {
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()));
    let daemon = scenario.ready();
    scenario.sim.fault(fault("spot/instance-action", Nth::First(1), FaultKind::Drop));
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.lines_with("does not answer").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn an_expired_token_is_renewed_and_the_look_repeated() {
    let mut settings = settings(Owner::auto_scaling_group());
    settings.token_ttl_cap = Some(Duration::from_secs(1));
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.lines_with("does not answer").is_empty(), "{}", daemon.lines().join("\n"));
    let tokens = scenario.sim.requests().iter().filter(|request| request.action.starts_with("PUT")).count();
    assert!((2..=8).contains(&tokens), "{tokens} tokens in three seconds");
}

#[test]
fn metadata_that_is_not_there_at_the_start_is_waited_for() {
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()));
    scenario.sim.fault(fault("*", Nth::All, FaultKind::Hang));
    let mut daemon = scenario.start();
    daemon.wait_for_line("does not answer as it should");
    scenario.sim.clear_faults();
    daemon.wait_for_line("ready; on a notice");
    assert!(!daemon.has_ended());
}

/// AWS fails in one way; the handover is complete all the same, and ends in time.
fn check_aws(owner: Owner, action: &str, nth: Nth, kind: FaultKind) -> (Scenario, Daemon) {
    let context = format!("{owner:?} {action} {nth:?} {kind:?}");
    let scenario = Scenario::new(settings(owner));
    let daemon = scenario.ready();
    scenario.sim.fault(fault(action, nth, kind));
    scenario.sim.notice("terminate", Duration::from_secs(100));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{context}\n{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], &context);
    (scenario, daemon)
}

#[test]
fn target_groups_that_throttle() {
    let (_, daemon) =
        check_aws(Owner::auto_scaling_group(), "DeregisterTargets", Nth::First(3), status(400, "Throttling"));
    assert!(!daemon.lines_with("Throttling").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn ec2_that_throttles() {
    check_aws(Owner::LaunchTemplate, "CreateFleet", Nth::First(2), status(503, "RequestLimitExceeded"));
}

#[test]
fn aws_that_has_faults_of_its_own() {
    check_aws(Owner::auto_scaling_group(), "*", Nth::First(4), status(500, "InternalFailure"));
}

#[test]
fn aws_that_answers_html() {
    let body = "<html><body>502 Bad Gateway</body></html>".to_owned();
    check_aws(Owner::LaunchTemplate, "*", Nth::First(3), FaultKind::Body { status: 502, body });
}

#[test]
fn deregistration_that_hangs_once_holds_up_nobody_else() {
    let (scenario, _daemon) = check_aws(Owner::LaunchTemplate, "DeregisterTargets", Nth::First(1), FaultKind::Hang);
    let at = |action: &str, number: usize| {
        let requests = scenario.aws_requests();
        requests.iter().filter(|request| request.action == action).nth(number).map(|request| request.since_start)
    };
    let (first, launch) = (at("DeregisterTargets", 0).expect("one"), at("CreateFleet", 0).expect("one"));
    assert!(launch < first, "the owner is asked in the first instant");
    let second = at("DeregisterTargets", 1).expect("a second try");
    assert!(second - first < Duration::from_secs(5), "tried again after the call's limit");
}

#[test]
fn lost_replies_of_every_write() {
    for (owner, action) in [
        (Owner::auto_scaling_group(), "DeregisterTargets"),
        (Owner::auto_scaling_group(), "DetachInstances"),
        (Owner::LaunchTemplate, "CreateFleet"),
        (Owner::LaunchTemplate, "RegisterTargets"),
    ] {
        check_aws(owner, action, Nth::First(1), FaultKind::LostReply);
    }
}

#[test]
fn dropped_connections_and_late_answers() {
    check_aws(Owner::auto_scaling_group(), "*", Nth::First(3), FaultKind::Drop);
    check_aws(Owner::LaunchTemplate, "CreateFleet", Nth::First(1), FaultKind::Delay(Duration::from_secs(4)));
}

#[test]
fn an_owner_that_never_answers_does_not_keep_the_instance_from_leaving() {
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings(Owner::auto_scaling_group()) });
    let daemon = scenario.ready();
    scenario.sim.fault(fault("DetachInstances", Nth::All, FaultKind::Hang));
    scenario.sim.notice("terminate", Duration::from_secs(15));
    let began = Instant::now();
    daemon.wait_for_line("not done yet: ");
    let early = daemon.lines_with("not done yet: ").remove(0);
    assert!(early.contains("detach from group web") && early.contains("\"WARN\""), "{early}");
    assert!(early.contains("group web replaces this instance once it is gone"), "{early}");
    assert!(began.elapsed() < Duration::from_secs(13), "while this machine lives: {:?}", began.elapsed());
    let end = daemon.wait_for("handed-over");
    assert!(began.elapsed() < Duration::from_secs(17), "{:?}", began.elapsed());
    assert!(!scenario.serves("web"));
    assert!(end["message"].as_str().is_some_and(|text| text.contains("in part") && text.contains("detach")), "{end}");
}

#[test]
fn a_missing_permission_is_named_with_what_it_means() {
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings(Owner::auto_scaling_group()) });
    let daemon = scenario.ready();
    scenario.sim.fault(fault("DetachInstances", Nth::All, status(403, "AccessDenied")));
    scenario.sim.notice("terminate", Duration::from_secs(12));
    let end = daemon.wait_for("handed-over");
    assert!(end["message"].as_str().is_some_and(|text| text.contains("AccessDenied")), "{end}");
    assert!(!scenario.serves("web"), "the other duties are done");
}

#[test]
fn missing_credentials_are_named_and_found_when_they_come() {
    let mut settings = settings(Owner::auto_scaling_group());
    settings.role = None;
    settings.kill_at_deadline = false;
    let scenario = Scenario::new(settings);
    let mut daemon = scenario.start();
    let line = daemon.wait_for_line("not everything could be looked up");
    assert!(line.contains("credentials"), "{line}");
    scenario.sim.notice("terminate", Duration::from_secs(11));
    daemon.wait_for("handed-over");
    assert!(!daemon.has_ended());
    assert!(!daemon.is_complete());
}

#[test]
fn credentials_that_expire_in_the_middle_are_loaded_anew() {
    let scenario = Scenario::new(settings(Owner::LaunchTemplate));
    let daemon = scenario.ready();
    scenario.sim.expire_credentials(None);
    scenario.sim.notice("terminate", Duration::from_secs(100));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "renewed credentials");
}

#[test]
fn a_wall_clock_off_by_ten_minutes_either_way_changes_nothing() {
    for minutes in [10, -10] {
        let mut settings = settings(Owner::auto_scaling_group());
        settings.clock_offset = jiff::SignedDuration::from_mins(minutes);
        let scenario = Scenario::new(settings);
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{minutes} minutes\n{}", daemon.lines().join("\n"));
        let noticed = daemon.wait_for("noticed");
        assert!(noticed["seconds_left"].as_f64().is_some_and(|left| (115.0..=120.5).contains(&left)), "{noticed}");
        scenario.assert_handed_over(&["web"], "clock off");
    }
}

#[test]
fn a_proxy_of_the_environment_never_sees_the_metadata() {
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()))
        .variable("http_proxy", "http://127.0.0.1:9")
        .variable("HTTP_PROXY", "http://127.0.0.1:9")
        .variable("ALL_PROXY", "http://127.0.0.1:9");
    let daemon = scenario.start();
    eventually(|| (scenario.sim.requests().len() > 5).then_some(())).expect("the metadata is asked");
    assert!(daemon.lines_with("does not answer").is_empty(), "{}", daemon.lines().join("\n"));
    let forwarded = scenario.sim.requests().iter().any(|request| request.headers.contains_key("x-forwarded-for"));
    assert!(!forwarded);
}

#[test]
fn a_log_that_takes_nothing_holds_nothing_up() {
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()));
    let (_reader, mut full) = std::io::pipe().expect("a pipe");
    // As much as a pipe holds: the next byte would wait for a reader who does not read.
    full.write_all(&[b' '; 64 * 1024]).expect("it fits");
    let mut daemon = scenario.command().stderr(full).spawn().expect("it starts");
    let called = |action: &str| scenario.aws_requests().into_iter().find(|request| request.action == action);
    eventually(|| called("DescribeTargetHealth")).expect("it looks its target groups up");
    scenario.sim.notice("terminate", Duration::from_secs(100));
    let left = eventually(|| called("DeregisterTargets"));
    daemon.kill().expect("it lives");
    daemon.wait().expect("it ends");
    assert!(left.is_some(), "it leaves its target groups");
}

/// A daemon whose look-ups meet this fault from the start: what it says then.
fn look_ups_meeting(owner: Owner, action: &str, kind: FaultKind) -> (Scenario, Daemon) {
    start_meeting(Scenario::new(settings(owner)), action, kind)
}

fn start_meeting(scenario: Scenario, action: &str, kind: FaultKind) -> (Scenario, Daemon) {
    scenario.sim.fault(fault(action, Nth::All, kind));
    let daemon = scenario.start();
    // Registrations are known.
    daemon.wait_for_line("deregister from web (port 61080)");
    (scenario, daemon)
}

/// Out of its target group at once, whatever of the owner is unknown.
fn leaves_at_once(scenario: &Scenario, daemon: &Daemon) {
    leaves_within(1.0, scenario, daemon);
}

fn leaves_within(seconds: f64, scenario: &Scenario, daemon: &Daemon) {
    scenario.sim.notice("terminate", Duration::from_secs(100));
    let noticed = daemon.wait_for("noticed");
    let deregistered = daemon.wait_for("deregistered");
    let left = |line: &serde_json::Value| line["seconds_left"].as_f64().expect("seconds");
    assert!(left(&noticed) - left(&deregistered) < seconds, "{noticed} {deregistered}");
    assert!(!scenario.serves("web"));
}

#[test]
fn without_auto_scaling_the_registrations_are_found_all_the_same() {
    for kind in [FaultKind::Drop, status(403, "AccessDenied")] {
        let (scenario, daemon) = look_ups_meeting(Owner::auto_scaling_group(), "DescribeAutoScalingGroups", kind);
        let line = daemon.wait_for_line("not everything could be looked up");
        assert!(line.contains("Auto Scaling group "), "by its own name: {line}");
        leaves_at_once(&scenario, &daemon);
    }
}

#[test]
fn where_only_the_description_of_instances_is_allowed_it_tells_the_tags() {
    for refused in [status(403, "UnauthorizedOperation"), status(400, "InvalidAction")] {
        let scenario = Scenario::new(Settings { tags_in_metadata: false, ..settings(Owner::auto_scaling_group()) });
        scenario.sim.fault(fault("DescribeTags", Nth::All, refused));
        let daemon = scenario.start();
        let line = daemon.wait_for_line("ready; on a notice");
        assert!(line.contains("detach from group web"), "{line}");
    }
}

#[test]
fn without_the_instance_s_tags_the_registrations_are_found_all_the_same() {
    let scenario = Scenario::new(Settings { tags_in_metadata: false, ..settings(Owner::auto_scaling_group()) });
    scenario.sim.fault(fault("DescribeTags", Nth::All, status(403, "UnauthorizedOperation")));
    scenario.sim.fault(fault("DescribeInstances", Nth::All, status(403, "UnauthorizedOperation")));
    let daemon = scenario.start();
    let line = daemon.wait_for_line("not everything could be looked up");
    assert!(line.contains("this instance's tags: UnauthorizedOperation"), "{line}");
    daemon.wait_for_line("deregister from web (port 61080)");
    leaves_at_once(&scenario, &daemon);
}

#[test]
fn without_its_hooks_a_group_is_asked_to_detach() {
    let owner = Owner::auto_scaling_group();
    let (scenario, daemon) = look_ups_meeting(owner, "DescribeLifecycleHooks", status(403, "AccessDenied"));
    let line = daemon.wait_for_line("not everything could be looked up");
    assert!(line.contains("the termination hooks of group ") && line.contains("AccessDenied"), "{line}");
    // The group takes it out, and after three seconds it is sure that it has not to come back.
    leaves_within(4.0, &scenario, &daemon);
    daemon.wait_for("handed-over");
    assert_eq!(scenario.count("DetachInstances"), 1);
    scenario.assert_handed_over(&["web"], "hooks unknown");
}

#[test]
fn without_subnets_and_counts_a_template_launches_all_the_same() {
    for action in ["DescribeSubnets", "DescribeInstances"] {
        let scenario = Scenario::new(settings(Owner::LaunchTemplate));
        let world = scenario.sim.snapshot();
        let (first, second) = (&world["subnets"][0]["id"], &world["subnets"][1]["id"]);
        // The zone of its own subnet is known from the metadata; for others EC2 is asked.
        let scenario = scenario.config(&format!("{AT_ONCE}[successor]\nsubnets = [{first}, {second}]\n"));
        let (scenario, daemon) = start_meeting(scenario, action, status(403, "UnauthorizedOperation"));
        daemon.wait_for_line("not everything could be looked up");
        leaves_at_once(&scenario, &daemon);
        daemon.wait_for("successor-requested");
        assert_eq!(scenario.sim.successors().len(), 1, "{action}");
    }
}

#[test]
fn a_look_up_that_is_throttled_is_made_again_and_the_others_are_not() {
    let scenario = Scenario::new(settings(Owner::auto_scaling_group()));
    scenario.sim.fault(fault("DescribeLifecycleHooks", Nth::First(1), status(400, "Throttling")));
    let daemon = scenario.start();
    daemon.wait_for_line("ready; on a notice");
    assert_eq!((scenario.count("DescribeAutoScalingGroups"), scenario.count("DescribeLifecycleHooks")), (1, 2));
}

#[test]
fn a_denied_tag_says_what_it_is_for_and_what_to_allow_and_is_not_tried_again() {
    let settings = Settings { denied: vec!["ec2:CreateTags".to_owned()], ..settings(Owner::auto_scaling_group()) };
    let daemon = Scenario::new(settings).hand_over();
    let lines = daemon.lines_with("failed to set the tag spot-relay:leaving, by which instances that go together");
    let denial = "role web may not call ec2:CreateTags, because no identity-based policy allows it; not tried again";
    assert!(lines.len() == 1 && lines[0].contains(denial) && lines[0].contains("policy prints"), "{lines:#?}");
}
