//! A model of AWS as far as the core can see it: enough to count successors and capacity.

use super::*;

/// How an exchange with AWS goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    /// It never arrives.
    LostCall,
    /// It is done, and the answer is lost.
    LostReply,
    Throttled,
    Fault,
    NoCapacity,
}

/// One exchange: its fate, and how long it takes.
pub(super) type Exchange = (Fate, u16);

#[derive(Debug)]
pub(super) struct Process {
    pub(super) victim: usize,
    pub(super) generation: u32,
}

/// AWS as far as the core can see it: enough to count successors and capacity.
pub(super) struct Model {
    pub(super) victims: Vec<String>,
    pub(super) deadlines: Vec<u64>,
    /// Everything launched since the start, with its time.
    pub(super) launched: Vec<(InstanceId, u64)>,
    pub(super) dead: BTreeSet<InstanceId>,
    pub(super) tokens: BTreeMap<String, (String, Launched)>,
    pub(super) tagged: BTreeMap<String, Vec<InstanceId>>,
    /// Instances that bear the tag of one that goes.
    pub(super) leaving: BTreeSet<InstanceId>,
    pub(super) targets: BTreeSet<(String, String, u16)>,
    pub(super) draining: BTreeSet<(String, String, u16)>,
    pub(super) group: Option<(BTreeSet<InstanceId>, i32)>,
    /// Members that the group terminates: when their hook opens, and whether it is completed.
    pub(super) terminating: BTreeMap<InstanceId, (u64, bool)>,
    /// How long the group waits for its load balancer before a hook opens.
    pub(super) drains_for: u64,
    pub(super) fleet: Option<(Fleet, BTreeSet<InstanceId>)>,
    pub(super) noticed_at: Vec<u64>,
    /// The slowest successor boots so many milliseconds longer than the quickest.
    pub(super) boots_differ_by: u64,
    /// An owner launches one instance after the other, so many milliseconds apart.
    pub(super) launches_apart: u64,
    pub(super) next_launch: u64,
    /// The group has Capacity Rebalancing on: so many victims are replaced so far.
    pub(super) rebalanced: Option<usize>,
    /// Accepted writes, in order.
    pub(super) writes: Vec<String>,
}

impl Model {
    pub(super) fn new(victims: &[(&str, u64, u64)]) -> Model {
        let mut model = Model {
            victims: victims.iter().map(|(name, _, _)| (*name).to_owned()).collect(),
            noticed_at: victims.iter().map(|(_, noticed, _)| *noticed).collect(),
            deadlines: victims.iter().map(|(_, _, deadline)| *deadline).collect(),
            launched: Vec::new(),
            dead: BTreeSet::new(),
            tokens: BTreeMap::new(),
            tagged: BTreeMap::new(),
            leaving: BTreeSet::new(),
            targets: BTreeSet::new(),
            draining: BTreeSet::new(),
            group: None,
            terminating: BTreeMap::new(),
            drains_for: 0,
            fleet: None,
            boots_differ_by: 0,
            launches_apart: 0,
            next_launch: 0,
            rebalanced: None,
            writes: Vec::new(),
        };
        for (name, _, _) in victims {
            model.targets.insert((WEB.into(), (*name).into(), 80));
            model.targets.insert((API.into(), (*name).into(), 8080));
            model.targets.insert((API.into(), (*name).into(), 8081));
        }
        // Another instance serves in each target group.
        for arn in [WEB, API] {
            model.targets.insert((arn.into(), "i-another".into(), 80));
        }
        model
    }

    pub(super) fn with_group(mut self) -> Model {
        let others = ["i-other1", "i-other2"].map(id);
        let members: BTreeSet<InstanceId> = self.victims.iter().map(|name| id(name)).chain(others).collect();
        self.group = Some((members.clone(), members.len() as i32));
        self
    }

    pub(super) fn with_fleet(mut self) -> Model {
        let others = ["i-other1", "i-other2"].map(id);
        let members: BTreeSet<InstanceId> = self.victims.iter().map(|name| id(name)).chain(others).collect();
        self.fleet = Some((fleet(members.len() as i32), members));
        self
    }

    pub(super) fn launch(&mut self, now: u64) -> InstanceId {
        let launched = id(&format!("i-new{}", self.launched.len()));
        self.launched.push((launched.clone(), now));
        self.next_launch = now + self.launches_apart;
        launched
    }

    /// Owners act by themselves: they take the victims at their deadline, keep groups and fleets at their size.
    pub(super) fn pass(&mut self, now: u64) {
        for (victim, deadline) in self.victims.iter().zip(&self.deadlines) {
            if now >= *deadline {
                self.dead.insert(id(victim));
            }
        }
        if let Some((mut members, desired)) = self.group.take() {
            members.retain(|member| !self.dead.contains(member));
            let noticed = self.noticed_at.iter().filter(|noticed_at| now >= **noticed_at + 4_000).count();
            while self.rebalanced.is_some_and(|replaced| replaced < noticed) && now >= self.next_launch {
                let new = self.launch(now);
                self.targets.insert((WEB.into(), new.to_string(), 80));
                members.insert(new);
                self.rebalanced = self.rebalanced.map(|replaced| replaced + 1);
            }
            while (members.len() as i32) < desired && now >= self.next_launch {
                let new = self.launch(now);
                self.targets.insert((WEB.into(), new.to_string(), 80));
                members.insert(new);
            }
            self.group = Some((members, desired));
        }
        if let Some((mut fleet, mut members)) = self.fleet.take() {
            members.retain(|member| !self.dead.contains(member));
            while (members.len() as i32) < fleet.capacity.total && now >= self.next_launch {
                members.insert(self.launch(now));
            }
            fleet.capacity.fulfilled = members.len() as i32;
            self.fleet = Some((fleet, members));
        }
    }

    pub(super) fn noticed_at(&self, member: &InstanceId) -> Option<u64> {
        let victim = self.victims.iter().position(|name| *name == member.as_str())?;
        self.noticed_at.get(victim).copied()
    }

    pub(super) fn instance(&self, wanted: &InstanceId, now: u64) -> Option<Instance> {
        let number = self.launched.iter().position(|(launched, _)| launched == wanted);
        let launched_at = number.map(|number| self.launched[number].1);
        let boots = 3_000 + number.map_or(0, |number| (number as u64 * 618 % 1_000) * self.boots_differ_by / 1_000);
        let state = match launched_at {
            _ if self.dead.contains(wanted) => InstanceState::Terminated,
            Some(at) if now < at + boots => InstanceState::Pending,
            _ => InstanceState::Running,
        };
        let launch_time = match launched_at {
            Some(at) => epoch() + Duration::from_millis(at),
            None => epoch() - Duration::from_secs(86_400),
        };
        Some(Instance {
            instance_id: wanted.clone(),
            state,
            instance_type: "m5.large".into(),
            availability_zone: "eu-west-1b".into(),
            private_ip: Some("10.0.2.9".into()),
            addresses: Vec::new(),
            subnet_id: None,
            launch_time: Some(launch_time),
            tags: self.leaving.get(wanted).map(|_| (LEAVING_TAG.to_owned(), "soon".to_owned())).into_iter().collect(),
            state_reason: None,
            vcpus: None,
        })
    }

    pub(super) fn perform(&mut self, now: u64, victim: &str, call: &Call) -> Answer {
        let refused = |code: &str, message: &str| {
            Answer::Failed(Failure { kind: FailureKind::Rejected, code: Some(code.into()), message: message.into() })
        };
        match call {
            Call::DeregisterTargets { target_group, targets, .. } => {
                for target in targets {
                    self.targets.remove(&(target_group.to_string(), target.id.clone(), target.port));
                    self.draining.insert((target_group.to_string(), target.id.clone(), target.port));
                }
                self.writes.push(format!("deregister {}", target_group.name()));
                Answer::Accepted
            }
            Call::RegisterTargets { target_group, targets, .. } => {
                for target in targets {
                    self.targets.insert((target_group.to_string(), target.id.clone(), target.port));
                }
                self.writes.push(format!("register in {}", target_group.name()));
                Answer::Accepted
            }
            Call::DescribeTargetHealth { target_group, targets, .. } => {
                let row = |id: &String, port: u16, state: TargetState| TargetHealth {
                    target: Target { id: id.clone(), port },
                    state,
                    reason: None,
                };
                let standing = self.targets.iter().filter(|(arn, _, _)| arn == target_group.as_str());
                let draining = self.draining.iter().filter(|(arn, _, _)| arn == target_group.as_str());
                let standing = standing.map(|(_, id, port)| row(id, *port, TargetState::Healthy));
                let draining = draining.map(|(_, id, port)| row(id, *port, TargetState::Draining));
                Answer::Health(TargetHealth::as_asked(standing.chain(draining).collect(), targets))
            }
            Call::LookAtConnections { ports, .. } => Answer::Connections(Connections {
                established: 2,
                listening: ports.clone(),
                reached: ports.clone(),
                ..Connections::default()
            }),
            Call::DetachInstances { decrement, .. } | Call::TerminateInstanceInAutoScalingGroup { decrement } => {
                let Some((members, desired)) = &mut self.group else { return refused("ValidationError", "no group") };
                if !members.remove(&id(victim)) {
                    return refused(
                        "ValidationError",
                        "The instance i-victim is not part of Auto Scaling group shop-asg.",
                    );
                }
                *desired -= i32::from(*decrement);
                if matches!(call, Call::TerminateInstanceInAutoScalingGroup { .. }) {
                    self.terminating.insert(id(victim), (now + self.drains_for, false));
                }
                self.writes.push(format!("exit decrement={decrement}"));
                self.targets.retain(|(arn, target, _)| !(arn == WEB && target == victim));
                self.pass(now);
                Answer::Accepted
            }
            Call::LaunchInstances { client_token, .. } => {
                if let Some((_, launched)) = self.tokens.get(client_token) {
                    return Answer::Launched(launched.clone());
                }
                let new = self.launch(now);
                if let Some((members, desired)) = &mut self.group {
                    members.insert(new.clone());
                    *desired += 1;
                }
                self.targets.insert((WEB.into(), new.to_string(), 80));
                let launched = Launched { instances: vec![new], errors: Vec::new() };
                self.tokens.insert(client_token.clone(), (String::new(), launched.clone()));
                self.writes.push("launch".into());
                Answer::Launched(launched)
            }
            Call::DescribeGroupMembers { .. } => Answer::GroupMembers(self.group_members(now)),
            Call::DescribeGroupRoom { .. } => Answer::GroupRoom(self.group.as_ref().map(|(_, desired)| GroupRoom {
                members: self.group_members(now),
                desired_capacity: *desired,
                max_size: 9,
            })),
            Call::CompleteLifecycleAction { .. } | Call::RecordLifecycleActionHeartbeat { .. }
                if !self.terminating.get(&id(victim)).is_some_and(|(opens_at, done)| now >= *opens_at && !done) =>
            {
                refused("ValidationError", "No active Lifecycle Action found with instance ID i-victim")
            }
            Call::CompleteLifecycleAction { .. } => {
                if let Some((_, completed)) = self.terminating.get_mut(&id(victim)) {
                    *completed = true;
                }
                self.writes.push("complete".into());
                Answer::Accepted
            }
            Call::RecordLifecycleActionHeartbeat { .. } => Answer::Accepted,
            Call::DescribeFleet { .. } => Answer::Fleet(self.fleet.as_ref().map(|(fleet, _)| Box::new(fleet.clone()))),
            Call::DescribeFleetMembers { .. } => {
                let taken_since = |member: &InstanceId| self.noticed_at(member).filter(|at| now >= *at);
                let members = self.fleet.iter().flat_map(|(_, members)| members.iter());
                Answer::FleetMembers(
                    members
                        .map(|member| FleetMember {
                            instance_id: member.clone(),
                            instance_type: "m5.large".into(),
                            instance: self.instance(member, now),
                            taken_since: taken_since(member).map(|at| epoch() + Duration::from_millis(at)),
                        })
                        .collect(),
                )
            }
            Call::TagFleet { key, value, .. } => {
                if let Some((fleet, _)) = &mut self.fleet {
                    fleet.tags.insert(key.clone(), value.clone());
                }
                Answer::Accepted
            }
            Call::ModifyFleet { total, excess, .. } => {
                if let Some((fleet, members)) = &mut self.fleet {
                    fleet.excess = excess.unwrap_or(fleet.excess);
                    let fits = members.len() as i32 <= *total;
                    assert!(fits || fleet.excess == ExcessCapacity::Stays, "the fleet would terminate a member");
                    fleet.capacity.total = *total;
                }
                self.writes.push(format!("capacity {total}"));
                self.pass(now);
                Answer::Accepted
            }
            Call::CreateFleet { client_token, fleet } => {
                let parameters = format!("{fleet:?}");
                match self.tokens.get(client_token) {
                    Some((known, _)) if *known != parameters => {
                        return refused("IdempotentParameterMismatch", "other parameters");
                    }
                    Some((_, launched)) => return Answer::Launched(launched.clone()),
                    None => {}
                }
                let new = self.launch(now);
                self.tagged.entry(victim.to_owned()).or_default().push(new.clone());
                let launched = Launched { instances: vec![new], errors: Vec::new() };
                self.tokens.insert(client_token.clone(), (parameters, launched.clone()));
                self.writes.push("create fleet".into());
                Answer::Launched(launched)
            }
            Call::DescribeInstances { instance_ids } => {
                Answer::Instances(instance_ids.iter().filter_map(|wanted| self.instance(wanted, now)).collect())
            }
            Call::DescribeSuccessorsByTag => {
                let tagged = self.tagged.get(victim).cloned().unwrap_or_default();
                Answer::Instances(tagged.iter().filter_map(|wanted| self.instance(wanted, now)).collect())
            }
            Call::TagInstance { .. } => {
                self.leaving.insert(id(victim));
                Answer::Accepted
            }
            Call::UntagInstance { .. } => Answer::Accepted,
            Call::RunHook { .. } => Answer::Hook { succeeded: true, how: "ended".into() },
            other => self.perform_return(now, victim, other),
        }
    }

    pub(super) fn group_members(&self, now: u64) -> Vec<GroupMember> {
        let member = |id: &InstanceId, state: &str| GroupMember {
            instance_id: id.clone(),
            availability_zone: String::new(),
            lifecycle_state: state.into(),
        };
        let state = |(opens_at, completed): &(u64, bool)| match completed {
            true => "Terminating:Proceed",
            false if now >= *opens_at => "Terminating:Wait",
            false => "Terminating",
        };
        let members = self.group.iter().flat_map(|(members, _)| members).map(|id| member(id, "InService"));
        members.chain(self.terminating.iter().map(|(id, it)| member(id, state(it)))).collect()
    }

    /// Answers an instance that comes (back) into service.
    pub(super) fn perform_return(&mut self, _now: u64, victim: &str, call: &Call) -> Answer {
        let refused = |code: &str, message: &str| {
            Answer::Failed(Failure { kind: FailureKind::Rejected, code: Some(code.into()), message: message.into() })
        };
        match call {
            Call::FindRegistrations { .. } => found(registrations(victim)),
            Call::FindPlan => refused("AccessDenied", "the test gives the plan"),
            Call::FindGroup => Answer::Plan(Box::new(Plan::nobody("the test gives the group"))),
            other => panic!("{other:?} is not asked here"),
        }
    }
}
