//! Every interleaving, up to a bound: two victims of one fleet that count its capacity, AWS, and one kill or lost exchange.
//!
//! The two duties are driven alone, without their handovers. A call takes effect at any moment between its beginning and its
//! answer, and a call of a killed process even later; AWS launches at any moment. Each state is visited once.

use std::collections::HashSet;

use super::course::Situation;
use super::*;
use crate::core::call::CALL_LIMIT;
use crate::core::handover::capacity::AskCapacity;
use crate::core::handover::crowd::Crowd;
use crate::core::plan::{RaisedCapacity, leftover};

const NAMES: [&str; 2] = ["i-victim0", "i-victim1"];
const BASE: i32 = 4;
/// A call that was given up lands within this, in milliseconds, if it does.
const LANDS_WITHIN: u64 = 55_000;
/// Steps of one interleaving: more than any has.
const DEPTH: usize = 140;

#[derive(Clone)]
struct Daemon {
    ask: AskCapacity,
    earlier: Earlier,
    /// Begun at this instant, and not yet done by AWS.
    in_flight: Option<(u64, Call)>,
}

#[derive(Clone)]
struct World {
    now: u64,
    daemons: [Daemon; 2],
    aws: Aws,
    /// A call of a process that is gone, or one that was given up, which lands by this instant.
    stale: Option<(u64, Call)>,
    /// One is enough.
    mishap: bool,
    operator: Operator,
}

/// Somebody else, who writes this target capacity once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Nobody,
    Will(i32),
    /// Whether a victim had decided on a write before.
    Did {
        total: i32,
        crossed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// AWS does the call of this daemon and answers.
    Arrive(usize),
    /// AWS does the call of the process that is gone, or the one that was given up.
    ArriveStale,
    Launch,
    Kill(usize),
    /// AWS does the call of this daemon, and the answer is lost.
    LoseReply(usize),
    /// The call of this daemon never arrives.
    LoseCall(usize),
    /// The call of this daemon is not answered in time, and arrives later.
    GiveUp(usize),
    Operate(i32),
    /// Nothing is under way: time passes until a daemon wakes.
    Wait,
}

fn incident(victim: usize, earlier: Earlier) -> Incident {
    let mut incident = incident_of(NAMES[victim], Action::Terminate, 121_000);
    incident.time = Some(epoch() + Duration::from_millis(121_000));
    incident.start.earlier = earlier;
    incident
}

fn situation(now: BootInstant, incident: &mut Incident) -> Situation<'_> {
    Situation {
        now,
        incident,
        settings: LeaveSettings::default(),
        manner: Manner::AtOnce,
        may_leave: true,
        may_mark: false,
        is_marked: false,
        waits_for_another: false,
        looks_who_serves: false,
        is_certain: true,
        left_at: None,
        deregistration_tried: true,
        all_unused: false,
        may_be_registered: false,
        quiet: false,
        hooks_ended: true,
        may_complete: false,
        hooks_are_open: false,
        hooks_are_hidden: false,
        elsewhere: None,
        plan_is_known: true,
        taken_out_of: Vec::new(),
        goes_out_of: Vec::new(),
        may_be_taken_out: false,
        unlisted: Vec::new(),
        registers_somewhere: false,
        unneeded: Vec::new(),
        crowd: Crowd::new(at(1_500)).until(at(121_000)),
    }
}

impl World {
    fn new() -> World {
        let daemon = |victim| Daemon { ask: World::ask(victim), earlier: Earlier::Nothing, in_flight: None };
        let mut aws = Aws::of(Owner::Maintain, &NAMES);
        NAMES.into_iter().for_each(|name| aws.takes(1_000, id(name)));
        // It launches when the test says so.
        (aws.next_launch, aws.launches_apart) = (u64::MAX, u64::MAX / 2);
        let operator = Operator::Nobody;
        World { now: 1_500, daemons: [daemon(0), daemon(1)], aws, stale: None, mishap: false, operator }
    }

    fn ask(victim: usize) -> AskCapacity {
        AskCapacity::new(FleetKind::Ec2, "fleet-1".into(), Attempts::new(DutyId::Ask, at(1_500), victim as u64))
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> =
            (0..2).filter(|index| self.daemons[*index].in_flight.is_some()).map(Step::Arrive).collect();
        steps.extend(self.stale.is_some().then_some(Step::ArriveStale));
        steps.extend(((self.aws.members.len() as i32) < self.aws.total).then_some(Step::Launch));
        if !self.mishap {
            for (index, daemon) in self.daemons.iter().enumerate() {
                let Some((_, call)) = &daemon.in_flight else { continue };
                steps.extend([Step::Kill(index), Step::LoseCall(index)]);
                steps.extend([Step::LoseReply(index), Step::GiveUp(index)].into_iter().filter(|_| call.writes()));
            }
        }
        if let Operator::Will(total) = self.operator {
            steps.push(Step::Operate(total));
        }
        // No call takes longer than its limit.
        let under_way = self.daemons.iter().filter_map(|daemon| daemon.in_flight.as_ref());
        let answered_by = under_way.map(|(begun, _)| begun + CALL_LIMIT.as_millis() as u64);
        let latest = answered_by.chain(self.stale.as_ref().map(|(by, _)| *by)).min().unwrap_or(u64::MAX);
        steps.extend(self.wake().filter(|wake| *wake <= latest).map(|_| Step::Wait));
        steps
    }

    fn wake(&self) -> Option<u64> {
        let wakes = self.daemons.iter().filter_map(|daemon| daemon.ask.wake(at(self.now)));
        wakes.map(|wake| wake.since(at(0)).as_millis() as u64).min().map(|at| at.max(self.now + 1))
    }

    fn after(&self, step: Step) -> World {
        let mut world = self.clone();
        match step {
            Step::Arrive(index) => {
                let (_, call) = world.daemons[index].in_flight.take().expect("a call");
                let answer = world.aws.perform(world.now, &id(NAMES[index]), &call);
                world.now += 20;
                world.answer(index, answer);
            }
            Step::LoseReply(index) | Step::LoseCall(index) | Step::GiveUp(index) => {
                world.mishap = true;
                let (begun, call) = world.daemons[index].in_flight.take().expect("a call");
                if matches!(step, Step::LoseReply(_)) {
                    let _ = world.aws.perform(world.now, &id(NAMES[0]), &call);
                }
                world.now = world.now.max(begun + CALL_LIMIT.as_millis() as u64);
                world.stale = matches!(step, Step::GiveUp(_)).then_some((world.now + LANDS_WITHIN, call));
                let lost = Answer::Failed(Failure::unanswered("no answer"));
                world.answer(index, lost);
            }
            Step::ArriveStale => {
                let (_, call) = world.stale.take().expect("a call");
                let _ = world.aws.perform(world.now, &id(NAMES[0]), &call);
            }
            Step::Launch => {
                world.aws.launch_member(world.now, "the fleet keeps its size");
            }
            Step::Kill(index) => {
                world.mishap = true;
                let (begun, call) = world.daemons[index].in_flight.take().expect("a call");
                world.stale = call.writes().then_some((begun + CALL_LIMIT.as_millis() as u64, call));
                world.daemons[index] = Daemon { ask: World::ask(index), earlier: Earlier::Perhaps, in_flight: None };
            }
            Step::Operate(total) => {
                let crossed = world.daemons.iter().any(|daemon| daemon.ask.is_about_to_write());
                world.operator = Operator::Did { total, crossed };
                world.aws.operator_sets(world.now, total);
            }
            Step::Wait => world.now = world.wake().expect("a wake"),
        }
        world.begin();
        world
    }

    fn answer(&mut self, index: usize, answer: Answer) {
        let (now, daemon) = (at(self.now), &mut self.daemons[index]);
        let mut incident = incident(index, daemon.earlier);
        duty::take(&mut daemon.ask, now, &mut situation(now, &mut incident), answer);
    }

    fn begin(&mut self) {
        for (index, daemon) in self.daemons.iter_mut().enumerate() {
            let mut incident = incident(index, daemon.earlier);
            if daemon.in_flight.is_none() {
                let mut situation = situation(at(self.now), &mut incident);
                let begun = duty::begin(&mut daemon.ask, at(self.now), &mut situation);
                daemon.in_flight = begun.map(|(_, call)| (self.now, call));
            }
        }
    }

    /// All that decides what comes next; instants count from now on.
    fn key(&self) -> String {
        let daemon = |daemon: &Daemon| {
            let call = daemon.in_flight.as_ref().map(|(begun, call)| (call, (self.now - begun) / 500));
            let wake = daemon
                .ask
                .wake(at(self.now))
                .map(|wake| (wake.since(at(0)).as_millis() as u64).saturating_sub(self.now) / 500);
            format!("{} {:?} {call:?} {wake:?}", daemon.ask.fingerprint(), daemon.earlier)
        };
        format!(
            "{} {} {:?} {:?} {} {:?} {} {} {} {:?} {}",
            daemon(&self.daemons[0]),
            daemon(&self.daemons[1]),
            self.aws.total,
            self.aws.fleet_tags,
            self.aws.launches.len(),
            self.stale.as_ref().map(|(_, call)| call),
            self.mishap,
            self.aws.excess == ExcessCapacity::Stays,
            self.stale.as_ref().map(|(by, _)| by.saturating_sub(self.now) / 500).unwrap_or_default(),
            self.operator,
            self.aws.members.len(),
        )
    }

    /// Both have done what they can: one successor each, and the fleet as it was once the victims are gone.
    fn ends_well(mut self, path: &[Step]) {
        let tale = format!("{path:?} {:?} total {}", self.aws.fleet_tags, self.aws.total);
        if let Operator::Did { total, crossed } = self.operator {
            let may_be_ours = crossed || (BASE..=BASE + 2).contains(&total);
            let stays = self.aws.total == total || (may_be_ours && self.aws.total == BASE);
            return assert!(stays, "{total} is the operator's: {tale}");
        }
        assert_eq!(self.aws.launches.len(), 2, "a successor each: {tale}");
        assert_eq!(self.aws.total, BASE, "back at base: {tale}");
        self.aws.members.retain(|id, _| !NAMES.contains(&id.as_str()));
        let gone = epoch() + Duration::from_secs(400);
        let right = leftover(&self.aws.fleet(), &self.aws.fleet_members(400_000), gone);
        if RaisedCapacity::read(&self.aws.fleet_tags).is_some() {
            let terminates_excess = self.aws.excess == ExcessCapacity::Stays;
            let put_right = crate::core::plan::PutRight { base: None, terminates_excess, untag: true };
            assert_eq!(right, crate::core::plan::Leftover::Now(put_right), "{tale}");
        }
    }
}

#[test]
fn every_order_of_two_victims_aws_and_a_kill_ends_with_a_successor_each_and_the_fleet_as_before() {
    every_order_ends_well(World::new());
}

#[test]
fn in_every_order_of_two_victims_aws_and_an_operator_the_target_that_the_operator_writes_stays() {
    for total in [2, 7] {
        let mut begun = World { mishap: true, operator: Operator::Will(total), ..World::new() };
        // At once: when it launches is the other test's.
        (begun.aws.next_launch, begun.aws.launches_apart) = (0, 0);
        every_order_ends_well(begun);
    }
}

fn every_order_ends_well(mut begun: World) {
    begun.begin();
    let (mut seen, mut ended, mut cut) = (HashSet::new(), 0u32, 0u32);
    let mut open = vec![(begun, Vec::new())];
    while let Some((world, path)) = open.pop() {
        let steps = world.steps();
        if steps.is_empty() {
            ended += 1;
            world.ends_well(&path);
            continue;
        }
        if path.len() >= DEPTH {
            cut += 1;
            continue;
        }
        for step in steps {
            let next = world.after(step);
            if seen.insert(next.key()) {
                open.push((next, path.iter().copied().chain([step]).collect()));
            }
        }
    }
    println!("{} states, {ended} ends, {cut} cut off", seen.len());
    assert!(ended > 10, "{ended}");
    assert_eq!(cut, 0, "every path is followed to its end");
}
