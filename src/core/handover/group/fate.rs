//! The result of asking a group in words, for the end of a handover.

use super::AskGroup;
use super::exit::{Left, LeftBy};
use super::stage::Stage;
use crate::core::duty::DutyReport;
use crate::core::handover::words::seconds;
use crate::core::model::BootInstant;

impl AskGroup {
    pub(super) fn fate(&self, begun_at: BootInstant) -> DutyReport {
        let refused = self.launch.refused.as_ref().map(|why| format!(" (launching first was not possible: {why})"));
        let refused = refused.unwrap_or_default();
        let (done, what) = match (self.stage, &self.exit.state, &self.exit.refused) {
            (Stage::Done(Left { by: LeftBy::Uncounted, .. }), state, _) => {
                let state = state.as_deref().unwrap_or_default();
                (true, format!("not needed: the group does not count a member that is {state}"))
            }
            (Stage::Done(Left { by: LeftBy::Itself, .. }), ..) => {
                (true, "not needed: this instance had left the group before it was asked".to_owned())
            }
            (Stage::Done(Left { at, .. }), ..) => (true, format!("after {}{refused}", seconds(at.since(begun_at)))),
            (Stage::Read { .. } | Stage::Abandon(_), Some(state), _) => {
                (false, format!("the group does not let go of a member that is {state}{refused}"))
            }
            (_, _, Some(why)) => (false, format!("refused: {why}{refused}")),
            _ => (false, format!("{}{refused}", self.attempts.trouble())),
        };
        DutyReport::new(format!("{} group {}", self.exit.name(), self.group.name), done, what)
    }
}
