//! When which milestone is posted to the webhook: a queue with an end, one POST at a time and in order, three tries.
//!
//! Invariant: nothing here waits, and nothing that the webhook does changes what the daemon does. It is told the time and
//! what came of a POST, and says what is due; the loop has the tasks.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use tracing::{info, warn};

use crate::core::life::Life;
use crate::core::model::{BootInstant, Milestone, MilestoneKind, Signal};
use crate::core::retry::{self, Failure, FailureKind};
use crate::telemetry::webhook::{Announcement, Webhook};

/// A handover has about ten milestones: this is reached where something is very wrong, and memory stays.
pub(super) const QUEUE: usize = 64;
/// Between the tries, of which there is one more. A pause lasts from half to one and a half of it, by chance: a hundred
/// instances that are noticed together have one webhook, and Slack takes a message a second.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Without a webhook it takes everything and does nothing.
#[derive(Debug)]
pub(super) struct Notifier {
    webhook: Option<Arc<Webhook>>,
    waiting: VecDeque<Post>,
    current: Option<Current>,
    /// Since the queue was last empty.
    dropped: usize,
}

#[derive(Debug)]
struct Post {
    milestone: String,
    seed: u64,
    body: String,
}

#[derive(Debug)]
struct Current {
    post: Post,
    /// Begun ones.
    tries: usize,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Pausing(BootInstant),
    InFlight,
}

impl Notifier {
    pub(super) fn new(webhook: Option<Webhook>) -> Self {
        Self { webhook: webhook.map(Arc::new), waiting: VecDeque::new(), current: None, dropped: 0 }
    }

    /// Puts it last. Where the queue is full the oldest one that waits makes room.
    pub(super) fn push(&mut self, announcement: &Announcement) {
        let Some(webhook) = &self.webhook else { return };
        let milestone = announcement.milestone.clone();
        let body = match webhook.render(announcement) {
            Ok(Some(body)) => body,
            Ok(None) => return,
            Err(error) => {
                warn!("milestone {milestone} is not posted to the webhook: {error:#}");
                return;
            }
        };
        let seed = retry::seed(&format!("{}{milestone}{}", announcement.instance_id, announcement.at));
        if let Some(line) = self.enqueue(Post { milestone, seed, body }) {
            warn!("{line}");
        }
    }

    /// The POST to make now; what comes of it is to be told to [`Self::answered`], also if its task dies. None while one is
    /// on its way.
    pub(super) fn due(&mut self, now: BootInstant) -> Option<(Arc<Webhook>, String)> {
        let webhook = self.webhook.as_ref()?;
        if self.current.is_none() {
            let first = |post| Current { post, tries: 0, step: Step::Pausing(now) };
            self.current = self.waiting.pop_front().map(first);
        }
        let current = self.current.as_mut()?;
        if !matches!(current.step, Step::Pausing(until) if now >= until) {
            return None;
        }
        current.step = Step::InFlight;
        current.tries += 1;
        Some((webhook.clone(), current.post.body.clone()))
    }

    /// What came of the POST that was due.
    pub(super) fn answered(&mut self, now: BootInstant, result: Result<(), Failure>) {
        if let Some(line) = self.settle(now, result) {
            warn!("{line}");
        }
        if self.is_empty() && self.dropped > 0 {
            let dropped = mem::take(&mut self.dropped);
            info!("nothing waits for the webhook at {} any more; {dropped} milestones were dropped", self.origin());
        }
    }

    /// When the next POST is due; none while one is on its way.
    pub(super) fn wake(&self) -> Option<BootInstant> {
        match &self.current {
            Some(Current { step: Step::Pausing(until), .. }) => Some(*until),
            Some(Current { step: Step::InFlight, .. }) => None,
            None => (!self.waiting.is_empty()).then(BootInstant::default),
        }
    }

    /// Whether all is posted or given up.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Returns the line that tells of the first one dropped.
    fn enqueue(&mut self, post: Post) -> Option<String> {
        self.waiting.push_back(post);
        if self.waiting.len() <= QUEUE {
            return None;
        }
        let oldest = self.waiting.pop_front()?;
        self.dropped += 1;
        (self.dropped == 1).then(|| {
            let (origin, milestone) = (self.origin(), &oldest.milestone);
            format!(
                "{QUEUE} milestones wait for the webhook at {origin}: the oldest, {milestone}, is dropped, and more to come"
            )
        })
    }

    /// Returns the line that tells of a milestone given up.
    fn settle(&mut self, now: BootInstant, result: Result<(), Failure>) -> Option<String> {
        let mut current = self.current.take()?;
        let failure = result.err()?;
        let pause = PAUSES.get(current.tries.saturating_sub(1)).filter(|_| failure.kind != FailureKind::Rejected);
        if let Some(pause) = pause {
            let chance = retry::fraction(current.post.seed ^ current.tries as u64);
            current.step = Step::Pausing(now + pause.mul_f64(0.5 + chance));
            self.current = Some(current);
            return None;
        }
        let (origin, milestone) = (self.origin(), &current.post.milestone);
        let tries = if current.tries == 1 { "1 try".to_owned() } else { format!("{} tries", current.tries) };
        Some(format!("the webhook at {origin} did not take milestone {milestone}: {failure}; given up after {tries}"))
    }

    fn origin(&self) -> &str {
        self.webhook.as_ref().map_or("", |webhook| webhook.origin())
    }
}

/// What is told of a milestone. `now` is AWS's time.
pub(super) fn announcement(milestone: &Milestone, life: &Life, now: Timestamp) -> Announcement {
    let identity = life.identity().clone();
    let record = super::publish::about(milestone, life);
    let plan = record.and_then(|record| record.known.plan.as_ref());
    let outcome = record.and_then(|record| record.outcome.as_ref());
    let outcome = outcome.filter(|_| milestone.milestone == MilestoneKind::HandedOver);
    let computed = || milestone.left.and_then(|left| now.checked_add(left).ok());
    let deadline = record.and_then(|record| record.time).filter(|_| milestone.left.is_some()).or_else(computed);
    let is_recommended = milestone.milestone == MilestoneKind::Recommended;
    let signal = record.map(|record| record.signal).or(is_recommended.then_some(Signal::RebalanceRecommendation));
    let in_words = |time: Timestamp| time.round(Unit::Millisecond).unwrap_or(time).to_string();
    Announcement {
        milestone: milestone.milestone.as_str().to_owned(),
        message: milestone.message.clone(),
        at: in_words(now),
        instance_id: identity.instance_id.to_string(),
        instance_type: identity.instance_type,
        availability_zone: identity.availability_zone,
        region: identity.region,
        account_id: identity.account_id,
        signal: signal.map(|signal| signal.as_str().to_owned()),
        action: record.and_then(|record| record.incident.action).map(|action| action.to_string()),
        deadline: deadline.map(in_words),
        seconds_left: milestone.left.map(|left| (left.as_secs_f64() * 10.0).round() / 10.0),
        owner: plan.and_then(|plan| plan.owner_id().map(str::to_owned)),
        owner_kind: plan.map(|plan| plan.owner_kind().to_owned()),
        target_group: milestone.target_group.as_ref().map(ToString::to_string),
        successor_id: milestone.successor_id.as_ref().map(ToString::to_string),
        outcome: outcome.map(|it| it.as_str().to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_millis(millis))
    }

    fn notifier() -> Notifier {
        Notifier::new(Some(Webhook::new("https://hooks.slack.com/services/T0/B0/SECRET", None).unwrap()))
    }

    fn with(milestones: &[&str]) -> Notifier {
        let mut notifier = notifier();
        milestones.iter().for_each(|milestone| notifier.push(&Announcement::sample(milestone)));
        notifier
    }

    /// The milestone of the POST that is due.
    fn due(notifier: &mut Notifier, now: BootInstant) -> Option<String> {
        let (_, body) = notifier.due(now)?;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        Some(body["milestone"].as_str().unwrap().to_owned())
    }

    fn fault() -> Result<(), Failure> {
        Err(Failure { kind: FailureKind::Fault, code: None, message: "it answered HTTP 500".into() })
    }

    #[test]
    fn milestones_go_out_at_once_in_order_and_one_at_a_time() {
        let mut notifier = with(&["noticed", "deregistered"]);
        assert_eq!(notifier.wake(), Some(at(0)));
        assert_eq!(due(&mut notifier, at(7)).as_deref(), Some("noticed"));
        assert_eq!((notifier.wake(), due(&mut notifier, at(8))), (None, None));
        notifier.push(&Announcement::sample("quiet"));
        assert_eq!(due(&mut notifier, at(9)), None);
        for next in ["deregistered", "quiet"] {
            notifier.answered(at(10), Ok(()));
            assert!(!notifier.is_empty());
            assert_eq!(due(&mut notifier, at(10)).as_deref(), Some(next));
        }
        notifier.answered(at(11), Ok(()));
        assert!(notifier.is_empty());
        assert_eq!((notifier.wake(), due(&mut notifier, at(12))), (None, None));
    }

    #[test]
    fn three_tries_with_pauses_then_one_line_and_the_next() {
        let mut notifier = with(&["handed-over", "survived"]);
        let mut now = at(0);
        for pause in PAUSES {
            assert_eq!(due(&mut notifier, now).as_deref(), Some("handed-over"));
            assert_eq!(notifier.settle(now, fault()), None);
            let until = notifier.wake().unwrap();
            assert!((pause / 2..=pause * 3 / 2).contains(&until.since(now)), "{until:?}");
            assert_eq!(due(&mut notifier, until - Duration::from_nanos(1)), None);
            now = until;
        }
        assert_eq!(due(&mut notifier, now).as_deref(), Some("handed-over"));
        assert_eq!(
            notifier.settle(now, fault()).unwrap(),
            "the webhook at https://hooks.slack.com did not take milestone handed-over: it answered HTTP 500; given up \
             after 3 tries"
        );
        assert_eq!(due(&mut notifier, now).as_deref(), Some("survived"));
        assert_eq!(notifier.settle(now, Ok(())), None);
        assert!(notifier.is_empty());
    }

    #[test]
    fn a_second_try_that_is_taken_says_nothing() {
        let mut notifier = with(&["quiet"]);
        due(&mut notifier, at(0)).unwrap();
        assert_eq!(notifier.settle(at(100), Err(Failure::unanswered("no answer within 3 s"))), None);
        assert!(!notifier.is_empty());
        due(&mut notifier, at(2000)).unwrap();
        assert_eq!(notifier.settle(at(2100), Ok(())), None);
        assert!(notifier.is_empty());
    }

    #[test]
    fn a_refusal_is_not_tried_again_and_throttling_is() {
        let failed = |kind| Err(Failure { kind, code: None, message: "it answered HTTP 4xx".into() });
        let mut notifier = with(&["quiet"]);
        due(&mut notifier, at(0)).unwrap();
        assert_eq!(notifier.settle(at(1), failed(FailureKind::Throttled)), None);
        due(&mut notifier, at(800)).unwrap();
        assert!(notifier.settle(at(900), failed(FailureKind::Rejected)).unwrap().ends_with("given up after 2 tries"));
        assert!(notifier.is_empty());
        let mut notifier = with(&["quiet"]);
        due(&mut notifier, at(0)).unwrap();
        assert!(notifier.settle(at(1), failed(FailureKind::Rejected)).unwrap().ends_with("given up after 1 try"));
    }

    #[test]
    fn a_full_queue_drops_the_oldest_that_waits_and_says_so_once() {
        let mut notifier = with(&["noticed"]);
        due(&mut notifier, at(0)).unwrap();
        let post = |number: usize| Post { milestone: format!("m{number}"), seed: 0, body: format!("{number}") };
        let lines: Vec<String> = (0..QUEUE + 3).filter_map(|number| notifier.enqueue(post(number))).collect();
        assert_eq!(
            lines,
            [
                "64 milestones wait for the webhook at https://hooks.slack.com: the oldest, m0, is dropped, and more to come"
            ]
        );
        assert_eq!((notifier.waiting.len(), notifier.dropped), (QUEUE, 3));
        // The one on its way is not what is dropped, and is answered as itself.
        notifier.answered(at(1), Ok(()));
        let order: Vec<String> = std::iter::from_fn(|| {
            let (_, body) = notifier.due(at(2))?;
            notifier.answered(at(2), Ok(()));
            Some(body)
        })
        .collect();
        assert_eq!(order, (3..QUEUE + 3).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(notifier.dropped, 0, "a second jam is told again");
    }

    #[test]
    fn without_a_webhook_nothing_is_ever_due() {
        let mut notifier = Notifier::new(None);
        notifier.push(&Announcement::sample("noticed"));
        assert!(notifier.is_empty() && notifier.wake().is_none() && notifier.due(at(0)).is_none());
        notifier.answered(at(0), Ok(()));
    }
}
