//! The fleet's numbers and its list lag behind each other and behind the notices of its members, and a process that takes up
//! another one's handover finds them as they are.

use super::*;

/// The fleet has launched a successor for this instance, and is back at its base.
fn raised_and_put_back() -> Told {
    let mut told = told(|_| {});
    told.until(23_000);
    told.shown.capacity.fulfilled = 11;
    told.members.push(member("i-new", 22, None));
    told.until(31_000);
    assert_eq!(told.written, ["11", "10"]);
    told
}

fn assert_back(told: &Told) {
    let reports = format!("{:?}", told.handover.reports());
    assert!(reports.contains("put back to 10"), "{reports}");
}

#[test]
fn a_dead_victim_that_the_fleet_still_counts_is_no_successor_of_ours() {
    // The first victim goes fourteen seconds after our notice; its successor has come, and the base is back.
    for (counted_for, listed_for) in
        [(2_000, 1_000), (8_000, 2_000), (25_000, 1_000), (25_000, 25_000), (60_000, 2_000)]
    {
        let mut told = told(|told| {
            told.members[0] = member("i-1", -900, Some(-85));
            told.members.push(member("i-first", -65, None));
            told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11".to_owned());
            told.shown.capacity.fulfilled = 11;
        });
        told.until(35_000);
        assert_eq!(told.written, Vec::<String>::new(), "the first victim's death would be replaced");
        told.members[0].instance.as_mut().expect("an instance").state = InstanceState::Terminated;
        told.until(35_000 + listed_for.min(counted_for));
        told.members.remove(0);
        told.until(35_000 + counted_for);
        told.shown.capacity.fulfilled = 10;
        let raised_by = |told: &Told| told.written.first().cloned();
        told.until(65_000);
        assert_eq!(raised_by(&told).as_deref(), Some("11"), "counted for {counted_for} ms");
        told.until(98_000);
        told.shown.capacity.fulfilled = 11;
        told.members.push(member("i-second", 97, None));
        told.until(139_000);
        assert_eq!(told.written, ["11", "10"], "counted for {counted_for} ms");
        assert_eq!(told.shown.capacity.total, 10);
        assert_back(&told);
    }
}

#[test]
fn a_raise_after_a_put_back_is_put_back_too() {
    let mut told = raised_and_put_back();
    // The put-back takes a while to show, and another member is noticed.
    told.shown.state = FleetState::Modifying;
    told.members[0] = member("i-1", -900, Some(31));
    told.until(41_000);
    told.shown.state = FleetState::Active;
    assert_eq!(told.written.last().map(String::as_str), Some("12"), "{:?}", told.written);
    told.until(60_000);
    told.shown.capacity.fulfilled = 12;
    told.members.push(member("i-newer", 59, None));
    told.until(100_000);
    assert_eq!(told.written, ["11", "10", "12", "10"]);
    assert_back(&told);
}

#[test]
fn a_victim_that_the_fleet_drops_after_the_put_back_is_not_raised_for_again() {
    let mut told = raised_and_put_back();
    // The fleet counts this instance as gone.
    told.shown.capacity.fulfilled = 10;
    told.until(100_000);
    assert_eq!(told.written, ["11", "10"]);
    assert_back(&told);
}

#[test]
fn a_spare_member_that_turns_out_to_go_too_is_none() {
    let mut told = told(|told| {
        told.members.push(member("i-spare", -900, None));
        told.shown.capacity.fulfilled = 11;
    });
    told.until(23_000);
    assert!(told.handover.outcome().is_none() && told.written.is_empty());
    let reports = format!("{:?}", told.handover.reports());
    assert!(!reports.contains("not needed"), "nobody is sure yet: {reports}");
    told.members[0].taken_since = Some(epoch() + Duration::from_secs(20));
    told.until(50_000);
    assert_eq!(told.written, ["12"], "nine stay of ten, and two go");
}

#[test]
fn after_a_restart_a_fleet_that_nobody_has_raised_and_that_has_a_spare_member_needs_nobody() {
    let mut told = told(|told| {
        told.members.push(member("i-spare", -900, None));
        told.shown.capacity.fulfilled = 11;
    });
    restart(&mut told);
    told.needs_nobody();
}

#[test]
fn after_a_restart_a_fleet_that_has_replaced_by_itself_is_not_raised_again() {
    let mut told = told(|told| {
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11 termination".to_owned());
        told.members.push(member("i-new", 30, None));
        // It counts this instance as gone since its notice.
        told.shown.capacity.fulfilled = 10;
        told.now = 45_000;
    });
    restart(&mut told);
    told.until(139_000);
    assert!(!told.written.contains(&"11".to_owned()), "{:?}", told.written);
}

#[test]
fn what_is_done_is_found_done_after_a_restart_though_another_member_goes_in_the_same_seconds() {
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(15));
        told.members.extend([member("i-new-1", 18, None), member("i-new-2", 24, None)]);
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..12 termination".to_owned());
        (told.shown.excess, told.shown.capacity.fulfilled) = (ExcessCapacity::Stays, 12);
        told.healthy = ["i-new-1", "i-new-2"].map(healthy).into();
        told.now = 112_000;
    });
    restart(&mut told);
    told.until(125_000);
    assert!(told.handover.successor_id().is_some());
    told.until(139_000);
    let outcome = told.handover.outcome().expect("the end");
    assert!(outcome.complete, "{outcome:#?}");
}

/// The process after the first one takes the incident up.
fn restart(told: &mut Told) {
    let mut incident = told.handover.incident().clone();
    incident.start.earlier = Earlier::Restart;
    let known = LookedUp {
        registrations: Some(vec![registration(WEB, US, &[80])]),
        plan: incident.plan.clone(),
        ..LookedUp::default()
    };
    told.handover = Handover::begin(incident, told.handover.facts.settings.clone(), known, at(told.now));
}

#[test]
fn a_successor_that_the_fleets_list_misses_for_a_while_is_waited_for_and_not_raised_for_again() {
    let mut told = told(|told| {
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11".to_owned());
        told.shown.capacity.fulfilled = 11;
    });
    told.until(26_000);
    told.members.push(member("i-new", 20, None));
    told.until(60_000);
    assert_eq!(told.written, Vec::<String>::new());
}

#[test]
fn a_total_that_somebody_else_is_changing_is_no_ground_for_a_write() {
    // Nobody has raised it yet.
    let mut told = told(|told| told.shown.state = FleetState::Modifying);
    told.until(24_500);
    (told.shown.state, told.shown.capacity.total) = (FleetState::Active, 15);
    told.until(40_000);
    assert_eq!(told.written, ["16"]);
    // A fellow has raised it, and what it has launched is there.
    let mut told = super::told(|told| {
        told.members[0] = member("i-1", -900, Some(10));
        told.members.push(member("i-new", 12, None));
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11".to_owned());
        (told.shown.state, told.shown.capacity.total, told.shown.capacity.fulfilled) = (FleetState::Modifying, 11, 11);
    });
    told.until(24_500);
    (told.shown.state, told.shown.capacity.total) = (FleetState::Active, 14);
    told.until(139_000);
    assert!(!told.written.iter().any(|total| ["10", "11", "12"].contains(&total.as_str())), "{:?}", told.written);
}

#[test]
fn a_fleet_that_is_being_changed_holds_up_a_raise_for_seconds_and_a_fellows_noted_raise_does_not() {
    let mut told = told(|told| told.shown.state = FleetState::Modifying);
    told.until(29_000);
    assert_eq!(told.written, ["11"], "AWS says so for ever");
    let mut told = super::told(|told| {
        told.members[0] = member("i-1", -900, Some(19));
        told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..11".to_owned());
        told.shown.state = FleetState::Modifying;
    });
    told.until(22_000);
    assert_eq!(told.written, ["12"]);
}

#[test]
fn a_victim_whose_marks_show_only_after_the_raise_is_counted_before_the_base_is_put_back() {
    let mut told = told(|_| {});
    told.until(23_000);
    assert_eq!(told.written, ["11"]);
    // A fellow that was noticed in the same moment, whose Spot request shows it three seconds late; the fleet was quick.
    told.members[0] = member("i-1", -900, Some(21));
    told.shown.capacity.fulfilled = 11;
    told.members.push(member("i-new", 23, None));
    told.until(60_000);
    assert_eq!(told.written.get(1).map(String::as_str), Some("12"), "{:?}", told.written);
}

/// It is still to be found out which instance the fleet has launched.
fn raised_and_counted_for_the_last_time() -> Told {
    let mut told = told(|_| {});
    told.until(23_000);
    told.shown.capacity.fulfilled = 11;
    told.until(29_500);
    assert_eq!(told.written, ["11", "10"]);
    told.members.push(member("i-new", 22, None));
    told
}

#[test]
fn a_further_victim_that_shows_after_the_raise_is_done_is_raised_for_once_nobody_else_has() {
    for its_daemon_raises in [false, true] {
        let mut told = raised_and_counted_for_the_last_time();
        told.members[0] = member("i-1", -900, Some(29));
        told.until(37_000);
        if its_daemon_raises {
            told.shown.capacity.fulfilled = 12;
            told.members.push(member("i-newer", 36, None));
        }
        told.until(80_000);
        let expected: &[&str] = if its_daemon_raises { &["11", "10"] } else { &["11", "10", "12"] };
        assert_eq!(told.written, expected);
        if !its_daemon_raises {
            told.shown.capacity.fulfilled = 12;
            told.members.push(member("i-newer", 79, None));
        }
        told.until(100_000);
        assert_eq!(told.written.last().map(String::as_str), Some("10"));
        assert_back(&told);
        let reports = format!("{:?}", told.handover.reports());
        assert!(!reports.contains("fewer than the members that leave"), "{reports}");
    }
}

#[test]
fn a_successor_that_is_noticed_itself_after_the_raise_is_done_is_raised_for() {
    let mut told = raised_and_counted_for_the_last_time();
    *told.members.last_mut().expect("it") = member("i-new", 22, Some(29));
    told.until(80_000);
    assert_eq!(told.written.last().map(String::as_str), Some("12"), "{:?}", told.written);
}

#[test]
fn a_tag_that_somebody_takes_off_while_the_fleet_is_raised_costs_neither_base_nor_policy() {
    for is_restarted in [true, false] {
        let mut told = told(|_| {});
        told.until(23_000);
        assert_eq!(told.written, ["11"]);
        (told.shown.tags, told.shown.excess) = (BTreeMap::new(), ExcessCapacity::Stays);
        if is_restarted {
            restart(&mut told);
            told.until(25_000);
        }
        told.shown.capacity.fulfilled = 11;
        told.members.push(member("i-new", 23, None));
        told.until(60_000);
        assert_eq!(told.written, ["11", "10"], "restarted: {is_restarted}");
        let tag = told.shown.tags.get(BASE_CAPACITY_TAG).map(String::as_str);
        assert!(tag.is_some_and(|tag| tag.starts_with("10..11 termination")), "restarted: {is_restarted}");
        assert_back(&told);
    }
}

#[test]
fn a_policy_that_a_fellow_has_changed_is_noted_though_its_tag_is_gone() {
    let mut told = told(|told| {
        told.members[0] = member("i-1", -900, Some(10));
        told.shown.excess = ExcessCapacity::Stays;
    });
    told.until(35_000);
    assert_eq!(told.written, ["12"]);
    assert_eq!(told.shown.tags[BASE_CAPACITY_TAG], "10..12 termination");
}

#[test]
fn what_a_fleet_has_replaced_by_itself_is_not_raised_for_while_its_list_does_not_show_it() {
    let mut told = told(|told| told.shown.capacity.fulfilled = 9);
    told.until(24_000);
    told.shown.capacity.fulfilled = 10;
    told.until(40_000);
    told.members.push(member("i-new", 23, None));
    told.until(60_000);
    assert_eq!(told.written, Vec::<String>::new());
}

#[test]
fn those_that_count_again_are_as_many_whatever_a_member_weighs() {
    let weighty = |member: &mut FleetMember| member.memory_mib = Some(16_384);
    let mut told = told(|told| {
        (told.shown.unit, told.shown.capacity.total) = (CapacityUnit::MemoryMib, 163_840);
        told.shown.capacity.fulfilled = 163_840;
        told.members.iter_mut().for_each(weighty);
    });
    told.until(23_000);
    assert_eq!(told.written, ["180224"]);
    told.members[0].taken_since = Some(epoch() + Duration::from_secs(21));
    told.shown.capacity.fulfilled = 180_224;
    told.members.push(member("i-new", 23, None));
    told.members.iter_mut().for_each(weighty);
    told.until(60_000);
    assert_eq!(told.written.get(1).map(String::as_str), Some("196608"), "{:?}", told.written);
}

#[test]
fn a_last_count_that_fails_leaves_no_raise_standing() {
    let mut told = told(|told| told.members[0] = member("i-1", -900, Some(-20)));
    told.until(23_000);
    assert_eq!(told.written, ["12"]);
    told.shown.capacity.fulfilled = 12;
    told.members.extend(["i-new-1", "i-new-2"].map(|name| member(name, 23, None)));
    told.denies = |call| matches!(call, Call::DescribeFleetMembers { .. });
    // The first victim goes at a hundred seconds.
    told.until(75_000);
    assert_eq!(told.written, ["12", "10"]);
}
