//! When this instance counts as drained, under the default settings.

use super::*;

/// The look at this millisecond: what the kernel shows.
type Kernel = fn(u64) -> Connections;

struct Drain {
    settings: Settings,
    terms: Terms,
    registrations: Vec<Registration>,
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
            terms: terms_of("i-victim", Action::Terminate, 120_000),
            registrations: vec![registration(WEB, "i-victim", &[80])],
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
        let plan = Plan::Nobody { why: "a test".into() };
        let known = Known { registrations: Some(self.registrations.clone()), plan: Some(plan), ..Known::default() };
        let end = self.terms.deadline.as_duration().as_millis() as u64;
        let mut handover = Handover::begin(self.terms.clone(), self.settings.clone(), known, at(0));
        let mut looks: Vec<(u64, Duty, Answer)> = Vec::new();
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
                    _ if matches!(due.duty, Duty::Light(_)) => many_serve(),
                    Call::DescribeTargetHealth { .. } => Answer::Health(vec![TargetHealth {
                        target: self.registrations[0].targets[0].clone(),
                        state: self.state.clone(),
                        reason: None,
                    }]),
                    _ => Answer::Accepted,
                };
                handover.answered(at(now), due.duty, answer);
            }
            let quiet = handover.take_milestones().into_iter().find(|it| it.milestone == MilestoneKind::Quiet);
            if let Some(quiet) = quiet {
                return (quiet.at.as_duration().as_millis() as u64, quiet.message);
            }
        }
        panic!("never quiet")
    }
}

fn open(established: usize, busy: usize) -> Connections {
    Connections { established, busy, listening: BTreeSet::from([80]), ..Connections::default() }
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
    assert!(when == 110_000 && why.contains("may be open"), "{when} {why}");
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
    let (when, why) = Drain::of(|_| open(1, 1)).with(|drain| drain.state = TargetState::Unused).quiet();
    assert!((20_000..20_500).contains(&when) && why.contains("unused"), "{when} {why}");
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
            drain.terms.signal = Signal::LifecycleState;
            drain.terms.terminating = true;
            drain.terms.deadline = at(1_000_000);
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
