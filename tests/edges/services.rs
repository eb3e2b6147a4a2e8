//! Each operation once against the simulator, which knows AWS's spelling of answers and of errors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use spot_relay::cloud::autoscaling::LifecycleAction;
use spot_relay::cloud::clock::Clock;
use spot_relay::cloud::elb::{FoundRegistrations, SearchScope, UnclearReason};
use spot_relay::cloud::imds::Imds;
use spot_relay::cloud::{Aws, Connection};
use spot_relay::core::call::HookResult;
use spot_relay::core::config::ListedTargetGroup;
use spot_relay::core::model::{
    AutoScalingGroup, CapacityUnit, ExcessCapacity, FleetChange, FleetKind, FleetState, FleetType, Identity,
    InstanceId, InstanceState, InstantFleet, LaunchConfiguration, LaunchOverride, LaunchTemplate, LifeCycle, Market,
    Registration, Target, TargetGroupArn, TargetState, TargetType, TargetZone,
};
use spot_relay::core::retry::FailureKind;
use spot_relay::sim::{
    Fault, FaultKind, FleetType as SimFleetType, LoadBalancerType, Nth, Owner, Pool, Settings, Sim,
    TargetGroupSettings, TargetType as SimTargetType, Timings,
};

struct World {
    sim: Sim,
    aws: Aws,
    identity: Identity,
}

async fn world(settings: Settings) -> World {
    let sim = Sim::start(Settings { timings: Timings::fast(), ..settings }).await.unwrap();
    let imds = Imds::new(Some(&sim.metadata_endpoint())).unwrap();
    let identity = imds.identity().await.unwrap();
    let mut connection = Connection::new(&identity.region, Clock::default());
    connection.endpoint_url = Some(sim.aws_endpoint());
    connection.metadata_endpoint = Some(sim.metadata_endpoint());
    let aws = Aws::connect(connection).await.unwrap();
    aws.credentials.renew().await.unwrap();
    World { sim, aws, identity }
}

async fn owned_by(owner: Owner) -> World {
    world(Settings { owner, ..Settings::default() }).await
}

impl World {
    /// The AWS calls so far, in order.
    fn actions(&self) -> Vec<String> {
        let requests = self.sim.requests().into_iter().filter(|request| request.service != "metadata");
        requests.map(|request| request.action).collect()
    }

    fn count(&self, action: &str) -> usize {
        self.actions().iter().filter(|called| *called == action).count()
    }

    /// The parameters of the last call of this action.
    fn sent(&self, action: &str) -> BTreeMap<String, String> {
        let mut requests = self.sim.requests().into_iter();
        requests.rfind(|request| request.action == action).map(|request| request.parameters).unwrap()
    }

    async fn find(&self, among: &SearchScope, known: &[Registration]) -> FoundRegistrations {
        let mut found = self.aws.elb.find_registrations(&self.identity, among, known).await.unwrap();
        for arn in std::mem::take(&mut found.without_delay) {
            let delay = self.aws.elb.deregistration_delay(&arn).await.unwrap();
            let mut here = found.registrations.iter_mut();
            here.find(|it| it.target_group == arn).unwrap().deregistration_delay = delay;
        }
        found
    }

    async fn owner_tag(&self, key: &str) -> String {
        self.aws.ec2.describe_tags(self.identity.instance_id.as_str()).await.unwrap()[key].clone()
    }

    async fn template(&self) -> LaunchTemplate {
        LaunchTemplate { id_or_name: self.owner_tag("aws:ec2launchtemplate:id").await, version: "$Default".into() }
    }
}

fn configured(groups: &[&str]) -> SearchScope {
    let entry = |group: &&str| ListedTargetGroup { arn_or_name: (*group).to_owned(), port: None };
    SearchScope::Configured(groups.iter().map(entry).collect())
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(5), "it never came to be");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn groups() -> Vec<TargetGroupSettings> {
    let web = TargetGroupSettings { ports: vec![80, 8080], ..TargetGroupSettings::named("web") };
    let address = TargetGroupSettings {
        kind: SimTargetType::Ip,
        protocol: "TCP".into(),
        port: 443,
        ports: vec![443],
        load_balancer: LoadBalancerType::Network,
        deregistration_delay: Duration::from_secs(30),
        ..TargetGroupSettings::named("address")
    };
    let others = TargetGroupSettings { ports: vec![], ..TargetGroupSettings::named("others") };
    vec![web, address, others]
}

#[tokio::test]
async fn registrations_are_found_with_all_ports_in_both_types_of_groups() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let began = Instant::now();
    let FoundRegistrations { registrations, missing, unclear, .. } = world.find(&SearchScope::Everything, &[]).await;
    assert!(missing.is_empty() && unclear.is_empty());
    let [web, address] = &registrations[..] else { panic!("{registrations:?}") };
    assert_eq!((web.name(), web.target_type, web.network), ("web", TargetType::Instance, false));
    assert_eq!((web.ports(), web.deregistration_delay), (BTreeSet::from([80, 8080]), Duration::from_secs(300)));
    assert!(web.targets.iter().all(|target| target.id == world.identity.instance_id.as_str()));
    assert_eq!((address.name(), address.target_type, address.network), ("address", TargetType::Ip, true));
    assert_eq!(address.targets[0].id, world.identity.private_ip);
    assert_eq!(address.deregistration_delay, Duration::from_secs(30));
    // One list, health of three groups, attributes of the two where we stand; a quarter of a second before each group.
    assert_eq!((world.count("DescribeTargetHealth"), world.count("DescribeTargetGroupAttributes")), (3, 2));
    assert!(began.elapsed() > Duration::from_millis(750));
}

#[tokio::test]
async fn of_a_known_group_the_attributes_are_not_asked_for_again() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let listed = configured(&["web", "others"]);
    let found = world.find(&listed, &[]).await;
    assert_eq!(found.registrations.len(), 1);
    assert_eq!(
        world.actions(),
        ["DescribeTargetGroups", "DescribeTargetHealth", "DescribeTargetHealth", "DescribeTargetGroupAttributes"]
            .map(String::from)
    );
    let arn = found.registrations[0].target_group.as_str().to_owned();
    let again = world.find(&configured(&[&arn]), &found.registrations).await;
    assert_eq!(again, found);
    // Its load balancer may be another one by now.
    assert_eq!(world.actions()[4..], ["DescribeTargetGroups", "DescribeTargetHealth"].map(String::from));
}

#[tokio::test]
async fn a_group_that_aws_does_not_answer_is_named() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let body = "<DescribeTargetGroupsResponse><DescribeTargetGroupsResult/></DescribeTargetGroupsResponse>".to_owned();
    let kind = FaultKind::Body { status: 200, body };
    world.sim.fault(Fault { service: None, action: "DescribeTargetGroups".to_owned(), nth: Nth::All, kind });
    assert_eq!(world.find(&configured(&["web", "address"]), &[]).await.missing, ["address", "web"]);
    world.sim.clear_faults();
    assert!(world.find(&configured(&["web", "address"]), &[]).await.missing.is_empty());
}

#[tokio::test]
async fn a_group_that_does_not_exist_is_named_and_the_others_are_found() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let mut nowhere = world.find(&configured(&["web"]), &[]).await.registrations[0].target_group.to_string();
    nowhere.replace_range(nowhere.len() - 4.., "ffff");
    let found = world.find(&configured(&["typo", &nowhere, "address"]), &[]).await;
    assert_eq!(found.missing, [nowhere, "typo".into()]);
    assert_eq!(found.registrations.iter().map(Registration::name).collect::<Vec<_>>(), ["address"]);
}

#[tokio::test]
async fn a_group_that_nobody_may_describe_is_found_by_its_arn_on_the_ports_that_health_shows() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let described = world.find(&configured(&["web", "address"]), &[]).await;
    let arns: Vec<&str> = described.registrations.iter().map(|it| it.target_group.as_str()).collect();
    let targets = |found: &FoundRegistrations| -> Vec<(TargetType, Vec<Target>)> {
        found.registrations.iter().map(|it| (it.target_type, it.targets.clone())).collect()
    };
    for (status, code) in [(403, "AccessDenied"), (400, "InvalidAction")] {
        let kind = FaultKind::Status { status, code: code.into(), message: "no".into() };
        let action = "DescribeTargetGroups".to_owned();
        world.sim.clear_faults();
        world.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
        let found = world.find(&configured(&arns), &[]).await;
        assert_eq!(targets(&found), targets(&described), "{code}");
        assert!(found.missing.is_empty(), "{code}");
        let reasons: Vec<&UnclearReason> = found.unclear.iter().map(|(_, reason)| reason).collect();
        assert!(reasons.iter().all(|reason| matches!(reason, UnclearReason::Undescribed(_))), "{reasons:?}");
        assert_eq!(reasons.len(), 2);
    }
    // A group that is known goes on as it was.
    let again = world.find(&configured(&arns), &described.registrations).await;
    assert_eq!((again.registrations, again.unclear), (described.registrations, Vec::new()));
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_for_every_group() {
    let names = ["web", "api", "admin", "static", "img"];
    let target_groups = names.map(TargetGroupSettings::named).to_vec();
    let world = world(Settings { target_groups, ..Settings::default() }).await;
    let kind = FaultKind::Status { status: 403, code: "AccessDenied".into(), message: "no".into() };
    world.sim.fault(Fault { service: None, action: "DescribeTargetHealth".to_owned(), nth: Nth::All, kind });
    let found = world.find(&configured(&names), &[]).await;
    let denied =
        |reason: &UnclearReason| matches!(reason, UnclearReason::Untold(why) if why.kind == FailureKind::Denied);
    assert_eq!(found.unclear.len(), names.len());
    assert!(found.unclear.iter().all(|(_, reason)| denied(reason)), "{:?}", found.unclear);
}

#[tokio::test]
async fn a_group_whose_type_is_not_told_is_taken_for_what_its_targets_are() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let described = world.find(&configured(&["web", "address"]), &[]).await;
    let group = |it: &Registration| {
        format!(
            "<member><TargetGroupArn>{}</TargetGroupArn><TargetGroupName>{}</TargetGroupName><Port>80</Port></member>",
            it.target_group,
            it.name()
        )
    };
    let groups: String = described.registrations.iter().map(group).collect();
    let body = format!(
        "<DescribeTargetGroupsResponse><DescribeTargetGroupsResult><TargetGroups>{groups}</TargetGroups>\
         </DescribeTargetGroupsResult></DescribeTargetGroupsResponse>"
    );
    let kind = FaultKind::Body { status: 200, body };
    world.sim.fault(Fault { service: None, action: "DescribeTargetGroups".to_owned(), nth: Nth::All, kind });
    let found = world.find(&configured(&["web", "address"]), &[]).await;
    let types: Vec<TargetType> = found.registrations.iter().map(|it| it.target_type).collect();
    assert_eq!(types, described.registrations.iter().map(|it| it.target_type).collect::<Vec<_>>());
    assert_eq!(types.len(), 2);
}

#[tokio::test]
async fn a_denied_attribute_leaves_the_default_delay_and_a_throttled_scan_goes_on() {
    let world = world(Settings::default()).await;
    let fault = |action: &str, status, code: &str| Fault {
        service: None,
        action: action.into(),
        nth: Nth::All,
        kind: FaultKind::Status { status, code: code.into(), message: "no".into() },
    };
    world.sim.fault(fault("DescribeTargetGroupAttributes", 403, "AccessDenied"));
    let found = world.find(&configured(&["web"]), &[]).await;
    assert_eq!(found.registrations[0].deregistration_delay, Duration::from_secs(300));
    world.sim.fault(Fault { nth: Nth::First(1), ..fault("DescribeTargetHealth", 400, "Throttling") });
    let found = world.find(&SearchScope::Everything, &[]).await;
    assert_eq!(found.registrations.len(), 1, "{found:?}");
    assert_eq!(world.count("DescribeTargetHealth"), 3, "the one that was throttled is asked again");
}

#[tokio::test]
async fn targets_leave_and_come_back_and_the_health_tells() {
    let world = world(Settings { target_groups: groups(), ..Settings::default() }).await;
    let web = world.find(&configured(&["web"]), &[]).await.registrations.remove(0);
    let elb = &world.aws.elb;
    let health = async || elb.describe_target_health(&web.target_group, &web.targets, &web.zone).await.unwrap();
    assert!(health().await.iter().all(|health| health.state == TargetState::Healthy && web.is_served(health)));
    elb.deregister_targets(&web.target_group, &web.targets, &web.zone).await.unwrap();
    assert!(health().await.iter().all(|health| health.state == TargetState::Draining && health.has_left()));
    let left = elb.describe_target_health(&web.target_group, &[], &web.zone).await.unwrap();
    assert_eq!(left.iter().filter(|health| health.has_left()).count(), 2);
    elb.register_targets(&web.target_group, &web.targets, &web.zone).await.unwrap();
    eventually(async || health().await.iter().all(|health| web.is_served(health))).await;
    let stranger = Target { id: "i-00000000000000000".into(), port: 80 };
    let unknown =
        elb.describe_target_health(&web.target_group, std::slice::from_ref(&stranger), &web.zone).await.unwrap();
    assert_eq!((&unknown[0].state, unknown[0].reason.as_deref()), (&TargetState::Unused, Some("Target.NotRegistered")));
    let refused = elb.register_targets(&web.target_group, &[stranger], &web.zone).await.unwrap_err();
    assert_eq!((refused.kind, refused.code.as_deref()), (FailureKind::Rejected, Some("InvalidTarget")));
    let nowhere = TargetGroupArn::new(format!("{}f", web.target_group));
    assert_eq!(
        elb.deregister_targets(&nowhere, &web.targets, &web.zone).await.unwrap_err().kind,
        FailureKind::Rejected
    );
}

async fn group_with_hooks(aws: &Aws, name: &str) -> Option<AutoScalingGroup> {
    let mut group = aws.autoscaling.group_without_hooks(name).await.unwrap()?;
    aws.autoscaling.add_hooks(&mut group).await.unwrap();
    Some(group)
}

#[tokio::test]
async fn what_may_have_changed_of_a_group_is_read_with_its_hooks_its_weights_and_its_protection() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: true, mixed_instances: false };
    let settings = Settings { owner, launch_hook: true, member_weight: Some(4), ..Settings::default() };
    let world = world(Settings { protected_from_scale_in: true, ..settings }).await;
    let (autoscaling, ours) = (&world.aws.autoscaling, &world.identity.instance_id);
    let hooks = autoscaling.termination_hooks("web").await.unwrap();
    assert_eq!(hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(), ["drain"], "and no launching hook");
    let current = autoscaling.group_state("web").await.unwrap().unwrap();
    assert_eq!((current.min_size, current.desired_capacity, current.max_size), (4, 12, 16));
    assert!(current.members.iter().all(|it| it.units() == 4 && it.loses_protection == (it.instance_id == *ours)));
    assert!(current.capacity_rebalance && current.members.iter().any(|it| it.instance_id == *ours));
}

#[tokio::test]
async fn a_group_is_described_with_its_hooks_its_target_groups_and_its_members() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: true, termination_hook: true, mixed_instances: true };
    let world = world(Settings { owner, launch_hook: true, ..Settings::default() }).await;
    let group = group_with_hooks(&world.aws, "web").await.unwrap();
    assert!(group.capacity_rebalance && !group.mixes_spot_and_on_demand);
    assert_eq!(group.launch_hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(), ["ready"]);
    assert_eq!((group.name.as_str(), group.termination_hooks[0].name.as_str()), ("web", "drain"));
    assert_eq!(group.termination_hooks[0].heartbeat_timeout, Duration::from_secs(300));
    assert_eq!(group.target_groups.iter().map(TargetGroupArn::name).collect::<Vec<_>>(), ["web"]);
    assert_eq!((group.min_size, group.max_size, group.desired_capacity), (1, 4, 3));
    assert_eq!((group.health_check_type.as_str(), group.subnets.len()), ("EC2", 3));
    assert_eq!(group.members, world.aws.autoscaling.group_state("web").await.unwrap().unwrap().members);
    let ours = group.members.iter().find(|member| member.instance_id == world.identity.instance_id).unwrap();
    assert_eq!((ours.lifecycle_state.as_str(), ours.availability_zone.as_str()), ("InService", "eu-west-1a"));
    assert_eq!(group_with_hooks(&world.aws, "nothing").await, None);
    let plain = owned_by(Owner::auto_scaling_group()).await;
    let group = group_with_hooks(&plain.aws, "web").await.unwrap();
    assert!(!group.capacity_rebalance && !group.mixes_spot_and_on_demand && group.termination_hooks.is_empty());
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: false, mixed_instances: true };
    let mixture = self::world(Settings { owner, on_demand_percentage: Some(50), ..Settings::default() }).await;
    let group = group_with_hooks(&mixture.aws, "web").await.unwrap();
    assert!(group.mixes_spot_and_on_demand);
}

#[tokio::test]
async fn detaching_launches_another_and_a_second_time_is_refused() {
    let world = owned_by(Owner::auto_scaling_group()).await;
    let (autoscaling, ours) = (&world.aws.autoscaling, &world.identity.instance_id);
    autoscaling.detach_instances("web", ours, false).await.unwrap();
    let sent = world.sent("DetachInstances");
    assert_eq!(sent["ShouldDecrementDesiredCapacity"], "false");
    eventually(async || world.sim.successors().len() == 1).await;
    eventually(async || {
        let members = autoscaling.group_state("web").await.unwrap().unwrap().members;
        !members.iter().any(|member| member.instance_id == *ours)
    })
    .await;
    let failure = autoscaling.detach_instances("web", ours, true).await.unwrap_err();
    assert_eq!((failure.kind, failure.code.as_deref()), (FailureKind::Rejected, Some("ValidationError")));
    assert_eq!(world.sent("DetachInstances")["ShouldDecrementDesiredCapacity"], "true");
}

#[tokio::test]
async fn a_hook_is_kept_waiting_and_completed() {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    // The group drains first, and opens the hook afterwards.
    let web = TargetGroupSettings { deregistration_delay: Duration::from_secs(1), ..TargetGroupSettings::named("web") };
    let world = world(Settings { owner, target_groups: vec![web], ..Settings::default() }).await;
    let (autoscaling, ours) = (&world.aws.autoscaling, &world.identity.instance_id);
    let action = LifecycleAction { group: "web", hook: "drain", instance_id: ours };
    let early = autoscaling.complete_lifecycle_action(action, HookResult::Continue).await.unwrap_err();
    assert!(early.message.contains("No active Lifecycle Action"), "{early}");
    autoscaling.terminate_instance_in_auto_scaling_group(ours, false).await.unwrap();
    eventually(async || {
        let members = autoscaling.group_state("web").await.unwrap().unwrap().members;
        members.iter().any(|member| member.instance_id == *ours && member.lifecycle_state == "Terminating:Wait")
    })
    .await;
    autoscaling.record_lifecycle_action_heartbeat(action).await.unwrap();
    autoscaling.complete_lifecycle_action(action, HookResult::Continue).await.unwrap();
    let sent = world.sent("CompleteLifecycleAction");
    assert_eq!((sent["LifecycleActionResult"].as_str(), sent["InstanceId"].as_str()), ("CONTINUE", ours.as_str()));
    eventually(async || {
        let instance = &world.aws.ec2.describe_instances(std::slice::from_ref(ours)).await.unwrap()[0];
        matches!(instance.state, InstanceState::ShuttingDown | InstanceState::Terminated)
    })
    .await;
}

#[tokio::test]
async fn launch_instances_answers_with_an_id_or_with_errors() {
    let world = owned_by(Owner::auto_scaling_group()).await;
    let autoscaling = &world.aws.autoscaling;
    let zone = |name: &str| Some(name.to_owned());
    world.sim.no_capacity(vec![Pool::spot("m5.large", "eu-west-1b")]);
    let launched = autoscaling.launch_instances("web", "token-1", 1, zone("eu-west-1b")).await.unwrap();
    assert!(
        launched.instances.is_empty() && launched.errors[0].contains("InsufficientInstanceCapacity"),
        "{launched:?}"
    );
    let refused = autoscaling.launch_instances("web", "token-0", 1, None).await.unwrap_err();
    assert_eq!((refused.kind, refused.code.as_deref()), (FailureKind::Rejected, Some("ValidationError")));
    let launched = autoscaling.launch_instances("web", "token-2", 1, zone("eu-west-1a")).await.unwrap();
    assert_eq!((launched.instances.len(), launched.errors.len()), (1, 0));
    let again = autoscaling.launch_instances("web", "token-2", 1, zone("eu-west-1a")).await.unwrap();
    assert_eq!(again, launched);
    let mismatch = autoscaling.launch_instances("web", "token-2", 1, zone("eu-west-1b")).await.unwrap_err();
    assert_eq!(mismatch.code.as_deref(), Some("IdempotentParameterMismatch"));
    let full = autoscaling.launch_instances("web", "token-3", 1, zone("eu-west-1a")).await;
    assert!(full.is_err_and(|failure| failure.kind == FailureKind::Rejected));
}

#[tokio::test]
async fn an_ec2_fleet_is_described_counted_and_changed_without_terminating_anybody() {
    let owner = Owner::Ec2Fleet { type_: SimFleetType::Maintain, replacement_strategy: Some("launch".into()) };
    let world = owned_by(owner).await;
    let id = world.owner_tag("aws:ec2:fleet-id").await;
    let fleets = &world.aws.ec2;
    let fleet = fleets.describe_fleet(&id).await.unwrap().unwrap();
    assert_eq!((fleet.request_type, fleet.replacement_strategy.as_deref()), (FleetType::Maintain, Some("launch")));
    assert_eq!((fleet.capacity.total, fleet.capacity.fulfilled), (3, 3));
    assert!(fleet.launch_configurations[0].template.id_or_name.starts_with("lt-"));
    assert_eq!(fleet.launch_configurations[0].overrides[0].instance_type.as_deref(), Some("m5.large"));
    assert!(fleet.target_groups.is_empty());
    world.sim.notice("terminate", Duration::from_secs(120));
    let members = fleets.fleet_members(FleetKind::Ec2, &id).await.unwrap().members;
    let under_notice: Vec<_> = members.iter().filter(|member| member.taken_since.is_some()).collect();
    assert_eq!((members.len(), under_notice.len()), (3, 1));
    assert_eq!(under_notice[0].instance_id, world.identity.instance_id);
    let spot = fleet.capacity.spot.map(|spot| spot + 1);
    assert_eq!((fleet.state, fleet.excess), (FleetState::Active, ExcessCapacity::Terminates));
    let raise = FleetChange { total: Some(4), spot, excess: Some(ExcessCapacity::Stays), ..FleetChange::default() };
    fleets.modify_fleet(&id, raise).await.unwrap();
    assert_eq!(world.sent("ModifyFleet")["ExcessCapacityTerminationPolicy"], "no-termination");
    assert_eq!(fleets.describe_fleet(&id).await.unwrap().unwrap().excess, ExcessCapacity::Stays);
    let back = FleetChange { excess: Some(ExcessCapacity::Terminates), ..FleetChange::default() };
    fleets.modify_fleet(&id, back).await.unwrap();
    assert_eq!(fleets.describe_fleet(&id).await.unwrap().unwrap().excess, ExcessCapacity::Terminates);
    eventually(async || {
        let capacity = fleets.describe_fleet(&id).await.unwrap().unwrap().capacity;
        (capacity.total, capacity.fulfilled) == (4, 4)
    })
    .await;
    assert_eq!(fleets.describe_fleet("fleet-00000000-0000-0000-0000-000000000000").await.unwrap(), None);
}

#[tokio::test]
async fn a_fleet_bears_tags_that_come_and_go() {
    let world = owned_by(Owner::ec2_fleet(SimFleetType::Maintain)).await;
    let id = world.owner_tag("aws:ec2:fleet-id").await;
    let tags = async || world.aws.ec2.describe_fleet(&id).await.unwrap().unwrap().tags;
    world.aws.ec2.create_tags(&id, &[("spot-relay:base", "3"), ("k", "v")]).await.unwrap();
    assert_eq!(tags().await.get("spot-relay:base").map(String::as_str), Some("3"));
    world.aws.ec2.delete_tags(&id, &["spot-relay:base"]).await.unwrap();
    assert_eq!(tags().await.into_iter().collect::<Vec<_>>(), [("k".to_owned(), "v".to_owned())]);
}

#[tokio::test]
async fn an_instant_fleet_is_described_and_cannot_be_changed() {
    let world = owned_by(Owner::ec2_fleet(SimFleetType::Instant)).await;
    let id = world.owner_tag("aws:ec2:fleet-id").await;
    let fleet = world.aws.ec2.describe_fleet(&id).await.unwrap().unwrap();
    assert_eq!((fleet.request_type, fleet.replacement_strategy), (FleetType::Instant, None));
    assert!(world.aws.ec2.modify_fleet(&id, FleetChange { total: Some(4), ..FleetChange::default() }).await.is_err());
}

#[tokio::test]
async fn a_spot_fleet_is_described_with_its_target_groups_counted_and_changed() {
    let world = owned_by(Owner::spot_fleet(SimFleetType::Maintain)).await;
    let id = world.owner_tag("aws:ec2spot:fleet-request-id").await;
    let fleets = &world.aws.ec2;
    let fleet = fleets.describe_spot_fleet_request(&id).await.unwrap().unwrap();
    assert_eq!((fleet.request_type, fleet.replacement_strategy), (FleetType::Maintain, None));
    assert_eq!((fleet.capacity.total, fleet.capacity.spot, fleet.capacity.fulfilled), (3, None, 3));
    assert_eq!(fleet.target_groups.iter().map(TargetGroupArn::name).collect::<Vec<_>>(), ["web"]);
    assert!(!fleet.launch_configurations.is_empty());
    world.sim.notice("stop", Duration::from_secs(120));
    let members = fleets.fleet_members(FleetKind::Spot, &id).await.unwrap().members;
    assert_eq!((members.len(), members.iter().filter(|member| member.taken_since.is_some()).count()), (3, 1));
    let raise = FleetChange { total: Some(4), excess: Some(ExcessCapacity::Stays), ..FleetChange::default() };
    fleets.modify_spot_fleet_request(&id, raise).await.unwrap();
    assert_eq!(world.sent("ModifySpotFleetRequest")["ExcessCapacityTerminationPolicy"], "noTermination");
    let back = FleetChange { excess: Some(ExcessCapacity::Terminates), ..FleetChange::default() };
    fleets.modify_spot_fleet_request(&id, back).await.unwrap();
    let fleet = fleets.describe_spot_fleet_request(&id).await.unwrap().unwrap();
    assert_eq!((fleet.excess, fleet.capacity.total), (ExcessCapacity::Terminates, 4));
    eventually(async || fleets.describe_spot_fleet_request(&id).await.unwrap().unwrap().capacity.fulfilled == 4).await;
    assert_eq!(fleets.describe_spot_fleet_request("sfr-00000000-0000-0000-0000-000000000000").await.unwrap(), None);
}

fn instant(template: LaunchTemplate, market: Market, overrides: Vec<LaunchOverride>) -> InstantFleet {
    let tags = BTreeMap::from([("spot-relay:predecessor".to_owned(), "i-1".to_owned())]);
    InstantFleet { launch_configurations: vec![LaunchConfiguration { template, overrides }], market, tags }
}

#[tokio::test]
async fn an_instant_fleet_launches_one_and_the_same_token_launches_no_other() {
    let world = owned_by(Owner::LaunchTemplate).await;
    let (templates, template) = (&world.aws.ec2, world.template().await);
    let fleet = instant(template.clone(), Market::Spot, vec![]);
    let launched = templates.create_fleet(&fleet, "token-1").await.unwrap();
    assert_eq!((launched.instances.len(), launched.errors.len()), (1, 0));
    assert_eq!(templates.create_fleet(&fleet, "token-1").await.unwrap(), launched);
    assert_eq!(world.sim.successors().len(), 1);
    let sent = world.sent("CreateFleet");
    assert_eq!(sent["SpotOptions.AllocationStrategy"], "price-capacity-optimized");
    assert_eq!(sent["TargetCapacitySpecification.TotalTargetCapacity"], "1");
    assert_eq!(sent["TargetCapacitySpecification.DefaultTargetCapacityType"], "spot");
    let successor = world.aws.ec2.describe_instances(&launched.instances).await.unwrap().remove(0);
    assert_eq!(successor.tags["spot-relay:predecessor"], "i-1");
    assert_eq!(successor.instance_type, "m5.large");
    let other = instant(template, Market::OnDemand, vec![]);
    let mismatch = templates.create_fleet(&other, "token-1").await.unwrap_err();
    assert_eq!((mismatch.kind, mismatch.code.as_deref()), (FailureKind::Rejected, Some("IdempotentParameterMismatch")));
    assert_eq!(templates.create_fleet(&other, "token-2").await.unwrap().instances.len(), 1);
    let sent = world.sent("CreateFleet");
    assert_eq!(sent["TargetCapacitySpecification.DefaultTargetCapacityType"], "on-demand");
    assert_eq!(sent["OnDemandOptions.AllocationStrategy"], "lowest-price");
}

#[tokio::test]
async fn errors_of_a_200_are_read_and_overrides_arrive() {
    let settings =
        Settings { no_capacity: vec![Pool::spot("*", "*")], owner: Owner::LaunchTemplate, ..Settings::default() };
    let world = world(settings).await;
    let pool = |weight| LaunchOverride {
        instance_type: Some("m5.xlarge".into()),
        availability_zone: Some("eu-west-1b".into()),
        max_price: Some("0.10".into()),
        weight_hundredths: Some(weight),
        ..LaunchOverride::default()
    };
    let fleet = instant(world.template().await, Market::Spot, vec![pool(400)]);
    let launched = world.aws.ec2.create_fleet(&fleet, "token-1").await.unwrap();
    assert!(launched.instances.is_empty());
    assert_eq!(launched.errors.len(), 1);
    assert!(launched.errors[0].starts_with("InsufficientInstanceCapacity: "), "{launched:?}");
    let sent = world.sent("CreateFleet");
    let overrides = "LaunchTemplateConfigs.1.Overrides.1";
    assert_eq!(sent[&format!("{overrides}.InstanceType")], "m5.xlarge");
    assert_eq!(
        (&sent[&format!("{overrides}.MaxPrice")], &sent[&format!("{overrides}.WeightedCapacity")]),
        (&"0.10".into(), &"4.0".into())
    );
    // Half a unit each would make two of one.
    let fleet = instant(world.template().await, Market::Spot, vec![pool(50)]);
    world.aws.ec2.create_fleet(&fleet, "token-2").await.unwrap();
    assert!(!world.sent("CreateFleet").contains_key(&format!("{overrides}.WeightedCapacity")));
}

#[tokio::test]
async fn a_template_says_what_it_launches() {
    let world = owned_by(Owner::LaunchTemplate).await;
    let template = world.template().await;
    let facts = world.aws.ec2.describe_launch_template(&template).await.unwrap().unwrap();
    assert_eq!((facts.id.as_str(), facts.name.as_str(), facts.version), (template.id_or_name.as_str(), "web", 1));
    assert_eq!(facts.instance_type.as_deref(), Some("m5.large"));
    assert!(facts.instance_profile.is_some());
    let by_name = LaunchTemplate { id_or_name: "web".into(), version: "$Latest".into() };
    assert_eq!(world.aws.ec2.describe_launch_template(&by_name).await.unwrap(), Some(facts));
    for (id_or_name, version) in [("lt-00000000000000000", "1"), ("nothing", "1"), ("web", "77")] {
        let absent = LaunchTemplate { id_or_name: id_or_name.into(), version: version.into() };
        assert_eq!(world.aws.ec2.describe_launch_template(&absent).await.unwrap(), None, "{absent:?}");
    }
}

#[tokio::test]
async fn instances_are_described_by_id_by_tag_and_by_address() {
    let world = owned_by(Owner::auto_scaling_group()).await;
    let (instances, ours) = (&world.aws.ec2, &world.identity.instance_id);
    let instance = instances.describe_instances(std::slice::from_ref(ours)).await.unwrap().remove(0);
    assert_eq!((&instance.instance_id, instance.state), (ours, InstanceState::Running));
    assert_eq!(instance.private_ip.as_deref(), Some(world.identity.private_ip.as_str()));
    assert_eq!(instance.availability_zone, world.identity.availability_zone);
    assert!(instance.launch_time.is_some() && instance.tags["Name"] == "web");
    assert_eq!(world.identity.life_cycle, LifeCycle::Spot);
    let tag = ("aws:autoscaling:groupName", "web");
    let tagged = instances.describe_instances_by_tag(tag.0, tag.1).await.unwrap();
    let running = tagged.iter().filter(|instance| instance.state == InstanceState::Running);
    assert_eq!(
        running.map(|instance| instance.availability_zone.as_str()).filter(|zone| *zone == "eu-west-1a").count(),
        2
    );
    assert_eq!(tagged.len(), 3);
    let (vpc_id, _) = instances.place_of(ours).await.unwrap().unwrap();
    let addresses = [world.identity.private_ip.clone(), "192.0.2.1".to_owned()];
    let held = async |vpc_id: &str| instances.describe_instances_by_address(vpc_id, &addresses).await.unwrap();
    let ours_alone = held(&vpc_id).await;
    assert_eq!(ours_alone.len(), 1);
    assert_eq!((&ours_alone[0].instance_id, &ours_alone[0].addresses[..]), (ours, &addresses[..1]));
    assert_eq!(held("vpc-of-others").await, []);
    let unknown = instances.describe_instances(&[InstanceId::new("i-00000000000000000")]).await.unwrap_err();
    assert_eq!((unknown.kind, unknown.code.as_deref()), (FailureKind::Rejected, Some("InvalidInstanceID.NotFound")));
}

#[tokio::test]
async fn subnets_are_described_with_their_zones() {
    let world = owned_by(Owner::auto_scaling_group()).await;
    let instances = &world.aws.ec2;
    let instance =
        instances.describe_instances(std::slice::from_ref(&world.identity.instance_id)).await.unwrap().remove(0);
    let own = instances.describe_subnets(&[instance.subnet_id.unwrap()]).await.unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].availability_zone, world.identity.availability_zone);
    let all = instances.describe_subnets(&[]).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(all.contains(&own[0]));
}

#[tokio::test]
async fn a_state_that_bears_a_name_and_no_code_is_told_by_its_name() {
    let world = world(Settings::default()).await;
    for (name, state) in [("running", InstanceState::Running), ("shutting-down", InstanceState::ShuttingDown)] {
        let body = format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>\
             <instanceState><name>{name}</name></instanceState></item></instancesSet></item></reservationSet>\
             </DescribeInstancesResponse>"
        );
        let kind = FaultKind::Body { status: 200, body };
        world.sim.clear_faults();
        world.sim.fault(Fault { service: None, action: "DescribeInstances".to_owned(), nth: Nth::All, kind });
        let told = world.aws.ec2.describe_instances(&[InstanceId::new("i-1")]).await.unwrap();
        assert_eq!(told.iter().map(|it| it.state).collect::<Vec<_>>(), [state]);
    }
}

#[tokio::test]
async fn a_spot_status_without_a_date_counts_from_its_first_sight() {
    let world = owned_by(Owner::ec2_fleet(SimFleetType::Maintain)).await;
    let fleet = world.owner_tag("aws:ec2:fleet-id").await;
    let us = &world.identity.instance_id;
    let body = format!(
        "<DescribeSpotInstanceRequestsResponse><spotInstanceRequestSet><item><instanceId>{us}</instanceId><status>\
         <code>instance-terminated-no-capacity</code></status></item></spotInstanceRequestSet>\
         </DescribeSpotInstanceRequestsResponse>"
    );
    let (action, kind) = ("DescribeSpotInstanceRequests".to_owned(), FaultKind::Body { status: 200, body });
    world.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
    let mut taken_since = Vec::new();
    for _ in 0..2 {
        let members = world.aws.ec2.fleet_members(FleetKind::Ec2, &fleet).await.unwrap().members;
        taken_since.extend(members.iter().find(|member| member.instance_id == *us).expect("this instance").taken_since);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(taken_since.len() == 2 && taken_since[0] == taken_since[1], "{taken_since:?}");
}

#[tokio::test]
async fn a_member_without_a_lifecycle_state_is_taken_for_one_in_service() {
    let world = world(Settings::default()).await;
    for (told, state) in [("", "InService"), ("<LifecycleState>Terminating:Wait</LifecycleState>", "Terminating:Wait")]
    {
        let body = format!(
            "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
             <AutoScalingGroupName>web</AutoScalingGroupName><Instances><member><InstanceId>i-1</InstanceId>{told}</member>\
             </Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
        );
        let (action, kind) = ("DescribeAutoScalingGroups".to_owned(), FaultKind::Body { status: 200, body });
        world.sim.clear_faults();
        world.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
        let members = world.aws.autoscaling.group_state("web").await.unwrap().expect("the group").members;
        assert_eq!(members.iter().map(|member| member.lifecycle_state.as_str()).collect::<Vec<_>>(), [state]);
    }
}

#[tokio::test]
async fn an_answer_with_a_date_that_cannot_be_read_is_told_as_that() {
    let world = world(Settings::default()).await;
    let body = "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>\
                <AutoScalingGroupName>web</AutoScalingGroupName><CreatedTime>2026-11-28T14:06:00.123456</CreatedTime></member>\
                </AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>";
    let (action, kind) =
        ("DescribeAutoScalingGroups".to_owned(), FaultKind::Body { status: 200, body: body.to_owned() });
    world.sim.fault(Fault { service: None, action, nth: Nth::All, kind });
    let failure = world.aws.autoscaling.group_state("web").await.unwrap_err();
    assert!(failure.message.starts_with("an answer whose contents cannot be read"), "{failure}");
    assert!(failure.message.contains("imestamp") && !failure.message.contains("without an error"), "{failure}");
}

#[tokio::test]
async fn a_write_is_accepted_by_the_status_of_its_answer() {
    let world = world(Settings::default()).await;
    for action in ["ModifyFleet", "ModifySpotFleetRequest", "DetachInstances", "DeregisterTargets", "CreateTags"] {
        for (status, body) in [(200, ""), (200, "OK"), (500, "")] {
            let kind = FaultKind::Body { status, body: body.to_owned() };
            world.sim.clear_faults();
            world.sim.fault(Fault { service: None, action: action.to_owned(), nth: Nth::All, kind });
            let (aws, change) =
                (&world.aws, FleetChange { total: Some(3), spot: None, excess: None, unit: CapacityUnit::Instances });
            let us = &world.identity.instance_id;
            let answer = match action {
                "ModifyFleet" => aws.ec2.modify_fleet("fleet-1", change).await,
                "ModifySpotFleetRequest" => aws.ec2.modify_spot_fleet_request("sfr-1", change).await,
                "DetachInstances" => aws.autoscaling.detach_instances("web", us, true).await,
                "DeregisterTargets" => {
                    let target = Target { id: us.to_string(), port: 80 };
                    let group = TargetGroupArn::new("arn:aws:elasticloadbalancing:r:1:targetgroup/web/0");
                    aws.elb.deregister_targets(&group, &[target], &TargetZone::Implied).await
                }
                _ => aws.ec2.create_tags("i-1", &[("a", "b")]).await,
            };
            assert_eq!(answer.is_ok(), status == 200, "{action} {status} {body:?}: {answer:?}");
        }
    }
}
