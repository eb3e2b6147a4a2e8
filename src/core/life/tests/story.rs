//! Plays the daemon around a [`Life`]: a look every second, glances, look-ups, calls to the model of AWS and their answers,
//! the record on its disk. What must hold at every moment is asserted here, in every story.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::call::{Answer, Call};
use crate::core::config::{Config, ListedTargetGroup, Rebalance, ScheduledEvents, TargetGroups, Then};
use crate::core::duty::{Due, DutyId};
use crate::core::handover::Handover;
use crate::core::handover::tests::aws::{Aws, Exchange, Fate, Owner, home, time};
use crate::core::handover::tests::identity_of;
use crate::core::incident::Incident;
use crate::core::life::{Life, Recommendation, Ticket};
use crate::core::model::{
    Action, BootInstant, ExcessCapacity, InstanceId, Milestone, MilestoneKind, ScheduledEvent, Signal,
};
use crate::core::notice::Notice;
use crate::core::plan::{BASE_CAPACITY_TAG, LEAVING_TAG};
use crate::core::retry::Failure;

const US: &str = "i-us";

enum Flight {
    Arrive { process: u32, ticket: Ticket, call: Call, limit: u64, fate: Fate, began: u64, took: u64 },
    Reply { process: u32, ticket: Ticket, answer: Answer },
    LookUp { process: u32 },
}

pub(super) struct Story {
    pub(super) now: u64,
    pub(super) aws: Aws,
    pub(super) config: Config,
    life: Option<Life>,
    process: u32,
    boot: u32,
    pub(super) boots: Vec<u64>,
    booted_at: u64,
    pub(super) disk: Option<Incident>,
    pub(super) notice: Option<Notice>,
    recommendation: Option<Timestamp>,
    events: Vec<ScheduledEvent>,
    /// The first look of a process at them is not answered.
    pub(super) fails_first_events: bool,
    looks: u32,
    next_look: u64,
    /// Milliseconds between two looks.
    pub(super) interval: u64,
    /// The believed time of AWS is so many seconds ahead of it.
    pub(super) believed_ahead: i64,
    /// No date of AWS's is believed.
    pub(super) in_doubt: bool,
    next_look_up: Option<u64>,
    flights: Vec<(u64, Flight)>,
    /// Milliseconds.
    pub(super) hook_takes: u64,
    exchanges: std::vec::IntoIter<Exchange>,
    lost_in_a_row: HashMap<DutyId, u32>,
    pub(super) milestones: Vec<(u64, Milestone)>,
    pub(super) calls: Vec<(u64, DutyId, Call)>,
    steps: u32,
}

impl Story {
    pub(super) fn of(owner: Owner) -> Story {
        Story::with(owner, |_| {})
    }

    pub(super) fn with(owner: Owner, change: impl FnOnce(&mut Config)) -> Story {
        let mut config = Config::default();
        change(&mut config);
        let mut story = Story {
            now: 0,
            aws: Aws::of(owner, &[US]),
            config,
            life: None,
            process: 0,
            boot: 0,
            boots: Vec::new(),
            booted_at: 0,
            disk: None,
            notice: None,
            recommendation: None,
            events: Vec::new(),
            fails_first_events: false,
            looks: 0,
            next_look: 0,
            interval: 1_000,
            believed_ahead: 0,
            in_doubt: false,
            next_look_up: None,
            flights: Vec::new(),
            hook_takes: 20,
            exchanges: Vec::new().into_iter(),
            lost_in_a_row: HashMap::new(),
            milestones: Vec::new(),
            calls: Vec::new(),
            steps: 0,
        };
        story.start();
        story
    }

    pub(super) fn exchanges(&mut self, exchanges: Vec<Exchange>) {
        self.exchanges = exchanges.into_iter();
    }

    // What happens to the instance.

    pub(super) fn notice(&mut self, action: Action) {
        self.notice_in(action, 120);
    }

    pub(super) fn notice_in(&mut self, action: Action, seconds: u64) {
        self.notice = Some(Notice { action, time: Some(time(self.now + seconds * 1_000)) });
        self.aws.interruption_begins(self.now);
    }

    /// The same interruption, shown otherwise.
    pub(super) fn shift(&mut self, milliseconds: i64, action: Action) {
        if let Some(notice) = &mut self.notice {
            notice.action = action;
            notice.time = notice.time.map(|time| time + jiff::SignedDuration::from_millis(milliseconds));
        }
    }

    pub(super) fn withdraw(&mut self) {
        self.notice = None;
        self.aws.interruption_is_off();
    }

    /// The interruption is off, and the notice stays in the metadata.
    pub(super) fn goes_stale(&mut self) {
        self.aws.interruption_is_off();
    }

    pub(super) fn recommend(&mut self) {
        self.recommendation = Some(time(self.now));
        self.aws.rebalances(self.now);
    }

    pub(super) fn recommend_no_more(&mut self) {
        self.recommendation = None;
    }

    pub(super) fn event(&mut self, id: &str, code: &str, in_seconds: u64) {
        self.events = vec![ScheduledEvent {
            id: id.into(),
            code: code.into(),
            active: true,
            not_before: Some(time(self.now + in_seconds * 1_000)),
        }];
    }

    pub(super) fn event_is_over(&mut self) {
        self.events.iter_mut().for_each(|event| event.active = false);
    }

    pub(super) fn booted_at(&self) -> u64 {
        self.booted_at
    }

    pub(super) fn drill(&mut self, seconds: u64) {
        if let Some(life) = &mut self.life {
            life.drill(Duration::from_secs(seconds));
        }
    }

    pub(super) fn call_off(&mut self) {
        if let Some(life) = &mut self.life {
            life.call_off_drill();
        }
    }

    pub(super) fn kill(&mut self) {
        self.life = None;
        self.process += 1;
    }

    pub(super) fn start(&mut self) {
        self.process += 1;
        let record = self.record();
        let boot_id = format!("boot-{}", self.boot);
        self.life = Some(Life::new(identity_of(US), boot_id, self.config.clone(), false, record));
        self.lost_in_a_row.clear();
        (self.looks, self.next_look) = (0, self.now);
        self.next_look_up = Some(self.now + 2_000);
    }

    pub(super) fn restart(&mut self) {
        self.kill();
        self.start();
    }

    pub(super) fn lose_record(&mut self) {
        self.disk = None;
    }

    /// For so many seconds the metadata does not show it.
    pub(super) fn flap(&mut self, seconds: u64) {
        let notice = self.notice.take();
        self.run(seconds);
        self.notice = notice;
    }

    /// The machine stands still and goes on.
    pub(super) fn stand_still(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
        let process = self.process;
        for (_, flight) in &mut self.flights {
            // Connections are dead: what was under way is not answered.
            if let Flight::Reply { process: of, answer, .. } = flight
                && *of == process
            {
                *answer = Answer::Failed(Failure::unanswered("the connection is dead"));
            }
        }
        if let Some(life) = &mut self.life {
            life.stood_still();
        }
        (self.next_look, self.next_look_up) = (self.now, Some(self.now));
    }

    /// Down for so long, then up with the same instance id.
    pub(super) fn boot_anew(&mut self, seconds: u64) {
        self.kill();
        self.now += seconds * 1_000;
        self.boots.push(self.now);
        (self.boot, self.booted_at) = (self.boot + 1, self.now - 20_000);
        self.start();
    }

    // What is to be known.

    pub(super) fn life(&self) -> &Life {
        self.life.as_ref().expect("the daemon runs")
    }

    /// As the next process reads it.
    pub(super) fn record(&self) -> Option<Incident> {
        let text = serde_json::to_string(self.disk.as_ref()?).expect("it is written");
        Some(Incident::read(&text).expect("it is read"))
    }

    pub(super) fn saw(&self, kind: MilestoneKind) -> usize {
        self.milestones.iter().filter(|(_, milestone)| milestone.milestone == kind).count()
    }

    /// Milestones since the beginning, each group of equal ones once.
    pub(super) fn told(&self) -> Vec<&'static str> {
        let mut told: Vec<&str> = self.milestones.iter().map(|(_, milestone)| milestone.milestone.as_str()).collect();
        told.dedup();
        told
    }

    /// For whoever reads a failure.
    pub(super) fn tale(&self) -> String {
        let told: Vec<String> =
            self.milestones.iter().map(|(at, it)| format!("{at} {}: {}", it.milestone.as_str(), it.message)).collect();
        let record = self.record();
        let closed = record.as_ref().map(|record| (record.id.number, record.signal, record.phase));
        let undone = record.and_then(|record| record.outcome).map(|outcome| {
            let undone = outcome.duties.into_iter().filter(|duty| !duty.done);
            (outcome.complete, undone.map(|duty| format!("{}: {}", duty.duty, duty.what)).collect::<Vec<_>>())
        });
        let calls = self.calls.iter().rev().take(30).map(|(at, task, _)| format!("{at} {task:?}")).collect::<Vec<_>>();
        format!(
            "{calls:?} in flight {} at {}: {told:#?} {:#?} {:?} {closed:?} {undone:#?}",
            self.life.as_ref().map_or(0, |life| usize::from(life.handover().is_some_and(Handover::is_writing))),
            self.now,
            self.aws.writes,
            self.aws.launches
        )
    }

    pub(super) fn launched(&self) -> usize {
        self.aws.launches.len()
    }

    /// The instance lives on: nothing that a signal left behind remains.
    pub(super) fn is_as_before(&self) {
        self.is_tidy();
        assert_eq!(self.aws.places(), home(), "target groups as before: {}", self.tale());
    }

    /// As before but for its target groups.
    pub(super) fn is_tidy(&self) {
        assert!(self.aws.alive, "it lives on: {}", self.tale());
        assert!(!self.aws.is_tagged(LEAVING_TAG), "its mark is taken off: {}", self.tale());
        assert_eq!(self.aws.total, 3, "the fleet's capacity is at base: {}", self.tale());
        // A fleet with a member too many keeps it, and its tag keeps the policy for later.
        let may_be_tagged = self.aws.exceeds_target();
        assert!(
            may_be_tagged || !self.aws.fleet_tags.contains_key(BASE_CAPACITY_TAG),
            "and without its tag: {}",
            self.tale()
        );
        assert!(may_be_tagged || self.aws.excess == ExcessCapacity::Terminates, "and with its policy: {}", self.tale());
        assert!(
            !self.life().is_handing_over() && self.life().arrival().is_none(),
            "nothing is under way: {}",
            self.tale()
        );
        assert!(
            self.life().flags().is_some_and(|flags| !flags.notice && !flags.drained),
            "no flag stands: {}",
            self.tale()
        );
    }

    pub(super) fn writes(&self) -> Vec<&str> {
        self.aws.writes.iter().map(String::as_str).collect()
    }

    /// When a call of this kind was first given out.
    pub(super) fn first(&self, is_it: impl Fn(&Call) -> bool) -> Option<u64> {
        self.calls.iter().find(|(_, _, call)| is_it(call)).map(|(at, _, _)| *at)
    }

    // Time.

    fn boot_now(&self) -> BootInstant {
        BootInstant::since_boot(Duration::from_millis(self.now - self.booted_at))
    }

    pub(super) fn run(&mut self, seconds: u64) -> &mut Story {
        let end = self.now + seconds * 1_000;
        self.run_to(end);
        self
    }

    /// Until this is so, or for ten minutes.
    pub(super) fn run_until(&mut self, is_so: impl Fn(&Story) -> bool) -> &mut Story {
        let end = self.now + 600_000;
        while !is_so(self) {
            assert!(self.now < end && self.aws.alive, "it does not come to that: {:?}", self.told());
            self.run_to(self.now + 50);
        }
        self
    }

    pub(super) fn run_to(&mut self, end: u64) {
        while self.now < end && self.aws.alive {
            self.happen();
            let next = self.next_instant().min(end);
            self.now = next;
        }
    }

    fn next_instant(&self) -> u64 {
        let wake = self.life.as_ref().and_then(Life::wake);
        let wake = wake.map(|it| it.as_duration().as_nanos().div_ceil(1_000_000) as u64 + self.booted_at);
        let look = self.life.as_ref().map(|_| self.next_look);
        let look_up = self.life.as_ref().and(self.next_look_up).filter(|_| self.may_look_up());
        let flights = self.flights.iter().map(|(at, _)| *at);
        let all = [wake, look, look_up, self.aws.next_timer()].into_iter().flatten().chain(flights);
        all.min().unwrap_or(u64::MAX).max(self.now + 1)
    }

    fn happen(&mut self) {
        self.aws.pass(self.now);
        while let Some(index) = self.flights.iter().position(|(at, _)| *at <= self.now) {
            let flight = self.flights.remove(index).1;
            self.land(flight);
        }
        if !self.aws.alive || self.life.is_none() {
            return;
        }
        self.look();
        self.look_up();
        self.advance();
    }

    fn land(&mut self, flight: Flight) {
        match flight {
            Flight::Arrive { process, ticket, call, limit, fate, began, took } => {
                let answer = self.aws.arrives(self.now, &InstanceId::new(US), &call, fate);
                let lost = fate.loses_the_answer() || took > limit;
                let (at, answer) = if lost {
                    (began + limit, Answer::Failed(Failure::unanswered("no answer")))
                } else {
                    (began + took, answer)
                };
                self.flights.push((at.max(self.now + 1), Flight::Reply { process, ticket, answer }));
            }
            Flight::Reply { process, ticket, answer } if process == self.process => {
                let now = self.boot_now();
                if let Some(life) = &mut self.life {
                    life.answered(now, ticket, answer);
                }
            }
            Flight::LookUp { process } if process == self.process => {
                self.aws.tidy(self.now);
                let (now, known) = (self.boot_now(), self.aws.look_up());
                let empty = known.registrations.as_ref().is_some_and(Vec::is_empty);
                self.next_look_up = Some(self.now + if empty { 15_000 } else { 7_200_000 });
                if let Some(life) = &mut self.life {
                    life.learn(known, false, now);
                }
            }
            Flight::Reply { .. } | Flight::LookUp { .. } => {}
        }
    }

    /// As the daemon does: the notice at every look, the rest in turn.
    fn look(&mut self) {
        if self.now < self.next_look {
            return;
        }
        self.looks += 1;
        self.next_look = self.now + self.interval;
        let aws_now = time(self.now) + jiff::SignedDuration::from_secs(self.believed_ahead);
        let (at, looks) = (self.boot_now(), self.looks);
        let Some(life) = &mut self.life else { return };
        life.time_is_in_doubt(self.in_doubt);
        life.saw_notice(self.notice, aws_now, at);
        let is_turn = |every: u32, offset: u32| looks == 1 || looks % every == offset;
        if is_turn(5, 2) {
            life.saw_lifecycle_state(self.aws.target_lifecycle_state(), at);
        }
        if is_turn(5, 0) {
            let given = |time| Recommendation::Given(Some(time));
            life.saw_recommendation(self.recommendation.map_or(Recommendation::Absent, given), at);
        }
        if is_turn(30, 4) && !(looks == 1 && self.fails_first_events) {
            life.saw_scheduled_events(self.events.clone(), at);
        }
    }

    fn may_look_up(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.has_to_finish())
    }

    fn look_up(&mut self) {
        if self.next_look_up.is_some_and(|at| self.now >= at) && self.may_look_up() {
            self.next_look_up = None;
            self.flights.push((self.now + 500, Flight::LookUp { process: self.process }));
        }
    }

    fn advance(&mut self) {
        let now = self.boot_now();
        let Some(life) = &mut self.life else { return };
        self.steps += 1;
        assert!(u64::from(self.steps) < 2_000 + self.now / 20, "the core spins at {} ms", self.now);
        let calls = life.due(now);
        assert!(life.wake().is_none_or(|wake| wake > now), "it is to be asked again at once");
        if life.take_wants_look_up() {
            self.next_look_up = Some(self.now);
        }
        assert!(!(life.is_handing_over() && life.arrival().is_some()), "a handover and an arrival at once");
        // A group that terminates an instance waits for its hooks.
        let is_by_group = |signal| signal != Signal::Notice;
        let has_deadline = |incident: &Incident| {
            incident.signal != Signal::RebalanceRecommendation
                && !(incident.is_terminating() && is_by_group(incident.signal))
        };
        let deadline = life.handover().filter(|it| has_deadline(it.incident()));
        let deadline = deadline.map(|handover| handover.incident().deadline);
        assert!(
            !life.is_handing_over() || deadline.is_none_or(|deadline| now < deadline),
            "a handover goes on after its deadline"
        );
        for (ticket, Due { call, limit, .. }) in &calls {
            let limit = now + *limit;
            match (ticket.duty.comes_back(), call) {
                (false, call) => assert!(
                    deadline.is_none_or(|deadline| now < deadline && limit <= deadline),
                    "{call:?} would go on after the deadline"
                ),
                (true, Call::TerminateInstances) => {
                    let outcome = life.incident().and_then(|record| record.outcome.as_ref());
                    assert!(outcome.is_some_and(|outcome| outcome.complete), "it terminates itself, though incomplete");
                    assert_eq!(self.config.survive.then, Then::Terminate);
                }
                (true, Call::RegisterTargets { .. } | Call::AttachInstances { .. }) => {
                    assert!(!life.sight.is_terminating(), "registered while the group terminates it");
                }
                (true, _) => {}
            }
        }
        let milestones = life.take_milestones();
        life.take_remarks();
        self.milestones.extend(milestones.into_iter().map(|milestone| (self.now, milestone)));
        if let Some(record) = life.incident_to_write()
            && self.disk.as_ref() != Some(record)
        {
            self.disk = Some(record.clone());
        }
        for (ticket, Due { call, limit, .. }) in calls {
            self.calls.push((self.now, ticket.duty, call.clone()));
            let (fate, took) = self.fate_of(ticket.duty, &call);
            let (process, limit) = (self.process, limit.as_millis() as u64);
            let arrive = Flight::Arrive { process, ticket, call, limit, fate, began: self.now, took };
            self.flights.push((self.now + took / 2, arrive));
        }
    }

    /// The model loses much, but not three exchanges of one task in a row: against silence no order of calls helps.
    fn fate_of(&mut self, task: DutyId, call: &Call) -> (Fate, u64) {
        if matches!(call, Call::RunHook { .. }) {
            return (Fate::Fine, self.hook_takes);
        }
        let local = matches!(call, Call::LookAtConnections { .. } | Call::LookAtReadiness(_));
        let (fate, took) = if local { (Fate::Fine, 20) } else { self.exchanges.next().unwrap_or((Fate::Fine, 20)) };
        let took = u64::from(took).max(2);
        let lost = self.lost_in_a_row.entry(task).or_default();
        *lost = if fate == Fate::Fine && took < 3_000 { 0 } else { *lost + 1 };
        if *lost < 3 {
            return (fate, took);
        }
        *lost = 0;
        (Fate::Fine, took % 500 + 2)
    }
}

pub(super) fn arrives(config: &mut Config) {
    config.arrive.register = true;
    let listed = |name: &str| ListedTargetGroup { arn_or_name: name.into(), port: None };
    config.target_groups = TargetGroups::Listed(vec![listed("web"), listed("api")]);
}

pub(super) fn hands_over_on_recommendation(config: &mut Config) {
    config.watch.rebalance = Rebalance::HandOver;
}

pub(super) fn hands_over_for_events(config: &mut Config) {
    config.watch.scheduled_events = ScheduledEvents::HandOver;
}
