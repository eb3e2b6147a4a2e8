//! Asking an Auto Scaling group: to leave it in such a way that it launches a successor, or, when serving on, to launch
//! one more first and leave afterwards without a second one (docs/aws.md 4).

use super::crowd::Bucket;
use super::launch::client_token;
use super::successor::Asked;
use super::terms::Manner;
use super::{Answer, Call, Pace, Report, Terms, View, seconds};
use crate::core::model::{AutoScalingGroup, BootInstant};
use crate::core::retry::{Failure, FailureKind};

/// So many faults of AWS in a row are a no: an endpoint that lacks LaunchInstances may answer so.
const FAULTS_THAT_REFUSE: u32 = 3;

pub(super) struct AskGroup {
    group: AutoScalingGroup,
    /// Through the termination hook rather than by detaching.
    terminate: bool,
    stage: Stage,
    pace: Pace,
    /// Where to launch, best first; one launch names one zone.
    zones: Vec<String>,
    attempt: u32,
    /// A launch may have been done though its answer was lost.
    in_doubt: bool,
    /// The launch was refused, and why: left as at-once, or not at all.
    refused: Option<String>,
    /// Leave only once a successor serves: no interruption is announced.
    open: bool,
    /// The group terminates this instance.
    overtaken: bool,
    /// A call to leave may have been done though its answer was lost.
    exit_in_doubt: bool,
    /// This instance was out of the group, or on its way, before it was asked for.
    left_before: bool,
    done_at: Option<BootInstant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// After a restart, before a launch: this instance may have left already.
    Look,
    Launch,
    /// Looking whether a launch was done after all.
    Doubt,
    /// Leave the group. With `decrement`, once this instance leaves its target groups: the successor is launched.
    Exit {
        decrement: bool,
    },
    /// No successor can be launched first, and nothing forces this instance to leave.
    Stay,
    Done,
}

impl AskGroup {
    pub(super) fn new(group: AutoScalingGroup, terminate: bool, manner: Manner, terms: &Terms, pace: Pace) -> AskGroup {
        AskGroup {
            stage: match manner {
                // The process before this one may have had a successor launched.
                Manner::AtOnce if terms.serve_on => Stage::Look,
                Manner::AtOnce => Stage::Exit { decrement: false },
                Manner::ServeOn | Manner::Open if terms.resumed => Stage::Look,
                Manner::ServeOn | Manner::Open => Stage::Launch,
            },
            zones: zones(&group, &terms.identity.availability_zone),
            attempt: 0,
            in_doubt: terms.resumed,
            refused: None,
            open: manner == Manner::Open,
            overtaken: false,
            exit_in_doubt: terms.resumed,
            left_before: false,
            done_at: None,
            group,
            terminate,
            pace,
        }
    }

    /// The group terminates this instance: no launch is begun any more, and one that is under way counts.
    pub(super) fn group_terminates(&mut self) {
        self.overtaken = true;
        self.open = false;
    }

    /// This instance leaves the group, or has left it, and by all that is known at our request.
    pub(super) fn leaves(&self) -> bool {
        matches!(self.stage, Stage::Exit { .. } | Stage::Done) && !self.left_before
    }

    /// The group has accepted that this instance leaves.
    pub(super) fn has_left(&self) -> bool {
        self.stage == Stage::Done && !self.left_before
    }

    /// Time is short now.
    pub(super) fn become_urgent(&mut self, manner: Manner, now: BootInstant) {
        self.open = manner == Manner::Open;
        if self.stage == Stage::Stay && !self.open {
            self.stage = Stage::Exit { decrement: false };
            self.pace.succeeded(now);
        }
    }

    pub(super) fn stays(&self) -> Option<String> {
        let why = self.refused.as_deref().unwrap_or_default();
        (self.stage == Stage::Stay)
            .then(|| format!("group {} could not launch a successor first: {why}", self.group.name))
    }

    pub(super) fn serves_on(&self) -> bool {
        !matches!(self.stage, Stage::Exit { decrement: false }) && self.refused.is_none()
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>) -> (Option<Call>, Asked) {
        if self.overtaken && matches!(self.stage, Stage::Look | Stage::Launch | Stage::Stay) && !self.pace.in_flight {
            self.stage = if self.in_doubt { Stage::Doubt } else { Stage::Done };
            self.done_at.get_or_insert(view.now);
            self.left_before = !self.in_doubt;
            let asked = if self.in_doubt { Asked::InDoubt } else { Asked::Left };
            return (None, asked);
        }
        // Time to leave, and no successor launched: from here on it is as at-once.
        if matches!(self.stage, Stage::Look | Stage::Launch) && view.may_leave && !self.pace.in_flight {
            let asked = self.refuse(view.now, "time to leave came first".to_owned());
            return (None, asked);
        }
        view.crowd.take_turns(&mut self.pace, Bucket::AUTO_SCALING);
        let call = match self.stage {
            Stage::Look if self.pace.begin(view.now) => {
                Some(Call::DescribeGroupMembers { group: self.group.name.clone() })
            }
            Stage::Launch if self.pace.begin(view.now) => Some(Call::LaunchInstances {
                group: self.group.name.clone(),
                client_token: client_token(view.terms, self.attempt),
                availability_zone: self.zones.get(self.attempt as usize).cloned(),
            }),
            Stage::Exit { decrement } if (view.may_leave || !decrement) && self.pace.begin(view.now) => {
                Some(self.exit(decrement))
            }
            _ => None,
        };
        (call, Asked::Pending)
    }

    fn exit(&self, decrement: bool) -> Call {
        if self.terminate {
            Call::TerminateInstanceInAutoScalingGroup { decrement }
        } else {
            Call::DetachInstances { group: self.group.name.clone(), decrement }
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, terms: &Terms, answer: Answer) -> Asked {
        match (self.stage, answer) {
            (Stage::Look, Answer::GroupMembers(members)) => {
                let ours = members.iter().find(|member| member.instance_id == terms.identity.instance_id);
                // `Detaching` and `Terminating` last for minutes, and the group has launched already.
                let stays = |state: &str| state == "InService" || state == "Standby" || state.starts_with("Pending");
                if ours.is_none_or(|member| !stays(&member.lifecycle_state)) {
                    return self.left(now, false);
                }
                self.stage = Stage::Launch;
                self.pace.succeeded(now);
                Asked::Pending
            }
            (Stage::Launch, Answer::Launched(launched)) if !launched.instances.is_empty() => {
                self.launched(now);
                Asked::Launched(launched.instances)
            }
            // Neither instances nor errors: what AWS may answer to a repeat.
            (Stage::Launch, Answer::Launched(launched)) if launched.errors.is_empty() => {
                self.in_doubt = true;
                self.refuse(now, "AWS answered with neither an instance nor an error".to_owned())
            }
            (Stage::Launch, Answer::Launched(_)) if !self.in_doubt && self.attempt as usize + 1 < self.zones.len() => {
                self.attempt += 1;
                self.pace.succeeded(now);
                Asked::Pending
            }
            (Stage::Launch, Answer::Launched(launched)) => self.refuse(now, launched.errors.join(", ")),
            (Stage::Launch, Answer::Failed(failure)) => self.launch_failed(now, failure),
            (Stage::Exit { decrement }, Answer::Accepted) => self.left(now, decrement),
            (Stage::Exit { decrement }, Answer::Failed(failure)) if is_done(&failure) => {
                self.left_before = !self.exit_in_doubt;
                self.left(now, decrement)
            }
            (stage, other) => {
                let may_be_done = matches!(&other, Answer::Failed(failure) if failure.may_have_been_done());
                self.exit_in_doubt |= may_be_done && matches!(stage, Stage::Exit { .. });
                self.pace.failed_by(now, other);
                Asked::Pending
            }
        }
    }

    fn launch_failed(&mut self, now: BootInstant, failure: Failure) -> Asked {
        self.in_doubt |= failure.may_have_been_done();
        let busy = failure.has_code(&["ScalingActivityInProgress", "ResourceContention", "ResourceInUse"]);
        let refused = match failure.kind {
            FailureKind::Rejected => !busy,
            FailureKind::Denied => true,
            FailureKind::Fault => self.pace.failures + 1 >= FAULTS_THAT_REFUSE,
            FailureKind::Unanswered | FailureKind::Throttled | FailureKind::Credentials => false,
        };
        if refused {
            return self.refuse(now, failure.to_string());
        }
        self.pace.failed(now, failure);
        Asked::Pending
    }

    /// LaunchInstances is out: leave as at-once, but not before it is sure that nothing was launched.
    fn refuse(&mut self, now: BootInstant, why: String) -> Asked {
        self.refused = Some(why);
        self.pace.succeeded(now);
        if self.in_doubt {
            self.stage = Stage::Doubt;
            return Asked::InDoubt;
        }
        self.stage = self.without_launch();
        Asked::Pending
    }

    fn without_launch(&self) -> Stage {
        if self.open { Stage::Stay } else { Stage::Exit { decrement: false } }
    }

    pub(super) fn launched(&mut self, now: BootInstant) {
        self.refused = None;
        self.stage = Stage::Exit { decrement: true };
        self.pace.succeeded(now);
    }

    pub(super) fn was_not_done(&mut self, now: BootInstant) {
        if self.stage == Stage::Doubt {
            self.stage = self.without_launch();
            self.pace.succeeded(now);
        }
    }

    fn left(&mut self, now: BootInstant, decrement: bool) -> Asked {
        self.stage = Stage::Done;
        self.done_at = Some(now);
        self.pace.succeeded(now);
        if decrement { Asked::Left } else { Asked::Requested }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        match self.stage {
            Stage::Look | Stage::Launch | Stage::Exit { decrement: false } => self.pace.wake(),
            // Due when the target groups are left; that has its own instants. Retries have theirs.
            Stage::Exit { decrement: true } if self.pace.failures > 0 => self.pace.wake(),
            Stage::Exit { decrement: true } | Stage::Doubt | Stage::Stay | Stage::Done => None,
        }
    }

    pub(super) fn words(&self) -> String {
        format!("group {}", self.group.name)
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        let how = if self.terminate { "terminate in" } else { "detach from" };
        let duty = format!("{how} group {}", self.group.name);
        let refused = self.refused.as_ref().map(|why| format!(" (launching first was not possible: {why})"));
        let refused = refused.unwrap_or_default();
        match self.done_at {
            Some(at) => Report::new(duty, true, format!("after {}{refused}", seconds(at.since(begun_at)))),
            None => Report::new(duty, false, format!("{}{refused}", self.pace.trouble())),
        }
    }
}

/// The zones with the fewest members first, and the one whose pool is being reclaimed last.
fn zones(group: &AutoScalingGroup, ours: &str) -> Vec<String> {
    let members = |zone: &String| group.members.iter().filter(|member| member.availability_zone == *zone).count();
    let mut zones = group.availability_zones.clone();
    zones.sort_by_key(|zone| (zone == ours, members(zone), zone.clone()));
    zones
}

/// What AWS answers to a repeat: this instance has left the group, or is leaving it.
fn is_done(failure: &Failure) -> bool {
    const WORDS: [&str; 4] =
        ["is not in InService", "not part of", "No managed instance found", "Instance Id not found"];
    failure.has_code(&["ValidationError"]) && WORDS.iter().any(|words| failure.message.contains(words))
}
