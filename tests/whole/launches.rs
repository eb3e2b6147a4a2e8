//! Launching the successor ourselves: where AWS refuses a launch, answers late or not at all, and lets what it launched die.

use std::collections::BTreeMap;
use std::time::Duration;

use spot_relay::sim::{
    DeathAtBirth, Fault, FaultKind, FleetType, LifeCycle, Nth, Owner, Pool, Request, Settings, TargetGroupSettings,
    TargetType, TemplateSettings,
};

use crate::scenario::{Daemon, SHORT, Scenario, eventually, target_group, world};

fn template(template: TemplateSettings) -> Settings {
    Settings { owner: Owner::LaunchTemplate, target_groups: vec![target_group("web", &[61_080])], template, ..world() }
}

fn plain() -> Settings {
    template(TemplateSettings::default())
}

fn without_spot() -> Vec<Pool> {
    vec![Pool { instance_type: "*".to_owned(), zone: "*".to_owned(), life_cycle: Some(LifeCycle::Spot) }]
}

fn subnets(scenario: &Scenario) -> Vec<String> {
    let snapshot = scenario.sim.snapshot();
    let subnets = snapshot["subnets"].as_array().cloned().unwrap_or_default();
    subnets.iter().filter_map(|subnet| subnet["id"].as_str().map(str::to_owned)).collect()
}

fn with_subnets(settings: Settings, more: &str) -> Scenario {
    let list = subnets(&Scenario::new(settings.clone()));
    let list: Vec<String> = list.iter().map(|subnet| format!("\"{subnet}\"")).collect();
    let config = format!("{SHORT}[successor]\nsubnets = [{}]\n{more}", list.join(", "));
    Scenario::new(settings).config(&config)
}

fn calls(scenario: &Scenario, action: &str) -> Vec<Request> {
    scenario.aws_requests().into_iter().filter(|request| request.action == action).collect()
}

fn complete(scenario: &Scenario) -> Daemon {
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "complete");
    daemon
}

fn instance(scenario: &Scenario, id: &str) -> serde_json::Value {
    let snapshot = scenario.sim.snapshot();
    let instances = snapshot["instances"].as_array().cloned().unwrap_or_default();
    instances.into_iter().find(|one| one["id"] == id).expect("the instance")
}

#[test]
fn of_several_subnets_of_a_zone_one_goes_into_an_attempt() {
    let settings = Settings { subnets_in_a_zone: 3, no_capacity: without_spot(), ..plain() };
    let scenario = with_subnets(settings, "on-demand-fallback = true\n");
    assert_eq!(subnets(&scenario).len(), 9);
    complete(&scenario);
    let launches = calls(&scenario, "CreateFleet");
    assert_eq!(launches.len(), 4, "none is refused as a whole: {launches:#?}");
    assert!(calls(&scenario, "RunInstances").is_empty());
}

#[test]
fn a_template_that_names_its_subnet_in_an_interface_is_sent_no_other() {
    let settings = template(TemplateSettings { names_its_subnet: true, ..TemplateSettings::default() });
    let scenario = with_subnets(settings, "");
    let daemon = complete(&scenario);
    let launches = calls(&scenario, "CreateFleet");
    let names_a_place = |key: &String| key.ends_with(".SubnetId") || key.ends_with(".AvailabilityZone");
    assert!(!launches.iter().any(|it| it.parameters.keys().any(names_a_place)), "{launches:#?}");
    assert!(!daemon.lines_with("[successor] subnets are not used").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn a_template_with_market_options_is_launched_by_run_instances_where_create_fleet_refuses_it() {
    let settings = template(TemplateSettings { asks_for_spot: true, ..TemplateSettings::default() });
    let scenario = Scenario::new(settings);
    let daemon = complete(&scenario);
    assert_eq!((scenario.count("CreateFleet"), scenario.count("RunInstances")), (1, 1));
    let run = calls(&scenario, "RunInstances").remove(0).parameters;
    assert!(run["ClientToken"].len() <= 64 && run.contains_key("LaunchTemplate.LaunchTemplateId"), "{run:?}");
    assert_eq!(run["InstanceMarketOptions.SpotOptions.SpotInstanceType"], "one-time");
    assert!(run.values().any(|value| *value == scenario.sim.instance_id()), "tagged with its predecessor: {run:?}");
    assert!(!daemon.lines_with("has InstanceMarketOptions").is_empty(), "{}", daemon.lines().join("\n"));
}

#[test]
fn a_template_that_nobody_can_read_is_launched_as_it_stands() {
    let scenario = Scenario::new(plain());
    let daemon = scenario.ready();
    for action in ["CreateFleet", "DescribeLaunchTemplateVersions"] {
        let kind = FaultKind::Status { status: 400, code: "InvalidAction".to_owned(), message: "none".to_owned() };
        scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
    }
    scenario.sim.notice("terminate", Duration::from_secs(60));
    daemon.wait_for("successor-healthy");
    scenario.assert_handed_over(&["web"], "unread");
    let run = calls(&scenario, "RunInstances").remove(0).parameters;
    assert!(
        run.contains_key("LaunchTemplate.LaunchTemplateId") && run.contains_key("LaunchTemplate.Version"),
        "{run:?}"
    );
}

#[test]
fn a_template_with_market_options_is_launched_by_create_fleet_where_that_takes_it() {
    let settings = template(TemplateSettings { asks_for_spot: true, ..TemplateSettings::default() });
    let scenario = Scenario::new(Settings { fleets_take_market_options: true, ..settings });
    complete(&scenario);
    assert_eq!((scenario.count("CreateFleet"), scenario.count("RunInstances")), (1, 0));
}

/// On demand what the template says is launched, without what stands in the way.
fn check_on_demand(template_settings: TemplateSettings) {
    let settings = Settings { no_capacity: without_spot(), ..template(template_settings) };
    let scenario = Scenario::new(settings).config(&format!("{SHORT}[successor]\non-demand-fallback = true\n"));
    let daemon = complete(&scenario);
    let run = calls(&scenario, "RunInstances").pop().expect("a launch").parameters;
    for (name, value) in [("UserData", "c2VydmU="), ("KeyName", "operators"), ("ImageId", "ami-0123456789abcdef0")] {
        assert_eq!(run.get(name).map(String::as_str), Some(value), "{run:?}");
    }
    assert!(!run.values().any(|value| value == "spot-instances-request"), "{run:?}");
    assert!(!run.keys().any(|key| key.starts_with("InstanceMarketOptions")), "{run:?}");
    let launches = scenario.count("CreateFleet") + scenario.count("RunInstances");
    assert!(launches <= 6, "{launches} launches: {:?}", scenario.writes());
    let successor = instance(&scenario, &scenario.sim.successors()[0]);
    assert_eq!(successor["life_cycle"], "on-demand", "{successor}");
    // Not launched from the template itself, it is told by a tag of ours from which it came.
    assert!(successor["tags"]["spot-relay:launch-template"].as_str().is_some_and(|it| it.starts_with("lt-")));
    assert!(!daemon.lines_with("refuses on demand").is_empty(), "{}", daemon.lines().join("\n"));
}

fn with_data() -> TemplateSettings {
    TemplateSettings {
        user_data: Some("c2VydmU=".to_owned()),
        key_name: Some("operators".to_owned()),
        ..TemplateSettings::default()
    }
}

#[test]
fn a_template_that_tags_spot_requests_is_launched_on_demand_without_that() {
    check_on_demand(TemplateSettings { tags_spot_requests: true, ..with_data() });
}

#[test]
fn a_template_for_spot_is_launched_on_demand_without_that() {
    check_on_demand(TemplateSettings { asks_for_spot: true, ..with_data() });
}

#[test]
fn successors_that_die_at_birth_are_told_with_their_reason_and_after_three_none_is_launched() {
    let death = DeathAtBirth { reason: "Client.InternalError".to_owned(), count: 100 };
    let scenario = Scenario::new(Settings { dies_at_birth: Some(death), ..plain() });
    let daemon = scenario.hand_over();
    assert_eq!(scenario.sim.successors().len(), 3, "{}", daemon.lines().join("\n"));
    assert!(!daemon.is_complete());
    assert!(daemon.lines_with("died at birth: Client.InternalError").len() >= 3, "{}", daemon.lines().join("\n"));
    let end = daemon.wait_for("handed-over");
    let told = end["message"].as_str().expect("a message");
    assert!(told.contains("given up") && told.contains("key of an encrypted volume"), "{told}");
}

#[test]
fn one_that_dies_of_another_reason_is_followed_by_one_that_lives() {
    let death = DeathAtBirth { reason: "Server.InternalError".to_owned(), count: 2 };
    let scenario = Scenario::new(Settings { dies_at_birth: Some(death), ..plain() });
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(scenario.sim.successors().len(), 3);
}

#[test]
fn a_lost_reply_while_ec2_lags_ends_in_one_successor() {
    use spot_relay::sim::{Fault, FaultKind, Nth};
    let mut settings = plain();
    settings.timings.visible_after = Duration::from_secs(15);
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    let fault = |nth, kind| Fault { service: None, action: "CreateFleet".to_owned(), nth, kind };
    scenario.sim.fault(fault(Nth::First(1), FaultKind::LostReply));
    let at_work = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CreateFleetResponse \
                   xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>1</requestId></CreateFleetResponse>";
    scenario.sim.fault(fault(Nth::First(4), FaultKind::Body { status: 200, body: at_work.to_owned() }));
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let tokens: BTreeMap<String, u32> =
        calls(&scenario, "CreateFleet").into_iter().fold(BTreeMap::new(), |mut all, it| {
            *all.entry(it.parameters["ClientToken"].clone()).or_default() += 1;
            all
        });
    assert_eq!(tokens.len(), 1, "one token: {tokens:?}");
    assert_eq!(scenario.sim.successors().len(), 1);
}

#[test]
fn a_running_successor_without_an_address_is_registered_once_that_shows() {
    let mut settings = plain();
    settings.target_groups[0] = TargetGroupSettings { kind: TargetType::Ip, ..target_group("web", &[61_080]) };
    settings.timings.address_after = Duration::from_secs(4);
    let scenario = Scenario::new(settings);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let registered = calls(&scenario, "RegisterTargets");
    assert!(registered.iter().all(|it| it.parameters.contains_key("Targets.member.1.Id")), "{registered:#?}");
    assert_eq!(registered.len(), 1, "{registered:#?}");
}

#[test]
fn where_the_spot_request_itself_launches_again_nobody_is_asked_and_the_log_says_why() {
    let scenario = Scenario::new(Settings { persistent_request: true, ..plain() });
    let daemon = scenario.ready();
    assert!(!daemon.lines_with("is of type persistent").is_empty(), "{}", daemon.lines().join("\n"));
    scenario.sim.notice("terminate", Duration::from_secs(12));
    daemon.wait_for("handed-over");
    assert_eq!(scenario.count("CreateFleet"), 0);
    eventually(|| (!scenario.sim.successors().is_empty()).then_some(())).expect("the request launches");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(scenario.sim.successors().len(), 1, "one in the place of one");
}

/// Nobody may read the Spot request of an instance of this template. Returns how many were launched, and the log.
fn hand_over_without_the_spot_request(says: TemplateSettings) -> (usize, Vec<String>) {
    let scenario = Scenario::new(template(says));
    let message = "not authorized to perform: ec2:DescribeSpotInstanceRequests".to_owned();
    let kind = FaultKind::Status { status: 403, code: "UnauthorizedOperation".to_owned(), message };
    let action = "DescribeSpotInstanceRequests".to_owned();
    scenario.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
    let daemon = scenario.start();
    let line = daemon.wait_for_line("not everything could be looked up");
    assert!(line.contains("whether this instance's Spot request launches again"), "{line}");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    (scenario.sim.successors().len(), daemon.lines())
}

#[test]
fn where_nobody_may_read_the_spot_request_the_template_tells_whether_it_launches_again() {
    let (launched, lines) = hand_over_without_the_spot_request(TemplateSettings::default());
    assert_eq!(launched, 1, "{lines:#?}");
    let persistent = TemplateSettings { asks_for_spot: true, asks_persistently: true, ..TemplateSettings::default() };
    let (launched, lines) = hand_over_without_the_spot_request(persistent);
    assert_eq!(launched, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("ec2:DescribeSpotInstanceRequests is denied")), "{lines:#?}");
}

#[test]
fn a_subnet_that_is_gone_spoils_neither_the_others_nor_the_type() {
    let good = subnets(&Scenario::new(plain())).first().cloned().expect("a subnet");
    let config = format!("{SHORT}[successor]\nsubnets = [\"{good}\", \"subnet-00000000000000000\"]\n");
    let scenario = Scenario::new(plain()).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert!(!daemon.lines_with("AWS knows no subnet-00000000000000000").is_empty(), "{}", daemon.lines().join("\n"));
    let created = calls(&scenario, "CreateFleet");
    let named = |key: &str| created.iter().flat_map(|it| &it.parameters).any(|(name, _)| name.ends_with(key));
    assert!(named("Overrides.1.SubnetId") && named("Overrides.1.InstanceType"), "{created:#?}");
}

fn has_no_version(daemon: &Daemon) -> Vec<String> {
    daemon.lines_with("has no version 1 (any more): the successor is launched from the template's default version")
}

#[test]
fn a_version_of_the_template_that_was_deleted_is_told_at_the_start_and_its_default_version_launched() {
    for owner in [Owner::LaunchTemplate, Owner::ec2_fleet(FleetType::Request)] {
        let settings = template(TemplateSettings { version_is_deleted: true, ..TemplateSettings::default() });
        let scenario = Scenario::new(Settings { owner, ..settings });
        let daemon = complete(&scenario);
        assert_eq!(has_no_version(&daemon).len(), 1, "{}", daemon.lines().join("\n"));
        let launches = calls(&scenario, "CreateFleet");
        assert_eq!(launches.len(), 1, "none is refused: {launches:#?}");
        assert!(calls(&scenario, "RunInstances").is_empty());
        let [successor] = scenario.sim.successors().try_into().expect("one successor");
        assert_eq!(instance(&scenario, &successor)["tags"]["aws:ec2launchtemplate:version"], "2");
    }
}

#[test]
fn a_version_of_the_template_that_is_deleted_after_the_look_up_costs_one_refused_call() {
    let scenario = Scenario::new(plain());
    let daemon = scenario.ready();
    scenario.sim.renew_launch_templates();
    scenario.sim.notice("terminate", Duration::from_secs(20));
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let launches = calls(&scenario, "CreateFleet");
    assert_eq!(launches.len(), 2, "{launches:#?}");
    assert!(calls(&scenario, "RunInstances").is_empty());
    assert_eq!(scenario.sim.successors().len(), 1);
}

#[test]
fn a_template_that_is_gone_is_told_at_the_start_and_by_its_own_reason_at_the_end() {
    let config =
        format!("{SHORT}[successor]\nowner = \"launch-template\"\nlaunch-template = \"lt-0123456789abcdef0\"\n");
    let scenario = Scenario::new(plain()).config(&config);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(15));
    daemon.wait_for("handed-over");
    assert!(!daemon.is_complete());
    assert_eq!(daemon.lines_with("AWS knows no launch template lt-0123456789abcdef0").len(), 1);
    let told = daemon.lines_with("handed over").join("");
    assert!(told.contains("InvalidLaunchTemplateId.NotFound") && !told.contains("instance-types"), "{told}");
}
