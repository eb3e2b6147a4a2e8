//! The tasks that died: how often in a row, and until when their work pauses.
//!
//! Invariant: the work of a task that died pauses as failed work does, longer each time. It is reported once in a row.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use super::events::Purpose;
use crate::core::model::BootInstant;
use crate::core::retry::Backoff;

/// The longest pause is short, because a task looks for the notice too.
const PAUSES: Backoff =
    Backoff { first: std::time::Duration::from_secs(1), longest: std::time::Duration::from_secs(10) };

#[derive(Debug, Default)]
pub(super) struct DeadTasks {
    by_purpose: HashMap<Discriminant<Purpose>, TaskDeath>,
}

#[derive(Clone, Copy, Debug)]
struct TaskDeath {
    in_a_row: u32,
    until: BootInstant,
}

impl DeadTasks {
    /// Notes that a task died. Returns the log line for the first death in a row.
    pub(super) fn died(&mut self, purpose: Purpose, now: BootInstant) -> Option<String> {
        let death = self.by_purpose.entry(discriminant(&purpose)).or_insert(TaskDeath { in_a_row: 0, until: now });
        death.in_a_row = death.in_a_row.saturating_add(1);
        death.until = now + PAUSES.ceiling(death.in_a_row);
        (death.in_a_row == 1).then(|| {
            format!("a task of spot-relay died, please report it ({purpose:?}); its work begins again after a pause")
        })
    }

    /// Notes that a task came to its own end.
    pub(super) fn ended(&mut self, purpose: Purpose) {
        self.by_purpose.remove(&discriminant(&purpose));
    }

    /// The instant at which the work may begin again, if it has died.
    pub(super) fn paused_until(&self, purpose: Purpose) -> Option<BootInstant> {
        self.by_purpose.get(&discriminant(&purpose)).map(|death| death.until)
    }

    pub(super) fn is_paused(&self, purpose: Purpose, now: BootInstant) -> bool {
        self.paused_until(purpose).is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_dies_again_and_again_is_paused_longer_and_told_of_once() {
        let mut deaths = DeadTasks::default();
        let mut now = BootInstant::default();
        let pauses: Vec<u64> = (0..6)
            .map(|time| {
                assert_eq!(deaths.died(Purpose::Renew, now).is_some(), time == 0);
                let until = deaths.paused_until(Purpose::Renew).expect("a pause");
                let pause = until.since(now);
                assert!(deaths.is_paused(Purpose::Renew, now) && !deaths.is_paused(Purpose::Look, now));
                now = until;
                assert!(!deaths.is_paused(Purpose::Renew, now));
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        deaths.ended(Purpose::Renew);
        assert!(deaths.died(Purpose::Renew, now + Duration::from_secs(1)).is_some());
    }
}
