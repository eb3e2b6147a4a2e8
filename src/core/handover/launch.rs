//! Launching the successor ourselves: instant fleets of capacity 1, one attempt after the other, each under a client token
//! of its own, so that a repeat by us or by the process after us launches nothing twice.

use super::crowd::Bucket;
use super::successor::Asked;
use super::{Answer, Call, Pace, Report, Terms, View, seconds};
use crate::core::model::{BootInstant, Market};
use crate::core::plan::LaunchPlan;
use crate::core::retry::{self, Failure, FailureKind};

pub(super) struct AskLaunch {
    launch: LaunchPlan,
    /// Counts on over the end of the plan: its attempts come round again, under new tokens.
    attempt: u32,
    stage: Stage,
    pace: Pace,
    errors: Vec<String>,
    launched_at: Option<BootInstant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Create,
    /// The token was used with other parameters, by the process before us: looking for what it launched.
    Doubt,
    Launched,
}

/// The client token of one attempt: at most 64 ASCII characters, and the same in every process that sees the incident.
pub(super) fn client_token(terms: &Terms, attempt: u32) -> String {
    let incident = &terms.incident;
    // The action is no part of it: it may change while the interruption stays the same.
    let hash = retry::seed(&format!("{} {}", incident.boot_id, incident.number));
    format!("spot-relay-{}-{hash:016x}-{attempt}", incident.instance_id)
}

impl AskLaunch {
    pub(super) fn new(launch: LaunchPlan, pace: Pace) -> AskLaunch {
        AskLaunch { launch, attempt: 0, stage: Stage::Create, pace, errors: Vec::new(), launched_at: None }
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> Option<Call> {
        view.crowd.take_turns(&mut self.pace, Bucket::EC2_WRITES);
        let attempts = &self.launch.attempts;
        let index = self.attempt as usize % attempts.len().max(1);
        let fleet = attempts.get(index)?;
        let due = self.stage == Stage::Create && self.pace.begin(view.now);
        due.then(|| Call::CreateFleet { client_token: client_token(view.terms, self.attempt), fleet: fleet.clone() })
    }

    pub(super) fn answered(&mut self, now: BootInstant, _terms: &Terms, answer: Answer) -> Asked {
        match answer {
            Answer::Launched(launched) if !launched.instances.is_empty() => {
                self.launched_at.get_or_insert(now);
                self.launched();
                self.pace.succeeded(now);
                Asked::Launched(launched.instances)
            }
            // Neither instances nor errors: what AWS may answer to a repeat.
            Answer::Launched(launched) if launched.errors.is_empty() => self.doubt(now),
            Answer::Launched(launched) => {
                self.errors = launched.errors;
                self.next_attempt(now);
                Asked::Pending
            }
            Answer::Failed(failure) if failure.has_code(&["IdempotentParameterMismatch"]) => self.doubt(now),
            Answer::Failed(failure) => self.failed(now, failure),
            other => {
                self.pace.failed_by(now, other);
                Asked::Pending
            }
        }
    }

    /// What AWS understood and refused for these pools, another attempt may get; anything else is asked again as it was.
    fn failed(&mut self, now: BootInstant, failure: Failure) -> Asked {
        self.errors = vec![failure.to_string()];
        let refused = failure.kind == FailureKind::Rejected;
        self.pace.failed(now, failure);
        if refused {
            self.attempt += 1;
        }
        Asked::Pending
    }

    fn doubt(&mut self, now: BootInstant) -> Asked {
        self.stage = Stage::Doubt;
        self.pace.succeeded(now);
        Asked::InDoubt
    }

    pub(super) fn launched(&mut self) {
        self.stage = Stage::Launched;
    }

    /// The next pools, at once; when the plan has come round, after a pause.
    pub(super) fn next_attempt(&mut self, now: BootInstant) {
        self.stage = Stage::Create;
        self.attempt += 1;
        if (self.attempt as usize).is_multiple_of(self.launch.attempts.len().max(1)) {
            let message = self.errors.join(", ");
            self.pace.failed(now, Failure { kind: FailureKind::Rejected, code: None, message });
        } else {
            self.pace.in_flight = false;
            self.pace.next = now;
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.stage == Stage::Create { self.pace.wake() } else { None }
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let duty = format!("launch from {}", self.launch.from);
        let on_demand = self.launch.attempts.iter().any(|attempt| attempt.market == Market::OnDemand);
        let errors = match self.errors.as_slice() {
            [] => String::new(),
            errors => format!(", after {}", errors.join(", ")),
        };
        match (self.stage, self.launched_at) {
            (Stage::Launched, Some(at)) => {
                Report::new(duty, true, format!("after {}{errors}", seconds(at.since(begun_at))))
            }
            (Stage::Launched, None) => Report::new(duty, true, "by the process before this one"),
            _ => {
                let advice = if on_demand {
                    ""
                } else {
                    "; [successor] on-demand-fallback or more instance-types would widen the choice"
                };
                Report::new(
                    duty,
                    false,
                    format!("attempt {}: {}{errors}{advice}", self.attempt + 1, self.pace.trouble()),
                )
            }
        }
    }
}
