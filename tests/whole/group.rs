//! A member of an Auto Scaling group, as AWS's groups really are: hooks that open after the drain, members that are not in
//! service, warm pools, a synchronous launch, and who replaces by itself.

use std::time::Duration;

use spot_relay::sim::{LifeCycle, Owner, Request, Settings, TargetGroupSettings};

use crate::scenario::{Daemon, SHORT, Scenario, drained_soon, eventually, target_group, world};

const PORT: u16 = 61_080;

fn group(termination_hook: bool, capacity_rebalance: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance, termination_hook, mixed_instances: false }
}

/// A group with room, whose own target group is on the port that is used.
fn owned_by(owner: Owner) -> Settings {
    let web = TargetGroupSettings { port: PORT, ..target_group("web", &[PORT]) };
    Settings { owner, target_groups: vec![web], max_size: Some(9), ..world() }
}

fn draining_for(seconds: u64, mut settings: Settings) -> Settings {
    settings.target_groups[0].deregistration_delay = Duration::from_secs(seconds);
    settings
}

fn first(scenario: &Scenario, action: &str) -> Option<Request> {
    scenario.aws_requests().into_iter().find(|request| request.action == action)
}

fn complete(daemon: &Daemon) {
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
}

#[test]
fn a_hook_that_opens_late_is_completed_when_it_opens_and_each_of_several_is() {
    let mut settings = draining_for(12, owned_by(group(true, false)));
    settings.more_hooks = vec!["logs".to_owned()];
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.scale_in();
    daemon.wait_for("quiet");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(scenario.count("CompleteLifecycleAction"), 0, "the group still drains");
    assert!(!daemon.milestone_names().contains(&"handed-over".to_owned()), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.sim.member_state().as_deref(), Some("Terminating"));
    complete(&daemon);
    assert_eq!(scenario.count("CompleteLifecycleAction"), 2);
    assert_eq!(scenario.count("RecordLifecycleActionHeartbeat"), 0);
    let state = scenario.sim.member_state();
    assert!(state.as_deref().is_none_or(|state| state == "Terminating:Proceed"), "{state:?}");
}

#[test]
fn a_hook_that_opens_after_a_restart_is_completed_too() {
    let scenario = Scenario::new(draining_for(10, owned_by(group(true, false))));
    let mut daemon = scenario.ready();
    scenario.sim.scale_in();
    daemon.wait_for("quiet");
    daemon.kill();
    let again = scenario.start();
    complete(&again);
    assert_eq!(scenario.count("CompleteLifecycleAction"), 1);
}

#[test]
fn a_drain_that_is_longer_than_our_target_groups_say_is_waited_for() {
    // The group's own target group is not among those that the configuration lists: its delay is not known.
    let mut settings = draining_for(15, owned_by(group(true, false)));
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[61_081]) };
    settings.target_groups.push(TargetGroupSettings { deregistration_delay: Duration::from_secs(1), ..api });
    let config = format!("target-groups = [\"api\"]\n{SHORT}");
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.ready();
    scenario.sim.scale_in();
    complete(&daemon);
    assert_eq!(scenario.count("CompleteLifecycleAction"), 1);
    let state = scenario.sim.member_state();
    assert!(state.as_deref().is_none_or(|state| state == "Terminating:Proceed"), "{state:?}");
}

#[test]
fn an_abandoned_hook_that_retains_the_instance_is_told_as_it_is() {
    let mut settings = drained_soon(owned_by(group(true, false)));
    settings.heartbeat_timeout = Duration::from_secs(2);
    settings.default_result = "ABANDON".to_owned();
    settings.retains_abandoned = true;
    // The command takes longer than the hook waits, and no heartbeat gets through.
    settings.denied = vec!["autoscaling:RecordLifecycleActionHeartbeat".to_owned()];
    let config = format!("{SHORT}[hooks]\ndrained = [\"/bin/sleep\", \"6\"]\n");
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.ready();
    scenario.sim.scale_in();
    daemon.wait_for("handed-over");
    assert!(!daemon.is_complete());
    let told = daemon.record()["outcome"].to_string();
    assert!(told.contains("Terminating:Retained"), "{told}");
}

#[test]
fn a_member_that_is_pending_is_detached_when_it_comes_into_service() {
    let mut settings = owned_by(group(false, false));
    settings.member_state = "Pending".to_owned();
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(120));
    eventually(|| (scenario.count("DetachInstances") == 1).then_some(())).expect("a first try");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!daemon.milestone_names().contains(&"successor-requested".to_owned()), "nobody was asked yet");
    assert!(scenario.sim.successors().is_empty());
    scenario.sim.group_moves("InService");
    complete(&daemon);
    scenario.assert_handed_over(&["web"], "detached late");
}

#[test]
fn a_member_at_a_launching_hook_is_replaced_by_abandoning_it() {
    for when in ["at-once", "auto"] {
        let mut settings = owned_by(group(false, false));
        settings.member_state = "Pending:Wait".to_owned();
        settings.launch_hook = true;
        settings.timings.terminates_after = Duration::from_secs(60);
        let scenario = Scenario::new(settings).config(&format!("{SHORT}when = \"{when}\"\n"));
        let daemon = scenario.ready();
        scenario.sim.notice("terminate", Duration::from_secs(120));
        let call =
            eventually(|| first(&scenario, "CompleteLifecycleAction")).expect("the hook is completed").parameters;
        assert_eq!((call["LifecycleActionResult"].as_str(), call["LifecycleHookName"].as_str()), ("ABANDON", "ready"));
        eventually(|| (!scenario.sim.successors().is_empty()).then_some(())).expect("a replacement");
        assert_eq!(scenario.count("LaunchInstances"), 0, "{when}");
        drop(daemon);
    }
}

#[test]
fn a_member_in_standby_has_no_successor_and_stays_in_standby() {
    for when in ["at-once", "successor-healthy"] {
        let mut settings = owned_by(group(false, false));
        settings.member_state = "Standby".to_owned();
        settings.kill_at_deadline = false;
        let scenario = Scenario::new(settings).config(&format!("{SHORT}when = \"{when}\"\n"));
        let daemon = scenario.ready();
        let desired = scenario.sim.snapshot()["groups"][0]["desired"].clone();
        scenario.sim.notice("terminate", Duration::from_secs(120));
        complete(&daemon);
        assert_eq!(scenario.sim.snapshot()["groups"][0]["desired"], desired, "{when}");
        assert!(scenario.sim.successors().is_empty(), "{when}");
        scenario.sim.remove_notice();
        daemon.wait_for("reinstated");
        assert_eq!(scenario.sim.member_state().as_deref(), Some("Standby"), "{when}");
        assert!(!scenario.serves("web"), "{when}");
    }
}

#[test]
fn a_slow_launch_is_waited_for_and_asked_for_under_one_token() {
    let mut settings = owned_by(group(false, false));
    settings.timings.launch_instances_takes = Duration::from_secs(6);
    let config = format!("{SHORT}when = \"successor-healthy\"\n");
    let scenario = Scenario::new(settings).config(&config);
    // The connection of the first call is lost: the second meets a launch that is still in progress.
    let lost = spot_relay::sim::FaultKind::LostReply;
    let nth = spot_relay::sim::Nth::First(1);
    scenario.sim.fault(spot_relay::sim::Fault { service: None, action: "LaunchInstances".to_owned(), nth, kind: lost });
    let daemon = scenario.hand_over();
    complete(&daemon);
    let launches: Vec<Request> =
        scenario.aws_requests().into_iter().filter(|request| request.action == "LaunchInstances").collect();
    assert!(launches.iter().any(|request| request.status == Some(500)), "a call met the launch in progress");
    let tokens: std::collections::BTreeSet<&String> =
        launches.iter().map(|request| &request.parameters["ClientToken"]).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(scenario.count("DetachInstances"), 1);
    let detach = first(&scenario, "DetachInstances").expect("a detach").parameters;
    assert_eq!(detach["ShouldDecrementDesiredCapacity"], "true");
    scenario.assert_handed_over(&["web"], "launched slowly");
}

#[test]
fn mixed_policies_launch_first_unless_they_mix_spot_and_on_demand() {
    for (percentage, launches_first) in [(0, true), (50, false)] {
        let owner =
            Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: false, mixed_instances: true };
        let mut settings = owned_by(owner);
        settings.on_demand_percentage = Some(percentage);
        let config = format!("{SHORT}when = \"successor-healthy\"\n");
        let scenario = Scenario::new(settings).config(&config);
        let daemon = scenario.hand_over();
        complete(&daemon);
        let detach = first(&scenario, "DetachInstances").expect("a detach").parameters;
        assert_eq!(detach["ShouldDecrementDesiredCapacity"], launches_first.to_string(), "{percentage} %");
        scenario.assert_handed_over(&["web"], "mixed");
    }
}

#[test]
fn a_rebalancing_group_is_asked_for_a_scheduled_event_and_for_a_member_on_demand() {
    for life_cycle in [LifeCycle::Spot, LifeCycle::OnDemand] {
        let mut settings = owned_by(group(false, true));
        settings.life_cycle = life_cycle;
        let config =
            "[watch]\ninterval = \"100ms\"\nscheduled-events = \"hand-over\"\n[leave]\nquiet-for = \"200ms\"\n";
        let scenario = Scenario::new(settings).config(config);
        let daemon = scenario.ready();
        let in_two_minutes = jiff::Timestamp::now() + Duration::from_secs(130);
        let not_before = in_two_minutes.strftime("%-d %b %Y %H:%M:%S GMT");
        scenario.sim.scheduled_events(&format!(
            "[{{\"Code\": \"instance-retirement\", \"State\": \"active\", \"EventId\": \"instance-event-1\", \
             \"NotBefore\": \"{not_before}\"}}]"
        ));
        complete(&daemon);
        assert_eq!((scenario.count("LaunchInstances"), scenario.count("DetachInstances")), (1, 1), "{life_cycle:?}");
        scenario.assert_handed_over(&["web"], "an event");
    }
}

#[test]
fn nothing_is_registered_in_the_warm_pool_or_in_standby_before_the_group_puts_it_into_service() {
    for state in ["Warmed:Running", "Warmed:Stopped", "Warmed:Hibernated", "Standby"] {
        let mut settings = owned_by(group(false, false));
        settings.member_state = state.to_owned();
        let api = TargetGroupSettings { attached: false, ports: Vec::new(), ..target_group("api", &[61_081]) };
        settings.target_groups.push(TargetGroupSettings { port: 61_081, ..api });
        let config = format!("target-groups = [\"api\"]\n[arrive]\nregister = true\n{SHORT}");
        let scenario = Scenario::new(settings).config(&config);
        let daemon = scenario.start();
        daemon.wait_for_line(&format!("holds this instance in {state}"));
        daemon.wait_for_line("ready; on a notice");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(scenario.count("RegisterTargets"), 0, "{state}");
        scenario.sim.group_moves("InService");
        daemon.wait_for("arrived");
        assert!(scenario.serves("api"), "{state}");
    }
}

#[test]
fn back_into_the_warm_pool_is_a_drain_with_its_hook_and_the_next_service_a_way_back() {
    let mut settings = drained_soon(owned_by(group(true, false)));
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[61_081]) };
    settings.target_groups.push(api);
    let scenario = Scenario::listing(settings);
    let daemon = scenario.ready();
    std::thread::sleep(Duration::from_secs(1));
    scenario.sim.group_moves("Warmed:Running");
    let noticed = daemon.wait_for("noticed");
    assert!(noticed["message"].as_str().is_some_and(|text| text.contains("warm pool")), "{noticed}");
    complete(&daemon);
    assert!(!scenario.serves("web") && !scenario.serves("api"));
    assert_eq!(scenario.count("CompleteLifecycleAction"), 1);
    assert_eq!(scenario.sim.member_state().as_deref(), Some("Warmed:Running"));
    scenario.sim.group_moves("InService");
    daemon.wait_for("reinstated");
    assert!(scenario.serves("web") && scenario.serves("api"));
    assert!(scenario.sim.successors().len() <= 1, "the pool's member is in the pool: the group may launch one");
}

#[test]
fn an_instance_of_the_warm_pool_that_is_terminated_has_its_hook_completed() {
    let mut settings = drained_soon(owned_by(group(true, false)));
    settings.member_state = "Warmed:Running".to_owned();
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.group_moves("Warmed:Terminated");
    complete(&daemon);
    assert_eq!(scenario.count("CompleteLifecycleAction"), 1);
}

/// Each of the permissions that LaunchInstances needs of its caller is denied alone.
#[test]
fn a_launch_that_lacks_one_of_its_permissions_ends_in_the_at_once_way_and_the_permission_is_named() {
    let denied = [
        "autoscaling:LaunchInstances",
        "ec2:CreateFleet",
        "ec2:DescribeLaunchTemplateVersions",
        "ec2:RunInstances",
        "ec2:CreateTags",
        "iam:PassRole",
    ];
    std::thread::scope(|scope| {
        for action in denied {
            scope.spawn(move || {
                let settings = Settings { denied: vec![action.to_owned()], ..owned_by(group(false, false)) };
                let scenario = Scenario::new(settings).config(&format!("{SHORT}when = \"successor-healthy\"\n"));
                let daemon = scenario.hand_over();
                assert_eq!(scenario.count("LaunchInstances"), 1, "{action}");
                let detach = first(&scenario, "DetachInstances").expect("a detach");
                assert_eq!(detach.parameters["ShouldDecrementDesiredCapacity"], "false", "{action}");
                scenario.assert_handed_over(&["web"], action);
                let lines = daemon.lines().join("\n");
                assert!(daemon.is_complete(), "{action}: {lines}");
                assert!(daemon.lines_with("WARN").iter().any(|line| line.contains(action)), "{action}: {lines}");
            });
        }
    });
}

#[test]
fn a_weighted_and_protected_member_is_replaced_by_its_own_weight_and_comes_back_without_its_protection() {
    let mut settings = drained_soon(owned_by(group(false, false)));
    (settings.member_weight, settings.protected_from_scale_in) = (Some(4), true);
    let scenario = Scenario::new(settings).config(&format!("{SHORT}when = \"successor-healthy\"\n"));
    let daemon = scenario.ready();
    let desired = || scenario.sim.snapshot()["groups"][0]["desired"].clone();
    let before = desired();
    scenario.sim.notice("terminate", Duration::from_secs(100));
    complete(&daemon);
    let launch = first(&scenario, "LaunchInstances").expect("it is asked for one more");
    assert_eq!(launch.parameters["RequestedCapacity"], "4");
    assert_eq!((scenario.sim.successors().len(), desired()), (1, before));
    scenario.sim.remove_notice();
    let back = daemon.wait_for("reinstated");
    assert!(back["message"].to_string().contains("its scale-in protection is lost"), "{back}");
}
