//! The duties around the successor, tied together: ask for it, find it, watch it, register it, see the hooks through.

mod death;

use std::collections::BTreeSet;

use super::capacity::AskCapacity;
use super::find::{Among, Find, Found};
use super::group::AskGroup;
use super::launch::AskLaunch;
use super::lifecycle::Lifecycles;
use super::register::Register;
use super::terms::Manner;
use super::watch::{Death, Watch, Watched};
use super::{Answer, Call, Duty, Journal, Pace, Report, Terms, View, seed};
use crate::core::model::{Action, BootInstant, Instance, InstanceId, MilestoneKind, Signal, TargetGroupArn};
use crate::core::plan::{FleetRequest, GroupRequest, Plan};
use crate::core::retry::{Failure, Precedence};

pub(super) struct SuccessorDuties {
    plan: Plan,
    ask: Ask,
    find: Option<Find>,
    watch: Option<Watch>,
    registers: Vec<Register>,
    pub(super) lifecycles: Lifecycles,
    /// Successors that died: never to be found again.
    lost: BTreeSet<InstanceId>,
    deaths: Vec<Death>,
    /// A death that nobody has been told of yet.
    untold: Option<Failure>,
    /// The group terminates this instance, at our request or by itself.
    terminating: bool,
    /// This instance is in no target group: a successor that runs does all that it did.
    is_nowhere: bool,
    /// In a drill: the owner launches by itself, but only at a real signal.
    nobody_yet: bool,
}

/// How the owner is asked. The variants differ in their calls and agree in what comes of them: [`Asked`].
enum Ask {
    /// It launches by itself, or nobody does.
    Nobody,
    Group(AskGroup),
    Capacity(AskCapacity),
    Launch(AskLaunch),
}

/// The meaning of an answer for the other duties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Pending,
    /// The owner has been asked.
    Requested,
    /// The owner launches; which instance it is has to be found out.
    Launching,
    /// This instance has left its owner; the successor was launched before.
    Left,
    Launched(Vec<InstanceId>),
    /// It may have been done by a call whose answer was lost: look before asking in another way.
    InDoubt,
    /// What was in doubt was not done.
    NotLaunched,
}

impl SuccessorDuties {
    pub(super) fn new(plan: Plan, terms: &Terms, manner: Manner, now: BootInstant) -> SuccessorDuties {
        let pace = Pace::new(now, seed(terms, "ask")).with(Precedence::Request);
        let is_drill = terms.signal == Signal::Drill;
        let observes = matches!(
            &plan,
            Plan::Group { how: GroupRequest::Observe, .. } | Plan::Fleet { how: FleetRequest::Observe, .. }
        );
        let mut find = None;
        let ask = match &plan {
            _ if terms.terminating || (observes && is_drill) => Ask::Nobody,
            Plan::Group { how: GroupRequest::Observe, .. } | Plan::Fleet { how: FleetRequest::Observe, .. } => {
                find = Among::of(&plan, terms).map(|among| Find::new(among, terms, now, seed(terms, "find")));
                Ask::Nobody
            }
            Plan::Group { how: GroupRequest::Uncounted, .. } => Ask::Nobody,
            Plan::Group { group, how } => Ask::Group(AskGroup::new(
                group.clone(),
                *how == GroupRequest::Terminate && !is_drill,
                manner,
                terms,
                pace,
            )),
            Plan::Fleet { kind, fleet, .. } => Ask::Capacity(AskCapacity::of(*kind, fleet, terms, pace)),
            Plan::Launch(launch) => Ask::Launch(AskLaunch::new(launch.clone(), pace)),
            Plan::Nobody { .. } => Ask::Nobody,
        };
        // The hooks of a group that is left in another way run when it terminates this instance by itself.
        let lifecycles = match &plan {
            Plan::Group { group, how: GroupRequest::Terminate } if !is_drill => {
                Lifecycles::new(group, &|hook| seed(terms, hook))
            }
            _ => Lifecycles::none(),
        };
        let mut duties = SuccessorDuties {
            ask,
            find,
            watch: None,
            registers: Vec::new(),
            lifecycles,
            lost: BTreeSet::new(),
            deaths: Vec::new(),
            untold: None,
            terminating: false,
            is_nowhere: false,
            nobody_yet: observes && is_drill,
            plan,
        };
        if terms.terminating {
            duties.group_terminates(terms, now);
        }
        duties
    }

    /// The group terminates this instance: its hooks run now, and what was not asked for yet is not asked for.
    pub(super) fn group_terminates(&mut self, terms: &Terms, now: BootInstant) {
        if let (true, Plan::Group { group, .. }) = (self.lifecycles.is_empty(), &self.plan) {
            self.lifecycles = Lifecycles::new(group, &|hook| seed(terms, hook));
        }
        self.lifecycles.start(now);
        match &mut self.ask {
            Ask::Group(ask) => ask.group_terminates(),
            Ask::Nobody if self.watch.is_none() => self.find = None,
            Ask::Nobody | Ask::Capacity(_) | Ask::Launch(_) => {}
        }
        self.terminating = true;
    }

    /// The group terminates this instance by itself, and decides what it launches in its place. Where we have asked it to,
    /// a successor is on its way.
    pub(super) fn is_decided_by_group(&self) -> bool {
        let decides = match &self.ask {
            Ask::Group(ask) => !ask.leaves(),
            Ask::Nobody => true,
            Ask::Capacity(_) | Ask::Launch(_) => false,
        };
        self.terminating && self.watch.is_none() && decides
    }

    /// An interruption is announced now.
    pub(super) fn become_urgent(&mut self, manner: Manner, terms: &Terms, now: BootInstant) {
        if std::mem::take(&mut self.nobody_yet) {
            self.look(now, terms);
        }
        if let Ask::Group(ask) = &mut self.ask {
            ask.become_urgent(manner, now);
        }
    }

    /// Why no successor will come, or none that this instance could wait for.
    pub(super) fn is_in_vain(&self) -> Option<String> {
        match (&self.plan, &self.ask) {
            (Plan::Nobody { why }, _) => Some(format!("nobody launches a successor: {why}")),
            (plan, Ask::Nobody) if !plan.has_successor() => Some(plan.to_string()),
            (_, Ask::Group(ask)) => ask.stays(),
            (_, Ask::Launch(ask)) => ask.given_up().map(str::to_owned),
            _ => None,
        }
    }

    /// The target groups that the group takes this instance out of, where what it was asked `is` so.
    pub(super) fn taken_out_of(&self, is: fn(&AskGroup) -> bool) -> &[TargetGroupArn] {
        match (&self.plan, &self.ask) {
            (Plan::Group { group, .. }, Ask::Group(ask)) if is(ask) => &group.target_groups,
            _ => &[],
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn id(&self) -> Option<InstanceId> {
        self.watch.as_ref().and_then(Watch::id)
    }

    /// Tells whether serving on until the successor does still has a point: it is to come and not there yet.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        let to_come = match &self.ask {
            Ask::Nobody => self.plan.has_successor() && !self.nobody_yet,
            Ask::Group(ask) => ask.serves_on(),
            Ask::Capacity(ask) => !ask.has_spare(),
            Ask::Launch(ask) => ask.given_up().is_none(),
        };
        to_come && !self.is_healthy()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_running() && watch.all_run())
            && !self.more_are_to_come()
            && (self.is_nowhere || !self.registers.is_empty())
            && self.registers.iter().all(Register::is_healthy)
    }

    /// Tells whether others went with this instance, and fewer successors are found than members went.
    fn more_are_to_come(&self) -> bool {
        self.watch.is_some() && self.find.as_ref().is_some_and(|find| !find.is_done())
    }

    pub(super) fn pace(&self, duty: Duty) -> Option<&Pace> {
        match duty {
            Duty::Ask => match &self.ask {
                Ask::Nobody => None,
                Ask::Group(ask) => Some(ask.pace()),
                Ask::Capacity(ask) => Some(ask.pace()),
                Ask::Launch(ask) => Some(ask.pace()),
            },
            Duty::Find => self.find.as_ref().map(Find::pace),
            Duty::Watch => self.watch.as_ref().map(Watch::pace),
            Duty::Register(index) => self.registers.get(index).map(Register::pace),
            Duty::MemberState => Some(self.lifecycles.look_pace()),
            Duty::Lifecycle(index) => self.lifecycles.pace(index),
            _ => None,
        }
    }

    pub(super) fn due(&mut self, view: &View<'_>, journal: &mut Journal) -> Vec<(Duty, Call)> {
        let mut calls = Vec::new();
        // A hibernation has begun already when the notice shows: the deregistration goes first and alone.
        let alone = view.terms.incident.action == Some(Action::Hibernate) && !view.deregistration_tried;
        if !alone {
            calls.extend(self.ask_due(view, journal).map(|call| (Duty::Ask, call)));
        }
        if view.deregistration_tried || view.manner != Manner::AtOnce {
            calls.extend(self.find.as_mut().and_then(|find| find.due(view)).map(|call| (Duty::Find, call)));
        }
        calls.extend(self.watch.as_mut().and_then(|watch| watch.due(view)).map(|call| (Duty::Watch, call)));
        self.keep_registers(view);
        if let Some(watch) = &self.watch {
            for (index, register) in self.registers.iter_mut().enumerate() {
                calls.extend(register.due(view, watch.running()).map(|call| (Duty::Register(index), call)));
            }
        }
        // Its completion ends this instance: not before what only this instance does is done.
        let all_run = !self.more_are_to_come() && self.watch.as_ref().is_some_and(Watch::all_run);
        let has_successor =
            self.is_decided_by_group() || self.registers.iter().all(|register| register.is_provided_for(all_run));
        let provided_for = view.reserve_reached() || (has_successor && !view.may_be_registered);
        let may_complete = view.quiet && view.hooks_ended && provided_for;
        calls.extend(self.lifecycles.look_due(view, may_complete).map(|call| (Duty::MemberState, call)));
        let hooks = self.lifecycles.due(view, may_complete).into_iter();
        calls.extend(hooks.map(|(index, call)| (Duty::Lifecycle(index), call)));
        calls
    }

    fn ask_due(&mut self, view: &View<'_>, journal: &mut Journal) -> Option<Call> {
        match &mut self.ask {
            Ask::Nobody => None,
            Ask::Group(ask) => {
                let (call, asked) = ask.due(view);
                self.follow(view.now, view.terms, asked, journal);
                call
            }
            Ask::Capacity(ask) => ask.due(view),
            Ask::Launch(ask) => ask.due(view),
        }
    }

    /// One duty to register the successor for each registration of ours, also for those found late.
    fn keep_registers(&mut self, view: &View<'_>) {
        self.is_nowhere = view.is_in_no_target_group() && self.plan.other_traffic_sources().is_empty();
        let by_owner = self.plan.owners_target_groups();
        for registration in view.registrations.iter().skip(self.registers.len()) {
            let registered_by_owner = by_owner.contains(&registration.target_group);
            let seed = seed(view.terms, &format!("successor in {}", registration.target_group));
            self.registers.push(Register::new(registration.clone(), registered_by_owner, view.now, seed));
        }
        self.admit(view.now);
    }

    /// Whoever has come to run is to be registered: nothing is complete without.
    fn admit(&mut self, now: BootInstant) {
        let more = self.more_are_to_come();
        let Some(watch) = &self.watch else { return };
        let several = (more || watch.len() > 1).then_some(watch.len());
        self.registers.iter_mut().for_each(|register| register.admit(now, watch.running(), several));
    }

    pub(super) fn answered(
        &mut self,
        now: BootInstant,
        terms: &Terms,
        duty: Duty,
        answer: Answer,
        journal: &mut Journal,
    ) {
        let members = match (duty, &answer) {
            (Duty::Ask | Duty::Find, Answer::GroupMembers(members)) => Some(members),
            (Duty::Find, Answer::GroupRoom(Some(room))) => Some(&room.members),
            _ => None,
        };
        if let Some(members) = members {
            self.lifecycles.saw(now, &terms.identity.instance_id, terms.into_pool, members);
        }
        match duty {
            Duty::Ask => {
                let asked = match &mut self.ask {
                    Ask::Nobody => Asked::Pending,
                    Ask::Group(ask) => ask.answered(now, terms, answer),
                    Ask::Capacity(ask) => ask.answered(now, terms, answer),
                    Ask::Launch(ask) => ask.answered(now, terms, answer),
                };
                self.follow(now, terms, asked, journal);
            }
            Duty::Find => self.find_answered(now, terms, answer, journal),
            Duty::Watch => {
                let Some(watch) = &mut self.watch else { return };
                let watched = watch.answered(now, answer, journal);
                self.admit(now);
                match watched {
                    Watched::Alive => {}
                    Watched::Died(deaths) => self.successors_died(now, terms, deaths),
                }
            }
            Duty::Register(index) => {
                let running = self.watch.as_ref().map(Watch::running).unwrap_or_default();
                if let Some(register) = self.registers.get_mut(index) {
                    register.answered(now, running, answer, journal);
                }
            }
            Duty::MemberState => {
                self.lifecycles.looked(now, &terms.identity.instance_id, terms.into_pool, answer);
            }
            Duty::Lifecycle(index) => self.lifecycles.answered(now, index, answer),
            _ => {}
        }
    }

    /// Tells the other duties of a request's answer.
    fn follow(&mut self, now: BootInstant, terms: &Terms, asked: Asked, journal: &mut Journal) {
        match asked {
            Asked::Pending => {}
            Asked::Left => self.lifecycles.start(now),
            Asked::Requested => {
                self.lifecycles.start(now);
                self.requested(now, None, journal);
                // A fleet says by its fulfilled capacity when there is something to find.
                if !matches!(self.ask, Ask::Capacity(_)) {
                    self.look(now, terms);
                }
            }
            Asked::Launching => self.look(now, terms),
            Asked::Launched(instances) => {
                self.requested(now, instances.first().cloned(), journal);
                self.watch(now, terms, instances);
            }
            Asked::InDoubt => {
                self.look(now, terms);
                self.find = self.find.take().map(|find| find.in_doubt(now));
            }
            Asked::NotLaunched => self.find = None,
        }
    }

    fn requested(&self, now: BootInstant, successor: Option<InstanceId>, journal: &mut Journal) {
        let which = successor.as_ref().map(|id| format!(": {id}")).unwrap_or_default();
        let message = match &self.ask {
            Ask::Group(ask) => format!("{} launches a successor{which}", ask.words()),
            Ask::Capacity(ask) => format!("{} launches a successor{which}", ask.words()),
            Ask::Launch(_) | Ask::Nobody => format!("a successor is launched from {}{which}", self.plan.owner()),
        };
        journal.reach(now, MilestoneKind::SuccessorRequested, message, successor.into());
    }

    fn look(&mut self, now: BootInstant, terms: &Terms) {
        let unknown = self.find.is_none() && self.watch.is_none();
        if let (true, Some(among)) = (unknown, Among::of(&self.plan, terms)) {
            let mut find = Find::new(among, terms, now, seed(terms, "find"));
            find.lose(&self.lost, now);
            self.find = Some(find);
        }
    }

    fn watch(&mut self, now: BootInstant, terms: &Terms, instances: Vec<InstanceId>) {
        self.find = None;
        self.watch = Some(Watch::new(instances, now, seed(terms, "watch")));
    }

    /// The successors found were described a moment ago: no second look is needed to see it run.
    fn found(&mut self, now: BootInstant, terms: &Terms, instances: Vec<Instance>, journal: &mut Journal) {
        match &mut self.watch {
            Some(watch) => {
                watch.add(&instances);
                // Alive, or they would not have been found.
                let _ = watch.learn(now, instances, journal);
            }
            None => {
                let ids = instances.iter().map(|instance| instance.instance_id.clone()).collect();
                let mut watch = Watch::new(ids, now, seed(terms, "watch"));
                let _ = watch.answered(now, Answer::Instances(instances), journal);
                self.watch = Some(watch);
            }
        }
        self.admit(now);
    }

    fn find_answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer, journal: &mut Journal) {
        let Some(find) = &mut self.find else { return };
        let in_doubt = find.is_in_doubt();
        let launching = matches!(&self.ask, Ask::Capacity(ask) if !ask.is_fulfilled());
        match find.answered(now, terms, launching, answer) {
            Found::NotYet => {}
            Found::Successors(instances) if in_doubt => {
                match &mut self.ask {
                    Ask::Group(ask) => ask.launched(now),
                    Ask::Launch(ask) => ask.launched(),
                    Ask::Capacity(_) | Ask::Nobody => {}
                }
                self.requested(now, instances.first().map(|it| it.instance_id.clone()), journal);
                self.found(now, terms, instances, journal);
            }
            Found::Successors(instances) => self.found(now, terms, instances, journal),
            Found::Nothing => {
                self.find = None;
                match &mut self.ask {
                    Ask::Group(ask) => ask.was_not_done(now),
                    Ask::Launch(ask) => ask.was_not_done(now),
                    Ask::Capacity(_) | Ask::Nobody => {}
                }
            }
        }
    }

    pub(super) fn wakes(&self) -> impl Iterator<Item = BootInstant> {
        let ask = match &self.ask {
            Ask::Nobody => None,
            Ask::Group(ask) => ask.wake(),
            Ask::Capacity(ask) => ask.wake(),
            Ask::Launch(ask) => ask.wake(),
        };
        let registers = self.registers.iter().flat_map(|register| register.wakes(self.watch.as_ref()));
        ask.into_iter()
            .chain(self.find.iter().filter_map(Find::wake))
            .chain(self.watch.iter().filter_map(Watch::wake))
            .chain(registers)
            .chain(self.lifecycles.wakes())
    }

    pub(super) fn reports(&self, begun_at: BootInstant) -> Vec<Report> {
        let hooks = self.lifecycles.reports(begun_at);
        let alone = |what: &str| std::iter::once(Report::new("successor", true, what)).chain(hooks.clone()).collect();
        if let Plan::Nobody { why } = &self.plan {
            return alone(&format!("nobody launches one: {why}"));
        }
        if self.is_decided_by_group() {
            return alone("not asked for: the group terminates this instance and decides on its place");
        }
        if !self.plan.has_successor() {
            return vec![Report::new("successor", true, self.plan.to_string())];
        }
        if self.nobody_yet {
            let what = format!("none in a drill: {} launches by itself, at a real signal only", self.plan.owner());
            return vec![Report::new("successor", true, what)];
        }
        let asked = match &self.ask {
            Ask::Nobody => Report::new("ask for the successor", true, format!("not needed: {}", self.plan)),
            Ask::Group(ask) => ask.report(begun_at),
            Ask::Capacity(ask) => ask.report(begun_at),
            Ask::Launch(ask) => ask.report(begun_at),
        };
        if matches!(&self.ask, Ask::Capacity(ask) if ask.has_spare()) {
            return vec![asked];
        }
        let given_up = matches!(&self.ask, Ask::Launch(ask) if ask.given_up().is_some());
        let successor = match (&self.watch, &self.find, self.deaths.last()) {
            (Some(_), Some(find), _) if !find.is_done() => find.report(),
            (Some(watch), _, _) => watch.report(begun_at),
            (None, _, Some(death)) => Report::new("successor", false, death.to_string()),
            (None, Some(find), None) => find.report(),
            (None, None, None) => match &self.ask {
                Ask::Group(ask) if ask.nobody_comes().is_some() => {
                    Report::new("successor", true, ask.nobody_comes().unwrap_or_default())
                }
                _ => Report::new("successor", false, "it was not launched"),
            },
        };
        let mut reports = vec![asked, successor];
        reports.extend(self.registers.iter().map(|register| register.report(begun_at)));
        if given_up {
            reports = reports.into_iter().map(Report::settled).collect();
        }
        reports.extend(hooks);
        reports
    }
}
