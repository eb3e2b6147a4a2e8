//! The duties of a comeback as one list, in the order in which their calls go out.

use super::capacity::PutCapacityBack;
use super::course::ComingBack;
use super::find::FindTargetGroups;
use super::once::Once;
use super::ready::Ready;
use super::rejoin_group::RejoinGroup;
use super::serve::Serve;
use crate::core::duty::{Attempts, Duty, DutyId, Patience, each, each_mut};
use crate::core::model::{BootInstant, Registration};
use crate::core::retry;

#[derive(Default)]
pub(super) struct Duties {
    pub(super) terminate: Option<Once>,
    pub(super) unmark: Option<Once>,
    pub(super) ready: Option<Ready>,
    /// The search for the target groups, where the configuration lists them.
    pub(super) find: Option<FindTargetGroups>,
    pub(super) capacity: Option<PutCapacityBack>,
    pub(super) rejoin_group: Option<RejoinGroup>,
    pub(super) serves: Vec<Serve>,
}

impl Duties {
    /// Adds a duty for each target group that has none yet.
    pub(super) fn serve(&mut self, registrations: Vec<Registration>, now: BootInstant) {
        for registration in registrations {
            let is_it = |it: &Serve| it.registration().target_group == registration.target_group;
            let known = self.serves.iter().position(is_it);
            let index = known.unwrap_or(self.serves.len());
            let seed = retry::seed(registration.target_group.as_str());
            let attempts = Attempts::new(DutyId::Serve(index), now, seed).patient(Patience::AtLeisure);
            match known.and_then(|index| self.serves.get_mut(index)) {
                // AWS did not know this target group a moment ago, and describes it now.
                Some(known) if known.is_gone() => *known = Serve::new(registration, attempts),
                Some(_) => {}
                None => self.serves.push(Serve::new(registration, attempts)),
            }
        }
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &dyn Duty<ComingBack>> {
        each(&self.terminate)
            .chain(each(&self.unmark))
            .chain(each(&self.ready))
            .chain(each(&self.find))
            .chain(each(&self.capacity))
            .chain(each(&self.rejoin_group))
            .chain(each(&self.serves))
    }

    pub(super) fn list_mut(&mut self) -> impl Iterator<Item = &mut dyn Duty<ComingBack>> {
        each_mut(&mut self.terminate)
            .chain(each_mut(&mut self.unmark))
            .chain(each_mut(&mut self.ready))
            .chain(each_mut(&mut self.find))
            .chain(each_mut(&mut self.capacity))
            .chain(each_mut(&mut self.rejoin_group))
            .chain(each_mut(&mut self.serves))
    }

    fn is_ready(&self) -> bool {
        self.ready.as_ref().is_none_or(Ready::is_over)
    }

    /// Tells whether this instance may register at all: not while its Auto Scaling group terminates it.
    pub(super) fn lets_register(&self) -> bool {
        self.rejoin_group.as_ref().is_none_or(RejoinGroup::lets_register)
    }

    pub(super) fn lets_register_in(&self, serve: &Serve) -> bool {
        let target_group = &serve.registration().target_group;
        self.rejoin_group.as_ref().is_none_or(|group| group.lets_register_in(target_group))
    }

    /// Tells which duties may go on now.
    pub(super) fn may_go_on(&self) -> impl Fn(DutyId) -> bool + use<> {
        let is_ready = self.is_ready();
        let lets_register: Vec<bool> = self.serves.iter().map(|serve| self.lets_register_in(serve)).collect();
        move |id| match id {
            DutyId::RejoinGroup => is_ready,
            DutyId::Serve(index) => is_ready && lets_register.get(index).is_some_and(|lets| *lets),
            _ => true,
        }
    }

    /// Tells whether anything but the registrations themselves is still to be done.
    pub(super) fn are_open(&self) -> bool {
        let may_be_open = |id| match id {
            DutyId::Serve(_) => false,
            DutyId::Ready => !self.serves.is_empty() || self.rejoin_group.is_some(),
            _ => true,
        };
        self.list().any(|duty| may_be_open(duty.attempts().duty) && !duty.is_over())
    }
}
