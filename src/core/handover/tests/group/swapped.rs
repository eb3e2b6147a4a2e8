//! The group's target groups are changed after the look-up: by a blue/green deployment, or by hand.

use super::*;

/// A group with its target groups, as a handover meets it.
struct World {
    /// The target groups that the group has from these instants on.
    lists: Vec<(u64, Vec<&'static str>)>,
    /// Who is shown where, and how.
    targets: BTreeMap<(&'static str, &'static str), TargetState>,
    /// Changes to what is shown.
    changes: Vec<(u64, (&'static str, TargetState))>,
    launches_first: bool,
    rebalances: bool,
    launched_at: Option<u64>,
    /// The calls of this handover that change something.
    writes: Vec<(u64, String)>,
    looks_at_group: usize,
}

const NEW: &str = "i-new";

fn known(arn: &TargetGroupArn) -> &'static str {
    [WEB, API].into_iter().find(|known| *known == arn.as_str()).expect("one of the two")
}

impl World {
    /// All members are in `now`, and this instance is shown so in the one of before.
    fn new(before: Option<TargetState>, now: &[&'static str], launches_first: bool) -> World {
        let both = now.iter().flat_map(|arn| [US, "i-1", "i-2"].map(|name| (*arn, name)));
        let mut targets: BTreeMap<_, _> = both.map(|key| (key, TargetState::Healthy)).collect();
        targets.extend(before.map(|state| ((WEB, US), state)));
        World {
            lists: vec![(0, now.to_vec())],
            targets,
            changes: Vec::new(),
            launches_first,
            rebalances: false,
            launched_at: None,
            writes: Vec::new(),
            looks_at_group: 0,
        }
    }

    fn lists(&self, now: u64) -> &[&'static str] {
        self.lists.iter().rfind(|(from, _)| *from <= now).map(|(_, lists)| lists.as_slice()).unwrap_or_default()
    }

    /// The successor comes into service after ten seconds, and is healthy five seconds later.
    fn pass(&mut self, now: u64) {
        for (_, (arn, state)) in self.changes.extract_if(.., |(at, _)| *at <= now) {
            self.targets.insert((arn, US), state);
        }
        for arn in self.lists(now).to_vec() {
            let state = match self.launched_at.map(|at| now.saturating_sub(at)) {
                Some(15_000..) => TargetState::Healthy,
                Some(10_000..) => TargetState::Initial,
                _ => continue,
            };
            self.targets.insert((arn, NEW), state);
        }
    }

    fn current(&mut self, now: u64) -> GroupState {
        self.looks_at_group += 1;
        let new = self.launched_at.map(|_| NEW);
        let members = [US, "i-1", "i-2"].into_iter().chain(new).map(|name| member(name, "InService")).collect();
        let target_groups = self.lists(now).iter().map(|arn| TargetGroupArn::new(*arn)).collect();
        let desired_capacity = if new.is_some() && self.launches_first { 4 } else { 3 };
        let capacity_rebalance = self.rebalances;
        GroupState {
            members,
            target_groups,
            desired_capacity,
            max_size: 9,
            capacity_rebalance,
            ..GroupState::default()
        }
    }

    fn answer(&mut self, now: u64, call: &Call) -> Answer {
        if call.writes() {
            self.writes.push((now, call.to_string()));
        }
        match call {
            Call::DescribeGroupSettings { .. } => {
                Answer::GroupSettings { current: Some(self.current(now)), termination_hooks: None }
            }
            Call::DescribeAutoScalingGroup { .. } => Answer::GroupState(Some(self.current(now))),
            Call::FindRegistrations { among, .. } => {
                let among = among.iter().flatten().map(known).filter(|arn| self.targets.contains_key(&(arn, US)));
                found(among.map(|arn| registration(arn, US, &[80])).collect())
            }
            Call::LaunchInstances { .. } if !self.launches_first => {
                failed(FailureKind::Denied, "AccessDenied", "not authorized")
            }
            Call::LaunchInstances { .. } => {
                self.launched_at.get_or_insert(now);
                Answer::Launched(Launched { instances: vec![id(NEW)], errors: Vec::new() })
            }
            Call::DetachInstances { decrement, .. } => {
                if !decrement {
                    self.launched_at.get_or_insert(now);
                }
                for arn in self.lists(now).to_vec() {
                    self.targets.insert((arn, US), TargetState::Draining);
                }
                Answer::Accepted
            }
            Call::DeregisterTargets { target_group, .. } => {
                let ours = self.targets.get_mut(&(known(target_group), US));
                ours.into_iter().for_each(|state| *state = TargetState::Draining);
                Answer::Accepted
            }
            Call::DescribeInstances { instance_ids } => {
                Answer::Instances(instance_ids.iter().map(|id| running(id.as_str())).collect())
            }
            Call::DescribeTargetHealth { target_group, targets, .. } => {
                let here = self.targets.iter().filter(|((arn, _), _)| *arn == known(target_group));
                let row = |((_, name), state): (&(&str, &str), &TargetState)| TargetHealth {
                    target: Target { id: (*name).to_owned(), port: 80 },
                    state: state.clone(),
                    reason: None,
                };
                Answer::Health(as_asked(here.map(row).collect(), targets))
            }
            Call::LookAtConnections { ports, .. } => Answer::Connections(Connections {
                listening: ports.clone(),
                reached: ports.clone(),
                ..Connections::default()
            }),
            other => well(other).expect("an answer"),
        }
    }

    /// The instants of the writes that are about this.
    fn wrote(&self, what: &str) -> Vec<u64> {
        self.writes.iter().filter(|(_, write)| write.contains(what)).map(|(at, _)| *at).collect()
    }
}

impl Told {
    fn meets(&mut self, world: &mut World, end: u64) {
        while self.now <= end && self.handover.outcome().is_none() {
            world.pass(self.now);
            for Due { duty, call, .. } in self.handover.due(at(self.now)) {
                let answer = world.answer(self.now, &call);
                self.answer(duty, answer);
            }
            self.now += 100;
        }
    }

    /// It has left both, by the end, and its successor is healthy where the group is.
    fn is_complete(&self, world: &World) {
        let reports = self.handover.reports();
        let outcome = self.handover.outcome().unwrap_or_else(|| panic!("the end: {reports:#?} {:#?}", world.writes));
        assert!(outcome.complete, "{outcome:#?} {:#?}", world.writes);
        let serves = |state: &TargetState| *state != TargetState::Draining;
        let ours = world.targets.iter().filter(|((_, name), state)| *name == US && serves(state));
        assert_eq!(ours.count(), 0, "{:?} {:#?}", world.targets, world.writes);
        assert!(world.wrote("RegisterTargets in").is_empty(), "the group does that: {:#?}", world.writes);
    }
}

fn of(members: usize) -> Plan {
    let others = (1..members).map(|number| format!("i-{number}"));
    let members = others.chain([US.to_owned()]).map(|name| member(&name, "InService")).collect();
    plan_of(AutoScalingGroup { members, ..group(&[]) })
}

#[test]
fn a_target_group_that_the_group_has_no_more_is_not_waited_for_and_the_new_one_is_left() {
    for before in [None, Some(TargetState::Draining)] {
        for (members, when, launches_first) in
            [(3, When::Auto, true), (30, When::Auto, true), (3, When::Auto, false), (3, When::AtOnce, false)]
        {
            let what = format!("{before:?} {members} {when:?} {launches_first}");
            let mut told = told(of(members), when, |_| {});
            let mut world = World::new(before.clone(), &[API], launches_first);
            told.meets(&mut world, 121_000);
            told.is_complete(&world);
            let healthy_at = world.launched_at.expect("a launch") + 15_000;
            let left_at = world.wrote("DeregisterTargets from api").into_iter().chain(world.wrote("DetachInstances"));
            let left_at = left_at.min().unwrap_or_default();
            assert_eq!(left_at >= healthy_at, launches_first, "{what}: {:#?}", world.writes);
            assert!(told.now < 80_000, "{what}: {}", told.now);
            let swapped_out = &told.handover.incident().swapped_out;
            assert_eq!(*swapped_out, [TargetGroupArn::new(WEB)], "nothing brings it back there, {what}");
        }
    }
}

#[test]
fn a_target_group_that_is_added_beside_another_is_left_and_followed_too() {
    for (members, when) in [(3, When::Auto), (30, When::Auto), (3, When::AtOnce)] {
        let mut told = told(of(members), when, |_| {});
        let mut world = World::new(Some(TargetState::Healthy), &[WEB, API], when == When::Auto);
        told.meets(&mut world, 121_000);
        told.is_complete(&world);
        let reports = told.handover.reports();
        for duty in ["leave web", "leave api", "successor in web", "successor in api"] {
            assert!(reports.iter().any(|it| it.duty == duty && it.done), "{members} {when:?} {duty}: {reports:#?}");
        }
        assert!(told.handover.incident().swapped_out.is_empty());
    }
}

#[test]
fn a_swap_that_shows_late_in_health_or_in_the_group_and_one_that_is_taken_back() {
    // Target health lags behind.
    let mut late = told(of(3), When::Auto, |_| {});
    let mut world = World::new(Some(TargetState::Healthy), &[API], true);
    world.changes.push((12_000, (WEB, TargetState::Draining)));
    late.meets(&mut world, 121_000);
    late.is_complete(&world);
    assert!(world.wrote("DeregisterTargets from web").is_empty(), "{:#?}", world.writes);
    // The group's answer does, or it is swapped within the notice.
    let mut late = told(of(3), When::Auto, |_| {});
    let mut world = World::new(Some(TargetState::Healthy), &[API], true);
    world.lists = vec![(0, vec![WEB]), (5_000, vec![API])];
    world.changes.push((5_000, (WEB, TargetState::Draining)));
    late.meets(&mut world, 121_000);
    late.is_complete(&world);
    // It is swapped back: this instance serves there again, and has to leave.
    let mut back = told(of(3), When::Auto, |_| {});
    let mut world = World::new(None, &[API], true);
    world.lists = vec![(0, vec![API]), (8_000, vec![WEB])];
    world.changes.extend([(9_000, (WEB, TargetState::Healthy)), (9_000, (API, TargetState::Draining))]);
    back.meets(&mut world, 121_000);
    back.is_complete(&world);
    assert!(!world.wrote("DeregisterTargets from web").is_empty(), "{:#?}", world.writes);
    assert_eq!(back.handover.incident().swapped_out, [TargetGroupArn::new(API)]);
}

#[test]
fn a_target_group_in_which_aws_registers_this_instance_a_little_later_is_left_and_followed_too() {
    for (members, registered_at) in [(3, 3_000), (3, 9_000), (30, 9_000)] {
        let mut told = told(of(members), When::Auto, |_| {});
        let mut world = World::new(None, &[API], true);
        world.targets.remove(&(API, US));
        world.changes.push((registered_at, (API, TargetState::Healthy)));
        told.meets(&mut world, 121_000);
        told.is_complete(&world);
        let reports = told.handover.reports();
        for duty in ["leave api", "successor in api"] {
            let is_done = reports.iter().any(|it| it.duty == duty && it.done);
            assert!(is_done, "{members} {registered_at} {duty}: {reports:#?}");
        }
        let healthy_at = world.launched_at.expect("a launch") + 15_000;
        assert!(world.wrote("DetachInstances").iter().all(|at| *at >= healthy_at), "{:#?}", world.writes);
    }
}

#[test]
fn a_group_that_launches_by_itself_and_was_swapped_is_left_soon() {
    let Plan::Group { mut group, .. } = of(3) else { panic!("a group") };
    group.capacity_rebalance = true;
    let mut told = told(Plan::Group { group, how: GroupRequest::Observe }, When::Auto, |_| {});
    let mut world = World::new(None, &[API], false);
    (world.rebalances, world.launched_at) = (true, Some(2_000));
    told.meets(&mut world, 121_000);
    told.is_complete(&world);
    assert!(told.now < 60_000, "{}", told.now);
}

#[test]
fn a_target_group_that_the_configuration_lists_is_the_owners_no_more_and_wanted_all_the_same() {
    let mut told = told(of(3), When::Auto, |_| {});
    told.handover.facts.settings.lists_target_groups = true;
    let mut world = World::new(Some(TargetState::Healthy), &[API], true);
    told.meets(&mut world, 121_000);
    assert!(!world.wrote("DeregisterTargets from web").is_empty(), "{:#?}", world.writes);
    let reports = told.handover.reports();
    assert!(reports.iter().any(|it| it.duty == "successor in web" && !it.done), "{reports:#?}");
}

#[test]
fn a_group_is_looked_at_seldom_while_its_successor_starts() {
    let mut told = told(of(30), When::Auto, |_| {});
    let mut world = World::new(Some(TargetState::Healthy), &[WEB], true);
    // It never comes into service.
    world.lists = vec![(0, vec![WEB]), (9_000, Vec::new())];
    told.meets(&mut world, 60_000);
    assert!((1..=3).contains(&world.looks_at_group), "{}", world.looks_at_group);
}

impl Told {
    /// The instants at which this instance registers itself where this health shows it, until `end`. `holds_back` tells which
    /// calls are not answered yet at an instant, and `answers` gives other answers than good ones.
    fn comes_back(
        &mut self,
        end: u64,
        holds_back: impl Fn(u64, &Call) -> bool,
        mut answers: impl FnMut(u64, &Call) -> Option<Answer>,
    ) -> Vec<u64> {
        let (mut back, mut waiting): (Vec<u64>, Vec<Due>) = (Vec::new(), Vec::new());
        while self.now <= end {
            waiting.extend(self.handover.due(at(self.now)));
            let now = self.now;
            for Due { duty, call, .. } in waiting.extract_if(.., |due| !holds_back(now, &due.call)) {
                if matches!((&call, duty), (Call::RegisterTargets { .. }, DutyId::OtherTargets(_))) {
                    back.push(now);
                }
                if let Some(answer) = answers(now, &call).or_else(|| well(&call)) {
                    self.answer(duty, answer);
                }
            }
            self.now += 100;
        }
        back
    }
}

#[test]
fn an_instance_comes_back_where_its_own_call_took_it_out_and_nowhere_else() {
    let nobody = |call: &Call| matches!(call, Call::DescribeTargetHealth { .. }).then(|| Answer::Health(Vec::new()));
    // The group is only read while health shows that this instance is out of the target group.
    let Plan::Group { group: mut hooked, .. } = of(3) else { panic!("a group") };
    hooked.termination_hooks = group(&["drain"]).termination_hooks;
    let mut reads = told(plan_of(hooked), When::AtOnce, |_| {});
    let is_held = |now, call: &Call| now < 2_000 && matches!(call, Call::DescribeGroupSettings { .. });
    assert_eq!(reads.comes_back(30_000, is_held, |_, call| nobody(call)), [0_u64; 0]);
    // The reply to the only member's call is lost, and health is late.
    let mut lost = told(of(1), When::AtOnce, |_| {});
    let mut detached = 0;
    let is_held = |now, call: &Call| now < 2_500 && matches!(call, Call::DescribeTargetHealth { .. });
    let back = lost.comes_back(15_000, is_held, |_, call| match call {
        Call::DetachInstances { .. } if detached > 0 => Some(refused("ValidationError", "i-victim is not part of it")),
        Call::DetachInstances { .. } => {
            detached += 1;
            Some(failed(FailureKind::Unanswered, "", "connection reset"))
        }
        Call::DescribeTargetHealth { .. } => Some(Answer::Health(vec![row(TargetState::Draining)])),
        _ => None,
    });
    assert!(!back.is_empty(), "nobody else serves");
    // Its group turns out not to have the target group any more.
    let mut swapped = told(of(30), When::AtOnce, |_| {});
    let is_held = |now, call: &Call| now < 2_000 && matches!(call, Call::DetachInstances { .. });
    let mut read_at = None;
    let back = swapped.comes_back(60_000, is_held, |now, call| match call {
        Call::RegisterTargets { .. } => Some(failed(FailureKind::Throttled, "Throttling", "Rate exceeded")),
        Call::DescribeAutoScalingGroup { .. } => {
            read_at.get_or_insert(now);
            let target_groups = vec![TargetGroupArn::new(API)];
            Some(Answer::GroupState(Some(GroupState { target_groups, ..empty_group() })))
        }
        Call::FindRegistrations { .. } => Some(found(Vec::new())),
        call => nobody(call),
    });
    let read_at = read_at.expect("the group is read");
    assert!(back.iter().any(|at| *at < read_at) && back.iter().all(|at| *at <= read_at), "{read_at} {back:?}");
}
