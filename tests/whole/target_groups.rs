//! What AWS refuses of target groups, and what a target group is of ours: zones, VPCs, ports, groups that are not there, a
//! zone that no load balancer serves, addresses that drain, and registrations that land late.

use std::process::Stdio;
use std::time::Duration;

use spot_relay::sim::{
    DrainingAddress, Fault, FaultKind, LoadBalancerType, Nth, Other, Owner, Request, Settings, TargetGroupSettings,
    TargetType,
};

use crate::scenario::{AT_ONCE, SHORT, Scenario, eventually, target_group, world};

const OUR_ADDRESS: &str = "10.0.1.7";
const LATTICE: &str = "arn:aws:vpc-lattice:eu-west-1:123456789012:targetgroup/tg-0123456789abcdef0";

fn by_address(name: &str, ports: &[u16]) -> TargetGroupSettings {
    TargetGroupSettings { kind: TargetType::Ip, attached: false, port: 61_080, ..target_group(name, ports) }
}

/// A group of another VPC that uses the same range of addresses.
fn strangers() -> TargetGroupSettings {
    let strangers = vec![OUR_ADDRESS.to_owned()];
    TargetGroupSettings { vpc: Some("vpc-2".to_owned()), strangers, ..by_address("theirs", &[]) }
}

/// A group of a peered VPC, in which this instance is registered with `all`.
fn peered() -> TargetGroupSettings {
    TargetGroupSettings { vpc: Some("vpc-2".to_owned()), ..by_address("peered", &[61_080]) }
}

fn of(owner: Owner, target_groups: Vec<TargetGroupSettings>) -> Settings {
    let (private_ip, max_size) = (Some(OUR_ADDRESS.to_owned()), Some(9));
    Settings { owner, private_ip, max_size, target_groups, kill_at_deadline: false, ..world() }
}

fn requests(scenario: &Scenario, action: &str) -> Vec<Request> {
    scenario.aws_requests().into_iter().filter(|request| request.action == action).collect()
}

/// The values of a member of each target that these calls name.
fn of_targets(requests: &[Request], member: &str) -> Vec<String> {
    let is_it = |key: &str| key.starts_with("Targets.member.") && key.ends_with(member);
    requests.iter().flat_map(|it| it.parameters.iter().filter(|(key, _)| is_it(key)).map(|it| it.1.clone())).collect()
}

fn is_healthy(scenario: &Scenario, group: &str, id: &str) -> bool {
    scenario.sim.targets(group).iter().any(|(target, _, state)| target == id && state == "healthy")
}

#[test]
fn a_target_group_that_aws_does_not_tell_of_holds_up_no_other_and_is_asked_for_again() {
    let faults = [("DescribeTargetHealth", Nth::First(1)), ("DescribeTargetGroupAttributes", Nth::All)];
    for (action, nth) in faults {
        let groups = vec![target_group("api", &[61_081]), target_group("web", &[61_080])];
        let scenario = Scenario::listing(of(Owner::Nobody, groups));
        let kind = FaultKind::Status { status: 500, code: "InternalFailure".to_owned(), message: "no".to_owned() };
        scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth, kind });
        let daemon = scenario.start();
        daemon.wait_for_line("deregister from api (port 61081) and web (port 61080)");
        scenario.sim.notice("terminate", Duration::from_secs(60));
        daemon.wait_for("handed-over");
        assert!(daemon.is_complete(), "{action}: {}", daemon.lines().join("\n"));
        assert_eq!(scenario.count("DeregisterTargets"), 2, "{action}");
        let told = daemon.lines().join("\n");
        assert_eq!(told.contains("AWS has not told of target group"), action == "DescribeTargetHealth", "{told}");
    }
}

#[test]
fn a_listed_target_group_whose_health_nobody_may_read_is_left_all_the_same_and_never_called_complete() {
    let on = |name, port| TargetGroupSettings { port, ..target_group(name, &[port]) };
    let groups = vec![on("api", 61_081), on("web", 61_080)];
    for (status, code) in [(403, "AccessDenied"), (500, "InternalFailure")] {
        let scenario = Scenario::listing(of(Owner::Nobody, groups.clone()));
        let kind = FaultKind::Status { status, code: code.to_owned(), message: "no".to_owned() };
        scenario.sim.fault(Fault { service: None, action: "DescribeTargetHealth".to_owned(), nth: Nth::All, kind });
        let daemon = scenario.start();
        daemon.wait_for_line("not everything could be looked up");
        scenario.sim.notice("terminate", Duration::from_secs(20));
        daemon.wait_for("handed-over");
        assert!(!scenario.serves("web") && !scenario.serves("api"), "{code}: {}", daemon.lines().join("\n"));
        assert!(!daemon.is_complete(), "{code}: nothing was proved: {}", daemon.lines().join("\n"));
    }
}

#[test]
fn a_successor_in_another_zone_is_registered_by_its_address_and_no_zone() {
    for owner in
        [Owner::LaunchTemplate, Owner::auto_scaling_group(), Owner::ec2_fleet(spot_relay::sim::FleetType::Maintain)]
    {
        let scenario = Scenario::new(of(owner.clone(), vec![by_address("web", &[61_080])]));
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{owner:?} {}", daemon.lines().join("\n"));
        let registrations = requests(&scenario, "RegisterTargets");
        assert_eq!(registrations.len(), 1, "{owner:?}");
        assert_eq!(of_targets(&registrations, ".AvailabilityZone"), [""; 0], "{owner:?}");
        assert_eq!(of_targets(&requests(&scenario, "DeregisterTargets"), ".AvailabilityZone"), [""; 0], "{owner:?}");
    }
}

#[test]
fn a_group_of_ipv6_addresses_is_left_and_succeeded_by_ipv6_addresses() {
    for owner in [Owner::LaunchTemplate, Owner::ec2_fleet(spot_relay::sim::FleetType::Maintain)] {
        let groups = vec![TargetGroupSettings { ipv6: true, ..by_address("web", &[61_080]) }];
        let scenario = Scenario::new(Settings { ipv6: true, ..of(owner.clone(), groups) });
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{owner:?} {}", daemon.lines().join("\n"));
        let (left, came) = (requests(&scenario, "DeregisterTargets"), requests(&scenario, "RegisterTargets"));
        let ids = [of_targets(&left, ".Id"), of_targets(&came, ".Id")].concat();
        assert!(ids.len() == 2 && ids.iter().all(|id| id.starts_with("2001:db8:")), "{owner:?} {ids:?}");
        assert!(is_healthy(&scenario, "web", &ids[1]), "{owner:?}");
    }
}

#[test]
fn the_light_of_a_group_of_ipv6_addresses_is_kept_on_by_whoever_holds_the_others() {
    // The other one is noticed too, and tags itself: the addresses tell which instances they are.
    let groups = vec![TargetGroupSettings { ipv6: true, ..by_address("web", &[61_080]) }];
    let scenario =
        Scenario::new(Settings { ipv6: true, ..of(Owner::Nobody, groups) }).config("[leave]\nwhen = \"at-once\"\n");
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(30));
    daemon.wait_for("left");
    let asked = requests(&scenario, "DescribeInstances");
    let by_address = asked.iter().any(|it| it.parameters.values().any(|value| value.contains("ipv6-address")));
    assert!(by_address, "{asked:?}");
}

#[test]
fn an_arrival_in_an_ip_group_comes_into_service_with_one_registration() {
    let config = format!("target-groups = [\"web\"]\n{SHORT}[arrive]\nregister = true\n");
    let scenario = Scenario::new(of(Owner::Nobody, vec![by_address("web", &[])])).config(&config);
    let daemon = scenario.start();
    daemon.wait_for("arrived");
    assert!(is_healthy(&scenario, "web", OUR_ADDRESS));
    assert_eq!(scenario.count("RegisterTargets"), 1);
}

#[test]
fn a_stranger_with_our_address_in_another_vpc_is_left_alone() {
    let settings = of(Owner::LaunchTemplate, vec![by_address("web", &[61_080]), strangers()]);
    let scenario = Scenario::new(settings);
    let policy = scenario.command_of("policy").stdout(Stdio::piped()).output().expect("the policy is printed");
    let policy = String::from_utf8_lossy(&policy.stdout).into_owned();
    assert!(policy.contains("targetgroup/web/") && !policy.contains("targetgroup/theirs/"), "{policy}");
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert!(!scenario.serves("web"));
    assert_eq!(scenario.sim.targets("theirs"), [(OUR_ADDRESS.to_owned(), 61_080, "healthy".to_owned())]);
    assert_eq!((scenario.count("DeregisterTargets"), scenario.count("RegisterTargets")), (1, 1));
}

#[test]
fn a_group_of_a_peered_vpc_is_ours_where_the_configuration_names_it() {
    let config = format!("target-groups = [\"peered\"]\n{SHORT}");
    let scenario = Scenario::new(of(Owner::LaunchTemplate, vec![peered()])).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    for action in ["DeregisterTargets", "RegisterTargets"] {
        assert_eq!(of_targets(&requests(&scenario, action), ".AvailabilityZone"), ["all"], "{action}");
    }
    let config = format!("{config}[arrive]\nregister = true\n");
    let peered = TargetGroupSettings { ports: Vec::new(), ..peered() };
    let scenario = Scenario::new(of(Owner::Nobody, vec![peered])).config(&config);
    let daemon = scenario.start();
    daemon.wait_for("arrived");
    assert_eq!(of_targets(&requests(&scenario, "RegisterTargets"), ".AvailabilityZone"), ["all"]);
}

#[test]
fn a_zone_that_aws_refuses_is_sent_the_other_way_once() {
    // Without a VPC of its own an arrival sends no zone, and this group is outside.
    let mut settings = of(Owner::Nobody, vec![TargetGroupSettings { ports: Vec::new(), ..peered() }]);
    settings.vpc_in_metadata = false;
    let config = format!("target-groups = [\"peered\"]\n{SHORT}[arrive]\nregister = true\n");
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.start();
    daemon.wait_for("arrived");
    let registrations = requests(&scenario, "RegisterTargets");
    assert_eq!((registrations.len(), of_targets(&registrations, ".AvailabilityZone")), (2, vec!["all".to_owned()]));
    // Nobody else serves: it leaves when the reserve begins.
    scenario.sim.notice("terminate", Duration::from_secs(20));
    daemon.wait_for("left");
    assert_eq!(of_targets(&requests(&scenario, "DeregisterTargets"), ".AvailabilityZone"), ["all"]);
}

#[test]
fn where_the_metadata_tells_no_vpc_ec2_does_and_without_either_an_address_is_left_alone() {
    let mut settings = of(Owner::Nobody, vec![by_address("web", &[61_080]), strangers()]);
    settings.vpc_in_metadata = false;
    let scenario = Scenario::new(settings.clone());
    let daemon = scenario.hand_over();
    assert!(!is_healthy(&scenario, "web", OUR_ADDRESS), "{}", daemon.lines().join("\n"));
    assert!(is_healthy(&scenario, "theirs", OUR_ADDRESS));

    settings.denied = vec!["ec2:DescribeInstances".to_owned()];
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    daemon.wait_for_line("web holds this instance's address");
    scenario.sim.notice("terminate", Duration::from_secs(20));
    daemon.wait_for("handed-over");
    assert!(is_healthy(&scenario, "web", OUR_ADDRESS) && is_healthy(&scenario, "theirs", OUR_ADDRESS));
}

#[test]
fn a_lattice_target_group_is_waited_for_until_the_reserve_and_a_deleted_one_holds_nothing_up() {
    let deleted = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/old/0123456789abcdef";
    let mut settings =
        of(Owner::auto_scaling_group(), vec![TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) }]);
    settings.other_traffic_sources = vec![LATTICE.to_owned(), deleted.to_owned()];
    let scenario = Scenario::new(settings);
    let daemon = scenario.start();
    daemon.wait_for_line("its other traffic sources are left to Auto Scaling: arn:aws:vpc-lattice");
    daemon.wait_for_line("the owner names target group old, which does not exist any more");
    daemon.wait_for_line("ready; on a notice");
    scenario.sim.notice("terminate", Duration::from_secs(12));
    let quiet = daemon.wait_for("quiet");
    let message = quiet["message"].as_str().unwrap_or_default();
    assert!(message.contains("the group's other traffic sources: arn:aws:vpc-lattice"), "{message}");
    daemon.wait_for("handed-over");
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    scenario.assert_handed_over(&["web"], "with a Lattice target group beside it");
    let described = requests(&scenario, "DescribeTargetGroups");
    assert!(described.iter().all(|request| !request.parameters.values().any(|value| value == LATTICE)));
}

#[test]
fn a_port_in_the_configuration_means_that_port_alone() {
    let config = format!("target-groups = [\"api:61081\"]\n{SHORT}");
    let settings = of(Owner::Nobody, vec![target_group("api", &[61_081, 61_082])]);
    let scenario = Scenario::new(settings).config(&config);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let ours = scenario.sim.instance_id();
    let states: Vec<(u16, String)> =
        scenario.sim.targets("api").into_iter().filter(|it| it.0 == ours).map(|it| (it.1, it.2)).collect();
    assert_eq!(states, [(61_081, "draining".to_owned()), (61_082, "healthy".to_owned())]);
}

#[test]
fn a_listed_target_group_that_is_not_there_ends_no_later_than_the_rest() {
    let config = format!("target-groups = [\"web\", \"wbe\"]\n{SHORT}");
    let scenario = Scenario::new(of(Owner::Nobody, vec![target_group("web", &[61_080])])).config(&config);
    let daemon = scenario.start();
    daemon.wait_for_line("names wbe, and there is no such target group");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    // Its patience is half of the deadline.
    daemon.wait_for("handed-over");
    assert!(!daemon.is_complete(), "a name that nobody knows leaves the handover incomplete");
}

#[test]
fn a_successor_in_a_zone_that_the_load_balancer_does_not_serve_is_not_healthy() {
    let zones = vec!["eu-west-1a".to_owned()];
    let web = TargetGroupSettings { load_balancer_zones: zones, ..target_group("web", &[61_080]) };
    let mut settings = of(Owner::ec2_fleet(spot_relay::sim::FleetType::Maintain), vec![web]);
    settings.others = vec![Other::new("m5.large", "eu-west-1a"), Other::new("m5.large", "eu-west-1a")];
    settings.no_capacity = vec![spot_relay::sim::Pool::spot("m5.large", "eu-west-1a")];
    let scenario = Scenario::new(settings);
    let daemon = scenario.ready();
    scenario.sim.notice("terminate", Duration::from_secs(15));
    daemon.wait_for("handed-over");
    assert!(!daemon.is_complete(), "{}", daemon.lines().join("\n"));
    assert_eq!(daemon.milestone_names().iter().filter(|name| *name == "successor-healthy").count(), 0);
    daemon.wait_for_line("in a zone that is enabled for no load balancer of the group");
}

#[test]
fn a_zone_of_ours_that_the_load_balancer_does_not_serve_is_told_at_start_and_a_group_in_none_is_not() {
    let zones = vec!["eu-west-1b".to_owned()];
    let web = TargetGroupSettings { load_balancer_zones: zones, ..target_group("web", &[61_080]) };
    let alone = TargetGroupSettings { load_balancer: LoadBalancerType::None, ..target_group("alone", &[61_081]) };
    let scenario = Scenario::new(of(Owner::Nobody, vec![web, alone]));
    let daemon = scenario.ready();
    let said = daemon.lines_with("Target.NotInUse");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("registered in web, and its zone is enabled for none"), "{said:?}");
}

#[test]
fn an_address_that_drains_is_waited_for_on_the_way_back() {
    for draining_address in [DrainingAddress::Refused, DrainingAddress::Kept] {
        let web = TargetGroupSettings { deregistration_delay: Duration::from_secs(8), ..by_address("web", &[61_080]) };
        let settings = Settings { draining_address, ..of(Owner::Nobody, vec![web]) };
        // An owner that may show late is looked for, for longer than the address drains.
        let config = format!("{SHORT}[successor]\nowner = \"none\"\n");
        let scenario = Scenario::new(settings).config(&config);
        let daemon = scenario.hand_over();
        scenario.sim.remove_notice();
        daemon.wait_for_line("waiting until web has drained this instance's address");
        daemon.wait_for("reinstated");
        assert!(is_healthy(&scenario, "web", OUR_ADDRESS), "{draining_address:?}");
        assert!(scenario.count("RegisterTargets") <= 3, "{draining_address:?} {:?}", scenario.writes());
        assert_eq!(daemon.lines_with("RegisterTargets failed").len(), 0, "{}", daemon.lines().join("\n"));
    }
}

#[test]
fn a_registration_that_lands_after_the_proof_is_taken_back() {
    let config = format!("target-groups = [\"web\"]\n{SHORT}[arrive]\nregister = true\n");
    let scenario = Scenario::new(of(Owner::Nobody, vec![by_address("web", &[])])).config(&config);
    let kind = FaultKind::Delay(Duration::from_millis(2_500));
    scenario.sim.fault(Fault { service: None, action: "RegisterTargets".to_owned(), nth: Nth::First(1), kind });
    let daemon = scenario.start();
    eventually(|| (scenario.count("RegisterTargets") > 0).then_some(())).expect("a registration");
    scenario.sim.notice("terminate", Duration::from_secs(120));
    daemon.wait_for("handed-over");
    assert!(scenario.count("DeregisterTargets") >= 2, "{:?}", scenario.writes());
    assert!(!is_healthy(&scenario, "web", OUR_ADDRESS));
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
}

/// The zones that are served come first, whatever has the fewest members.
#[test]
fn the_successor_goes_to_a_zone_that_the_load_balancer_serves() {
    let zones = vec!["eu-west-1a".to_owned(), "eu-west-1b".to_owned()];
    let web = TargetGroupSettings { load_balancer_zones: zones, ..target_group("web", &[61_080]) };
    let mut settings = of(Owner::LaunchTemplate, vec![web]);
    settings.others = vec![Other::new("m5.large", "eu-west-1b"), Other::new("m5.large", "eu-west-1b")];
    let subnets: Vec<String> = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
        .iter()
        .map(|zone| format!("{:?}", Scenario::new(settings.clone()).subnet(zone)))
        .collect();
    let config = format!("{SHORT}[successor]\nsubnets = [{}]\n", subnets.join(", "));
    for more in ["", "target-groups = [\"web\"]\n"] {
        let scenario = Scenario::new(settings.clone()).config(&format!("{more}{config}"));
        let daemon = scenario.hand_over();
        assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
        let running = daemon.wait_for("successor-running");
        assert!(running["message"].as_str().is_some_and(|text| text.contains("eu-west-1b")), "{running}");
        assert_eq!(scenario.count("DescribeLoadBalancers"), 1);
    }
}

#[test]
fn a_further_port_in_a_group_that_the_owner_registers_is_registered_by_us() {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080, 61_082]) };
    let scenario = Scenario::new(of(Owner::auto_scaling_group(), vec![web]));
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let registered = requests(&scenario, "RegisterTargets");
    assert_eq!(of_targets(&registered, "Port"), ["61082"], "{registered:#?}");
    let successor = scenario.sim.successors().remove(0);
    for port in [61_080, 61_082] {
        let serves = |(id, at, state): &(String, u16, String)| *id == successor && *at == port && state == "healthy";
        assert!(scenario.sim.targets("web").iter().any(serves), "{port}: {:?}", scenario.sim.targets("web"));
    }
}

/// A group has the same choice where it launches one first.
#[test]
fn a_group_launches_first_in_a_zone_that_the_load_balancer_serves() {
    let zones = vec!["eu-west-1a".to_owned(), "eu-west-1b".to_owned()];
    let web = TargetGroupSettings { load_balancer_zones: zones, port: 61_080, ..target_group("web", &[61_080]) };
    let mut settings = of(Owner::auto_scaling_group(), vec![web]);
    settings.others = ["eu-west-1b", "eu-west-1b", "eu-west-1c"].map(|zone| Other::new("m5.large", zone)).to_vec();
    settings.max_size = Some(9);
    let scenario = Scenario::new(settings).config(SHORT);
    let daemon = scenario.hand_over();
    assert!(daemon.is_complete(), "{}", daemon.lines().join("\n"));
    let launches = requests(&scenario, "LaunchInstances");
    let asked: Vec<&str> = launches.iter().map(|it| it.parameters["AvailabilityZones.member.1"].as_str()).collect();
    assert_eq!(asked, ["eu-west-1b"], "and never eu-west-1c, which has fewer members");
    assert_eq!(scenario.count("DescribeLoadBalancers"), 1);
}

#[test]
fn zones_that_aws_does_not_tell_are_warned_of_once() {
    let web = TargetGroupSettings { port: 61_080, ..target_group("web", &[61_080]) };
    let scenario = Scenario::new(of(Owner::auto_scaling_group(), vec![web])).config(SHORT);
    // The hooks that are not told either make the rounds follow each other.
    for action in ["DescribeLoadBalancers", "DescribeLifecycleHooks"] {
        let (code, message) = ("InvalidAction".to_owned(), "no".to_owned());
        let kind = FaultKind::Status { status: 400, code, message };
        scenario.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
    }
    let daemon = scenario.start();
    eventually(|| (scenario.count("DescribeLoadBalancers") > 2).then_some(())).expect("three rounds");
    daemon.wait_for_line("not everything could be looked up");
    assert_eq!(daemon.lines_with("the zones that the load balancers serve").len(), 1, "{:#?}", daemon.lines());
}

/// Registered after the look-up, and before the next one: by a script that runs at the end of the boot, as an example.
#[test]
fn a_named_target_group_that_is_joined_after_the_look_up_is_left_at_the_notice() {
    let both =
        || vec![target_group("web", &[61_080]), TargetGroupSettings { port: 61_082, ..target_group("api", &[]) }];
    for (owner, config) in [
        (Owner::Nobody, format!("target-groups = [\"web\", \"api\"]\n{AT_ONCE}")),
        (Owner::auto_scaling_group(), AT_ONCE.to_owned()),
    ] {
        let mut settings = of(owner.clone(), both());
        settings.target_groups[1].attached = matches!(owner, Owner::AutoScalingGroup { .. });
        let scenario = Scenario::new(settings).config(&config);
        let daemon = scenario.ready();
        scenario.sim.register("api", 61_082);
        scenario.sim.notice("terminate", Duration::from_secs(15));
        daemon.wait_for("handed-over");
        assert!(!scenario.serves("web") && !scenario.serves("api"), "{owner:?}: {:?}", scenario.writes());
    }
}

#[test]
fn a_listed_port_that_is_registered_only_later_is_learnt_at_the_next_round_and_left_at_the_notice() {
    let api = TargetGroupSettings { attached: false, ..target_group("api", &[]) };
    let config = format!("target-groups = [\"web\", \"api:61082\"]\n{AT_ONCE}");
    let scenario = Scenario::new(of(Owner::Nobody, vec![target_group("web", &[61_080]), api])).config(&config);
    let daemon = scenario.ready();
    scenario.sim.register("api", 61_082);
    daemon.wait_for_line("api (port 61082)");
    // Nobody else is in it, so that this instance serves there to the reserve.
    scenario.sim.notice("terminate", Duration::from_secs(15));
    daemon.wait_for("handed-over");
    assert!(!scenario.serves("web") && !scenario.serves("api"), "{:?}", scenario.writes());
}
