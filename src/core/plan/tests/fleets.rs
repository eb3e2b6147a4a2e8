//! A fleet whose capacity is raised: its members under notice, their weights, and who puts it right.

use super::*;

fn now() -> jiff::Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

fn seconds_ago(seconds: i64) -> jiff::Timestamp {
    now() - jiff::SignedDuration::from_secs(seconds)
}

fn running(id: &str) -> Instance {
    Instance {
        instance_id: InstanceId::new(id),
        state: InstanceState::Running,
        instance_type: "m5.large".into(),
        availability_zone: "eu-west-1a".into(),
        private_ip: None,
        ipv6_address: None,
        addresses: Vec::new(),
        subnet_id: None,
        launch_time: None,
        tags: BTreeMap::new(),
        state_reason: None,
        vcpus: None,
        is_on_demand: false,
    }
}

fn member(id: &str, instance_type: &str, under_notice: bool) -> FleetMember {
    FleetMember {
        instance_id: InstanceId::new(id),
        instance_type: instance_type.into(),
        memory_mib: None,
        instance: Some(running(id)),
        taken_since: under_notice.then(|| seconds_ago(60)),
    }
}

#[test]
fn a_member_is_under_notice_while_it_runs_and_its_request_said_so_lately_or_it_is_marked() {
    let taken = |seconds| FleetMember { taken_since: Some(seconds_ago(seconds)), ..member("i-b", "m5.large", false) };
    let in_state = |state, of: FleetMember| FleetMember { instance: Some(Instance { state, ..running("i-b") }), ..of };
    let marked = |mark: &str| FleetMember {
        instance: Some(Instance { tags: tags(&[(LEAVING_TAG, mark)]), ..running("i-b") }),
        ..member("i-b", "m5.large", false)
    };
    assert!(!is_under_notice(&member("i-b", "m5.large", false), now()));
    assert!(is_under_notice(&taken(0), now()) && is_under_notice(&taken(179), now()));
    assert!(!is_under_notice(&taken(200), now()), "an interruption that was called off");
    assert!(!is_under_notice(&in_state(InstanceState::ShuttingDown, taken(125)), now()), "dead, and still listed");
    assert!(is_under_notice(&FleetMember { instance: None, ..taken(5) }, now()), "EC2 does not know it at the moment");
    assert!(is_under_notice(&marked("when a successor serves"), now()));
    assert!(is_under_notice(&marked("2026-01-01T12:01:30Z"), now()));
    assert!(!is_under_notice(&marked("2026-01-01T11:30:00Z"), now()), "a mark that nobody took off");
    assert_eq!(goes_at(&taken(20)), Some(seconds_ago(-100)));
    assert_eq!(goes_at(&marked("2026-01-01T12:01:30Z")), Some(seconds_ago(-90)));
}

#[test]
fn this_instance_counts_as_under_notice_before_its_request_says_so() {
    let mut fleet = fleet(FleetType::Maintain, None);
    fleet.launch_configurations = Vec::new();
    let members =
        [member("i-us", "m5.large", false), member("i-b", "m5.large", true), member("i-c", "m5.large", false)];
    assert_eq!(units_under_notice(&fleet, &members, &identity(), now()), 2);
}

#[test]
fn members_count_by_their_weights() {
    let fleet = fleet(FleetType::Maintain, None);
    let members = [member("i-us", "m5.large", true), member("i-b", "m5.large", true), member("i-c", "c5.large", true)];
    // Two halves and one without a weight.
    assert_eq!(units_under_notice(&fleet, &members, &identity(), now()), 2);
}

#[test]
fn in_a_fleet_of_vcpus_a_member_counts_for_its_own_unless_its_type_has_a_weight() {
    let of = |id: &str, instance_type: &str, vcpus: u32| FleetMember {
        instance: Some(Instance { vcpus: Some(vcpus), ..running(id) }),
        ..member(id, instance_type, true)
    };
    let members = [of("i-us", "c5.large", 2), of("i-b", "c5.xlarge", 4)];
    let counted = |unit: CapacityUnit| {
        let fleet = Fleet { unit, launch_configurations: Vec::new(), ..fleet(FleetType::Maintain, None) };
        let us = Identity { instance_type: "c5.large".into(), ..identity() };
        units_under_notice(&fleet, &members, &us, now())
    };
    assert_eq!((counted(CapacityUnit::Instances), counted(CapacityUnit::Vcpus)), (2, 6));
    let weighted = Fleet { unit: CapacityUnit::Vcpus, ..fleet(FleetType::Maintain, None) };
    assert_eq!(units_under_notice(&weighted, &[of("i-us", "m5.large", 2)], &identity(), now()), 1, "by its weight");
}

#[test]
fn in_a_fleet_of_memory_a_member_counts_for_that_of_its_type_and_a_large_fleet_is_counted_too() {
    let unit = CapacityUnit::MemoryMib;
    let fleet = Fleet { unit, launch_configurations: Vec::new(), ..fleet(FleetType::Maintain, None) };
    let of = |id: &str, memory_mib| FleetMember { memory_mib, ..member(id, "m5.large", true) };
    let counted = |members: &[FleetMember]| units_under_notice(&fleet, members, &identity(), now());
    assert_eq!(counted(&[of("i-us", Some(8_192)), of("i-b", Some(16_384)), of("i-c", None)]), 24_577);
    let large = std::iter::once("i-us".to_owned()).chain((1..80).map(|number| format!("i-{number}")));
    let large: Vec<FleetMember> = large.map(|id| of(&id, Some(786_432))).collect();
    assert_eq!(counted(&large), 80 * 786_432);
}

#[test]
fn a_fleet_whose_tags_leave_no_room_for_that_of_a_raise_is_spoken_of_beforehand() {
    let with = |count: usize, more: &str| {
        let of_users = (0..count).map(|number| (format!("tag-{number}"), String::new()));
        let tags = of_users.chain([(more.to_owned(), "4..5".to_owned())]).collect();
        let fleet = Fleet { tags, ..fleet(FleetType::Maintain, None) };
        plan(&Owner::Fleet(FleetKind::Ec2, fleet)).remarks().len()
    };
    assert_eq!([with(49, "aws:of-its-own"), with(50, "aws:of-its-own")], [0, 1]);
    assert_eq!([with(48, "another"), with(49, "another"), with(49, BASE_CAPACITY_TAG)], [0, 1, 0]);
}

#[test]
fn a_fleets_units_are_not_taken_for_instances() {
    let of = |unit, fulfilled, pool: LaunchOverride| {
        let template = LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() };
        let launch_configurations = vec![LaunchConfiguration { template, overrides: vec![pool] }];
        let capacity = FleetCapacity { total: fulfilled, spot: None, fulfilled };
        let fleet = Fleet { unit, capacity, launch_configurations, ..fleet(FleetType::Maintain, None) };
        fleet.instances_at_most()
    };
    let requiring = |vcpus, memory| {
        let requirements = InstanceRequirements {
            vcpu_count: (Some(vcpus), None),
            memory_mib: (Some(memory), None),
            ..Default::default()
        };
        LaunchOverride { requirements: Some(requirements), ..LaunchOverride::default() }
    };
    let weighing = |hundredths| LaunchOverride { weight_hundredths: Some(hundredths), ..LaunchOverride::default() };
    assert_eq!(of(CapacityUnit::Instances, 3, LaunchOverride::default()), 3);
    assert_eq!(of(CapacityUnit::Instances, 30, weighing(800)), 3);
    assert_eq!(of(CapacityUnit::Instances, 3, weighing(50)), 6);
    assert_eq!(of(CapacityUnit::Vcpus, 12, requiring(2, 0)), 6);
    assert_eq!(of(CapacityUnit::MemoryMib, 32_768, requiring(1, 8_192)), 4);
    assert_eq!(of(CapacityUnit::MemoryMib, 32_768, requiring(1, 0)), 64, "none is smaller than half a GiB");
}

#[test]
fn whoever_finds_the_tag_and_nobody_under_notice_puts_the_fleet_right() {
    let tagged = |total, excess, value: &str| Fleet {
        capacity: FleetCapacity { total, spot: None, fulfilled: 0 },
        tags: tags(&[(BASE_CAPACITY_TAG, value)]),
        launch_configurations: Vec::new(),
        excess,
        ..fleet(FleetType::Maintain, None)
    };
    let living = |count: usize| vec![member("i-us", "m5.large", false); count];
    let (terminates, stays) = (ExcessCapacity::Terminates, ExcessCapacity::Stays);
    let right = |base, terminates_excess, untag| Leftover::Now(PutRight { base, terminates_excess, untag });
    let leftover = |fleet: &Fleet, members: &[FleetMember]| leftover(fleet, members, now());
    assert_eq!(leftover(&tagged(5, stays, "4..6"), &living(5)), right(Some(4), false, true), "by an older version");
    assert_eq!(leftover(&tagged(4, stays, "4..6"), &living(4)), right(None, false, true));
    assert_eq!(leftover(&tagged(8, stays, "4..6"), &living(8)), right(None, false, true), "somebody set it since");
    assert_eq!(leftover(&tagged(5, stays, "4..6 termination"), &living(4)), right(Some(4), true, true));
    let word = "its policy comes back when no member exceeds the target";
    assert_eq!(leftover(&tagged(5, stays, "4..6 termination"), &living(5)), right(Some(4), false, false), "{word}");
    let surplus = Leftover::Surplus { living: 5, target: 4 };
    assert_eq!(leftover(&tagged(4, stays, "4..6 termination"), &living(5)), surplus, "{word}");
    assert_eq!(leftover(&tagged(4, stays, "4..6 termination"), &living(4)), right(None, true, true));
    assert_eq!(leftover(&tagged(4, terminates, "4..6 termination"), &living(5)), right(None, false, true), "by hand");
    let since = "somebody has set it since it was back";
    assert_eq!(leftover(&tagged(5, stays, "4..6 termination back"), &living(5)), right(None, true, true), "{since}");
    assert_eq!(leftover(&tagged(5, stays, "4..6"), &[member("i-b", "m5.large", true)]), Leftover::Later);
    for (value, spot) in [("4..6", 1), ("4..6 spot-2", 2)] {
        let mixed = tagged(5, stays, value);
        let mixed = Fleet { capacity: FleetCapacity { spot: Some(2), ..mixed.capacity }, ..mixed };
        let Leftover::Now(right) = leftover(&mixed, &living(4)) else { panic!("{value}") };
        assert_eq!(right.changes(&mixed)[0].0, mixed.with_total(4, Some(spot)), "{value}");
    }
    let ended = Fleet { state: FleetState::Ended("deleted_running".into()), ..tagged(5, stays, "4..6 termination") };
    assert_eq!(leftover(&ended, &living(5)), right(None, false, true));
    let modifying = Fleet { state: FleetState::Modifying, ..tagged(5, stays, "4..6") };
    assert_eq!(leftover(&modifying, &living(5)), Leftover::Later);
    assert_eq!(leftover(&fleet(FleetType::Maintain, None), &living(4)), Leftover::Nothing);
}

#[test]
fn a_survivor_puts_right_what_no_other_victim_does_whatever_its_own_request_says() {
    let raised = |state| Fleet {
        capacity: FleetCapacity { total: 5, spot: None, fulfilled: 0 },
        tags: tags(&[(BASE_CAPACITY_TAG, "4..6")]),
        launch_configurations: Vec::new(),
        state,
        ..fleet(FleetType::Maintain, None)
    };
    let us = || member("i-us", "m5.large", true);
    let ours = InstanceId::new("i-us");
    let left = |fleet: &Fleet, members: Vec<FleetMember>| leftover_of_survivor(fleet, members, &ours, now());
    let right = Leftover::Now(PutRight { base: Some(4), terminates_excess: false, untag: true });
    assert_eq!(left(&raised(FleetState::Active), vec![us()]), right);
    let another = vec![us(), member("i-b", "m5.large", true)];
    assert_eq!(left(&raised(FleetState::Active), another), Leftover::Nothing, "the other's to put back");
    assert_eq!(left(&raised(FleetState::Modifying), vec![us()]), Leftover::Later);
    let untagged = |state| Fleet { tags: BTreeMap::new(), ..raised(state) };
    assert_eq!(left(&untagged(FleetState::Modifying), Vec::new()), Leftover::Later, "the last change goes on");
    assert_eq!(left(&untagged(FleetState::Active), Vec::new()), Leftover::Nothing);
}
