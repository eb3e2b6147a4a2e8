//! The duties of a handover as one list, in the order in which their calls go out.

use super::ask::Ask;
use super::course::{HandingOver, Situation, seed};
use super::crowd::{Bucket, CALLS_A_GROUP_LOOK, Crowd};
use super::hook::Hook;
use super::last_look::LastLook;
use super::leave::Leave;
use super::look_ups::{FindGroup, FindPlan, FindRegistrations};
use super::manner::HandoverSettings;
use super::mark::Mark;
use super::other_targets::OtherTargets;
use super::quiet::Quiet;
use super::successor::SuccessorDuties;
use super::words::join;
use crate::core::call::{Answer, Call, HookKind};
use crate::core::duty::{self, Attempts, Duty, DutyId, DutyReport, each, each_mut};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, TargetGroupArn};
use crate::core::plan::Plan;

pub(super) struct Duties {
    /// There are several if the owner names target groups, which are quicker to look at than all.
    pub(super) find_registrations: Vec<FindRegistrations>,
    pub(super) find_plan: Option<FindPlan>,
    pub(super) find_group: Option<FindGroup>,
    /// The owner was gone, and was looked for a second time.
    looked_again: bool,
    pub(super) leaves: Vec<Leave>,
    pub(super) quiet: Quiet,
    pub(super) mark: Mark,
    pub(super) other_targets: Vec<OtherTargets>,
    pub(super) hooks: Vec<Hook>,
    /// `None` until the plan is known.
    pub(super) successor: Option<SuccessorDuties>,
    /// `None` until nothing else is left to do.
    pub(super) last_looks: Option<Vec<LastLook>>,
}

impl Duties {
    pub(super) fn new(incident: &Incident, settings: &HandoverSettings, now: BootInstant) -> Duties {
        let attempts = |id, what| Attempts::new(id, now, seed(incident, what));
        let hook = |kind: HookKind, command: &[String]| {
            let ended_before = incident.hooks_ended.contains(&kind);
            (!command.is_empty()).then(|| Hook::new(kind, settings.hooks.timeout, ended_before, now))
        };
        let hooks = [hook(HookKind::Notice, &settings.hooks.notice), hook(HookKind::Drained, &settings.hooks.drained)];
        Duties {
            find_registrations: Vec::new(),
            find_plan: None,
            find_group: None,
            looked_again: false,
            leaves: Vec::new(),
            quiet: Quiet::new(attempts(DutyId::Quiet, "quiet")),
            mark: Mark::new(attempts(DutyId::Mark, "mark")),
            other_targets: Vec::new(),
            hooks: hooks.into_iter().flatten().collect(),
            successor: None,
            last_looks: None,
        }
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &dyn Duty<HandingOver>> {
        each(&self.find_registrations)
            .chain(each(&self.find_plan))
            .chain(each(&self.find_group))
            .chain(each(&self.leaves))
            .chain(each([&self.quiet]))
            .chain(each([&self.mark]))
            .chain(each(&self.other_targets))
            .chain(each(&self.hooks))
            .chain(self.successor.iter().flat_map(SuccessorDuties::list))
            .chain(self.last_looks.iter().flat_map(each))
    }

    pub(super) fn find(&mut self, id: DutyId) -> Option<&mut dyn Duty<HandingOver>> {
        each_mut(&mut self.find_registrations)
            .chain(each_mut(&mut self.find_plan))
            .chain(each_mut(&mut self.find_group))
            .chain(each_mut(&mut self.leaves))
            .chain(each_mut([&mut self.quiet]))
            .chain(each_mut([&mut self.mark]))
            .chain(each_mut(&mut self.other_targets))
            .chain(each_mut(&mut self.hooks))
            .chain(self.successor.iter_mut().flat_map(SuccessorDuties::list_mut))
            .chain(self.last_looks.iter_mut().flat_map(each_mut))
            .find(|duty| duty.attempts().duty == id)
    }

    /// The calls to begin now. The order matters: deregistrations leave first.
    pub(super) fn due(&mut self, situation: &mut Situation<'_>) -> Vec<(DutyId, Call)> {
        let now = situation.now;
        let mut calls: Vec<(DutyId, Call)> =
            self.leaves.iter_mut().filter_map(|leave| duty::begin(leave, now, situation)).collect();
        let look = duty::begin(&mut self.quiet, now, situation);
        situation.quiet = self.quiet.is_quiet();
        calls.extend(self.successor.iter_mut().flat_map(|successor| successor.due(situation)));
        calls.extend(look);
        calls.extend(self.hooks.iter_mut().filter_map(|hook| duty::begin(hook, now, situation)));
        calls.extend(duty::begin(&mut self.mark, now, situation));
        if situation.looks_who_serves {
            OtherTargets::keep(&mut self.other_targets, situation);
            calls.extend(self.other_targets.iter_mut().filter_map(|one| duty::begin(one, now, situation)));
        }
        let last_looks = self.last_looks.iter_mut().flatten();
        calls.extend(last_looks.filter_map(|look| duty::begin(look, now, situation)));
        calls.extend(self.find_registrations.iter_mut().filter_map(|find| duty::begin(find, now, situation)));
        calls.extend(self.find_plan.iter_mut().filter_map(|find| duty::begin(find, now, situation)));
        calls.extend(self.find_group.iter_mut().filter_map(|find| duty::begin(find, now, situation)));
        calls
    }

    /// The target groups that the owner takes this instance out of, if `is` holds for the duty that asks the owner.
    pub(super) fn taken_out_of(&self, is: fn(&dyn Ask) -> bool) -> Vec<TargetGroupArn> {
        self.successor.as_ref().map(|successor| successor.taken_out_of(is).to_vec()).unwrap_or_default()
    }

    pub(super) fn look_for_registrations(
        &mut self,
        among: Option<Vec<TargetGroupArn>>,
        incident: &Incident,
        now: BootInstant,
    ) {
        let find = self.registrations_among(among, incident, now);
        self.find_registrations.push(find);
    }

    fn registrations_among(
        &self,
        among: Option<Vec<TargetGroupArn>>,
        incident: &Incident,
        now: BootInstant,
    ) -> FindRegistrations {
        let id = DutyId::FindRegistrations(self.find_registrations.len());
        FindRegistrations::new(among, Attempts::new(id, now, seed(incident, "look-ups")))
    }

    /// Looks for this instance in a target group that the owner has listed since the look-up. If a target group is
    /// gone, another may have taken its name.
    pub(super) fn hear_of_target_groups(
        &mut self,
        answer: &Answer,
        incident: &Incident,
        crowd: Crowd,
        now: BootInstant,
    ) {
        let named = incident.plan.as_ref().map(Plan::owners_target_groups).unwrap_or_default();
        let looks = || self.find_registrations.iter().filter_map(FindRegistrations::among);
        let is_known = |arn: &&TargetGroupArn| {
            let registrations = incident.registrations.known().iter();
            named.contains(arn)
                || looks().flatten().chain(registrations.map(|it| &it.target_group)).any(|it| it == *arn)
        };
        let among: Vec<TargetGroupArn> = match answer {
            // The answer may name another owner than the one known.
            Answer::Plan(plan) if !named.is_empty() => {
                plan.owners_target_groups().iter().filter(|arn| !is_known(arn)).cloned().collect()
            }
            Answer::Failed(failure) if failure.has_code(&["TargetGroupNotFound"]) => named.to_vec(),
            answer => match answer.current() {
                Some(current) => current.target_groups.iter().filter(|arn| !is_known(arn)).cloned().collect(),
                None => return,
            },
        };
        let is_again = looks().any(|before| before == among);
        let is_gone = matches!(answer, Answer::Failed(_));
        if !is_again && (!among.is_empty() || is_gone) {
            let listed = if is_gone { Vec::new() } else { among.clone() };
            let find = self.registrations_among(Some(among), incident, now).of_owner(listed);
            self.find_registrations.push(find.late(crowd, incident.deadline, now));
        }
    }

    /// Begins to look for a plan. A doubtful plan stands if no other can be found.
    pub(super) fn look_for_plan(&mut self, doubted: Option<Plan>, incident: &Incident, now: BootInstant) {
        let seed = seed(incident, "look-ups").rotate_left(1);
        self.find_plan = Some(FindPlan::new(doubted, Attempts::new(DutyId::FindPlan, now, seed)));
    }

    /// Looks once more for an owner, because the plan's is gone and something else may have taken its place.
    pub(super) fn look_for_plan_again(&mut self, incident: &Incident, now: BootInstant) {
        if !std::mem::replace(&mut self.looked_again, true) {
            self.look_for_plan(None, incident, now);
        }
    }

    /// Asks whether another group holds this instance now: the plan's group does not, perhaps by an earlier call.
    pub(super) fn look_for_another_group(&mut self, plan: Plan, incident: &Incident, now: BootInstant) {
        if !std::mem::replace(&mut self.looked_again, true) {
            let seed = seed(incident, "look-ups").rotate_left(1);
            self.find_plan = Some(FindPlan::of_another_group(plan, Attempts::new(DutyId::FindPlan, now, seed)));
        }
    }

    /// Looks up the group that terminates this instance; nobody is asked for a successor. Members spread their looks.
    pub(super) fn look_for_group(&mut self, incident: &Incident, crowd: Crowd, now: BootInstant) {
        let mut attempts = Attempts::new(DutyId::FindGroup, now, seed(incident, "look-ups").rotate_left(2));
        crowd.spread_first(&mut attempts, now, Bucket::AUTO_SCALING.of_looks(CALLS_A_GROUP_LOOK));
        (self.find_plan, self.find_group) = (None, Some(FindGroup::new(attempts, false)));
    }

    /// Reads the hooks again when they open, because one may have been added while the group drained.
    pub(super) fn look_for_group_again(&mut self, incident: &Incident, now: BootInstant) {
        let attempts = || Attempts::new(DutyId::FindGroup, now, seed(incident, "look-ups").rotate_left(2));
        match &mut self.find_group {
            Some(find) => find.hooks_are_open(now),
            None => self.find_group = Some(FindGroup::new(attempts(), true)),
        }
    }

    pub(super) fn looks_for_group(&self) -> bool {
        self.find_group.as_ref().is_some_and(FindGroup::is_waited_for)
    }

    pub(super) fn registrations_are_known(&self) -> bool {
        self.find_registrations.iter().all(Duty::is_over)
    }

    /// Tells whether the first look-ups, without later ones, are over. This stays true.
    pub(super) fn first_registrations_are_known(&self) -> bool {
        self.find_registrations.iter().all(|find| find.is_late() || find.is_over())
    }

    /// Returns the `unlisted` target groups that this instance has left: nobody has to replace it there. Returns none
    /// until all registrations are known.
    pub(super) fn are_left(&self, unlisted: &[TargetGroupArn]) -> Vec<TargetGroupArn> {
        let is_left = |leave: &&Leave| leave.is_over() && unlisted.contains(leave.target_group());
        let left = || self.leaves.iter().filter(is_left).map(|leave| leave.target_group().clone()).collect();
        if unlisted.is_empty() || !self.registrations_are_known() { Vec::new() } else { left() }
    }

    /// Ends the look-ups, because a scan of all target groups has found everything.
    pub(super) fn everything_was_scanned(&mut self) {
        self.find_registrations.iter_mut().for_each(|find| find.attempts_mut().end());
    }

    /// Reports the look-ups that have not found anything yet.
    pub(super) fn look_ups_reports(&self, begun_at: BootInstant) -> Vec<DutyReport> {
        let open = self.find_registrations.iter().map(Duty::attempts).filter(|attempts| !attempts.is_over());
        let registrations = (!self.registrations_are_known()).then(|| {
            let trouble = join(open.map(Attempts::trouble));
            let what = format!("in which target groups this instance is could not be found out: {trouble}");
            DutyReport::new("target groups", false, what)
        });
        let plan = self.find_plan.iter().filter_map(|find| find.report(begun_at));
        let group = self.find_group.iter().filter_map(|find| find.report(begun_at));
        registrations.into_iter().chain(plan).chain(group).collect()
    }
}
