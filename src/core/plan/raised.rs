//! The counted capacity of a `maintain` fleet (docs/aws.md 4): which members are under notice, what the fleet's tag
//! keeps, and what a raise leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::launch_plan::{BASE_CAPACITY_TAG, LEAVING_TAG};
use crate::core::model::{
    CapacityUnit, ExcessCapacity, Fleet, FleetChange, FleetMember, FleetState, Identity, InstanceId, LifeCycle,
};
use crate::core::notice::TWO_MINUTES;

/// The time for which a Spot request's word that AWS takes its instance counts: later the interruption is over.
const NOTICE_COUNTS: Duration = Duration::from_secs(180);

/// The value of [`BASE_CAPACITY_TAG`], `BASE..RAISED`: the capacity before the first raise, and the highest one written
/// since. A target outside of this range was set by somebody else, and is the new base. Words follow. `termination`:
/// the fleet terminated what exceeded its target, and is to do so again. `spot-N`: the Spot part of the base, if a
/// member on demand goes; without it the whole raise is Spot. `back`: the base was put back and read back, and no
/// victim's write is under way, so a target above it is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedCapacity {
    pub base: i32,
    pub raised: i32,
    pub terminates_excess: bool,
    pub spot: Option<i32>,
    pub is_back: bool,
}

/// AWS's word for the policy that terminates excess capacity.
const TERMINATION: &str = "termination";
const SPOT: &str = "spot-";
const BACK: &str = "back";

impl RaisedCapacity {
    pub fn read(tags: &BTreeMap<String, String>) -> Option<RaisedCapacity> {
        let mut words = tags.get(BASE_CAPACITY_TAG)?.split_whitespace();
        let (base, raised) = words.next()?.split_once("..")?;
        let (base, raised) = (base.parse().ok()?, raised.parse().ok()?);
        let words: Vec<&str> = words.collect();
        let spot = words.iter().find_map(|word| word.strip_prefix(SPOT)?.parse().ok());
        let (terminates_excess, is_back) = (words.contains(&TERMINATION), words.contains(&BACK));
        Some(RaisedCapacity { base, raised, terminates_excess, spot, is_back })
    }

    /// The highest target that a victim may have written.
    pub fn highest(self) -> i32 {
        if self.is_back { self.base } else { self.raised }
    }

    pub fn covers(self, total: i32) -> bool {
        (self.base..=self.highest()).contains(&total)
    }
}

impl fmt::Display for RaisedCapacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = if self.terminates_excess { format!(" {TERMINATION}") } else { String::new() };
        let spot = self.spot.map(|spot| format!(" {SPOT}{spot}")).unwrap_or_default();
        let back = if self.is_back { format!(" {BACK}") } else { String::new() };
        write!(f, "{}..{}{policy}{spot}{back}", self.base, self.raised)
    }
}

/// The most tags that AWS allows on a resource, not counting its own.
const MOST_TAGS: usize = 50;

/// The sentence about a fleet with that many tags, which is not raised. A raise that nobody can put back after a crash
/// is worse than a late successor.
pub(crate) fn no_room_for_its_tag(fleet_id: &str) -> String {
    format!(
        "{fleet_id} bears {MOST_TAGS} tags, as many as AWS allows, so its capacity from before a raise cannot be noted on it: it \
         is not raised at a notice, and replaces this instance when it is gone; take a tag off it"
    )
}

/// The same sentence before a notice comes, if the fleet has no room for the tag.
pub(super) fn remark_on_its_tags(fleet: &Fleet) -> Option<String> {
    let tags = fleet.tags.keys().filter(|key| !key.starts_with("aws:"));
    let has_no_room = tags.count() >= MOST_TAGS && !fleet.tags.contains_key(BASE_CAPACITY_TAG);
    has_no_room.then(|| no_room_for_its_tag(&fleet.id))
}

/// Tells whether the member runs and is about to go: AWS takes it, or its own spot-relay has marked it.
pub fn is_under_notice(member: &FleetMember, now: Timestamp) -> bool {
    let counts = |since: Timestamp| now <= since + NOTICE_COUNTS;
    let is_taken = member.taken_since.is_some_and(counts);
    // A mark holds the deadline; one without a date counts as long as it is there.
    let is_marked = marked(member).is_some_and(|deadline| deadline.is_none_or(|at| counts(at - TWO_MINUTES)));
    member.lives() && (is_taken || is_marked)
}

/// The time at which the member goes, by AWS's clock; `None` where that is not known.
pub(crate) fn goes_at(member: &FleetMember) -> Option<Timestamp> {
    member.taken_since.map(|since| since + TWO_MINUTES).into_iter().chain(marked(member).flatten()).min()
}

/// The time of the member's notice, by AWS's clock; `None` where that is not known.
pub(crate) fn noticed_at(member: &FleetMember) -> Option<Timestamp> {
    member.taken_since.or_else(|| Some(marked(member)?? - TWO_MINUTES))
}

/// The deadline in the member's mark: `None` without a mark, `Some(None)` for a mark without a date.
fn marked(member: &FleetMember) -> Option<Option<Timestamp>> {
    let mark = member.instance.as_ref()?.tags.get(LEAVING_TAG)?;
    Some(mark.parse().ok())
}

/// The Spot part of the capacity from before a raise, where the request names one.
pub(crate) fn spot_of_base(fleet: &Fleet, base: i32) -> Option<i32> {
    let capacity = fleet.capacity;
    let tag = RaisedCapacity::read(&fleet.tags).filter(|tag| tag.base == base && tag.covers(capacity.total));
    let spot = capacity.spot?;
    Some(tag.and_then(|tag| tag.spot).unwrap_or(spot - (capacity.total - base)))
}

/// The units of the members under notice. `ours` always counts, even if its Spot request does not say so yet.
pub fn units_under_notice(fleet: &Fleet, members: &[FleetMember], ours: &Identity, now: Timestamp) -> i32 {
    going(fleet, members, ours, now, |_| true)
}

/// The on-demand part of [`units_under_notice`]: a fleet keeps each part of its capacity by itself.
pub(crate) fn on_demand_under_notice(fleet: &Fleet, members: &[FleetMember], ours: &Identity, now: Timestamp) -> i32 {
    going(fleet, members, ours, now, |is_on_demand| is_on_demand)
}

fn going(fleet: &Fleet, members: &[FleetMember], ours: &Identity, now: Timestamp, counts: fn(bool) -> bool) -> i32 {
    let is_on_demand = |member: &FleetMember| member.instance.as_ref().is_some_and(|instance| instance.is_on_demand);
    let is_other = |member: &&FleetMember| {
        member.instance_id != ours.instance_id && is_under_notice(member, now) && counts(is_on_demand(member))
    };
    let us = members.iter().find(|member| member.instance_id == ours.instance_id);
    let our_weight =
        us.map_or_else(|| weight_hundredths(fleet, &ours.instance_type), |us| member_hundredths(fleet, us));
    let our_weight = if counts(ours.life_cycle == LifeCycle::OnDemand) { our_weight } else { 0 };
    let others = members.iter().filter(is_other).map(|member| member_hundredths(fleet, member));
    units(others.sum::<u64>() + our_weight)
}

/// Converts hundredths to units, rounded up.
pub(crate) fn units(hundredths: u64) -> i32 {
    i32::try_from(hundredths.div_ceil(100)).unwrap_or(i32::MAX)
}

/// The units that a member counts for: its weight, else its vCPUs or its memory if the fleet counts those. Unknown
/// memory counts as one MiB, for which the fleet launches one instance.
pub(crate) fn member_hundredths(fleet: &Fleet, member: &FleetMember) -> u64 {
    let by_itself = match fleet.unit {
        CapacityUnit::Instances => None,
        CapacityUnit::Vcpus => member.instance.as_ref().and_then(|instance| instance.vcpus),
        CapacityUnit::MemoryMib => member.memory_mib,
    };
    let by_itself = || u64::from(by_itself.unwrap_or(1)) * 100;
    given_weight(fleet, &member.instance_type).map_or_else(by_itself, u64::from)
}

/// The units that one instance of this type counts for in the fleet, as far as its type tells.
pub(crate) fn weight_hundredths(fleet: &Fleet, instance_type: &str) -> u64 {
    given_weight(fleet, instance_type).map_or(100, u64::from)
}

fn given_weight(fleet: &Fleet, instance_type: &str) -> Option<u32> {
    let overrides = || fleet.launch_configurations.iter().flat_map(|configuration| &configuration.overrides);
    let of_type = overrides().filter(|pool| pool.instance_type.as_deref() == Some(instance_type));
    // An override of the template's own type, or of types by attributes, names no type: its weight applies if no other
    // does.
    let of_no_type = overrides().filter(|pool| pool.instance_type.is_none()).filter_map(|pool| pool.weight_hundredths);
    let of_no_type: BTreeSet<u32> = of_no_type.collect();
    let sole = of_no_type.first().copied().filter(|_| of_no_type.len() == 1);
    let by_specification = fleet.specification_weights.get(instance_type).copied();
    let by_override = of_type.clone().find_map(|pool| pool.weight_hundredths);
    by_override.or(sole.filter(|_| of_type.count() == 0)).or(by_specification)
}

/// The remains of raises on a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    Nothing,
    /// Something is to be put right later: a member is under notice, or the fleet is being changed.
    Later,
    /// More units live than the target says: the policy from before the raise would terminate one of them.
    Surplus {
        living: i32,
        target: i32,
    },
    Now(PutRight),
}

/// The changes that put a fleet right; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutRight {
    /// The capacity to put back, if it is still raised.
    pub base: Option<i32>,
    /// The fleet is to terminate what exceeds its target again, as before.
    pub terminates_excess: bool,
    /// The tag can go: nothing is left to put right afterwards.
    pub untag: bool,
}

impl PutRight {
    /// The changes to the fleet, each with what it does, in a sentence.
    pub fn changes(&self, fleet: &Fleet) -> Vec<(FleetChange, String)> {
        let back = self.base.map(|base| {
            let words = format!("it was still raised for members that are gone: target capacity is back at {base}");
            (fleet.with_total(base, spot_of_base(fleet, base)), words)
        });
        let policy = self.terminates_excess.then(|| {
            let change = FleetChange { excess: Some(ExcessCapacity::Terminates), ..FleetChange::default() };
            (change, "it terminates excess capacity again, as it did before it was raised".to_owned())
        });
        back.into_iter().chain(policy).collect()
    }
}

/// Tells what to put right on a fleet that has the tag, and nobody under notice (docs/aws.md 4). The former policy
/// comes back once no more members live than the target says: else the fleet would terminate one of them.
pub fn leftover(fleet: &Fleet, members: &[FleetMember], now: Timestamp) -> Leftover {
    if !fleet.tags.contains_key(BASE_CAPACITY_TAG) {
        return Leftover::Nothing;
    }
    if members.iter().any(|member| is_under_notice(member, now)) || fleet.state == FleetState::Modifying {
        return Leftover::Later;
    }
    let Some(tag) = RaisedCapacity::read(&fleet.tags).filter(|_| fleet.state == FleetState::Active) else {
        return Leftover::Now(PutRight { base: None, terminates_excess: false, untag: true });
    };
    let total = fleet.capacity.total;
    let base = (tag.covers(total) && total > tag.base).then_some(tag.base);
    let has_policy_to_restore = tag.terminates_excess && fleet.excess == ExcessCapacity::Stays;
    let (living, target) = (living_units(fleet, members), base.unwrap_or(total));
    match (base, has_policy_to_restore && living > target) {
        (None, true) => Leftover::Surplus { living, target },
        (base, true) => Leftover::Now(PutRight { base, terminates_excess: false, untag: false }),
        (base, false) => Leftover::Now(PutRight { base, terminates_excess: has_policy_to_restore, untag: true }),
    }
}

/// Applies [`leftover`] to a member, `ours`, that was under notice and lives on; its Spot request still says so for
/// minutes. What another victim puts right, or nobody before members go, does not count.
pub fn leftover_of_survivor(
    fleet: &Fleet,
    mut members: Vec<FleetMember>,
    ours: &InstanceId,
    now: Timestamp,
) -> Leftover {
    let is_tagged = fleet.tags.contains_key(BASE_CAPACITY_TAG);
    if is_tagged && members.iter().any(|member| member.instance_id != *ours && is_under_notice(member, now)) {
        return Leftover::Nothing;
    }
    for member in members.iter_mut().filter(|member| member.instance_id == *ours) {
        member.taken_since = None;
        member.instance.iter_mut().for_each(|instance| drop(instance.tags.remove(LEAVING_TAG)));
    }
    match leftover(fleet, &members, now) {
        right @ Leftover::Now(_) => right,
        _ if fleet.state == FleetState::Modifying => Leftover::Later,
        Leftover::Nothing | Leftover::Later | Leftover::Surplus { .. } => Leftover::Nothing,
    }
}

/// The units that live, rounded up: a part of a unit exceeds a target too.
fn living_units(fleet: &Fleet, members: &[FleetMember]) -> i32 {
    let weights = members.iter().filter(|member| member.lives()).map(|member| member_hundredths(fleet, member));
    units(weights.sum()).max(fleet.capacity.fulfilled)
}
