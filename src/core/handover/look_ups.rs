//! The duties to find out what was not known when the handover began: this instance's target groups, and who launches a
//! successor. They run beside everything else, and what they find joins in at once. A group that terminates this
//! instance is looked up again, because the hooks that it had hours ago may have changed.

use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::crowd::{Bucket, CALLS_A_GROUP_LOOK, Crowd, LAST_LOOK};
use super::lifecycle::PATIENT_AFTER;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, Patience, its_attempts};
use crate::core::incident::Earlier;
use crate::core::model::{BootInstant, TargetGroupArn};
use crate::core::plan::Plan;
use crate::core::retry::{Failure, FailureKind};

pub(super) struct FindRegistrations {
    among: Option<Vec<TargetGroupArn>>,
    /// This look-up began because something has changed meanwhile. The end waits for it, and nothing else does.
    is_late: bool,
    /// Target groups that the owner lists now, and that do not show this instance yet: AWS may register it soon.
    not_seen: Vec<TargetGroupArn>,
    looks: usize,
    attempts: Attempts,
}

/// The pauses between looks for this instance in a target group that its owner lists now.
const NOT_SEEN: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(10)];

/// The calls of one such look: DescribeTargetGroups and DescribeTargetHealth.
const CALLS_A_LATE_LOOK: u32 = 2;

impl FindRegistrations {
    pub(super) fn new(among: Option<Vec<TargetGroupArn>>, attempts: Attempts) -> FindRegistrations {
        FindRegistrations { among, is_late: false, not_seen: Vec::new(), looks: 0, attempts }
    }

    /// Spreads this look, because all members of a group learn of the change in the same moment.
    pub(super) fn late(self, crowd: Crowd, deadline: BootInstant, now: BootInstant) -> FindRegistrations {
        let mut late = FindRegistrations { is_late: true, ..self };
        crowd.spread_last(&mut late.attempts, now, deadline, Bucket::ELB_LOOKS.of_looks(CALLS_A_LATE_LOOK));
        late
    }

    /// Looks again into the groups of these that do not show this instance, because the owner lists them now.
    pub(super) fn of_owner(self, not_seen: Vec<TargetGroupArn>) -> FindRegistrations {
        FindRegistrations { not_seen, ..self }
    }

    /// Takes the groups in which this instance is now. The others are looked into again, while there is time.
    fn looked(&mut self, situation: &Situation<'_>, is_in: impl Fn(&TargetGroupArn) -> bool) {
        self.not_seen.retain(|group| !is_in(group));
        self.looks += 1;
        let pause = NOT_SEEN.get(self.looks - 1).filter(|_| !self.not_seen.is_empty());
        let Some(from) = pause.map(|pause| situation.now + *pause) else { return self.attempts.end() };
        let (bucket, deadline) = (Bucket::ELB_LOOKS.of_looks(CALLS_A_LATE_LOOK), situation.incident.deadline);
        self.attempts.succeeded(from);
        situation.crowd.spread_first(&mut self.attempts, from, bucket);
        if self.attempts.next + LAST_LOOK >= deadline {
            self.attempts.end();
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }

    /// The groups that it looks into; `None` for all.
    pub(super) fn among(&self) -> Option<&[TargetGroupArn]> {
        self.among.as_deref()
    }
}

impl Duty<HandingOver> for FindRegistrations {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.scatter(&mut self.attempts, Bucket::ELB_LOOKS, self.is_late);
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let may_have_left = situation.incident.start.earlier == Earlier::Perhaps;
        Some(Call::FindRegistrations { among: self.among.clone(), may_have_left })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let Answer::Registrations { found, unclear, missing, untold } = answer else { return Err(answer) };
        let unclear = match untold {
            Some(failure) => {
                self.attempts.failed(situation.now, *failure);
                Vec::new()
            }
            None => {
                self.looked(situation, |group| {
                    unclear.contains(group) || found.iter().any(|it| it.target_group == *group)
                });
                unclear
            }
        };
        Ok(News::Registrations { found, unclear, missing })
    }
}

/// The pauses between looks for an owner while AWS shows none: it may show one late.
const NOBODY_SHOWN: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(8), Duration::from_secs(12)];

/// After this many failed looks for an owner, the end of a handover does not wait for the next.
const FAILURES_WAITED_FOR: u32 = 3;

pub(super) struct FindPlan {
    attempts: Attempts,
    /// The earlier plan, which stands if no other can be found.
    doubted: Option<Plan>,
    /// Only another group than the earlier plan's counts, because this instance has very likely left that one.
    wants_another_group: bool,
    /// The number of times that AWS has shown no owner.
    looks: usize,
}

impl FindPlan {
    pub(super) fn new(doubted: Option<Plan>, attempts: Attempts) -> FindPlan {
        FindPlan { attempts, doubted, wants_another_group: false, looks: 0 }
    }

    /// Asks whether another group than this plan's holds this instance now. A missing answer fails nothing.
    pub(super) fn of_another_group(left: Plan, attempts: Attempts) -> FindPlan {
        FindPlan { wants_another_group: true, ..FindPlan::new(Some(left), attempts) }
    }
}

impl Duty<HandingOver> for FindPlan {
    its_attempts!();

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        Some(Call::FindPlan)
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        match (answer, self.doubted.take()) {
            (Answer::Plan(plan), left) if self.wants_another_group => {
                self.attempts.end();
                self.looks += 1;
                let is_another =
                    matches!(*plan, Plan::Group { .. }) && left.is_none_or(|it| it.owner() != plan.owner());
                Ok(if is_another { News::Plan(plan) } else { News::None })
            }
            (Answer::Plan(plan), _) => {
                match NOBODY_SHOWN.get(self.looks).filter(|_| plan.is_doubtful()) {
                    Some(pause) => self.attempts.succeeded(situation.now + *pause),
                    None => self.attempts.end(),
                }
                self.looks += 1;
                Ok(News::Plan(plan))
            }
            (Answer::Failed(failure), Some(doubted)) => {
                self.attempts.failed(situation.now, failure);
                self.looks = 1;
                Ok(News::Plan(Box::new(doubted)))
            }
            (other, _) => Err(other),
        }
    }

    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        if self.looks > 0 {
            // If AWS does not answer, the earlier plan has to do.
            let looks_on = !self.attempts.is_over() && self.attempts.failures < FAILURES_WAITED_FOR;
            let what = "AWS shows nobody who launches a successor so far, and is asked again";
            return looks_on.then(|| DutyReport::new("owner", true, what).open());
        }
        let what = format!("who launches it could not be found out: {}", self.attempts.trouble());
        Some(DutyReport::new("successor", false, what))
    }
}

pub(super) struct FindGroup {
    attempts: Attempts,
    /// IAM's refusal. The handover does not wait, and uses the hooks that are known.
    denied: Option<Failure>,
    /// The hooks were read before, and are read again as they open. Only the first answer is waited for.
    is_again: bool,
    /// The call in flight was begun before the hooks opened.
    is_stale: bool,
}

impl FindGroup {
    pub(super) fn new(attempts: Attempts, is_again: bool) -> FindGroup {
        let attempts = attempts.patient(Patience::After(PATIENT_AFTER));
        FindGroup { attempts, denied: None, is_again, is_stale: false }
    }

    /// Reads the hooks now, because they have opened.
    pub(super) fn hooks_are_open(&mut self, now: BootInstant) {
        self.is_stale = self.attempts.in_flight;
        self.attempts.next = now;
    }

    pub(super) fn is_waited_for(&self) -> bool {
        !(self.is_over() || self.is_again && self.attempts.failures > 0)
    }
}

impl Duty<HandingOver> for FindGroup {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.space_out(&mut self.attempts, Bucket::AUTO_SCALING.of_looks(CALLS_A_GROUP_LOOK));
    }

    fn call(&mut self, _: &Situation<'_>) -> Option<Call> {
        Some(Call::FindGroup)
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let is_stale = std::mem::take(&mut self.is_stale);
        match answer {
            Answer::Plan(plan) if is_stale => {
                self.is_again = true;
                self.attempts.succeeded(situation.now);
                Ok(News::Group(plan))
            }
            Answer::Plan(plan) => {
                self.attempts.end();
                Ok(News::Group(plan))
            }
            Answer::Failed(failure) if failure.kind == FailureKind::Denied => {
                self.attempts.end();
                self.denied = Some(failure);
                Ok(News::None)
            }
            other => Err(other),
        }
    }

    fn report(&self, _: BootInstant) -> Option<DutyReport> {
        let why = self.denied.as_ref().map_or_else(|| self.attempts.trouble(), Failure::to_string);
        let what = format!("which hooks the group has now could not be found out: {why}");
        let report = DutyReport::new("termination hooks", false, what);
        Some(match (self.is_again, self.is_waited_for()) {
            (true, true) => report.aside().open(),
            (true, false) => report.aside(),
            (false, _) if self.denied.is_some() => report.settled(),
            (false, _) => report,
        })
    }
}
