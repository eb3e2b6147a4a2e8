//! Where an instance is launched in place of ours: pools, zones, subnets.

use super::*;

fn three_zones() -> Surroundings {
    Surroundings {
        zone_of_subnet: tags(&[("s-a", "eu-west-1a"), ("s-b", "eu-west-1b"), ("s-c", "eu-west-1c")]),
        running_by_zone: [("eu-west-1a", 0), ("eu-west-1b", 5), ("eu-west-1c", 2)]
            .map(|(z, n)| (z.to_owned(), n))
            .into(),
        ..Surroundings::default()
    }
}

fn template_attempts(choice: &Successor, surroundings: &Surroundings) -> Vec<InstantFleet> {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    match Plan::of(&owner, &identity(), choice, surroundings) {
        Plan::Launch(launch) => launch.attempts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_zone_with_the_fewest_members_comes_first_and_the_reclaimed_pool_last() {
    let attempts = template_attempts(&Successor::default(), &three_zones());
    let tried: Vec<Vec<String>> = attempts.iter().map(zones).collect();
    let all = vec!["eu-west-1a", "eu-west-1b", "eu-west-1c"];
    assert_eq!(tried, [vec!["eu-west-1c"], vec!["eu-west-1b", "eu-west-1c"], all]);
    assert!(attempts.iter().all(|attempt| attempt.market == Market::Spot));
}

#[test]
fn on_demand_comes_last_and_only_if_allowed() {
    let choice = Successor { on_demand_fallback: true, ..Successor::default() };
    let attempts = template_attempts(&choice, &three_zones());
    assert_eq!(attempts.len(), 4);
    assert_eq!(attempts.last().map(|attempt| attempt.market), Some(Market::OnDemand));
}

#[test]
fn without_balance_all_other_pools_come_first() {
    let choice = Successor { balance_zones: BalanceZones(false), ..Successor::default() };
    let attempts = template_attempts(&choice, &three_zones());
    assert_eq!(zones(&attempts[0]), ["eu-west-1b", "eu-west-1c"]);
}

#[test]
fn another_type_in_the_same_zone_is_another_pool() {
    let choice = Successor { instance_types: vec!["m5.large".into(), "m6i.large".into()], ..Successor::default() };
    let one_zone = Surroundings { zone_of_subnet: tags(&[("s-a", "eu-west-1a")]), ..Surroundings::default() };
    let attempts = template_attempts(&choice, &one_zone);
    let types = |attempt: &InstantFleet| {
        let pools = attempt.launch_configurations[0].overrides.iter();
        pools.filter_map(|pool| pool.instance_type.clone()).collect::<Vec<_>>()
    };
    assert_eq!(types(&attempts[0]), ["m6i.large"]);
    assert_eq!(types(&attempts[1]), ["m5.large", "m6i.large"]);
}

#[test]
fn types_that_count_for_less_than_this_instance_come_after_all_others() {
    let pool = |(instance_type, zone, weight): (&str, &str, u32)| LaunchOverride {
        instance_type: Some(instance_type.into()),
        availability_zone: Some(zone.into()),
        weight_hundredths: Some(weight),
        ..LaunchOverride::default()
    };
    let pools = [("m5.medium", "eu-west-1b", 100), ("m5.large", "eu-west-1b", 800), ("m5.large", "eu-west-1a", 800)];
    let overrides = pools.into_iter().map(pool).collect();
    let launch_configurations = vec![LaunchConfiguration { overrides, ..configuration(&[]) }];
    let weighted = Fleet { launch_configurations, ..fleet(FleetType::Request, None) };
    let choice = Successor { on_demand_fallback: true, ..Successor::default() };
    let owner = Owner::Fleet(FleetKind::Ec2, weighted);
    let Plan::Launch(launch) = Plan::of(&owner, &identity(), &choice, &Surroundings::default()) else {
        panic!("{owner:?}")
    };
    let tried: Vec<Vec<String>> = launch.attempts.iter().map(zones).collect();
    let one_large = vec!["eu-west-1b"];
    let both_large = vec!["eu-west-1b", "eu-west-1a"];
    let with_medium = ["eu-west-1b", "eu-west-1b"].map(str::to_owned).to_vec();
    assert_eq!(tried[..3], [one_large, both_large.clone(), both_large]);
    assert_eq!(launch.attempts[2].market, Market::OnDemand);
    assert_eq!(tried[3], with_medium);
}

#[test]
fn an_override_without_a_type_lends_its_weight_where_it_is_the_only_one() {
    let weight = |pools: &[(Option<&str>, u32)]| {
        let pool = |(instance_type, weight): &(Option<&str>, u32)| LaunchOverride {
            instance_type: instance_type.map(str::to_owned),
            weight_hundredths: Some(*weight),
            ..LaunchOverride::default()
        };
        let template = LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() };
        let overrides = pools.iter().map(pool).collect();
        let launch_configurations = vec![LaunchConfiguration { template, overrides }];
        raised::weight_hundredths(&Fleet { launch_configurations, ..fleet(FleetType::Maintain, None) }, "m5.large")
    };
    assert_eq!(weight(&[(None, 400)]), 400);
    assert_eq!(weight(&[(None, 400), (None, 200)]), 100, "nobody knows which");
    assert_eq!(weight(&[(None, 400), (Some("m5.large"), 200)]), 200);
    assert_eq!(weight(&[(Some("c5.large"), 400)]), 100);
}

#[test]
fn a_spot_part_is_one_only_beside_the_other_part() {
    assert_eq!(FleetCapacity::spot_part(10, Some(0), Some(0)), None, "the default type decides");
    assert_eq!(FleetCapacity::spot_part(10, Some(7), Some(3)), Some(7));
    assert_eq!(FleetCapacity::spot_part(10, Some(10), None), Some(10));
    assert_eq!(FleetCapacity::spot_part(10, Some(0), Some(10)), Some(0));
    assert_eq!(FleetCapacity::spot_part(10, None, None), None);
}

#[test]
fn a_subnet_of_unknown_zone_stays_a_pool_and_one_that_is_gone_spoils_no_other() {
    let subnets = |around: &Surroundings| -> Vec<Vec<(Option<String>, Option<String>)>> {
        let attempts = template_attempts(&Successor::default(), around).into_iter();
        let pools = attempts.map(|attempt| attempt.launch_configurations.into_iter().flat_map(|it| it.overrides));
        pools.map(|pools| pools.map(|pool| (pool.subnet_id, pool.instance_type)).collect()).collect()
    };
    let pool = |subnet: &str| vec![(Some(subnet.to_owned()), Some("m5.large".to_owned()))];
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let denied = Surroundings { subnets_without_zone: named(&["s-1", "s-2"]), ..Surroundings::default() };
    assert_eq!(subnets(&denied), [pool("s-1"), pool("s-2")], "in turn: they may lie in one zone");
    let good = tags(&[("s-b", "eu-west-1b")]);
    let one_gone =
        Surroundings { zone_of_subnet: good, unknown_subnets: named(&["s-gone"]), ..Surroundings::default() };
    assert_eq!(subnets(&one_gone), [pool("s-b")]);
    let all_gone = Surroundings { unknown_subnets: named(&["s-gone"]), ..Surroundings::default() };
    assert_eq!(subnets(&all_gone), [pool("s-gone")], "nowhere else, without a word");
    let template = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let plan = Plan::of(&template, &identity(), &Successor::default(), &one_gone);
    assert!(plan.remarks().iter().any(|remark| remark.contains("AWS knows no s-gone")), "{:?}", plan.remarks());
}

#[test]
fn the_only_pool_is_tried_though_it_is_being_reclaimed() {
    let one_zone = Surroundings { zone_of_subnet: tags(&[("s-a", "eu-west-1a")]), ..Surroundings::default() };
    assert_eq!(template_attempts(&Successor::default(), &one_zone).len(), 1);
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let said =
        |surroundings: &Surroundings| Plan::of(&owner, &identity(), &Successor::default(), surroundings).to_string();
    assert!(said(&one_zone).contains("worst place"));
    assert!(!said(&three_zones()).contains("worst place"));
    let other_zone = Surroundings { zone_of_subnet: tags(&[("s-b", "eu-west-1b")]), ..Surroundings::default() };
    assert!(!said(&other_zone).contains("worst place"));
    assert_eq!(template_attempts(&Successor::default(), &Surroundings::default()).len(), 1);
}

#[test]
fn no_attempt_names_a_pool_twice_and_the_subnets_of_a_zone_take_turns() {
    let choice = Successor {
        on_demand_fallback: true,
        instance_types: vec!["m5.large".into(), "m5.large".into()],
        ..Successor::default()
    };
    let crowded = Surroundings {
        zone_of_subnet: tags(&[
            ("s-a", "eu-west-1a"),
            ("s-b1", "eu-west-1b"),
            ("s-b2", "eu-west-1b"),
            ("s-b3", "eu-west-1b"),
        ]),
        ..Surroundings::default()
    };
    let attempts = template_attempts(&choice, &crowded);
    let mut used = std::collections::BTreeSet::new();
    for attempt in &attempts {
        let mut zones = zones(attempt);
        used.extend(attempt.launch_configurations[0].overrides.iter().filter_map(|pool| pool.subnet_id.clone()));
        zones.sort();
        let count = zones.len();
        zones.dedup();
        assert_eq!(zones.len(), count, "{attempt:?}");
    }
    assert_eq!(used.len(), 4, "every subnet has its turn: {attempts:#?}");
    let zones = crowded_zones(&crowded.zone_of_subnet);
    assert_eq!(zones.into_iter().collect::<Vec<_>>(), [("eu-west-1b", vec!["s-b1", "s-b2", "s-b3"])]);
}

#[test]
fn a_fleets_override_with_several_subnets_is_made_into_one_for_each() {
    let mut owner = fleet(FleetType::Request, None);
    owner.launch_configurations[0].overrides = vec![LaunchOverride {
        instance_type: Some("m5.large".into()),
        subnet_id: Some("s-b, s-c".into()),
        ..LaunchOverride::default()
    }];
    let Plan::Launch(launch) =
        Plan::of(&Owner::Fleet(FleetKind::Ec2, owner), &identity(), &Successor::default(), &three_zones())
    else {
        panic!("a launch plan")
    };
    for attempt in &launch.attempts {
        assert!(
            attempt.launch_configurations[0].overrides.iter().all(|pool| !pool
                .subnet_id
                .as_ref()
                .unwrap()
                .contains(','))
        );
    }
}

#[test]
fn a_template_that_names_its_subnet_in_an_interface_gets_none() {
    let traits =
        TemplateTraits { own_subnet: Some(OwnSubnet { zone: Some("eu-west-1b".into()) }), ..TemplateTraits::default() };
    let choice = Successor { subnets: vec!["s-c".into()], ..Successor::default() };
    let attempts = template_attempts(&choice, &Surroundings { traits: traits.clone(), ..three_zones() });
    assert!(!attempts.is_empty());
    for attempt in &attempts {
        let pools = &attempt.launch_configurations[0].overrides;
        assert!(pools.iter().all(|pool| pool.subnet_id.is_none() && pool.availability_zone.is_none()), "{pools:?}");
    }
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let plan = Plan::of(&owner, &identity(), &choice, &Surroundings { traits, ..three_zones() });
    assert!(!plan.to_string().contains("worst place"), "{plan}");
    let Plan::Launch(launch) = plan else { panic!("a launch plan") };
    assert!(launch.remarks[0].contains("[successor] subnets are not used"), "{:?}", launch.remarks);
}

#[test]
fn what_is_unwise_about_a_launch_is_told() {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let remarks = |around: Surroundings| Plan::of(&owner, &identity(), &Successor::default(), &around).remarks();
    let traits = TemplateTraits { names_interface: true, ..TemplateTraits::default() };
    let named = remarks(Surroundings { traits, ..three_zones() });
    assert!(matches!(named.as_slice(), [one] if one.contains("NetworkInterfaceId")), "{named:?}");
    let replaced_too = Some("fleet-1 replaces it too".to_owned());
    assert_eq!(remarks(Surroundings { replaced_too, ..three_zones() }), ["fleet-1 replaces it too"]);
}

#[test]
fn beside_a_launch_template_that_is_named_the_owner_of_the_tags_may_replace_too() {
    let choice = |owner| Successor { owner, ..Successor::default() };
    let of = |pairs: &[(&str, &str)], owner| Clue::second_owner(&tags(pairs), &choice(owner));
    let fleet = [(FLEET_TAG, "fleet-1"), ("aws:ec2launchtemplate:id", "lt-1")];
    assert_eq!(of(&fleet, OwnerChoice::LaunchTemplate), Some(Clue::Fleet(FleetKind::Ec2, "fleet-1".into())));
    assert_eq!(of(&fleet, OwnerChoice::Discover), None);
    assert_eq!(of(&fleet[1..], OwnerChoice::LaunchTemplate), None);
    let successor = [fleet[0], (PREDECESSOR_TAG, "i-before")];
    assert_eq!(of(&successor, OwnerChoice::LaunchTemplate), None, "its instant fleet replaces nobody");
}

#[test]
fn each_round_of_single_launches_takes_another_pool() {
    let owner = Owner::LaunchTemplate(LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() });
    let choice = Successor { balance_zones: BalanceZones(false), ..Successor::default() };
    let Plan::Launch(launch) = Plan::of(&owner, &identity(), &choice, &three_zones()) else { panic!("a launch plan") };
    let rounds = launch.attempts.len() as u32;
    let subnets: Vec<_> =
        (0..3).map(|round| launch.single(round * rounds, "m5.large").unwrap().subnet_id.unwrap()).collect();
    assert_eq!(subnets, ["s-b", "s-c", "s-b"]);
}
