//! The daemon's options, and what it returns at its end.

use std::time::Duration;

use crate::core::config::Config;
use crate::core::handover::LookedUp;
use crate::core::incident::Incident;
use crate::host::files::Files;
use crate::telemetry::webhook::Webhook;

pub struct Options {
    pub config: Config,
    /// Say what would be done, and write nothing to AWS.
    pub dry_run: bool,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`
    pub metadata_endpoint: Option<String>,
    pub files: Files,
    /// The webhook to which milestones are posted.
    pub webhook: Option<Webhook>,
    /// Hand over once, as soon as nothing real stands against it, put everything back, and end.
    pub drill: Option<Drill>,
}

/// The state of things when the daemon ended.
pub struct DaemonEnd {
    pub record: Option<Incident>,
    /// This instance went back to wherever it was before.
    pub is_wholly_back: bool,
}

/// A drill to run.
pub struct Drill {
    /// The facts that the survey found.
    pub known: LookedUp,
    pub within: Duration,
}
