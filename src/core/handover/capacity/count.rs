//! Counts a fleet's members: which of them it replaces by itself, and when another victim goes. It makes no calls.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::handover::course::Situation;
use crate::core::incident::Incident;
use crate::core::model::{BootInstant, Fleet, FleetMember, Instance};
use crate::core::notice::TWO_MINUTES;
use crate::core::plan::{
    goes_at, is_under_notice, member_hundredths, noticed_at, on_demand_under_notice, units, units_under_notice,
};
use crate::core::retry::Failure;

/// A victim that goes while the capacity is raised has its place filled twice. So with less time than this left to
/// another victim nothing is raised, and what is raised is put back until it has gone. Without a raise the fleet
/// replaces this instance after its death: later, but once.
pub(super) const ABOUT_TO_GO: Duration = Duration::from_secs(25);

/// The time that AWS leaves by its own date. A handover goes on trying for some seconds after that.
pub(super) fn announced_left(situation: &Situation<'_>) -> Duration {
    let left = situation.incident.deadline.since(situation.now);
    let announced = situation.incident.time.map(|time| time.duration_since(situation.incident.time_of(situation.now)));
    announced.map_or(left, |announced| Duration::try_from(announced).unwrap_or_default().min(left))
}

/// The last count.
#[derive(Clone, Default)]
pub(super) struct Count {
    pub(super) at: BootInstant,
    pub(super) others: Others,
    /// The instant at which the next other victim goes, while the raise may have to wait for that.
    pub(super) another_goes_at: Option<BootInstant>,
    /// The failure because of which only the tags of the other members tell whether they leave.
    pub(super) by_marks: Option<Failure>,
    /// The capacity to raise to: base and units under notice.
    pub(super) wanted: Option<i32>,
    /// The most units under notice that were counted, or heard of.
    pub(super) heard_of: i32,
    /// The number of members under notice, with this instance.
    pub(super) victims: usize,
    /// Units under notice that are on demand.
    pub(super) on_demand: i32,
    /// Units that the fleet replaces without being asked.
    pub(super) by_itself: i32,
    /// See [`Units::idle`].
    pub(super) idle: i32,
    /// The fleet's fulfilled capacity without the idle units.
    pub(super) fulfilled: i32,
    /// The instant since which the fleet's own number is high enough without a raise, though fewer members live.
    pub(super) doubted_since: Option<BootInstant>,
    /// The instant since which the fleet seems to need nobody.
    pub(super) spare_since: Option<BootInstant>,
}

/// The fate of the other members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Others {
    #[default]
    Stay,
    /// Some are under notice.
    Go,
    /// One of them goes within seconds: nothing is to be raised until it has gone.
    AboutToGo,
}

/// A fleet's members in units.
#[derive(Clone, Copy)]
pub(in crate::core::handover) struct Units {
    /// The units under notice, with this instance's.
    pub(super) going: i32,
    /// The number of those members.
    pub(super) victims: usize,
    /// The units under notice that are on demand.
    pub(super) on_demand: i32,
    /// The units that exceed the other part of the target, if all that leave are Spot or all are on demand. A fleet
    /// fills each part by itself, so they are not counted below.
    pub(super) idle: i32,
    /// The living units that no notice takes, without this instance's.
    pub(in crate::core::handover) staying: i32,
    /// The living units that were launched since the first notice of all victims.
    pub(super) young: i32,
    /// The other living units.
    pub(super) old: i32,
    /// All living units, rounded up.
    pub(super) living: i32,
}

impl Units {
    pub(in crate::core::handover) fn of(
        fleet: &Fleet,
        members: &[FleetMember],
        incident: &Incident,
        now: BootInstant,
    ) -> Units {
        let is_going = |member: &FleetMember| is_under_notice(member, incident.time_of(now));
        let is_other = |member: &FleetMember| member.instance_id != incident.id.instance_id;
        let ours = noticed_by_request(members, incident).or(incident.time.map(|time| time - TWO_MINUTES));
        let ours = ours.or(incident.start.successors_since);
        let of_others = members.iter().filter(|it| is_other(it) && is_going(it)).filter_map(noticed_at);
        let noticed = ours.into_iter().chain(of_others).min();
        let launched_since = |it: &Instance| it.launch_time.zip(noticed).is_some_and(|(at, since)| at >= since);
        let is_young = |it: &FleetMember| it.instance.as_ref().is_some_and(launched_since) && !is_going(it);
        let hundredths = |is: &dyn Fn(&FleetMember) -> bool| {
            let living = members.iter().filter(|member| member.lives() && is(member));
            living.map(|member| member_hundredths(fleet, member)).sum::<u64>()
        };
        let whole = |is: &dyn Fn(&FleetMember) -> bool| i32::try_from(hundredths(is) / 100).unwrap_or(i32::MAX);
        let going = units_under_notice(fleet, members, &incident.start.identity, incident.time_of(now));
        let on_demand = on_demand_under_notice(fleet, members, &incident.start.identity, incident.time_of(now));
        let idle = fleet.capacity.spot.filter(|_| on_demand == 0 || on_demand == going).map_or(0, |spot| {
            let is_spot = on_demand > 0;
            let target = if is_spot { spot } else { fleet.capacity.total - spot };
            let is_of_part = |it: &FleetMember| it.instance.as_ref().is_some_and(|it| it.is_on_demand != is_spot);
            (whole(&|it| is_other(it) && !is_going(it) && is_of_part(it)) - target).max(0)
        });
        Units {
            going,
            victims: members.iter().filter(|it| is_going(it)).count().max(1),
            on_demand,
            idle,
            staying: whole(&|it| is_other(it) && !is_going(it)) - idle,
            young: whole(&is_young),
            old: whole(&|it| it.instance.is_some() && !is_young(it)) - idle,
            living: units(hundredths(&|_| true)) - idle,
        }
    }

    /// Tells whether the members that EC2 shows fill the base without those that go, new ones among them. The fleet's
    /// own number may lag behind.
    pub(super) fn fill(self, base: i32) -> bool {
        self.young > 0 && self.old + self.young - self.going >= base
    }
}

/// AWS's time of our own notice, if our Spot request tells it: the notice's time less two minutes is a guess.
pub(in crate::core::handover) fn noticed_by_request(members: &[FleetMember], incident: &Incident) -> Option<Timestamp> {
    members.iter().find(|member| member.instance_id == incident.id.instance_id)?.taken_since
}

pub(super) fn is_about_to_go(goes_at: BootInstant, now: BootInstant) -> bool {
    goes_at.since(now) < ABOUT_TO_GO
}

/// The instant at which another victim goes: two minutes after its notice, which AWS's clock dates.
pub(super) fn another_goes_at(member: &FleetMember, incident: &Incident, now: BootInstant) -> Option<BootInstant> {
    let is_other = member.instance_id != incident.id.instance_id;
    let is_victim = is_other && is_under_notice(member, incident.time_of(now));
    goes_at(member).filter(|_| is_victim).map(|goes_at| incident.instant_of(goes_at))
}
