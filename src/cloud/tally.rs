//! Counts calls to AWS by action and result, for metrics, and keeps IAM's last answer on each action.
//!
//! Invariant: every call that begins is counted once, even if nobody waits for it any more; an action's name is one of
//! [`ACTIONS`].

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::retry::FailureKind;

/// The name of any action that is not in [`ACTIONS`].
const OTHER: &str = "other";

/// All actions that this program calls, and [`OTHER`].
pub(crate) const ACTIONS: [&str; 32] = [
    "AttachInstances",
    "CompleteLifecycleAction",
    "CreateFleet",
    "CreateTags",
    "DeleteTags",
    "DeregisterTargets",
    "DescribeAutoScalingGroups",
    "DescribeFleetInstances",
    "DescribeFleets",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeLaunchTemplateVersions",
    "DescribeLifecycleHooks",
    "DescribeLoadBalancers",
    "DescribeSpotFleetInstances",
    "DescribeSpotFleetRequests",
    "DescribeSpotInstanceRequests",
    "DescribeSubnets",
    "DescribeTags",
    "DescribeTargetGroupAttributes",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "DetachInstances",
    "LaunchInstances",
    "ModifyFleet",
    "ModifySpotFleetRequest",
    "RecordLifecycleActionHeartbeat",
    "RegisterTargets",
    "RunInstances",
    "TerminateInstanceInAutoScalingGroup",
    "TerminateInstances",
    OTHER,
];

type CountCall = dyn Fn(&'static str, Option<FailureKind>) + Send + Sync;

/// Reports each call when it ends: its action, and the kind of its failure. The default one reports to nobody. Its
/// copies share IAM's answers.
#[derive(Clone, Default)]
pub struct Tally {
    count: Option<Arc<CountCall>>,
    iam_answers: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

impl Tally {
    pub fn new(count: impl Fn(&'static str, Option<FailureKind>) + Send + Sync + 'static) -> Self {
        Self { count: Some(Arc::new(count)), ..Self::default() }
    }

    /// IAM's last answer on an action; `None` before the first. An action counts as allowed also if AWS rejected the
    /// call for another reason.
    pub fn is_allowed(&self, action: &str) -> Option<bool> {
        self.iam_answers.lock().unwrap_or_else(PoisonError::into_inner).get(action).copied()
    }

    /// Begins a call whose error type is `E`. The caller ends it with its result; if dropped it counts as unanswered.
    pub(super) fn begin<E>(&self) -> Begun<'_> {
        Begun { tally: self, action: action::<E>(), failure: Some(FailureKind::Unanswered) }
    }

    fn end(&self, action: &'static str, failure: Option<FailureKind>) {
        if let Some(count) = &self.count {
            count(action, failure);
        }
        let is_allowed = match failure {
            None | Some(FailureKind::Rejected) => true,
            Some(FailureKind::Denied) => false,
            Some(_) => return,
        };
        self.iam_answers.lock().unwrap_or_else(PoisonError::into_inner).insert(action, is_allowed);
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.count.is_some() { "Tally" } else { "Tally(nobody)" })
    }
}

pub(super) struct Begun<'a> {
    tally: &'a Tally,
    action: &'static str,
    failure: Option<FailureKind>,
}

impl Begun<'_> {
    pub(super) fn end(mut self, failure: Option<FailureKind>) {
        self.failure = failure;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.tally.end(self.action, self.failure);
    }
}

/// The SDK names each operation's error after the action: `aws_sdk_ec2::operation::create_tags::CreateTagsError`. So
/// the type gives the name, and no call can name a wrong one.
fn action<E>() -> &'static str {
    let name = type_name::<E>().rsplit("::").next().and_then(|name| name.strip_suffix("Error"));
    ACTIONS.into_iter().find(|action| Some(*action) == name).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aws_sdk_autoscaling::operation as autoscaling;
    use aws_sdk_ec2::operation as ec2;
    use aws_sdk_elasticloadbalancingv2::operation as elb;

    use super::*;

    #[test]
    fn an_action_is_told_by_the_sdks_type() {
        assert_eq!(action::<ec2::create_tags::CreateTagsError>(), "CreateTags");
        assert_eq!(action::<elb::describe_target_health::DescribeTargetHealthError>(), "DescribeTargetHealth");
        assert_eq!(
            action::<autoscaling::terminate_instance_in_auto_scaling_group::TerminateInstanceInAutoScalingGroupError>(),
            "TerminateInstanceInAutoScalingGroup"
        );
        assert_eq!(action::<ec2::run_instances::RunInstancesError>(), "RunInstances");
        assert_eq!(action::<std::fmt::Error>(), OTHER);
    }

    #[test]
    fn every_call_is_counted_once_also_one_that_nobody_waits_for() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = told.clone();
        let tally = Tally::new(move |action, failure| sink.lock().unwrap().push((action, failure)));
        tally.begin::<ec2::create_tags::CreateTagsError>().end(None);
        tally.begin::<ec2::create_tags::CreateTagsError>().end(Some(FailureKind::Denied));
        drop(tally.begin::<ec2::create_tags::CreateTagsError>());
        assert_eq!(tally.is_allowed("CreateTags"), Some(false), "an answer that did not come changes nothing");
        assert_eq!(tally.is_allowed("DeleteTags"), None);
        let expected = [None, Some(FailureKind::Denied), Some(FailureKind::Unanswered)];
        assert_eq!(*told.lock().unwrap(), expected.map(|failure| ("CreateTags", failure)));
        Tally::default().begin::<ec2::create_tags::CreateTagsError>().end(None);
    }
}
