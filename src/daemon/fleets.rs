//! Calls to the fleet that owns this instance, of either kind, and putting right what a raise of its capacity has left.

use std::time::Duration;

use crate::cloud::Aws;
use crate::core::handover::{Answer, CALL_LIMIT};
use crate::core::model::{ExcessCapacity, Fleet, FleetChange, FleetMember, FleetState, Identity, InstanceId};
use crate::core::plan::{BASE_CAPACITY_TAG, FleetKind, LEAVING_TAG, Leftover, PutRight, is_under_notice, leftover};
use crate::core::retry::Failure;

/// The state of a fleet that raises may have left something on.
pub(super) enum Tidied {
    Nothing,
    /// Something is left, to be looked at again soon.
    Later,
    /// A sentence for the log.
    Done(String),
}

/// Puts right what raises have left on the fleet, if nobody is under notice any more.
pub(super) async fn tidy(aws: &Aws, kind: FleetKind, fleet: &Fleet) -> Result<Tidied, Failure> {
    if !fleet.tags.contains_key(BASE_CAPACITY_TAG) {
        return Ok(Tidied::Nothing);
    }
    let members = fleet_members(aws, kind, &fleet.id, CALL_LIMIT).await?;
    Ok(match leftover(fleet, &members, aws.clock.now()) {
        Leftover::Nothing => Tidied::Nothing,
        Leftover::Later => Tidied::Later,
        Leftover::Now(right) => Tidied::Done(put_right(aws, kind, fleet, right).await?),
    })
}

async fn put_right(aws: &Aws, kind: FleetKind, fleet: &Fleet, right: PutRight) -> Result<String, Failure> {
    let mut done = Vec::new();
    if let Some(base) = right.base {
        let spot = fleet.capacity.spot.map(|spot| spot + base - fleet.capacity.total);
        let change = FleetChange { total: Some(base), spot, excess: None };
        modify_fleet(aws, kind, &fleet.id, change, CALL_LIMIT).await?;
        done.push(format!("it was still raised for members that are gone: target capacity is back at {base}"));
    }
    if right.terminates_excess {
        let change = FleetChange { excess: Some(ExcessCapacity::Terminates), ..FleetChange::default() };
        modify_fleet(aws, kind, &fleet.id, change, CALL_LIMIT).await?;
        done.push("it terminates excess capacity again, as it did before it was raised".to_owned());
    }
    if right.untag {
        aws.instances.delete_tags(&fleet.id, &[BASE_CAPACITY_TAG], CALL_LIMIT).await?;
        done.push(format!("removed the tag {BASE_CAPACITY_TAG}: nobody is under notice"));
    }
    Ok(format!("{}: {}", fleet.id, done.join("; ")))
}

/// Puts the capacity back, unless another member is under notice: then that member does.
pub(super) async fn put_capacity_back(
    aws: &Aws,
    identity: &Identity,
    kind: FleetKind,
    fleet_id: &str,
    limit: Duration,
) -> Result<Answer, Failure> {
    let Some(fleet) = describe_fleet(aws, kind, fleet_id, limit).await? else {
        return Ok(Answer::Capacity { is_back: true });
    };
    if !fleet.tags.contains_key(BASE_CAPACITY_TAG) {
        return Ok(Answer::Capacity { is_back: fleet.state != FleetState::Modifying });
    }
    let members = fleet_members(aws, kind, fleet_id, limit).await?;
    let now = aws.clock.now();
    let is_other = |member: &&FleetMember| member.instance_id != identity.instance_id;
    if members.iter().filter(is_other).any(|member| is_under_notice(member, now)) {
        return Ok(Answer::Capacity { is_back: true });
    }
    match leftover(&fleet, &without_notice(members, &identity.instance_id), now) {
        Leftover::Nothing => Ok(Answer::Capacity { is_back: true }),
        // At its base again, with more members than that: the policy is put back by whoever looks when it has fewer.
        Leftover::Later => Ok(Answer::Capacity { is_back: fleet.state != FleetState::Modifying }),
        Leftover::Now(right) => {
            put_right(aws, kind, &fleet, right).await?;
            // What was put right is looked at once more.
            Ok(Answer::Capacity { is_back: false })
        }
    }
}

/// This instance lives on, whatever its Spot request says for some minutes more.
fn without_notice(members: Vec<FleetMember>, ours: &InstanceId) -> Vec<FleetMember> {
    let lives_on = |mut member: FleetMember| {
        if member.instance_id == *ours {
            member.taken_since = None;
            member.instance.iter_mut().for_each(|instance| drop(instance.tags.remove(LEAVING_TAG)));
        }
        member
    };
    members.into_iter().map(lives_on).collect()
}

pub(super) async fn describe_fleet(
    aws: &Aws,
    kind: FleetKind,
    fleet_id: &str,
    limit: Duration,
) -> Result<Option<Fleet>, Failure> {
    match kind {
        FleetKind::Ec2 => aws.ec2_fleet.describe_fleet(fleet_id, limit).await,
        FleetKind::Spot => aws.spot_fleet.describe_spot_fleet_request(fleet_id, limit).await,
    }
}

pub(super) async fn fleet_members(
    aws: &Aws,
    kind: FleetKind,
    fleet_id: &str,
    limit: Duration,
) -> Result<Vec<FleetMember>, Failure> {
    match kind {
        FleetKind::Ec2 => aws.ec2_fleet.fleet_members(fleet_id, limit).await,
        FleetKind::Spot => aws.spot_fleet.spot_fleet_members(fleet_id, limit).await,
    }
}

pub(super) async fn modify_fleet(
    aws: &Aws,
    kind: FleetKind,
    fleet_id: &str,
    change: FleetChange,
    limit: Duration,
) -> Result<(), Failure> {
    match kind {
        FleetKind::Ec2 => aws.ec2_fleet.modify_fleet(fleet_id, change, limit).await,
        FleetKind::Spot => aws.spot_fleet.modify_spot_fleet_request(fleet_id, change, limit).await,
    }
}
