//! Counting a fleet's members: which of them it replaces by itself, and when another victim goes. No calls, no state.

use std::time::Duration;

use jiff::Timestamp;

use super::ABOUT_TO_GO;
use crate::core::handover::situation::Situation;
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, Fleet, FleetMember};
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::{goes_at, is_under_notice, member_hundredths, noticed_at};

/// The time that AWS leaves by its own date. A handover goes on trying for some seconds after it.
pub(super) fn announced_left(situation: &Situation<'_>) -> Duration {
    let left = situation.incident.deadline.since(situation.now);
    let announced = situation.incident.time.map(|time| time.duration_since(situation.incident.time_of(situation.now)));
    announced.map_or(left, |announced| Duration::try_from(announced).unwrap_or_default().min(left))
}

/// The units that the fleet replaces, or has replaced, without being asked: what it has too little of, and its members
/// that are younger than our notice.
pub(super) fn replaced(fleet: &Fleet, members: &[FleetMember], incident: &Incident, now: BootInstant) -> i32 {
    let (young, _) = by_age(fleet, members, incident, now);
    (young / 100).saturating_add((fleet.capacity.total - fleet.capacity.fulfilled).max(0))
}

/// The units of living members that no notice takes, this instance not among them.
pub(in crate::core::handover) fn staying_units(
    fleet: &Fleet,
    members: &[FleetMember],
    incident: &Incident,
    now: BootInstant,
) -> i32 {
    let stays = |member: &&FleetMember| {
        let lives = member.instance.as_ref().is_none_or(|instance| instance.state.is_alive());
        let is_ours = member.instance_id == incident.id.instance_id;
        lives && !is_ours && !is_under_notice(member, incident.time_of(now))
    };
    let hundredths = members.iter().filter(stays).map(|member| member_hundredths(fleet, member));
    i32::try_from(hundredths.sum::<u32>() / 100).unwrap_or(i32::MAX)
}

/// The units of members that were launched since the first notice of all that go.
pub(super) fn young(fleet: &Fleet, members: &[FleetMember], incident: &Incident, now: BootInstant) -> i32 {
    by_age(fleet, members, incident, now).0 / 100
}

/// The units of members from before the notices that live and that the fleet counts no more.
pub(super) fn dropped(fleet: &Fleet, members: &[FleetMember], incident: &Incident, now: BootInstant) -> i32 {
    let (_, old) = by_age(fleet, members, incident, now);
    (old / 100 - fleet.capacity.fulfilled).max(0)
}

/// AWS's time of our own notice, where this instance's Spot request tells it: the notice's time less two minutes is a guess.
pub(in crate::core::handover) fn noticed_by_request(members: &[FleetMember], incident: &Incident) -> Option<Timestamp> {
    members.iter().find(|member| member.instance_id == incident.id.instance_id)?.taken_since
}

/// The hundredths of units of the living members: those launched since the first notice of all that go, and the others.
fn by_age(fleet: &Fleet, members: &[FleetMember], incident: &Incident, now: BootInstant) -> (i32, i32) {
    let is_going = |member: &FleetMember| is_under_notice(member, incident.time_of(now));
    let ours = noticed_by_request(members, incident).or(incident.time.map(|time| time - TWO_MINUTES));
    let ours = ours.or(incident.start.successors_since);
    let is_other = |member: &&FleetMember| member.instance_id != incident.id.instance_id && is_going(member);
    let of_others = members.iter().filter(is_other).filter_map(noticed_at);
    let noticed = ours.into_iter().chain(of_others).min();
    let (mut young, mut old) = (0_i32, 0_i32);
    for member in members {
        let Some(instance) = member.instance.as_ref().filter(|instance| instance.state.is_alive()) else { continue };
        let is_young = instance.launch_time.zip(noticed).is_some_and(|(at, since)| at >= since) && !is_going(member);
        let weight = i32::try_from(member_hundredths(fleet, member)).unwrap_or(i32::MAX);
        let units = if is_young { &mut young } else { &mut old };
        *units = units.saturating_add(weight);
    }
    (young, old)
}

pub(super) fn is_about_to_go(member: &FleetMember, incident: &Incident, now: BootInstant) -> bool {
    another_goes_at(member, incident, now).is_some_and(|goes_at| goes_at.since(now) < ABOUT_TO_GO)
}

/// When another victim goes: two minutes after its notice, which AWS's clock dates.
pub(super) fn another_goes_at(member: &FleetMember, incident: &Incident, now: BootInstant) -> Option<BootInstant> {
    let is_other = member.instance_id != incident.id.instance_id;
    let is_victim = is_other && is_under_notice(member, incident.time_of(now));
    goes_at(member).filter(|_| is_victim).map(|goes_at| incident.instant_of(goes_at))
}
