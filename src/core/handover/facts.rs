//! The facts of a handover besides its duties, and the situation that follows from both.

use std::time::Duration;

use super::course::{Situation, seed};
use super::crowd::Crowd;
use super::duties::Duties;
use super::hook::Hook;
use super::leave::Leave;
use super::manner::{HandoverSettings, Manner};
use super::other_targets::{self, OtherTargets};
use super::successor::SuccessorDuties;
use crate::core::config::Leave as LeaveSettings;
use crate::core::incident::Incident;
use crate::core::model::{Action, BootInstant, Signal, TargetGroupArn};
use crate::core::plan::Plan;

/// When serving on, no more than this is counted of the longest deregistration delay. A longer `settle` counts whole.
pub(crate) const COUNTED_DELAY: Duration = Duration::from_secs(30);
/// A hibernating instance only deregisters for this long. Then it asks for the successor all the same.
pub(super) const ALONE_AT_MOST: Duration = Duration::from_secs(5);
/// A termination hook is completed this long before the deadline, even if a command of the user's still runs.
pub(super) const LAST_CALLS: Duration = Duration::from_secs(3);

/// The facts of a handover besides its duties.
pub(super) struct Facts {
    pub(super) incident: Incident,
    pub(super) settings: HandoverSettings,
    pub(super) begun_at: BootInstant,
    pub(super) crowd: Crowd,
    /// The last instant at which due calls were asked for.
    pub(super) asked_at: BootInstant,
    /// The reserve was reached, and a person was told what was not done then.
    pub(super) told_unfinished: bool,
    /// A warning for a person.
    pub(super) warning: Option<String>,
}

impl Facts {
    /// Returns the settings, with a reserve of at most a quarter of a short notice.
    pub(super) fn effective_leave(&self) -> LeaveSettings {
        let reserve = self.settings.leave.reserve.min(self.incident.deadline.since(self.begun_at) / 4);
        LeaveSettings { reserve, ..self.settings.leave.clone() }
    }

    /// The last instant at which this instance can leave and still drain. A throttled crowd leaves earlier, spread.
    pub(super) fn latest_leave(&self, leave: &LeaveSettings) -> BootInstant {
        let longest =
            self.incident.registrations.known().iter().map(|registration| registration.deregistration_delay).max();
        let latest = self.incident.deadline - leave.reserve - time_to_drain(leave, longest.unwrap_or(COUNTED_DELAY));
        self.crowd.spread_leaving(latest, seed(&self.incident, "leave"))
    }

    pub(super) fn situation<'a>(&'a mut self, now: BootInstant, duties: &Duties) -> Situation<'a> {
        let (settings, successor) = (self.effective_leave(), duties.successor.as_ref());
        let manner = self.incident.manner(&settings, self.incident.plan.as_ref());
        // Leaving minutes before a scheduled event gains nothing, whoever comes or does not.
        let has_time = self.incident.signal == Signal::ScheduledEvent;
        let waits =
            manner == Manner::ServeOn && (has_time || successor.is_none_or(SuccessorDuties::is_worth_waiting_for));
        let may_leave = self.may_leave(now, &settings, (manner, waits), duties);
        let looks_from = if waits { self.latest_leave(&settings) - other_targets::AHEAD } else { self.begun_at };
        // In a large crowd the tag of one instance can wait for the deregistration.
        let marks_at_once = manner != Manner::AtOnce
            || self.crowd.is_small()
            || duties.other_targets.iter().any(OtherTargets::asks_for_tags);
        let leaves = &duties.leaves;
        // If the owner has exchanged its target groups, the new ones have to be found and left first.
        let may_come = leaves.iter().any(Leave::is_absent) && !duties.registrations_are_known();
        let known = duties.first_registrations_are_known() && !may_come;
        let left_at = known.then(|| leaves.iter().map(Leave::accepted_at).collect::<Option<Vec<_>>>()).flatten();
        let mut taken_out_of = duties.taken_out_of(|ask| ask.has_left());
        taken_out_of.retain(|group| !duties.other_targets.iter().any(|others| others.is_back_in(group)));
        let goes_out_of = duties.taken_out_of(|ask| ask.was_asked());
        let counts = successor.filter(|_| !self.settings.lists_target_groups);
        let unlisted: Vec<TargetGroupArn> = counts.iter().flat_map(|it| it.unlisted()).cloned().collect();
        let registrations = self.incident.registrations.known();
        Situation {
            now,
            manner,
            may_leave,
            may_mark: !may_leave && marks_at_once,
            is_marked: duties.mark.is_settled(),
            waits_for_another: !may_leave && self.waits_for_another(now, &duties.other_targets, &goes_out_of),
            looks_who_serves: !may_leave && manner != Manner::Open && now >= looks_from,
            is_certain: !self.incident.is_open() || may_leave,
            left_at: left_at.map(|instants| instants.into_iter().max().unwrap_or(self.begun_at)),
            deregistration_tried: now >= self.begun_at + ALONE_AT_MOST
                || (known && leaves.iter().all(Leave::was_tried)),
            all_unused: !leaves.is_empty() && leaves.iter().all(Leave::is_unused),
            may_be_registered: leaves.iter().any(Leave::may_be_registered),
            quiet: duties.quiet.is_quiet(),
            hooks_ended: duties.hooks.iter().all(Hook::has_ended) || now >= self.incident.deadline - LAST_CALLS,
            may_complete: false,
            hooks_are_open: false,
            hooks_are_hidden: false,
            taken_out_of,
            goes_out_of,
            may_be_taken_out: successor.is_some_and(SuccessorDuties::may_be_taken_out),
            registers_somewhere: successor.is_some_and(|it| !it.registers_in_all(registrations)),
            unneeded: duties.are_left(&unlisted),
            unlisted,
            crowd: self.crowd.until(self.incident.deadline),
            elsewhere: self.elsewhere(),
            plan_is_known: successor.is_some(),
            settings,
            incident: &mut self.incident,
        }
    }

    /// Decides whether this instance leaves now. `manner` also says whether it waits for the successor.
    fn may_leave(&self, now: BootInstant, settings: &LeaveSettings, manner: (Manner, bool), duties: &Duties) -> bool {
        let successor = duties.successor.as_ref();
        let is_healthy = successor.is_some_and(SuccessorDuties::is_healthy);
        let stays_in_service = || self.stays_in_service(now, settings, &duties.other_targets);
        match manner {
            _ if self.incident.leaving_since.is_some() || is_healthy || self.leaves_whoever_serves(successor) => true,
            (Manner::Open, _) => false,
            (Manner::ServeOn, true) => now >= self.latest_leave(settings) && !stays_in_service(),
            (Manner::ServeOn | Manner::AtOnce, _) => !stays_in_service(),
        }
    }

    /// Tells whether others leave too and nobody would serve in a group that the owner takes this instance out of.
    fn waits_for_another(
        &self,
        now: BootInstant,
        other_targets: &[OtherTargets],
        goes_out_of: &[TargetGroupArn],
    ) -> bool {
        self.incident.registrations.known().iter().enumerate().any(|(index, registration)| {
            let others = other_targets.get(index);
            other_targets::is_taken_out(registration, goes_out_of)
                && others.is_none_or(|others| others.waits_for_another(now))
        })
    }

    /// The reason why requests may come from elsewhere. A Classic Load Balancer or VPC Lattice needs no target group of
    /// ours, and AWS may not tell whether this instance is in some target group.
    fn elsewhere(&self) -> Option<String> {
        let other_sources = self.incident.plan.as_ref().map(Plan::other_traffic_sources).unwrap_or_default();
        if !other_sources.is_empty() {
            let sources = other_sources.join(", ");
            return Some(format!("requests may come from the group's other traffic sources: {sources}"));
        }
        let unclear = self.incident.unclear_groups().next()?;
        Some(format!("requests may come from {}: it is not known whether this instance is in it", unclear.name()))
    }

    /// Tells whether this instance leaves whoever serves: it hibernates already, or its group drains and terminates it.
    fn leaves_whoever_serves(&self, successor: Option<&SuccessorDuties>) -> bool {
        let hibernates = self.incident.id.action == Some(Action::Hibernate);
        let by_group = self.incident.is_terminating() && successor.is_none_or(SuccessorDuties::is_decided_by_group);
        hibernates || by_group || self.incident.signal == Signal::LifecycleState
    }

    /// Tells whether this instance stays because nobody else serves: until the reserve, and in a drill, which ends no
    /// instance, to the end. An unknown answer is waited for a moment, also by a process that begins late.
    fn stays_in_service(&self, now: BootInstant, settings: &LeaveSettings, other_targets: &[OtherTargets]) -> bool {
        let latest = self.latest_leave(settings).max(self.begun_at + other_targets::LOOKED_AT_MOST);
        let is_in_reserve = now >= self.incident.deadline - settings.reserve;
        let ends = self.incident.signal.is_real();
        match OtherTargets::others_serve(other_targets, self.incident.registrations.known()) {
            Some(others_serve) => !others_serve && (!ends || !is_in_reserve),
            None if !ends => true,
            None => now < latest && !is_in_reserve && !OtherTargets::is_unanswered(other_targets, now, self.crowd),
        }
    }
}

/// The time left for draining after serving on, for a target group with this deregistration delay.
pub(crate) fn time_to_drain(leave: &LeaveSettings, deregistration_delay: Duration) -> Duration {
    deregistration_delay.min(COUNTED_DELAY).max(leave.settle)
}
