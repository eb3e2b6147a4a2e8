//! The duty to see the successors serve in one of our target groups: register them there on our ports, unless their
//! owner does, and follow their health.
//!
//! All victims of one owner see the same successors, and each may register any of them: registering twice is harmless.
//! A victim among several waits a moment and looks whether another was faster, so that not all ask at once.

mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::crowd::Bucket;
use super::words::seconds;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::model::{
    BootInstant, Instance, InstanceId, InstanceState, Registration, Target, TargetType, WANTS_SERVER_ID, ZoneChoice,
};
use crate::core::plan::LEAVING_TAG;
use crate::core::retry::{self, FailureKind, Precedence, growing};

/// The pauses between two looks at their health.
const PAUSES: [u64; 4] = [1, 2, 3, 5];
/// A victim among several waits up to this long for each successor, at most as below, before it registers one.
const WAIT_A_SUCCESSOR: Duration = Duration::from_secs(1);
const WAIT_AT_MOST: Duration = Duration::from_secs(10);
/// The pause between two tries to register a successor that AWS does not show as running.
const UNSEEN_PAUSE: Duration = Duration::from_secs(10);
/// The most targets that one call names: a choice of ours.
pub(super) const TARGETS_A_CALL: usize = 100;

pub(super) struct Register {
    /// This instance's registration: the successors get the same ports.
    registration: Registration,
    by_owner: bool,
    /// The successors that run, or that AWS does not show.
    running: Vec<Instance>,
    successors: BTreeMap<InstanceId, Successor>,
    /// The successors that the call under way registers, or looks at.
    asked: Vec<Instance>,
    registers: bool,
    attempts: Attempts,
    looks: usize,
    healthy_at: Option<BootInstant>,
    /// The last instant at which target health showed them healthy.
    seen_at: Option<BootInstant>,
    /// The turn, once AWS has refused a call for several successors, perhaps because of one of them.
    one_by_one: Option<usize>,
    zone: ZoneChoice,
    /// A successor is registered in a zone that no load balancer of the group serves.
    is_unserved: bool,
    /// The owner no longer has the group, and this instance is out of it: nobody is missed there.
    is_unneeded: bool,
}

struct Successor {
    place: Place,
    /// The milestone that was told last of this successor.
    told: Told,
    /// It was healthy, and no longer is.
    has_fallen: bool,
}

/// A milestone of a successor, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    /// The successor is registered on every port.
    Registered,
    Healthy,
}

/// The place of one successor in this target group.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Another victim may register it: look first, but not before this instant.
    Look(BootInstant),
    /// It is to be registered on these ports.
    Register(BTreeSet<u16>),
    Follow,
    Healthy,
}

impl Register {
    pub(super) fn new(registration: Registration, by_owner: bool, attempts: Attempts) -> Register {
        let zone = ZoneChoice::new(registration.zone.clone());
        Register {
            registration,
            by_owner,
            running: Vec::new(),
            successors: BTreeMap::new(),
            asked: Vec::new(),
            registers: false,
            attempts: attempts.with(Precedence::Last),
            looks: 0,
            healthy_at: None,
            seen_at: None,
            one_by_one: None,
            zone,
            is_unserved: false,
            is_unneeded: false,
        }
    }

    /// Takes the ports on which this instance was registered too: the successors are to serve there as well.
    fn learn_targets(&mut self, targets: &[Target]) {
        if self.registration.targets == targets {
            return;
        }
        let before = self.registration.ports();
        self.registration.targets = targets.to_vec();
        let news: BTreeSet<u16> = self.registration.ports().difference(&before).copied().collect();
        for successor in self.successors.values_mut() {
            successor.told = Told::Nothing;
            match &mut successor.place {
                Place::Register(ports) => ports.extend(&news),
                place @ Place::Healthy => *place = Place::Follow,
                Place::Look(_) | Place::Follow => {}
            }
        }
        (self.healthy_at, self.looks) = (None, 0);
    }

    /// Forgets successors that have died or leave themselves.
    pub(super) fn lose(&mut self, instances: &BTreeSet<InstanceId>) {
        self.running.retain(|instance| !instances.contains(&instance.instance_id));
        self.successors.retain(|id, _| !instances.contains(id));
        // The others are followed on until they are told of as healthy.
        let untold = self.successors.values_mut().filter(|it| it.place == Place::Healthy && it.told < Told::Healthy);
        untold.for_each(|it| it.place = Place::Follow);
        if self.successors.is_empty() {
            (self.healthy_at, self.looks) = (None, 0);
        }
    }

    /// Tells whether this instance need not live on for the successors: they are registered, or others register them.
    /// `all_run`: no successor is still to come.
    pub(super) fn is_provided_for(&self, all_run: bool) -> bool {
        let registered = !self.successors.is_empty() && self.successors.values().all(|it| it.told >= Told::Registered);
        let waits = self.successors.values().any(|it| matches!(it.place, Place::Register(_)));
        self.is_over()
            || self.is_unneeded
            || (registered && all_run)
            || (self.is_left_to_others() && !waits && self.registration.ports().len() <= 1)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.is_over()
            || self.is_unneeded
            || (!self.successors.is_empty() && self.successors.values().all(|it| it.place == Place::Healthy))
    }

    /// Tells whether target health has shown this successor healthy.
    pub(super) fn serves(&self, successor: &InstanceId) -> bool {
        !self.is_over() && self.successors.get(successor).is_some_and(|it| it.place == Place::Healthy)
    }

    /// Tells whether only the owner registers there, or somebody who knows the server ids.
    fn is_left_to_others(&self) -> bool {
        self.by_owner || self.registration.needs_server_id
    }

    fn place(&self, instance: &Instance) -> Option<&Place> {
        self.successors.get(&instance.instance_id).map(|successor| &successor.place)
    }

    /// Takes up the successors that run since the last time. `several`: the number of successors, if this instance is
    /// not the only victim.
    pub(super) fn admit(&mut self, now: BootInstant, running: &[Instance], several: Option<usize>) {
        if self.running != running {
            self.running = running.to_vec();
        }
        for instance in running {
            let id = &instance.instance_id;
            if self.successors.contains_key(id) {
                continue;
            }
            let place = match several {
                _ if self.is_left_to_others() => Place::Follow,
                None => Place::Register(self.registration.ports()),
                Some(count) => {
                    let longest = WAIT_A_SUCCESSOR.saturating_mul(u32::try_from(count.max(2)).unwrap_or(u32::MAX));
                    let chance = retry::fraction(self.attempts.seed ^ retry::seed(id.as_str()));
                    Place::Look(now + longest.min(WAIT_AT_MOST).mul_f64(chance))
                }
            };
            self.successors.insert(id.clone(), Successor { place, told: Told::Nothing, has_fallen: false });
            if self.attempts.failures == 0 && !self.attempts.in_flight {
                self.attempts.next = self.attempts.next.min(now);
            }
        }
    }

    /// The successors to register that have an address, as many as one call takes.
    fn batch(&self) -> Vec<&Instance> {
        let waits = |instance: &&Instance| matches!(self.place(instance), Some(Place::Register(_)));
        let ready = |instance: &&Instance| waits(instance) && !goes(instance) && self.target_id(instance).is_some();
        let waiting: Vec<&Instance> = self.running.iter().filter(ready).collect();
        match self.one_by_one {
            Some(turn) if !waiting.is_empty() => waiting.get(turn % waiting.len()).copied().into_iter().collect(),
            _ => waiting.into_iter().take(self.at_once()).collect(),
        }
    }

    /// The successors whose health one call asks for.
    fn to_look_at(&self, now: BootInstant) -> Vec<&Instance> {
        let is_due = |instance: &&Instance| match self.place(instance) {
            Some(Place::Look(from)) => now >= *from,
            Some(Place::Follow) => true,
            _ => false,
        };
        let ready = |instance: &&Instance| is_due(instance) && self.target_id(instance).is_some();
        self.running.iter().filter(ready).collect()
    }

    /// The targets whose health is asked for. An owner registers on the group's own port, which may be none of ours. An
    /// empty list asks for the whole group: that port is unknown, or one call cannot name all targets.
    fn targets_to_look_at(&self, asked: &[Instance]) -> Vec<Target> {
        let is_left_to_others = self.is_left_to_others();
        let own_port = self.registration.group_port.filter(|_| is_left_to_others);
        if asked.len() > self.at_once() || (is_left_to_others && own_port.is_none()) {
            return Vec::new();
        }
        let of = |instance: &Instance| {
            let mut targets = self.targets(instance);
            let id = own_port.and_then(|port| Some(Target { id: self.target_id(instance)?, port }));
            targets.extend(id.filter(|target| !targets.contains(target)));
            targets
        };
        asked.iter().flat_map(of).collect()
    }

    /// The number of successors that one call names.
    fn at_once(&self) -> usize {
        let ports = self.registration.targets.len() + usize::from(self.is_left_to_others());
        (TARGETS_A_CALL / ports.max(1)).max(1)
    }

    /// The successor's targets: on the ports that it is to be registered on, or on all of ours.
    fn targets(&self, instance: &Instance) -> Vec<Target> {
        let Some(id) = self.target_id(instance) else { return Vec::new() };
        let wanted = |target: &Target| match self.place(instance) {
            Some(Place::Register(ports)) => ports.contains(&target.port),
            _ => true,
        };
        self.registration.targets_of(&id).into_iter().filter(wanted).collect()
    }

    fn target_id(&self, instance: &Instance) -> Option<String> {
        match self.registration.target_type {
            TargetType::Instance => Some(instance.instance_id.to_string()),
            TargetType::Ip if self.registration.holds_ipv6() => instance.ipv6_address.clone(),
            TargetType::Ip => instance.private_ip.clone(),
        }
    }
}

impl Duty<HandingOver> for Register {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        self.is_unneeded = situation.unneeded.contains(&self.registration.target_group);
        let known = situation.registrations().iter().find(|it| it.target_group == self.registration.target_group);
        if let Some(known) = known {
            self.learn_targets(&known.targets);
        }
        if self.batch().iter().any(|instance| instance.state != InstanceState::Running) {
            self.attempts.space_out(UNSEEN_PAUSE);
        }
        situation.crowd.bring_forward(&mut self.attempts);
        match (self.batch().is_empty(), self.to_look_at(situation.now).is_empty()) {
            (false, _) => situation.crowd.hold_back(&mut self.attempts),
            (true, false) => situation.crowd.space_out(&mut self.attempts, Bucket::ELB_LOOKS),
            (true, true) => {}
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let batch = self.batch();
        let registers = !batch.is_empty();
        let asked = if registers { batch } else { self.to_look_at(situation.now) };
        if asked.is_empty() || self.is_unneeded {
            return None;
        }
        let asked: Vec<Instance> = asked.into_iter().cloned().collect();
        let (target_group, zone) = (self.registration.target_group.clone(), self.zone.zone().clone());
        let call = if registers {
            let targets = asked.iter().flat_map(|instance| self.targets(instance)).collect();
            Call::RegisterTargets { target_group, targets, zone }
        } else {
            Call::DescribeTargetHealth { target_group, targets: self.targets_to_look_at(&asked), zone }
        };
        (self.registers, self.asked) = (registers, asked);
        Some(call)
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, asked) = (situation.now, std::mem::take(&mut self.asked));
        let registered = std::mem::take(&mut self.registers);
        match answer {
            Answer::Accepted if registered => {
                let ids: Vec<InstanceId> = asked.into_iter().map(|instance| instance.instance_id).collect();
                for id in &ids {
                    self.successors.entry(id.clone()).and_modify(|it| it.place = Place::Follow);
                }
                self.attempts.succeeded(now + growing(&PAUSES, 0));
                self.say_registered(now, &ids, situation.incident);
            }
            Answer::Failed(failure) if failure.has_code(&["TargetGroupNotFound"]) => self.attempts.end(),
            Answer::Failed(failure) if self.zone.turns_after(&failure) => self.attempts.succeeded(now),
            Answer::Health(rows) if !registered => self.followed(now, &asked, &rows, situation.incident),
            other => {
                let is_refused =
                    matches!(&other, Answer::Failed(failure) if failure.kind == FailureKind::Rejected) && registered;
                if is_refused && (asked.len() > 1 || self.one_by_one.is_some()) {
                    self.one_by_one = Some(self.one_by_one.map_or(0, |turn| turn.wrapping_add(1)));
                }
                if !registered && matches!(&other, Answer::Failed(_)) {
                    self.cannot_look(now);
                }
                return Err(other);
            }
        }
        Ok(News::None)
    }

    /// Wakes only while there is a successor to register or to follow.
    fn wake(&self, since: BootInstant) -> Option<BootInstant> {
        let is_wanted = !self.running.is_empty() && !self.is_healthy();
        let next = self.attempts.wake().filter(|_| is_wanted)?;
        let looks = self.successors.values().filter_map(|it| match it.place {
            Place::Look(from) => Some(next.max(from)),
            _ => None,
        });
        looks.chain([next]).filter(|instant| *instant > since).min()
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let duty = format!("successor in {}", self.registration.name());
        if self.is_over() || self.is_unneeded {
            let why = if self.is_over() { "there is no such target group" } else { "its owner does not have it" };
            return Some(DutyReport::new(duty, true, format!("not needed: {why} any more")));
        }
        if let Some(at) = self.healthy_at.filter(|_| self.is_healthy()) {
            return Some(DutyReport::new(duty, true, format!("healthy after {}", seconds(at.since(begun_at)))));
        }
        let is_begun = self.successors.values().any(|it| it.told >= Told::Registered);
        if self.registration.needs_server_id && !self.by_owner && !is_begun {
            return Some(DutyReport::new(duty, false, WANTS_SERVER_ID).settled());
        }
        let count = |is: fn(&Successor) -> bool| self.successors.values().filter(|it| is(it)).count();
        let (registered, healthy) = (count(|it| it.told >= Told::Registered), count(|it| it.place == Place::Healthy));
        let all = self.successors.len();
        let is_healthy = |it: &Instance| self.place(it) == Some(&Place::Healthy);
        let leaving = self.running.iter().find(|it| goes(it) && !is_healthy(it));
        let what = match (leaving, self.successors.iter().find(|(_, it)| it.has_fallen)) {
            (Some(instance), _) => format!("{} is leaving too: it has the tag {LEAVING_TAG}", instance.instance_id),
            (None, Some((id, _))) => format!("{id} was healthy, and is not any more"),
            _ if self.is_unserved => "registered in a zone that is enabled for no load balancer of the group \
                (Target.NotInUse): it gets no requests"
                .to_owned(),
            _ if all > 1 && registered == all => format!("{healthy} of {all} seen healthy yet"),
            _ if all > 1 => format!("{registered} of {all} registered: {}", self.attempts.trouble()),
            _ if registered > 0 => "registered, not seen healthy yet".to_owned(),
            _ if self.is_left_to_others() => format!("not seen registered: {}", self.attempts.trouble()),
            _ => format!("not registered: {}", self.attempts.trouble()),
        };
        Some(DutyReport::new(duty, false, what))
    }
}

/// Tells whether the successor is itself under notice: then its own daemon takes it out.
fn goes(instance: &Instance) -> bool {
    instance.tags.contains_key(LEAVING_TAG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::duty::DutyId;
    use crate::core::handover::tests::{at, incident_of, registration, running};
    use crate::core::model::{Action, MilestoneKind, TargetHealth, TargetState};

    #[test]
    fn a_registration_by_the_owner_that_nobody_could_look_for_is_not_said_to_be_missing() {
        for (by_owner, word) in [(true, "not seen registered: failed once"), (false, "not registered: failed once")] {
            let ours = registration("arn:web", "i-us", &[80]);
            let mut register = Register::new(ours, by_owner, Attempts::new(DutyId::Register(0), at(0), 0));
            register.attempts.failed(at(0), retry::Failure::of(FailureKind::Denied, "no"));
            let report = register.report(at(0)).unwrap();
            assert!(!report.done && report.what.starts_with(word), "{report:?}");
        }
    }

    #[test]
    fn a_successor_is_seen_by_its_address_however_that_is_spelled() {
        let ours = Registration { target_type: TargetType::Ip, ..registration("arn:web", "2001:db8::7", &[80]) };
        let mut register = Register::new(ours, false, Attempts::new(DutyId::Register(0), at(0), 0));
        let mut incident = incident_of("i-us", Action::Terminate, 120_000);
        let successor = Instance { ipv6_address: Some("2001:db8::9".into()), ..running("i-new") };
        register.admit(at(0), std::slice::from_ref(&successor), None);
        let shown = |state| {
            let target = Target { id: "2001:db8:0:0:0:0:0:9".into(), port: 80 };
            [TargetHealth { target, state, reason: None }]
        };
        register.followed(at(1_000), std::slice::from_ref(&successor), &shown(TargetState::Healthy), &mut incident);
        assert!(register.is_healthy() && register.is_provided_for(true));
        assert_eq!(register.looked_again(&shown(TargetState::Unhealthy), at(2_000)), [successor.instance_id]);
    }

    #[test]
    fn a_successor_is_told_of_as_healthy_though_another_that_was_so_before_has_died() {
        let mut register =
            Register::new(registration("arn:web", "i-us", &[80]), false, Attempts::new(DutyId::Register(0), at(0), 0));
        let mut incident = incident_of("i-us", Action::Terminate, 120_000);
        let (first, second) = (running("i-a"), running("i-b"));
        let healthy = |instance: &Instance| {
            let target = Target { id: instance.instance_id.to_string(), port: 80 };
            [TargetHealth { target, state: TargetState::Healthy, reason: None }]
        };
        register.admit(at(0), std::slice::from_ref(&first), Some(2));
        register.followed(at(1_000), std::slice::from_ref(&first), &healthy(&first), &mut incident);
        register.admit(at(2_000), &[first.clone(), second.clone()], Some(2));
        register.lose(&BTreeSet::from([first.instance_id]));
        register.followed(at(3_000), std::slice::from_ref(&second), &healthy(&second), &mut incident);
        let told = incident.milestones.iter().filter(|it| it.milestone == MilestoneKind::SuccessorHealthy);
        assert_eq!(
            told.filter_map(|it| it.successor_id.clone()).collect::<Vec<_>>(),
            [InstanceId::new("i-a"), second.instance_id]
        );
    }
}
