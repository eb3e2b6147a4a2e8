//! Asking the owner for a successor. Owners differ in their calls and agree in the results: [`Asked`].

use super::course::{Asked, HandingOver, Situation};
use super::deaths::Death;
use super::manner::Manner;
use crate::core::duty::Duty;
use crate::core::incident::LaunchStep;
use crate::core::model::BootInstant;

/// The duty to ask one kind of owner.
pub(super) trait Ask: Duty<HandingOver> {
    /// The owner as the subject of "... launches a successor", where that is not the plan's own word.
    fn owner(&self) -> Option<String> {
        None
    }

    /// Concludes what follows from the situation alone, before any call.
    fn decide(&mut self, _situation: &Situation<'_>) -> Option<Asked> {
        None
    }

    /// Takes the news that the group terminates this instance.
    fn group_terminates(&mut self) {}

    /// Tells whether the group's termination hooks run now that this instance has left it.
    fn runs_hooks(&self) -> bool {
        true
    }

    /// Takes the news that time is short now.
    fn become_urgent(&mut self, _manner: Manner, _now: BootInstant) {}

    /// Tells whether the owner was or is being asked, so that it launches a successor whoever ends this instance.
    fn was_asked(&self) -> bool {
        true
    }

    /// Tells whether the successor is still to come before this instance leaves.
    fn serves_on(&self) -> bool {
        true
    }

    /// The reason why no successor will come, or none that this instance can wait for.
    fn in_vain(&self) -> Option<String> {
        None
    }

    /// The reason why nothing more is launched.
    fn given_up(&self) -> Option<&str> {
        None
    }

    /// Tells whether the owner has accepted that this instance leaves, and takes it out of its own target groups.
    fn has_left(&self) -> bool {
        false
    }

    /// Tells whether the owner does not count this instance any more, whoever took it out.
    fn is_out(&self) -> bool {
        false
    }

    /// Tells whether this instance has left its owner, or its call to leave is in flight or may have been done.
    fn may_have_left(&self) -> bool {
        self.has_left()
    }

    /// The reason why nobody takes this instance's place, if asking the owner has shown that.
    fn nobody_comes(&self) -> Option<&'static str> {
        None
    }

    /// Tells whether the owner has more than it wants, so that nobody replaces those that leave.
    fn has_spare(&self) -> bool {
        false
    }

    /// Tells whether the owner's size counts both this instance and its successor, until this instance leaves.
    fn makes_room(&self) -> bool {
        false
    }

    /// The units that the owner is to have once this handover is over, if known.
    fn size(&self) -> Option<i32> {
        None
    }

    /// Takes a remark for a person.
    fn take_remark(&mut self) -> Option<String> {
        None
    }

    /// Tells whether the owner has gone before it was asked for anything.
    fn is_gone_unasked(&self) -> bool {
        false
    }

    /// Tells whether the owner no longer holds this instance, very likely because of a call whose answer was lost.
    fn is_gone_by_lost_reply(&self) -> bool {
        false
    }

    /// Tells whether the owner is known to be launching still.
    fn owner_launches(&self) -> bool {
        false
    }

    /// The instant of the next look at the owner's members, which may show the successor too.
    fn counts_at(&self) -> Option<BootInstant> {
        None
    }

    /// The launch that is asked for, or was asked for last, by its token.
    fn step(&self) -> Option<LaunchStep> {
        None
    }

    /// Goes on from the launch step of the previous process.
    fn resume(&mut self, _step: LaunchStep) {}

    /// Takes the news that the launch in doubt was done.
    fn launched(&mut self, _now: BootInstant) {}

    /// Takes the news that the launch in doubt was not done: it was looked for long enough.
    fn was_not_done(&mut self, _now: BootInstant) {}

    /// Takes the news that this many units leave, and that some of them were not replaced in time.
    fn hears_of_victims(&mut self, _situation: &Situation<'_>, _units: i32) {}

    /// Tells whether the owner launches for all victims: then a dead successor is replaced though others live.
    fn launches_for_all(&self) -> bool {
        false
    }

    /// Takes the death of a successor. Returns whether this duty decides on the next launch.
    fn died(&mut self, _now: BootInstant, _death: &Death) -> bool {
        false
    }
}
