//! AWS as the core sees it: who owns our instances, where they are targets, what was launched in their place. Enough to count
//! successors and capacity, and to say at the end whether everything is as it was.

mod calls;

use super::*;
use crate::core::plan::{BASE_CAPACITY_TAG, Leftover, leftover};

const OTHERS: [&str; 2] = ["i-other1", "i-other2"];

/// How an exchange with AWS goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// It never arrives.
    LostCall,
    /// It is done, and the answer is lost.
    LostReply,
    Throttled,
    Fault,
    NoCapacity,
}

impl Fate {
    pub(super) fn is_well(self) -> bool {
        matches!(self, Fate::Fine | Fate::NoCapacity)
    }

    pub(crate) fn loses_the_answer(self) -> bool {
        matches!(self, Fate::LostCall | Fate::LostReply)
    }
}

/// One exchange: its fate, and how long it takes.
pub(crate) type Exchange = (Fate, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Detach,
    Hook,
    /// Capacity Rebalancing: the group launches by itself, and would terminate us in the end.
    Rebalance,
    Maintain,
    Instant,
    Nobody,
}

pub(crate) const OWNERS: [Owner; 6] =
    [Owner::Detach, Owner::Hook, Owner::Rebalance, Owner::Maintain, Owner::Instant, Owner::Nobody];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) id: InstanceId,
    pub(crate) at: u64,
    pub(crate) why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Detached,
    Drained,
    Rebalance,
    HookOpens,
    HookTimesOut,
    Dies,
}

/// Target group, id, port.
type Row = (&'static str, String, u16);

#[derive(Clone)]
pub(crate) struct Aws {
    owner: Owner,
    /// The instances that a daemon of ours runs on. What speaks of one instance means the first.
    ours: Vec<InstanceId>,
    pub(crate) alive: bool,
    pub(crate) ready: bool,
    /// How long the group drains before its hook opens.
    pub(crate) drains_for: u64,
    /// How long a new instance takes to become healthy.
    pub(crate) healthy_after: u64,
    /// The slowest successor boots so many milliseconds longer than the quickest.
    pub(super) boots_differ_by: u64,
    /// An owner launches one instance after the other, so many milliseconds apart.
    pub(super) launches_apart: u64,
    pub(super) next_launch: u64,
    pub(crate) launches: Vec<Launch>,
    dead: BTreeSet<InstanceId>,
    pub(super) targets: BTreeSet<Row>,
    draining: BTreeSet<Row>,
    tags: BTreeMap<InstanceId, BTreeMap<String, String>>,
    tokens: BTreeMap<String, (String, Launched)>,
    tagged: BTreeMap<InstanceId, Vec<InstanceId>>,
    pub(super) members: BTreeMap<InstanceId, String>,
    pub(crate) desired: i32,
    pub(crate) max: i32,
    pub(crate) fleet_tags: BTreeMap<String, String>,
    pub(crate) total: i32,
    pub(crate) excess: ExcessCapacity,
    /// DescribeSpotInstanceRequests is.
    pub(super) requests_denied: bool,
    /// Their Spot requests' status says so, since this instant.
    marked: BTreeMap<InstanceId, u64>,
    /// A replacement of Capacity Rebalancing stands for their interruption.
    rebalanced: BTreeSet<InstanceId>,
    timers: Vec<(u64, InstanceId, Timer)>,
    /// Targets that are registered and fail their health checks, by their ids.
    pub(super) sick: BTreeSet<String>,
    /// Health cannot be read, and this is why.
    pub(super) health_fails: Option<FailureKind>,
    pub(crate) writes: Vec<String>,
}

pub(crate) fn time(milliseconds: u64) -> Timestamp {
    epoch() + Duration::from_millis(milliseconds)
}

fn refused(code: &str, message: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::Rejected, code: Some(code.into()), message: message.into() })
}

pub(crate) fn denied() -> Failure {
    let code = Some("UnauthorizedOperation".to_owned());
    Failure { kind: FailureKind::Denied, code, message: "You are not authorized to perform this operation.".into() }
}

fn known_arn(arn: &TargetGroupArn) -> &'static str {
    if arn.as_str() == WEB { WEB } else { API }
}

/// Where our instances belong.
pub(crate) fn home() -> BTreeSet<(&'static str, u16)> {
    BTreeSet::from([(WEB, 80), (API, 8080), (API, 8081)])
}

impl Aws {
    pub(crate) fn of(owner: Owner, ours: &[&str]) -> Aws {
        let state = if owner == Owner::Maintain { "active" } else { "InService" };
        let members = OTHERS.iter().chain(ours).map(|name| (id(name), state.to_owned()));
        let members: BTreeMap<InstanceId, String> = members.collect();
        let size = members.len() as i32;
        // Another member serves beside ours.
        let serving = || ours.iter().copied().chain([OTHERS[0]]);
        Aws {
            owner,
            ours: ours.iter().copied().map(id).collect(),
            alive: true,
            ready: true,
            drains_for: 0,
            healthy_after: 6_000,
            boots_differ_by: 0,
            launches_apart: 0,
            next_launch: 0,
            launches: Vec::new(),
            dead: BTreeSet::new(),
            targets: home()
                .into_iter()
                .flat_map(|(arn, port)| serving().map(move |id| (arn, id.to_owned(), port)))
                .collect(),
            draining: BTreeSet::new(),
            tags: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tagged: BTreeMap::new(),
            members,
            desired: size,
            max: 20,
            fleet_tags: BTreeMap::new(),
            total: size,
            excess: ExcessCapacity::Terminates,
            requests_denied: false,
            marked: BTreeMap::new(),
            rebalanced: BTreeSet::new(),
            timers: Vec::new(),
            sick: BTreeSet::new(),
            health_fails: None,
            writes: Vec::new(),
        }
    }

    /// These are taken at their deadlines, and whoever is launched serves at once.
    pub(super) fn of_victims(owner: Owner, victims: &[(&str, u64, u64)]) -> Aws {
        let mut aws = Aws::of(owner, &victims.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
        aws.healthy_after = 0;
        aws.timers = victims.iter().map(|(name, _, deadline)| (*deadline, id(name), Timer::Dies)).collect();
        aws
    }

    /// Its own daemon marks this instance as one that goes.
    pub(super) fn goes(&mut self, instance: &str) {
        self.tags.entry(id(instance)).or_default().insert(LEAVING_TAG.to_owned(), "soon".to_owned());
    }

    fn us(&self) -> InstanceId {
        self.ours[0].clone()
    }

    pub(crate) fn is_group(&self) -> bool {
        matches!(self.owner, Owner::Detach | Owner::Hook | Owner::Rebalance)
    }

    pub(crate) fn is_member(&self) -> bool {
        self.members.contains_key(&self.us())
    }

    fn is_in_service(&self, member: &InstanceId) -> bool {
        self.members.get(member).is_some_and(|state| state == "InService")
    }

    /// The body of `autoscaling/target-lifecycle-state`.
    pub(crate) fn target_lifecycle_state(&self) -> Option<&'static str> {
        match self.members.get(&self.us()).map(String::as_str) {
            _ if !self.is_group() => None,
            Some("InService") => Some("InService"),
            Some(state) if state.starts_with("Terminating") => Some("Terminated"),
            _ => Some("Detached"),
        }
    }

    /// Where this instance is a target now.
    pub(crate) fn places(&self) -> BTreeSet<(&'static str, u16)> {
        let us = self.us();
        self.targets.iter().filter(|(_, id, _)| id == us.as_str()).map(|(arn, _, port)| (*arn, *port)).collect()
    }

    /// Target health of an instance, draining targets included.
    fn shown(&self, instance: &InstanceId) -> Vec<Registration> {
        let rows = self.targets.union(&self.draining).filter(|(_, id, _)| id == instance.as_str());
        Aws::registrations_of(instance, rows.map(|(arn, _, port)| (*arn, *port)).collect())
    }

    fn registrations_of(instance: &InstanceId, places: BTreeSet<(&'static str, u16)>) -> Vec<Registration> {
        let mut ports: BTreeMap<&'static str, Vec<u16>> = BTreeMap::new();
        places.into_iter().for_each(|(arn, port)| ports.entry(arn).or_default().push(port));
        ports.into_iter().map(|(arn, ports)| registration(arn, instance.as_str(), &ports)).collect()
    }

    pub(crate) fn leave_everywhere(&mut self) {
        let us = self.us();
        self.targets.retain(|(_, id, _)| id != us.as_str());
    }

    /// Somebody registers our instance again.
    pub(crate) fn is_put_back(&mut self) {
        let us = self.us().to_string();
        self.targets.extend(home().into_iter().map(|(arn, port)| (arn, us.clone(), port)));
    }

    pub(crate) fn loses_its_successor(&mut self) {
        if let Some(launch) = self.launches.last() {
            let dead = launch.id.clone();
            self.targets.retain(|(_, id, _)| id != dead.as_str());
            self.dead.insert(dead);
        }
    }

    pub(crate) fn is_tagged(&self, key: &str) -> bool {
        self.tags.get(&self.us()).is_some_and(|tags| tags.contains_key(key))
    }

    /// A real interruption begins: AWS marks the Spot request, and an owner that replaces by itself does.
    pub(crate) fn interruption_begins(&mut self, now: u64) {
        self.takes(now, self.us());
    }

    pub(super) fn takes(&mut self, now: u64, victim: InstanceId) {
        self.marked.insert(victim.clone(), now);
        self.replaces(now, victim);
    }

    pub(crate) fn rebalances(&mut self, now: u64) {
        self.replaces(now, self.us());
    }

    fn replaces(&mut self, now: u64, victim: InstanceId) {
        let is_timed = |(_, whose, timer): &(u64, InstanceId, Timer)| *whose == victim && *timer == Timer::Rebalance;
        let begun = self.rebalanced.contains(&victim) || self.timers.iter().any(is_timed);
        if self.owner == Owner::Rebalance && self.members.contains_key(&victim) && !begun {
            self.timers.push((now + 5_000, victim, Timer::Rebalance));
        }
    }

    pub(crate) fn interruption_is_off(&mut self) {
        self.marked.clear();
        self.rebalanced.clear();
    }

    /// The group scales in.
    pub(crate) fn group_terminates(&mut self, now: u64) {
        let us = self.us();
        if self.is_group() && self.is_in_service(&us) {
            // It goes because its replacement serves, or because the group scales in.
            self.desired -= i32::from(!self.rebalanced.contains(&us));
            self.begin_to_terminate(now, us);
        }
    }

    fn begin_to_terminate(&mut self, now: u64, member: InstanceId) {
        self.members.insert(member.clone(), "Terminating".to_owned());
        self.leave_group_targets(now, &member);
        let hook = self.owner == Owner::Hook;
        let (at, timer) = if hook { (now + self.drains_for, Timer::HookOpens) } else { (now + 40_000, Timer::Dies) };
        self.timers.push((at, member, timer));
        self.pass(now);
    }

    fn leave_group_targets(&mut self, now: u64, member: &InstanceId) {
        self.deregister(now, (WEB, member.to_string(), 80));
    }

    /// Draining for the deregistration delay.
    fn deregister(&mut self, now: u64, row: Row) {
        if self.targets.remove(&row) {
            self.timers.push((now + 300_000, id(&row.1), Timer::Drained));
            self.draining.insert(row);
        }
    }

    /// This instance ends.
    pub(crate) fn dies(&mut self) {
        self.ends(self.us());
    }

    fn ends(&mut self, instance: InstanceId) {
        self.alive = false;
        self.members.remove(&instance);
        self.dead.insert(instance);
    }

    pub(super) fn launch(&mut self, now: u64, why: &'static str) -> InstanceId {
        let id = id(&format!("i-new{}", self.launches.len()));
        self.launches.push(Launch { id: id.clone(), at: now, why });
        self.next_launch = now + self.launches_apart;
        if self.is_group() {
            self.targets.insert((WEB, id.to_string(), 80));
        }
        id
    }

    pub(super) fn launch_member(&mut self, now: u64, why: &'static str) {
        let new = self.launch(now, why);
        let state = if self.is_group() { "InService" } else { "active" };
        self.members.insert(new, state.to_owned());
    }

    pub(crate) fn next_timer(&self) -> Option<u64> {
        self.timers.iter().map(|(at, ..)| *at).min()
    }

    /// AWS acts by itself.
    pub(crate) fn pass(&mut self, now: u64) {
        while let Some(index) = self.timers.iter().position(|(at, ..)| *at <= now) {
            let (_, whose, timer) = self.timers.remove(index);
            match timer {
                Timer::Detached if self.members.get(&whose).is_some_and(|state| state == "Detaching") => {
                    self.members.remove(&whose);
                    self.leave_group_targets(now, &whose);
                }
                Timer::Rebalance if self.is_in_service(&whose) && now < self.next_launch => {
                    self.timers.push((self.next_launch, whose, Timer::Rebalance));
                }
                Timer::Rebalance if self.is_in_service(&whose) => {
                    self.rebalanced.insert(whose);
                    self.launch_member(now, "the group rebalances");
                }
                Timer::HookOpens => {
                    self.members.insert(whose.clone(), "Terminating:Wait".to_owned());
                    self.timers.push((now + 120_000, whose, Timer::HookTimesOut));
                }
                Timer::HookTimesOut | Timer::Dies => self.ends(whose),
                Timer::Drained => self.draining.retain(|(_, id, _)| id != whose.as_str()),
                Timer::Detached | Timer::Rebalance => {}
            }
        }
        let (wanted, why) = match self.owner {
            Owner::Detach | Owner::Hook | Owner::Rebalance => (self.desired, "the group keeps its size"),
            Owner::Maintain => (self.total, "the fleet keeps its size"),
            Owner::Instant | Owner::Nobody => return,
        };
        let stays = |state: &&String| *state == "InService" || *state == "active";
        while (self.members.values().filter(stays).count() as i32) < wanted && now >= self.next_launch {
            self.launch_member(now, why);
        }
    }

    /// Puts a fleet right at every look-up, as daemon/look_up.rs does.
    pub(crate) fn tidy(&mut self, now: u64) {
        let _ = self.put_right(self.fleet_members(now), now);
    }

    /// Somebody else writes a target capacity; the fleet terminates what exceeds it, the youngest first and the victims last.
    pub(super) fn operator_sets(&mut self, now: u64, total: i32) {
        (self.total, self.excess) = (total, ExcessCapacity::Terminates);
        let launched: Vec<InstanceId> = self.launches.iter().rev().map(|launch| launch.id.clone()).collect();
        let in_order = launched.into_iter().chain(OTHERS.map(id)).chain(self.ours.clone());
        for instance in in_order.collect::<Vec<_>>() {
            if self.members.len() as i32 > total && self.members.contains_key(&instance) {
                self.ends(instance);
            }
        }
        self.writes.push(format!("capacity {total} by an operator"));
        self.pass(now);
    }

    pub(crate) fn exceeds_target(&self) -> bool {
        self.owner == Owner::Maintain && self.members.len() as i32 > self.total
    }

    /// Tells whether there was something to put right.
    fn put_right(&mut self, members: Vec<FleetMember>, now: u64) -> bool {
        let Leftover::Now(right) = leftover(&self.fleet(), &members, time(now)) else { return false };
        if let Some(base) = right.base {
            self.total = base;
            self.writes.push(format!("capacity {base}"));
        }
        if right.terminates_excess {
            self.excess = ExcessCapacity::Terminates;
            assert!(self.members.len() as i32 <= self.total, "the fleet would terminate a member");
        }
        if right.untag {
            self.fleet_tags.remove(BASE_CAPACITY_TAG);
        }
        true
    }

    /// The result of a look-up now.
    pub(crate) fn look_up(&self) -> LookedUp {
        let registrations = Some(self.shown(&self.us()));
        let is_in_some = !self.places().is_empty();
        LookedUp { registrations, plan: Some(self.plan()), is_in_some, ..LookedUp::default() }
    }

    fn group(&self) -> AutoScalingGroup {
        let hooks: &[&str] = if self.owner == Owner::Hook { &["drain"] } else { &[] };
        AutoScalingGroup {
            capacity_rebalance: self.owner == Owner::Rebalance,
            members: self.group_members(),
            max_size: self.max,
            desired_capacity: self.desired,
            ..group(hooks)
        }
    }

    pub(super) fn fleet(&self) -> Fleet {
        let capacity = FleetCapacity { total: self.total, spot: None, fulfilled: self.members.len() as i32 };
        Fleet { excess: self.excess, capacity, tags: self.fleet_tags.clone(), ..fleet(self.total) }
    }

    pub(super) fn fleet_members(&self, now: u64) -> Vec<FleetMember> {
        let member = |id: &InstanceId| FleetMember {
            instance_id: id.clone(),
            instance_type: "m5.large".into(),
            memory_mib: None,
            instance: self.instance(id, now),
            taken_since: self.marked.get(id).filter(|_| !self.requests_denied).copied().map(time),
        };
        self.members.keys().map(member).collect()
    }

    fn group_members(&self) -> Vec<GroupMember> {
        self.members.iter().map(|(id, state)| member(id.as_str(), state)).collect()
    }

    fn current(&self) -> GroupState {
        GroupState {
            members: self.group_members(),
            desired_capacity: self.desired,
            max_size: self.max,
            capacity_rebalance: self.owner == Owner::Rebalance,
            ..empty_group()
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        let how = match self.owner {
            Owner::Detach => GroupRequest::Detach,
            Owner::Hook => GroupRequest::Terminate,
            Owner::Rebalance => GroupRequest::Observe,
            Owner::Maintain => {
                return Plan::Fleet { kind: FleetKind::Ec2, fleet: self.fleet(), how: FleetRequest::Raise };
            }
            Owner::Instant => return launch_plan(),
            Owner::Nobody => return Plan::nobody("launched by hand"),
        };
        if !self.is_member() {
            return Plan::nobody("the instance is no member of group shop-asg any more");
        }
        Plan::Group { group: self.group(), how }
    }
}
