//! Launching the successor ourselves, by instant fleets of capacity 1. Each attempt has a client token of its own, so
//! that a repeat, by us or by the process after us, launches nothing twice.
//!
//! Invariant: while it is not known whether a token launched anything, no other token is used.

use std::time::Duration;

use super::among::is_successor;
use super::ask::Ask;
use super::course::{Asked, HandingOver, News, Situation};
use super::crowd::Bucket;
use super::deaths::{Death, MOST_DEATHS, advice, pause_after_deaths};
use super::words::seconds;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::{Incident, LaunchStep, LaunchWay};
use crate::core::model::{BootInstant, Instance, InstanceId, Launched, Market, StateReason};
use crate::core::plan::LaunchPlan;
use crate::core::retry::{self, Failure, FailureKind, VERSION_NOT_FOUND, growing};

/// The record of the next attempt is written within this. If a process is killed later, the next one asks under that
/// attempt's token: an earlier token could launch a second time.
pub(super) const NOTED_WITHIN: Duration = Duration::from_millis(200);
/// The pause between two repeats of a call in doubt: AWS answers it once the launch is made.
const DOUBT_PAUSE: Duration = Duration::from_secs(5);
/// The pauses between launches that fail for capacity, in seconds. At first every pool of a short plan is tried at
/// once. In two minutes one victim makes some fifteen launches, of the fifty that an account may make.
const CAPACITY_PAUSES: [u64; 11] = [0, 0, 0, 1, 2, 4, 6, 8, 10, 12, 15];
/// A quota is not raised within seconds.
const QUOTA_PAUSE: Duration = Duration::from_secs(30);

pub(super) struct AskLaunch {
    launch: LaunchPlan,
    /// Counts on after the end of the plan: its attempts come round again, under new tokens.
    attempt: u32,
    /// The attempts that have failed for capacity, and all attempts of the processes before.
    without_capacity: usize,
    way: LaunchWay,
    /// Markets for which CreateFleet was refused as a whole, in this round of attempts.
    fleets_refused: Vec<Market>,
    stage: Stage,
    attempts: Attempts,
    errors: Vec<String>,
    /// A text for the log.
    remark: Option<String>,
    launched_at: Option<BootInstant>,
    /// The codes of the reasons for which successors have died.
    deaths: Vec<String>,
    /// The search was long enough to know that the previous process has launched nothing.
    nothing_from_before: bool,
    /// The search was long enough, but a call under the same token was in flight.
    not_found: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Looks for an instance that is there already. After a restart the previous process may have launched it; after
    /// the death of a successor that was leaving, that successor's own daemon.
    Look(InstanceId),
    Create,
    /// The token may have launched: looks for the instance, and asks again under the token.
    Doubt(Doubt),
    Launched,
    /// Nothing more is launched, for this reason.
    GivenUp(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// AWS is still at work: a repeat brings the answer.
    AtWork,
    /// The previous process used the token with other parameters: only looking helps.
    OtherParameters,
}

/// The client token of one attempt: at most 64 ASCII characters, and the same in every process that sees the incident.
pub(super) fn client_token(incident: &Incident, attempt: u32) -> String {
    let id = &incident.id;
    // The action is no part of the token: it may change while the interruption stays the same.
    let boot_id = incident.first_boot.as_ref().unwrap_or(&id.boot_id);
    let hash = retry::seed(&format!("{boot_id} {}", id.number));
    format!("spot-relay-{}-{hash:016x}-{attempt}", id.instance_id)
}

impl AskLaunch {
    pub(super) fn new(launch: LaunchPlan, incident: &Incident, attempts: Attempts) -> AskLaunch {
        AskLaunch {
            launch,
            attempt: 0,
            without_capacity: 0,
            way: LaunchWay::Fleet,
            fleets_refused: Vec::new(),
            stage: if incident.start.is_resumed() {
                Stage::Look(incident.id.instance_id.clone())
            } else {
                Stage::Create
            },
            attempts,
            errors: Vec::new(),
            remark: None,
            launched_at: None,
            deaths: Vec::new(),
            nothing_from_before: false,
            not_found: false,
        }
    }

    fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Look(_) | Stage::Create | Stage::Doubt(Doubt::AtWork))
    }

    /// Changes a request that AWS refused (another call, other pools), and repeats one that failed otherwise.
    fn failed(&mut self, now: BootInstant, failure: Failure) -> Asked {
        self.errors = vec![failure.to_string()];
        if failure.has_code(&[VERSION_NOT_FOUND]) && self.takes_default_version() {
            return self.again_at_once(now);
        }
        let of_the_pool = failure.code.as_deref().is_some_and(is_of_the_pool);
        match failure.kind {
            FailureKind::Rejected => self.refused(now, of_the_pool),
            // RunInstances is the last resort: without a permission for it the other pools are tried on.
            FailureKind::Denied if self.way == LaunchWay::Instance => self.refused(now, false),
            // Nothing was launched under this token: the other call may be allowed.
            FailureKind::Denied if self.attempts.failures == 0 && self.stage == Stage::Create => {
                self.refused(now, false)
            }
            _ if std::mem::take(&mut self.not_found) => {
                self.next_attempt(now);
                self.attempts.failed(now, failure);
                Asked::Pending
            }
            _ => {
                self.attempts.failed(now, failure);
                Asked::Pending
            }
        }
    }

    /// Takes the template's default version, if the version of the look-up was deleted. Returns whether it did.
    fn takes_default_version(&mut self) -> bool {
        let missing = self.launch.takes_default_version();
        self.remark = missing.as_ref().map(ToString::to_string).or(self.remark.take());
        missing.is_some()
    }

    fn refused(&mut self, now: BootInstant, of_the_pool: bool) -> Asked {
        let was_in_doubt = matches!(self.stage, Stage::Doubt(_));
        self.not_found = false;
        let market = self.launch.attempt(self.attempt).map_or(Market::Spot, |attempt| attempt.market);
        match self.way {
            LaunchWay::Fleet if !of_the_pool => {
                self.fleets_refused.push(market);
                self.stage = Stage::Create;
                self.way = LaunchWay::Instance;
                self.attempts.next = now + NOTED_WITHIN;
            }
            LaunchWay::Instance if !of_the_pool => {
                self.next_attempt(now);
                // AWS has refused every way to launch: a person may have to put it right.
                self.attempts.failed(now, Failure::of(FailureKind::Rejected, self.errors.join(", ")));
            }
            LaunchWay::Fleet | LaunchWay::Instance => self.next_pools(now, market),
        }
        if was_in_doubt { Asked::NotLaunched } else { Asked::Pending }
    }

    /// Takes the instances whose tag names this one: the previous process may have launched one.
    fn looked(&mut self, now: BootInstant, incident: &Incident, instances: Vec<Instance>) -> Asked {
        let is_ours = |it: &Instance| {
            is_successor(it, incident.start.successors_since) && !incident.successors_before.contains(&it.instance_id)
        };
        let found: Vec<InstanceId> = instances.into_iter().filter(is_ours).map(|it| it.instance_id).collect();
        self.stage = if found.is_empty() { Stage::Create } else { Stage::Launched };
        self.attempts.succeeded(now);
        if found.is_empty() { Asked::Pending } else { Asked::Launched(found) }
    }

    /// Goes on to the next pools, because these have no capacity. A quota that refuses one pool refuses its whole
    /// market.
    fn next_pools(&mut self, now: BootInstant, market: Market) {
        let is_quota = self.errors.iter().all(|error| starts_with_one_of(error, &QUOTAS));
        let is_refused = |attempt: u32| self.launch.attempt(attempt).is_some_and(|next| next.market == market);
        while is_quota && !self.launch.comes_round(self.attempt + 1) && is_refused(self.attempt + 1) {
            self.attempt += 1;
        }
        let pause = growing(&CAPACITY_PAUSES, self.without_capacity);
        self.without_capacity += 1;
        self.next_attempt(now);
        let comes_round = self.launch.comes_round(self.attempt);
        let pause = if is_quota && comes_round { pause.max(QUOTA_PAUSE) } else { pause };
        let chance = retry::fraction(self.attempts.seed ^ u64::from(self.attempt).rotate_left(29));
        self.attempts.postpone(now + pause.mul_f64(0.5 + chance / 2.0));
    }

    /// Nothing was launched under this token. The next one has other parameters, so no pause is needed.
    fn again_at_once(&mut self, now: BootInstant) -> Asked {
        let was_in_doubt = matches!(self.stage, Stage::Doubt(_));
        self.next_attempt(now);
        self.attempts.succeeded(now + NOTED_WITHIN);
        if was_in_doubt { Asked::NotLaunched } else { Asked::Pending }
    }

    fn doubt(&mut self, now: BootInstant, doubt: Doubt) -> Asked {
        let is_new = self.stage == Stage::Create || std::mem::take(&mut self.not_found);
        self.stage = Stage::Doubt(doubt);
        self.attempts.succeeded(now + DOUBT_PAUSE);
        if is_new { Asked::InDoubt } else { Asked::Pending }
    }

    /// Asks again under another token after trouble that passes. A throttle tells nothing about the capacity of these
    /// pools, so the same ones are asked for.
    fn launch_again(&mut self, now: BootInstant, launched: Launched) -> Asked {
        let was_in_doubt = matches!(self.stage, Stage::Doubt(_));
        let kind = if launched.is_throttled() { FailureKind::Throttled } else { FailureKind::Fault };
        self.errors = launched.errors;
        if kind == FailureKind::Throttled {
            (self.stage, self.not_found) = (Stage::Create, false);
            self.attempt += u32::try_from(self.launch.attempts.len()).unwrap_or_default();
        } else {
            self.next_attempt(now);
        }
        self.attempts.failed(now, Failure::of(kind, self.errors.join(", ")));
        self.attempts.postpone(now + NOTED_WITHIN);
        if was_in_doubt { Asked::NotLaunched } else { Asked::Pending }
    }

    /// Goes on to the next pools once the record is written. When the plan has come round it pauses first.
    fn next_attempt(&mut self, now: BootInstant) {
        self.stage = Stage::Create;
        self.not_found = false;
        self.attempt += 1;
        let comes_round = self.launch.comes_round(self.attempt);
        if comes_round {
            self.fleets_refused.clear();
            let message = self.errors.join(", ");
            self.attempts.failed(now, Failure::of(FailureKind::Rejected, message));
        } else {
            self.attempts.next = now + NOTED_WITHIN;
        }
        let market = self.launch.attempt(self.attempt).map(|attempt| attempt.market);
        let is_refused = market.is_some_and(|market| self.fleets_refused.contains(&market));
        self.way = if is_refused { LaunchWay::Instance } else { LaunchWay::Fleet };
    }
}

impl Ask for AskLaunch {
    fn serves_on(&self) -> bool {
        self.given_up().is_none()
    }

    fn in_vain(&self) -> Option<String> {
        self.given_up().map(str::to_owned)
    }

    fn given_up(&self) -> Option<&str> {
        match &self.stage {
            Stage::GivenUp(why) => Some(why),
            _ => None,
        }
    }

    fn launched(&mut self, now: BootInstant) {
        self.launched_at.get_or_insert(now);
        self.stage = Stage::Launched;
    }

    fn take_remark(&mut self) -> Option<String> {
        self.remark.take()
    }

    fn step(&self) -> Option<LaunchStep> {
        Some(LaunchStep { attempt: self.attempt, way: self.way, refused: false })
    }

    fn resume(&mut self, step: LaunchStep) {
        (self.attempt, self.way) = (step.attempt, step.way);
        self.without_capacity = step.attempt as usize;
    }

    fn was_not_done(&mut self, now: BootInstant) {
        // The call under the same token is in flight, and its answer has the last word.
        if self.attempts.in_flight && self.stage == Stage::Doubt(Doubt::AtWork) {
            self.not_found = true;
            return;
        }
        self.nothing_from_before |= self.stage == Stage::Doubt(Doubt::OtherParameters);
        self.next_attempt(now);
    }

    /// Launches another one after a pause, or none if it would die for the same reason.
    fn died(&mut self, now: BootInstant, Death { instance_id, reason, was_leaving, .. }: &Death) -> bool {
        let code = reason.as_ref().map_or("an unknown reason", |reason| reason.code.as_str()).to_owned();
        self.deaths.push(code.clone());
        self.next_attempt(now);
        let what = reason.as_ref().map_or_else(|| code.clone(), StateReason::to_string);
        self.errors = vec![format!("successor {instance_id} died of {what}")];
        let alike = self.deaths.iter().filter(|death| **death == code).count();
        if alike >= MOST_DEATHS {
            self.stage = Stage::GivenUp(format!("{alike} successors died of {what}; {}", advice(&code)));
            return true;
        }
        if *was_leaving {
            self.stage = Stage::Look(instance_id.clone());
        }
        self.attempts.next = now + pause_after_deaths(self.deaths.len(), self.attempts.seed ^ u64::from(self.attempt));
        true
    }
}

impl Duty<HandingOver> for AskLaunch {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        situation.crowd.take_turns(&mut self.attempts, Bucket::EC2_WRITES);
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        if !self.is_asking() {
            return None;
        }
        if let Stage::Look(predecessor) = &self.stage {
            return Some(Call::DescribeSuccessorsByTag(predecessor.clone()));
        }
        let token = client_token(situation.incident, self.attempt);
        Some(match self.way {
            LaunchWay::Fleet => {
                Call::CreateFleet { client_token: token, fleet: self.launch.attempt(self.attempt)?.clone() }
            }
            LaunchWay::Instance => {
                let launch = self.launch.single(self.attempt, &situation.incident.start.identity.instance_type)?;
                Call::RunInstances { client_token: format!("{token}-run"), launch: Box::new(launch) }
            }
        })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let now = situation.now;
        if !self.is_asking() {
            // The successor was found meanwhile.
            return Ok(News::None);
        }
        let asked = match answer {
            Answer::Instances(instances) if matches!(self.stage, Stage::Look(_)) => {
                self.looked(now, situation.incident, instances)
            }
            // If AWS does not answer, the token still tells of our own launches.
            Answer::Failed(failure) if matches!(self.stage, Stage::Look(_)) => {
                let is_ours = self.stage == Stage::Look(situation.incident.id.instance_id.clone());
                if !is_ours && failure.kind != FailureKind::Denied {
                    return Err(Answer::Failed(failure));
                }
                self.stage = Stage::Create;
                self.attempts.succeeded(now);
                Asked::Pending
            }
            Answer::Launched(launched) if !launched.instances.is_empty() => {
                self.launched_at.get_or_insert(now);
                self.stage = Stage::Launched;
                self.attempts.succeeded(now);
                Asked::Launched(launched.instances)
            }
            // AWS answers a repeat with neither instances nor errors while it is still at work.
            Answer::Launched(launched) if launched.errors.is_empty() => self.doubt(now, Doubt::AtWork),
            Answer::Launched(launched) if launched.came_at_a_bad_moment() => self.launch_again(now, launched),
            Answer::Launched(launched) => {
                self.errors = launched.errors;
                let is_missing = self.errors.iter().any(|error| error.starts_with(VERSION_NOT_FOUND));
                if is_missing && self.takes_default_version() {
                    return Ok(self.again_at_once(now).into());
                }
                let of_the_pool = self.errors.iter().any(|error| is_of_the_pool(error));
                self.refused(now, of_the_pool)
            }
            Answer::Failed(failure) if failure.has_code(&["IdempotentParameterMismatch"]) => {
                if self.nothing_from_before {
                    self.next_attempt(now);
                    return Ok(News::None);
                }
                self.doubt(now, Doubt::OtherParameters)
            }
            Answer::Failed(failure) => self.failed(now, failure),
            other => return Err(other),
        };
        Ok(asked.into())
    }

    fn wake(&self, _: BootInstant) -> Option<BootInstant> {
        if self.is_asking() { self.attempts.wake() } else { None }
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let duty = format!("launch from {}", self.launch.from);
        let on_demand = self.launch.attempts.iter().any(|attempt| attempt.market == Market::OnDemand);
        let errors = match self.errors.as_slice() {
            [] => String::new(),
            errors => format!(", after {}", errors.join(", ")),
        };
        Some(match (&self.stage, self.launched_at) {
            (Stage::Launched, Some(at)) => {
                DutyReport::new(duty, true, format!("after {}{errors}", seconds(at.since(begun_at))))
            }
            (Stage::Launched, None) => DutyReport::new(duty, true, "by the process before this one"),
            (Stage::GivenUp(why), _) => DutyReport::new(duty, false, format!("given up: {why}")).settled(),
            (Stage::Doubt(_), _) => {
                let what =
                    "AWS did not tell whether it launched, and no successor has shown: none is launched beside it";
                DutyReport::new(duty, false, what)
            }
            (Stage::Look(_) | Stage::Create, _) => {
                let advice = if on_demand || !self.errors.iter().any(|error| is_of_the_pool(error)) {
                    ""
                } else {
                    "; [successor] on-demand-fallback or more instance-types would widen the choice"
                };
                let what = format!("attempt {}: {}{errors}{advice}", self.attempt + 1, self.attempts.trouble());
                DutyReport::new(duty, false, what)
            }
        })
    }
}

/// Tells whether an error is about these pools, so that another way to launch into them would get the same.
fn is_of_the_pool(error: &str) -> bool {
    const OF_THE_POOL: [&str; 4] = ["Insufficient", "UnfulfillableCapacity", "SpotMaxPriceTooLow", "InvalidSubnet"];
    // UnsupportedOperation is about the request.
    let is_unsupported = error.split(':').next() == Some("Unsupported");
    is_unsupported || starts_with_one_of(error, &OF_THE_POOL) || starts_with_one_of(error, &QUOTAS)
}

/// AWS's codes for a quota of the account. Either market has its own quota.
const QUOTAS: [&str; 3] = ["MaxSpotInstanceCountExceeded", "InstanceLimitExceeded", "VcpuLimitExceeded"];

fn starts_with_one_of(error: &str, codes: &[&str]) -> bool {
    codes.iter().any(|code| error.starts_with(code))
}
