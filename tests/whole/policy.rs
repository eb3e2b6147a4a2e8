//! `spot-relay policy`, held to the calls that the daemon makes: what it allows is called, and what is called it allows.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use spot_relay::core::policy::{IN_PASSING, TRIED};
use spot_relay::sim::{
    Fault, FaultKind, FleetSettings, FleetType, Nth, Owner, Settings, TargetGroupSettings, TargetUnit, TemplateSettings,
};

use crate::scenario::{Scenario, drained_soon, eventually, target_group, world};

/// Long enough quiet for a heartbeat of the hook.
const CONFIG: &str = "[watch]\ninterval = \"100ms\"\n[leave]\nsettle = \"2s\"\nquiet-for = \"2s\"\n";

/// A world in which every action of this owner is called sooner or later: tags that EC2 has to be asked for, a target
/// group that the owner does not know of, a hook that wants heartbeats.
fn owned_by(owner: Owner) -> Settings {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[61_081]) };
    drained_soon(Settings {
        owner,
        target_groups: vec![web, api],
        max_size: Some(9),
        kill_at_deadline: false,
        rebalance_terminates: false,
        tags_in_metadata: false,
        heartbeat_timeout: Duration::from_secs(2),
        ..world()
    })
}

fn group(termination_hook: bool, capacity_rebalance: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance, termination_hook, mixed_instances: false }
}

fn observed_fleet() -> Owner {
    Owner::Ec2Fleet { type_: FleetType::Maintain, replacement_strategy: Some("launch".to_owned()) }
}

/// What happens to our instance.
#[derive(Clone, Copy, Debug)]
enum Story {
    /// And gone with it.
    HandedOver,
    /// Handed over, and then the notice is withdrawn.
    HandedOverAndBack,
    /// The group is busy and terminates nobody, until the notice is withdrawn.
    RefusedAndBack,
    /// Withdrawn as soon as it has left its target groups.
    WithdrawnInTheMiddle,
    /// The group terminates it.
    ScaledIn,
    /// AWS knows its fleet no more.
    OfAForgottenFleet,
}

fn run(arguments: &[&str], scenario: &Scenario) -> Output {
    let mut command = scenario.command_of("policy");
    command.args(arguments).stdout(Stdio::piped()).output().expect("the policy is printed")
}

fn policy(arguments: &[&str], scenario: &Scenario) -> Value {
    let output = run(arguments, scenario);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("a policy in JSON")
}

fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().expect("statements").iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().expect("actions"));
    actions.map(|action| action.as_str().expect("an action").to_owned()).collect()
}

/// Plays each story in a world of its own and returns what was called.
fn called_in(settings: &Settings, config: &str, story: Story) -> BTreeSet<String> {
    // A withdrawal is believed after a few seconds: it comes in the middle of a handover that takes longer.
    let config = match story {
        Story::WithdrawnInTheMiddle => config.replace("settle = \"2s\"", "settle = \"20s\""),
        _ => config.to_owned(),
    };
    let scenario = Scenario::new(settings.clone()).config(&config);
    let answers = |action: &str, code: &str| {
        let kind = FaultKind::Status { status: 400, code: code.to_owned(), message: "no".to_owned() };
        scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
    };
    match story {
        Story::OfAForgottenFleet => answers("DescribeFleets", "InvalidFleetId.NotFound"),
        Story::RefusedAndBack => answers("TerminateInstanceInAutoScalingGroup", "ScalingActivityInProgress"),
        _ => {}
    }
    if !config.contains("successor-healthy") {
        answers(TRIED.split(':').next_back().expect("an action"), "AccessDenied");
    }
    let daemon = scenario.ready();
    let withdrawn = || {
        scenario.sim.remove_notice();
        daemon.wait_for("survived");
        // Closed: everything that a survivor does is done.
        let closed = || daemon.record_now().filter(|record| !record["closed"].is_null());
        eventually(closed).unwrap_or_else(|| panic!("{story:?} is not closed:\n{}", daemon.lines().join("\n")));
    };
    match story {
        Story::HandedOver => {
            scenario.sim.notice("terminate", Duration::from_secs(120));
            daemon.wait_for("handed-over");
        }
        Story::HandedOverAndBack | Story::OfAForgottenFleet => {
            scenario.sim.notice("terminate", Duration::from_secs(120));
            daemon.wait_for("handed-over");
            withdrawn();
        }
        Story::RefusedAndBack | Story::WithdrawnInTheMiddle => {
            scenario.sim.notice("terminate", Duration::from_secs(120));
            daemon.wait_for("deregistered");
            withdrawn();
        }
        Story::ScaledIn => {
            scenario.sim.scale_in();
            daemon.wait_for("handed-over");
        }
    }
    scenario.aws_requests().iter().map(|request| format!("{}:{}", request.service, request.action)).collect()
}

/// The zone of this instance's subnet, where the metadata does not tell the subnet; the simulator's always does.
const WHERE_THE_METADATA_IS_SILENT: &str = "ec2:DescribeSubnets";

fn check_world(settings: &Settings, more: &str, stories: &[Story]) {
    let config = format!("{CONFIG}{more}");
    let allowed = actions(&policy(&[], &Scenario::new(settings.clone()).config(&config)));
    let mut called: BTreeSet<String> = stories.iter().flat_map(|story| called_in(settings, &config, *story)).collect();
    if !allowed.contains(TRIED) {
        called.remove(TRIED);
    }
    // What IAM asks for at another action's call is called by nobody here.
    let comes_with = IN_PASSING.into_iter().filter(|(caller, _)| called.contains(*caller)).flat_map(|(_, with)| with);
    let comes_with: BTreeSet<&str> = comes_with.copied().collect();
    let has_reason = |action: &str| comes_with.contains(action) || action == WHERE_THE_METADATA_IS_SILENT;
    let unused: Vec<_> = allowed.difference(&called).filter(|action| !has_reason(action)).collect();
    let missing: Vec<_> = called.difference(&allowed).collect();
    assert!(unused.is_empty() && missing.is_empty(), "allowed and never called: {unused:?}; missing: {missing:?}");
}

fn check(owner: Owner, more: &str, stories: &[Story]) {
    check_world(&owned_by(owner), more, stories);
}

const BACK: &[Story] = &[Story::HandedOverAndBack];

#[test]
fn a_group_that_is_detached_from() {
    check(group(false, false), "", BACK);
}

#[test]
fn a_group_with_a_termination_hook() {
    check(group(true, false), "", &[Story::HandedOver, Story::RefusedAndBack]);
}

/// The group registers in every one: nobody looks on for successors that only a victim would register.
fn all_in_target_groups_of(owner: Owner) -> Settings {
    let mut settings = owned_by(owner);
    settings.target_groups.truncate(1);
    settings
}

#[test]
fn a_group_that_replaces_by_itself() {
    check_world(&all_in_target_groups_of(group(false, true)), "", BACK);
}

#[test]
fn a_group_that_replaces_by_itself_and_has_a_termination_hook() {
    check_world(&all_in_target_groups_of(group(true, true)), "", &[Story::HandedOverAndBack, Story::ScaledIn]);
}

#[test]
fn a_group_with_a_termination_hook_that_is_asked_for_nothing() {
    check(group(true, false), "[successor]\nowner = \"none\"\n", &[Story::HandedOverAndBack, Story::ScaledIn]);
}

#[test]
fn a_group_that_launches_the_successor_first() {
    check(group(false, false), "when = \"successor-healthy\"\n", BACK);
}

#[test]
fn a_maintain_ec2_fleet() {
    check(Owner::ec2_fleet(FleetType::Maintain), "", BACK);
}

fn counting_memory(kind: Owner) -> Settings {
    let fleet = FleetSettings { unit: TargetUnit::MemoryMib, ..FleetSettings::default() };
    Settings { fleet, ..owned_by(kind) }
}

#[test]
fn a_fleet_that_counts_memory() {
    for owner in [Owner::ec2_fleet(FleetType::Maintain), Owner::spot_fleet(FleetType::Maintain), observed_fleet()] {
        check_world(&counting_memory(owner), "", BACK);
    }
}

#[test]
fn a_maintain_ec2_fleet_that_replaces_by_itself() {
    check(observed_fleet(), "", BACK);
}

#[test]
fn a_maintain_spot_fleet_with_the_successor_first() {
    check(Owner::spot_fleet(FleetType::Maintain), "when = \"successor-healthy\"\n", BACK);
}

#[test]
fn an_instant_fleet_that_aws_forgets() {
    check(Owner::ec2_fleet(FleetType::Instant), "", &[Story::HandedOverAndBack, Story::OfAForgottenFleet]);
}

#[test]
fn a_spot_fleet_of_type_request() {
    check(Owner::spot_fleet(FleetType::Request), "", BACK);
}

#[test]
fn a_launch_template() {
    check(Owner::LaunchTemplate, "", BACK);
}

#[test]
fn a_launch_template_whose_spot_request_launches_again_by_itself() {
    check_world(&Settings { persistent_request: true, ..owned_by(Owner::LaunchTemplate) }, "", BACK);
}

#[test]
fn nobody_and_a_survivor_that_stays_out_registers_nothing() {
    check(Owner::Nobody, "[survive]\nthen = \"stay-out\"\n", BACK);
}

#[test]
fn a_survivor_that_stays_out_registers_nothing_where_its_group_registers_the_successor_and_launches_by_itself() {
    let mut settings = owned_by(group(false, true));
    settings.target_groups.truncate(1);
    check_world(&settings, "[survive]\nthen = \"stay-out\"\n", BACK);
}

#[test]
fn the_last_one_that_its_group_takes_out_registers_itself_though_a_survivor_stays_out() {
    let mut settings = owned_by(group(false, false));
    settings.target_groups.truncate(1);
    settings.others.clear();
    settings.timings.running_after = Duration::from_secs(8);
    check_world(&settings, "[survive]\nthen = \"stay-out\"\n", BACK);
}

#[test]
fn an_arrival_registers_though_a_survivor_stays_out() {
    let config = "[survive]\nthen = \"stay-out\"\n[arrive]\nregister = true\n";
    let settings = owned_by(Owner::Nobody);
    let config = format!("target-groups = [\"web:61080\"]\n{CONFIG}{config}");
    let allowed = actions(&policy(&[], &Scenario::new(settings.clone()).config(&config)));
    let called = called_in(&settings, &config, Story::HandedOverAndBack);
    assert_eq!(allowed, called);
}

#[test]
fn a_survivor_that_terminates_itself_if_it_has_handed_over() {
    check(
        Owner::LaunchTemplate,
        "[survive]\nthen = \"terminate\"\n",
        &[Story::HandedOverAndBack, Story::WithdrawnInTheMiddle],
    );
}

#[test]
fn a_kind_may_need_what_its_variants_need_together() {
    let observed_spot =
        Owner::SpotFleet { type_: FleetType::Maintain, replacement_strategy: Some("launch".to_owned()) };
    let variants: [(&str, Vec<Owner>); 7] = [
        ("auto-scaling-group", vec![group(false, false), group(true, false), group(true, true)]),
        ("ec2-fleet", vec![Owner::ec2_fleet(FleetType::Maintain), observed_fleet()]),
        ("spot-fleet", vec![Owner::spot_fleet(FleetType::Maintain), observed_spot]),
        ("ec2-fleet-instant", vec![Owner::ec2_fleet(FleetType::Instant), Owner::ec2_fleet(FleetType::Request)]),
        ("spot-fleet-request", vec![Owner::spot_fleet(FleetType::Request)]),
        ("launch-template", vec![Owner::LaunchTemplate]),
        ("drain-only", vec![Owner::Nobody]),
    ];
    for config in
        [CONFIG.to_owned(), format!("{CONFIG}when = \"successor-healthy\"\n[survive]\nthen = \"terminate\"\n")]
    {
        for (kind, owners) in &variants {
            let of = |owner: &Owner| Scenario::new(owned_by(owner.clone())).config(&config);
            let mut together: BTreeSet<String> =
                owners.iter().flat_map(|owner| actions(&policy(&[], &of(owner)))).collect();
            if matches!(
                owners[0],
                Owner::Ec2Fleet { type_: FleetType::Maintain, .. }
                    | Owner::SpotFleet { type_: FleetType::Maintain, .. }
            ) {
                let of_memory = Scenario::new(counting_memory(owners[0].clone())).config(&config);
                together.extend(actions(&policy(&[], &of_memory)));
            }
            assert_eq!(actions(&policy(&["--for", kind], &of(&owners[0]))), together, "{kind}");
        }
    }
}

#[test]
fn it_asks_nobody_for_a_kind() {
    let scenario = Scenario::new(owned_by(Owner::Nobody));
    for kind in ["auto-scaling-group", "launch-template", "drain-only"] {
        policy(&["--for", kind], &scenario);
    }
    assert!(scenario.sim.requests().is_empty());
}

#[test]
fn it_names_the_group_the_fleet_the_template_and_the_target_groups_and_writes_nothing() {
    let resources = |owner: Owner, sid: &str| -> Vec<String> {
        let scenario = Scenario::new(owned_by(owner));
        let policy = policy(&[], &scenario);
        assert!(scenario.writes().is_empty(), "{:?}", scenario.writes());
        let statements = policy["Statement"].as_array().expect("statements");
        let statement = statements.iter().find(|it| it["Sid"] == sid).unwrap_or_else(|| panic!("{sid} in {policy:#}"));
        let resources = statement["Resource"].as_array().expect("resources").iter();
        resources.map(|resource| resource.as_str().expect("an ARN").to_owned()).collect()
    };
    let asked = resources(group(false, false), "AskTheGroup");
    assert!(asked.len() == 1 && asked[0].contains(":autoScalingGroupName/") && !asked[0].contains('*'), "{asked:?}");
    let asked = resources(Owner::ec2_fleet(FleetType::Maintain), "AskTheFleet");
    assert!(asked.len() == 1 && asked[0].contains(":fleet/fleet-"), "{asked:?}");
    let from = resources(Owner::LaunchTemplate, "LaunchFrom");
    assert!(from.iter().any(|arn| arn.contains(":launch-template/lt-")), "{from:?}");
    assert!(!from.iter().any(|arn| arn.contains(":subnet/*")), "{from:?}");
    let groups = resources(Owner::Nobody, "TargetGroups");
    assert!(groups.len() == 2 && groups.iter().all(|arn| !arn.contains('*')), "{groups:?}");
}

#[test]
fn it_is_of_the_partition_that_the_metadata_tells() {
    let settings = Settings {
        partition: "aws-cn".to_owned(),
        region: "cn-north-1".to_owned(),
        zone: "cn-north-1a".to_owned(),
        others: Vec::new(),
        ..owned_by(Owner::LaunchTemplate)
    };
    let policy = policy(&[], &Scenario::new(settings));
    let text = policy.to_string();
    assert!(text.contains("arn:aws-cn:ec2:cn-north-1:") && !text.contains("\"arn:aws:ec2"), "{policy:#}");
    assert!(text.contains("\"ec2.amazonaws.com\",\"ec2.amazonaws.com.cn\""), "{policy:#}");
}

#[test]
fn it_allows_what_the_launch_template_names_and_no_more() {
    let template = TemplateSettings {
        key_name: Some("operators".to_owned()),
        image: Some("resolve:ssm:/images/web".to_owned()),
        kms_key: Some("arn:aws:kms:eu-west-1:123456789012:key/1234".to_owned()),
        ..TemplateSettings::default()
    };
    let named = policy(&[], &Scenario::new(Settings { template, ..owned_by(Owner::LaunchTemplate) })).to_string();
    for expected in
        [":key-pair/operators", ":security-group/sg-", ":parameter/images/web", ":key/1234", "kms:CreateGrant"]
    {
        assert!(named.contains(expected), "{expected} in {named}");
    }
    let plain = policy(&[], &Scenario::new(owned_by(Owner::LaunchTemplate))).to_string();
    for other in ["key-pair/", "ssm:", "kms:", "placement-group/"] {
        assert!(!plain.contains(other), "{other} in {plain}");
    }
}

#[test]
fn serving_on_is_granted_only_where_the_configuration_asks_for_it() {
    let group = || Scenario::new(owned_by(group(false, false)));
    assert!(!actions(&policy(&[], &group())).contains("autoscaling:LaunchInstances"));
    let config = format!("{CONFIG}when = \"successor-healthy\"\n");
    let asked = policy(&[], &group().config(&config));
    for action in
        ["autoscaling:LaunchInstances", "ec2:CreateFleet", "ec2:RunInstances", "iam:PassRole", "ec2:CreateTags"]
    {
        assert!(actions(&asked).contains(action), "{action}");
    }
    let notes = |scenario: Scenario| String::from_utf8_lossy(&run(&[], &scenario).stderr).into_owned();
    let auto = notes(group().config(CONFIG));
    assert!(auto.contains("the policy leaves LaunchInstances out"), "{auto}");
    let granted = notes(group().config(&config));
    assert!(granted.contains("the policy allows LaunchInstances"), "{granted}");
    let rebalancing = notes(Scenario::new(owned_by(self::group(false, true))));
    assert!(!rebalancing.contains("LaunchInstances") && rebalancing.contains("Capacity Rebalancing"), "{rebalancing}");
    let text = asked.to_string();
    assert!(text.contains(":launch-template/lt-") && !text.contains(":subnet/*"), "{asked:#}");
    assert!(text.contains(":role/web\""), "its members' role: {asked:#}");
}

#[test]
fn a_denied_look_up_is_named_and_the_kind_takes_its_place() {
    let scenario = Scenario::new(Settings { tags_in_metadata: true, ..owned_by(group(false, false)) });
    let message = "not authorized to perform: autoscaling:DescribeAutoScalingGroups".to_owned();
    let kind = FaultKind::Status { status: 403, code: "AccessDenied".to_owned(), message };
    scenario.sim.fault(Fault { service: None, action: "DescribeAutoScalingGroups".to_owned(), nth: Nth::All, kind });
    let output = run(&[], &scenario);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && notes.contains("autoscaling:DescribeAutoScalingGroups"), "{notes}");
    let policy: Value = serde_json::from_slice(&output.stdout).expect("a policy");
    assert!(actions(&policy).contains("autoscaling:CompleteLifecycleAction"), "all that a group may need");
    let group = policy["Statement"].as_array().expect("statements").iter().find(|it| it["Sid"] == "AskTheGroup");
    let arn = group.expect("the group")["Resource"][0].as_str().expect("an ARN").to_owned();
    assert!(arn.ends_with("autoScalingGroupName/web") && arn.contains(":123456789012:"), "{arn}");
}

#[test]
fn without_metadata_it_says_what_to_do_instead() {
    let scenario =
        Scenario::new(owned_by(Owner::Nobody)).variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    let output = run(&[], &scenario);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--for") && output.stdout.is_empty(), "{said}");
}
