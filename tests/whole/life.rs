//! The daemon's own life: starting, watching, stopping, and what it does with notices that are not the plain one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use spot_relay::sim::{Fault, FaultKind, LifeCycle, Nth, Owner, Settings};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::scenario::{AT_ONCE, SHORT, Scenario, eventually, target_group, world};

fn settings() -> Settings {
    let mut group = target_group("web", &[61_080]);
    group.port = 61_080;
    Settings { target_groups: vec![group], ..world() }
}

#[test]
fn an_idle_daemon_makes_no_call_to_aws_and_logs_nothing() {
    let scenario = Scenario::new(settings());
    let daemon = scenario.ready();
    let (calls, lines) = (scenario.aws_requests().len(), daemon.lines().len());
    let looks = || scenario.sim.requests().len() - scenario.aws_requests().len();
    let before = looks();
    std::thread::sleep(Duration::from_secs(2));
    assert!(looks() >= before + 10, "it goes on looking");
    assert_eq!(scenario.aws_requests().len(), calls);
    assert_eq!(daemon.lines().len(), lines, "{}", daemon.lines().join("\n"));
}

#[test]
fn the_looks_share_one_connection_and_one_token() {
    let scenario = Scenario::new(settings());
    let _daemon = scenario.ready();
    std::thread::sleep(Duration::from_secs(1));
    let requests = scenario.sim.requests();
    let looks: Vec<_> = requests.iter().filter(|request| request.action.ends_with("spot/instance-action")).collect();
    // At the start the look-ups ask the metadata too, and a look waits for nobody.
    let late: Vec<_> = looks.iter().rev().take(5).collect();
    assert!(late.len() == 5 && late.iter().all(|look| look.connection == late[0].connection), "one connection");
    let tokens: std::collections::BTreeSet<_> =
        looks.iter().map(|look| look.headers["x-aws-ec2-metadata-token"].clone()).collect();
    assert_eq!(tokens.len(), 1);
}

#[test]
fn sigterm_ends_an_idle_daemon_within_a_second() {
    let scenario = Scenario::new(settings());
    let mut daemon = scenario.ready();
    let began = Instant::now();
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn a_terminal_that_goes_away_ends_it_but_for_one_that_was_to_outlive_it() {
    let scenario = Scenario::new(settings()).started_by(&["env", "--default-signal=HUP"]);
    let mut daemon = scenario.ready();
    daemon.signal("-HUP");
    assert!(daemon.wait().success());
    // As nohup does it.
    let scenario = Scenario::new(settings()).started_by(&["env", "--ignore-signal=HUP"]);
    let mut daemon = scenario.ready();
    daemon.signal("-HUP");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.has_ended());
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
}

#[test]
fn a_terminal_that_goes_away_twice_lets_a_handover_be_finished() {
    let scenario = Scenario::new(settings()).started_by(&["env", "--default-signal=HUP"]);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("noticed");
    daemon.signal("-HUP");
    daemon.wait_for_line("in the middle of a handover");
    daemon.signal("-HUP");
    assert!(daemon.wait().success());
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
}

#[test]
fn sigterm_in_a_handover_finishes_it_first() {
    let scenario = Scenario::new(settings());
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("noticed");
    daemon.signal("-TERM");
    assert!(daemon.wait().success());
    assert!(daemon.milestone_names().contains(&"handed-over".to_owned()), "{}", daemon.lines().join("\n"));
    assert!(daemon.is_complete());
    scenario.assert_handed_over(&["web"], "stopped");
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let mut slow = settings();
    slow.timings.running_after = Duration::from_secs(60);
    let scenario = Scenario::new(slow);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("deregistered");
    daemon.signal("-TERM");
    daemon.wait_for_line("it is finished first");
    assert!(!daemon.has_ended());
    let began = Instant::now();
    daemon.signal("-TERM");
    daemon.wait();
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let scenario = Scenario::new(settings());
    let mut child = scenario.command().stderr(Stdio::piped()).spawn().expect("the daemon starts");
    drop(child.stderr.take());
    let prepared = || (scenario.count("DescribeTargetHealth") > 0).then_some(());
    eventually(prepared).expect("it looks everything up");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    eventually(|| (!scenario.serves("web")).then_some(())).expect("it hands over all the same");
    assert!(child.try_wait().expect("its state").is_none(), "it lives");
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_says_where() {
    let scenario = Scenario::new(settings()).config("[leave]\nquite-for = \"3s\"\n");
    let output = scenario.command().output().expect("it runs");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("config.toml") && text.contains("line 2") && text.contains("quiet-for"), "{text}");
    assert!(scenario.sim.requests().is_empty(), "nothing was asked");
}

#[test]
fn a_configuration_that_cannot_be_read_ends_with_75_so_that_it_is_tried_again() {
    let scenario = Scenario::new(settings());
    // A regular file, by its looks, that not even root can read from its beginning.
    let config = scenario.directory().join("config.toml");
    std::os::unix::fs::symlink("/proc/self/mem", config).expect("a link in its place");
    let output = scenario.command().output().expect("it runs");
    assert_eq!(output.status.code(), Some(75));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("config.toml") && text.contains("cannot be read"), "{text}");
}

#[test]
fn a_configuration_that_is_named_and_not_there_ends_with_75_too() {
    let scenario = Scenario::new(settings());
    let config = scenario.directory().join("config.toml");
    std::os::unix::fs::symlink("/nowhere/at-all", config).expect("a link in its place");
    let output = scenario.command().output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "it may be mounted later: {text}");
    assert!(text.contains("config.toml") && text.contains("cannot be read: No such file"), "{text}");
    let told = scenario.command_of("check").arg("--config-only").stdout(Stdio::piped()).output().expect("it runs");
    let text = String::from_utf8_lossy(&told.stdout).replace("\n      ", " ");
    assert!(
        told.status.code() == Some(78) && text.contains("exit code 75") && !text.contains("exit code 78"),
        "{text}"
    );
}

#[test]
fn a_dry_run_says_what_it_would_do_and_writes_nothing() {
    let scenario = Scenario::new(settings()).argument("--dry-run");
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for_line("nothing was written to AWS");
    // The group is asked to let it go once that look is answered.
    for first in [
        "would begin with DescribeTargetHealth of all targets of web",
        "would begin with a look at this machine's connections, port 61080",
        "would begin with CreateTags on this instance: spot-relay:leaving",
    ] {
        assert!(!daemon.lines_with(first).is_empty(), "{first}: {}", daemon.lines().join("\n"));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(scenario.writes().is_empty(), "{:?}", scenario.writes());
    assert!(scenario.serves("web"));
}

#[test]
fn a_notice_long_past_at_the_first_sight_is_a_survivors() {
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings() });
    let past = jiff::Timestamp::now() - Duration::from_secs(600);
    scenario.sim.notice_at("terminate", &past.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let daemon = scenario.start();
    daemon.wait_for_line("this instance lives on");
    daemon.wait_for_line("ready; on a notice");
    std::thread::sleep(Duration::from_millis(500));
    assert!(scenario.writes().is_empty(), "{:?}", scenario.writes());
    assert_eq!(daemon.lines_with("lives on").len(), 1, "said once");
}

#[test]
fn a_notice_that_stands_at_the_start_is_acted_upon_at_once() {
    let scenario = Scenario::new(settings());
    scenario.sim.notice("terminate", Duration::from_secs(60));
    let began = Instant::now();
    let daemon = scenario.start();
    daemon.wait_for("deregistered");
    assert!(began.elapsed() < Duration::from_secs(5), "no jitter stands in the way: {:?}", began.elapsed());
    daemon.wait_for("handed-over");
    scenario.assert_handed_over(&["web"], "cold");
}

#[test]
fn a_shifted_time_is_the_same_incident() {
    let mut slow = settings();
    slow.timings.running_after = Duration::from_secs(4);
    let scenario = Scenario::new(slow);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(110));
    daemon.wait_for("deregistered");
    scenario.sim.notice("terminate", Duration::from_secs(118));
    std::thread::sleep(Duration::from_millis(500));
    scenario.sim.notice("terminate", Duration::from_secs(60));
    let end = daemon.wait_for("handed-over");
    assert_eq!(daemon.lines_with("\"milestone\":\"noticed\"").len(), 1);
    assert!(end["seconds_left"].as_f64().is_some_and(|left| left < 61.0), "shortened: {end}");
    scenario.assert_handed_over(&["web"], "shifted");
}

#[test]
fn a_handover_ends_by_its_deadline_and_says_what_is_not_done() {
    let mut slow = settings();
    slow.timings.healthy_after = Duration::from_secs(300);
    slow.kill_at_deadline = false;
    let scenario = Scenario::new(slow);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(14));
    let began = Instant::now();
    let end = daemon.wait_for("handed-over");
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
    assert!(!daemon.is_complete());
    assert!(end["message"].as_str().is_some_and(|text| text.contains("not seen healthy")), "{end}");
    scenario.assert_handed_over(&["web"], "partial");
}

#[test]
fn a_hibernation_sends_the_deregistration_first_and_alone() {
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings() });
    let daemon = scenario.ready();
    let before = scenario.aws_requests().len();
    scenario.sim.notice("hibernate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    let requests = scenario.aws_requests().split_off(before);
    let actions: Vec<&str> = requests.iter().map(|request| request.action.as_str()).collect();
    // What follows its answer begins in one instant, and arrives in any order.
    assert_eq!(actions[0], "DeregisterTargets", "{actions:?}");
    assert!(actions.contains(&"DetachInstances"), "{actions:?}");
    scenario.assert_handed_over(&["web"], "hibernated");
}

#[test]
fn an_on_demand_instance_is_told_of_once_and_watched() {
    let scenario = Scenario::new(Settings { life_cycle: LifeCycle::OnDemand, ..settings() });
    let daemon = scenario.ready();
    assert_eq!(daemon.lines_with("on-demand instance").len(), 1);
}

#[test]
fn the_record_the_status_and_the_flags_tell_what_happened() {
    let scenario = Scenario::new(Settings { kill_at_deadline: false, ..settings() });
    let daemon = scenario.hand_over();
    let record = daemon.record();
    assert_eq!(record["incident"]["instance_id"], scenario.sim.instance_id().as_str());
    assert_eq!(record["incident"]["action"], "terminate");
    let names: Vec<_> =
        record["milestones"].as_array().into_iter().flatten().map(|it| it["milestone"].clone()).collect();
    assert_eq!(names.first().and_then(|name| name.as_str()), Some("noticed"));
    assert_eq!(names.last().and_then(|name| name.as_str()), Some("handed-over"));
    eventually(|| (daemon.status()["state"] == "handed-over").then_some(())).expect("the status says so");
    assert!(daemon.has_flag("notice") && daemon.has_flag("drained"));
    scenario.sim.remove_notice();
    eventually(|| (!daemon.has_flag("notice") && !daemon.has_flag("drained")).then_some(())).expect("flags lowered");
}

#[test]
fn every_milestone_is_a_line_with_the_fields_of_the_contract() {
    let scenario = Scenario::new(settings());
    let daemon = scenario.hand_over();
    for line in daemon.milestones() {
        assert_eq!(line["instance_id"], scenario.sim.instance_id().as_str(), "{line}");
        assert_eq!(line["action"], "terminate", "{line}");
        assert_eq!(line["level"], "INFO", "{line}");
        assert!(line["seconds_left"].is_number(), "{line}");
    }
    let arn = daemon.wait_for("deregistered")["target_group"].as_str().unwrap_or_default().to_owned();
    assert!(arn.starts_with("arn:aws:elasticloadbalancing:"), "{arn}");
    let successor = scenario.sim.successors().remove(0);
    assert_eq!(daemon.wait_for("successor-healthy")["successor_id"], successor.as_str());
    assert!(daemon.wait_for("successor-requested")["owner"].is_string());
}

#[test]
fn a_directory_that_cannot_be_written_is_said_once_and_stops_nothing() {
    let scenario = Scenario::new(settings());
    let file = scenario.directory().join("a-file");
    std::fs::write(&file, b"").expect("written");
    let file = file.display().to_string();
    let scenario = scenario.variable("STATE_DIRECTORY", &file).variable("RUNTIME_DIRECTORY", &file);
    let daemon = scenario.hand_over();
    for file in ["handover.json", "status.json", "the notice flag", "the drained flag"] {
        let said = daemon.lines_with("failed to write").iter().filter(|line| line.contains(file)).count();
        assert_eq!(said, 1, "{file}:\n{}", daemon.lines().join("\n"));
    }
    scenario.assert_handed_over(&["web"], "unwritable");
}

#[test]
fn a_record_of_another_instance_or_a_broken_one_is_ignored() {
    for text in [
        "{\"incident\":",
        "{\"incident\":{\"instance_id\":\"i-0baked\",\"boot_id\":\"x\",\"action\":\"stop\"},\"time\":null,\"begun_at\":\"2026-01-01T00:00:00Z\",\"begun\":{\"secs\":1,\"nanos\":0},\"deadline\":{\"secs\":1,\"nanos\":0},\"known\":{\"registrations\":null,\"plan\":null},\"milestones\":[],\"outcome\":null}",
    ] {
        let scenario = Scenario::new(settings());
        std::fs::create_dir_all(scenario.directory().join("state")).expect("a directory");
        std::fs::write(scenario.directory().join("state/handover.json"), text).expect("written");
        let daemon = scenario.hand_over();
        assert_eq!(daemon.lines_with("and ignored").len(), 1, "{}", daemon.lines().join("\n"));
        scenario.assert_handed_over(&["web"], "ignored record");
    }
}

#[test]
fn a_registration_that_comes_after_the_start_is_found_at_the_notice() {
    // Nothing is registered when the daemon looks; the handover looks again.
    let mut settings = settings();
    settings.target_groups[0].ports = Vec::new();
    settings.owner = Owner::Nobody;
    let scenario = Scenario::new(settings).config(SHORT);
    let daemon = scenario.start();
    daemon.wait_for_line("in no target group");
    register(&scenario);
    // Nobody else serves: it leaves when the reserve begins.
    scenario.sim.notice("terminate", Duration::from_secs(20));
    daemon.wait_for("left");
    assert!(!scenario.serves("web"));
}

/// Registers our instance as a deployment tool would: over the API.
fn register(scenario: &Scenario) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let snapshot = scenario.sim.snapshot().to_string();
    let arn = snapshot.split('"').find(|part| part.contains(":targetgroup/web/")).expect("the group's ARN").to_owned();
    let body = format!(
        "Action=RegisterTargets&Version=2015-12-01&TargetGroupArn={arn}&Targets.member.1.Id={}&Targets.member.1.Port=61080",
        scenario.sim.instance_id()
    );
    // reqwest, which speaks TLS for the webhook, wants to be told how, though this is plain HTTP.
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into());
    let tls = tls.with_safe_default_protocol_versions().expect("the versions of TLS");
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("a client");
    let request = http
        .post(scenario.sim.aws_endpoint())
        .header("x-amz-date", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string())
        .header("content-type", "application/x-www-form-urlencoded")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/eu-west-1/elasticloadbalancing/aws4_request",
        )
        .body(body);
    let status = runtime.block_on(async { request.send().await.expect("an answer").status() });
    assert!(status.is_success(), "{status}");
}

#[test]
fn what_aws_refuses_because_it_is_done_is_no_warning() {
    let scenario = Scenario::new(settings());
    scenario.hand_over().kill();
    // Killed and restarted over and over, the same notice found each time (mitodl/ol-infrastructure#5088).
    for _ in 0..5 {
        let again = scenario.start();
        again.wait_for("handed-over");
        assert!(again.is_complete(), "{}", again.lines().join("\n"));
        let warnings = again.lines_with("\"level\":\"WARN\"");
        assert!(warnings.is_empty(), "{}", warnings.join("\n"));
        scenario.assert_handed_over(&["web"], "again");
    }
}

#[test]
fn a_rebalance_recommendation_renews_what_is_known_and_changes_nothing() {
    let scenario = Scenario::new(settings());
    let daemon = scenario.ready();
    let before = scenario.aws_requests().len();
    scenario.sim.rebalance();
    daemon.wait_for_line("AWS recommends to rebalance");
    eventually(|| (scenario.aws_requests().len() >= before + 3).then_some(())).expect("everything is looked up anew");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(daemon.lines_with("AWS recommends to rebalance").len(), 1, "said once");
    assert!(scenario.writes().is_empty(), "{:?}", scenario.writes());
    assert!(scenario.serves("web"));
}

#[test]
fn an_ignored_recommendation_is_not_even_asked_for() {
    let config = "[watch]\ninterval = \"100ms\"\nrebalance = \"ignore\"\n";
    let scenario = Scenario::new(settings()).config(config);
    let _daemon = scenario.ready();
    scenario.sim.rebalance();
    std::thread::sleep(Duration::from_millis(1500));
    let asked = scenario.sim.requests().iter().any(|request| request.action.contains("rebalance"));
    assert!(!asked);
}

#[test]
fn target_health_is_polled_seldom_however_long_the_successor_takes() {
    let mut slow = settings();
    slow.timings.healthy_after = Duration::from_secs(300);
    slow.kill_at_deadline = false;
    let scenario = Scenario::new(slow);
    let daemon = scenario.ready();
    let before = scenario.count("DescribeTargetHealth");
    scenario.sim.notice("terminate", Duration::from_secs(20));
    daemon.wait_for("handed-over");
    let polls = scenario.count("DescribeTargetHealth") - before;
    assert!((3..=10).contains(&polls), "{polls} in twenty seconds");
}

#[test]
fn a_second_interruption_after_a_withdrawn_one_is_handed_over_too() {
    let mut settings = settings();
    settings.owner = Owner::LaunchTemplate;
    settings.kill_at_deadline = false;
    let scenario = Scenario::new(settings);
    let mut daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(12));
    daemon.wait_for("handed-over");
    std::thread::sleep(Duration::from_secs(12));
    scenario.sim.remove_notice();
    daemon.wait_for("reinstated");
    eventually(|| (!daemon.has_flag("notice")).then_some(())).expect("it is seen to be withdrawn");
    assert!(scenario.serves("web"));
    // Minutes later, by the notice's own time.
    let later = jiff::Timestamp::now() + Duration::from_secs(300);
    scenario.sim.notice_at("terminate", &later.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    eventually(|| (daemon.milestone_names().iter().filter(|it| *it == "handed-over").count() == 2).then_some(()))
        .expect("a second handover");
    assert!(!scenario.serves("web"));
    assert_eq!(scenario.sim.successors().len(), 2, "a successor for each incident");
    daemon.kill();
    // And the process after it takes the second incident for the second.
    let again = scenario.start();
    again.wait_for("handed-over");
    assert_eq!(scenario.sim.successors().len(), 2);
}

#[test]
fn a_target_group_that_was_left_before_the_record_was_lost_is_the_successors_too() {
    let mut settings = Settings { owner: Owner::LaunchTemplate, ..settings() };
    settings.target_groups[0].deregistration_delay = Duration::from_secs(1);
    let scenario = Scenario::new(settings).config(&format!("target-groups = [\"web\"]\n{AT_ONCE}"));
    let mut daemon = scenario.ready();
    for action in ["CreateFleet", "RunInstances"] {
        let code = "InsufficientInstanceCapacity".to_owned();
        let kind = FaultKind::Status { status: 400, code, message: "none".to_owned() };
        scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
    }
    let ours = scenario.sim.instance_id();
    scenario.sim.notice("terminate", Duration::from_secs(60));
    eventually(|| (!scenario.sim.targets("web").iter().any(|(id, ..)| *id == ours)).then_some(())).expect("it is gone");
    daemon.kill();
    std::fs::remove_file(scenario.directory().join("state/handover.json")).expect("a record");
    scenario.sim.clear_faults();
    let again = scenario.start();
    again.wait_for("successor-healthy");
    scenario.assert_handed_over(&["web"], "left before");
    let successor = &scenario.sim.successors()[0];
    assert!(scenario.sim.targets("web").iter().any(|(id, _, state)| id == successor && state == "healthy"));
}

#[test]
fn an_action_that_changes_is_the_same_interruption() {
    for kill in [false, true] {
        let mut settings = settings();
        settings.owner = Owner::LaunchTemplate;
        let scenario = Scenario::new(settings);
        let mut daemon = scenario.ready();
        scenario.sim.notice("stop", Duration::from_secs(100));
        daemon.wait_for("handed-over");
        daemon.record();
        if kill {
            daemon.kill();
            daemon = scenario.start();
        }
        scenario.sim.notice("terminate", Duration::from_secs(95));
        std::thread::sleep(Duration::from_secs(2));
        scenario.assert_handed_over(&["web"], "changed");
    }
}

#[test]
fn a_time_beyond_all_reckoning_ends_nothing() {
    let scenario = Scenario::new(settings());
    let mut daemon = scenario.ready();
    scenario.sim.notice_at("terminate", "-009999-01-02T02:00:00Z");
    daemon.wait_for("handed-over");
    assert!(!daemon.has_ended());
    scenario.assert_handed_over(&["web"], "strange time");
}

#[test]
fn a_target_group_deleted_since_does_not_hide_the_others() {
    let mut settings = settings();
    settings.target_groups.push(target_group("old", &[61_081]));
    settings.owner = Owner::LaunchTemplate;
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    for action in ["DeregisterTargets", "DescribeTargetHealth", "RegisterTargets"] {
        scenario.sim.fault(Fault {
            service: None,
            action: action.to_owned(),
            nth: Nth::Exactly(1),
            kind: FaultKind::Status { status: 400, code: "TargetGroupNotFound".into(), message: "deleted".into() },
        });
    }
    scenario.sim.notice("terminate", Duration::from_secs(60));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert!(daemon.lines_with("\"level\":\"WARN\"").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn one_404_in_a_handover_withdraws_nothing() {
    let mut slow = settings();
    slow.timings.running_after = Duration::from_secs(4);
    let scenario = Scenario::new(slow);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(100));
    daemon.wait_for("deregistered");
    eventually(|| daemon.has_flag("notice").then_some(())).expect("the flag");
    scenario.sim.fault(Fault {
        service: None,
        action: "spot/instance-action".to_owned(),
        nth: Nth::First(1),
        kind: FaultKind::Status { status: 404, code: "Not Found".into(), message: String::new() },
    });
    daemon.wait_for("handed-over");
    assert!(daemon.has_flag("notice") && daemon.has_flag("drained"));
}

#[test]
fn a_recommendation_that_hangs_does_not_hold_up_the_notice() {
    let scenario = Scenario::new(settings());
    let daemon = scenario.ready();
    scenario.sim.fault(Fault {
        service: None,
        action: "events/recommendations/rebalance".to_owned(),
        nth: Nth::All,
        kind: FaultKind::Hang,
    });
    std::thread::sleep(Duration::from_millis(1200));
    scenario.sim.notice("terminate", Duration::from_secs(100));
    daemon.wait_for("handed-over");
    let requests = scenario.sim.requests();
    let showed = |request: &&spot_relay::sim::Request| {
        request.action.ends_with("spot/instance-action") && request.status == Some(200)
    };
    let noticed = requests.iter().find(showed).expect("the notice was seen").since_start;
    let left = requests.iter().find(|request| request.action == "DetachInstances").expect("left").since_start;
    assert!(left - noticed < Duration::from_millis(500), "{:?}", left - noticed);
}

#[test]
fn a_replacement_launched_at_the_recommendation_is_the_successor() {
    let mut settings = settings();
    settings.owner =
        Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: false, mixed_instances: false };
    settings.rebalance_terminates = false;
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.rebalance();
    daemon.wait_for_line("AWS recommends to rebalance");
    eventually(|| (scenario.sim.successors().len() == 1).then_some(())).expect("the group launches");
    std::thread::sleep(Duration::from_secs(1));
    scenario.sim.notice("terminate", Duration::from_secs(60));
    let healthy = daemon.wait_for("successor-healthy");
    assert_eq!(healthy["successor_id"], scenario.sim.successors()[0].as_str());
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
}
