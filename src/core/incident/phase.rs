//! The phase of an instance in its incident, and the end of its handover.

use serde::{Deserialize, Serialize};

use crate::core::duty::DutyReport;

/// The phase of an instance in its incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", content = "closed", rename_all = "kebab-case")]
pub enum Phase {
    /// The handover goes on, and the instance serves until its successor does, or until it has to drain.
    Waiting,
    /// The handover goes on, and the instance leaves its target groups.
    Leaving,
    /// The handover is over, and the instance waits for its end.
    Left,
    /// The instance lives on: what the handover left is being put right.
    ComingBack,
    /// Nothing of the handover is left to be put right.
    Closed(Closed),
}

/// The fate of an instance that lived on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    Reinstated,
    StayedOut,
    /// It never left: a recommendation without a successor.
    Stayed,
    Terminated,
}

/// The place to which the Auto Scaling group takes this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    ToItsEnd,
    /// It goes back into the group's warm pool.
    IntoPool,
}

/// The end of a handover, duty by duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub complete: bool,
    pub duties: Vec<DutyReport>,
}

impl Outcome {
    /// The outcome in one word, as machines read it.
    pub fn as_str(&self) -> &'static str {
        if self.complete { "complete" } else { "partial" }
    }
}
