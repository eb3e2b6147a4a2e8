//! The stage of asking a group, and the reason why this instance is to leave it.

use super::exit::Left;

/// The reason why this instance is to leave its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// An interruption is announced.
    Announced,
    /// None is: leave only once a successor serves.
    Open,
    /// A scheduled event is, in minutes: until it is time to leave, only once a successor serves.
    Scheduled,
    /// The group terminates this instance.
    Terminated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before a launch, or a termination, by what was known before the notice: the group may launch by itself by now, have no
    /// hook any more, or not hold this instance.
    Settings {
        launches: bool,
    },
    /// Before a launch, after a restart or where this instance was not in service when it was last looked at: it may have
    /// left already, and what has not come yet cannot be taken out after a launch.
    Look,
    Launch,
    /// AWS has not answered for long: did the group grow?
    Compare,
    /// Looking whether a launch was done after all.
    Doubt,
    /// A successor is launched, and this instance serves on: the group may get other target groups.
    Regard,
    /// Leave the group. With `decrement`, once this instance leaves its target groups: the successor is launched.
    Exit {
        decrement: bool,
    },
    /// The group refuses to let this instance go: its lifecycle state tells why.
    Read {
        decrement: bool,
    },
    /// A launching hook holds this instance: abandoned, it makes the group replace it. Counts the hooks.
    Abandon(usize),
    /// No successor can be launched first, and nothing forces this instance to leave yet.
    Stay,
    Done(Left),
}
