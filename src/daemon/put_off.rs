//! The look-ups that one of many instances puts off at its start, because a notice needs none of them.
//!
//! Invariant: hooks that nobody has asked for do not count as none.

use crate::core::plan::Plan;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PutOff {
    hooks: HookKnowledge,
    /// Target health is still to be asked.
    pub(super) health: bool,
}

/// The state of the hooks of the group that owns this instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HookKnowledge {
    /// Asked for in the last round, or there is no group.
    #[default]
    Fresh,
    /// Put off in the last round, and known from the one before.
    Kept,
    /// Put off until after the start. A notice that comes before has them looked up with the plan.
    Missing,
}

impl PutOff {
    /// Notes that a round has found `plan`, without asking for the hooks if they are `put_off`.
    pub(super) fn learn_hooks(&mut self, before: Option<&Plan>, plan: Option<&Plan>, put_off: bool) {
        self.hooks = match before {
            _ if plan.is_none() => self.hooks,
            _ if !put_off => HookKnowledge::Fresh,
            Some(Plan::Group { .. }) if self.knows_hooks() => HookKnowledge::Kept,
            _ => HookKnowledge::Missing,
        };
    }

    pub(super) fn knows_hooks(self) -> bool {
        self.hooks != HookKnowledge::Missing
    }

    pub(super) fn is_nothing(self) -> bool {
        self == PutOff::default()
    }

    /// The end of the sentence about a notice.
    pub(super) fn in_words(self) -> &'static str {
        match (self.knows_hooks(), self.health) {
            (false, true) => {
                "; because many instances started together, the group's hooks and target health are asked within five minutes, or at a notice"
            }
            (false, false) => {
                "; because many instances started together, the group's hooks are asked within five minutes, or at a notice"
            }
            (true, true) => {
                "; because many instances started together, target health is asked within five minutes, or at a notice"
            }
            (true, false) => "",
        }
    }
}
