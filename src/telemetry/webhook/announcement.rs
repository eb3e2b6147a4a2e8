//! The announcement of a milestone: the JSON object that is posted without a template, and the input of a template.
//!
//! The keys are a contract with its readers: all are always present, and null if there is no value.

use serde::Serialize;

use crate::core::model::{Action, MilestoneKind};

/// One milestone of one instance. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Announcement {
    /// One of [`MilestoneKind::ALL`].
    pub milestone: String,
    /// A sentence for a person, without its full stop.
    pub message: String,
    /// The time of the milestone.
    pub at: String,
    pub instance_id: String,
    pub instance_type: String,
    pub availability_zone: String,
    pub region: String,
    pub account_id: String,
    /// The signal of the handover: `notice`, `rebalance-recommendation`, `lifecycle-state` or `scheduled-event`.
    pub signal: Option<String>,
    /// The effect on the instance: `terminate`, `stop`, `hibernate` or `reboot`. Null if AWS has not said.
    pub action: Option<String>,
    /// The deadline, after which no call is begun.
    pub deadline: Option<String>,
    /// The seconds from the milestone to the deadline.
    pub seconds_left: Option<f64>,
    /// The owner that launches the successor, by name or id.
    pub owner: Option<String>,
    /// `auto-scaling-group`, `ec2-fleet`, `spot-fleet`, `launch-template` or `none`.
    pub owner_kind: Option<String>,
    /// The target group's ARN, if the milestone belongs to one group.
    pub target_group: Option<String>,
    pub successor_id: Option<String>,
    /// `complete` or `partial`; only for `handed-over`.
    pub outcome: Option<String>,
    /// Earlier milestones that the webhook could not take at their time, the oldest first; mostly empty. `message`
    /// contains them, too.
    pub earlier: Vec<Announcement>,
    /// The version of this program.
    pub version: String,
}

impl Announcement {
    /// Joins several for a webhook that works again: the newest contains the earlier ones. `None` if there are none.
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

    /// A made-up announcement with every key that this milestone can have. Its message needs escapes.
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

    /// Made-up announcements with each milestone, signal, action and outcome, and with null wherever it can be.
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

    /// Sets null wherever it can be.
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
