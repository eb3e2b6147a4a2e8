//! `spot-relay check`: for each line a world that makes it ok, one that makes it warn, one that makes it fail, as far as it
//! can; and that nothing is written, whatever is looked at.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::Value;
use spot_relay::sim::{
    Fault, FaultKind, FleetSettings, FleetType, LifeCycle, LoadBalancerType, Nth, Other, Owner, Settings,
    TargetGroupSettings, TargetType, TargetUnit, TemplateSettings,
};

use crate::scenario::{PATIENCE, SHORT, Scenario, eventually, target_group, world};

const LATTICE: &str = "arn:aws:vpc-lattice:eu-west-1:123456789012:targetgroup/tg-0123456789abcdef0";

/// A world in which there is nothing to warn of.
fn in_order() -> Settings {
    let web = TargetGroupSettings {
        port: 61_080,
        deregistration_delay: Duration::from_secs(60),
        ..target_group("web", &[61_080])
    };
    Settings {
        others: vec![Other::new("m5.large", "eu-west-1b"), Other::new("m5.large", "eu-west-1c")],
        target_groups: vec![web],
        ..world()
    }
}

fn owned_by(owner: Owner) -> Settings {
    Settings { owner, ..in_order() }
}

fn denying(actions: &[&str]) -> Settings {
    Settings { denied: actions.iter().map(|action| (*action).to_owned()).collect(), ..in_order() }
}

fn group(capacity_rebalance: bool, mixed_instances: bool) -> Owner {
    Owner::AutoScalingGroup { capacity_rebalance, termination_hook: false, mixed_instances }
}

/// Writes that are tried in a form that can do nothing.
const HARMLESS: [&str; 6] = [
    "AttachInstances",
    "CompleteLifecycleAction",
    "DeregisterTargets",
    "DetachInstances",
    "RecordLifecycleActionHeartbeat",
    "RegisterTargets",
];

/// The targets of a new world are healthy a moment later.
fn settled(scenario: &Scenario) {
    let healthy = |name: &str| scenario.sim.targets(name).iter().all(|(_, _, state)| state != "initial");
    eventually(|| healthy("web").then_some(())).expect("a settled world");
}

fn run(arguments: &[&str], scenario: &Scenario) -> Output {
    settled(scenario);
    let mut command = scenario.command_of("check");
    command.args(arguments).stdout(Stdio::piped()).output().expect("check runs")
}

struct Checked {
    findings: Vec<Value>,
    exit: Option<i32>,
}

impl Checked {
    fn of(scenario: &Scenario) -> Checked {
        settled(scenario);
        let before = scenario.sim.snapshot();
        let output = run(&["--json"], scenario);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        });
        assert_eq!(document["schema"], 1);
        let findings = document["findings"].as_array().expect("findings").clone();
        let exit = output.status.code();
        let failed = findings.iter().any(|finding| finding["level"] == "fail");
        assert_eq!(exit, Some(i32::from(failed)), "{findings:#?}");
        // What is no read is a dry run, or can do nothing: nothing is changed, ever.
        for request in scenario.aws_requests() {
            let is_read = request.action.starts_with("Describe");
            let is_dry = request.parameters.get("DryRun").map(String::as_str) == Some("true");
            assert!(is_read || is_dry || HARMLESS.contains(&request.action.as_str()), "{} was called", request.action);
        }
        assert_eq!(scenario.sim.snapshot(), before, "nothing is changed");
        for finding in &findings {
            // What is unwise says in the same words what is wiser.
            let told = !finding["remedy"].is_null() || finding["check"] == "configuration";
            assert!(finding["level"] == "ok" || told, "what to do is not told: {finding}");
        }
        Checked { findings, exit }
    }

    /// Of this check and, if one is named, of this subject.
    fn about(&self, check: &str, subject: Option<&str>) -> Vec<&Value> {
        let of = |finding: &&Value| finding["check"] == check && subject.is_none_or(|it| finding["subject"] == it);
        self.findings.iter().filter(of).collect()
    }

    fn level(&self, check: &str, subject: Option<&str>) -> String {
        let rank = |level: &str| ["ok", "warn", "fail"].iter().position(|it| *it == level);
        let levels = self.about(check, subject).into_iter().filter_map(|finding| finding["level"].as_str());
        levels.max_by_key(|level| rank(level)).unwrap_or("absent").to_owned()
    }
}

/// A check (with `/SUBJECT`), the level that it is to have, and the world that makes it so.
type Row = (&'static str, &'static str, Scenario);

fn check(rows: Vec<Row>) {
    for (name, level, scenario) in rows {
        let checked = Checked::of(&scenario);
        let (check, subject) = name.split_once('/').map_or((name, None), |(check, subject)| (check, Some(subject)));
        assert_eq!(checked.level(check, subject), level, "{name}: {:#?}", checked.findings);
    }
}

fn of(settings: Settings) -> Scenario {
    Scenario::new(settings)
}

fn with(settings: Settings, config: &str) -> Scenario {
    Scenario::new(settings).config(&format!("{SHORT}{config}"))
}

/// The world of an instance whose fleet has come to this state.
fn ended(fleet: Owner, state: &'static str) -> Scenario {
    let scenario = of(owned_by(fleet));
    scenario.sim.fleet_ends(state);
    scenario
}

fn expired(fleet: Owner) -> Scenario {
    let scenario = of(owned_by(fleet));
    scenario.sim.fleet_expires();
    scenario
}

fn answering(settings: Settings, action: &str, kind: FaultKind) -> Scenario {
    let scenario = Scenario::new(settings);
    scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
    scenario
}

fn status(status: u16, code: &str) -> FaultKind {
    FaultKind::Status { status, code: code.to_owned(), message: "no".to_owned() }
}

#[test]
fn in_a_world_in_order_everything_is_ok() {
    let scenario = of(in_order());
    let checked = Checked::of(&scenario);
    let others: Vec<&Value> =
        checked.findings.iter().filter(|it| it["level"] != "ok" && it["check"] != "other-handler").collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(checked.exit, Some(0));
    let names: BTreeSet<&str> = checked.findings.iter().filter_map(|it| it["check"].as_str()).collect();
    for name in [
        "configuration",
        "state-directory",
        "runtime-directory",
        "other-handler",
        "metadata",
        "life-cycle",
        "notice",
        "metadata-tags",
        "credentials",
        "imds-v1",
        "hop-limit",
        "owner",
        "capacity-rebalancing",
        "group-processes",
        "zones",
        "group-size",
        "group-health-check",
        "target-group",
        "deregistration-delay",
        "load-balancer",
        "successor-registration",
        "permission",
        "clock",
    ] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
}

#[test]
fn the_configuration() {
    check(vec![
        ("configuration", "ok", of(in_order())),
        ("configuration/watch.interval", "warn", of(in_order()).config("[watch]\ninterval = \"10s\"\n")),
        ("configuration", "fail", of(in_order()).config("[watch]\nintervall = \"10s\"\n")),
        ("subnets", "absent", with(owned_by(Owner::LaunchTemplate), "[successor]\nsubnets = [\"subnet-1\"]\n")),
        (
            "subnets",
            "ok",
            with(owned_by(Owner::LaunchTemplate), "[successor]\nsubnets = [\"subnet-1\", \"subnet-2\"]\n"),
        ),
        ("hook/notice", "ok", with(in_order(), "[hooks]\nnotice = [\"/bin/true\"]\n")),
        ("hook/drained", "fail", with(in_order(), "[hooks]\ndrained = [\"/nowhere/at-all\"]\n")),
        ("webhook", "ok", with(in_order(), "[notify]\nwebhook = \"https://example.com/\"\n")),
        (
            "webhook",
            "fail",
            with(in_order(), "[notify]\nwebhook = \"https://example.com/\"\ntemplate = \"/nowhere\"\n"),
        ),
    ]);
}

#[test]
fn the_configuration_alone_asks_nobody() {
    for (config, code) in [
        (SHORT, 0),
        ("[watch]\ninterval = \"10s\"\n", 0),
        ("[successor]\nsubnets = [\"subnet-1\", \"subnet-2\"]\n", 0),
        ("[watch]\nintervall = \"10s\"\n", 78),
        ("[hooks]\nnotice = [\"/nowhere/at-all\"]\n", 78),
        ("[notify]\nwebhook = \"https://example.com/\"\ntemplate = \"/nowhere\"\n", 78),
    ] {
        let scenario = of(in_order()).config(config);
        let output = run(&["--config-only"], &scenario);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            text.contains("of several in one zone a launch uses one at a time"),
            config.contains("subnets"),
            "{text}"
        );
        assert_eq!(output.status.code(), Some(code), "{config}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(scenario.sim.requests().is_empty(), "{config}");
        let end = text.replace('\n', " ");
        assert!(end.contains(": the configuration can") && !end.contains("stands in the way"), "no more: {text}");
    }
}

#[test]
fn this_machine() {
    let file = std::env::temp_dir().join(format!("spot-relay-check-{}", std::process::id()));
    std::fs::write(&file, "").expect("a file");
    // Root may write everywhere, but no directory can be made in a file.
    let in_a_file = file.join("state").display().to_string();
    check(vec![
        ("state-directory", "ok", of(in_order())),
        ("state-directory", "warn", of(in_order()).variable("STATE_DIRECTORY", &in_a_file)),
        ("runtime-directory", "ok", of(in_order())),
        ("runtime-directory", "warn", of(in_order()).variable("RUNTIME_DIRECTORY", &in_a_file)),
    ]);
    std::fs::remove_file(file).expect("removed");
}

#[test]
fn the_metadata() {
    let noticed = of(Settings { kill_at_deadline: false, ..in_order() });
    noticed.sim.notice("terminate", Duration::from_secs(120));
    check(vec![
        ("metadata", "ok", of(in_order())),
        ("metadata", "fail", answering(in_order(), "token", status(403, "Forbidden"))),
        ("metadata", "fail", of(in_order()).variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")),
        ("metadata", "fail", of(in_order()).variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ftp://there")),
        ("aws", "fail", answering(in_order(), "token", status(503, "Busy"))),
        ("aws", "absent", answering(in_order(), "dynamic/instance-identity", status(503, "Busy"))),
        ("life-cycle", "warn", of(Settings { life_cycle: LifeCycle::OnDemand, ..in_order() })),
        ("notice", "warn", noticed),
        ("notice", "fail", answering(in_order(), "spot/instance-action", status(500, "Error"))),
        ("metadata-tags", "warn", of(Settings { tags_in_metadata: false, ..in_order() })),
        ("imds-v1", "warn", of(Settings { imds_v1: true, ..in_order() })),
        ("hop-limit", "warn", of(Settings { hop_limit: 2, ..in_order() })),
        ("metadata-options", "warn", of(denying(&["ec2:DescribeInstances"]))),
    ]);
}

#[test]
fn credentials_region_and_clock() {
    let expired = FaultKind::Body {
        status: 200,
        body: r#"{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXPIRED", "SecretAccessKey": "secret",
                  "Token": "session", "Expiration": "2020-01-01T00:00:00Z"}"#
            .to_owned(),
    };
    let hour = |hours: i64| Settings { clock_offset: SignedDuration::from_hours(hours), ..in_order() };
    check(vec![
        ("credentials", "ok", of(in_order())),
        ("credentials", "warn", answering(in_order(), "iam/security-credentials/web", expired)),
        ("credentials", "fail", of(Settings { role: None, ..in_order() })),
        ("aws", "fail", of(Settings { role: None, ..in_order() })),
        ("region", "absent", of(in_order())),
        ("region", "warn", of(in_order()).variable("AWS_REGION", "eu-central-1")),
        ("clock", "ok", of(in_order())),
        ("clock", "warn", of(hour(1))),
        ("clock", "warn", of(hour(-1))),
    ]);
}

#[test]
fn the_owner() {
    let observed = Owner::Ec2Fleet { type_: FleetType::Maintain, replacement_strategy: Some("launch".to_owned()) };
    let mut full_of_tags = owned_by(Owner::ec2_fleet(FleetType::Maintain));
    full_of_tags.fleet.tags.extend((0..50).map(|number| (format!("tag-{number}"), String::new())));
    check(vec![
        ("owner", "ok", of(in_order())),
        ("owner", "ok", with(in_order(), "[successor]\nowner = \"none\"\n")),
        ("owner", "warn", of(owned_by(Owner::Nobody))),
        ("owner", "fail", of(denying(&["autoscaling:DescribeAutoScalingGroups"]))),
        ("launch", "warn", ended(Owner::ec2_fleet(FleetType::Maintain), "deleted_running")),
        ("launch", "warn", ended(Owner::ec2_fleet(FleetType::Maintain), "failed")),
        ("launch", "warn", ended(Owner::spot_fleet(FleetType::Maintain), "cancelled_running")),
        ("launch", "warn", expired(Owner::ec2_fleet(FleetType::Maintain))),
        ("launch", "warn", expired(Owner::spot_fleet(FleetType::Maintain))),
        (
            "launch",
            "warn",
            with(owned_by(Owner::ec2_fleet(FleetType::Maintain)), "[successor]\nowner = \"launch-template\"\n"),
        ),
        (
            "launch",
            "absent",
            with(owned_by(Owner::ec2_fleet(FleetType::Instant)), "[successor]\nowner = \"launch-template\"\n"),
        ),
        ("fleet-replacement", "ok", of(owned_by(Owner::ec2_fleet(FleetType::Maintain)))),
        ("fleet-replacement", "warn", of(owned_by(observed))),
        ("fleet-tags", "absent", of(owned_by(Owner::ec2_fleet(FleetType::Maintain)))),
        ("fleet-tags", "fail", of(full_of_tags)),
    ]);
}

/// What is found of `check` in this world, under defaults but for `more`.
fn found(settings: Settings, more: &str, check: &str) -> String {
    let checked = Checked::of(&Scenario::new(settings).config(more));
    let of_it = checked.about(check, None).into_iter().next();
    of_it.and_then(|finding| finding["found"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn when_this_instance_leaves_and_what_would_make_it_serve_on() {
    let config = "[watch]\ninterval = \"100ms\"\n";
    for (settings, more, says) in [
        (owned_by(Owner::LaunchTemplate), "", "serves on until its successor is healthy, because"),
        (owned_by(group(true, false)), "", "serves on until its successor is healthy, because"),
        (owned_by(Owner::LaunchTemplate), "[leave]\nwhen = \"at-once\"\n", "with \"auto\" it serves on"),
        (in_order(), "", "set [leave] when = \"successor-healthy\" and print the policy"),
        (owned_by(Owner::Nobody), "", "leaves at once if another target serves, because no successor is launched"),
    ] {
        let said = found(settings, &format!("{config}{more}"), "leave");
        assert!(said.contains(says), "{says:?} in {said:?}");
    }
    let first =
        "have group web launch one more (LaunchInstances) and serve on until it is healthy, or, if AWS refuses that";
    let said = found(in_order(), config, "owner");
    assert!(said.contains(first), "{said}");
    let said = found(in_order(), &format!("{config}[leave]\nwhen = \"at-once\"\n"), "owner");
    assert!(said.starts_with("on a notice: detach from group"), "{said}");
    let states = [("Standby", "launch no successor: group web does not count this instance")].into_iter();
    let states = states.chain([("Warmed:Running", "does not count this instance"), ("Pending", first)]);
    for (state, says) in states {
        let said = found(Settings { member_state: state.to_owned(), ..in_order() }, config, "owner");
        assert!(said.contains(says), "{state}: {said}");
    }
    let said = found(owned_by(Owner::LaunchTemplate), config, "serving-time");
    assert!(
        said.contains("80 s are for serving on, 30 s for open requests") && said.contains("for 10 s longer"),
        "{said}"
    );
}

#[test]
fn behind_a_network_load_balancer_no_failing_health_check_is_advised_while_this_instance_serves_on() {
    let mut settings = owned_by(Owner::LaunchTemplate);
    "TCP".clone_into(&mut settings.target_groups[0].protocol);
    let checked = Checked::of(&Scenario::listing(settings).config(SHORT));
    let of_it = checked.about("load-balancer", None).into_iter().next().expect("the load balancer");
    assert!(
        of_it["remedy"].as_str().is_some_and(|remedy| remedy.contains("do not let its health check fail")),
        "{of_it}"
    );
}

#[test]
fn the_group() {
    const FIRST: &str = "when = \"successor-healthy\"\n";
    const HAND_OVER: &str =
        "[watch]\ninterval = \"100ms\"\nrebalance = \"hand-over\"\n[survive]\nthen = \"terminate\"\n";
    let mixing = |percentage| Settings { on_demand_percentage: Some(percentage), ..owned_by(group(false, true)) };
    let full = || Settings { max_size: Some(3), min_size: 3, ..in_order() };
    let elb = || Settings { health_check_type: "ELB".to_owned(), ..in_order() };
    let suspending = |process: &str| Settings { suspended_processes: vec![process.to_owned()], ..in_order() };
    let hooked =
        || Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let slow = || {
        let mut settings = owned_by(hooked());
        settings.target_groups.iter_mut().for_each(|group| group.deregistration_delay = Duration::from_secs(120));
        settings
    };
    let uneven = || Settings { others: vec![Other::new("m5.large", "eu-west-1a")], ..in_order() };
    let left_uneven = Settings { suspended_processes: vec!["AZRebalance".to_owned()], ..uneven() };
    check(vec![
        ("capacity-rebalancing", "ok", of(in_order())),
        ("capacity-rebalancing", "warn", of(owned_by(group(true, false)))),
        (
            "capacity-rebalancing",
            "ok",
            of(Settings { life_cycle: LifeCycle::OnDemand, ..owned_by(group(true, false)) }),
        ),
        ("group-processes", "ok", of(suspending("AZRebalance"))),
        ("group-processes", "fail", of(suspending("Launch"))),
        ("group-processes", "fail", of(suspending("AddToLoadBalancer"))),
        (
            "group-processes",
            "ok",
            of(suspending("AddToLoadBalancer"))
                .config(&format!("target-groups = [\"web\"]\n{SHORT}[arrive]\nregister = true\n")),
        ),
        ("group-processes", "ok", of(suspending("Terminate"))),
        ("group-processes", "fail", of(Settings { owner: hooked(), ..suspending("Terminate") })),
        ("zones", "ok", of(in_order())),
        ("zones", "ok", of(left_uneven)),
        ("zones", "warn", of(uneven())),
        ("zones", "warn", of(Settings { balanced_only: true, ..in_order() })),
        ("termination-hook", "absent", of(in_order())),
        ("termination-hook", "ok", of(owned_by(hooked()))),
        ("termination-hook", "warn", of(slow())),
        ("group-size", "ok", with(in_order(), FIRST)),
        ("group-size", "warn", of(full())),
        ("group-size", "warn", with(full(), FIRST)),
        ("group-size", "ok", with(full(), "[survive]\nthen = \"stay-out\"\n")),
        ("group-size", "ok", with(mixing(0), FIRST)),
        ("group-size", "warn", with(mixing(50), FIRST)),
        ("group-health-check", "ok", of(elb())),
        ("group-health-check", "warn", of(elb()).config(HAND_OVER)),
    ]);
}

#[test]
fn what_is_launched_from() {
    let template = |more: &str| with(owned_by(Owner::LaunchTemplate), &format!("[successor]\n{more}"));
    let in_all_zones = |served: &[&str]| {
        let mut settings = owned_by(Owner::LaunchTemplate);
        settings.target_groups[0].load_balancer_zones = served.iter().map(|zone| (*zone).to_owned()).collect();
        let scenario = of(settings);
        let world = scenario.sim.snapshot();
        let subnets = world["subnets"].as_array().expect("subnets").iter();
        let ids: Vec<String> = subnets.filter_map(|subnet| subnet["id"].as_str().map(|id| format!("{id:?}"))).collect();
        scenario.config(&format!("{SHORT}[successor]\nsubnets = [{}]\n", ids.join(", ")))
    };
    check(vec![
        ("launch-template", "ok", template("")),
        (
            "launch-template",
            "fail",
            template("owner = \"launch-template\"\nlaunch-template = \"lt-0123456789abcdef0\"\n"),
        ),
        (
            "launch-template",
            "fail",
            of(Settings {
                template: TemplateSettings { version_is_deleted: true, ..TemplateSettings::default() },
                ..owned_by(Owner::LaunchTemplate)
            }),
        ),
        ("pools", "warn", template("")),
        ("pools", "ok", in_all_zones(&[])),
        ("successor-zones", "absent", template("")),
        ("successor-zones", "ok", in_all_zones(&[])),
        ("successor-zones", "warn", in_all_zones(&["eu-west-1a", "eu-west-1b"])),
        ("permission/ec2:CreateFleet", "ok", of(owned_by(Owner::ec2_fleet(FleetType::Instant)))),
    ]);
}

#[test]
fn the_target_groups() {
    let web = |change: &dyn Fn(&mut TargetGroupSettings)| {
        let mut settings = in_order();
        settings.target_groups.iter_mut().for_each(change);
        settings
    };
    let listed = |more: &str| of(in_order()).config(&format!("target-groups = [\"web\"{more}]\n{SHORT}"));
    let empty = || {
        let mut settings = in_order();
        settings.target_groups.push(TargetGroupSettings { ports: Vec::new(), ..target_group("api", &[]) });
        settings
    };
    let elsewhere = |group: &mut TargetGroupSettings| group.load_balancer_zones = vec!["eu-west-1b".to_owned()];
    let quic = |group: &mut TargetGroupSettings| {
        "QUIC".clone_into(&mut group.protocol);
        group.load_balancer = LoadBalancerType::Network;
    };
    let by_address = |tells: bool| {
        let mut settings = web(&|group| group.kind = TargetType::Ip);
        settings.denied = vec!["ec2:DescribeInstances".to_owned()];
        settings.vpc_in_metadata = tells;
        settings
    };
    let sources = || {
        let deleted = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/old/0123456789abcdef";
        Settings { other_traffic_sources: vec![LATTICE.to_owned(), deleted.to_owned()], ..in_order() }
    };
    // A scenario of a world that is there already listens on none of its ports.
    let unheard = || {
        // No test listens there, and the kernel gives it to nobody who asks for any port.
        let settings = web(&|group| group.ports = vec![61_099]);
        let sim = spot_relay::sim::Sim::start_on_a_thread(settings).expect("the simulator starts");
        Scenario::of(&sim, sim.metadata_endpoint()).config(SHORT)
    };
    let arriving = format!("target-groups = [\"api\"]\n{SHORT}[arrive]\nregister = true\n");
    check(vec![
        ("target-group/web", "ok", of(in_order())),
        ("target-group/web", "ok", listed("")),
        ("target-group/nowhere", "fail", listed(", \"nowhere\"")),
        ("target-group/api", "warn", of(empty()).config(&format!("target-groups = [\"web\", \"api\"]\n{SHORT}"))),
        ("target-group/api", "ok", of(empty()).config(&arriving)),
        ("target-group", "warn", of(web(&|group| group.ports.clear()))),
        ("target-group/web", "warn", of(web(&|group| group.load_balancer = LoadBalancerType::None))),
        ("target-group", "warn", of(denying(&["elasticloadbalancing:DescribeTargetHealth"]))),
        ("deregistration-delay/web", "ok", of(web(&|group| group.deregistration_delay = Duration::from_secs(110)))),
        ("deregistration-delay/web", "warn", of(web(&|group| group.deregistration_delay = Duration::from_secs(111)))),
        ("target-group/web", "warn", of(web(&elsewhere))),
        ("target-group/web", "ok", of(by_address(true))),
        ("target-group/web", "warn", of(by_address(false))),
        ("drain/web", "ok", of(in_order())),
        ("drain/web", "warn", of(web(&|group| "GRPC".clone_into(&mut group.protocol_version)))),
        ("drain/web", "warn", unheard()),
        ("drain/web", "warn", of(sources())),
        ("drain/web", "absent", of(web(&|group| "TCP".clone_into(&mut group.protocol)))),
        ("protocol/web", "absent", of(in_order())),
        ("protocol/web", "warn", of(web(&quic))),
        ("successor-registration/web", "absent", of(Settings { owner: Owner::LaunchTemplate, ..web(&quic) })),
        ("successor-registration/web", "ok", of(owned_by(Owner::LaunchTemplate))),
        ("traffic-source", "absent", of(in_order())),
        ("traffic-source/tg-0123456789abcdef0", "ok", of(sources())),
        ("traffic-source/old", "warn", of(sources())),
        ("load-balancer/web", "ok", of(in_order())),
        (
            "load-balancer/web",
            "warn",
            of(web(&|group| {
                "TCP".clone_into(&mut group.protocol);
                group.load_balancer = LoadBalancerType::Network;
            })),
        ),
    ]);
}

#[test]
fn a_look_up_that_the_daemon_can_do_without_fails_nothing() {
    let hooked = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let refused = || status(400, "InvalidAction");
    let denied = || status(403, "AccessDenied");
    for (owner, action, check, kind) in [
        (hooked.clone(), "DescribeLifecycleHooks", "owner", refused()),
        (hooked.clone(), "DescribeLifecycleHooks", "owner", FaultKind::Drop),
        (Owner::LaunchTemplate, "DescribeSpotInstanceRequests", "owner", refused()),
        (Owner::LaunchTemplate, "DescribeLaunchTemplateVersions", "owner", status(500, "InternalError")),
        (hooked.clone(), "DescribeTargetGroupAttributes", "deregistration-delay", refused()),
        (hooked.clone(), "DescribeTargetGroupAttributes", "deregistration-delay", FaultKind::Drop),
        (hooked.clone(), "DescribeTargetGroups", "target-group", refused()),
        (hooked.clone(), "DescribeTargetGroups", "permission", denied()),
        (hooked, "DescribeLifecycleHooks", "permission", denied()),
        (Owner::LaunchTemplate, "DescribeSpotInstanceRequests", "permission", denied()),
        (Owner::LaunchTemplate, "DescribeLaunchTemplateVersions", "permission", denied()),
    ] {
        let checked = Checked::of(&answering(owned_by(owner), action, kind.clone()));
        let fails: Vec<&Value> = checked.findings.iter().filter(|finding| finding["level"] == "fail").collect();
        assert!(fails.is_empty(), "{action} {kind:?}: {fails:#?}");
        assert_eq!(checked.level(check, None), "warn", "{action} {kind:?}: {:#?}", checked.findings);
        let told = checked.about("permission", Some("elasticloadbalancing:DeregisterTargets"));
        assert_eq!(told.len(), 1, "the target group is found: {:#?}", checked.findings);
    }
}

#[test]
fn a_throttled_look_into_the_owner_s_target_group_is_not_called_too_long_a_scan() {
    let checked = Checked::of(&answering(in_order(), "DescribeTargetHealth", status(400, "Throttling")));
    let told = checked.about("target-group", None);
    assert!(told.len() == 1 && told[0]["level"] == "fail", "{told:#?}");
    assert!(told[0]["found"].to_string().contains("Throttling"), "{told:#?}");
}

/// Each action that the policy of an owner names is tried, but for those that have no form that does nothing, and a denied
/// one is found.
fn check_permissions(owner: Owner, config: &str, untried: &[&str]) {
    let scenario = with(owned_by(owner.clone()), config);
    let checked = Checked::of(&scenario);
    let said = checked.about("permission-untried", None);
    let said = said.first().map(|it| it["found"].to_string()).unwrap_or_default();
    assert_eq!(said.is_empty(), untried.is_empty(), "{said}");
    assert!(untried.iter().all(|action| said.contains(action)), "{said}");
    let of = |finding: &&Value| finding["check"] == "permission";
    let actions: BTreeSet<&str> = checked.findings.iter().filter(of).filter_map(|it| it["subject"].as_str()).collect();
    let mut policy = scenario.command_of("policy");
    let policy = policy.stdout(Stdio::piped()).output().expect("the policy");
    let policy: Value = serde_json::from_slice(&policy.stdout).expect("a policy");
    let named = policy["Statement"].as_array().expect("statements").iter();
    let named: BTreeSet<&str> =
        named.flat_map(|it| it["Action"].as_array().into_iter().flatten().filter_map(Value::as_str)).collect();
    let tried = actions.iter().map(|action| action.split(' ').next().unwrap_or(action));
    let tried: BTreeSet<&str> = tried.chain(untried.iter().copied()).collect();
    assert_eq!(tried, named);
    // Those without which the owner or the target groups are not found stop the look before.
    let writes = named.into_iter().filter(|action| !action.contains(":Describe"));
    for action in writes.filter(|action| !untried.contains(action)) {
        let settings = Settings { denied: vec![action.to_owned()], ..owned_by(owner.clone()) };
        let checked = Checked::of(&with(settings, config));
        let level = checked.level("permission", Some(action));
        assert!(["warn", "fail"].contains(&level.as_str()), "{action} is {level}: {:#?}", checked.findings);
    }
}

#[test]
fn the_permissions_of_a_group() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let untried = [
        "autoscaling:LaunchInstances",
        "autoscaling:TerminateInstanceInAutoScalingGroup",
        "ec2:CreateFleet",
        "ec2:RunInstances",
        "iam:PassRole",
    ];
    check_permissions(owner, "when = \"successor-healthy\"\n", &untried);
    check_permissions(Owner::auto_scaling_group(), "[survive]\nthen = \"terminate\"\n", &[]);
}

#[test]
fn the_permissions_of_fleets() {
    check_permissions(Owner::ec2_fleet(FleetType::Maintain), "", &[]);
    check_permissions(Owner::spot_fleet(FleetType::Maintain), "", &["ec2:ModifySpotFleetRequest"]);
    let denied = vec!["ec2:CreateTags".to_owned()];
    let checked = Checked::of(&of(Settings { denied, ..owned_by(Owner::ec2_fleet(FleetType::Maintain)) }));
    let of_tags = |it: &&Value| it["subject"].as_str().is_some_and(|subject| subject.starts_with("ec2:CreateTags"));
    let means: Vec<String> = checked.findings.iter().filter(of_tags).map(|it| it["means"].to_string()).collect();
    assert!(means.len() == 2 && means.iter().any(|it| it.contains("spot-relay:leaving")), "{means:?}");
    assert!(means.iter().any(|it| it.contains("the fleet is not raised")), "{means:?}");
}

#[test]
fn the_memory_of_instance_types_is_tried_where_the_fleet_counts_memory() {
    let fleet = FleetSettings { unit: TargetUnit::MemoryMib, ..FleetSettings::default() };
    for (denied, level) in [(vec![], "ok"), (vec!["ec2:DescribeInstanceTypes".to_owned()], "warn")] {
        let settings = owned_by(Owner::ec2_fleet(FleetType::Maintain));
        let checked = Checked::of(&of(Settings { denied, fleet: fleet.clone(), ..settings }));
        assert_eq!(checked.level("permission", Some("ec2:DescribeInstanceTypes")), level);
    }
}

#[test]
fn the_permissions_of_a_launch() {
    check_permissions(Owner::LaunchTemplate, "", &[]);
}

#[test]
fn what_has_no_form_that_does_nothing_is_said_to_be_untried() {
    let hooked = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let checked = Checked::of(&with(owned_by(hooked), "when = \"successor-healthy\"\n"));
    assert_eq!(checked.level("permission-untried", None), "warn");
    let found = checked.about("permission-untried", None)[0]["found"].as_str().expect("what").to_owned();
    for action in ["autoscaling:TerminateInstanceInAutoScalingGroup", "autoscaling:LaunchInstances", "iam:PassRole"] {
        assert!(found.contains(action), "{action} in {found}");
    }
    for action in ["elasticloadbalancing:DeregisterTargets", "autoscaling:CompleteLifecycleAction"] {
        let tried = checked.about("permission", Some(action));
        let how = tried.first().map(|finding| finding["found"].as_str().unwrap_or_default().to_owned());
        assert!(how.is_some_and(|how| how.contains("tried in a form that can do nothing")), "{action}: {tried:?}");
    }
    let checked = Checked::of(&of(owned_by(Owner::spot_fleet(FleetType::Maintain))));
    let found = checked.about("permission-untried", None)[0]["found"].as_str().expect("what").to_owned();
    assert!(found.contains("ec2:ModifySpotFleetRequest"), "{found}");
}

#[test]
fn how_a_launch_template_is_launched() {
    let template = |template: TemplateSettings| Settings { template, ..owned_by(Owner::LaunchTemplate) };
    let spot = || TemplateSettings { asks_for_spot: true, ..TemplateSettings::default() };
    let own_subnet = || TemplateSettings { names_its_subnet: true, ..TemplateSettings::default() };
    let tags = || TemplateSettings { tags_spot_requests: true, ..TemplateSettings::default() };
    let crowded = Settings { subnets_in_a_zone: 2, ..owned_by(Owner::LaunchTemplate) };
    let subnets = |settings: &Settings| {
        let snapshot = Scenario::new(settings.clone()).sim.snapshot();
        let ids = snapshot["subnets"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> = ids.iter().map(|subnet| subnet["id"].to_string()).collect();
        format!("[successor]\nsubnets = [{}]\n", ids.join(", "))
    };
    let (all, alone) = (subnets(&crowded), subnets(&owned_by(Owner::LaunchTemplate)));
    check(vec![
        ("launch", "absent", of(owned_by(Owner::LaunchTemplate))),
        ("launch", "warn", of(template(spot()))),
        ("launch", "absent", of(template(tags()))),
        ("launch", "absent", of(template(own_subnet()))),
        ("pools", "warn", of(template(own_subnet()))),
        ("launch", "warn", with(template(own_subnet()), &alone)),
        ("launch", "warn", with(template(tags()), "[successor]\non-demand-fallback = true\n")),
        ("shared-zones", "absent", with(owned_by(Owner::LaunchTemplate), &alone)),
        ("shared-zones", "warn", with(crowded, &all)),
        ("owner", "warn", of(Settings { persistent_request: true, ..owned_by(Owner::LaunchTemplate) })),
    ]);
}

#[test]
fn it_ends_whatever_does_not_answer() {
    for (service, check) in [
        ("metadata", "metadata"),
        ("ec2", "metadata-options"),
        ("autoscaling", "owner"),
        ("elasticloadbalancing", "target-group"),
    ] {
        let scenario = of(in_order());
        let service = Some(service.to_owned());
        scenario.sim.fault(Fault { service, action: "*".to_owned(), nth: Nth::All, kind: FaultKind::Hang });
        let began = Instant::now();
        let checked = Checked::of(&scenario);
        assert!(began.elapsed() < PATIENCE / 2, "{check} took {:?}", began.elapsed());
        assert_ne!(checked.level(check, None), "ok", "{:#?}", checked.findings);
    }
}

#[test]
fn people_get_lines_and_the_last_one_counts() {
    let scenario = of(denying(&["autoscaling:DetachInstances"]));
    let output = run(&[], &scenario);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("fail  permission autoscaling:DetachInstances: denied"), "{text}");
    assert!(text.lines().last().is_some_and(|line| line.contains("1 failure: a handover would go wrong")), "{text}");
    assert!(!text.contains('\x1b'), "no escape code where there is no terminal");
}
