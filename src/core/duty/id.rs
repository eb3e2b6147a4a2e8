//! The ids of the duties, and their names in the metrics and in the log line of a failure.

use crate::core::call::HookKind;
use crate::core::retry::FailureKind;

/// The duty that a call belongs to; its answer goes back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DutyId {
    FindRegistrations(usize),
    FindPlan,
    /// Find the group that terminates this instance, with its hooks.
    FindGroup,
    /// Leave one target group.
    Leave(usize),
    Quiet,
    /// Ask for the successor.
    Ask,
    /// Find out which instance the owner launched.
    Find,
    /// Watch the successor's state.
    Watch,
    /// Register the successor in one target group and follow its health there.
    Register(usize),
    /// See in which lifecycle state the group holds this instance.
    MemberState,
    /// See one termination hook through.
    Lifecycle(usize),
    /// Set the leaving tag on this instance.
    Mark,
    /// See whether anybody else serves in one target group.
    OtherTargets(usize),
    /// Look at the end whether one target group still shows what it showed before.
    LastLook(usize),
    /// A command of the user's.
    Hook(HookKind),
    /// Wait until the application serves.
    Ready,
    /// Find the target groups that the configuration lists.
    FindTargetGroups,
    /// Go back into the Auto Scaling group.
    RejoinGroup,
    /// Come into one target group and follow this instance's health there.
    Serve(usize),
    /// Delete the leaving tag.
    Unmark,
    /// Put the capacity of a fleet back.
    PutCapacityBack,
    /// Terminate this instance.
    Terminate,
}

/// Each kind of duty once: its label in the metrics, and the sentence of its failure.
const WORDS: [(DutyId, &str, &str); 22] = [
    (DutyId::FindRegistrations(0), "find-registrations", "failed to find this instance's target groups"),
    (DutyId::FindPlan, "find-plan", "failed to find out who launches a successor"),
    (DutyId::Leave(0), "leave", "failed to leave a target group, or to see it left"),
    (DutyId::Quiet, "quiet", "failed to look at this instance's connections"),
    (DutyId::Ask, "ask", "failed to ask for the successor"),
    (DutyId::Find, "find", "failed to find the successor"),
    (DutyId::Watch, "watch", "failed to look at the successor"),
    (DutyId::Register(0), "register", "failed to register the successor, or to see its health"),
    (DutyId::FindGroup, "lifecycle", "failed to find the hooks of the group that terminates this instance"),
    (DutyId::MemberState, "lifecycle", "failed to look at this instance's state in its group"),
    (DutyId::Lifecycle(0), "lifecycle", "failed to see the termination hook through"),
    (
        DutyId::Mark,
        "mark",
        "failed to set the tag spot-relay:leaving, by which instances that go together know of each other",
    ),
    (DutyId::OtherTargets(0), "light", "failed to see whether anybody else serves"),
    (DutyId::LastLook(0), "last-look", "failed to see at the end what was seen before"),
    (DutyId::Hook(HookKind::Notice), "hook", "failed to run a hook"),
    (DutyId::Ready, "arrive-ready", "failed to see the application ready"),
    (DutyId::FindTargetGroups, "arrive-find", "failed to look the target groups up"),
    (DutyId::RejoinGroup, "arrive-room", "failed to put this instance back into its group"),
    (DutyId::Serve(0), "arrive-place", "failed to register this instance, or to see its health"),
    (DutyId::Unmark, "arrive-unmark", "failed to take the tag spot-relay:leaving off this instance"),
    (DutyId::PutCapacityBack, "arrive-capacity", "failed to put the fleet's capacity back"),
    (DutyId::Terminate, "arrive-terminate", "failed to terminate this instance"),
];

impl DutyId {
    /// The labels of all duties.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(_, label, _)| *label)
    }

    fn words(self) -> (&'static str, &'static str) {
        let ours = WORDS.iter().find(|(id, ..)| std::mem::discriminant(id) == std::mem::discriminant(&self));
        ours.map(|(_, label, failure)| (*label, *failure)).unwrap_or_default()
    }

    /// The label `duty` of the metrics.
    pub fn label(self) -> &'static str {
        self.words().0
    }

    /// The sentence that says what failed, when a call of this duty fails.
    pub fn failure(self) -> &'static str {
        self.words().1
    }

    /// Tells whether the duty belongs to a comeback, which has no deadline, rather than to a handover.
    pub fn comes_back(self) -> bool {
        use DutyId::{FindTargetGroups, PutCapacityBack, Ready, RejoinGroup, Serve, Terminate, Unmark};
        matches!(self, Ready | FindTargetGroups | RejoinGroup | Serve(_) | Unmark | PutCapacityBack | Terminate)
    }

    /// Tells a person what happens after a failure, and what to do.
    pub fn goes_on(self, failure: FailureKind) -> &'static str {
        match (self, failure) {
            (DutyId::Mark, FailureKind::Denied) => "not tried again; spot-relay policy prints what to allow",
            (_, FailureKind::Denied) if self.comes_back() => {
                "tried again until it is done; spot-relay policy prints what to allow"
            }
            (_, FailureKind::Denied) => "tried again as long as there is time; spot-relay policy prints what to allow",
            _ if self.comes_back() => "tried again until it is done",
            _ => "tried again as long as there is time",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duty_is_among_those_that_stand_at_zero_from_the_start() {
        let mut labels: Vec<&str> = DutyId::labels().collect();
        labels.dedup();
        let listed = [
            "find-registrations",
            "find-plan",
            "leave",
            "quiet",
            "ask",
            "find",
            "watch",
            "register",
            "lifecycle",
            "mark",
            "light",
            "last-look",
            "hook",
            "arrive-ready",
            "arrive-find",
            "arrive-room",
            "arrive-place",
            "arrive-unmark",
            "arrive-capacity",
            "arrive-terminate",
        ];
        assert_eq!(labels, listed);
    }
}
