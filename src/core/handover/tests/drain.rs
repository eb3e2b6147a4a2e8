//! When this instance counts as drained, under the default settings.

use super::*;

/// The look at this millisecond: what the kernel shows.
type Kernel = fn(u64) -> Connections;

struct Drain {
    settings: HandoverSettings,
    incident: Incident,
    registrations: Vec<Registration>,
    unclear: Vec<TargetGroupArn>,
    plan: Plan,
    /// How target health shows this instance once it is deregistered.
    state: TargetState,
    kernel: Kernel,
    look_takes: u64,
}

impl Drain {
    /// A notice at 0 with two minutes, one target group with the default delay, left at once.
    fn of(kernel: Kernel) -> Drain {
        Drain {
            settings: at_once(),
            incident: incident_of("i-victim", Action::Terminate, 120_000),
            registrations: vec![registration(WEB, "i-victim", &[80])],
            unclear: Vec::new(),
            plan: Plan::nobody_ever("a test"),
            state: TargetState::Draining,
            kernel,
            look_takes: 0,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Drain)) -> Drain {
        change(&mut self);
        self
    }

    /// When this instance was quiet, in milliseconds, and why.
    fn quiet(self) -> (u64, String) {
        let (_, milestones) = self.told();
        let quiet = milestones.into_iter().find(|it| it.milestone == MilestoneKind::Quiet).expect("quiet");
        (quiet.at.since(at(0)).as_millis() as u64, quiet.message)
    }

    /// What a person is told of the wait, and the milestones up to the instant at which this instance is quiet.
    fn told(self) -> (Vec<String>, Vec<Milestone>) {
        let known = LookedUp {
            registrations: Some(self.registrations.clone()),
            plan: Some(self.plan.clone()),
            unclear: self.unclear.clone(),
            ..LookedUp::default()
        };
        let end = self.incident.deadline.since(at(0)).as_millis() as u64;
        let mut handover = Handover::begin(self.incident.clone(), self.settings.clone(), known, at(0));
        let mut looks: Vec<(u64, DutyId, Answer)> = Vec::new();
        let (mut news, mut milestones) = (Vec::new(), Vec::new());
        for now in (0..end).step_by(100) {
            for (_, duty, answer) in looks.extract_if(.., |(when, _, _)| *when <= now) {
                handover.answered(at(now), duty, answer);
            }
            for due in handover.due(at(now)) {
                let answer = match &due.call {
                    Call::LookAtConnections { .. } => {
                        let shown = (self.kernel)(now);
                        looks.push((now + self.look_takes, due.duty, Answer::Connections(shown)));
                        continue;
                    }
                    _ if matches!(due.duty, DutyId::OtherTargets(_)) => many_serve(),
                    Call::DescribeTargetHealth { .. } => Answer::Health(vec![TargetHealth {
                        target: self.registrations[0].targets[0].clone(),
                        state: self.state.clone(),
                        reason: None,
                    }]),
                    _ => Answer::Accepted,
                };
                handover.answered(at(now), due.duty, answer);
            }
            news.extend(handover.take_news());
            milestones.extend(handover.take_milestones());
            if milestones.iter().any(|it| it.milestone == MilestoneKind::Quiet) {
                return (news, milestones);
            }
        }
        panic!("never quiet")
    }
}

fn open(established: usize, busy: usize) -> Connections {
    Connections {
        established,
        busy,
        listening: BTreeSet::from([80]),
        reached: BTreeSet::from([80]),
        ..Connections::default()
    }
}

fn idle(_: u64) -> Connections {
    open(0, 0)
}

#[test]
fn nothing_counts_before_twenty_seconds_and_then_three_looks_agree() {
    let (when, why) = Drain::of(idle).quiet();
    assert!((20_900..21_500).contains(&when) && why.contains("no connection is left"), "{when} {why}");
}

#[test]
fn connections_that_stay_open_are_still_for_fifteen_seconds() {
    let (when, why) = Drain::of(|_| open(2, 0)).quiet();
    assert!((20_900..21_500).contains(&when) && why.contains("nothing has moved for 15.0 s"), "{when} {why}");
}

#[test]
fn requests_that_come_after_the_deregistration_are_waited_for() {
    // A load balancer goes on for 25 s; the kernel tells for 15 s that something moved.
    let (when, _) = Drain::of(|now| open(1, usize::from(now < 40_000))).quiet();
    assert!((40_900..41_900).contains(&when), "{when}");
}

#[test]
fn connections_that_have_just_ended_count() {
    let ended = |now| Connections { ended_lately: usize::from(now < 25_000), ..open(0, 0) };
    let (when, _) = Drain::of(ended).quiet();
    assert!((25_900..26_900).contains(&when), "{when}");
}

#[test]
fn one_busy_look_begins_the_count_again() {
    let (when, _) = Drain::of(|now| open(1, usize::from((20_500..20_900).contains(&now)))).quiet();
    assert!((21_900..22_900).contains(&when), "{when}");
}

#[test]
fn a_look_counts_from_the_instant_at_which_it_was_begun() {
    let (when, _) = Drain::of(idle).with(|drain| drain.look_takes = 3_000).quiet();
    // The look that was under way when this instance had settled says nothing.
    assert!(when >= 29_000, "{when}");
}

#[test]
fn a_request_that_may_be_open_is_waited_for_until_the_reserve_and_is_no_failure() {
    let unclear = |_| Connections { unclear: 1, ..open(1, 0) };
    let (when, why) = Drain::of(unclear).quiet();
    assert!(when == 110_000 && why.contains("may still wait"), "{when} {why}");
}

#[test]
fn a_port_on_which_nobody_listens_here_is_waited_for_until_the_reserve() {
    let (when, why) = Drain::of(|_| Connections::default()).quiet();
    assert!(when == 110_000 && why.contains("nobody listens on port 80"), "{when} {why}");
}

#[test]
fn an_http2_or_grpc_group_is_waited_for_until_the_reserve() {
    let (when, why) = Drain::of(idle).with(|drain| drain.registrations[0].multiplexed = true).quiet();
    assert!(when == 110_000 && why.contains("share a connection"), "{when} {why}");
}

#[test]
fn a_listener_that_closes_while_this_instance_drains_was_there() {
    let closes = |now| if now < 5_000 { open(0, 0) } else { Connections::default() };
    let (when, _) = Drain::of(closes).quiet();
    assert!(when < 22_000, "{when}");
}

#[test]
fn a_busy_connection_is_waited_for_until_the_reserve() {
    let (when, why) = Drain::of(|_| open(3, 2)).quiet();
    assert!(when == 110_000 && why == "the reserve is reached with 2 connections busy", "{when} {why}");
}

#[test]
fn unused_in_target_health_settles_too() {
    let unused = |drain: &mut Drain| drain.state = TargetState::Unused;
    // A request may be open, by its age alone.
    let (when, why) = Drain::of(|_| Connections { unclear: 1, ..open(1, 0) }).with(unused).quiet();
    assert!((20_000..20_500).contains(&when) && why.contains("unused"), "{when} {why}");
}

#[test]
fn unused_in_target_health_does_not_overrule_a_busy_connection() {
    let unused = |drain: &mut Drain| drain.state = TargetState::Unused;
    let (when, why) = Drain::of(|_| open(1, 1)).with(unused).quiet();
    assert!(when == 110_000 && why == "the reserve is reached with one connection busy", "{when} {why}");
    let (when, why) = Drain::of(|now| open(1, usize::from(now < 30_000))).with(unused).quiet();
    assert!((30_000..31_000).contains(&when) && why.contains("unused"), "{when} {why}");
}

#[test]
fn unused_in_target_health_says_nothing_behind_a_network_load_balancer() {
    let network = |drain: &mut Drain| {
        drain.state = TargetState::Unused;
        drain.registrations[0].network = true;
    };
    let (when, why) = Drain::of(idle).with(network).quiet();
    assert!(when == 110_000 && why.contains("Network Load Balancer"), "{when} {why}");
}

#[test]
fn a_port_to_which_no_other_machine_ever_came_is_waited_for_until_the_reserve() {
    // As docker-proxy: it listens, and what comes from outside goes past it.
    let published = |_| Connections { reached: BTreeSet::new(), ..open(0, 0) };
    let (when, why) = Drain::of(published).quiet();
    assert!(when == 110_000 && why.contains("no connection of another machine was seen on port 80"), "{when} {why}");
}

#[test]
fn a_single_connection_of_another_machine_tells_that_the_port_is_seen() {
    let once = |now| if now < 3_000 { open(1, 1) } else { Connections { reached: BTreeSet::new(), ..open(0, 0) } };
    let (when, why) = Drain::of(once).quiet();
    assert!((20_900..21_500).contains(&when), "{when} {why}");
}

#[test]
fn other_traffic_sources_are_waited_for_until_the_reserve() {
    let mut classic = group(&[]);
    classic.other_traffic_sources = vec!["classic-lb".into()];
    let plan = Plan::Group { group: classic, how: GroupRequest::Observe };
    // With a target group beside them, and without.
    for registrations in [vec![registration(WEB, "i-victim", &[80])], Vec::new()] {
        let (plan, registrations) = (plan.clone(), registrations.clone());
        let (when, why) =
            Drain::of(idle).with(|drain| (drain.plan, drain.registrations) = (plan, registrations)).quiet();
        assert!(when == 110_000 && why.contains("other traffic sources: classic-lb"), "{when} {why}");
    }
}

#[test]
fn a_target_group_that_aws_does_not_tell_of_is_waited_for_until_the_reserve() {
    let unclear = |drain: &mut Drain| {
        drain.registrations.clear();
        drain.unclear = vec![TargetGroupArn::new(API)];
    };
    let (when, why) = Drain::of(idle).with(unclear).quiet();
    assert!(when == 110_000 && why.contains("it is not known whether this instance is in it"), "{when} {why}");
    let (when, _) = Drain::of(idle).with(|drain| drain.registrations.clear()).quiet();
    assert_eq!(when, 0, "in no target group at all");
}

#[test]
fn whoever_wants_it_sooner_says_so() {
    let sooner = |drain: &mut Drain| {
        drain.settings.leave.settle = Duration::from_secs(2);
        drain.settings.leave.quiet_for = Duration::from_secs(1);
    };
    let (when, _) = Drain::of(idle).with(sooner).quiet();
    assert!((2_900..3_500).contains(&when), "{when}");
}

#[test]
fn without_a_notice_the_same_holds_and_the_deregistration_delay_bounds_it() {
    let scale_in = |kernel: Kernel, delay| {
        let bounded = |drain: &mut Drain| {
            drain.incident.signal = Signal::LifecycleState;
            drain.incident.group_takes = Some(Takes::ToItsEnd);
            drain.incident.deadline = at(1_000_000);
            drain.registrations[0].deregistration_delay = Duration::from_secs(delay);
        };
        Drain::of(kernel).with(bounded).quiet()
    };
    let (when, why) = scale_in(|_| open(1, 1), 60);
    assert!((60_000..60_600).contains(&when) && why.contains("the deregistration delay is over"), "{when} {why}");
    let (when, why) = scale_in(|_| Connections::default(), 60);
    assert!((60_000..60_600).contains(&when) && why.contains("nobody listens"), "{when} {why}");
    let (when, _) = scale_in(idle, 300);
    assert!((20_900..21_500).contains(&when), "{when}");
    // A short delay does not shorten the settling.
    let (when, _) = scale_in(|_| open(1, 1), 5);
    assert!((20_000..20_600).contains(&when), "{when}");
}

#[test]
fn a_person_is_told_what_is_waited_for_and_how_long_and_once_more_if_it_lasts() {
    let (news, _) = Drain::of(|now| open(3, usize::from(now < 40_000))).told();
    assert_eq!(
        news,
        [
            "draining: 3 connections are open, 1 of them busy; this takes 19.8 s at least, and 109.7 s at most",
            "still draining: 3 connections are open, 1 of them busy; this takes 89.8 s more at most",
        ]
    );
    let (news, _) = Drain::of(idle).told();
    assert_eq!(news, ["draining: no connection is open now; this takes 19.8 s at least, and 109.7 s at most"]);
    let handed_over = Outcome { complete: true, duties: Vec::new() };
    let again = Drain::of(idle).with(|drain| drain.incident.start.handed_over = Some(handed_over));
    assert_eq!(again.told().0, Vec::<String>::new(), "it had drained before");
}

#[test]
fn a_wait_until_the_reserve_is_said_to_be_one_and_is_nothing_unfinished() {
    let behind_network = Drain::of(idle).with(|drain| {
        drain.registrations[0].network = true;
        drain.settings.hooks.drained = vec!["/usr/bin/true".to_owned()];
    });
    let (news, milestones) = behind_network.told();
    assert_eq!(
        news,
        ["draining: no connection is open now; connections do not show every request here, so this takes 109.7 s"]
    );
    let names: Vec<&str> = milestones.iter().map(|it| it.milestone.as_str()).collect();
    assert_eq!(names, ["noticed", "deregistered", "left", "quiet"]);
}
