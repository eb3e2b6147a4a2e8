//! One handover of a member of an Auto Scaling group, answer by answer.

mod rebalances;
mod scaled_in;
mod successors;
mod swapped;

use super::*;
use crate::core::call::HookResult;

const US: &str = "i-victim";

/// A handover whose answers the test gives.
struct Told {
    handover: Handover,
    now: u64,
    /// The group is throttled.
    throttled: bool,
    /// The group's Capacity Rebalancing is on by now.
    rebalances: bool,
    /// The group's target groups by now.
    target_groups: Vec<TargetGroupArn>,
}

fn plan_of(group: AutoScalingGroup) -> Plan {
    let how = if group.termination_hooks.is_empty() { GroupRequest::Detach } else { GroupRequest::Terminate };
    Plan::Group { group, how }
}

fn told(plan: Plan, when: When, change: impl FnOnce(&mut Incident)) -> Told {
    let mut incident = incident_of(US, Action::Terminate, 121_000);
    change(&mut incident);
    let settings =
        HandoverSettings { leave: LeaveSettings { when, ..LeaveSettings::default() }, ..HandoverSettings::default() };
    let registrations = vec![registration(WEB, US, &[80])];
    let known = LookedUp { registrations: Some(registrations), plan: Some(plan), ..LookedUp::default() };
    let handover = Handover::begin(incident, settings, known, at(1_000));
    let target_groups = empty_group().target_groups;
    Told { handover, now: 1_000, throttled: false, rebalances: false, target_groups }
}

fn refused(code: &str, message: &str) -> Answer {
    failed(FailureKind::Rejected, code, message)
}

fn failed(kind: FailureKind, code: &str, message: &str) -> Answer {
    let code = Some(code.to_owned()).filter(|code| !code.is_empty());
    Answer::Failed(Failure { kind, code, message: message.into() })
}

/// The group's settings, and how it holds this instance.
fn settings(capacity_rebalance: bool, state: Option<&str>) -> Answer {
    let members = state.map(|state| member(US, state)).into_iter().collect();
    let current = Some(GroupState { capacity_rebalance, members, ..empty_group() });
    Answer::GroupSettings { current, termination_hooks: None }
}

fn members(state: &str) -> Answer {
    Answer::GroupState(Some(GroupState { members: vec![member(US, state)], ..empty_group() }))
}

impl Told {
    /// The calls of one duty that are due by then, looking every tenth of a second; everything else is answered well.
    fn until(&mut self, end: u64, duty: DutyId) -> Option<Call> {
        while self.now <= end {
            let due = self.handover.due(at(self.now));
            let (mut wanted, mut again) = (None, false);
            for Due { duty: of, call, .. } in due {
                if of == duty && matches!(call, Call::DescribeGroupSettings { .. }) {
                    self.handover.answered(at(self.now), of, self.settings());
                    again = true;
                } else if of == duty {
                    wanted = Some(call);
                } else if self.throttled && of == DutyId::Ask {
                    let throttled = failed(FailureKind::Throttled, "Throttling", "Rate exceeded");
                    self.handover.answered(at(self.now), of, throttled);
                } else if let Some(answer) = well(&call).map(|answer| self.of_group(answer)) {
                    self.handover.answered(at(self.now), of, answer);
                }
            }
            if wanted.is_some() {
                return wanted;
            }
            self.now += if again { 0 } else { 100 };
        }
        None
    }

    /// The process after this one goes by the record.
    fn restart(&mut self) {
        let stored = serde_json::to_string(self.handover.incident()).expect("a record");
        let mut incident: Incident = serde_json::from_str(&stored).expect("an incident");
        incident.start = Start { earlier: Earlier::Restart, ..self.handover.incident().start.clone() };
        let registrations = Some(vec![registration(WEB, US, &[80])]);
        let known = LookedUp { registrations, plan: incident.plan.clone(), ..LookedUp::default() };
        self.handover = Handover::begin(incident, self.handover.facts.settings.clone(), known, at(self.now));
    }

    fn settings(&self) -> Answer {
        self.of_group(settings(self.rebalances, Some("InService")))
    }

    /// The same of a group with these target groups.
    fn of_group(&self, mut answer: Answer) -> Answer {
        if let Answer::GroupState(Some(current)) | Answer::GroupSettings { current: Some(current), .. } = &mut answer {
            current.target_groups.clone_from(&self.target_groups);
        }
        answer
    }

    fn answer(&mut self, duty: DutyId, answer: Answer) {
        self.handover.answered(at(self.now), duty, answer);
    }
}

fn row(state: TargetState) -> TargetHealth {
    TargetHealth { target: Target { id: US.into(), port: 80 }, state, reason: None }
}

/// Nothing goes wrong, and no successor shows.
fn well(call: &Call) -> Option<Answer> {
    match call {
        Call::DescribeTargetHealth { targets, .. } if targets.is_empty() => Some(many_serve()),
        Call::DescribeTargetHealth { .. } => Some(Answer::Health(Vec::new())),
        Call::LookAtConnections { .. } => Some(Answer::Connections(Connections::default())),
        Call::DescribeGroupSettings { .. } => Some(settings(false, Some("InService"))),
        Call::FindGroup => Some(Answer::Plan(Box::new(Plan::nobody("the same as before")))),
        Call::DescribeAutoScalingGroup { .. } => Some(Answer::GroupState(Some(GroupState {
            members: Vec::new(),
            desired_capacity: 3,
            max_size: 9,
            ..empty_group()
        }))),
        call if call.writes() => Some(Answer::Accepted),
        _ => None,
    }
}

#[test]
fn a_member_that_is_pending_is_detached_once_it_is_in_service() {
    let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DetachInstances { .. })));
    told.answer(DutyId::Ask, refused("ValidationError", "The instance i-victim is not in InService or Standby."));
    for state in ["Pending", "Pending:Wait", "Pending:Proceed"] {
        assert!(
            matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })),
            "{state}"
        );
        told.answer(DutyId::Ask, members(state));
    }
    assert!(told.handover.take_milestones().iter().all(|it| it.milestone != MilestoneKind::SuccessorRequested));
    assert!(matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, members("InService"));
    assert!(matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DetachInstances { decrement: false, .. })));
    told.answer(DutyId::Ask, Answer::Accepted);
    assert!(told.handover.take_milestones().iter().any(|it| it.milestone == MilestoneKind::SuccessorRequested));
}

#[test]
fn a_member_that_was_pending_launches_no_successor_first_that_it_could_not_make_room_for() {
    let mut group = group(&[]);
    group.members = vec![member(US, "Pending")];
    let mut told = told(plan_of(group), When::SuccessorHealthy, |_| {});
    for state in ["Pending", "Pending:Proceed"] {
        assert!(
            matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })),
            "{state}"
        );
        told.answer(DutyId::Ask, members(state));
    }
    assert!(matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, members("InService"));
    assert!(matches!(told.until(told.now + 5_000, DutyId::Ask), Some(Call::DetachInstances { decrement: false, .. })));
}

#[test]
fn a_member_at_a_launching_hook_launches_nothing_first_though_the_metadata_shows_where_it_goes() {
    let mut group = group(&[]);
    group.members = vec![member(US, "Pending:Wait")];
    group.launch_hooks = hooks(&["ready"]);
    let plan = plan_of(group).with_member_state(&id(US), "InService");
    let mut told = told(plan, When::Auto, |_| {});
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, members("Pending:Wait"));
    let next = told.until(110_000, DutyId::Ask);
    assert!(matches!(next, Some(Call::CompleteLifecycleAction { result: HookResult::Abandon, .. })), "{next:?}");
}

fn hooks(names: &[&str]) -> Vec<LifecycleHook> {
    let hook = |name: &&str| LifecycleHook { name: (*name).into(), heartbeat_timeout: Duration::from_secs(60) };
    names.iter().map(hook).collect()
}

#[test]
fn a_member_at_a_launching_hook_is_abandoned_once_quiet() {
    let mut group = group(&[]);
    group.launch_hooks = hooks(&["first", "second"]);
    let mut told = told(plan_of(group), When::AtOnce, |_| {});
    told.until(2_000, DutyId::Ask);
    told.answer(DutyId::Ask, refused("ValidationError", "The instance i-victim is not in InService or Standby."));
    told.until(2_000, DutyId::Ask);
    told.answer(DutyId::Ask, members("Pending:Wait"));
    let abandoned = |call: Option<Call>, name: &str| match call {
        Some(Call::CompleteLifecycleAction { hook, result: HookResult::Abandon, .. }) => assert_eq!(hook, name),
        other => panic!("{other:?}"),
    };
    abandoned(told.until(110_000, DutyId::Ask), "first");
    assert!(told.handover.is_quiet());
    told.answer(DutyId::Ask, refused("ValidationError", "No active Lifecycle Action found with instance ID i-victim"));
    abandoned(told.until(110_000, DutyId::Ask), "second");
    told.answer(DutyId::Ask, Answer::Accepted);
    assert!(told.handover.take_milestones().iter().any(|it| it.milestone == MilestoneKind::SuccessorRequested));
}

#[test]
fn a_refusal_of_a_member_that_leaves_already_is_done() {
    for state in ["Detaching", "Terminating", "Terminating:Wait"] {
        let mut told = told(plan_of(group(&[])), When::AtOnce, |incident| incident.start.earlier = Earlier::Perhaps);
        told.until(2_000, DutyId::Ask);
        told.answer(DutyId::Ask, refused("ValidationError", "The instance i-victim is not in InService or Standby."));
        told.until(2_000, DutyId::Ask);
        told.answer(DutyId::Ask, members(state));
        assert!(told.until(20_000, DutyId::Ask).is_none(), "{state}");
    }
}

#[test]
fn a_launch_in_progress_is_asked_for_again_under_its_token_and_nothing_else_is() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
    let token = |call: Option<Call>| match call {
        Some(Call::LaunchInstances { client_token, .. }) => client_token,
        other => panic!("{other:?}"),
    };
    let first = token(told.until(1_000, DutyId::Ask));
    told.answer(DutyId::Ask, Answer::Failed(Failure::unanswered("no answer within 20 s")));
    // To the reserve, because nobody else serves: the target groups are left, and the group is asked for nothing else.
    while told.now < 111_000 {
        assert_eq!(token(told.until(told.now + 10_000, DutyId::Ask)), first);
        told.answer(DutyId::Ask, refused("IdempotentCallInProgress", "in progress"));
    }
    assert!(told.handover.is_quiet());
    assert_eq!(token(told.until(told.now + 10_000, DutyId::Ask)), first);
    told.answer(DutyId::Ask, Answer::Launched(Launched { instances: vec![id("i-new")], errors: Vec::new() }));
    assert!(matches!(told.until(told.now, DutyId::Ask), Some(Call::DetachInstances { decrement: true, .. })));
}

#[test]
fn a_group_that_is_busy_is_no_doubt_whatever_the_status() {
    for code in ["ResourceContention", "ScalingActivityInProgress", "ResourceInUse"] {
        let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
        let mut launches = 0;
        loop {
            match told.until(told.now + 20_000, DutyId::Ask) {
                Some(Call::LaunchInstances { .. }) => {
                    launches += 1;
                    told.answer(DutyId::Ask, failed(FailureKind::Fault, code, "HTTP 500"));
                }
                Some(Call::DetachInstances { decrement: false, .. }) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(launches > 3 && told.now < 30_000, "{code}: asked {launches} times until {}", told.now);
    }
}

#[test]
fn a_member_that_left_before_it_was_asked_has_no_successor_that_is_known_of() {
    let refusal = || refused("ValidationError", "The instance i-victim is not part of Auto Scaling group shop-asg.");
    for state in [None, Some("Detached")] {
        let plan = plan_of(group(&[]));
        let plan = state.map_or(plan.clone(), |state| plan.with_member_state(&id(US), state));
        let mut told = told(plan, When::AtOnce, |_| {});
        assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DetachInstances { .. })));
        told.answer(DutyId::Ask, refusal());
        assert!(told.until(122_000, DutyId::Find).is_none(), "nobody is looked for");
        assert!(told.handover.take_milestones().iter().all(|it| it.milestone != MilestoneKind::SuccessorRequested));
        let outcome = told.handover.outcome().expect("the end");
        assert!(outcome.duties.iter().any(|duty| duty.what.contains("had left its group before")), "{outcome:#?}");
        assert!(outcome.duties.iter().all(|duty| !duty.duty.starts_with("successor in")), "{outcome:#?}");
    }
}

#[test]
fn a_refusal_that_the_state_does_not_explain_is_asked_again_less_and_less_often() {
    let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
    let (mut detaches, mut reads) = (0, 0);
    while let Some(call) = told.until(115_000, DutyId::Ask) {
        match call {
            Call::DetachInstances { .. } => {
                detaches += 1;
                told.answer(DutyId::Ask, refused("ValidationError", "This is not possible now."));
            }
            Call::DescribeAutoScalingGroup { .. } => {
                reads += 1;
                told.answer(DutyId::Ask, members("InService"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((10..20).contains(&detaches) && reads >= detaches - 1, "{detaches} times, and {reads} reads");
    let reports = told.handover.reports();
    assert!(reports.iter().any(|report| report.what.contains("This is not possible now")), "{reports:#?}");
}

#[test]
fn an_instance_in_no_target_group_goes_once_its_successor_runs() {
    for (sources, leaves) in [(&[][..], true), (&["arn:aws:vpc-lattice:tg-1"][..], false)] {
        let mut group = group(&[]);
        group.other_traffic_sources = sources.iter().map(|source| (*source).to_owned()).collect();
        let mut incident = incident_of(US, Action::Terminate, 3_600_000);
        (incident.signal, incident.start.owner_sees) =
            (Signal::RebalanceRecommendation, Signal::RebalanceRecommendation);
        let known = LookedUp { registrations: Some(Vec::new()), plan: Some(plan_of(group)), ..LookedUp::default() };
        let mut handover = Handover::begin(incident, HandoverSettings::default(), known, at(1_000));
        let mut calls = Vec::new();
        for now in (1_000..120_000).step_by(100) {
            for Due { duty, call, .. } in handover.due(at(now)) {
                let answer = match &call {
                    Call::LaunchInstances { .. } => {
                        Answer::Launched(Launched { instances: vec![id("i-new")], errors: Vec::new() })
                    }
                    Call::DescribeInstances { .. } => Answer::Instances(vec![running("i-new")]),
                    other => well(other).unwrap_or(Answer::Accepted),
                };
                calls.push(call);
                handover.answered(at(now), duty, answer);
            }
        }
        let launches = calls.iter().any(|call| matches!(call, Call::LaunchInstances { .. }));
        let detaches = calls.iter().any(|call| matches!(call, Call::DetachInstances { decrement: true, .. }));
        assert_eq!((launches, detaches), (leaves, leaves), "{sources:?}: {calls:?}");
        assert!(handover.outcome().is_some(), "{sources:?}: {:#?}", handover.reports());
    }
}

#[test]
fn a_launch_has_twenty_seconds() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |incident| incident.planned_before = false);
    let due = told.handover.due(at(1_000));
    let launch = due.iter().find(|due| matches!(due.call, Call::LaunchInstances { .. })).expect("a launch");
    assert_eq!(launch.limit, Duration::from_secs(20));
}

#[test]
fn an_endpoint_that_lacks_launch_instances_is_a_no() {
    let mut told = told(plan_of(group(&[])), When::SuccessorHealthy, |_| {});
    for _ in 0..3 {
        assert!(matches!(told.until(60_000, DutyId::Ask), Some(Call::LaunchInstances { .. })));
        told.answer(DutyId::Ask, failed(FailureKind::Fault, "", "HTTP 500 without an error that could be read"));
    }
    // It is looked for until it is sure that nothing was launched: the group would show it.
    let next = told.until(115_000, DutyId::Ask);
    assert!(matches!(next, Some(Call::DetachInstances { decrement: false, .. })), "{next:?}");
    assert!(told.now < 15_000, "{}", told.now);
}

#[test]
fn a_launch_that_aws_leaves_open_is_given_up_for_a_detach_after_twenty_seconds_unless_the_group_grew() {
    let silence = || Answer::Failed(Failure::unanswered("no answer within 20 s"));
    let fault = || failed(FailureKind::Fault, "InternalFailure", "HTTP 500");
    for (takes, answer, grows, gives_up_by) in
        [(20_000, silence(), 0, 45_000), (100, fault(), 0, 25_000), (100, fault(), 1, u64::MAX)]
    {
        let mut told = told(plan_of(group(&[])), When::Auto, |_| {});
        let (mut tokens, mut looks) = (std::collections::BTreeSet::new(), 0);
        let detaches = loop {
            match told.until(110_000, DutyId::Ask) {
                Some(Call::LaunchInstances { client_token, .. }) => {
                    tokens.insert(client_token);
                    told.now += takes;
                    told.answer(DutyId::Ask, answer.clone());
                }
                Some(Call::DescribeAutoScalingGroup { .. }) => {
                    let (members, desired_capacity) = (Vec::new(), group(&[]).desired_capacity + grows);
                    let current = GroupState { members, desired_capacity, max_size: 9, ..empty_group() };
                    told.answer(DutyId::Ask, Answer::GroupState(Some(current)));
                    looks += 1;
                }
                Some(Call::DetachInstances { decrement: false, .. }) => break true,
                None => break false,
                other => panic!("{other:?}"),
            }
        };
        let step = told.handover.incident().launch.expect("a launch");
        assert!(!step.refused, "AWS has not answered: the process after this one is to know it");
        assert_eq!((detaches, tokens.len()), (grows == 0, 1), "the group replaces it, and one launch was asked for");
        assert!(told.now < gives_up_by && looks < 50, "{} ms, {looks} looks", told.now);
    }
}

#[test]
fn where_terminating_is_denied_the_group_is_asked_to_detach() {
    let mut told = told(plan_of(group(&["drain"])), When::AtOnce, |_| {});
    let terminates = |call: &Call| matches!(call, Call::TerminateInstanceInAutoScalingGroup { .. });
    assert!(told.until(2_000, DutyId::Ask).is_some_and(|call| terminates(&call)));
    told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
    let next = told.until(12_000, DutyId::Ask);
    assert!(matches!(next, Some(Call::DetachInstances { decrement: false, .. })), "{next:?}");
}

#[test]
fn a_detach_leaves_only_the_proof_whatever_fails_a_deregistration() {
    for failure in [
        failed(FailureKind::Denied, "AccessDenied", "not authorized"),
        Answer::Failed(Failure::unanswered("no answer within 3 s")),
        failed(FailureKind::Fault, "", "HTTP 503"),
    ] {
        let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
        // The detach of the same instant is accepted.
        assert!(matches!(told.until(2_000, DutyId::Leave(0)), Some(Call::DeregisterTargets { .. })));
        told.answer(DutyId::Leave(0), failure);
        assert!(matches!(told.until(20_000, DutyId::Leave(0)), Some(Call::DescribeTargetHealth { .. })));
        told.answer(DutyId::Leave(0), Answer::Health(vec![row(TargetState::Draining)]));
        let told_of: Vec<MilestoneKind> = told.handover.take_milestones().iter().map(|it| it.milestone).collect();
        assert!(told_of.contains(&MilestoneKind::Left), "{told_of:?}");
    }
}

#[test]
fn an_accepted_detach_needs_no_second_deregistration_of_the_groups_own_but_the_proof() {
    let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
    told.throttled = true;
    assert!(matches!(told.until(2_000, DutyId::Leave(0)), Some(Call::DeregisterTargets { .. })));
    told.throttled = false;
    told.answer(DutyId::Leave(0), failed(FailureKind::Throttled, "Throttling", "Rate exceeded"));
    told.until(5_000, DutyId::Ask);
    told.answer(DutyId::Ask, Answer::Accepted);
    assert!(matches!(told.until(20_000, DutyId::Leave(0)), Some(Call::DescribeTargetHealth { .. })));
    // The proof fails: then it is our business again.
    told.answer(DutyId::Leave(0), Answer::Health(vec![row(TargetState::Healthy)]));
    assert!(matches!(told.until(20_000, DutyId::Leave(0)), Some(Call::DeregisterTargets { .. })));
    told.answer(DutyId::Leave(0), Answer::Accepted);
    assert!(matches!(told.until(40_000, DutyId::Leave(0)), Some(Call::DescribeTargetHealth { .. })));
    told.answer(DutyId::Leave(0), Answer::Health(vec![row(TargetState::Draining)]));
    let told_of: Vec<MilestoneKind> = told.handover.take_milestones().iter().map(|it| it.milestone).collect();
    assert!(told_of.contains(&MilestoneKind::Deregistered) && told_of.contains(&MilestoneKind::Left), "{told_of:?}");
}

#[test]
fn a_deregistration_goes_on_while_the_detach_is_refused_and_where_the_group_has_no_say() {
    let mut told = told(plan_of(group(&[])), When::AtOnce, |_| {});
    told.throttled = true;
    assert!(told.until(2_000, DutyId::Leave(0)).is_some());
    told.answer(DutyId::Leave(0), failed(FailureKind::Throttled, "Throttling", "Rate exceeded"));
    told.answer(DutyId::Ask, failed(FailureKind::Throttled, "Throttling", "Rate exceeded"));
    assert!(matches!(told.until(20_000, DutyId::Leave(0)), Some(Call::DeregisterTargets { .. })));
    let mut elsewhere = group(&[]);
    elsewhere.target_groups = vec![TargetGroupArn::new(API)];
    let mut told = super::group::told(plan_of(elsewhere), When::AtOnce, |_| {});
    assert!(told.until(2_000, DutyId::Leave(0)).is_some());
    told.answer(DutyId::Leave(0), failed(FailureKind::Throttled, "Throttling", "Rate exceeded"));
    assert!(matches!(told.until(20_000, DutyId::Leave(0)), Some(Call::DeregisterTargets { .. })));
}

#[test]
fn a_group_whose_hook_is_gone_is_asked_to_detach_and_not_to_end_this_instance_early() {
    for when in [When::Auto, When::AtOnce] {
        for (hooks, terminates) in [(Some(Vec::new()), false), (Some(hooks(&["another"])), true), (None, true)] {
            let mut told = told(plan_of(group(&["drain"])), when, |_| {});
            let due = told.handover.due(at(1_000));
            let asked = due.iter().find(|due| due.duty == DutyId::Ask).expect("a call");
            assert!(matches!(asked.call, Call::DescribeGroupSettings { asks_hooks: true, .. }), "{asked:?}");
            let members = vec![member(US, "InService")];
            let current = Some(GroupState { members, ..empty_group() });
            told.answer(DutyId::Ask, Answer::GroupSettings { current, termination_hooks: hooks });
            let mut next = told.until(2_000, DutyId::Ask);
            if when == When::Auto {
                assert!(matches!(next, Some(Call::LaunchInstances { .. })), "{next:?}");
                told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
                next = told.until(20_000, DutyId::Ask);
            }
            let is_right = match &next {
                Some(Call::DetachInstances { decrement: false, .. }) => !terminates,
                Some(Call::TerminateInstanceInAutoScalingGroup { decrement: false }) => terminates,
                _ => false,
            };
            assert!(is_right, "{when:?} {terminates}: {next:?}");
        }
    }
}

#[test]
fn a_member_that_was_moved_to_another_group_leaves_that_one() {
    let mut other = group(&[]);
    (other.name, other.target_groups) = ("blue".into(), vec![TargetGroupArn::new(API)]);
    for (when, restarts) in [(When::Auto, false), (When::AtOnce, false), (When::AtOnce, true)] {
        let mut told = told(plan_of(group(&[])), when, |incident| {
            incident.start.earlier = if restarts { Earlier::Restart } else { Earlier::Nothing };
        });
        if when == When::Auto {
            assert!(told.handover.due(at(1_000)).iter().any(|due| due.duty == DutyId::Ask));
            told.answer(DutyId::Ask, settings(false, None));
        } else {
            assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DetachInstances { .. })));
            let gone = "The instance i-victim is not part of Auto Scaling group shop-asg.";
            told.answer(DutyId::Ask, refused("ValidationError", gone));
        }
        assert!(matches!(told.until(2_000, DutyId::FindPlan), Some(Call::FindPlan)), "who launches it is asked again");
        told.answer(DutyId::FindPlan, Answer::Plan(Box::new(plan_of(other.clone()))));
        told.target_groups.clone_from(&other.target_groups);
        let look = told.until(told.now + 10_000, DutyId::FindRegistrations(0));
        let Some(Call::FindRegistrations { among: Some(among), .. }) = look else { panic!("{look:?}") };
        assert_eq!(among, other.target_groups, "{when:?}");
        told.answer(DutyId::FindRegistrations(0), found(vec![registration(API, US, &[8080])]));
        assert!(matches!(told.until(110_000, DutyId::Leave(1)), Some(Call::DeregisterTargets { .. })), "{when:?}");
        told.until(110_000, DutyId::Lifecycle(0));
        let reports = told.handover.reports();
        assert!(reports.iter().any(|it| it.done && it.duty == "detach from group blue"), "{when:?}: {reports:#?}");
    }
}

#[test]
fn a_protection_from_scale_in_that_was_set_since_the_look_up_is_known_to_whoever_comes_back() {
    for (known, shown) in [(false, true), (true, false)] {
        let ours = |loses_protection| GroupMember { loses_protection, ..member(US, "InService") };
        let group = AutoScalingGroup { members: vec![ours(known)], ..group(&[]) };
        let mut told = told(plan_of(group), When::Auto, |_| {});
        assert!(told.handover.due(at(1_000)).iter().any(|due| due.duty == DutyId::Ask));
        let current = Some(GroupState { members: vec![ours(shown)], ..empty_group() });
        told.answer(DutyId::Ask, Answer::GroupSettings { current, termination_hooks: None });
        told.answer(DutyId::Find, Answer::GroupState(Some(empty_group())));
        let Some(Plan::Group { group, .. }) = told.handover.plan() else { panic!("a group") };
        assert_eq!(group.members, [ours(shown)]);
    }
}

#[test]
fn nobody_says_after_a_restart_that_an_instance_serves_on_which_has_left() {
    let mut told = told(plan_of(group(&[])), When::Auto, |_| {});
    told.until(2_000, DutyId::Ask);
    told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
    told.until(6_000, DutyId::MemberState);
    told.restart();
    let noticed = told.handover.incident().milestones.iter().rfind(|it| it.milestone == MilestoneKind::Noticed);
    let message = noticed.map(|it| it.message.clone()).unwrap_or_default();
    assert!(message.contains("seen again after a restart, which leaves already"), "{message}");
}

#[test]
fn a_member_that_left_its_group_before_a_restart_and_is_in_no_other_is_asked_for_once() {
    for answer in [Answer::Plan(Box::new(Plan::nobody("its tag is gone"))), failed(FailureKind::Denied, "", "no")] {
        let mut told = told(plan_of(group(&[])), When::AtOnce, |it| it.start.earlier = Earlier::Restart);
        assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DetachInstances { .. })));
        let gone = "The instance i-victim is not part of Auto Scaling group shop-asg.";
        told.answer(DutyId::Ask, refused("ValidationError", gone));
        assert!(matches!(told.until(2_000, DutyId::FindPlan), Some(Call::FindPlan)));
        told.answer(DutyId::FindPlan, answer);
        assert_eq!(told.until(100_000, DutyId::Ask), None);
        let reports = told.handover.reports();
        assert!(reports.iter().any(|it| it.done && it.duty == "detach from group shop-asg"), "{reports:#?}");
        assert!(reports.iter().all(|it| !it.what.contains("could not be found out")), "{reports:#?}");
    }
}

#[test]
fn a_member_that_the_process_before_had_the_group_terminate_has_a_successor_to_expect() {
    let asked_before = |incident: &mut Incident| {
        (incident.start.earlier, incident.start.serve_on) = (Earlier::Restart, true);
        incident.reach(at(500), MilestoneKind::SuccessorRequested, "asked for", About::default());
    };
    let mut terminated = told(plan_of(group(&["drain"])), When::Auto, asked_before);
    terminated.handover.group_terminates(Takes::ToItsEnd, at(121_000), at(1_000));
    assert!(terminated.until(20_000, DutyId::Find).is_some());
    let reports = format!("{:?}", terminated.handover.reports());
    assert!(!reports.contains("decides on its place"), "{reports}");
    // The metadata may show it later than the group does.
    let mut told = told(plan_of(group(&["drain"])), When::Auto, asked_before);
    assert!(matches!(told.until(2_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, members("InService"));
    told.until(2_000, DutyId::Ask);
    told.answer(DutyId::Ask, failed(FailureKind::Denied, "AccessDenied", "not authorized"));
    assert!(matches!(told.until(20_000, DutyId::Ask), Some(Call::TerminateInstanceInAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, refused("ScalingActivityInProgress", "Scaling activity in progress"));
    assert!(matches!(told.until(20_000, DutyId::Ask), Some(Call::DescribeAutoScalingGroup { .. })));
    told.answer(DutyId::Ask, members("Terminating"));
    assert!(told.until(40_000, DutyId::Find).is_some());
}

#[test]
fn an_instance_that_somebody_else_has_taken_out_of_its_target_group_does_not_register_itself_there() {
    let members = [US, "i-1", "i-2"].map(|name| member(name, "InService")).into();
    let mut told = told(plan_of(AutoScalingGroup { members, ..group(&[]) }), When::AtOnce, |_| {});
    while told.now < 60_000 {
        for Due { duty, call, .. } in told.handover.due(at(told.now)) {
            assert!(!matches!((&call, duty), (Call::RegisterTargets { .. }, DutyId::OtherTargets(_))), "{call:?}");
            let nobody = matches!(call, Call::DescribeTargetHealth { .. }).then(|| Answer::Health(Vec::new()));
            if let Some(answer) = nobody.or_else(|| well(&call)) {
                told.answer(duty, answer);
            }
        }
        told.now += 100;
    }
    assert!(told.handover.is_quiet());
}
