//! The stage of asking a group, and the reason why this instance is to leave it.

use super::exit::Left;

/// The reason why this instance is to leave its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// An interruption is announced.
    Announced,
    /// No interruption is announced: this instance leaves only once a successor serves.
    Open,
    /// A scheduled event comes in minutes: until it is time, this instance leaves only once a successor serves.
    Scheduled,
    /// The group terminates this instance.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reads the group before a launch or a termination: since the last look it may launch by itself, have lost its
    /// hooks, or no longer hold this instance.
    Settings {
        launches: bool,
    },
    /// Reads the members before a launch, after a restart or if this instance was not in service at the last look. It
    /// may have left already, and a member that has not come yet cannot be taken out after a launch.
    Look,
    /// Reads which members were launched since the notice: a process whose record is lost may have had one launched,
    /// under a token that nobody knows any more.
    Newest,
    Launch,
    /// AWS has not answered for long: did the group grow?
    Compare,
    /// Looks whether a launch was done after all.
    Doubt,
    /// A successor is launched, and this instance serves on. The group is read, because it may get other target groups.
    ServeOn,
    /// Leaves the group. With `decrement` the successor is launched, and this instance leaves its target groups first.
    Exit {
        decrement: bool,
    },
    /// Reads the lifecycle state, because the group refuses to let this instance go.
    Read {
        decrement: bool,
    },
    /// Abandons the launching hook that holds this instance, so that the group replaces it. Counts the hooks.
    Abandon(usize),
    /// No successor can be launched first, and nothing forces this instance to leave yet.
    Stay,
    Done(Left),
}

impl Stage {
    /// Tells whether a launch before this instance leaves is still to come, or open.
    pub(super) fn is_before_launch(self) -> bool {
        matches!(self, Stage::Settings { launches: true } | Stage::Look | Stage::Newest | Stage::Launch)
    }
}
