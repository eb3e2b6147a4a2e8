//! The calls of the daemons, as AWS answers them.

use super::*;

impl Aws {
    /// A call that may get lost, or be answered at a bad moment.
    pub(crate) fn arrives(&mut self, now: u64, from: &InstanceId, call: &Call, fate: Fate) -> Answer {
        let failed =
            |kind, code: &str| Answer::Failed(Failure { kind, code: Some(code.into()), message: String::new() });
        match (fate, call) {
            (Fate::NoCapacity, Call::CreateFleet { client_token, fleet }) => {
                let errors = vec!["InsufficientInstanceCapacity: none".to_owned()];
                let launched = Launched { instances: Vec::new(), errors };
                let known = self.tokens.entry(client_token.clone());
                Answer::Launched(known.or_insert((format!("{fleet:?}"), launched)).1.clone())
            }
            (_, Call::LookAtConnections { .. }) | (Fate::Fine | Fate::LostReply | Fate::NoCapacity, _) => {
                self.perform(now, from, call)
            }
            (Fate::LostCall, _) => Answer::Accepted,
            (Fate::Throttled, _) => failed(FailureKind::Throttled, "RequestLimitExceeded"),
            (Fate::Fault, _) => failed(FailureKind::Fault, "InternalError"),
        }
    }

    pub(in crate::core::handover::tests) fn perform(&mut self, now: u64, from: &InstanceId, call: &Call) -> Answer {
        match call {
            Call::DeregisterTargets { target_group, targets, .. } => {
                for target in targets {
                    let row = (known_arn(target_group), target.id.clone(), target.port);
                    self.deregister(now, row);
                }
                self.write(format!("deregister {}", target_group.name()))
            }
            Call::RegisterTargets { target_group, targets, .. } => {
                for target in targets {
                    let row = (known_arn(target_group), target.id.clone(), target.port);
                    self.draining.remove(&row);
                    self.targets.insert(row);
                }
                let who = if targets.iter().all(|target| target.id == from.as_str()) { "us" } else { "successor" };
                self.write(format!("register {who} in {}", target_group.name()))
            }
            Call::DescribeTargetHealth { .. } if self.health_fails.is_some() => Answer::Failed(Failure {
                kind: self.health_fails.unwrap_or(FailureKind::Fault),
                code: Some("Throttling".into()),
                message: "Rate exceeded".into(),
            }),
            Call::DescribeTargetHealth { target_group, targets, .. } => {
                Answer::Health(as_asked(self.health(known_arn(target_group), now), targets))
            }
            Call::LookAtConnections { ports, .. } => Answer::Connections(Connections {
                established: 2,
                listening: ports.clone(),
                reached: ports.clone(),
                ..Connections::default()
            }),
            Call::DescribeInstances { instance_ids } => {
                Answer::Instances(instance_ids.iter().filter_map(|wanted| self.instance(wanted, now)).collect())
            }
            Call::DescribeSuccessorsByTag(predecessor) => {
                let tagged = self.tagged.get(predecessor).into_iter().flatten();
                Answer::Instances(tagged.filter_map(|wanted| self.instance(wanted, now)).collect())
            }
            Call::TagInstance { key, value } => {
                self.tags.entry(from.clone()).or_default().insert(key.clone(), value.clone());
                Answer::Accepted
            }
            Call::UntagInstance { key } => {
                self.tags.entry(from.clone()).or_default().remove(key);
                Answer::Accepted
            }
            Call::RunHook { hook, .. } => {
                self.writes.push(format!("hook {}", hook.as_str()));
                Answer::Hook { succeeded: true, how: "ended".into() }
            }
            Call::LookAtReadiness(_) if self.ready => Answer::Accepted,
            Call::LookAtReadiness(_) => Answer::Failed(Failure::unanswered("connection refused")),
            Call::FindTargetGroups => {
                Answer::TargetGroups { wanted: Aws::registrations_of(from, home()), missing: Vec::new() }
            }
            Call::FindRegistrations { .. } => found(self.shown(from)),
            Call::FindPlan | Call::FindGroup => Answer::Plan(Box::new(self.plan())),
            Call::TerminateInstances => {
                self.timers.push((now + 1_000, from.clone(), Timer::Dies));
                self.write("terminate ourselves".into())
            }
            Call::CreateFleet { client_token, fleet } => self.create_fleet(now, from, client_token, fleet),
            Call::DescribeFleet { .. }
            | Call::DescribeFleetMembers { .. }
            | Call::DescribeInstancesOfFleet { .. }
            | Call::TagFleet { .. }
            | Call::ModifyFleet { .. }
            | Call::PutCapacityBack { .. } => self.perform_fleet(now, from, call),
            _ if self.is_group() => self.perform_group(now, from, call),
            _ => refused("ValidationError", "no group"),
        }
    }

    fn write(&mut self, what: String) -> Answer {
        self.writes.push(what);
        Answer::Accepted
    }

    fn health(&self, arn: &str, now: u64) -> Vec<TargetHealth> {
        let row = |id: &String, port: u16, state: TargetState| TargetHealth {
            target: Target { id: id.clone(), port },
            state,
            reason: None,
        };
        let serves = |id: &str| {
            !self.sick.contains(id)
                && match self.launches.iter().find(|launch| launch.id.as_str() == id) {
                    Some(launch) => now >= launch.at + self.healthy_after,
                    None => self.ready || !self.ours.iter().any(|ours| ours.as_str() == id),
                }
        };
        let state = |id: &str| if serves(id) { TargetState::Healthy } else { TargetState::Unhealthy };
        let standing = self.targets.iter().filter(|(it, _, _)| *it == arn);
        let standing = standing.map(|(_, id, port)| row(id, *port, state(id)));
        let draining = self.draining.iter().filter(|(it, _, _)| *it == arn);
        standing.chain(draining.map(|(_, id, port)| row(id, *port, TargetState::Draining))).collect()
    }

    fn create_fleet(&mut self, now: u64, from: &InstanceId, client_token: &str, fleet: &InstantFleet) -> Answer {
        let parameters = format!("{fleet:?}");
        match self.tokens.get(client_token) {
            Some((known, _)) if *known != parameters => refused("IdempotentParameterMismatch", "other parameters"),
            Some((_, launched)) => Answer::Launched(launched.clone()),
            None => {
                let new = self.launch(now, "we asked for it");
                self.tagged.entry(from.clone()).or_default().push(new.clone());
                let launched = Launched { instances: vec![new], errors: Vec::new() };
                self.tokens.insert(client_token.to_owned(), (parameters, launched.clone()));
                self.writes.push("create fleet".into());
                Answer::Launched(launched)
            }
        }
    }

    fn perform_group(&mut self, now: u64, from: &InstanceId, call: &Call) -> Answer {
        let state = self.members.get(from).cloned();
        match call {
            Call::DetachInstances { .. } | Call::TerminateInstanceInAutoScalingGroup { .. }
                if state.as_deref() != Some("InService") =>
            {
                refused("ValidationError", "The instance i-us is not part of Auto Scaling group shop-asg.")
            }
            Call::DetachInstances { decrement, .. } => {
                self.desired -= i32::from(*decrement);
                self.members.insert(from.clone(), "Detaching".into());
                self.leave_group_targets(now, from);
                self.timers.push((now + 4_000, from.clone(), Timer::Detached));
                self.pass(now);
                self.write(format!("detach decrement={decrement}"))
            }
            Call::TerminateInstanceInAutoScalingGroup { decrement } => {
                self.desired -= i32::from(*decrement);
                self.begin_to_terminate(now, from.clone());
                self.pass(now);
                self.write(format!("terminate in group decrement={decrement}"))
            }
            Call::LaunchInstances { client_token, .. } => {
                if let Some((_, launched)) = self.tokens.get(client_token) {
                    return Answer::Launched(launched.clone());
                }
                if self.desired >= self.max {
                    return refused("ValidationError", "MaxSize");
                }
                self.desired += 1;
                let new = self.launch(now, "we asked for it");
                self.members.insert(new.clone(), "InService".into());
                let launched = Launched { instances: vec![new], errors: Vec::new() };
                self.tokens.insert(client_token.clone(), (String::new(), launched.clone()));
                self.writes.push("launch".into());
                Answer::Launched(launched)
            }
            Call::DescribeGroupSettings { .. } => {
                Answer::GroupSettings { current: Some(self.current()), termination_hooks: None }
            }
            Call::DescribeAutoScalingGroup { .. } => Answer::GroupState(Some(self.current())),
            Call::AttachInstances { .. } if state.is_some() => {
                refused("ValidationError", "Instance i-us is already part of AutoScalingGroup:shop-asg.")
            }
            Call::AttachInstances { .. } if self.desired >= self.max => refused("ValidationError", "MaxSize"),
            Call::AttachInstances { .. } => {
                self.desired += 1;
                self.members.insert(from.clone(), "InService".into());
                self.draining.remove(&(WEB, from.to_string(), 80));
                self.targets.insert((WEB, from.to_string(), 80));
                self.write("attach".into())
            }
            Call::CompleteLifecycleAction { .. } | Call::RecordLifecycleActionHeartbeat { .. }
                if state.as_deref() != Some("Terminating:Wait") =>
            {
                refused("ValidationError", "No active Lifecycle Action found with instance ID i-us")
            }
            Call::CompleteLifecycleAction { .. } => {
                self.members.insert(from.clone(), "Terminating:Proceed".into());
                self.timers.retain(|(_, whose, timer)| whose != from || *timer != Timer::HookTimesOut);
                self.timers.push((now + 1_000, from.clone(), Timer::Dies));
                self.write("complete".into())
            }
            Call::RecordLifecycleActionHeartbeat { .. } => {
                self.timers.retain(|(_, whose, timer)| whose != from || *timer != Timer::HookTimesOut);
                self.timers.push((now + 120_000, from.clone(), Timer::HookTimesOut));
                Answer::Accepted
            }
            other => panic!("{other:?} is not asked of a group"),
        }
    }

    fn perform_fleet(&mut self, now: u64, from: &InstanceId, call: &Call) -> Answer {
        if self.owner != Owner::Maintain {
            return Answer::Fleet(None);
        }
        match call {
            Call::DescribeFleet { .. } => Answer::Fleet(Some(Box::new(self.fleet()))),
            Call::DescribeFleetMembers { .. } if self.requests_denied => {
                Answer::FleetMembersByMarks { members: self.fleet_members(now), failure: denied() }
            }
            Call::DescribeFleetMembers { .. } => Answer::FleetMembers(self.fleet_members(now)),
            Call::DescribeInstancesOfFleet { .. } => {
                let launched = self.launches.iter().filter_map(|launch| self.instance(&launch.id, now));
                Answer::Instances(launched.collect())
            }
            Call::TagFleet { key, value, .. } => {
                self.fleet_tags.insert(key.clone(), value.clone());
                Answer::Accepted
            }
            Call::ModifyFleet { total, excess, .. } => {
                self.excess = excess.unwrap_or(self.excess);
                let fits = self.members.len() as i32 <= *total;
                assert!(fits || self.excess == ExcessCapacity::Stays, "the fleet would terminate a member");
                self.total = *total;
                self.pass(now);
                self.write(format!("capacity {total}"))
            }
            // As daemon/perform.rs.
            Call::PutCapacityBack { .. } => {
                let mut members = self.fleet_members(now);
                members.iter_mut().filter(|it| it.instance_id == *from).for_each(|it| it.taken_since = None);
                Answer::Capacity { is_back: !self.put_right(members, now) }
            }
            other => panic!("{other:?} is not asked of a fleet"),
        }
    }

    pub(super) fn instance(&self, wanted: &InstanceId, now: u64) -> Option<Instance> {
        let number = self.launches.iter().position(|launch| launch.id == *wanted);
        let launched_at = number.map(|number| self.launches[number].at);
        let boots = 3_000 + number.map_or(0, |number| (number as u64 * 618 % 1_000) * self.boots_differ_by / 1_000);
        Some(Instance {
            state: match launched_at {
                _ if self.dead.contains(wanted) => InstanceState::Terminated,
                Some(at) if now < at + boots => InstanceState::Pending,
                _ => InstanceState::Running,
            },
            launch_time: Some(launched_at.map_or(epoch() - Duration::from_secs(86_400), time)),
            tags: self.tags.get(wanted).cloned().unwrap_or_default(),
            ..running(wanted.as_str())
        })
    }
}
