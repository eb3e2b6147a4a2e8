//! The daemons of some victims, played against the model of AWS.

use super::*;

/// Somebody else's act at AWS.
pub(super) type Act = fn(&mut Aws);

/// No call takes longer to arrive.
const CROSSES: u64 = 4_000;

#[derive(Debug)]
pub(super) struct Process {
    victim: usize,
    generation: u32,
}

/// Something that happens later.
pub(super) enum Event {
    Arrive { process: Process, duty: DutyId, call: Call, limit: u64, fate: Fate, began: u64, took: u64 },
    Reply { process: Process, duty: DutyId, answer: Answer },
}

/// A whole run: victims with their processes, a model of AWS, and what chance brings.
pub(super) struct Run {
    pub(super) aws: Aws,
    /// Name, notice and deadline of each.
    pub(super) victims: Vec<(InstanceId, u64, u64)>,
    pub(super) plan: Plan,
    /// The process after a kill finds this out again, where the record is lost.
    pub(super) plan_after_restart: Option<Plan>,
    pub(super) settings: HandoverSettings,
    pub(super) action: Action,
    pub(super) handovers: Vec<Option<Handover>>,
    pub(super) generations: Vec<u32>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) next_exchange: usize,
    pub(super) lost_in_a_row: BTreeMap<(usize, DutyId), u32>,
    /// How a call at an instant goes, whatever its turn among the exchanges says.
    pub(super) fate_of: fn(u64, &Call) -> Option<Fate>,
    /// The first process raises a fleet's capacity so slowly, in milliseconds.
    pub(super) slow_raises_of: Option<(usize, u16)>,
    /// Somebody else writes this target capacity at this instant.
    pub(super) operator: Option<(u64, i32)>,
    pub(super) events: Vec<(u64, Event)>,
    /// What others do at these instants.
    pub(super) others: Vec<(u64, Act)>,
    pub(super) calls: Vec<(u64, usize, Call)>,
    pub(super) milestones: Vec<Milestone>,
    /// What was told beside them, and when.
    pub(super) remarks: Vec<(u64, String)>,
    /// The time in which nobody was in a target group, up to the first reserve.
    pub(super) dark: u64,
}

impl Run {
    pub(super) fn new(owner: Owner, victims: &[(&str, u64, u64)], plan: Plan, exchanges: Vec<Exchange>) -> Run {
        Run {
            aws: Aws::of_victims(owner, victims),
            victims: victims.iter().map(|(name, noticed, deadline)| (id(name), *noticed, *deadline)).collect(),
            plan,
            plan_after_restart: None,
            settings: HandoverSettings::default(),
            action: Action::Terminate,
            handovers: victims.iter().map(|_| None).collect(),
            generations: vec![0; victims.len()],
            exchanges,
            next_exchange: 0,
            lost_in_a_row: BTreeMap::new(),
            fate_of: |_, _| None,
            slow_raises_of: None,
            operator: None,
            events: Vec::new(),
            others: Vec::new(),
            calls: Vec::new(),
            milestones: Vec::new(),
            remarks: Vec::new(),
            dark: 0,
        }
    }

    /// Runs to a minute after the last deadline; `kills` are the instants at which a victim's process dies.
    pub(super) fn run(mut self, kills: &[(u64, usize)]) -> Run {
        let end = self.victims.iter().map(|it| it.2).max().unwrap_or_default() + 60_000;
        let mut now = 0;
        let mut steps = 0;
        while now <= end {
            steps += 1;
            assert!(steps < 200_000, "the core spins at {now} ms");
            self.aws.pass(now);
            self.others.extract_if(.., |(when, _)| *when <= now).for_each(|(_, act)| act(&mut self.aws));
            for victim in 0..self.handovers.len() {
                let (name, noticed, deadline) = self.victims[victim].clone();
                if self.handovers[victim].is_none() && (noticed..deadline).contains(&now) {
                    self.aws.takes(now, name);
                    self.begin(victim, now);
                }
            }
            for (_, victim) in kills.iter().filter(|(kill, _)| *kill == now) {
                if self.handovers[*victim].is_some() && now < self.victims[*victim].2 {
                    self.generations[*victim] += 1;
                    self.begin(*victim, now);
                }
            }
            if let Some((_, total)) = self.operator.filter(|(at, _)| *at == now) {
                self.aws.operator_sets(now, total);
            }
            self.happen(now);
            for victim in 0..self.handovers.len() {
                self.ask(victim, now);
            }
            let next = self.next_instant(now, kills, end);
            let first_reserve = self.victims.iter().map(|it| it.2).min().unwrap_or_default().saturating_sub(10_000);
            if !self.aws.targets.iter().any(|(arn, _, _)| *arn == WEB) {
                self.dark += next.min(first_reserve).saturating_sub(now);
            }
            now = next;
        }
        self
    }

    pub(super) fn begin(&mut self, victim: usize, now: u64) {
        let (name, _, deadline) = &self.victims[victim];
        let mut incident = incident_of(name.as_str(), self.action, *deadline);
        incident.time = Some(time(*deadline));
        let is_resumed = self.generations[victim] > 0;
        incident.start.earlier = if is_resumed { Earlier::Perhaps } else { Earlier::Nothing };
        incident.planned_before = !is_resumed;
        let plan = if is_resumed { self.plan_after_restart.as_ref().unwrap_or(&self.plan) } else { &self.plan };
        let known = LookedUp {
            registrations: Some(registrations(name.as_str())),
            plan: Some(plan.clone()),
            ..LookedUp::default()
        };
        self.handovers[victim] = Some(Handover::begin(incident, self.settings.clone(), known, at(now)));
    }

    pub(super) fn happen(&mut self, now: u64) {
        while let Some(index) = self.events.iter().position(|(when, _)| *when <= now) {
            match self.events.remove(index).1 {
                Event::Arrive { process, duty, call, limit, fate, began, took } => {
                    let answer = self.aws.arrives(now, &self.victims[process.victim].0, &call, fate);
                    let reply_at = (began + took).max(now);
                    let lost = fate.loses_the_answer() || took > limit;
                    let (when, answer) = if lost {
                        (began + limit, Answer::Failed(Failure::unanswered("no answer")))
                    } else {
                        (reply_at, answer)
                    };
                    self.events.push((when.max(now + 1), Event::Reply { process, duty, answer }));
                }
                Event::Reply { process, duty, answer } => {
                    if process.generation == self.generations[process.victim]
                        && let Some(handover) = &mut self.handovers[process.victim]
                    {
                        handover.answered(at(now), duty, answer);
                    }
                }
            }
        }
    }

    pub(super) fn ask(&mut self, victim: usize, now: u64) {
        let Some(handover) = &mut self.handovers[victim] else { return };
        let deadline = self.victims[victim].2;
        let due = handover.due(at(now));
        self.milestones.extend(handover.take_milestones());
        self.remarks.extend(handover.take_remark().map(|remark| (now, remark)));
        for Due { duty, call, limit } in due {
            assert!(now < deadline, "{call:?} is begun after the deadline");
            let limit = limit.as_millis() as u64;
            assert!(limit <= deadline - now, "{call:?} may last longer than the deadline allows");
            let (fate, took) = self.exchanges.get(self.next_exchange).copied().unwrap_or((Fate::Fine, 20));
            self.next_exchange += 1;
            let (fate, took) = self.mended((victim, duty), fate, took);
            let fate = (self.fate_of)(now, &call).unwrap_or(fate);
            let first_process = self.generations[victim] == 0 && matches!(call, Call::ModifyFleet { .. });
            let slow = self.slow_raises_of.filter(|(whose, _)| first_process && *whose == victim);
            let took = slow.map_or(took, |(_, takes)| takes);
            let process = Process { victim, generation: self.generations[victim] };
            let took = u64::from(took).max(2);
            self.calls.push((now, victim, call.clone()));
            let arrive = Event::Arrive { process, duty, call, limit, fate, began: now, took };
            self.events.push((now + took / 2, arrive));
        }
    }

    /// The model loses much, but not three exchanges of one duty in a row: against silence no order of calls helps.
    pub(super) fn mended(&mut self, whose: (usize, DutyId), fate: Fate, took: u16) -> Exchange {
        let lost = self.lost_in_a_row.entry(whose).or_default();
        *lost = if fate.is_well() && took < 3_000 { 0 } else { *lost + 1 };
        if *lost < 3 {
            return (fate, took);
        }
        *lost = 0;
        (Fate::Fine, took % 500)
    }

    pub(super) fn next_instant(&self, now: u64, kills: &[(u64, usize)], end: u64) -> u64 {
        let wakes = self.handovers.iter().flatten().filter_map(Handover::wake);
        let wakes = wakes.map(|instant| instant.since(at(0)).as_nanos().div_ceil(1_000_000) as u64);
        let kills = kills.iter().map(|(kill, _)| *kill);
        let marks = self.victims.iter().map(|it| it.1).chain([self.aws.next_launch]).chain(self.aws.next_timer());
        let others = self.others.iter().map(|(when, _)| *when).chain(self.operator.map(|(at, _)| at));
        let events = self.events.iter().map(|(when, _)| *when).chain(others);
        let next = wakes.chain(kills).chain(marks).chain(events).filter(|instant| *instant > now).min();
        next.unwrap_or(end + 1)
    }

    /// Tells whether a victim wrote a capacity that it had decided on before the operator's could show.
    pub(super) fn crossed_the_operator(&self) -> bool {
        let Some((set_at, _)) = self.operator else { return false };
        let is_write = |call: &Call| matches!(call, Call::ModifyFleet { .. });
        let mut writes = self.calls.iter().filter(|(at, _, call)| is_write(call) && *at + CROSSES > set_at);
        writes.any(|(at, victim, _)| {
            let mut reads = self.calls.iter().filter(|(read_at, reader, call)| {
                reader == victim && read_at < at && matches!(call, Call::DescribeFleet { .. })
            });
            reads.next_back().is_none_or(|(read_at, ..)| *read_at < set_at)
        })
    }

    pub(super) fn outcome(&self, victim: usize) -> &Outcome {
        self.handovers[victim].as_ref().and_then(Handover::outcome).expect("the handover has ended")
    }

    /// When the handover of this victim ended, in milliseconds.
    pub(super) fn ended(&self, victim: usize) -> u64 {
        let mut milestones = self.handovers[victim].iter().flat_map(|handover| &handover.incident().milestones);
        let last = milestones.rfind(|it| it.milestone == MilestoneKind::HandedOver).expect("it has ended");
        u64::try_from(last.at.since(at(0)).as_millis()).expect("a time")
    }

    /// Milestones in order, as in "left web".
    pub(super) fn saw(&self) -> Vec<String> {
        let words = |milestone: &Milestone| {
            let group = milestone.target_group.as_ref().map(|arn| format!(" {}", arn.name())).unwrap_or_default();
            format!("{}{group}", milestone.milestone.as_str())
        };
        self.milestones.iter().map(words).collect()
    }

    pub(super) fn targets_of(&self, victim: &str) -> usize {
        self.aws.targets.iter().filter(|(_, target, _)| target == victim).count()
    }
}
