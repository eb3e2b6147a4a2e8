//! Brings this instance into its target groups: at a boot, if `[arrive]` says so, or after an interruption it survived.
//!
//! It works as a handover does: [`Arrival::due`] says which calls to begin now, [`Arrival::answered`] takes the
//! answers; no clock, no network, no randomness. There is no deadline: a failed call is tried again, with pauses that
//! grow to minutes. Invariants: nothing is registered before the application is ready. Raised capacity is put back and
//! the leaving tag is deleted, whatever else fails. No other instance is ever terminated.

mod capacity;
mod course;
mod duties;
mod find;
mod once;
mod ready;
mod rejoin_group;
mod serve;

use std::time::Duration;

use crate::core::call::{Answer, Call};
use crate::core::duty::{self, Attempts, Due, Duty, DutyId, Patience};
use crate::core::model::{
    BootInstant, Identity, InstanceId, Milestone, MilestoneKind, Readiness, Registration, TargetGroupArn,
    WANTS_SERVER_ID,
};
use crate::core::plan::{LEAVING_TAG, Plan};
use crate::core::retry::{self, Failure};

use capacity::PutCapacityBack;
use course::Situation;
use duties::Duties;
use find::FindTargetGroups;
use once::Once;
use ready::Ready;
use rejoin_group::RejoinGroup;
use serve::Serve;

/// The longest time after the first registration for which a recommendation or a scheduled event waits for this
/// arrival. Targets that are not healthy by then may never be.
const HOLDS_UP_REGISTERED: Duration = Duration::from_secs(2 * 60);
/// A target group that is gone is looked for again under its name after this pause.
const LOOKED_FOR_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest such wait since the beginning of the arrival.
const HOLDS_UP_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// The reason for an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Registers this instance in the target groups that the configuration lists.
    Arrive,
    /// Brings this instance back to where it was before a handover.
    Reinstate,
    /// This instance stays out; only what the handover left elsewhere is put right.
    StayOut,
    /// This instance has handed over, and terminates itself.
    Terminate,
}

pub struct Arrival {
    errand: Errand,
    identity: Identity,
    duties: Duties,
    /// The target groups that need a QuicServerId: spot-relay cannot register this instance there.
    left_to_others: Vec<TargetGroupArn>,
    /// Remarks for a person, each once.
    remarks: Vec<String>,
    milestones: Vec<Milestone>,
    finished: bool,
    /// A recommendation or a scheduled event waits for this arrival until then at most.
    holds_up_until: BootInstant,
    /// The last instant at which due calls were asked for.
    asked_at: BootInstant,
}

impl Arrival {
    /// Begins an arrival at a boot, which looks for the target groups first.
    pub fn arrive(identity: Identity, readiness: Readiness, now: BootInstant) -> Arrival {
        let mut arrival = Arrival::new(Errand::Arrive, identity, readiness, now);
        arrival.duties.find = Some(FindTargetGroups::new(arrival.attempts(DutyId::FindTargetGroups, "find", now)));
        arrival
    }

    /// Begins an arrival after a handover that knew these registrations and this plan.
    pub fn after_handover(
        errand: Errand,
        identity: Identity,
        readiness: Readiness,
        registrations: Vec<Registration>,
        plan: Option<&Plan>,
        now: BootInstant,
    ) -> Arrival {
        let mut arrival = Arrival::new(errand, identity, readiness, now);
        if errand == Errand::Terminate {
            let attempts = arrival.attempts(DutyId::Terminate, "terminate", now);
            arrival.duties.terminate = Some(Once::new(Call::TerminateInstances, attempts));
            return arrival;
        }
        let unmark = Once::new(
            Call::UntagInstance { key: LEAVING_TAG.to_owned() },
            arrival.attempts(DutyId::Unmark, "unmark", now),
        );
        arrival.duties.unmark =
            Some(unmark.unless_denied(format!("the tag {LEAVING_TAG} could not be taken off this instance")));
        let attempts = arrival.attempts(DutyId::PutCapacityBack, "capacity", now);
        arrival.duties.capacity = plan.and_then(|plan| PutCapacityBack::of(plan, attempts));
        if errand == Errand::Reinstate {
            if let Some(Plan::Group { group, .. }) = plan {
                let attempts = arrival.attempts(DutyId::RejoinGroup, "group", now);
                let us = arrival.identity.instance_id.clone();
                arrival.duties.rejoin_group = Some(RejoinGroup::new(group, us, attempts));
            }
            arrival.serve(registrations, now);
        }
        arrival
    }

    fn new(errand: Errand, identity: Identity, readiness: Readiness, now: BootInstant) -> Arrival {
        let asks = readiness != Readiness::AtOnce && matches!(errand, Errand::Arrive | Errand::Reinstate);
        let ready = asks.then(|| Ready::new(readiness, Attempts::new(DutyId::Ready, now, 0)));
        Arrival {
            errand,
            identity,
            duties: Duties { ready, ..Duties::default() },
            left_to_others: Vec::new(),
            remarks: Vec::new(),
            milestones: Vec::new(),
            finished: false,
            holds_up_until: now + HOLDS_UP_AT_MOST,
            asked_at: now,
        }
    }

    fn serve(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        let (others, ours): (Vec<_>, Vec<_>) = registrations.into_iter().partition(|it| it.needs_server_id);
        for registration in others.iter().filter(|it| !self.left_to_others.contains(&it.target_group)) {
            self.remarks.push(format!("in {} this instance is {WANTS_SERVER_ID}", registration.name()));
        }
        self.left_to_others.extend(others.into_iter().map(|it| it.target_group));
        self.duties.serve(ours, now);
    }

    fn attempts(&self, id: DutyId, what: &str, now: BootInstant) -> Attempts {
        let seed = retry::seed(&format!("{} {what}", self.identity.instance_id));
        Attempts::new(id, now, seed).patient(Patience::AtLeisure)
    }

    pub fn errand(&self) -> Errand {
        self.errand
    }

    /// The registrations that exist or are about to: a notice that comes now has to leave them.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.duties.serves.iter().filter(|it| it.is_begun()).map(Serve::registration)
    }

    /// Tells whether a call that registers this instance was made, answered or not: AWS may still carry it out.
    pub fn may_be_registering(&self) -> bool {
        self.duties.serves.iter().any(Serve::is_begun)
            || self.duties.rejoin_group.as_ref().is_some_and(RejoinGroup::may_attach)
    }

    /// Tells whether a recommendation or a scheduled event waits for the end of this arrival. An arrival that waits for
    /// a missing or unhealthy group gives way after a time.
    pub fn holds_up(&self, now: BootInstant) -> bool {
        self.errand != Errand::Arrive || now < self.holds_up_until
    }

    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Tells whether this instance is back in its group and in every target group that it left.
    pub fn is_wholly_back(&self) -> bool {
        self.finished
            && self.left_to_others.is_empty()
            && self.duties.rejoin_group.as_ref().is_none_or(RejoinGroup::has_us)
            && self.duties.serves.iter().all(|it| (it.is_over() || it.is_unserved()) && it.is_begun())
    }

    pub fn take_milestones(&mut self) -> Vec<Milestone> {
        std::mem::take(&mut self.milestones)
    }

    /// The reason why this instance does not register yet, in a sentence; `None` while it waits for nothing but AWS.
    pub fn waits_for(&self) -> Option<String> {
        let ready = self.duties.ready.as_ref().and_then(Ready::waits_for);
        ready.or_else(|| self.duties.serves.iter().find_map(Serve::waits_for))
    }

    pub fn take_remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// The calls to begin now. Each is performed once, within its limit, and answered with [`Arrival::answered`].
    pub fn due(&mut self, now: BootInstant) -> Vec<Due> {
        self.asked_at = now;
        self.finish(now);
        if self.finished {
            return Vec::new();
        }
        let (may_go_on, mut situation) = (self.duties.may_go_on(), Situation { now });
        let duties = self.duties.list_mut().filter(|duty| may_go_on(duty.attempts().duty));
        let calls: Vec<(DutyId, Call)> = duties.filter_map(|duty| duty::begin(duty, now, &mut situation)).collect();
        if calls.iter().any(|(_, call)| matches!(call, Call::RegisterTargets { .. })) {
            self.holds_up_until = self.holds_up_until.min(now + HOLDS_UP_REGISTERED);
        }
        duty::limited(calls, self.duties.list().map(|duty| duty.attempts()), Duration::MAX)
    }

    /// Takes the answer to a call that [`Arrival::due`] gave out. Returns the failure if a person is to be told of it:
    /// the first in a row.
    pub fn answered(&mut self, now: BootInstant, id: DutyId, answer: Answer) -> Option<Failure> {
        let duty = self.duties.list_mut().find(|duty| duty.attempts().duty == id)?;
        let (news, failure) = duty::take(duty, now, &mut Situation { now }, answer);
        self.remarks.extend(news.remarks);
        self.serve(news.wanted, now);
        if news.is_gone && self.errand == Errand::Arrive {
            // A new target group may have the same name.
            let at = now + LOOKED_FOR_AGAIN_AFTER;
            self.duties.find = Some(FindTargetGroups::new(self.attempts(DutyId::FindTargetGroups, "find", at)));
        }
        failure
    }

    /// The target groups in which this instance is to serve. An arrival leaves out those that are gone; a comeback
    /// tells of them.
    fn places(&self) -> impl Iterator<Item = &Serve> {
        let counts = |it: &&Serve| self.errand != Errand::Arrive || !it.is_gone();
        self.duties.serves.iter().filter(|it| self.duties.lets_register_in(it)).filter(counts)
    }

    fn finish(&mut self, now: BootInstant) {
        let duties = &self.duties;
        let registers = duties.lets_register();
        // A comeback into a zone that no load balancer serves is complete; an arrival there is not in service.
        let is_back = |it: &Serve| it.is_over() || (self.errand == Errand::Reinstate && it.is_unserved());
        if self.finished || duties.are_open() || !self.places().all(is_back) {
            return;
        }
        self.finished = true;
        let kind = match self.errand {
            Errand::Arrive if duties.serves.is_empty() => return,
            Errand::Arrive => MilestoneKind::Arrived,
            Errand::Reinstate if registers => MilestoneKind::Reinstated,
            Errand::Reinstate | Errand::StayOut | Errand::Terminate => return,
        };
        let groups: Vec<String> = self.places().map(Serve::words).collect();
        let groups = if groups.is_empty() { "in no target group".to_owned() } else { groups.join(", ") };
        let rejoined = duties.rejoin_group.as_ref().map(RejoinGroup::words).unwrap_or_default();
        let message = match kind {
            MilestoneKind::Arrived => format!("this instance is in service: {groups}"),
            _ => format!("this instance is back: {groups}{rejoined}"),
        };
        self.milestones.push(milestone(kind, now, message, None));
    }

    /// The instant at which [`Arrival::due`] has to be asked again at the latest, if nothing is answered before.
    pub fn wake(&self) -> Option<BootInstant> {
        if self.finished {
            return None;
        }
        let may_go_on = self.duties.may_go_on();
        duty::wake(self.duties.list().filter(|duty| may_go_on(duty.attempts().duty)), self.asked_at)
    }
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
