//! The duties around the successor together: ask for it, find it, watch it, register it, see the hooks through.

mod death;
mod registers;
mod reports;

use std::collections::BTreeSet;

use super::ask::Ask;
use super::capacity::AskCapacity;
use super::course::{Asked, Found, HandingOver, News, Situation, seed};
use super::deaths::Death;
use super::find::{Among, Find};
use super::group::AskGroup;
use super::launch::AskLaunch;
use super::lifecycle::Lifecycles;
use super::manner::Manner;
use super::register::Register;
use super::watch::Watch;
use crate::core::call::{Answer, Call};
use crate::core::duty::{self, Attempts, Duty, DutyId, DutyReport, each, each_mut};
use crate::core::incident::{Incident, LaunchStep};
use crate::core::model::{Action, BootInstant, Instance, InstanceId, MilestoneKind, Registration, TargetGroupArn};
use crate::core::plan::{FleetRequest, GroupRequest, Plan};
use crate::core::retry::{Failure, Precedence};

pub(super) struct SuccessorDuties {
    plan: Plan,
    /// In a drill: the plan that a real signal puts into the place of `plan`.
    real_plan: Option<Plan>,
    /// `None`: the owner launches by itself, or nobody does.
    ask: Option<Box<dyn Ask>>,
    find: Option<Find>,
    watch: Option<Watch>,
    registers: Vec<Register>,
    /// The owner's present target groups, if they were read since the look-up.
    owner_lists: Option<Vec<TargetGroupArn>>,
    /// All target groups that the owner had at the look-up or later.
    owner_had: BTreeSet<TargetGroupArn>,
    pub(super) lifecycles: Lifecycles,
    /// Successors that died. They are never found again.
    deaths: Vec<Death>,
    /// The group terminates this instance, at our request or by itself.
    terminating: bool,
    /// The previous process has asked for a successor, or seen one.
    asked_before: bool,
    /// This instance is in no target group: a successor that runs replaces it fully.
    is_nowhere: bool,
    /// The owner that was to launch by itself is gone.
    owner_is_gone: bool,
}

impl SuccessorDuties {
    pub(super) fn new(plan: Plan, incident: &Incident, manner: Manner, now: BootInstant) -> SuccessorDuties {
        let (plan, real_plan) = match incident.signal.is_real() {
            true => (plan, None),
            false => (plan.clone().for_drill(), Some(plan)),
        };
        // In any other plan hooks run only when the group terminates this instance by itself.
        let lifecycles = match &plan {
            Plan::Group { group, how: GroupRequest::Terminate } => Lifecycles::new(group, &|hook| seed(incident, hook)),
            _ => Lifecycles::default(),
        };
        let mut duties = SuccessorDuties {
            ask: ask_of(&plan, incident, manner, now),
            find: None,
            watch: None,
            registers: Vec::new(),
            owner_lists: None,
            owner_had: plan.owners_target_groups().iter().cloned().collect(),
            lifecycles,
            deaths: Vec::new(),
            terminating: false,
            asked_before: incident.has_reached(MilestoneKind::SuccessorRequested)
                || incident.has_reached(MilestoneKind::SuccessorRunning),
            is_nowhere: false,
            owner_is_gone: false,
            plan,
            real_plan,
        };
        duties.look_where_the_owner_launches_by_itself(incident, now);
        if incident.is_replaced() && matches!(duties.plan, Plan::Group { .. }) {
            duties.search(now, incident);
        }
        if incident.is_terminating() {
            duties.group_terminates(incident, now);
        }
        duties
    }

    /// The launch that is asked for, or was asked for last.
    pub(super) fn step(&self) -> Option<LaunchStep> {
        self.ask.as_ref()?.step()
    }

    pub(super) fn take_remark(&mut self) -> Option<String> {
        self.ask.as_mut()?.take_remark()
    }

    /// Goes on from the launch step of the previous process.
    pub(super) fn resume(&mut self, step: LaunchStep) {
        self.ask.iter_mut().for_each(|ask| ask.resume(step));
    }

    fn look_where_the_owner_launches_by_itself(&mut self, incident: &Incident, now: BootInstant) {
        if self.ask.is_none() && self.plan.has_successor() {
            self.search(now, incident);
        }
    }

    /// Starts the hooks, because the group terminates this instance. What was not asked for yet is not asked for.
    pub(super) fn group_terminates(&mut self, incident: &Incident, now: BootInstant) {
        if let Some(plan) = self.real_plan.take() {
            self.plan = plan;
        }
        if let (true, Plan::Group { group, .. }) = (self.lifecycles.is_empty(), &self.plan) {
            self.lifecycles = Lifecycles::new(group, &|hook| seed(incident, hook));
        }
        self.lifecycles.start(now);
        match &mut self.ask {
            Some(ask) => ask.group_terminates(),
            None if self.watch.is_none() && !self.asked_before => self.find = None,
            None => {}
        }
        self.terminating = true;
    }

    /// Tells whether the group terminates this instance by itself, and decides what it launches instead. If we have
    /// asked the group, a successor is on its way.
    pub(super) fn is_decided_by_group(&self) -> bool {
        let asked = self.ask.as_ref().map_or(self.asked_before, |ask| ask.was_asked());
        self.terminating && self.watch.is_none() && !asked
    }

    /// Takes the news that an interruption is announced.
    pub(super) fn become_urgent(&mut self, manner: Manner, incident: &Incident, now: BootInstant) {
        if let Some(plan) = self.real_plan.take() {
            self.plan = plan;
            self.look_where_the_owner_launches_by_itself(incident, now);
        }
        if let Some(ask) = &mut self.ask {
            ask.become_urgent(manner, now);
        }
    }

    /// The reason why no successor will come, or none that this instance can wait for.
    pub(super) fn is_in_vain(&self) -> Option<String> {
        match (&self.plan, &self.ask) {
            (Plan::Nobody { why, .. }, _) => Some(format!("nobody launches a successor: {why}")),
            (plan, None) if !plan.has_successor() => Some(plan.to_string()),
            (_, ask) => ask.as_ref().and_then(|ask| ask.in_vain()),
        }
    }

    /// A part of a sentence: who does what is still to be done when this instance is gone.
    pub(super) fn afterwards(&self) -> Option<String> {
        let all_are_provided_for = || self.registers.iter().all(|register| register.is_provided_for(true));
        Some(match (&self.plan, self.id()) {
            (plan, _) if !plan.has_successor() => return None,
            (_, Some(id)) if all_are_provided_for() => format!("the load balancer goes on looking at successor {id}"),
            (_, Some(id)) => format!("see that successor {id} is registered, because nobody else does it"),
            (Plan::Launch(_), None) => "nobody launches a successor afterwards: launch one by hand".to_owned(),
            (Plan::Group { group, .. }, None) if self.ask.as_ref().map_or(self.asked_before, |ask| ask.is_out()) => {
                format!("group {} does not count this instance any more, and launches what it lacks", group.name)
            }
            (Plan::Group { group, .. }, None) => format!("group {} replaces this instance once it is gone", group.name),
            (plan, None) => format!("{} replaces this instance once it is gone", plan.owner()),
        })
    }

    /// The target groups that the group takes this instance out of, if `is` holds for the duty that asks it.
    pub(super) fn taken_out_of(&self, is: fn(&dyn Ask) -> bool) -> &[TargetGroupArn] {
        match (&self.plan, &self.ask) {
            (Plan::Group { group, .. }, Some(ask)) if is(ask.as_ref()) => {
                self.owner_lists.as_ref().unwrap_or(&group.target_groups)
            }
            _ => &[],
        }
    }

    /// Tells whether the owner registers what it launches in all of these target groups, or did.
    pub(super) fn registers_in_all(&self, registrations: &[Registration]) -> bool {
        registrations.iter().all(|it| self.owner_had.contains(&it.target_group))
    }

    /// Tells whether our call to leave the owner is under way, was accepted, or may have been done.
    pub(super) fn may_be_taken_out(&self) -> bool {
        self.ask.as_ref().is_some_and(|ask| ask.may_have_left())
    }

    /// The target groups that the owner had, and no longer has.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = &TargetGroupArn> {
        let lists = self.owner_lists.iter();
        lists.flat_map(|lists| self.owner_had.iter().filter(|arn| !lists.contains(arn)))
    }

    pub(super) fn id(&self) -> Option<InstanceId> {
        self.watch.as_ref().and_then(Watch::id)
    }

    /// Tells whether serving on still has a point: the successor is to come and is not healthy yet.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        let to_come = match &self.ask {
            None => self.plan.has_successor(),
            Some(ask) => ask.serves_on(),
        };
        to_come && !self.is_healthy()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_running() && watch.all_run())
            && !self.more_are_to_come()
            && (self.is_nowhere || !self.registers.is_empty())
            && self.registers.iter().all(Register::is_healthy)
    }

    /// Tells whether successors are found, but fewer than members that leave.
    fn more_are_to_come(&self) -> bool {
        self.watch.is_some() && self.find.as_ref().is_some_and(|find| !find.is_done())
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &dyn Duty<HandingOver>> {
        let ask = self.ask.iter().map(|ask| ask.as_ref() as &dyn Duty<HandingOver>);
        ask.chain(each(&self.find))
            .chain(each(&self.watch))
            .chain(each(&self.registers))
            .chain(each(&self.lifecycles.look))
            .chain(each(&self.lifecycles.hooks))
    }

    pub(super) fn list_mut(&mut self) -> impl Iterator<Item = &mut dyn Duty<HandingOver>> {
        let ask = self.ask.iter_mut().map(|ask| ask.as_mut() as &mut dyn Duty<HandingOver>);
        ask.chain(each_mut(&mut self.find))
            .chain(each_mut(&mut self.watch))
            .chain(each_mut(&mut self.registers))
            .chain(each_mut(&mut self.lifecycles.look))
            .chain(each_mut(&mut self.lifecycles.hooks))
    }

    pub(super) fn due(&mut self, situation: &mut Situation<'_>) -> Vec<(DutyId, Call)> {
        let now = situation.now;
        let mut calls = Vec::new();
        if let Some(found) = self.find.as_mut().and_then(|find| find.overheard.take()) {
            self.follow_find(situation, found);
        }
        // A hibernation has begun when the notice shows: the deregistration goes first and alone.
        let alone = situation.incident.id.action == Some(Action::Hibernate) && !situation.deregistration_tried;
        if let Some(ask) = self.ask.as_mut().filter(|_| !alone) {
            match ask.decide(situation) {
                Some(asked) => self.follow(situation, asked),
                None => calls.extend(duty::begin(ask.as_mut(), now, situation)),
            }
        }
        if situation.deregistration_tried || situation.manner != Manner::AtOnce {
            calls.extend(self.find.as_mut().and_then(|find| duty::begin(find, now, situation)));
        }
        calls.extend(self.watch.as_mut().and_then(|watch| duty::begin(watch, now, situation)));
        self.keep_registers(situation);
        calls.extend(self.registers.iter_mut().filter_map(|register| duty::begin(register, now, situation)));
        // Completing the hooks ends this instance, so what only this instance does comes first.
        let all_run = !self.more_are_to_come() && self.watch.as_ref().is_some_and(Watch::all_run);
        let has_successor =
            self.is_decided_by_group() || self.registers.iter().all(|register| register.is_provided_for(all_run));
        let provided_for = situation.reserve_reached() || (has_successor && !situation.may_be_registered);
        situation.may_complete = situation.quiet && situation.hooks_ended && provided_for;
        situation.hooks_are_open = self.lifecycles.are_open();
        situation.hooks_are_hidden = self.lifecycles.is_hidden();
        self.lifecycles.want_state();
        calls.extend(self.lifecycles.look.as_mut().and_then(|look| duty::begin(look, now, situation)));
        calls.extend(self.lifecycles.hooks.iter_mut().filter_map(|hook| duty::begin(hook, now, situation)));
        calls
    }

    /// Tells the other duties what they learn from an answer, before the one that asked takes it.
    pub(super) fn overhear(&mut self, now: BootInstant, incident: &Incident, asked: DutyId, answer: &Answer) {
        // `MemberState` may read another group than the plan's.
        if let Some(current) = answer.current().filter(|_| asked != DutyId::MemberState) {
            self.owner_had.extend(current.target_groups.iter().cloned());
            self.owner_lists = Some(current.target_groups.clone());
            self.lifecycles.learn_members(now, incident, &current.members);
        }
        if let Some(find) = &mut self.find {
            find.owner_launches = self.ask.as_ref().is_some_and(|ask| ask.owner_launches());
            find.makes_room = self.ask.as_ref().is_some_and(|ask| ask.makes_room());
            find.size = self.ask.as_ref().and_then(|ask| ask.size()).or(find.size);
            if let (DutyId::Ask, Answer::FleetMembers(members)) = (asked, answer) {
                find.overhear(now, incident, members);
            }
        }
    }

    /// Tells the other duties of an answer. Returns how the successor died, if it did.
    pub(super) fn learn(&mut self, situation: &mut Situation<'_>, news: News) -> Option<Failure> {
        let now = situation.now;
        match news {
            News::Asked(asked) => self.follow(situation, asked),
            News::Found(found) => {
                self.follow_find(situation, found);
                self.tell_of_victims(situation);
            }
            News::Watched(deaths) => {
                self.admit(now);
                return self.successors_died(situation, deaths);
            }
            News::Members(members) => {
                self.lifecycles.learn_members(now, situation.incident, &members);
            }
            News::HookNotOpen => self.lifecycles.hook_is_not_open(now),
            _ => {}
        }
        None
    }

    fn follow(&mut self, situation: &mut Situation<'_>, asked: Asked) {
        let now = situation.now;
        match asked {
            Asked::Pending => {}
            Asked::Left => self.start_hooks(now),
            Asked::Requested => {
                self.start_hooks(now);
                self.requested(situation, None);
                self.search(now, situation.incident);
            }
            Asked::Raised => self.requested(situation, None),
            Asked::Launching => self.search(now, situation.incident),
            Asked::LaunchesItself => self.observe(now, situation.incident),
            Asked::Launched(instances) => {
                self.requested(situation, instances.first().cloned());
                self.find = None;
                let attempts = Attempts::new(DutyId::Watch, now, seed(situation.incident, "watch"));
                self.watch = Some(Watch::by_token(instances, attempts, situation.incident));
            }
            Asked::InDoubt => {
                self.search(now, situation.incident);
                self.find = self.find.take().map(|find| find.in_doubt(now));
            }
            Asked::NotLaunched => self.find = None,
        }
    }

    /// Starts the hooks. The hooks of a detached member do not run, whatever the plan was.
    fn start_hooks(&mut self, now: BootInstant) {
        match &self.ask {
            Some(ask) if !self.terminating && !ask.runs_hooks() => self.lifecycles = Lifecycles::default(),
            _ => self.lifecycles.start(now),
        }
    }

    /// Only looks on, because the group launches by itself now. The new plan is kept, so that the next process does not
    /// ask either. Nobody has begun to terminate this instance, so no hooks are waited for.
    fn observe(&mut self, now: BootInstant, incident: &mut Incident) {
        let (identity, sees) = (&incident.start.identity, incident.start.owner_sees);
        self.plan = self.plan.clone().with_rebalancing(true, identity, sees);
        incident.plan = Some(self.plan.clone());
        (self.ask, self.lifecycles) = (None, Lifecycles::default());
        self.search(now, incident);
    }

    /// Asks the group like any other, from the beginning, because it no longer launches by itself.
    fn ask_after_all(&mut self, situation: &mut Situation<'_>) {
        let incident = &mut *situation.incident;
        let (identity, sees) = (&incident.start.identity, incident.start.owner_sees);
        let plan = self.plan.clone().with_rebalancing(false, identity, sees);
        incident.plan = Some(plan.clone());
        *self = SuccessorDuties {
            owner_lists: std::mem::take(&mut self.owner_lists),
            owner_had: std::mem::take(&mut self.owner_had),
            deaths: std::mem::take(&mut self.deaths),
            ..SuccessorDuties::new(plan, incident, situation.manner, situation.now)
        };
    }

    fn requested(&self, situation: &mut Situation<'_>, successor: Option<InstanceId>) {
        let which = successor.as_ref().map(|id| format!(": {id}")).unwrap_or_default();
        let message = match self.ask.as_ref().and_then(|ask| ask.owner()) {
            Some(owner) => format!("{owner} launches a successor{which}"),
            None => format!("a successor is launched from {}{which}", self.plan.owner()),
        };
        situation.incident.reach(situation.now, MilestoneKind::SuccessorRequested, message, successor.into());
    }

    fn search(&mut self, now: BootInstant, incident: &Incident) {
        let unknown = self.find.is_none() && self.watch.is_none();
        if let (true, Some(among)) = (unknown, Among::of(&self.plan, incident)) {
            let mut find = Find::new(among, incident, Attempts::new(DutyId::Find, now, seed(incident, "find")));
            find.lose(&self.deaths, now);
            self.find = Some(find.after(self.ask.as_ref().and_then(|ask| ask.counts_at())));
        }
    }

    fn follow_find(&mut self, situation: &mut Situation<'_>, found: Found) {
        let in_doubt = self.find.as_ref().is_some_and(Find::is_in_doubt);
        match found {
            Found::NotYet => {}
            Found::OwnerIsGone => self.owner_is_gone = true,
            Found::HasToBeAsked if self.ask.is_none() && self.watch.is_none() && !self.terminating => {
                self.ask_after_all(situation);
            }
            Found::HasToBeAsked => {}
            Found::Successors(instances) => {
                if in_doubt {
                    self.ask.iter_mut().for_each(|ask| ask.launched(situation.now));
                    self.requested(situation, instances.first().map(|it| it.instance_id.clone()));
                }
                self.found(situation, instances);
            }
            Found::Nothing => {
                self.find = None;
                self.ask.iter_mut().for_each(|ask| ask.was_not_done(situation.now));
            }
        }
    }

    /// Watches the successors found. They were described a moment ago, so no second look is needed to see them run.
    fn found(&mut self, situation: &mut Situation<'_>, instances: Vec<Instance>) {
        let now = situation.now;
        // None of them is dead, or it would not have been found.
        let _ = match &mut self.watch {
            Some(watch) => {
                watch.add(now, &instances);
                watch.learn(now, instances, situation.incident)
            }
            None => {
                let ids = instances.iter().map(|instance| instance.instance_id.clone()).collect();
                let attempts = Attempts::new(DutyId::Watch, now, seed(situation.incident, "watch"));
                let watch = self.watch.insert(Watch::new(ids, attempts));
                watch.looked(now, instances, situation.incident)
            }
        };
        self.admit(now);
    }
}

/// Returns the duty to ask the plan's owner; `None` if the owner launches by itself, or nobody launches.
fn ask_of(plan: &Plan, incident: &Incident, manner: Manner, now: BootInstant) -> Option<Box<dyn Ask>> {
    let attempts = Attempts::new(DutyId::Ask, now, seed(incident, "ask")).with(Precedence::Request);
    Some(match plan {
        _ if incident.is_terminating() => return None,
        Plan::Group { group, how } if how.asks() => {
            let terminates = *how == GroupRequest::Terminate;
            Box::new(AskGroup::new(group.clone(), terminates, manner, incident, attempts))
        }
        Plan::Fleet { kind, fleet, how: FleetRequest::Raise } => {
            Box::new(AskCapacity::of(*kind, fleet, incident, attempts))
        }
        Plan::Launch(launch) => Box::new(AskLaunch::new(launch.clone(), incident, attempts)),
        Plan::Group { .. } | Plan::Fleet { .. } | Plan::Nobody { .. } => return None,
    })
}
