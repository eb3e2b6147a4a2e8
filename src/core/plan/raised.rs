//! The counted capacity of a `maintain` fleet: which members are under notice, what the tag on the fleet keeps, and what a
//! raise may leave behind (docs/aws.md 4).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::{BASE_CAPACITY_TAG, LEAVING_TAG};
use crate::core::model::{Fleet, FleetMember, Identity};
use crate::core::notice::TWO_MINUTES;

/// A Spot request that said longer ago that AWS takes its instance speaks of an interruption that is over.
const NOTICE_COUNTS: Duration = Duration::from_secs(180);

/// The value of [`BASE_CAPACITY_TAG`], `BASE..RAISED`: the capacity from before the first raise, and the highest that was
/// written since. A target outside of them was set by somebody else, and is the new base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaisedCapacity {
    pub base: i32,
    pub raised: i32,
}

impl RaisedCapacity {
    pub fn read(tags: &BTreeMap<String, String>) -> Option<RaisedCapacity> {
        let (base, raised) = tags.get(BASE_CAPACITY_TAG)?.split_once("..")?;
        Some(RaisedCapacity { base: base.parse().ok()?, raised: raised.parse().ok()? })
    }

    pub fn covers(self, total: i32) -> bool {
        (self.base..=self.raised).contains(&total)
    }
}

impl fmt::Display for RaisedCapacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.base, self.raised)
    }
}

/// Whether the member runs and is about to go: AWS takes it, or its own spot-relay has marked it.
pub fn is_under_notice(member: &FleetMember, now: Timestamp) -> bool {
    let lives = member.instance.as_ref().is_none_or(|instance| instance.state.is_alive());
    let counts = |since: Timestamp| now <= since + NOTICE_COUNTS;
    let is_taken = member.taken_since.is_some_and(counts);
    // A mark tells the deadline; one without a date stands as long as there is none.
    let is_marked = marked(member).is_some_and(|deadline| deadline.is_none_or(|at| counts(at - TWO_MINUTES)));
    lives && (is_taken || is_marked)
}

/// When the member goes, by AWS's clock; `None` where that is not known.
pub(crate) fn goes_at(member: &FleetMember) -> Option<Timestamp> {
    member.taken_since.map(|since| since + TWO_MINUTES).into_iter().chain(marked(member).flatten()).min()
}

/// When the member's notice came, by AWS's clock; `None` where that is not known.
pub(crate) fn noticed_at(member: &FleetMember) -> Option<Timestamp> {
    member.taken_since.or_else(|| Some(marked(member)?? - TWO_MINUTES))
}

/// The deadline that the member's mark tells, if it tells one.
fn marked(member: &FleetMember) -> Option<Option<Timestamp>> {
    let mark = member.instance.as_ref()?.tags.get(LEAVING_TAG)?;
    Some(mark.parse().ok())
}

/// The units of the members that are under notice, `ours` among them whether its Spot request says so yet or not.
pub fn units_under_notice(fleet: &Fleet, members: &[FleetMember], ours: &Identity, now: Timestamp) -> i32 {
    let is_other = |member: &&FleetMember| member.instance_id != ours.instance_id && is_under_notice(member, now);
    let types = members.iter().filter(is_other).map(|member| &member.instance_type).chain([&ours.instance_type]);
    let hundredths: u32 = types.map(|instance_type| weight_hundredths(fleet, instance_type)).sum();
    i32::try_from(hundredths.div_ceil(100)).unwrap_or(i32::MAX)
}

/// The units that one instance of this type counts for in the fleet.
pub(crate) fn weight_hundredths(fleet: &Fleet, instance_type: &str) -> u32 {
    let overrides = fleet.launch_configurations.iter().flat_map(|configuration| &configuration.overrides);
    overrides
        .filter(|pool| pool.instance_type.as_deref() == Some(instance_type))
        .find_map(|pool| pool.weight_hundredths)
        .unwrap_or(100)
}

/// What is left of raises whose victims are all gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// The capacity is still raised.
    Capacity(RaisedCapacity),
    TagOnly,
}

/// Whoever finds the tag and nobody under notice puts the base back and removes the tag (docs/aws.md 4).
pub fn leftover(fleet: &Fleet, members: &[FleetMember], now: Timestamp) -> Option<Leftover> {
    if !fleet.tags.contains_key(BASE_CAPACITY_TAG) || members.iter().any(|member| is_under_notice(member, now)) {
        return None;
    }
    match RaisedCapacity::read(&fleet.tags) {
        Some(capacity) if capacity.covers(fleet.capacity.total) && fleet.capacity.total > capacity.base => {
            Some(Leftover::Capacity(capacity))
        }
        _ => Some(Leftover::TagOnly),
    }
}
