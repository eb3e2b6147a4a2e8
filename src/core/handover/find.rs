//! The duty to find the instances that the owner launched to replace this instance and the others that go with it. It
//! only reads, seldom and with growing pauses.
//!
//! Nobody can tell whose successor an instance is. So a victim looks on until there are as many successors as victims.

mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

pub(super) use super::among::Among;
use super::among::{INSTANCES_A_CALL, is_successor, is_young};
use super::capacity::{Units, noticed_by_request, requests_may_be_told};
use super::course::{Found, HandingOver, News, Situation};
use super::crowd::{Bucket, CALLS_A_FLEET_LOOK};
use super::group::{membership, ours};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::{Earlier, Incident};
use crate::core::model::{
    BootInstant, Fleet, FleetMember, FleetState, GroupMember, GroupState, Instance, InstanceId, Membership,
};
use crate::core::plan::{FleetRequest, LEAVING_TAG, is_under_notice, member_hundredths, noticed_at, weight_hundredths};
use crate::core::retry::{Precedence, growing};

/// The pauses between two looks.
const PAUSES: [u64; 4] = [1, 2, 4, 6];
/// The first look for a launch in doubt begins this early, because another way to launch waits for the result.
const FIRST_LOOK_IN_DOUBT_AFTER: Duration = Duration::from_secs(1);
/// The first look begins after this time. The owner launches at once, but the instance takes longer to run. Until then
/// the bucket is left to victims that still ask for their successors.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(5);
/// A count of the fleet is answered within this, and mostly shows the successors already.
const AFTER_A_COUNT: Duration = Duration::from_secs(1);
/// A launch in doubt counts as not made after this time, because EC2 may show a new instance that late. In the reserve
/// the search goes on to the end.
const LOOKED_FOR_IN_DOUBT: Duration = Duration::from_secs(60);
/// The same for a group: it lists new members itself, however late EC2 shows them. LaunchInstances takes seconds.
const LOOKED_FOR_IN_A_GROUP: Duration = Duration::from_secs(8);
/// The search goes on this long, at these intervals, if only tags (which may lag) tell victims from members that stay,
/// and nobody but us registers the successors.
const LOOKS_ON_FOR: Duration = Duration::from_secs(75);
const LOOKS_ON_EVERY: Duration = Duration::from_secs(15);
/// A victim's own daemon has made the owner launch within this, or up to twice as long.
const REPLACED_WITHIN: Duration = Duration::from_secs(12);
/// A successor may show a launch time this long before its victim's notice, because AWS's clocks and ours differ.
const SLACK: Duration = Duration::from_secs(30);

pub(super) struct Find {
    among: Among,
    /// Instances that can be no successors.
    ignored: BTreeSet<InstanceId>,
    /// The successors handed out, with their weights in hundredths.
    found: BTreeMap<InstanceId, u64>,
    /// The members seen under notice, and this instance, with their weights in hundredths.
    victims: BTreeMap<InstanceId, u64>,
    /// The instant at which the last victim showed.
    last_victim_at: BootInstant,
    /// Members that bear the tag of an instance that is leaving.
    leaving: BTreeSet<InstanceId>,
    /// The earliest notice of a victim, by AWS's clock.
    first_notice: Option<Timestamp>,
    /// The time of our own notice, if this instance's Spot request tells it.
    our_notice: Option<Timestamp>,
    stage: Stage,
    attempts: Attempts,
    first_look_at: BootInstant,
    looks: usize,
    /// The instant since which a launch is in doubt.
    doubt_since: Option<BootInstant>,
    /// The time after which a launch in doubt counts as not made, judged by the last look.
    doubted_for: Duration,
    reserve_reached: bool,
    /// The owner is known to launch still.
    pub(super) owner_launches: bool,
    /// The units that the fleet is to have once all victims are gone.
    pub(super) size: Option<i32>,
    /// The group's capacity counts both this instance and its successor, until this instance leaves.
    pub(super) makes_room: bool,
    /// Members that have ended, though their group lists them until it notices.
    dead: BTreeSet<InstanceId>,
    /// Successors that another duty's look has shown, and that are to be handed out.
    pub(super) overheard: Option<Found>,
    /// Every victim has its successor.
    done: bool,
    begun_at: BootInstant,
    /// The members' tags may lag, and we have to register their successors: see [`LOOKS_ON_FOR`].
    looks_on: bool,
}

enum Stage {
    /// The fleet launches by itself: does it still exist?
    Owner,
    Members,
    Describe {
        current: GroupState,
        left: Vec<InstanceId>,
        described: Vec<Instance>,
    },
}

impl Find {
    /// `attempts` are due now.
    pub(super) fn new(among: Among, incident: &Incident, mut attempts: Attempts) -> Find {
        let now = attempts.next;
        // A successor that the previous process asked for may be there already, and time may be short.
        let is_restart = incident.start.earlier == Earlier::Restart;
        attempts.next = now + if is_restart { FIRST_LOOK_IN_DOUBT_AFTER } else { FIRST_LOOK_AFTER };
        let identity = &incident.start.identity;
        let stage = match &among {
            Among::Fleet { how: FleetRequest::Observe, .. } => Stage::Owner,
            Among::Fleet { .. } | Among::Group { .. } | Among::Tagged => Stage::Members,
        };
        let (mut ignored, mut weight) = (incident.successors_before.clone(), 0);
        match &among {
            Among::Group { known, .. } => ignored.extend(known.iter().cloned()),
            Among::Fleet { fleet, .. } => weight = weight_hundredths(fleet, &identity.instance_type),
            Among::Tagged => {}
        }
        Find {
            among,
            ignored,
            found: BTreeMap::new(),
            victims: BTreeMap::from([(identity.instance_id.clone(), weight)]),
            last_victim_at: now,
            leaving: BTreeSet::new(),
            first_notice: None,
            our_notice: None,
            stage,
            first_look_at: attempts.next,
            attempts: attempts.with(Precedence::Last),
            looks: 0,
            doubt_since: None,
            doubted_for: LOOKED_FOR_IN_DOUBT,
            reserve_reached: false,
            owner_launches: false,
            size: None,
            makes_room: false,
            dead: BTreeSet::new(),
            overheard: None,
            done: false,
            begun_at: now,
            looks_on: false,
        }
    }

    pub(super) fn in_doubt(self, since: BootInstant) -> Find {
        let mut attempts = self.attempts;
        attempts.next = attempts.next - (FIRST_LOOK_AFTER - FIRST_LOOK_IN_DOUBT_AFTER);
        Find { doubt_since: self.doubt_since.or(Some(since)), attempts, ..self }
    }

    /// Waits for the next `count` of the duty that asks the owner, which shows the same members.
    pub(super) fn after(mut self, count: Option<BootInstant>) -> Find {
        count.iter().for_each(|at| self.attempts.postpone(*at + AFTER_A_COUNT));
        self
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt_since.is_some()
    }

    /// Tells whether as many successors as victims are found.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Tells whether the search goes on though all known successors are found.
    pub(super) fn looks_on(&self, now: BootInstant) -> bool {
        self.looks_on && self.done && !self.reserve_reached && now < self.begun_at + LOOKS_ON_FOR
    }

    fn group_shown(&mut self, now: BootInstant, incident: &Incident, current: GroupState) -> Found {
        let Among::Group { rebalances, .. } = &self.among else { return self.look_again(now) };
        let members = || staying(&current, incident).map(|member| &member.instance_id);
        let is_new = |id: &&InstanceId| !self.ignored.contains(*id) && !self.found.contains_key(*id);
        let left: Vec<InstanceId> = match members().any(|id| is_new(&id)) {
            // Only tags tell victims from the other members.
            true if *rebalances => members().cloned().collect(),
            true => members().filter(is_new).cloned().collect(),
            false => return self.group_described(now, incident, &current, Vec::new()),
        };
        self.stage = Stage::Describe { current, left, described: Vec::new() };
        self.attempts.succeeded(now);
        Found::NotYet
    }

    fn described(&mut self, now: BootInstant, incident: &Incident, instances: Vec<Instance>) -> Found {
        let stage = std::mem::replace(&mut self.stage, Stage::Members);
        let Stage::Describe { current, mut left, mut described } = stage else { return self.look_again(now) };
        left.drain(..left.len().min(INSTANCES_A_CALL));
        described.extend(instances);
        if left.is_empty() {
            return self.group_described(now, incident, &current, described);
        }
        self.stage = Stage::Describe { current, left, described };
        self.attempts.succeeded(now);
        Found::NotYet
    }

    /// Compares sizes: a group has launched for every victim once it is complete without the victims.
    fn group_described(
        &mut self,
        now: BootInstant,
        incident: &Incident,
        current: &GroupState,
        described: Vec<Instance>,
    ) -> Found {
        let Among::Group { desired_before, rebalances, .. } = self.among else {
            return self.look_again(now);
        };
        let tagged = described.iter().filter(|instance| instance.tags.contains_key(LEAVING_TAG));
        self.leaving.extend(tagged.map(|instance| instance.instance_id.clone()));
        let since = incident.start.successors_since;
        let is_old = |it: &&Instance| !is_young(it, since) && !self.among.misdates(it, incident);
        let old: Vec<InstanceId> = described.iter().filter(is_old).map(|it| it.instance_id.clone()).collect();
        self.ignored.extend(old);
        let ended = described.iter().filter(|instance| !instance.state.is_alive());
        self.dead.extend(ended.map(|instance| instance.instance_id.clone()));
        let told_of: BTreeSet<InstanceId> = described.iter().map(|instance| instance.instance_id.clone()).collect();
        // Our launch would have raised the desired capacity, so a new member is somebody else's.
        let is_others = self.is_in_doubt() && desired_before.is_some_and(|before| current.desired_capacity <= before);
        let new = described.into_iter().filter(|instance| !is_others && self.is_successor(instance, incident));
        let new: Vec<(Instance, u64)> = new.map(|instance| (instance, 0)).collect();
        let is_known =
            |id: &InstanceId| self.ignored.contains(id) || self.found.contains_key(id) || told_of.contains(id);
        let all_known = staying(current, incident).all(|member| is_known(&member.instance_id));
        self.doubted_for = if all_known { LOOKED_FOR_IN_A_GROUP } else { LOOKED_FOR_IN_DOUBT };
        let membership = membership(&current.members, incident);
        let (short, lacked) = self.shortage(current, incident);
        let launches_nobody = rebalances && !current.capacity_rebalance && membership == Membership::Detachable;
        if launches_nobody && short > 0 && self.found.is_empty() {
            self.look_again(now);
            return Found::HasToBeAsked;
        }
        // A group replaces only members that it holds, and this instance may have another owner by now.
        let is_outside = rebalances && ours(&current.members, incident).is_none();
        if is_outside && new.is_empty() && self.found.is_empty() && !incident.start.is_resumed() {
            self.look_again(now);
            return Found::OwnerIsGone;
        }
        // A member that EC2 does not show yet may be a successor.
        self.hand_out(now, new, short > lacked || !all_known)
    }

    /// Returns the units that the group lacks without the victims, and how many it lacked before the notice already.
    fn shortage(&self, current: &GroupState, incident: &Incident) -> (i32, i32) {
        let Among::Group { known, desired_before, lacked, .. } = &self.among else { return (0, 0) };
        let goes = |id: &InstanceId| self.leaving.contains(id) || self.dead.contains(id);
        let stay = staying(current, incident).filter(|member| !goes(&member.instance_id));
        let has_room = (self.makes_room || incident.is_replaced())
            && membership(&current.members, incident) != Membership::Leaving;
        let our_room = ours(&current.members, incident).map_or(1, GroupMember::units);
        let wanted = current.desired_capacity - if has_room { our_room } else { 0 };
        // Members that came between the look-up and the notice are old, and not in the plan.
        let is_between = |id: &InstanceId| self.ignored.contains(id) && !known.contains(id) && !self.dead.contains(id);
        let came = staying(current, incident).filter(|member| is_between(&member.instance_id));
        let lowered = desired_before.map_or(0, |before| (before - wanted).max(0));
        let filled = came.map(GroupMember::units).sum::<i32>() + lowered;
        (wanted - stay.map(GroupMember::units).sum::<i32>(), (lacked - filled).max(0))
    }

    fn owner_shown(&mut self, now: BootInstant, fleet: Option<&Fleet>) -> Found {
        self.size = fleet.map(|fleet| fleet.capacity.total);
        match fleet.map(|fleet| &fleet.state) {
            Some(FleetState::Active | FleetState::Modifying) => self.owner_is_there(now),
            Some(FleetState::Ended(_)) | None => {
                self.attempts.end();
                Found::OwnerIsGone
            }
        }
    }

    fn owner_is_there(&mut self, now: BootInstant) -> Found {
        self.stage = Stage::Members;
        self.attempts.succeeded(now);
        Found::NotYet
    }

    fn fleet_shown(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) -> Found {
        let Among::Fleet { fleet, .. } = &self.among else { return self.look_again(now) };
        let aws_now = incident.time_of(now);
        let weight = |member: &FleetMember| member_hundredths(fleet, member);
        let (going, staying): (Vec<&FleetMember>, Vec<&FleetMember>) =
            members.iter().partition(|member| is_under_notice(member, aws_now));
        let before = self.victims.len();
        self.victims.extend(going.iter().map(|member| (member.instance_id.clone(), weight(member))));
        if self.victims.len() > before {
            self.last_victim_at = now;
        }
        let notices = going.iter().filter_map(|member| noticed_at(member));
        self.first_notice = self.first_notice.into_iter().chain(notices).min();
        self.our_notice = noticed_by_request(members, incident).or(self.our_notice);
        let new = staying.iter().filter_map(|member| Some((member.instance.clone()?, weight(member))));
        let new: Vec<(Instance, u64)> = new.filter(|(instance, _)| self.is_successor(instance, incident)).collect();
        let found: u64 = self.found.values().chain(new.iter().map(|(_, weight)| weight)).sum();
        let lost: u64 = self.victims.values().sum();
        // A victim that was replaced earlier needs no other successor, even if its successor is itself leaving.
        let is_full = self.size.is_some_and(|size| Units::of(fleet, members, incident, now).staying >= size);
        self.hand_out(now, new, self.owner_launches || (found < lost && !is_full))
    }

    /// Takes the count of the duty that asks the fleet. A successor that it shows need not be looked for.
    pub(super) fn overhear(&mut self, now: BootInstant, incident: &Incident, members: &[FleetMember]) {
        if self.done || self.attempts.in_flight {
            return;
        }
        let next = (self.attempts.clone(), self.looks);
        match self.fleet_shown(now, incident, members) {
            Found::Successors(instances) => self.overheard = Some(Found::Successors(instances)),
            _ => (self.attempts, self.looks) = next,
        }
    }

    /// Tells whether the instance lives, does not leave (AutoSpotting#327), came after the first signal, and is new.
    fn is_successor(&self, instance: &Instance, incident: &Incident) -> bool {
        let since = match (self.our_notice, self.first_notice) {
            // These times and the launch time are all by AWS's own clock.
            (Some(ours), first) if incident.begun_by_notice => Some(first.map_or(ours, |first| first.min(ours))),
            (_, Some(notice)) => incident.start.successors_since.map(|since| since.min(notice - SLACK)),
            (_, None) => incident.start.successors_since,
        };
        let id = &instance.instance_id;
        is_successor(instance, since.filter(|_| !self.among.misdates(instance, incident)))
            && *id != incident.id.instance_id
            && !self.ignored.contains(id)
            && !self.found.contains_key(id)
    }

    fn hand_out(&mut self, now: BootInstant, new: Vec<(Instance, u64)>, more: bool) -> Found {
        self.found.extend(new.iter().map(|(instance, weight)| (instance.instance_id.clone(), *weight)));
        self.done = !self.found.is_empty() && (self.is_in_doubt() || !more);
        let nothing = self.look_again(now);
        if new.is_empty() {
            nothing
        } else {
            Found::Successors(new.into_iter().map(|(instance, _)| instance).collect())
        }
    }

    fn look_again(&mut self, now: BootInstant) -> Found {
        let pause = growing(&PAUSES, self.looks);
        self.looks += 1;
        self.attempts.succeeded(now + if self.looks_on(now) { LOOKS_ON_EVERY } else { pause });
        let looked_for = self.doubt_since.map(|since| now.since(since));
        let is_enough = looked_for.is_some_and(|looked_for| looked_for >= self.doubted_for);
        if is_enough && !self.reserve_reached { Found::Nothing } else { Found::NotYet }
    }
}

impl Duty<HandingOver> for Find {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        self.reserve_reached = situation.reserve_reached();
        self.looks_on = match &self.among {
            // In target groups other than the group's own, we have to register its successors.
            Among::Group { rebalances: true, .. } => situation.registers_somewhere,
            _ => false,
        };
        situation.crowd.bring_forward(&mut self.attempts);
        if matches!(self.stage, Stage::Members) && !self.is_in_doubt() {
            let bucket = match self.among {
                Among::Group { .. } => Bucket::AUTO_SCALING,
                Among::Fleet { .. } => Bucket::EC2_LOOKS.of_looks(CALLS_A_FLEET_LOOK),
                Among::Tagged => Bucket::EC2_LOOKS,
            };
            let from = match self.among {
                Among::Group { .. } => self.first_look_at.max(situation.crowd.are_through_at(bucket)),
                Among::Fleet { .. } | Among::Tagged => self.first_look_at,
            };
            situation.crowd.spread_first(&mut self.attempts, from, bucket);
            situation.crowd.space_out(&mut self.attempts, bucket);
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let too_late = self.reserve_reached && !self.found.is_empty();
        match (&self.stage, &self.among) {
            _ if (self.done && !self.looks_on(situation.now)) || too_late => None,
            (Stage::Describe { left, .. }, _) => {
                Some(Call::DescribeInstances { instance_ids: left.iter().take(INSTANCES_A_CALL).cloned().collect() })
            }
            (Stage::Members, Among::Group { name, .. }) => Some(Call::DescribeAutoScalingGroup { group: name.clone() }),
            (Stage::Owner, Among::Fleet { kind, fleet, .. }) => {
                Some(Call::DescribeFleet { kind: *kind, fleet_id: fleet.id.clone() })
            }
            (Stage::Owner, _) => None,
            (Stage::Members, Among::Fleet { kind, fleet, .. }) => {
                Some(Call::DescribeFleetMembers { kind: *kind, fleet_id: fleet.id.clone(), unit: fleet.unit })
            }
            (Stage::Members, Among::Tagged) => {
                Some(Call::DescribeSuccessorsByTag(situation.incident.id.instance_id.clone()))
            }
        }
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let (now, incident) = (situation.now, &*situation.incident);
        let found = match (answer, &self.among) {
            (Answer::Instances(instances), Among::Tagged) => {
                let new = instances.into_iter().filter(|instance| self.is_successor(instance, incident));
                self.hand_out(now, new.map(|instance| (instance, 0)).collect(), false)
            }
            (Answer::Instances(instances), Among::Group { .. }) => self.described(now, incident, instances),
            (Answer::GroupState(Some(current)), Among::Group { .. }) => self.group_shown(now, incident, current),
            (Answer::Fleet(fleet), Among::Fleet { .. }) => self.owner_shown(now, fleet.as_deref()),
            // Even if the fleet does not answer, its members still show the successor.
            (Answer::Failed(_), Among::Fleet { .. }) if matches!(self.stage, Stage::Owner) => self.owner_is_there(now),
            // Tags may show late, and then a victim looks like a member that stays. So tags alone end the search only
            // once the Spot requests are known to be unreadable.
            (Answer::FleetMembersByMarks { failure, .. }, Among::Fleet { .. })
                if requests_may_be_told(&failure, self.attempts.failures) =>
            {
                return Err(Answer::Failed(failure));
            }
            (Answer::FleetMembers(members) | Answer::FleetMembersByMarks { members, .. }, Among::Fleet { .. }) => {
                self.fleet_shown(now, incident, &members)
            }
            (other, _) => return Err(other),
        };
        Ok(News::Found(found))
    }

    fn wake(&self, _: BootInstant) -> Option<BootInstant> {
        if self.done && !self.looks_on { None } else { self.attempts.wake() }
    }

    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        let what = match (&self.attempts.last_failure, self.found.len()) {
            (Some(_), _) => format!("which instance it is could not be found out: {}", self.attempts.trouble()),
            (None, 0) => "it has not shown yet".to_owned(),
            (None, found) => format!("{found} found, which is fewer than the members that leave"),
        };
        Some(DutyReport::new("successor", false, what))
    }
}

/// Returns the members that count for the group's size, without this instance.
fn staying<'a>(current: &'a GroupState, incident: &Incident) -> impl Iterator<Item = &'a GroupMember> {
    let ours = incident.id.instance_id.clone();
    current.members.iter().filter(move |member| member.instance_id != ours && member.holds_a_place())
}
