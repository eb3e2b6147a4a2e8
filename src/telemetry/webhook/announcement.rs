//! The announcement of a milestone: the JSON object that is posted where there is no template, and what a template sees.
//!
//! The keys are a contract with whoever reads them: all are always there, and null where there is nothing to say.

use serde::Serialize;

use crate::core::model::{Action, MilestoneKind};

/// One milestone of one instance. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Announcement {
    /// One of [`MilestoneKind::ALL`].
    pub milestone: String,
    /// The message for a person: a sentence without its full stop.
    pub message: String,
    /// The time at which it happened.
    pub at: String,
    pub instance_id: String,
    pub instance_type: String,
    pub availability_zone: String,
    pub region: String,
    pub account_id: String,
    /// The signal that began it: `notice`, `rebalance-recommendation`, `lifecycle-state` or `scheduled-event`.
    pub signal: Option<String>,
    /// The effect on the instance: `terminate`, `stop`, `hibernate` or `reboot`. Null where AWS has not said so.
    pub action: Option<String>,
    /// The deadline: no call is begun after it.
    pub deadline: Option<String>,
    /// The seconds from the milestone to the deadline.
    pub seconds_left: Option<f64>,
    /// The owner that launches the successor, by name or id.
    pub owner: Option<String>,
    /// `auto-scaling-group`, `ec2-fleet`, `spot-fleet`, `launch-template` or `nobody`.
    pub owner_kind: Option<String>,
    /// The target group's ARN, where the milestone is one group's.
    pub target_group: Option<String>,
    pub successor_id: Option<String>,
    /// `complete` or `partial`; of `handed-over` only.
    pub outcome: Option<String>,
    /// Milestones from before this one that the webhook did not take then, the oldest first; mostly empty. `message`
    /// tells them as well.
    pub earlier: Vec<Announcement>,
    /// This program's.
    pub version: String,
}

impl Announcement {
    /// Several as one, for a webhook that takes milestones again: the newest, with the earlier ones in it. `None` of none.
    pub fn together<'a>(announcements: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut earlier: Vec<Self> = announcements.cloned().collect();
        let mut newest = earlier.pop()?;
        if !earlier.is_empty() {
            let told = earlier.iter().map(|one| format!("{} at {}: {}", one.milestone, one.at, one.message));
            newest.message = format!("{} (before that: {})", newest.message, told.collect::<Vec<_>>().join("; "));
        }
        newest.earlier = earlier;
        Some(newest)
    }

    /// An invented one, with every key filled that this milestone can have, and in its message what has to be escaped.
    pub fn sample(milestone: &str) -> Self {
        let some = |text: &str| Some(text.to_owned());
        Self {
            milestone: milestone.to_owned(),
            message: "a \"sample\" with a \\ and\na second line, <b>&amp;</b> and \u{1}".to_owned(),
            at: "2026-01-31T12:00:01Z".to_owned(),
            instance_id: "i-0123456789abcdef0".to_owned(),
            instance_type: "m7g.large".to_owned(),
            availability_zone: "eu-west-1a".to_owned(),
            region: "eu-west-1".to_owned(),
            account_id: "123456789012".to_owned(),
            signal: some("notice"),
            action: some("terminate"),
            deadline: some("2026-01-31T12:01:50Z"),
            seconds_left: Some(108.9),
            owner: some("web"),
            owner_kind: some("auto-scaling-group"),
            target_group: some("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"),
            successor_id: some("i-0fedcba9876543210"),
            outcome: (milestone == "handed-over").then(|| "complete".to_owned()),
            earlier: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Invented ones in which each milestone, signal, action and outcome occurs, and null wherever it can be.
    pub fn samples() -> Vec<Self> {
        let some = |text: &str| Some(text.to_owned());
        let full = MilestoneKind::ALL.map(|kind| Self::sample(kind.as_str()));
        let sparse = full.clone().map(Self::sparse);
        let noticed = Self::sample("noticed");
        let signals = ["rebalance-recommendation", "lifecycle-state", "scheduled-event"];
        let signals = signals.map(|signal| Self { signal: some(signal), action: None, ..noticed.clone() });
        let actions = [Action::Stop, Action::Hibernate, Action::Reboot];
        let actions = actions.map(|action| Self { action: Some(action.to_string()), ..noticed.clone() });
        let partial = Self { outcome: some("partial"), ..Self::sample("handed-over") };
        let together = Self::together(full.iter().take(3));
        full.clone().into_iter().chain(sparse).chain(signals).chain(actions).chain([partial]).chain(together).collect()
    }

    /// The same with null wherever null can be.
    pub fn sparse(self) -> Self {
        Self {
            signal: None,
            action: None,
            deadline: None,
            seconds_left: None,
            owner: None,
            owner_kind: None,
            target_group: None,
            successor_id: None,
            outcome: None,
            ..self
        }
    }
}
