//! Asking a `maintain` fleet by its target capacity, an absolute number that every victim writes and nobody can compare
//! and set. So it is counted, not added to: target = base + units under notice (docs/aws.md 4). Base is what a tag on the
//! fleet keeps. A stale write is seen at the next read and written over; once the fleet has what was counted, the base is
//! put back without termination, so that the members that die are not replaced a second time. What the fleet replaces by
//! itself is not raised for: AWS may count a member as gone at its notice already.

mod count;
mod deaths;
mod failing;
mod operator;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use count::{announced_left, another_goes_at, dropped, is_about_to_go, replaced, young};
pub(super) use count::{noticed_by_request, staying_units};
pub(super) use failing::requests_may_be_told;
use operator::Operator;

use super::ask::Asked;
use super::crowd::{Bucket, CALLS_A_FLEET_LOOK};
use super::duties::{Duties, News};
use super::{Answer, Attempts, Call, Duty, DutyReport, Incident, Situation};
use crate::core::duty::its_attempts;
use crate::core::model::{BootInstant, ExcessCapacity, Fleet, FleetMember, FleetState, InstanceId, StateReason};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, RaisedCapacity, units_under_notice};
use crate::core::retry::{Failure, growing};

/// The pauses between two reads while the fleet launches.
const PAUSES: [u64; 4] = [2, 3, 4, 5];

/// A count no older than this is written; an older one is taken again.
const COUNT_HOLDS: Duration = Duration::from_secs(4);
/// A victim that goes while the capacity is raised has its place filled twice. So with less time than this left to
/// another victim nothing is raised, and what is raised is put back until it has gone. What never gets raised for us, the
/// fleet replaces after our death: later, but once.
const ABOUT_TO_GO: Duration = Duration::from_secs(25);

/// A fleet launches within this; what a later raise launches is younger than this instance's death.
const TOO_LATE: Duration = Duration::from_secs(8);

/// Longer than any call takes to arrive.
const SETTLE_AFTER: Duration = Duration::from_secs(4);

#[derive(Clone)]
pub(super) struct AskCapacity {
    kind: FleetKind,
    fleet_id: String,
    stage: Stage,
    attempts: Attempts,
    base: Option<i32>,
    /// The last read.
    fleet: Option<Fleet>,
    /// Base and what is under notice, as last counted.
    wanted: Option<i32>,
    counted_at: BootInstant,
    /// When the next of the other victims goes, as of the last count.
    another_goes_at: Option<BootInstant>,
    /// When the fleet's capacity had been raised for us, whoever wrote it.
    raised_at: Option<BootInstant>,
    /// A raise of ours may have been done, or is under way.
    raise_begun: bool,
    /// A raise was accepted, or its answer leaves it open.
    may_have_been_raised: bool,
    /// The last failure of what a raise needs, until that succeeds.
    trouble: Option<(Stage, Failure)>,
    /// Writes in a row that failed, however often the fleet was read between them.
    failed_writes: u32,
    /// The fleet's capacity when it was reached: base and what is under notice.
    expected: Option<i32>,
    /// The instances that the fleet launched since our notice and that are dead, each with its reason.
    dead: BTreeMap<InstanceId, Option<StateReason>>,
    given_up: Option<String>,
    /// The tag on the fleet is ours.
    tagged: bool,
    /// Other members are under notice, as of the last count.
    others_go: bool,
    another_is_about_to_go: bool,
    /// Why only the marks of the other members tell whether they go.
    by_marks: Option<Failure>,
    /// The total of the call under way, and of the last that was accepted: AWS may show an older one for a while.
    writing: Option<i32>,
    written: Option<i32>,
    /// Units that the fleet replaces without being asked.
    by_itself: i32,
    /// The fleet's capacity when it was counted last.
    fulfilled_at_count: i32,
    /// The fleet terminated what exceeded its target before it was raised, and is to do so again.
    terminates_excess: bool,
    /// The highest total that this process has noted in the tag.
    noted: i32,
    /// The fleet's capacity from before the notice.
    planned: Option<i32>,
    operator: Operator,
    /// It has more than its target: nobody is launched in the place of those that go.
    has_spare: bool,
    /// The last write was refused: the fleet's state tells why.
    refused: bool,
    too_late: bool,
    why_gone: String,
    /// The part of it that was told.
    told: Asked,
    fulfilled: bool,
    /// The base was put back once; what is read now has the last word.
    settling: bool,
    back_at: Option<BootInstant>,
    reads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Read,
    Count,
    Tag,
    Raise,
    /// As `Read`, after a raise: waiting for the fleet.
    Await,
    PutBack,
    /// As `PutBack`, until another victim has gone.
    StandBack,
    /// Nothing was raised.
    Untag,
    /// The fleet has less than it was raised for: which of its instances are dead, and why.
    Deaths,
    /// Notes a raise of ours again.
    Note,
    /// Takes off what the raise has left, where that ends nobody: the capacity is somebody else's now.
    Tidy,
    Done,
    /// The fleet is gone, or launches nothing any more.
    Gone,
}

impl AskCapacity {
    pub(super) fn new(kind: FleetKind, fleet_id: String, attempts: Attempts) -> AskCapacity {
        AskCapacity {
            kind,
            fleet_id,
            stage: Stage::Read,
            attempts,
            base: None,
            fleet: None,
            wanted: None,
            counted_at: BootInstant::default(),
            another_goes_at: None,
            raised_at: None,
            raise_begun: false,
            may_have_been_raised: false,
            trouble: None,
            failed_writes: 0,
            expected: None,
            dead: BTreeMap::new(),
            given_up: None,
            tagged: false,
            others_go: false,
            another_is_about_to_go: false,
            by_marks: None,
            writing: None,
            written: None,
            by_itself: 0,
            fulfilled_at_count: 0,
            terminates_excess: false,
            noted: 0,
            planned: None,
            operator: Operator::default(),
            has_spare: false,
            refused: false,
            too_late: false,
            why_gone: String::new(),
            told: Asked::Pending,
            fulfilled: false,
            settling: false,
            back_at: None,
            reads: 0,
        }
    }

    pub(super) fn of(kind: FleetKind, fleet: &Fleet, incident: &Incident, attempts: Attempts) -> AskCapacity {
        let planned = incident.planned_before.then_some(fleet.capacity.total);
        AskCapacity { planned, ..AskCapacity::new(kind, fleet.id.clone(), attempts) }
    }

    /// Tells whether this process or the one before it has raised the capacity.
    fn may_be_raised(&self, incident: &Incident) -> bool {
        let is_raised = self.base.zip(self.fleet.as_ref()).is_some_and(|(base, fleet)| fleet.capacity.total > base);
        self.raise_begun || (incident.start.is_resumed() && is_raised)
    }

    /// A fleet that keeps its excess already is not told to.
    fn modify(&mut self, total: i32) -> Option<Call> {
        let change = self.fleet.as_ref()?.with_total(total);
        let excess = self.terminates_excess.then_some(ExcessCapacity::Stays);
        self.writing = Some(total);
        let (kind, fleet_id) = (self.kind, self.fleet_id.clone());
        Some(Call::ModifyFleet { kind, fleet_id, total, spot: change.spot, unit: change.unit, excess })
    }

    fn read(&mut self, now: BootInstant, incident: &Incident, fleet: Fleet) {
        self.refused = false;
        if let FleetState::Ended(state) = &fleet.state {
            return self.gone(now, format!("it is {state} and launches nothing any more"));
        }
        // While it is changed AWS shows the number from before.
        let is_settled = fleet.state == FleetState::Active;
        let total = self.written.filter(|_| !is_settled).unwrap_or(fleet.capacity.total);
        let reached = self.wanted.is_some_and(|wanted| fleet.capacity.fulfilled >= wanted);
        let stale = self.wanted.is_none_or(|wanted| total < wanted);
        let shrunk = fleet.capacity.fulfilled < self.fulfilled_at_count;
        self.fleet = Some(fleet);
        self.forgets_suspicion();
        match () {
            () if self.is_strange() => self.go_on(now, Stage::Count),
            () if self.by_marks.is_some() && self.is_unnoted() => self.go_on(now, Stage::Note),
            () if self.settling && is_settled && Some(total) == self.base => {
                let fulfilled = self.fleet.as_ref().map_or(0, |fleet| fleet.capacity.fulfilled);
                let has_lost = self.has_lost(now, incident, fulfilled);
                self.go_on(now, if has_lost { Stage::Deaths } else { Stage::Done });
            }
            () if self.stage == Stage::Await && !reached && self.misses_births() => self.go_on(now, Stage::Deaths),
            () if reached => self.reached(now, incident),
            // First read, or another victim wrote a lower number since, or a member has gone: count again.
            () if stale || shrunk || self.by_marks.is_some() => self.go_on(now, Stage::Count),
            () if self.is_unnoted() => self.go_on(now, Stage::Note),
            () => self.wait(now),
        }
    }

    fn counted(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) {
        let Some(fleet) = self.fleet.clone() else {
            return self.go_on(now, Stage::Read);
        };
        self.counted_at = now;
        self.another_goes_at = members.iter().filter_map(|member| another_goes_at(member, incident, now)).min();
        self.others_go = self.another_goes_at.is_some() || self.by_marks.is_some();
        let (capacity, tag) = (fleet.capacity, RaisedCapacity::read(&fleet.tags));
        let units = units_under_notice(&fleet, members, &incident.start.identity, incident.time_of(now));
        if !self.settles_base(now, incident, members, units) {
            return;
        }
        let Some(base) = self.base else { return };
        self.another_is_about_to_go = members.iter().any(|member| is_about_to_go(member, incident, now));
        if self.another_is_about_to_go {
            return if self.raise_begun { self.go_on(now, Stage::StandBack) } else { self.look_again(now) };
        }
        if !self.raise_begun && capacity.total <= base {
            let raised = tag.filter(|tag| tag.base == base).map_or(0, |tag| tag.raised - base);
            let missing = (capacity.total - capacity.fulfilled).max(0);
            let lacking = (base - staying_units(&fleet, members, incident, now) - missing).max(0);
            let replaced = replaced(&fleet, members, incident, now) - raised;
            self.by_itself = replaced.min(units - lacking).max(0);
        } else {
            // The fleet replaces, beside the raise, the living members that it has dropped since.
            self.by_itself = self.by_itself.max(dropped(&fleet, members, incident, now)).min(units);
        }
        let wanted = base.saturating_add((units - self.by_itself).max(0));
        self.wanted = Some(wanted);
        self.fulfilled_at_count = capacity.fulfilled;
        self.terminates_excess |=
            fleet.excess == ExcessCapacity::Terminates || tag.is_some_and(|tag| tag.terminates_excess);
        let is_noted = |tag: RaisedCapacity| {
            tag.base == base && tag.covers(wanted) && tag.terminates_excess == self.terminates_excess
        };
        let is_ours_alone = self.written == Some(capacity.total) && fleet.state == FleetState::Active;
        let nobody_asked = self.by_itself == 0 && !self.raise_begun && !incident.start.is_resumed();
        // The successors that others' raises have launched fill the places, and are not registered by that.
        let successors = young(&fleet, members, incident, now);
        let is_full = capacity.total == base && staying_units(&fleet, members, incident, now) - successors >= base;
        if is_full && nobody_asked {
            self.has_spare = true;
            self.go_on(now, Stage::Done);
        } else if capacity.fulfilled >= wanted {
            self.reached(now, incident);
        } else if capacity.total > wanted && is_ours_alone {
            self.go_on(now, Stage::Raise);
        } else if capacity.total >= wanted {
            // Another victim that counted the same has written it for both, or the fleet is at it by itself.
            self.raised_at.get_or_insert(now);
            self.wait(now);
        } else if tag.is_some_and(is_noted) {
            self.go_on(now, Stage::Raise);
        } else {
            self.go_on(now, Stage::Tag);
        }
    }

    fn reached(&mut self, now: BootInstant, incident: &Incident) {
        self.fulfilled = true;
        self.expected = self.wanted;
        self.another_goes_at = None;
        self.raised_at.get_or_insert(now);
        if self.is_back(incident) { self.back(now) } else { self.go_on(now, Stage::PutBack) }
    }

    /// Tells whether nothing is to be put back. What this process has written last counts, whatever AWS shows yet; of the process
    /// before it nobody knows.
    fn is_back(&self, incident: &Incident) -> bool {
        let Some(fleet) = &self.fleet else { return false };
        let shows_base = fleet.state == FleetState::Active && Some(fleet.capacity.total) == self.base;
        let noted = RaisedCapacity::read(&fleet.tags).is_some_and(|tag| tag.raised > tag.base);
        match self.written {
            Some(written) => shows_base && Some(written) == self.base,
            None => shows_base && !(incident.start.is_resumed() && noted),
        }
    }

    /// The base stands; but a raise that is still under way, of a process that died, may land on it. One more read.
    fn back(&mut self, now: BootInstant) {
        self.back_at = Some(now);
        if self.settling {
            return self.go_on(now, Stage::Done);
        }
        self.settling = true;
        self.wanted = None;
        self.stage = Stage::Read;
        self.attempts.succeeded(now + SETTLE_AFTER);
    }

    fn wait(&mut self, now: BootInstant) {
        let pause = growing(&PAUSES, self.reads);
        self.reads += 1;
        self.stage = Stage::Await;
        self.attempts.succeeded(now + pause);
    }

    /// Reads and counts anew after a moment.
    fn look_again(&mut self, now: BootInstant) {
        self.stage = Stage::Read;
        self.another_goes_at = None;
        self.attempts.succeeded(now + ABOUT_TO_GO / 5);
    }

    fn gone(&mut self, now: BootInstant, why: String) {
        self.why_gone = why;
        self.go_on(now, Stage::Gone);
    }

    fn go_on(&mut self, now: BootInstant, stage: Stage) {
        self.stage = stage;
        self.attempts.succeeded(now);
        if matches!(stage, Stage::Done | Stage::Gone) {
            self.attempts.end();
        }
    }
}

impl Duty<Duties> for AskCapacity {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        let now = situation.now;
        // Before this instance goes the base is put back, reached or not: else its death is replaced a second time.
        let is_back = matches!(self.stage, Stage::PutBack | Stage::Tidy | Stage::Done | Stage::Gone)
            || self.operator.is_suspected();
        let last_chance = situation.reserve_reached() && !is_back && !self.refused;
        if last_chance && self.may_be_raised(situation.incident) && !self.attempts.in_flight {
            self.stage = Stage::PutBack;
            self.attempts.next = now.min(self.attempts.next);
        }
        let another_goes = self.another_goes_at.is_some_and(|goes_at| goes_at.since(now) < ABOUT_TO_GO);
        let raised = self.stage == Stage::Await || (self.stage == Stage::Raise && self.raise_begun);
        if raised && another_goes && !self.attempts.in_flight {
            self.stage = Stage::StandBack;
            self.attempts.next = now;
        }
        // Too late to be fulfilled: what is raised now would only have to be put back, and to count again would change
        // nothing. The fleet replaces after death.
        let short = situation.reserve_reached() || announced_left(situation) < TOO_LATE;
        self.too_late = short && !self.may_be_raised(situation.incident);
        let is_old = now > self.counted_at + COUNT_HOLDS && !self.attempts.in_flight;
        if matches!(self.stage, Stage::Tag | Stage::Raise) && !self.too_late && is_old {
            self.stage = if self.failed_writes > 0 { Stage::Read } else { Stage::Count };
        }
        self.spaces_out_what_is_denied();
        self.takes_tag_off(now);
        match self.stage {
            Stage::Count if self.attempts.failures == 0 => {}
            Stage::Read | Stage::Count | Stage::Await | Stage::Deaths => {
                let bucket = Bucket::EC2_LOOKS.of_looks(CALLS_A_FLEET_LOOK);
                // Nobody may have counted this instance yet.
                let is_asked_for = self.raised_at.is_some() && !self.is_unnoted();
                situation.crowd.scatter(&mut self.attempts, bucket, is_asked_for);
            }
            _ => situation.crowd.take_turns(&mut self.attempts, Bucket::EC2_WRITES),
        }
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        let (kind, fleet_id) = (self.kind, self.fleet_id.clone());
        match self.stage {
            Stage::Read | Stage::Await => Some(Call::DescribeFleet { kind, fleet_id }),
            Stage::Count => Some(Call::DescribeFleetMembers { kind, fleet_id }),
            Stage::Deaths => Some(Call::DescribeInstancesOfFleet { kind, fleet_id }),
            Stage::Tag | Stage::Raise if self.too_late => None,
            Stage::Tag | Stage::Note => {
                let (base, raised, terminates_excess) = (self.base?, self.raised_to_tag()?, self.terminates_excess);
                self.noted = self.noted.max(raised);
                let value = RaisedCapacity { base, raised, terminates_excess }.to_string();
                Some(Call::TagFleet { fleet_id, key: BASE_CAPACITY_TAG.to_owned(), value })
            }
            Stage::Raise => {
                self.raise_begun = true;
                self.noted = self.noted.max(self.wanted?);
                self.modify(self.wanted?)
            }
            Stage::PutBack | Stage::StandBack => self.modify(self.base?),
            Stage::Tidy => Some(Call::PutCapacityBack { kind, fleet_id }),
            Stage::Untag => Some(Call::UntagFleet { fleet_id, key: BASE_CAPACITY_TAG.to_owned() }),
            Stage::Done | Stage::Gone => None,
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, incident) = (situation.now, &*situation.incident);
        let writing = self.writing.take();
        if answer == Answer::Accepted {
            self.written = writing.or(self.written);
        }
        let answer = self.judged(answer);
        if !matches!(answer, Answer::Failed(_)) && self.trouble.as_ref().is_some_and(|(stage, _)| *stage == self.stage)
        {
            self.trouble = None;
        }
        match (self.stage, answer) {
            (Stage::Read | Stage::Await, Answer::Fleet(Some(fleet))) => self.read(now, incident, *fleet),
            (Stage::Read | Stage::Await, Answer::Fleet(None)) => self.gone(now, "AWS knows no such fleet".to_owned()),
            (Stage::Count, Answer::FleetMembers(members) | Answer::FleetMembersByMarks { members, .. }) => {
                self.counted(now, incident, &members);
            }
            (Stage::Tag, Answer::Accepted) => {
                self.tagged = true;
                self.go_on(now, Stage::Raise);
            }
            (Stage::Deaths, Answer::Instances(instances)) => {
                let deaths = self.newly_dead(incident, instances);
                match (deaths.is_empty(), self.settling) {
                    // Its count is still to show that.
                    (true, true) => self.go_on(now, Stage::Done),
                    (true, false) => self.wait(now),
                    (false, _) => {
                        self.after_deaths(now);
                        return Ok(News::Watched(deaths));
                    }
                }
            }
            (Stage::Note, Answer::Accepted) => self.wait(now),
            (Stage::Untag, Answer::Accepted) | (Stage::Tidy, Answer::Capacity { .. }) => self.go_on(now, Stage::Done),
            (Stage::Raise, Answer::Accepted) => {
                (self.may_have_been_raised, self.failed_writes) = (true, 0);
                self.raised_at.get_or_insert(now);
                self.wait(now);
            }
            (Stage::StandBack, Answer::Accepted) => {
                self.raise_begun = false;
                self.wanted = None;
                self.look_again(now);
            }
            (Stage::PutBack, Answer::Accepted) => self.back(now),
            (stage, other) => {
                if let Answer::Failed(failure) = &other {
                    self.failed(stage, failure);
                }
                return Err(other);
            }
        }
        Ok(self.tell().into())
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        Some(self.in_words(begun_at))
    }
}
