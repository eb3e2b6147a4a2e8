//! This instance's way into its target groups: at a boot where `[arrive]` says so, or back after it was to go and lives on.
//!
//! As the handover: [`Arrival::due`] says which calls to begin now, [`Arrival::answered`] takes what came back; no clock, no
//! network, no randomness. There is no deadline: what fails is tried again with pauses that grow to minutes. Invariants:
//! nothing is registered before the application is ready; a capacity that was raised is put back, and the mark of one that
//! goes is taken off, whatever else fails; nobody but this instance itself is ever terminated.

mod capacity;
mod place;
mod room;

use std::time::Duration;

use crate::core::handover::{Answer, CALL_LIMIT, Call, Pace};
use crate::core::model::{BootInstant, Identity, InstanceId, Milestone, MilestoneKind, Readiness, Registration};
use crate::core::plan::{LEAVING_TAG, Plan};
use crate::core::retry::{self, Failure, FailureKind};

use capacity::Capacity;
use place::Place;
use room::Room;

/// Between two questions whether the application is ready.
const ASK_READINESS_EVERY: Duration = Duration::from_secs(1);
/// A look-up may ask page by page.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(20);

/// The reason for an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Into the target groups that the configuration lists.
    Arrive,
    /// Back to where it was before a handover.
    Reinstate,
    /// Not back; only what the handover left elsewhere is put right.
    StayOut,
    /// It has handed over: its own end.
    Terminate,
}

/// The step that a call belongs to; its answer goes back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    Ready,
    Find,
    Room,
    Place(usize),
    Unmark,
    Capacity,
    Terminate,
}

/// A call that is to be begun now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueStep {
    pub step: Step,
    pub call: Call,
    pub limit: Duration,
}

pub struct Arrival {
    errand: Errand,
    identity: Identity,
    readiness: Readiness,
    ready: Option<Pace>,
    /// Which target groups, where the configuration lists them.
    find: Option<Pace>,
    room: Option<Room>,
    places: Vec<Place>,
    unmark: Option<Pace>,
    capacity: Option<Capacity>,
    terminate: Option<Pace>,
    /// Remarks for a person, each once.
    remarks: Vec<String>,
    /// The reason to wait for an application that is not ready yet.
    waits_for: Option<String>,
    milestones: Vec<Milestone>,
    finished: bool,
    seen: BootInstant,
}

impl Arrival {
    /// At a boot: the target groups are to be found out.
    pub fn arrive(identity: Identity, readiness: Readiness, now: BootInstant) -> Arrival {
        let mut arrival = Arrival::new(Errand::Arrive, identity, readiness, now);
        arrival.find = Some(Pace::new(now, arrival.seed("find")));
        arrival
    }

    /// After a handover, which knew these registrations and this plan.
    pub fn after_handover(
        errand: Errand,
        identity: Identity,
        readiness: Readiness,
        registrations: Vec<Registration>,
        plan: Option<&Plan>,
        now: BootInstant,
    ) -> Arrival {
        let mut arrival = Arrival::new(errand, identity, readiness, now);
        let seed = |what: &str| arrival.seed(what);
        if errand == Errand::Terminate {
            arrival.terminate = Some(Pace::new(now, seed("terminate")));
            return arrival;
        }
        let places = registrations.into_iter().map(|it| Place::new(it, now)).collect();
        let unmark = Pace::new(now, seed("unmark"));
        let capacity = plan.and_then(|plan| Capacity::of(plan, Pace::new(now, seed("capacity"))));
        let room = match plan {
            Some(Plan::Group { group, .. }) if errand == Errand::Reinstate => {
                Some(Room::new(group.name.clone(), Pace::new(now, seed("room"))))
            }
            _ => None,
        };
        arrival.places = if errand == Errand::Reinstate { places } else { Vec::new() };
        arrival.unmark = Some(unmark);
        arrival.capacity = capacity;
        arrival.room = room;
        arrival
    }

    fn new(errand: Errand, identity: Identity, readiness: Readiness, now: BootInstant) -> Arrival {
        let asks = readiness != Readiness::AtOnce && matches!(errand, Errand::Arrive | Errand::Reinstate);
        Arrival {
            errand,
            identity,
            ready: asks.then(|| Pace::new(now, 0)),
            readiness,
            find: None,
            room: None,
            places: Vec::new(),
            unmark: None,
            capacity: None,
            terminate: None,
            remarks: Vec::new(),
            waits_for: None,
            milestones: Vec::new(),
            finished: false,
            seen: now,
        }
    }

    fn seed(&self, what: &str) -> u64 {
        retry::seed(&format!("{} {what}", self.identity.instance_id))
    }

    pub fn errand(&self) -> Errand {
        self.errand
    }

    /// Where this instance is registered or is about to be: what a notice that comes now has to leave.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.places.iter().filter(|place| place.is_begun()).map(Place::registration)
    }

    /// True if a call was made that registers this instance, answered or not: AWS may still be at it.
    pub fn may_be_registering(&self) -> bool {
        self.places.iter().any(Place::is_begun) || self.room.as_ref().is_some_and(Room::may_attach)
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Nothing of what was there before is gone or refuses this instance.
    pub fn is_wholly_back(&self) -> bool {
        self.finished
            && self.room.as_ref().is_none_or(Room::has_us)
            && self.places.iter().all(|place| (place.is_done() || place.is_unserved()) && place.is_begun())
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        std::mem::take(&mut self.milestones)
    }

    /// The reason why this instance does not register yet, in a sentence; `None` while it waits for nothing but AWS.
    pub fn waits_for(&self) -> Option<String> {
        self.waits_for.clone().or_else(|| self.places.iter().find_map(Place::waits_for))
    }

    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// The calls to begin now. Each is performed once, within its limit, and answered with [`Arrival::answered`].
    pub fn due(&mut self, now: BootInstant) -> Vec<DueStep> {
        self.seen = now;
        self.finish(now);
        if self.finished {
            return Vec::new();
        }
        let mut calls: Vec<(Step, Call)> = Vec::new();
        let mut plain = |pace: &mut Option<Pace>, step: Step, call: Call| {
            if pace.as_mut().is_some_and(|pace| pace.begin(now)) {
                calls.push((step, call));
            }
        };
        plain(&mut self.terminate, Step::Terminate, Call::TerminateInstances);
        plain(&mut self.unmark, Step::Unmark, Call::UntagInstance { key: LEAVING_TAG.to_owned() });
        plain(&mut self.ready, Step::Ready, Call::LookAtReadiness(self.readiness.clone()));
        plain(&mut self.find, Step::Find, Call::FindTargetGroups);
        if let Some(call) = self.capacity.as_mut().and_then(|capacity| capacity.due(now)) {
            calls.push((Step::Capacity, call));
        }
        if self.ready.is_none() {
            if let Some(call) = self.room.as_mut().and_then(|room| room.due(now)) {
                calls.push((Step::Room, call));
            }
            // A group that is terminating this instance is no place to come back to.
            let may_register = self.room.as_ref().is_none_or(Room::lets_register);
            for (index, place) in self.places.iter_mut().enumerate().filter(|_| may_register) {
                calls.extend(place.due(now).map(|call| (Step::Place(index), call)));
            }
        }
        let limit = |call: &Call| match call {
            Call::FindTargetGroups | Call::PutCapacityBack { .. } => LOOK_UP_LIMIT,
            _ => CALL_LIMIT,
        };
        calls.into_iter().map(|(step, call)| DueStep { step, limit: limit(&call), call }).collect()
    }

    /// Takes the answer to a call that [`Arrival::due`] gave out. Returns the failure if it is one that is tried again and
    /// the first of its kind.
    pub fn answered(&mut self, now: BootInstant, step: Step, answer: Answer) -> Option<Failure> {
        match step {
            Step::Ready => self.readiness_answered(now, answer),
            Step::Find => return self.found(now, answer),
            Step::Room => {
                if let Some(room) = &mut self.room {
                    self.remarks.extend(room.answered(now, &self.identity, answer));
                    return room.first_failure();
                }
            }
            Step::Place(index) => {
                if let Some(place) = self.places.get_mut(index) {
                    place.answered(now, answer);
                    self.remarks.extend(place.take_remark());
                    return place.first_failure();
                }
            }
            Step::Capacity => {
                if let Some(capacity) = &mut self.capacity {
                    capacity.answered(now, answer);
                    return capacity.first_failure();
                }
            }
            Step::Unmark => return self.unmarked(now, answer),
            Step::Terminate => match answer {
                Answer::Accepted => self.terminate = None,
                other => {
                    let pace = self.terminate.as_mut()?;
                    pace.failed_at_leisure(now, other);
                    return first_failure(pace);
                }
            },
        }
        None
    }

    fn readiness_answered(&mut self, now: BootInstant, answer: Answer) {
        let Some(pace) = &mut self.ready else { return };
        if answer == Answer::Accepted {
            self.ready = None;
            self.waits_for = None;
            return;
        }
        pace.failed_by(now, answer);
        pace.next = now + ASK_READINESS_EVERY;
        if let (true, Some(failure)) = (self.waits_for.is_none(), &pace.last_failure) {
            self.waits_for = Some(format!("waiting until the application is ready: {failure}; asking every second"));
        }
    }

    fn found(&mut self, now: BootInstant, answer: Answer) -> Option<Failure> {
        match answer {
            Answer::TargetGroups { wanted, missing } => {
                for registration in wanted {
                    let is_known = |place: &Place| place.registration().target_group == registration.target_group;
                    if !self.places.iter().any(is_known) {
                        self.places.push(Place::new(registration, now));
                    }
                }
                if missing.is_empty() {
                    self.find = None;
                    return None;
                }
                // It may be made yet; until then this instance has not arrived.
                let pace = self.find.as_mut()?;
                let is_news = pace.failures == 0;
                pace.failed_at_leisure(now, Answer::Failed(Failure::unanswered(missing.join(", "))));
                if !is_news {
                    return None;
                }
                self.remarks.extend(missing.iter().map(|group| {
                    format!(
                        "target-groups names {group}, and this instance cannot be registered there: no such target group of \
                         type instance or ip in this region; looking for it again, less and less often"
                    )
                }));
                None
            }
            other => {
                let pace = self.find.as_mut()?;
                pace.failed_at_leisure(now, other);
                first_failure(pace)
            }
        }
    }

    fn unmarked(&mut self, now: BootInstant, answer: Answer) -> Option<Failure> {
        let pace = self.unmark.as_mut()?;
        match answer {
            Answer::Accepted => {
                self.unmark = None;
                None
            }
            // Whom IAM lets set no tag has none to take off.
            Answer::Failed(failure) if failure.kind == FailureKind::Denied => {
                self.remarks.push(format!("the tag {LEAVING_TAG} could not be taken off this instance: {failure}"));
                self.unmark = None;
                None
            }
            other => {
                pace.failed_at_leisure(now, other);
                first_failure(pace)
            }
        }
    }

    fn finish(&mut self, now: BootInstant) {
        let waits = self.find.is_some()
            || self.unmark.is_some()
            || self.terminate.is_some()
            || (self.ready.is_some() && (!self.places.is_empty() || self.room.is_some()))
            || self.room.as_ref().is_some_and(|room| !room.is_done())
            || self.capacity.as_ref().is_some_and(|capacity| !capacity.is_done());
        let registers = self.room.as_ref().is_none_or(Room::lets_register);
        // Back in a zone that no load balancer serves is back where it was; it is no arrival in service.
        let is_back = |place: &Place| place.is_done() || (self.errand == Errand::Reinstate && place.is_unserved());
        if self.finished || waits || (registers && !self.places.iter().all(is_back)) {
            return;
        }
        self.finished = true;
        let kind = match self.errand {
            Errand::Arrive => MilestoneKind::Arrived,
            Errand::Reinstate if registers => MilestoneKind::Reinstated,
            Errand::Reinstate | Errand::StayOut | Errand::Terminate => return,
        };
        let places: Vec<String> = self.places.iter().map(Place::words).collect();
        let places = if places.is_empty() { "in no target group".to_owned() } else { places.join(", ") };
        let room = self.room.as_ref().map(Room::words).unwrap_or_default();
        let message = match kind {
            MilestoneKind::Arrived => format!("this instance is in service: {places}"),
            _ => format!("this instance is back: {places}{room}"),
        };
        self.milestones.push(milestone(kind, now, message, None));
    }

    /// When [`Arrival::due`] has to be asked again at the latest, if nothing is answered before.
    pub fn wake(&self) -> Option<BootInstant> {
        if self.finished {
            return None;
        }
        let plain = [&self.ready, &self.find, &self.unmark, &self.terminate];
        let plain = plain.into_iter().filter_map(|pace| pace.as_ref().and_then(Pace::wake));
        let capacity = self.capacity.iter().filter_map(Capacity::wake);
        let ready = self.ready.is_none();
        let room = self.room.iter().filter(|_| ready).filter_map(Room::wake);
        let may_register = ready && self.room.as_ref().is_none_or(Room::lets_register);
        let places = self.places.iter().filter(|_| may_register).filter_map(Place::wake);
        plain.chain(capacity).chain(room).chain(places).filter(|instant| *instant > self.seen).min()
    }
}

fn first_failure(pace: &Pace) -> Option<Failure> {
    pace.last_failure.clone().filter(|_| pace.failures == 1)
}

pub(crate) fn milestone(
    milestone: MilestoneKind,
    at: BootInstant,
    message: String,
    successor_id: Option<InstanceId>,
) -> Milestone {
    Milestone { milestone, at, left: None, target_group: None, successor_id, owner: None, message }
}

#[cfg(test)]
mod tests;
