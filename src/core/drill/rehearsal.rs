//! A drill played through against an AWS that answers as hoped: which calls it gives out, in order. They come from the
//! same core that will give them out in earnest, so they are its calls and not a description of them.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::Survey;
use crate::core::config::Config;
use crate::core::handover::{Answer, Call};
use crate::core::life::{Life, Task};
use crate::core::model::*;
use crate::core::plan::{BASE_CAPACITY_TAG, Plan};

/// Stands for the instance that will be launched.
pub const SUCCESSOR: &str = "i-successor";
/// No drill has so many rounds.
const ROUNDS: usize = 5_000;

/// One call that changes something at AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub call: Call,
    /// After the handover, on the way back.
    pub comes_back: bool,
    /// Of a call that puts a fleet's capacity back: the fleet, whose mark is still on it.
    pub marked_fleet: Option<Box<Fleet>>,
}

/// `aws_now` is AWS's time. Each call stands where it is first given out.
pub fn rehearse(survey: &Survey, config: &Config, within: Duration, aws_now: Timestamp) -> Vec<Step> {
    let (identity, record) = (survey.identity.clone(), survey.record.clone());
    let mut life = Life::new(identity, survey.boot_id.clone(), config.clone(), false, record);
    let mut now = BootInstant::since_boot(Duration::from_secs(3_600));
    let began = now;
    life.learn(survey.known.clone(), true, now);
    life.saw_notice(None, aws_now, now);
    life.drill(within);
    let mut world = World::before(survey);
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..ROUNDS {
        let errands = life.due(now);
        if errands.is_empty() {
            match life.wake() {
                Some(wake) => now = wake,
                None => break,
            }
            continue;
        }
        // A moment passes between a call and what it leads to.
        now = now + Duration::from_millis(10);
        for errand in errands {
            let comes_back = matches!(errand.ticket.task, Task::Arrive(_));
            let marked_fleet = world.marked_fleet(&errand.call);
            let step = Step { call: errand.call.clone(), comes_back, marked_fleet };
            if step.call.writes()
                && !steps.iter().any(|known| known.call == step.call && known.comes_back == comes_back)
            {
                steps.push(step);
            }
            let answer = world.answer(&errand.call, aws_now + now.since(began));
            life.answered(now, errand.ticket, answer);
        }
    }
    steps
}

/// AWS as it is hoped to be.
struct World {
    identity: Identity,
    registrations: Vec<Registration>,
    /// Target group and target.
    targets: BTreeSet<(TargetGroupArn, Target)>,
    fleet: Option<Fleet>,
    members: Vec<FleetMember>,
    group: Option<AutoScalingGroup>,
    is_member: bool,
    launched_at: Option<Timestamp>,
}

impl World {
    fn before(survey: &Survey) -> World {
        let registrations = survey.known.registrations.clone().unwrap_or_default();
        let all =
            registrations.iter().flat_map(|one| one.targets.iter().map(|it| (one.target_group.clone(), it.clone())));
        let (fleet, group) = match &survey.known.plan {
            Some(Plan::Fleet { fleet, .. }) => (Some(fleet.clone()), None),
            Some(Plan::Group { group, .. }) => (None, Some(group.clone())),
            _ => (None, None),
        };
        let ours = FleetMember {
            instance_id: survey.identity.instance_id.clone(),
            instance_type: survey.identity.instance_type.clone(),
            instance: None,
            taken_since: None,
        };
        World {
            targets: all.collect(),
            registrations,
            fleet,
            members: vec![ours],
            group,
            is_member: true,
            launched_at: None,
            identity: survey.identity.clone(),
        }
    }

    /// The fleet, if this call finds its mark left over and takes it off.
    fn marked_fleet(&self, call: &Call) -> Option<Box<Fleet>> {
        let puts_back = matches!(call, Call::PutCapacityBack { .. });
        self.fleet.clone().filter(|fleet| puts_back && fleet.tags.contains_key(BASE_CAPACITY_TAG)).map(Box::new)
    }

    fn answer(&mut self, call: &Call, aws_now: Timestamp) -> Answer {
        match call {
            Call::DeregisterTargets { target_group, targets, .. } => {
                self.targets.retain(|(arn, target)| arn != target_group || !targets.contains(target));
                Answer::Accepted
            }
            Call::RegisterTargets { target_group, targets, .. } => {
                self.targets.extend(targets.iter().map(|target| (target_group.clone(), target.clone())));
                Answer::Accepted
            }
            Call::DescribeTargetHealth { target_group, targets, .. } => {
                Answer::Health(TargetHealth::as_asked(self.health(target_group), targets))
            }
            Call::LookAtConnections { .. } => Answer::Connections(Connections::default()),
            Call::DetachInstances { decrement, .. } => {
                self.is_member = false;
                if !decrement {
                    self.launch(aws_now);
                }
                Answer::Accepted
            }
            Call::AttachInstances { .. } => {
                self.is_member = true;
                Answer::Accepted
            }
            Call::LaunchInstances { .. } | Call::CreateFleet { .. } => {
                self.launch(aws_now);
                Answer::Launched(Launched { instances: vec![InstanceId::new(SUCCESSOR)], errors: Vec::new() })
            }
            Call::DescribeGroupMembers { .. } => Answer::GroupMembers(self.group_members()),
            Call::DescribeGroupRoom { .. } => Answer::GroupRoom(Some(GroupRoom {
                members: self.group_members(),
                desired_capacity: self.group.as_ref().map_or(0, |group| group.desired_capacity),
                // Whether there is room is an objection's matter.
                max_size: i32::MAX,
            })),
            Call::DescribeInstances { .. } | Call::DescribeSuccessorsByTag => Answer::Instances(self.successor()),
            Call::DescribeFleet { .. } => Answer::Fleet(self.fleet.clone().map(Box::new)),
            Call::DescribeFleetMembers { .. } => Answer::FleetMembers(self.members.clone()),
            Call::TagFleet { key, value, .. } => {
                if let Some(fleet) = &mut self.fleet {
                    fleet.tags.insert(key.clone(), value.clone());
                }
                Answer::Accepted
            }
            Call::ModifyFleet { total, spot, .. } => self.modify_fleet(*total, *spot, aws_now),
            Call::PutCapacityBack { .. } => {
                let tag = self.fleet.as_mut().and_then(|fleet| fleet.tags.remove(BASE_CAPACITY_TAG));
                Answer::Capacity { is_back: tag.is_none() }
            }
            Call::RunHook { .. } => Answer::Hook { succeeded: true, how: "succeeded".to_owned() },
            Call::FindRegistrations { .. } => Answer::Registrations(self.registrations.clone()),
            Call::FindTargetGroups => Answer::TargetGroups { wanted: self.registrations.clone(), missing: Vec::new() },
            // Of these a drill gives out none, or their answer says nothing.
            Call::FindPlan
            | Call::TerminateInstanceInAutoScalingGroup { .. }
            | Call::CompleteLifecycleAction { .. }
            | Call::RecordLifecycleActionHeartbeat { .. }
            | Call::TagInstance { .. }
            | Call::UntagInstance { .. }
            | Call::LookAtReadiness(_)
            | Call::TerminateInstances => Answer::Accepted,
        }
    }

    fn modify_fleet(&mut self, total: i32, spot: Option<i32>, aws_now: Timestamp) -> Answer {
        let Some(fleet) = &mut self.fleet else { return Answer::Accepted };
        let is_raised = total > fleet.capacity.fulfilled;
        fleet.capacity.total = total;
        fleet.capacity.spot = spot;
        if is_raised {
            fleet.capacity.fulfilled = total;
            self.launch(aws_now);
        }
        Answer::Accepted
    }

    fn launch(&mut self, aws_now: Timestamp) {
        self.launched_at.get_or_insert(aws_now);
        let id = InstanceId::new(SUCCESSOR);
        let by_owner = self.group.as_ref().map(|group| &group.target_groups);
        let by_owner = by_owner.or(self.fleet.as_ref().map(|fleet| &fleet.target_groups));
        for registration in &self.registrations {
            if by_owner.is_some_and(|groups| groups.contains(&registration.target_group)) {
                let new = registration.targets_of(id.as_str()).into_iter();
                self.targets.extend(new.map(|target| (registration.target_group.clone(), target)));
            }
        }
        if !self.members.iter().any(|member| member.instance_id == id) {
            self.members.push(FleetMember {
                instance_id: id,
                instance_type: self.identity.instance_type.clone(),
                instance: self.successor().pop(),
                taken_since: None,
            });
        }
    }

    fn group_members(&self) -> Vec<GroupMember> {
        let member = |id: InstanceId| GroupMember {
            instance_id: id,
            availability_zone: self.identity.availability_zone.clone(),
            lifecycle_state: "InService".to_owned(),
        };
        let known = self.group.iter().flat_map(|group| &group.members).map(|member| &member.instance_id);
        let others = known.filter(|id| **id != self.identity.instance_id).cloned();
        let ours = self.is_member.then(|| self.identity.instance_id.clone());
        let successor = self.launched_at.map(|_| InstanceId::new(SUCCESSOR));
        ours.into_iter().chain(others).chain(successor).map(member).collect()
    }

    fn successor(&self) -> Vec<Instance> {
        let instance = |launched_at: Timestamp| Instance {
            instance_id: InstanceId::new(SUCCESSOR),
            state: InstanceState::Running,
            instance_type: self.identity.instance_type.clone(),
            availability_zone: self.identity.availability_zone.clone(),
            private_ip: Some(SUCCESSOR.to_owned()),
            subnet_id: None,
            launch_time: Some(launched_at),
            tags: std::collections::BTreeMap::new(),
        };
        self.launched_at.map(instance).into_iter().collect()
    }

    /// What is registered is healthy, and what was ours and is not any more drains.
    fn health(&self, target_group: &TargetGroupArn) -> Vec<TargetHealth> {
        let row = |target: &Target, state| TargetHealth { target: target.clone(), state, reason: None };
        let here = self.targets.iter().filter(|(arn, _)| arn == target_group);
        let ours = self.registrations.iter().filter(|one| one.target_group == *target_group).flat_map(|it| &it.targets);
        let gone = ours.filter(|target| !self.targets.contains(&(target_group.clone(), (*target).clone())));
        here.map(|(_, target)| row(target, TargetState::Healthy))
            .chain(gone.map(|target| row(target, TargetState::Draining)))
            .collect()
    }
}
