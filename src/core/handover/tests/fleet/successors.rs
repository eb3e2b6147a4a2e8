//! Successors that go themselves or die, and who is raised for in their place.

use super::*;

/// A fellow is noticed just before this instance; the fleet is raised for both, launches two, and is back at its base.
fn two_launched_for_two() -> Told {
    let mut told = told(|told| told.members[0].taken_since = Some(epoch() + Duration::from_secs(19)));
    told.until(30_000);
    told.shown.capacity.fulfilled = 12;
    told.members.extend(["i-new-1", "i-new-2"].map(|name| member(name, 29, None)));
    told.until(50_000);
    told
}

fn first_of_them(told: &mut Told) -> &mut Instance {
    let member = told.members.iter_mut().find(|member| member.instance_id == id("i-new-1"));
    member.and_then(|member| member.instance.as_mut()).expect("an instance")
}

#[test]
fn a_successor_that_goes_itself_and_is_replaced_holds_up_nobodys_end() {
    let mut told = two_launched_for_two();
    first_of_them(&mut told).tags.insert(LEAVING_TAG.to_owned(), "by itself".to_owned());
    told.members.push(member("i-new-3", 51, None));
    told.shown.capacity.fulfilled = 13;
    told.healthy = ["i-new-2", "i-new-3"].map(healthy).into();
    told.until(141_000);
    let outcome = outcome_of(&mut told);
    assert!(told.handover.outcome().is_some_and(|outcome| outcome.complete), "{outcome}");
}

#[test]
fn a_successor_that_goes_itself_before_anybody_is_in_its_place_is_no_success() {
    let mut told = two_launched_for_two();
    first_of_them(&mut told).tags.insert(LEAVING_TAG.to_owned(), "by itself".to_owned());
    told.healthy = vec![healthy("i-new-2")];
    told.until(141_000);
    let outcome = outcome_of(&mut told);
    assert!(told.handover.outcome().is_some_and(|outcome| !outcome.complete), "{outcome}");
}

#[test]
fn a_successor_that_dies_while_another_lives_is_raised_for_again() {
    let mut told = two_launched_for_two();
    assert_eq!(told.written, ["12", "10"]);
    first_of_them(&mut told).state = InstanceState::Terminated;
    told.shown.capacity.fulfilled = 11;
    told.until(90_000);
    assert_eq!(told.written.get(2).map(String::as_str), Some("12"), "{:?}", told.written);
}

#[test]
fn a_successor_that_died_before_any_look_showed_it_is_raised_for_again() {
    let mut told = told(|_| {});
    told.until(23_000);
    told.shown.capacity.fulfilled = 11;
    told.until(37_000);
    assert_eq!(told.written, ["11", "10"]);
    told.shown.capacity.fulfilled = 10;
    told.until(90_000);
    assert_eq!(told.written.get(2).map(String::as_str), Some("11"), "{:?}", told.written);
}

#[test]
fn a_successor_that_the_last_count_shows_is_not_looked_for() {
    let mut told = told(|_| {});
    told.until(23_000);
    told.shown.capacity.fulfilled = 11;
    told.members.push(member("i-new", 22, None));
    told.until(29_500);
    assert_eq!(told.handover.successor_id(), Some(id("i-new")));
    told.until(60_000);
    let counts = told.calls.iter().filter(|call| matches!(call, Call::DescribeFleetMembers { .. })).count();
    assert_eq!(counts, 2, "before the raise, and before the base is put back");
}

#[test]
fn what_was_launched_for_a_fellows_raise_and_died_before_any_look_showed_it_is_raised_for_again() {
    let mut told = told(|told| {
        told.shown.capacity.fulfilled = 11;
        told.members.push(member("i-10", -900, None));
    });
    told.until(23_000);
    assert_eq!(told.written, Vec::<String>::new(), "one more than its target");
    // A fellow is noticed, raises for both, and its daemon is gone.
    told.members[0].taken_since = Some(epoch() + Duration::from_secs(23));
    told.shown.tags.insert(BASE_CAPACITY_TAG.to_owned(), "10..12".to_owned());
    told.shown.capacity.total = 12;
    told.until(28_000);
    told.shown.capacity.fulfilled = 12;
    told.until(45_000);
    assert_eq!(told.written, ["10"]);
    told.shown.capacity.fulfilled = 11;
    told.until(100_000);
    assert!(told.written.len() > 1, "{:?}", told.written);
}

#[test]
fn a_fleet_that_has_replaced_by_itself_is_not_raised_because_its_list_is_late() {
    let mut told = told(|told| told.shown.capacity.fulfilled = 9);
    told.until(29_000);
    told.shown.capacity.fulfilled = 10;
    told.until(80_000);
    assert_eq!(told.written, Vec::<String>::new());
}
