//! One instance's life as stories: [`story`] plays the daemon, [`Aws`](crate::core::handover::tests::aws::Aws) is what
//! it calls. [`chance`] tells what holds whatever happens in whatever order.

mod arriving;
mod chance;
mod drill;
mod golden;
mod lifecycle;
mod notice;
mod recommendation;
mod scheduled_event;
mod stay_out;
mod stop_and_hibernate;
mod story;
mod terminate;

use crate::core::call::Call;
use crate::core::config::{Config, Then, When};
use crate::core::handover::tests::aws::{Fate, OWNERS, Owner};
use crate::core::handover::tests::identity_of;
use crate::core::incident::{Closed, Incident};
use crate::core::model::{Action, Identity, MilestoneKind, Readiness, Signal};
use crate::core::notice::Notice;

use super::Life;
use story::{Story, arrives, hands_over_for_events, hands_over_on_recommendation};

/// Those whose instances can live on after a handover: a group that runs hooks terminates the instance itself.
const LIVE_ON: [Owner; 5] = [Owner::Detach, Owner::Rebalance, Owner::Maintain, Owner::Instant, Owner::Nobody];

fn closed(story: &Story) -> Option<Closed> {
    story.record().and_then(|record| record.closed())
}

fn is_registration_of_us(call: &Call) -> bool {
    let ours = |targets: &[crate::core::model::Target]| targets.iter().any(|target| target.id == "i-us");
    matches!(call, Call::RegisterTargets { targets, .. } if ours(targets))
}

fn registrations_of_us(story: &Story) -> usize {
    story.calls.iter().filter(|(_, _, call)| is_registration_of_us(call)).count()
}

fn has_handed_over(story: &Story) -> bool {
    story.saw(MilestoneKind::HandedOver) > 0
}

fn is_complete(story: &Story) -> bool {
    story.record().and_then(|record| record.outcome).is_some_and(|outcome| outcome.complete)
}

fn successors_of(owner: Owner) -> usize {
    usize::from(owner != Owner::Nobody)
}

/// A notice that was seen at ten seconds, and what it has led to after so many seconds more.
fn noticed(owner: Owner, seconds: u64) -> Story {
    let mut story = Story::of(owner);
    story.run(10).notice(Action::Terminate);
    story.run(seconds);
    story
}

#[test]
fn what_the_metadata_does_not_tell_this_time_is_known_as_before() {
    let before = Identity {
        ipv6_addresses: Some(vec!["2001:db8::7".into()]),
        subnet_id: Some("subnet-1".into()),
        ..identity_of("i-us")
    };
    let mut life = Life::new(before.clone(), "boot".into(), Config::default(), false, None);
    let untold =
        Identity { instance_id: before.instance_id.clone(), region: before.region.clone(), ..Identity::default() };
    life.identify(untold.clone());
    assert_eq!(*life.identity(), before);
    life.identify(Identity { ipv6_addresses: Some(Vec::new()), ..untold });
    assert_eq!(life.identity().ipv6_addresses, Some(Vec::new()), "told that it has none any more");
}
