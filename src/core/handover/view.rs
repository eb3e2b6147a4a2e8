//! Everything that a duty may know of the others, as of now: one look at the whole handover, made anew for each round of calls.

use super::crowd::Crowd;
use super::hook::Hook;
use super::leave::Leave;
use super::quiet::Quiet;
use super::successor::SuccessorDuties;
use super::terms::Manner;
use super::{ALONE_AT_MOST, Handover, LAST_CALLS, LeaveSettings, Terms, light};
use crate::core::model::{BootInstant, Registration, TargetGroupArn};

pub(super) struct View<'a> {
    pub(super) now: BootInstant,
    pub(super) terms: &'a Terms,
    pub(super) settings: &'a LeaveSettings,
    pub(super) manner: Manner,
    /// Leave the target groups now rather than serve on.
    pub(super) may_leave: bool,
    /// Serving on: leaving comes later.
    pub(super) may_leave_later: bool,
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
    /// Target groups that this instance's owner takes it out of, by a call that was accepted.
    pub(super) taken_out_of: Vec<TargetGroupArn>,
    pub(super) crowd: Crowd,
}

impl View<'_> {
    pub(super) fn reserve_reached(&self) -> bool {
        self.now >= self.terms.deadline - self.settings.reserve
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
        let is_waited_for = successor.is_none_or(SuccessorDuties::is_worth_waiting_for);
        let time_is_up = !self.is_leaving && manner == Manner::ServeOn && is_waited_for;
        let may_leave = match manner {
            _ if self.is_leaving => true,
            Manner::AtOnce => true,
            Manner::ServeOn if !is_waited_for => true,
            Manner::ServeOn => now >= latest && self.others_serve_or_time_is_up(now, settings),
            Manner::Open => successor.is_some_and(SuccessorDuties::is_healthy),
        };
        let known = self.look_ups.registrations_are_known();
        let left_at = known.then(|| leaves.iter().map(Leave::accepted_at).collect::<Option<Vec<_>>>()).flatten();
        View {
            now,
            terms: &self.terms,
            settings,
            manner,
            may_leave,
            may_leave_later: !may_leave,
            looks_who_serves: time_is_up && !may_leave && now >= latest - light::AHEAD,
            is_certain: !self.terms.is_open() || may_leave,
            left_at: left_at.map(|instants| instants.into_iter().max().unwrap_or(self.begun_at)),
            deregistration_tried: now >= self.begun_at + ALONE_AT_MOST
                || (known && leaves.iter().all(Leave::was_tried)),
            all_unused: !leaves.is_empty() && leaves.iter().all(Leave::is_unused),
            may_be_registered: leaves.iter().any(Leave::may_be_registered),
            quiet: quiet.is_quiet(),
            hooks_ended: hooks.iter().all(Hook::has_ended) || now >= self.terms.deadline - LAST_CALLS,
            registrations: &self.registrations,
            taken_out_of: successor.map(|successor| successor.taken_out_of().to_vec()).unwrap_or_default(),
            crowd: self.crowd.until(self.terms.deadline),
        }
    }

    /// Nobody else serves: this instance stays until the reserve.
    fn others_serve_or_time_is_up(&self, now: BootInstant, settings: &LeaveSettings) -> bool {
        self.light.others_serve(&self.registrations).unwrap_or(true) || now >= self.terms.deadline - settings.reserve
    }
}
