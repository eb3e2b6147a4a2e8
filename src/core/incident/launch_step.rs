//! The progress of the attempts to launch a successor.

use serde::{Deserialize, Serialize};

/// One of the launches that are tried one after the other, each under a client token of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchStep {
    pub attempt: u32,
    pub way: LaunchWay,
    /// AWS has refused this launch and every one before it: none of them is in doubt.
    #[serde(default)]
    pub refused: bool,
}

/// The call by which an attempt is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchWay {
    #[default]
    Fleet,
    /// RunInstances, which is tried where CreateFleet refuses the template.
    Instance,
}
