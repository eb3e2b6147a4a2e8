//! Asking the owner for a successor. Owners differ in their calls and agree in what comes of them: [`Asked`].

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

    /// The group terminates this instance.
    fn group_terminates(&mut self) {}

    /// The group's termination hooks run, now that this instance has left it.
    fn runs_hooks(&self) -> bool {
        true
    }

    /// Time is short now.
    fn become_urgent(&mut self, _manner: Manner, _now: BootInstant) {}

    /// The owner was asked, or is, in such a way that it launches a successor, whoever ends this instance.
    fn has_the_word(&self) -> bool {
        true
    }

    /// Tells whether the successor is still to come before this instance leaves.
    fn serves_on(&self) -> bool {
        true
    }

    /// The reason why no successor will come, or none that this instance could wait for.
    fn in_vain(&self) -> Option<String> {
        None
    }

    /// Nothing more is launched, because of this.
    fn given_up(&self) -> Option<&str> {
        None
    }

    /// The owner has accepted that this instance leaves, and takes it out of its own target groups.
    fn has_left(&self) -> bool {
        false
    }

    /// That, or its call to leave is in flight or may have been done.
    fn may_have_left(&self) -> bool {
        self.has_left()
    }

    /// The reason why nobody is known to take this instance's place, as it turned out.
    fn nobody_comes(&self) -> Option<&'static str> {
        None
    }

    /// The owner has more than it wants: nobody is launched in the place of those that go.
    fn has_spare(&self) -> bool {
        false
    }

    /// The successor was launched beside this instance, whose place in the owner's size goes with it.
    fn makes_room(&self) -> bool {
        false
    }

    /// The units that the owner is to have once this handover is over, where this instance knows it.
    fn size(&self) -> Option<i32> {
        None
    }

    /// A person is to know this.
    fn take_remark(&mut self) -> Option<String> {
        None
    }

    /// The owner has gone before it was asked for anything.
    fn is_gone_unasked(&self) -> bool {
        false
    }

    /// It does not hold this instance any more, and by all that is known because of a call whose answer was lost.
    fn is_gone_by_lost_reply(&self) -> bool {
        false
    }

    /// The owner is known to be launching still.
    fn owner_launches(&self) -> bool {
        false
    }

    /// When it looks at the owner's members next, who are seen with it.
    fn counts_at(&self) -> Option<BootInstant> {
        None
    }

    /// The launch that is asked for, or was asked for last, by its token.
    fn step(&self) -> Option<LaunchStep> {
        None
    }

    /// The process before this one had come so far.
    fn resume(&mut self, _step: LaunchStep) {}

    /// The launch that was in doubt was done.
    fn launched(&mut self, _now: BootInstant) {}

    /// It was looked for long enough: what was in doubt was not done.
    fn was_not_done(&mut self, _now: BootInstant) {}

    /// The search for successors tells that so many units go, and that nobody has replaced some of them.
    fn hears_of_victims(&mut self, _situation: &Situation<'_>, _units: i32) {}

    /// One that it had launched is missed though others of them live: it launches for all that go.
    fn launches_for_all(&self) -> bool {
        false
    }

    /// The successor has died. Returns whether the next one is launched from here, or none.
    fn died(&mut self, _now: BootInstant, _death: &Death) -> bool {
        false
    }
}
