//! AWS as one instance sees it: who owns it, where it is a target, what was launched in its place. Enough to count
//! successors and capacity, and to say at the end whether everything is as it was.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::call::{Answer, Call};
use crate::core::handover::LookedUp;
use crate::core::model::*;
use crate::core::plan::{
    BASE_CAPACITY_TAG, FleetKind, FleetRequest, GroupRequest, LaunchPlan, Leftover, PREDECESSOR_TAG, Plan, leftover,
};
use crate::core::retry::{Failure, FailureKind};

pub(super) const WEB: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/0123";
pub(super) const API: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/api/4567";
const US: &str = "i-us";
const BASE: i32 = 3;

/// AWS's time at the beginning of every story.
pub(super) fn epoch() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

pub(super) fn time(milliseconds: u64) -> Timestamp {
    epoch() + Duration::from_millis(milliseconds)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Detach,
    Hook,
    /// Capacity Rebalancing: the group launches by itself, and would terminate us in the end.
    Rebalance,
    Maintain,
    Instant,
    Nobody,
}

pub(super) const OWNERS: [Owner; 6] =
    [Owner::Detach, Owner::Hook, Owner::Rebalance, Owner::Maintain, Owner::Instant, Owner::Nobody];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) id: InstanceId,
    pub(super) at: u64,
    pub(super) why: &'static str,
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

pub(super) struct Aws {
    owner: Owner,
    pub(super) alive: bool,
    pub(super) ready: bool,
    /// How long the group drains before its hook opens.
    pub(super) drains_for: u64,
    /// How long a new instance takes to become healthy.
    pub(super) healthy_after: u64,
    pub(super) launches: Vec<Launch>,
    targets: BTreeSet<Row>,
    draining: BTreeSet<Row>,
    tags: BTreeMap<String, String>,
    tokens: BTreeMap<String, (String, Launched)>,
    tagged: Vec<InstanceId>,
    members: BTreeMap<InstanceId, String>,
    pub(super) desired: i32,
    pub(super) max: i32,
    fleet_tags: BTreeMap<String, String>,
    pub(super) total: i32,
    pub(super) excess: ExcessCapacity,
    /// Our Spot request's status says so.
    marked: Option<u64>,
    /// A replacement of Capacity Rebalancing stands for this interruption.
    rebalanced: bool,
    timers: Vec<(u64, Timer)>,
    pub(super) writes: Vec<String>,
}

pub(super) fn identity() -> Identity {
    Identity {
        instance_id: InstanceId::new(US),
        region: "eu-west-1".into(),
        availability_zone: "eu-west-1a".into(),
        instance_type: "m5.large".into(),
        private_ip: "10.0.0.1".into(),
        account_id: "1".into(),
        vpc_id: Some("vpc-1".into()),
        subnet_id: None,
        life_cycle: LifeCycle::Spot,
    }
}

fn us() -> InstanceId {
    InstanceId::new(US)
}

fn refused(code: &str, message: &str) -> Answer {
    Answer::Failed(Failure { kind: FailureKind::Rejected, code: Some(code.into()), message: message.into() })
}

fn known_arn(arn: &TargetGroupArn) -> &'static str {
    if arn.as_str() == WEB { WEB } else { API }
}

/// Where this instance belongs.
pub(super) fn home() -> BTreeSet<(&'static str, u16)> {
    BTreeSet::from([(WEB, 80), (API, 8080), (API, 8081)])
}

fn registrations_of(places: impl Iterator<Item = (&'static str, u16)>) -> Vec<Registration> {
    let mut ports: BTreeMap<&'static str, Vec<u16>> = BTreeMap::new();
    places.for_each(|(arn, port)| ports.entry(arn).or_default().push(port));
    let target = |port: &u16| Target { id: US.into(), port: *port };
    let one = |(arn, ports): (&str, Vec<u16>)| {
        Registration::new(TargetGroupArn::new(arn), TargetType::Instance, ports.iter().map(target).collect())
    };
    ports.into_iter().map(one).collect()
}

impl Aws {
    pub(super) fn of(owner: Owner) -> Aws {
        let others = ["i-other1", "i-other2"].map(InstanceId::new);
        let members = others.into_iter().chain([us()]).map(|id| (id, "InService".to_owned())).collect();
        Aws {
            owner,
            alive: true,
            ready: true,
            drains_for: 0,
            healthy_after: 6_000,
            launches: Vec::new(),
            // Another member serves beside this instance.
            targets: home()
                .into_iter()
                .flat_map(|(arn, port)| [US, "i-other1"].map(|id| (arn, id.to_owned(), port)))
                .collect(),
            draining: BTreeSet::new(),
            tags: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tagged: Vec::new(),
            members,
            desired: BASE,
            max: 20,
            fleet_tags: BTreeMap::new(),
            total: BASE,
            excess: ExcessCapacity::Terminates,
            marked: None,
            rebalanced: false,
            timers: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self.owner, Owner::Detach | Owner::Hook | Owner::Rebalance)
    }

    pub(super) fn is_member(&self) -> bool {
        self.members.contains_key(&us())
    }

    /// The body of `autoscaling/target-lifecycle-state`.
    pub(super) fn target_lifecycle_state(&self) -> Option<&'static str> {
        match self.members.get(&us()).map(String::as_str) {
            _ if !self.is_group() => None,
            Some("InService") => Some("InService"),
            Some(state) if state.starts_with("Terminating") => Some("Terminated"),
            _ => Some("Detached"),
        }
    }

    /// Where this instance is a target now.
    pub(super) fn places(&self) -> BTreeSet<(&'static str, u16)> {
        self.targets.iter().filter(|(_, id, _)| id == US).map(|(arn, _, port)| (*arn, *port)).collect()
    }

    /// Target health of this instance, draining targets included.
    fn shown(&self) -> Vec<Registration> {
        let rows = self.targets.union(&self.draining).filter(|(_, id, _)| id == US);
        registrations_of(rows.map(|(arn, _, port)| (*arn, *port)).collect::<BTreeSet<_>>().into_iter())
    }

    pub(super) fn leave_everywhere(&mut self) {
        self.targets.retain(|(_, id, _)| id != US);
    }

    pub(super) fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    pub(super) fn fleet_tags(&self) -> &BTreeMap<String, String> {
        &self.fleet_tags
    }

    /// A real interruption begins: AWS marks the Spot request, and an owner that replaces by itself does.
    pub(super) fn interruption_begins(&mut self, now: u64) {
        self.marked = Some(now);
        self.rebalances(now);
    }

    pub(super) fn rebalances(&mut self, now: u64) {
        let begun = self.rebalanced || self.timers.iter().any(|(_, timer)| *timer == Timer::Rebalance);
        if self.owner == Owner::Rebalance && self.is_member() && !begun {
            self.timers.push((now + 5_000, Timer::Rebalance));
        }
    }

    pub(super) fn interruption_is_off(&mut self) {
        self.marked = None;
        self.rebalanced = false;
    }

    /// The group scales in.
    pub(super) fn group_terminates(&mut self, now: u64) {
        if self.is_group() && self.members.get(&us()).is_some_and(|state| state == "InService") {
            // It goes because its replacement serves, or because the group scales in.
            self.desired -= i32::from(!self.rebalanced);
            self.begin_to_terminate(now);
        }
    }

    fn begin_to_terminate(&mut self, now: u64) {
        let hook = self.owner == Owner::Hook;
        self.members.insert(us(), "Terminating".to_owned());
        self.leave_group_targets(now, US);
        self.timers.push(if hook { (now + self.drains_for, Timer::HookOpens) } else { (now + 40_000, Timer::Dies) });
        self.pass(now);
    }

    fn leave_group_targets(&mut self, now: u64, id: &str) {
        self.deregister(now, (WEB, id.to_owned(), 80));
    }

    /// Draining for the deregistration delay.
    fn deregister(&mut self, now: u64, row: Row) {
        if self.targets.remove(&row) {
            self.draining.insert(row);
            self.timers.push((now + 300_000, Timer::Drained));
        }
    }

    pub(super) fn dies(&mut self) {
        self.alive = false;
        self.members.remove(&us());
    }

    fn launch(&mut self, now: u64, why: &'static str) -> InstanceId {
        let id = InstanceId::new(format!("i-new{}", self.launches.len()));
        self.launches.push(Launch { id: id.clone(), at: now, why });
        if self.is_group() {
            self.targets.insert((WEB, id.to_string(), 80));
        }
        id
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        self.timers.iter().map(|(at, _)| *at).min()
    }

    /// AWS acts by itself.
    pub(super) fn pass(&mut self, now: u64) {
        while let Some(index) = self.timers.iter().position(|(at, _)| *at <= now) {
            match self.timers.remove(index).1 {
                Timer::Detached if self.members.get(&us()).is_some_and(|state| state == "Detaching") => {
                    self.members.remove(&us());
                    self.leave_group_targets(now, US);
                }
                Timer::Rebalance if self.members.get(&us()).is_some_and(|state| state == "InService") => {
                    self.rebalanced = true;
                    let new = self.launch(now, "the group rebalances");
                    self.members.insert(new, "InService".into());
                }
                Timer::HookOpens => {
                    self.members.insert(us(), "Terminating:Wait".to_owned());
                    self.timers.push((now + 120_000, Timer::HookTimesOut));
                }
                Timer::HookTimesOut | Timer::Dies => self.dies(),
                Timer::Drained => self.draining.clear(),
                Timer::Detached | Timer::Rebalance => {}
            }
        }
        if self.is_group() {
            let staying = |members: &BTreeMap<InstanceId, String>| {
                members.values().filter(|state| *state == "InService").count() as i32
            };
            while staying(&self.members) < self.desired {
                let new = self.launch(now, "the group keeps its size");
                self.members.insert(new, "InService".into());
            }
        }
        if self.owner == Owner::Maintain {
            while (self.members.len() as i32) < self.total {
                let new = self.launch(now, "the fleet keeps its size");
                self.members.insert(new, "active".into());
            }
        }
    }

    /// Puts a fleet right at every look-up, as daemon/look_up.rs does.
    pub(super) fn tidy(&mut self, now: u64) {
        let _ = self.put_right(self.fleet_members(now), now);
    }

    pub(super) fn exceeds_target(&self) -> bool {
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
    pub(super) fn look_up(&self) -> LookedUp {
        LookedUp { registrations: Some(self.shown()), plan: Some(self.plan()), ..LookedUp::default() }
    }

    fn group(&self) -> AutoScalingGroup {
        let hook = LifecycleHook { name: "drain".into(), heartbeat_timeout: Duration::from_secs(120) };
        AutoScalingGroup {
            name: "shop-asg".into(),
            arn: "arn:asg".into(),
            capacity_rebalance: self.owner == Owner::Rebalance,
            termination_hooks: Some(hook).filter(|_| self.owner == Owner::Hook).into_iter().collect(),
            target_groups: vec![TargetGroupArn::new(WEB)],
            members: self.group_members(),
            min_size: 0,
            max_size: self.max,
            desired_capacity: self.desired,
            health_check_type: "EC2".into(),
            availability_zones: vec!["eu-west-1a".into(), "eu-west-1b".into()],
            subnets: Vec::new(),
            other_traffic_sources: Vec::new(),
            launch_hooks: Vec::new(),
            mixes_spot_and_on_demand: false,
        }
    }

    fn fleet(&self) -> Fleet {
        let alive = self.members.len() as i32;
        Fleet {
            id: "fleet-1".into(),
            request_type: FleetType::Maintain,
            state: FleetState::Active,
            excess: self.excess,
            replacement_strategy: None,
            capacity: FleetCapacity { total: self.total, spot: None, fulfilled: alive },
            launch_configurations: Vec::new(),
            unit: Default::default(),
            specification_weights: BTreeMap::new(),
            target_groups: Vec::new(),
            tags: self.fleet_tags.clone(),
        }
    }

    fn fleet_members(&self, now: u64) -> Vec<FleetMember> {
        let noticed_at = |id: &InstanceId| self.marked.filter(|_| *id == us());
        let member = |id: &InstanceId| FleetMember {
            instance_id: id.clone(),
            instance_type: "m5.large".into(),
            instance: self.instance(id, now),
            taken_since: noticed_at(id).map(time),
        };
        self.members.keys().map(member).collect()
    }

    fn group_members(&self) -> Vec<GroupMember> {
        let member = |(id, state): (&InstanceId, &String)| GroupMember {
            instance_id: id.clone(),
            availability_zone: "eu-west-1b".into(),
            lifecycle_state: state.clone(),
        };
        self.members.iter().map(member).collect()
    }

    pub(super) fn plan(&self) -> Plan {
        let how = match self.owner {
            Owner::Detach => GroupRequest::Detach,
            Owner::Hook => GroupRequest::Terminate,
            Owner::Rebalance => GroupRequest::Observe,
            Owner::Maintain => {
                return Plan::Fleet { kind: FleetKind::Ec2, fleet: self.fleet(), how: FleetRequest::Raise };
            }
            Owner::Instant => {
                let attempt = |zone: &str| InstantFleet {
                    launch_configurations: vec![LaunchConfiguration {
                        template: LaunchTemplate { id_or_name: "lt-1".into(), version: "1".into() },
                        overrides: vec![LaunchOverride {
                            availability_zone: Some(zone.into()),
                            ..LaunchOverride::default()
                        }],
                    }],
                    market: Market::Spot,
                    tags: BTreeMap::from([(PREDECESSOR_TAG.into(), US.into())]),
                };
                let attempts = vec![attempt("eu-west-1b"), attempt("eu-west-1c"), attempt("eu-west-1a")];
                let from = "launch template lt-1".into();
                let (running, remarks, zone_of_subnet) = (None, Vec::new(), BTreeMap::new());
                return Plan::Launch(LaunchPlan {
                    from,
                    attempts,
                    only_reclaimed: false,
                    running,
                    remarks,
                    missing: Vec::new(),
                    zone_of_subnet,
                });
            }
            Owner::Nobody => return Plan::nobody("launched by hand"),
        };
        if !self.is_member() {
            return Plan::nobody("the instance is no member of group shop-asg any more");
        }
        Plan::Group { group: self.group(), how }
    }
}
