//! Asking a `maintain` fleet by its target capacity, an absolute number that every victim writes and nobody can compare
//! and set. So it is counted, not added to: target = base + units under notice (docs/aws.md 4); a tag on the fleet
//! keeps the base. The next read shows a stale write, which is written over. Once the fleet has what was counted, the
//! base is put back without termination, so that dying members are not replaced a second time. What the fleet replaces
//! by itself is not raised for: AWS may count a member as gone at its notice already.

mod base;
mod count;
mod deaths;
mod failing;
mod operator;
mod raise;
mod verdict;
mod words;

use std::time::Duration;

use count::{Count, Others, announced_left, is_about_to_go};
pub(super) use count::{Units, noticed_by_request};
pub(super) use failing::requests_may_be_told;
use operator::Operator;
use raise::Raise;

use super::course::{HandingOver, News, Situation};
use super::crowd::{Bucket, CALLS_A_FLEET_LOOK};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, ExcessCapacity, Fleet, InstanceId, StateReason};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind};
use crate::core::retry::Failure;
use std::collections::BTreeMap;

/// A count no older than this may be written; an older one is taken again.
const COUNT_HOLDS: Duration = Duration::from_secs(4);

/// The Spot requests and the tags of others that were noticed in the same moment show within this. Until then a fleet
/// that seems to need nobody, or to have what was counted, is looked at again.
const SPARE_IS_SURE_AFTER: Duration = Duration::from_secs(8);

/// A fleet launches within this. A later raise would launch only after this instance's death.
const TOO_LATE: Duration = Duration::from_secs(8);

#[derive(Clone)]
pub(super) struct AskCapacity {
    kind: FleetKind,
    fleet_id: String,
    stage: Stage,
    attempts: Attempts,
    base: Option<i32>,
    /// A base, and its Spot part if the request names one.
    base_spot: (i32, Option<i32>),
    /// The fleet, as it was last read.
    fleet: Option<Fleet>,
    count: Count,
    /// A count from this instant on includes all that were noticed with this instance or before it. Those that are
    /// noticed later count this instance.
    sees_all_from: BootInstant,
    raise: Raise,
    /// The fleet's capacity was raised for us, whoever wrote it.
    is_raised: bool,
    writes: Writes,
    deaths: Deaths,
    /// The fleet terminated what exceeded its target before it was raised, and is to do so again.
    terminates_excess: bool,
    operator: Operator,
    /// The fleet has more than its target: nobody is launched in the place of those that leave.
    has_spare: bool,
    too_late: bool,
    /// The raise was reported.
    told: bool,
    fulfilled: bool,
    /// The instant at which the base was put back last. From then on the last read counts.
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
    /// The highest total that this process has noted in the tag, until it has noted that the base is back.
    noted: i32,
    /// A raise that was not answered may land until this instant.
    may_land_until: Option<BootInstant>,
    /// The number of writes that failed in a row, however often the fleet was read between them.
    failed: u32,
    /// The last failure of a call that a raise needs, until that call succeeds.
    trouble: Option<(Stage, Failure)>,
}

/// The instances that the fleet has launched for this handover and lost.
#[derive(Clone, Default)]
struct Deaths {
    /// The instances that the fleet launched since our notice and that are dead, each with its reason.
    dead: BTreeMap<InstanceId, Option<StateReason>>,
    given_up: Option<String>,
    /// The capacity that the fleet has reached: base and units under notice.
    expected: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Read,
    /// Reads after a refused write: the fleet's state tells why.
    Refused,
    Count,
    Tag,
    Raise,
    /// Reads after a raise, and waits for the fleet.
    Await,
    PutBack,
    /// Puts the base back until another victim has gone.
    StandBack,
    /// Takes the tag off, because nothing was raised.
    Untag,
    /// Reads which of the fleet's instances are dead, and why: the fleet has less than it was raised for.
    Deaths,
    /// Notes a raise of ours again.
    Note,
    /// Notes that the base is back.
    NoteBack,
    /// Takes off what the raise has left, if that ends nobody: the capacity is somebody else's now.
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
            told: false,
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

    /// Returns the call that sets this total. The policy is named only if the fleet terminates its excess.
    fn modify(&mut self, total: i32) -> Option<Call> {
        let raised = total - self.base?;
        // Only the part (Spot or on demand) that a member counts in is raised for it.
        let spot = self.base_spot.1.map(|spot| spot + raised - self.count.on_demand.min(raised));
        let change = self.fleet.as_ref()?.with_total(total, spot);
        let excess = self.terminates_excess.then_some(ExcessCapacity::Stays);
        self.writes.under_way = Some(total);
        let (kind, fleet_id) = (self.kind, self.fleet_id.clone());
        Some(Call::ModifyFleet { kind, fleet_id, total, spot: change.spot, unit: change.unit, excess })
    }

    fn go_on(&mut self, at: BootInstant, stage: Stage) {
        self.stage = stage;
        self.attempts.succeeded(at);
        if matches!(stage, Stage::Done | Stage::Gone) {
            self.attempts.end();
        }
    }
}

impl Duty<HandingOver> for AskCapacity {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        let now = situation.now;
        // Before this instance goes the base is put back, reached or not: else its death is replaced a second time.
        let is_back = matches!(self.stage, Stage::PutBack | Stage::Refused | Stage::Tidy | Stage::Done | Stage::Gone)
            || self.operator.is_suspected();
        let last_chance = situation.reserve_reached() && !is_back;
        if last_chance && self.may_be_raised(situation.incident) && !self.attempts.in_flight {
            (self.stage, self.writes.may_land_until) = (Stage::PutBack, None);
            self.attempts.next = now.min(self.attempts.next);
        }
        let another_goes = self.count.another_goes_at.is_some_and(|goes_at| is_about_to_go(goes_at, now));
        let raised = self.stage == Stage::Await || (self.stage == Stage::Raise && self.raise.is_begun());
        if raised && another_goes && !self.attempts.in_flight {
            self.stage = Stage::StandBack;
            self.attempts.next = now;
        }
        // A raise would be too late to be fulfilled, and would only have to be put back. The fleet replaces after
        // death, so nothing is counted again either.
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
                // Before that perhaps nobody has counted this instance.
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
            Stage::Tag | Stage::Note | Stage::NoteBack => {
                let base = self.base?;
                // The note is never below what another victim has noted already.
                let raised = self.count.wanted.unwrap_or(base).max(self.noted(base, |tag| tag.raised));
                self.writes.noted = self.writes.noted.max(raised);
                let value = self.noting(base, raised).to_string();
                Some(Call::TagFleet { fleet_id, key: BASE_CAPACITY_TAG.to_owned(), value })
            }
            Stage::Raise => {
                let wanted = self.count.wanted?;
                self.raise = if self.raise.may_have_been_done() { Raise::Stands } else { Raise::Begun };
                self.writes.noted = self.writes.noted.max(wanted);
                // An earlier raise was put back, and this one has to be put back too.
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
                let (deaths, has_launched) = self.newly_dead(incident, instances);
                if !deaths.is_empty() {
                    self.after_deaths(now);
                    return Ok(News::Watched(deaths));
                }
                self.finds_nobody_dead(now, has_launched);
            }
            (Stage::Note, Answer::Accepted) => self.wait(now),
            // Without the note somebody else's number may look like a raise. A failed note holds nothing up.
            (Stage::NoteBack, answer) => {
                self.writes.noted = if answer == Answer::Accepted { 0 } else { self.writes.noted };
                self.go_on(now, Stage::Done);
            }
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
                    self.failed(now, stage, failure);
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
