//! Asking a `maintain` fleet by its target capacity, an absolute number that every victim writes and nobody can compare
//! and set. So it is counted, not added to: target = base + units under notice (docs/aws.md 4). Base is what a tag on the
//! fleet keeps. A stale write is seen at the next read and written over; once the fleet has what was counted, the base is
//! put back without termination, so that the members that die are not replaced a second time. What the fleet replaces by
//! itself is not raised for: AWS may count a member as gone at its notice already.

mod count;
mod deaths;
mod failing;
mod operator;
mod raise;
mod words;

use std::time::Duration;

use count::{Count, Others, announced_left, another_goes_at, is_about_to_go};
pub(super) use count::{Units, noticed_by_request};
use deaths::Deaths;
pub(super) use failing::requests_may_be_told;
use operator::{Operator, STRANGE_PAUSE};
use raise::Raise;

use super::ask::Asked;
use super::crowd::{Bucket, CALLS_A_FLEET_LOOK};
use super::duties::{Duties, News};
use super::{Answer, Attempts, Call, Duty, DutyReport, Incident, Situation};
use crate::core::duty::its_attempts;
use crate::core::model::{BootInstant, ExcessCapacity, Fleet, FleetMember, FleetState};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, RaisedCapacity, spot_of_base};
use crate::core::retry::{Failure, fraction, growing};

/// The pauses between two reads while the fleet launches.
const PAUSES: [u64; 4] = [2, 3, 4, 5];

/// A count no older than this is written; an older one is taken again.
const COUNT_HOLDS: Duration = Duration::from_secs(4);
/// A victim that goes while the capacity is raised has its place filled twice. So with less time than this left to
/// another victim nothing is raised, and what is raised is put back until it has gone. What never gets raised for us, the
/// fleet replaces after our death: later, but once.
const ABOUT_TO_GO: Duration = Duration::from_secs(25);

/// A fleet's capacity counts a dead member for a while, and its list misses a new one for a while: which of the two it is shows
/// within this, or up to twice as long. A capacity that is in doubt for longer is raised: a fleet that has what it is to have
/// launches nobody by that.
const DOUBTED_AT_MOST: Duration = Duration::from_secs(10);

/// The Spot requests and the tags of others that were noticed in the same moment show within this: before, a fleet that seems to
/// need nobody is looked at again, and so is one that has what was counted.
const SPARE_IS_SURE_AFTER: Duration = Duration::from_secs(8);

/// About so many of the victims count again before they put the base back.
const COUNT_AGAIN: f64 = 10.0;

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
    /// The Spot part of this base, where the request names one.
    base_spot: (i32, Option<i32>),
    /// The last read.
    fleet: Option<Fleet>,
    count: Count,
    /// A count from then on holds all that were noticed with this instance or before it. Those that are noticed later count
    /// this one.
    sees_all_from: BootInstant,
    raise: Raise,
    /// The fleet's capacity had been raised for us, whoever wrote it.
    is_raised: bool,
    writes: Writes,
    deaths: Deaths,
    /// The fleet terminated what exceeded its target before it was raised, and is to do so again.
    terminates_excess: bool,
    operator: Operator,
    /// It has more than its target: nobody is launched in the place of those that go.
    has_spare: bool,
    too_late: bool,
    /// The part of it that was told.
    told: Asked,
    fulfilled: bool,
    /// When the base was put back last: from the first time on what is read has the last word.
    back_at: Option<BootInstant>,
    reads: usize,
}

/// The writes to the fleet and its tag.
#[derive(Clone, Default)]
struct Writes {
    /// The total of the call under way, and of the last that was accepted: AWS may show an older one for a while.
    under_way: Option<i32>,
    accepted: Option<i32>,
    /// The tag on the fleet is ours.
    tagged: bool,
    /// The highest total that this process has noted in the tag.
    noted: i32,
    /// Those in a row that failed, however often the fleet was read between them.
    failed: u32,
    /// The last failure of what a raise needs, until that succeeds.
    trouble: Option<(Stage, Failure)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Read,
    /// As `Read`, after a write that was refused: the fleet's state tells why.
    Refused,
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
            sees_all_from: attempts.next + SPARE_IS_SURE_AFTER,
            attempts,
            base: None,
            base_spot: (0, None),
            fleet: None,
            count: Count::default(),
            raise: Raise::default(),
            is_raised: false,
            writes: Writes::default(),
            deaths: Deaths::default(),
            terminates_excess: false,
            operator: Operator::default(),
            has_spare: false,
            too_late: false,
            told: Asked::Pending,
            fulfilled: false,
            back_at: None,
            reads: 0,
        }
    }

    pub(super) fn of(kind: FleetKind, fleet: &Fleet, incident: &Incident, attempts: Attempts) -> AskCapacity {
        let mut ask = AskCapacity::new(kind, fleet.id.clone(), attempts);
        ask.operator.planned = incident.planned_before.then_some((fleet.capacity.total, fleet.excess));
        ask
    }

    /// Tells whether this process or the one before it has raised the capacity.
    fn may_be_raised(&self, incident: &Incident) -> bool {
        let is_raised = self.base.zip(self.fleet.as_ref()).is_some_and(|(base, fleet)| fleet.capacity.total > base);
        self.raise.is_begun() || (incident.start.is_resumed() && is_raised)
    }

    /// A fleet that keeps its excess already is not told to.
    fn modify(&mut self, total: i32) -> Option<Call> {
        let raised = total - self.base?;
        // Only the part that a member counts in is raised for it.
        let spot = self.base_spot.1.map(|spot| spot + raised - self.count.on_demand.min(raised));
        let change = self.fleet.as_ref()?.with_total(total, spot);
        let excess = self.terminates_excess.then_some(ExcessCapacity::Stays);
        self.writes.under_way = Some(total);
        let (kind, fleet_id) = (self.kind, self.fleet_id.clone());
        Some(Call::ModifyFleet { kind, fleet_id, total, spot: change.spot, unit: change.unit, excess })
    }

    fn read(&mut self, now: BootInstant, incident: &Incident, fleet: Fleet) {
        if self.is_changed_by_another(now, &fleet) {
            return self.go_on(now + STRANGE_PAUSE, self.stage);
        }
        // While it is changed AWS shows the number from before.
        let is_settled = fleet.state == FleetState::Active;
        let has_ended = matches!(fleet.state, FleetState::Ended(_));
        let fulfilled = fleet.capacity.fulfilled - self.count.idle;
        let total = self.writes.accepted.filter(|_| !is_settled).unwrap_or(fleet.capacity.total);
        let reached = self.count.wanted.is_some_and(|wanted| fulfilled >= wanted);
        let stale = self.count.wanted.is_none_or(|wanted| total < wanted);
        let shrunk = fulfilled < self.count.fulfilled;
        self.fleet = Some(fleet);
        self.forgets_suspicion();
        match () {
            () if has_ended => self.go_on(now, Stage::Gone),
            () if self.is_strange() => self.go_on(now, Stage::Count),
            () if self.count.by_marks.is_some() && self.is_unnoted() => self.go_on(now, Stage::Note),
            () if self.back_at.is_some() && is_settled && Some(total) == self.base => {
                if self.is_forgotten() {
                    return self.go_on(now, Stage::Note);
                }
                let has_lost = self.has_lost(now, incident, fulfilled);
                self.go_on(now, if has_lost { Stage::Deaths } else { Stage::Done });
            }
            () if self.stage == Stage::Await && !reached && self.misses_births() => self.go_on(now, Stage::Deaths),
            () if reached && self.count.doubted_since.is_none() => self.reached(now, incident),
            // First read, or another victim wrote a lower number since, or a member has gone: count again.
            () if stale || shrunk || reached || self.count.by_marks.is_some() => self.go_on(now, Stage::Count),
            () if self.is_unnoted() => self.go_on(now, Stage::Note),
            () => self.wait(now),
        }
    }

    fn counted(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) {
        let Some(mut fleet) = self.fleet.clone() else {
            return self.go_on(now, Stage::Read);
        };
        let another_goes_at = members.iter().filter_map(|member| another_goes_at(member, incident, now)).min();
        self.count.at = now;
        self.count.another_goes_at = another_goes_at;
        self.count.others = match another_goes_at {
            Some(goes_at) if is_about_to_go(goes_at, now) => Others::AboutToGo,
            None if self.count.by_marks.is_none() => Others::Stay,
            _ => Others::Go,
        };
        let units = Units::of(&fleet, members, incident, now);
        self.count.idle = units.idle;
        fleet.capacity.fulfilled -= units.idle;
        let (capacity, tag) = (fleet.capacity, RaisedCapacity::read(&fleet.tags));
        if !self.settles_base(now, incident, units) {
            return;
        }
        let Some(base) = self.base else { return };
        if self.base_spot.0 != base {
            self.base_spot = (base, spot_of_base(&fleet, base));
        }
        let hears_of_more = units.going > self.count.heard_of;
        (self.count.on_demand, self.count.heard_of) = (units.on_demand, self.count.heard_of.max(units.going));
        self.count.victims = units.victims;
        if self.counts_again() && !hears_of_more {
            return self.reached(now, incident);
        }
        self.count.by_itself = self.replaced_by_itself(&fleet, base, units);
        let wanted = base.saturating_add((units.going - self.count.by_itself).max(0));
        self.count.wanted = Some(wanted);
        self.count.fulfilled = capacity.fulfilled;
        self.terminates_excess |= self.terminated_excess(&fleet, incident);
        let is_noted = tag.is_some_and(|tag| self.noting(base, tag.raised) == tag && tag.covers(wanted));
        let is_ours_alone = self.writes.accepted == Some(capacity.total) && fleet.state == FleetState::Active;
        let is_too_high = capacity.total > wanted && is_ours_alone;
        // Whoever raises sets the tag before.
        let is_untouched = !incident.start.is_resumed() || tag.is_none();
        let nobody_came = self.count.by_itself == 0 || units.young == 0;
        let nobody_asked = nobody_came && !self.raise.is_begun() && is_untouched;
        // The successors that others' raises have launched fill the places, and are not registered by that.
        let is_full = capacity.total == base && units.staying - units.young >= base;
        let reached = capacity.fulfilled >= wanted;
        let is_raised = self.raise.is_begun() || capacity.total >= wanted;
        let is_doubtful = reached && units.living < wanted && (!is_raised || self.count.doubted_since.is_some());
        self.count.doubted_since = self.count.doubted_since.or(Some(now)).filter(|_| is_doubtful);
        // One of many that doubt the same raises first, and the others see that.
        let doubted_for = DOUBTED_AT_MOST.mul_f64(1.0 + fraction(self.attempts.seed));
        let waits_for_sight = self.count.doubted_since.is_some_and(|since| !is_raised && now < since + doubted_for);
        let seems_spare = is_full && nobody_asked;
        self.count.spare_since = self.count.spare_since.or(Some(now)).filter(|_| seems_spare);
        self.has_spare = self.count.spare_since.is_some_and(|since| now >= since + SPARE_IS_SURE_AFTER);
        if self.has_spare {
            self.go_on(now, Stage::Done);
        } else if seems_spare {
            self.count.wanted = None;
            self.look_again(now);
        } else if waits_for_sight {
            self.look_again(now);
        } else if reached && !is_doubtful {
            self.reached(now, incident);
        } else if self.count.others == Others::AboutToGo {
            let stands = self.raise.is_begun() && capacity.total > base;
            self.count.wanted = None;
            if stands { self.go_on(now, Stage::StandBack) } else { self.look_again(now) }
        } else if capacity.total >= wanted && !is_too_high {
            // Another victim that counted the same has written it for both, or the fleet is at it by itself.
            self.is_raised = true;
            self.wait(now);
        } else {
            self.go_on(now, if is_too_high || is_noted { Stage::Raise } else { Stage::Tag });
        }
    }

    fn reached(&mut self, now: BootInstant, incident: &Incident) {
        self.fulfilled = true;
        if self.may_miss_others(incident) {
            return self.go_on(now.max(self.sees_all_from), Stage::Count);
        }
        self.deaths.expected = self.count.wanted;
        self.count.another_goes_at = None;
        self.is_raised = true;
        if self.is_back(incident) { self.back(now) } else { self.go_on(now, Stage::PutBack) }
    }

    /// Tells whether nothing is to be put back. What this process has written last counts, whatever AWS shows yet; of the process
    /// before it nobody knows.
    fn is_back(&self, incident: &Incident) -> bool {
        let Some(fleet) = &self.fleet else { return false };
        let shows_base = fleet.state == FleetState::Active && Some(fleet.capacity.total) == self.base;
        let noted = RaisedCapacity::read(&fleet.tags).is_some_and(|tag| tag.raised > tag.base);
        match self.writes.accepted {
            Some(written) => shows_base && Some(written) == self.base,
            None => shows_base && !(incident.start.is_resumed() && noted),
        }
    }

    /// The base stands; but a raise that is still under way, of a process that died, may land on it. One more read.
    fn back(&mut self, now: BootInstant) {
        if self.back_at.replace(now).is_some() {
            return self.go_on(now, Stage::Done);
        }
        self.count.wanted = None;
        self.go_on(now + SETTLE_AFTER, Stage::Read);
    }

    fn wait(&mut self, now: BootInstant) {
        let pause = growing(&PAUSES, self.reads);
        self.reads += 1;
        self.go_on(now + pause, Stage::Await);
    }

    /// Reads and counts anew after a moment.
    fn look_again(&mut self, now: BootInstant) {
        self.count.another_goes_at = None;
        self.go_on(now + ABOUT_TO_GO / 5, Stage::Read);
    }

    fn go_on(&mut self, at: BootInstant, stage: Stage) {
        self.stage = stage;
        self.attempts.succeeded(at);
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
        let is_back = matches!(self.stage, Stage::PutBack | Stage::Refused | Stage::Tidy | Stage::Done | Stage::Gone)
            || self.operator.is_suspected();
        let last_chance = situation.reserve_reached() && !is_back;
        if last_chance && self.may_be_raised(situation.incident) && !self.attempts.in_flight {
            self.stage = Stage::PutBack;
            self.attempts.next = now.min(self.attempts.next);
        }
        let another_goes = self.count.another_goes_at.is_some_and(|goes_at| is_about_to_go(goes_at, now));
        let raised = self.stage == Stage::Await || (self.stage == Stage::Raise && self.raise.is_begun());
        if raised && another_goes && !self.attempts.in_flight {
            self.stage = Stage::StandBack;
            self.attempts.next = now;
        }
        // Too late to be fulfilled: what is raised now would only have to be put back, and to count again would change
        // nothing. The fleet replaces after death.
        let short = situation.reserve_reached() || announced_left(situation) < TOO_LATE;
        self.too_late = short && !self.may_be_raised(situation.incident);
        let is_old = now > self.count.at + COUNT_HOLDS && !self.attempts.in_flight;
        if matches!(self.stage, Stage::Tag | Stage::Raise) && !self.too_late && is_old {
            self.stage = if self.writes.failed > 0 { Stage::Read } else { Stage::Count };
        }
        self.spaces_out_what_is_denied();
        self.takes_tag_off(now);
        match self.stage {
            Stage::Count if self.attempts.failures == 0 => {}
            stage if stage.reads() => {
                let bucket = Bucket::EC2_LOOKS.of_looks(CALLS_A_FLEET_LOOK);
                // Nobody may have counted this instance yet.
                let is_asked_for = self.is_raised && !self.is_unnoted();
                situation.crowd.scatter(&mut self.attempts, bucket, is_asked_for);
            }
            _ => situation.crowd.take_turns(&mut self.attempts, Bucket::EC2_WRITES),
        }
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        let (kind, fleet_id) = (self.kind, self.fleet_id.clone());
        match self.stage {
            Stage::Read | Stage::Refused | Stage::Await => Some(Call::DescribeFleet { kind, fleet_id }),
            Stage::Count => {
                let unit = self.fleet.as_ref().map(|fleet| fleet.unit).unwrap_or_default();
                Some(Call::DescribeFleetMembers { kind, fleet_id, unit })
            }
            Stage::Deaths => Some(Call::DescribeInstancesOfFleet { kind, fleet_id }),
            Stage::Tag | Stage::Raise if self.too_late => None,
            Stage::Tag | Stage::Note => {
                let base = self.base?;
                // Never below what another victim has noted already.
                let raised = self.count.wanted.unwrap_or(base).max(self.noted(base));
                self.writes.noted = self.writes.noted.max(raised);
                let value = self.noting(base, raised).to_string();
                Some(Call::TagFleet { fleet_id, key: BASE_CAPACITY_TAG.to_owned(), value })
            }
            Stage::Raise => {
                let wanted = self.count.wanted?;
                self.raise = if self.raise.may_have_been_done() { Raise::Stands } else { Raise::Begun };
                self.writes.noted = self.writes.noted.max(wanted);
                // The raise before was put back, and this one is to be put back too.
                (self.fulfilled, self.back_at) = (false, None);
                self.modify(wanted)
            }
            Stage::PutBack | Stage::StandBack => self.modify(self.base?),
            Stage::Tidy => Some(Call::PutCapacityBack { kind, fleet_id }),
            Stage::Untag => Some(Call::UntagFleet { fleet_id, key: BASE_CAPACITY_TAG.to_owned() }),
            Stage::Done | Stage::Gone => None,
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, incident) = (situation.now, &*situation.incident);
        let under_way = self.writes.under_way.take();
        if answer == Answer::Accepted {
            self.writes.accepted = under_way.or(self.writes.accepted);
        }
        let answer = self.judged(answer);
        if !matches!(answer, Answer::Failed(_)) {
            self.writes.trouble.take_if(|(stage, _)| *stage == self.stage);
        }
        match (self.stage, answer) {
            (Stage::Read | Stage::Refused | Stage::Await, Answer::Fleet(fleet)) => match fleet {
                Some(fleet) => self.read(now, incident, *fleet),
                None => self.go_on(now, Stage::Gone),
            },
            (Stage::Count, Answer::FleetMembers(members) | Answer::FleetMembersByMarks { members, .. }) => {
                self.counted(now, incident, &members);
            }
            (Stage::Tag, Answer::Accepted) => {
                self.writes.tagged = true;
                self.go_on(now, Stage::Raise);
            }
            (Stage::Deaths, Answer::Instances(instances)) => {
                let deaths = self.newly_dead(incident, instances);
                match (deaths.is_empty(), self.back_at.is_some()) {
                    // A victim has gone, or the number that was read counted a dead member.
                    (true, true) => {
                        (self.count.wanted, self.deaths.expected) = (None, None);
                        self.go_on(now, Stage::Count);
                    }
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
                (self.raise, self.writes.failed) = (Raise::Stands, 0);
                self.is_raised = true;
                self.wait(now);
            }
            (Stage::StandBack, Answer::Accepted) => {
                self.raise = if self.raise.may_have_been_done() { Raise::StoodBack } else { Raise::NotBegun };
                self.count.wanted = None;
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
