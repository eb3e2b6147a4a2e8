//! An arrival alone: its calls in their order, and what failures make of it.

use super::*;
use crate::core::handover::tests::{self, API, WEB, at, identity_of, member, raise};
use crate::core::model::{
    AutoScalingGroup, GroupMember, GroupState, Target, TargetGroupArn, TargetHealth, TargetState, TargetType,
};
use crate::core::plan::GroupRequest;
use crate::core::retry::FailureKind;

fn identity() -> Identity {
    identity_of("i-us")
}

fn target(port: u16) -> Target {
    Target { id: "i-us".into(), port }
}

fn registration(arn: &str, ports: &[u16]) -> Registration {
    Registration::new(TargetGroupArn::new(arn), TargetType::Instance, ports.iter().map(|port| target(*port)).collect())
}

fn health(port: u16, state: TargetState) -> TargetHealth {
    TargetHealth { target: target(port), state, reason: None }
}

fn group() -> Plan {
    let group = AutoScalingGroup { max_size: 4, target_groups: Vec::new(), ..tests::group(&[]) };
    Plan::Group { group, how: GroupRequest::Detach }
}

fn current(state: Option<&str>, desired_capacity: i32) -> Answer {
    Answer::GroupState(Some(GroupState {
        members: state.map(|state| member("i-us", state)).into_iter().collect(),
        desired_capacity,
        max_size: 4,
        ..GroupState::default()
    }))
}

fn failed(kind: FailureKind, message: &str) -> Answer {
    Answer::Failed(Failure { kind, code: Some("ValidationError".into()), message: message.into() })
}

fn gone() -> Answer {
    let (code, message) = (Some("TargetGroupNotFound".into()), "gone".into());
    Answer::Failed(Failure { kind: FailureKind::Rejected, code, message })
}

/// An arrival and what answers it: [`Telling::runs`] goes on until it is finished or its time is over.
struct Telling {
    arrival: Arrival,
    now: BootInstant,
    steps: Vec<DutyId>,
    milestones: Vec<MilestoneKind>,
    messages: Vec<String>,
    remarks: Vec<String>,
}

impl Telling {
    fn of(arrival: Arrival) -> Telling {
        Telling {
            arrival,
            now: at(0),
            steps: Vec::new(),
            milestones: Vec::new(),
            messages: Vec::new(),
            remarks: Vec::new(),
        }
    }

    fn after(errand: Errand, plan: Option<&Plan>) -> Telling {
        let places = vec![registration(WEB, &[80]), registration(API, &[8080, 8081])];
        Telling::of(Arrival::after_handover(errand, identity(), Readiness::AtOnce, places, plan, at(0)))
    }

    fn runs(mut self, seconds: u64, answer: impl Fn(BootInstant, &Call) -> Answer) -> Telling {
        let end = self.now + Duration::from_secs(seconds);
        let mut rounds = 0;
        while self.now <= end && !self.arrival.is_finished() {
            rounds += 1;
            assert!(rounds < 5_000, "it spins: {:?}", self.steps.last());
            let due = self.arrival.due(self.now);
            let is_asked_again = !due.is_empty();
            for Due { duty, call, .. } in due {
                self.steps.push(duty);
                let answer = answer(self.now, &call);
                self.arrival.answered(self.now, duty, answer);
            }
            for milestone in self.arrival.take_milestones() {
                self.milestones.push(milestone.milestone);
                self.messages.push(milestone.message);
            }
            self.remarks.extend(self.arrival.take_remarks());
            let wake = self.arrival.wake();
            assert!(wake.is_none_or(|wake| wake > self.now), "it is to be asked again at once");
            // After an answer it is asked at once.
            let next = wake.filter(|_| !is_asked_again);
            self.now = next.unwrap_or(if is_asked_again { self.now } else { end }) + Duration::from_millis(1);
        }
        self
    }

    fn count(&self, step: DutyId) -> usize {
        self.steps.iter().filter(|it| **it == step).count()
    }
}

/// AWS when everything goes well.
fn fine(_: BootInstant, call: &Call) -> Answer {
    match call {
        Call::DescribeTargetHealth { .. } => {
            Answer::Health([80, 8080, 8081].map(|port| health(port, TargetState::Healthy)).into())
        }
        Call::FindTargetGroups => Answer::TargetGroups { wanted: vec![registration(WEB, &[80])], missing: Vec::new() },
        Call::DescribeAutoScalingGroup { .. } => current(None, 3),
        Call::PutCapacityBack { .. } => Answer::Capacity { is_back: true },
        _ => Answer::Accepted,
    }
}

#[test]
fn an_arrival_registers_where_the_configuration_says_and_follows_health() {
    let told = Telling::of(Arrival::arrive(identity(), Readiness::AtOnce, at(0))).runs(60, fine);
    assert!(told.arrival.is_finished());
    assert_eq!(told.milestones, [MilestoneKind::Arrived]);
    assert_eq!(told.steps, [DutyId::FindTargetGroups, DutyId::Serve(0), DutyId::Serve(0), DutyId::Serve(0)]);
}

#[test]
fn an_arrival_is_not_over_while_a_listed_target_group_is_missing() {
    let made_at = at(100_000);
    let missing = |now| if now < made_at { vec!["shopp".to_owned()] } else { Vec::new() };
    let arrival = Arrival::arrive(identity(), Readiness::AtOnce, at(0));
    let told = Telling::of(arrival).runs(90, |now, call| match call {
        Call::FindTargetGroups => {
            Answer::TargetGroups { wanted: vec![registration(WEB, &[80])], missing: missing(now) }
        }
        call => fine(now, call),
    });
    assert_eq!(told.milestones, []);
    assert_eq!(told.count(DutyId::Serve(0)), 3, "the one that is there is registered all the same, once");
    assert_eq!(told.remarks.iter().filter(|remark| remark.contains("shopp")).count(), 1, "said once");
    let told = told.runs(900, |now, call| match call {
        Call::FindTargetGroups => {
            Answer::TargetGroups { wanted: vec![registration(WEB, &[80])], missing: missing(now) }
        }
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Arrived]);
}

/// Deleted while the application started, and made again under its name later.
#[test]
fn an_arrival_is_in_no_target_group_that_is_gone_and_finds_the_one_that_stands_under_its_name_now() {
    let made_at = at(60_000);
    let arrival = Arrival::arrive(identity(), Readiness::AtOnce, at(0));
    let told = Telling::of(arrival).runs(900, |now, call| match call {
        Call::FindTargetGroups if now == at(0) || now >= made_at => {
            let arn = if now >= made_at { API } else { WEB };
            Answer::TargetGroups { wanted: vec![registration(arn, &[80])], missing: Vec::new() }
        }
        Call::FindTargetGroups => Answer::TargetGroups { wanted: Vec::new(), missing: vec!["web".into()] },
        Call::RegisterTargets { target_group, .. } if target_group.as_str() == WEB => gone(),
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Arrived]);
    assert!(told.now >= made_at && told.arrival.registrations().any(|it| it.target_group.as_str() == API));
    assert_eq!(told.remarks.iter().filter(|remark| remark.contains("web")).count(), 1, "said once: {:?}", told.remarks);
}

/// AWS describes a target group in which it lets nobody register for a while.
#[test]
fn an_arrival_goes_on_with_a_target_group_that_aws_forgets_for_a_minute() {
    let told = Telling::of(Arrival::arrive(identity(), Readiness::AtOnce, at(0))).runs(900, |now, call| match call {
        Call::RegisterTargets { .. } if now < at(60_000) => gone(),
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Arrived]);
    assert!(told.count(DutyId::Serve(0)) < 20, "{}", told.count(DutyId::Serve(0)));
}

#[test]
fn nothing_is_registered_before_the_application_is_ready() {
    let ready_at = at(90_000);
    let readiness = Readiness::Http("http://127.0.0.1/".into());
    let told = Telling::of(Arrival::arrive(identity(), readiness, at(0))).runs(200, |now, call| match call {
        Call::LookAtReadiness(_) if now < ready_at => Answer::Failed(Failure::unanswered("refused")),
        Call::RegisterTargets { .. } => {
            assert!(now >= ready_at);
            Answer::Accepted
        }
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Arrived]);
    assert_eq!(told.count(DutyId::Ready), 91, "every second");
    assert!(told.remarks.is_empty(), "an application that starts is no trouble: {:?}", told.remarks);
}

#[test]
fn every_port_has_to_be_healthy_twice() {
    let told = Telling::after(Errand::Reinstate, None).runs(300, |now, call| match call {
        // One of two ports comes later.
        Call::DescribeTargetHealth { .. } if now < at(60_000) => Answer::Health(vec![
            health(80, TargetState::Healthy),
            health(8080, TargetState::Healthy),
            health(8081, TargetState::Initial),
        ]),
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Reinstated]);
    assert!(told.now >= at(64_000));
}

#[test]
fn a_deregistration_that_lands_late_is_registered_over() {
    let told = Telling::after(Errand::Reinstate, None).runs(300, |now, call| match call {
        Call::DescribeTargetHealth { .. } if (at(3_000)..at(20_000)).contains(&now) => {
            Answer::Health([80, 8080, 8081].map(|port| health(port, TargetState::Draining)).into())
        }
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Reinstated]);
    assert!(told.count(DutyId::Serve(0)) > 3);
}

#[test]
fn an_application_that_never_becomes_healthy_costs_a_call_every_five_minutes() {
    let told = Telling::after(Errand::Reinstate, None).runs(24 * 3_600, |now, call| match call {
        Call::DescribeTargetHealth { .. } => {
            Answer::Health([80, 8080, 8081].map(|port| health(port, TargetState::Unhealthy)).into())
        }
        call => fine(now, call),
    });
    assert!(!told.arrival.is_finished());
    assert!(told.count(DutyId::Serve(0)) < 300, "{}", told.count(DutyId::Serve(0)));
}

#[test]
fn a_target_group_that_is_gone_holds_nothing_up() {
    let told = Telling::after(Errand::Reinstate, None).runs(60, |now, call| match call {
        Call::RegisterTargets { target_group, .. } if target_group.as_str() == API => gone(),
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Reinstated]);
}

#[test]
fn whatever_fails_is_tried_again_and_stops_nothing_else() {
    let well_from = at(600_000);
    for failing in [DutyId::Unmark, DutyId::Serve(0), DutyId::RejoinGroup, DutyId::PutCapacityBack] {
        let plan = if failing == DutyId::PutCapacityBack { raise() } else { group() };
        let told = Telling::after(Errand::Reinstate, Some(&plan)).runs(3_600, |now, call| {
            let fails = match call {
                Call::UntagInstance { .. } => failing == DutyId::Unmark,
                Call::RegisterTargets { target_group, .. } => {
                    failing == DutyId::Serve(0) && target_group.as_str() == WEB
                }
                Call::DescribeAutoScalingGroup { .. } => failing == DutyId::RejoinGroup,
                Call::PutCapacityBack { .. } => failing == DutyId::PutCapacityBack,
                _ => false,
            };
            match call {
                _ if fails && now < well_from => failed(FailureKind::Throttled, "Rate exceeded"),
                Call::RegisterTargets { target_group, .. } if target_group.as_str() == API => {
                    assert!(now < at(30_000), "{failing:?} holds the registration up");
                    Answer::Accepted
                }
                call => fine(now, call),
            }
        });
        assert_eq!(told.milestones, [MilestoneKind::Reinstated], "{failing:?}");
        assert!((3..60).contains(&told.count(failing)), "{failing:?} {}", told.count(failing));
    }
}

#[test]
fn it_goes_back_into_its_group_where_there_is_room_and_is_no_member() {
    for (state, desired, attaches, ends) in [
        (None, 3, 1, true),
        (None, 4, 0, true),
        (Some("InService"), 3, 0, true),
        (Some("Standby"), 3, 0, true),
        (Some("Detaching"), 3, 0, false),
    ] {
        let told = Telling::after(Errand::Reinstate, Some(&group())).runs(60, |now, call| match call {
            Call::DescribeAutoScalingGroup { .. } => current(state, desired),
            call => fine(now, call),
        });
        let looks = told.steps.iter().filter(|step| **step == DutyId::RejoinGroup).count();
        assert_eq!(told.arrival.is_finished(), ends, "{state:?} {desired}");
        assert!(!ends || looks == 1 + attaches, "{state:?} {desired}: {looks}");
        assert!(ends || told.count(DutyId::Serve(0)) == 0, "a member that is being detached is registered afterwards");
    }
}

#[test]
fn a_protection_from_scale_in_that_is_lost_is_told() {
    for (loses_protection, attaches) in [(true, true), (false, true), (true, false)] {
        let Plan::Group { mut group, how } = group() else { panic!("a group") };
        group.members = vec![GroupMember { loses_protection, ..member("i-us", "InService") }];
        let told =
            Telling::after(Errand::Reinstate, Some(&Plan::Group { group, how })).runs(60, |now, call| match call {
                Call::DescribeAutoScalingGroup { .. } => current((!attaches).then_some("InService"), 3),
                call => fine(now, call),
            });
        let message = told.messages.join("\n");
        assert_eq!(message.contains("scale-in protection is lost"), loses_protection && attaches, "{message}");
    }
}

#[test]
fn an_attachment_whose_answer_was_lost_is_not_made_twice() {
    let told = Telling::after(Errand::Reinstate, Some(&group())).runs(60, |now, call| match call {
        Call::AttachInstances { .. } if now == at(0) => Answer::Failed(Failure::unanswered("no answer")),
        Call::AttachInstances { .. } => {
            failed(FailureKind::Rejected, "Instance i-us is already part of AutoScalingGroup:shop-asg.")
        }
        call => fine(now, call),
    });
    assert_eq!(told.milestones, [MilestoneKind::Reinstated]);
    assert!(told.remarks.is_empty(), "{:?}", told.remarks);
}

#[test]
fn what_its_group_terminates_is_not_registered() {
    for state in ["Terminating", "Terminating:Wait", "Terminating:Proceed"] {
        let told = Telling::after(Errand::Reinstate, Some(&group())).runs(600, |now, call| match call {
            Call::DescribeAutoScalingGroup { .. } => current(Some(state), 3),
            call => fine(now, call),
        });
        assert!(told.arrival.is_finished());
        assert_eq!(told.count(DutyId::Serve(0)) + told.count(DutyId::Serve(1)), 0, "{state}");
        assert_eq!(told.milestones, [], "it is not back");
    }
}

#[test]
fn what_its_group_holds_out_of_service_is_not_registered_in_the_group_s_own_target_groups() {
    for state in ["Standby", "EnteringStandby", "Warmed:Running", "Warmed:Stopped"] {
        let Plan::Group { mut group, how } = group() else { panic!("a group") };
        group.target_groups = vec![TargetGroupArn::new(WEB)];
        let told =
            Telling::after(Errand::Reinstate, Some(&Plan::Group { group, how })).runs(600, |now, call| match call {
                Call::DescribeAutoScalingGroup { .. } => current(Some(state), 3),
                call => fine(now, call),
            });
        assert!(told.arrival.is_finished(), "{state}");
        assert_eq!(told.count(DutyId::Serve(0)), 0, "{state}: no traffic for what its group has taken out");
        assert!(told.count(DutyId::Serve(1)) > 0, "{state}: the group has no say in the other");
        assert_eq!(told.milestones, [MilestoneKind::Reinstated], "{state}");
        assert!(told.remarks.iter().any(|remark| remark.contains(state)), "{state}: {:?}", told.remarks);
    }
}

#[test]
fn staying_out_only_takes_the_mark_off_and_puts_the_capacity_back() {
    let told = Telling::after(Errand::StayOut, Some(&raise())).runs(600, fine);
    assert!(told.arrival.is_finished());
    assert_eq!(told.steps, [DutyId::Unmark, DutyId::PutCapacityBack, DutyId::PutCapacityBack]);
    let told = Telling::after(Errand::StayOut, Some(&group())).runs(600, fine);
    assert_eq!(told.steps, [DutyId::Unmark]);
}

#[test]
fn a_capacity_that_is_raised_once_more_is_put_back_once_more() {
    let told = Telling::after(Errand::StayOut, Some(&raise())).runs(600, |now, call| match call {
        Call::PutCapacityBack { .. } => Answer::Capacity { is_back: now < at(1_000) || now > at(30_000) },
        call => fine(now, call),
    });
    assert!(told.arrival.is_finished());
    assert!(told.now > at(34_000));
}

#[test]
fn terminating_itself_is_all_that_it_does() {
    let told = Telling::after(Errand::Terminate, Some(&raise())).runs(600, |now, call| match call {
        Call::TerminateInstances if now < at(30_000) => failed(FailureKind::Denied, "no"),
        call => fine(now, call),
    });
    assert!(told.arrival.is_finished());
    assert!(told.steps.iter().all(|step| *step == DutyId::Terminate));
    assert!(told.steps.len() > 2);
}

#[test]
fn only_what_was_begun_has_to_be_left_again() {
    let mut arrival = Arrival::arrive(identity(), Readiness::AtOnce, at(0));
    assert_eq!(arrival.registrations().count(), 0);
    arrival.due(at(0));
    arrival.answered(at(10), DutyId::FindTargetGroups, fine(at(10), &Call::FindTargetGroups));
    assert_eq!(arrival.registrations().count(), 0);
    // It may have been done, answered or not.
    arrival.due(at(20));
    assert_eq!(arrival.registrations().count(), 1);
}

#[test]
fn a_group_that_wants_server_ids_is_left_to_others_with_a_word_and_nothing_is_tried_there() {
    let quic = Registration { needs_server_id: true, ..registration(API, &[8080]) };
    let places = vec![registration(WEB, &[80]), quic];
    let back = Arrival::after_handover(Errand::Reinstate, identity(), Readiness::AtOnce, places, None, at(0));
    let told = Telling::of(back).runs(900, fine);
    assert_eq!(told.milestones, [MilestoneKind::Reinstated]);
    assert!(!told.arrival.is_wholly_back());
    assert_eq!((told.count(DutyId::Serve(0)), told.count(DutyId::Serve(1))), (3, 0));
    assert!(matches!(told.remarks.as_slice(), [one] if one.contains("QuicServerId")), "{:?}", told.remarks);
    let arrival = Arrival::arrive(identity(), Readiness::AtOnce, at(0));
    let told = Telling::of(arrival).runs(900, |now, call| match call {
        Call::FindTargetGroups => {
            let wanted = vec![Registration { needs_server_id: true, ..registration(API, &[8080]) }];
            Answer::TargetGroups { wanted, missing: Vec::new() }
        }
        call => fine(now, call),
    });
    assert_eq!((told.milestones.len(), told.remarks.len()), (0, 1), "it is in service nowhere: {:?}", told.remarks);
}
