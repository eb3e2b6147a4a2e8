//! The settings, with their defaults, and the words that the configuration takes for them.

use core::net::SocketAddr;
use std::time::Duration;

use crate::core::model::{Readiness, TargetGroupArn};
use crate::core::words::words;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub target_groups: TargetGroups,
    pub watch: Watch,
    pub leave: Leave,
    pub successor: Successor,
    pub arrive: Arrive,
    pub survive: Survive,
    pub hooks: Hooks,
    pub notify: Notify,
    pub metrics: Metrics,
}

/// The target groups in which this instance is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetGroups {
    #[default]
    Discover,
    Listed(Vec<ListedTargetGroup>),
}

/// A target group as a person lists it: `ARN`, `NAME`, `ARN:PORT` or `NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTargetGroup {
    pub arn_or_name: String,
    pub port: Option<u16>,
}

impl ListedTargetGroup {
    pub fn names(&self, target_group: &TargetGroupArn) -> bool {
        self.arn_or_name == target_group.as_str() || self.arn_or_name == target_group.name()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub interval: Duration,
    pub rebalance: Rebalance,
    /// Hand over when the Auto Scaling group terminates this instance.
    pub lifecycle: bool,
    pub scheduled_events: ScheduledEvents,
}

words! {
    /// The effect of a rebalance recommendation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Rebalance {
        Ignore = "ignore",
        /// Look everything up again.
        Prepare = "prepare",
        /// Successor first, and leave when it is healthy.
        HandOver = "hand-over",
    }
}

words! {
    /// The effect of a scheduled event (maintenance, retirement, reboot).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ScheduledEvents {
        Ignore = "ignore",
        /// Log it, once.
        Report = "report",
        /// Hand over shortly before it begins, with its beginning as the deadline.
        HandOver = "hand-over",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub when: When,
    /// The time after the accepted deregistration in which nothing counts as quiet.
    pub settle: Duration,
    pub quiet_for: Duration,
    pub reserve: Duration,
}

words! {
    /// The moment at which this instance leaves its target groups.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum When {
        /// Serve on where the owner launches a successor first, and leave at once elsewhere.
        #[default]
        Auto = "auto",
        AtOnce = "at-once",
        /// Serve on until the successor does, but never too late to drain.
        SuccessorHealthy = "successor-healthy",
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Successor {
    pub owner: OwnerChoice,
    pub launch_template: Option<TemplateChoice>,
    pub subnets: Vec<String>,
    pub instance_types: Vec<String>,
    pub on_demand_fallback: bool,
    pub balance_zones: BalanceZones,
}

impl Successor {
    /// Tells whether the owner is known without a look at the instance's tags.
    pub fn names_the_owner(&self) -> bool {
        match self.owner {
            OwnerChoice::None => true,
            OwnerChoice::LaunchTemplate => self.launch_template.is_some(),
            _ => false,
        }
    }
}

/// The way in which this instance comes into service by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrive {
    pub register: bool,
    /// The check before every registration of this instance, also when it comes back.
    pub ready: Readiness,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survive {
    pub then: Then,
}

words! {
    /// The conduct of an instance that lives on although it was to go.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Then {
        #[default]
        Reinstate = "reinstate",
        StayOut = "stay-out",
        /// Terminate itself, but only if it has handed over.
        Terminate = "terminate",
    }
}

/// The user's commands, as argument lists; an empty list means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    pub notice: Vec<String>,
    pub drained: Vec<String>,
    pub timeout: Duration,
}

/// The webhook to which milestones are posted. Its `Debug` does not show the URL, which may hold a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Notify {
    pub webhook: Option<String>,
    /// A file that holds the URL: a path, or a credential of systemd's by its name.
    pub webhook_file: Option<String>,
    /// A file with the template of the body.
    pub template: Option<String>,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let webhook = self.webhook.as_ref().map(|_| "...");
        f.debug_struct("Notify")
            .field("webhook", &webhook)
            .field("webhook_file", &self.webhook_file)
            .field("template", &self.template)
            .finish()
    }
}

/// The metrics for Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Port 0 means any free port.
    pub listen: Option<SocketAddr>,
}

/// Prefers the zones with the fewest running members; `true` by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceZones(pub bool);

impl Default for BalanceZones {
    fn default() -> Self {
        Self(true)
    }
}

words! {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum OwnerChoice {
        #[default]
        Discover = "discover",
        AutoScalingGroup = "auto-scaling-group",
        Ec2Fleet = "ec2-fleet",
        SpotFleet = "spot-fleet",
        LaunchTemplate = "launch-template",
        None = "none",
    }
}

/// `lt-0123` or a name, with an optional `:version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateChoice {
    pub id_or_name: String,
    pub version: Option<String>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            rebalance: Rebalance::Prepare,
            lifecycle: true,
            scheduled_events: ScheduledEvents::Report,
        }
    }
}

impl Default for Arrive {
    fn default() -> Self {
        Self { register: false, ready: Readiness::AtOnce }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self { notice: Vec::new(), drained: Vec::new(), timeout: Duration::from_secs(20) }
    }
}

impl Default for Leave {
    fn default() -> Self {
        Self {
            when: When::Auto,
            settle: Duration::from_secs(20),
            quiet_for: Duration::from_secs(15),
            reserve: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Finds values that are right alone but wrong together: their keys, and what is wrong.
    pub(super) fn contradictions(&self) -> Vec<(&'static [&'static str], String)> {
        let mut found: Vec<(&'static [&'static str], String)> = Vec::new();
        let Leave { settle, quiet_for, reserve, .. } = &self.leave;
        if *settle.max(quiet_for) + *reserve >= crate::core::notice::TWO_MINUTES {
            found.push((
                &["leave.reserve", "leave.quiet-for", "leave.settle"],
                format!(
                    "settle ({settle:?}) or quiet-for ({quiet_for:?}), with reserve ({reserve:?}), leaves nothing of the \
                     two minutes; their defaults are 20s, 15s and 10s"
                ),
            ));
        }
        if self.arrive.register && self.target_groups == TargetGroups::Discover {
            found.push((
                &["arrive.register"],
                "it is true, but target-groups does not say where: list them, as in \
                 target-groups = [\"web\", \"api:8080\"]"
                    .to_owned(),
            ));
        }
        if self.notify.webhook.is_some() && self.notify.webhook_file.is_some() {
            found.push((
                &["notify.webhook-file", "notify.webhook"],
                "webhook and webhook-file both say where to post: keep one of them".to_owned(),
            ));
        }
        if self.notify.template.is_some() && self.notify.webhook.is_none() && self.notify.webhook_file.is_none() {
            found.push((&["notify.template"], "a template is given, but no webhook to post to".to_owned()));
        }
        found
    }
}
