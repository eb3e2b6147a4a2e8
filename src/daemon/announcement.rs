//! The announcement of a milestone, from the life that reached it.

use jiff::{Timestamp, Unit};

use super::publish;
use crate::core::life::Life;
use crate::core::model::{Milestone, MilestoneKind, Signal};
use crate::telemetry::webhook::Announcement;

/// Makes the announcement of a milestone. `now` is AWS's time.
pub(super) fn announcement(milestone: &Milestone, life: &Life, now: Timestamp) -> Announcement {
    let identity = life.identity().clone();
    let record = publish::about(milestone, life);
    let plan = record.and_then(|record| record.plan.as_ref());
    let outcome = record.and_then(|record| record.outcome.as_ref());
    let outcome = outcome.filter(|_| milestone.milestone == MilestoneKind::HandedOver);
    let computed = || milestone.left.and_then(|left| now.checked_add(left).ok());
    let deadline = record.and_then(|record| record.time).filter(|_| milestone.left.is_some()).or_else(computed);
    let is_recommended = milestone.milestone == MilestoneKind::Recommended;
    let signal = record.map(|record| record.signal).or(is_recommended.then_some(Signal::RebalanceRecommendation));
    let in_words = |time: Timestamp| time.round(Unit::Millisecond).unwrap_or(time).to_string();
    Announcement {
        milestone: milestone.milestone.as_str().to_owned(),
        message: milestone.message.clone(),
        at: in_words(now),
        instance_id: identity.instance_id.to_string(),
        instance_type: identity.instance_type,
        availability_zone: identity.availability_zone,
        region: identity.region,
        account_id: identity.account_id,
        signal: signal.map(|signal| signal.as_str().to_owned()),
        action: record.and_then(|record| record.id.action).map(|action| action.to_string()),
        deadline: deadline.map(in_words),
        seconds_left: milestone.left.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0),
        owner: plan.and_then(|plan| plan.owner_id().map(str::to_owned)),
        owner_kind: plan.map(|plan| plan.owner_kind().to_owned()),
        target_group: milestone.target_group.as_ref().map(ToString::to_string),
        successor_id: milestone.successor_id.as_ref().map(ToString::to_string),
        outcome: outcome.map(|it| it.as_str().to_owned()),
        earlier: Vec::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
