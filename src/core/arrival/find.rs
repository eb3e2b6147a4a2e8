//! The duty to find the target groups that the configuration lists.

use super::course::{ComingBack, News, Situation};
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, its_attempts};
use crate::core::retry::LOOK_UP;

pub(super) struct FindTargetGroups {
    attempts: Attempts,
    /// The number of looks at which a group was missing.
    lacking: u32,
}

impl FindTargetGroups {
    pub(super) fn new(attempts: Attempts) -> FindTargetGroups {
        FindTargetGroups { attempts, lacking: 0 }
    }
}

impl Duty<ComingBack> for FindTargetGroups {
    its_attempts!();

    fn call(&mut self, _: &Situation) -> Option<Call> {
        Some(Call::FindTargetGroups)
    }

    fn take(&mut self, situation: &mut Situation, answer: Answer) -> Result<News, Answer> {
        let Answer::TargetGroups { wanted, missing } = answer else { return Err(answer) };
        // A missing target group may still be created; until then this instance has not arrived.
        self.lacking += 1;
        let pause = LOOK_UP.pause(self.lacking, self.attempts.seed).max(LOOK_UP.first);
        self.attempts.succeeded(situation.now + pause);
        if missing.is_empty() {
            self.attempts.end();
        }
        let remark = |group: &String| {
            format!(
                "target-groups names {group}, and this instance cannot be registered there: no such target group of type \
                 instance or ip in this region; looking for it again, less and less often"
            )
        };
        let remarks = missing.iter().filter(|_| self.lacking == 1).map(remark).collect();
        Ok(News { wanted, remarks, ..News::default() })
    }
}
