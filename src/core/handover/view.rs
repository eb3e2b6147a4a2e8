//! Everything that a duty may know of the others, as of now: one look at the whole handover, made anew for each round of calls.

use super::crowd::Crowd;
use super::group::AskGroup;
use super::hook::Hook;
use super::leave::Leave;
use super::quiet::Quiet;
use super::successor::SuccessorDuties;
use super::terms::Manner;
use super::{ALONE_AT_MOST, Handover, LAST_CALLS, LeaveSettings, Terms, light};
use crate::core::model::{Action, BootInstant, Registration, Signal, TargetGroupArn};
use crate::core::plan::Plan;

pub(super) struct View<'a> {
    pub(super) now: BootInstant,
    pub(super) terms: &'a Terms,
    pub(super) settings: &'a LeaveSettings,
    pub(super) manner: Manner,
    /// Leave the target groups now rather than serve on.
    pub(super) may_leave: bool,
    /// Serving on: leaving comes later.
    pub(super) may_leave_later: bool,
    /// This instance is marked before it leaves.
    pub(super) may_mark: bool,
    /// It is soon to be known whether anybody else serves.
    pub(super) looks_who_serves: bool,
    /// An interruption is announced, or this instance is leaving all the same.
    pub(super) is_certain: bool,
    /// When every deregistration had been accepted.
    pub(super) left_at: Option<BootInstant>,
    /// Every deregistration went out and was answered once, whatever the answer.
    pub(super) deregistration_tried: bool,
    /// Target health shows every registration `unused`: the load balancer is done with this instance.
    pub(super) all_unused: bool,
    /// A registration from before the handover may still land, and only this instance would take it back.
    pub(super) may_be_registered: bool,
    pub(super) quiet: bool,
    /// No command of the user's is to be waited for.
    pub(super) hooks_ended: bool,
    pub(super) registrations: &'a [Registration],
    /// Why requests may come from elsewhere than these registrations, as a sentence.
    pub(super) elsewhere: Option<String>,
    pub(super) plan_is_known: bool,
    /// Target groups that this instance's owner takes it out of, by a call that was accepted.
    pub(super) taken_out_of: Vec<TargetGroupArn>,
    pub(super) crowd: Crowd,
}

impl View<'_> {
    pub(super) fn reserve_reached(&self) -> bool {
        self.now >= self.terms.deadline - self.settings.reserve
    }

    /// Looked up, and nothing found.
    pub(super) fn is_in_no_target_group(&self) -> bool {
        self.registrations.is_empty() && self.left_at.is_some()
    }
}

impl Handover {
    pub(super) fn view<'a>(
        &'a self,
        now: BootInstant,
        settings: &'a LeaveSettings,
        leaves: &[Leave],
        successor: Option<&SuccessorDuties>,
        quiet: &Quiet,
        hooks: &[Hook],
    ) -> View<'a> {
        let manner = self.terms.manner(settings, successor.map(SuccessorDuties::plan));
        let latest = self.latest_leave(settings);
        let is_healthy = successor.is_some_and(SuccessorDuties::is_healthy);
        let waits = manner == Manner::ServeOn && successor.is_none_or(SuccessorDuties::is_worth_waiting_for);
        let may_leave = match manner {
            _ if self.is_leaving || is_healthy || self.leaves_whoever_serves(successor) => true,
            Manner::Open => false,
            Manner::ServeOn if waits => now >= latest && !self.keeps_the_light_on(now, settings),
            Manner::ServeOn | Manner::AtOnce => !self.keeps_the_light_on(now, settings),
        };
        let looks_from = if waits { latest - light::AHEAD } else { self.begun_at };
        // The tag of one among many can wait for the deregistration.
        let marks_at_once = manner != Manner::AtOnce || self.crowd.is_small() || self.light.asks_for_tags();
        let known = self.look_ups.registrations_are_known();
        let left_at = known.then(|| leaves.iter().map(Leave::accepted_at).collect::<Option<Vec<_>>>()).flatten();
        View {
            now,
            terms: &self.terms,
            settings,
            manner,
            may_leave,
            may_leave_later: !may_leave,
            looks_who_serves: !may_leave && manner != Manner::Open && now >= looks_from,
            may_mark: !may_leave && marks_at_once,
            is_certain: !self.terms.is_open() || may_leave,
            left_at: left_at.map(|instants| instants.into_iter().max().unwrap_or(self.begun_at)),
            deregistration_tried: now >= self.begun_at + ALONE_AT_MOST
                || (known && leaves.iter().all(Leave::was_tried)),
            all_unused: !leaves.is_empty() && leaves.iter().all(Leave::is_unused),
            may_be_registered: leaves.iter().any(Leave::may_be_registered),
            quiet: quiet.is_quiet(),
            hooks_ended: hooks.iter().all(Hook::has_ended) || now >= self.terms.deadline - LAST_CALLS,
            registrations: &self.registrations,
            elsewhere: self.elsewhere(successor.map(SuccessorDuties::plan)),
            plan_is_known: successor.is_some(),
            taken_out_of: self.stays_out_of(successor),
            crowd: self.crowd.until(self.terms.deadline),
        }
    }

    /// A Classic Load Balancer or VPC Lattice sends requests without any target group of ours, and so may a target group of
    /// which AWS does not tell whether this instance is in it.
    fn elsewhere(&self, plan: Option<&Plan>) -> Option<String> {
        let other_sources = match plan {
            Some(Plan::Group { group, .. }) => group.other_traffic_sources.as_slice(),
            _ => &[],
        };
        if !other_sources.is_empty() {
            let sources = other_sources.join(", ");
            return Some(format!("requests may come from the group's other traffic sources: {sources}"));
        }
        let is_known = |unclear: &&TargetGroupArn| self.registrations.iter().any(|it| it.target_group == **unclear);
        let unclear = self.unclear.iter().find(|unclear| !is_known(unclear))?;
        Some(format!("requests may come from {}: it is not known whether this instance is in it", unclear.name()))
    }

    /// A hibernation has begun when its notice shows, and a group that terminates this instance by itself drains it.
    fn leaves_whoever_serves(&self, successor: Option<&SuccessorDuties>) -> bool {
        let hibernates = self.terms.incident.action == Some(Action::Hibernate);
        let by_group = self.terms.terminating && successor.is_none_or(SuccessorDuties::is_decided_by_group);
        hibernates || by_group || self.terms.signal == Signal::LifecycleState
    }

    /// Nobody else serves: this instance stays until the reserve. What is not known yet is waited for a moment, also by a
    /// process that has just begun when it is high time.
    fn keeps_the_light_on(&self, now: BootInstant, settings: &LeaveSettings) -> bool {
        let latest = self.latest_leave(settings).max(self.begun_at + light::LOOKED_AT_MOST);
        let is_in_reserve = now >= self.terms.deadline - settings.reserve;
        match self.light.others_serve(&self.registrations) {
            Some(others_serve) => !others_serve && !is_in_reserve,
            None => now < latest && !is_in_reserve && !self.light.is_unanswered(now, self.crowd),
        }
    }

    /// The target groups that the owner has taken this instance out of, and that it has not come back to.
    fn stays_out_of(&self, successor: Option<&SuccessorDuties>) -> Vec<TargetGroupArn> {
        let mut taken_out_of =
            successor.map(|successor| successor.taken_out_of(AskGroup::has_left).to_vec()).unwrap_or_default();
        for (index, registration) in self.registrations.iter().enumerate() {
            if self.light.is_back_in(index) {
                taken_out_of.retain(|target_group| *target_group != registration.target_group);
            }
        }
        taken_out_of
    }
}
