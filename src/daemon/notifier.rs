//! Posts milestones to the webhook: a queue with an end, one POST at a time and in order.
//!
//! A webhook that does not take a milestone is asked again, after as long as it says (`Retry-After`) or after growing
//! pauses. What has gathered by then goes out as one POST. A milestone is given up if the webhook rejects it, and
//! otherwise a minute after the deadline at the earliest. Nothing here waits, or changes what the daemon does.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::core::model::{BootInstant, MilestoneKind};
use crate::core::retry::{self, Backoff, Failure, FailureKind};
use crate::telemetry::webhook::{Announcement, LIMIT, PostError, Webhook};

/// The limit of the queue, which bounds memory if something is very wrong: a handover has about ten milestones.
pub(super) const QUEUE: usize = 64;
/// The first pause after a POST that was not taken. Each further one is twice as long, up to the longest. Chance makes
/// it half to one and a half of that: a hundred instances noticed together may share one webhook.
const PAUSES: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(20) };
/// The limit of a POST grows to this many times the first one.
const LIMIT_GROWS: u32 = 3;
/// The most that chance adds where the webhook names the pause.
const SPREAD: Duration = Duration::from_secs(3);
/// A milestone matters for this long after the deadline, should the instance still be there.
const AFTER_THE_DEADLINE: Duration = Duration::from_secs(60);
/// A milestone without a deadline matters for this long.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(180);
/// One try is made this long before the deadline, whatever pause the webhook asked for: the instance may end then.
const LAST_TRY: Duration = Duration::from_secs(4);

/// Takes everything and does nothing where there is no webhook.
#[derive(Debug)]
pub(super) struct Notifier {
    webhook: Option<Arc<Webhook>>,
    /// The posts that are not taken yet, the oldest first, with those in flight.
    waiting: VecDeque<Post>,
    step: Posting,
    /// Tries that failed since the webhook last took one.
    failures: u32,
    /// The number of the oldest posts to make one by one, because the webhook rejected them in one POST.
    singly: usize,
    /// The posts dropped since the queue was last empty.
    dropped: usize,
}

#[derive(Debug)]
struct Post {
    announcement: Announcement,
    seed: u64,
    deadline: Option<BootInstant>,
    /// The try after this instant is the last one.
    matters_until: BootInstant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Posting {
    Ready,
    Pausing(BootInstant),
    /// The queue's first posts are on their way in one POST; this is their number.
    InFlight(usize),
}

impl Notifier {
    pub(super) fn new(webhook: Option<Webhook>) -> Self {
        let webhook = webhook.map(Arc::new);
        Self { webhook, waiting: VecDeque::new(), step: Posting::Ready, failures: 0, singly: 0, dropped: 0 }
    }

    /// Puts it last. If the queue is full, the oldest that waits is dropped, and an outcome only among outcomes.
    pub(super) fn push(&mut self, now: BootInstant, announcement: &Announcement) {
        let Some(webhook) = &self.webhook else { return };
        match webhook.render(announcement) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                warn!("milestone {} is not posted to the webhook: {error:#}", announcement.milestone);
                return;
            }
        }
        let left = announcement.seconds_left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let deadline = left.map(|left| now + left);
        let post = Post {
            seed: retry::seed(&format!("{}{}{}", announcement.instance_id, announcement.milestone, announcement.at)),
            announcement: announcement.clone(),
            deadline,
            matters_until: deadline.map_or(now + WITHOUT_DEADLINE, |deadline| deadline + AFTER_THE_DEADLINE),
        };
        if let Some(line) = self.enqueue(post) {
            warn!("{line}");
        }
    }

    /// Returns the POST to make now and its limit; `None` while one is in flight. The limit grows while POSTs fail,
    /// because a webhook that is slow to answer has taken what it is asked to take again. The result is to be told to
    /// [`Self::answered`], also if its task dies.
    pub(super) fn due(&mut self, now: BootInstant) -> Option<(Arc<Webhook>, String, Duration)> {
        let webhook = self.webhook.clone()?;
        loop {
            let count = match self.step {
                Posting::InFlight(_) => return None,
                Posting::Pausing(until) if now < until => return None,
                Posting::Pausing(_) if self.singly > 0 => 1,
                Posting::Pausing(_) => self.waiting.len(),
                Posting::Ready => self.waiting.len().min(1),
            };
            let posts = self.waiting.iter().take(count).map(|post| &post.announcement);
            let told = Announcement::together(posts)?;
            match webhook.render(&told) {
                Ok(Some(body)) => {
                    self.step = Posting::InFlight(count);
                    return Some((webhook, body, LIMIT * (self.failures + 1).min(LIMIT_GROWS)));
                }
                Ok(None) => {}
                Err(error) => warn!("milestone {} is not posted to the webhook: {error:#}", told.milestone),
            }
            self.waiting.drain(..count);
        }
    }

    /// Takes the result of the POST that was due.
    pub(super) fn answered(&mut self, now: BootInstant, result: Result<(), PostError>) {
        let jammed = self.failures > 0;
        if let Some(line) = self.settle(now, result) {
            warn!("{line}");
        }
        if jammed && self.failures == 0 {
            info!("the webhook at {} takes milestones again", self.origin());
        }
        if self.is_empty() && self.dropped > 0 {
            let dropped = mem::take(&mut self.dropped);
            info!("nothing waits for the webhook at {} any more; {dropped} milestones were dropped", self.origin());
        }
    }

    /// The instant at which the next POST is due; `None` while one is on its way.
    pub(super) fn wake(&self) -> Option<BootInstant> {
        match self.step {
            Posting::InFlight(_) => None,
            Posting::Pausing(until) if !self.waiting.is_empty() => Some(until),
            _ => (!self.waiting.is_empty()).then(BootInstant::default),
        }
    }

    /// Ends a pause: this process is about to end, and what waits is tried once more.
    pub(super) fn hurry(&mut self, now: BootInstant) {
        if matches!(self.step, Posting::Pausing(_)) {
            self.step = Posting::Pausing(now);
        }
    }

    /// Tells whether all is posted or given up.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a post. Returns the log line for the first one that is dropped.
    fn enqueue(&mut self, post: Post) -> Option<String> {
        self.waiting.push_back(post);
        if self.waiting.len() <= QUEUE {
            return None;
        }
        let in_flight = if let Posting::InFlight(count) = self.step { count } else { 0 };
        let is_outcome = |post: &Post| post.announcement.milestone == MilestoneKind::HandedOver.as_str();
        let mut candidates = self.waiting.iter().enumerate().skip(in_flight);
        let index = candidates.find(|(_, post)| !is_outcome(post)).map_or(in_flight, |(index, _)| index);
        let oldest = self.waiting.remove(index)?;
        self.dropped += 1;
        (self.dropped == 1).then(|| {
            let (origin, milestone) = (self.origin(), &oldest.announcement.milestone);
            format!(
                "{QUEUE} milestones wait for the webhook at {origin}, which is the limit: the oldest, {milestone}, is dropped, and so \
                 will be others"
            )
        })
    }

    /// Returns the line that tells of trouble that began, or of milestones given up.
    fn settle(&mut self, now: BootInstant, result: Result<(), PostError>) -> Option<String> {
        let Posting::InFlight(count) = mem::replace(&mut self.step, Posting::Ready) else { return None };
        let Err(PostError { failure, retry_after }) = result else {
            self.waiting.drain(..count);
            self.singly = self.singly.saturating_sub(count);
            self.failures = 0;
            return None;
        };
        if failure.kind == FailureKind::Rejected {
            // The webhook may reject several together only: each is tried by itself.
            if count > 1 {
                self.singly = count;
                return None;
            }
            self.singly = self.singly.saturating_sub(1);
            return self.give_up(count, &failure);
        }
        self.failures = self.failures.saturating_add(1);
        let over = self.waiting.iter().take_while(|post| post.matters_until <= now).count();
        let given_up = self.give_up(over, &failure);
        self.step = self.pause(now, retry_after);
        let origin = self.origin();
        let begins = (self.failures == 1).then(|| {
            format!("the webhook at {origin} does not take milestones: {failure}; they are posted again, together with later ones")
        });
        given_up.or(begins)
    }

    fn pause(&self, now: BootInstant, retry_after: Option<Duration>) -> Posting {
        let Some(last) = self.waiting.back() else { return Posting::Ready };
        let chance = retry::fraction(last.seed ^ u64::from(self.failures));
        let pause = match retry_after {
            Some(named) => named + SPREAD.mul_f64(chance),
            None => PAUSES.ceiling(self.failures).mul_f64(0.5 + chance),
        };
        let before_the_end = |post: &Post| post.deadline.map(|deadline| deadline - LAST_TRY).filter(|it| *it > now);
        let last_tries = self.waiting.iter().map(|post| before_the_end(post).unwrap_or(post.matters_until));
        let latest = last_tries.min().unwrap_or(now).max(now + PAUSES.first);
        Posting::Pausing((now + pause).min(latest))
    }

    fn give_up(&mut self, count: usize, failure: &Failure) -> Option<String> {
        let names: Vec<String> = self.waiting.drain(..count).map(|post| post.announcement.milestone).collect();
        (!names.is_empty()).then(|| {
            let (origin, plural) = (self.origin(), if count == 1 { "" } else { "s" });
            format!(
                "the webhook at {origin} did not take the milestone{plural} {}: {failure}; given up",
                names.join(", ")
            )
        })
    }

    fn origin(&self) -> &str {
        self.webhook.as_ref().map_or("", |webhook| webhook.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::client::for_posts;

    fn at(millis: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_millis(millis))
    }

    /// The samples have 108.9 seconds left.
    fn with(milestones: &[&str]) -> Notifier {
        let webhook = Webhook::new("https://hooks.slack.com/services/T0/B0/SECRET", None, for_posts).unwrap();
        let mut notifier = Notifier::new(Some(webhook));
        milestones.iter().for_each(|milestone| notifier.push(at(0), &Announcement::sample(milestone)));
        notifier
    }

    /// The milestones of the POST that is due, the newest first.
    fn due(notifier: &mut Notifier, now: BootInstant) -> Option<Vec<String>> {
        let (_, body, _) = notifier.due(now)?;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let earlier = body["earlier"].as_array().unwrap().iter();
        let all = std::iter::once(&body).chain(earlier);
        Some(all.map(|one| one["milestone"].as_str().unwrap().to_owned()).collect())
    }

    fn failed(kind: FailureKind, retry_after: Option<u64>) -> Result<(), PostError> {
        let failure = Failure::of(kind, "it answered HTTP 5xx");
        Err(PostError { failure, retry_after: retry_after.map(Duration::from_secs) })
    }

    fn pause_after(notifier: &mut Notifier, now: BootInstant, result: Result<(), PostError>) -> Duration {
        notifier.settle(now, result);
        notifier.wake().unwrap().since(now)
    }

    #[test]
    fn milestones_go_out_at_once_in_order_and_one_at_a_time() {
        let mut notifier = with(&["noticed", "deregistered"]);
        assert_eq!(notifier.wake(), Some(at(0)));
        assert_eq!(due(&mut notifier, at(7)).unwrap(), ["noticed"]);
        assert_eq!((notifier.wake(), due(&mut notifier, at(8))), (None, None));
        notifier.push(at(8), &Announcement::sample("quiet"));
        assert_eq!(due(&mut notifier, at(9)), None);
        for next in ["deregistered", "quiet"] {
            notifier.answered(at(10), Ok(()));
            assert!(!notifier.is_empty());
            assert_eq!(due(&mut notifier, at(10)).unwrap(), [next]);
        }
        notifier.answered(at(11), Ok(()));
        assert!(notifier.is_empty());
        assert_eq!((notifier.wake(), due(&mut notifier, at(12))), (None, None));
    }

    #[test]
    fn what_gathers_while_the_webhook_is_jammed_is_told_together() {
        let mut notifier = with(&["noticed"]);
        due(&mut notifier, at(0)).unwrap();
        let line = notifier.settle(at(10), failed(FailureKind::Throttled, None)).unwrap();
        assert!(line.contains("does not take milestones") && line.contains("https://hooks.slack.com "), "{line}");
        notifier.push(at(20), &Announcement::sample("quiet"));
        notifier.push(at(30), &Announcement::sample("handed-over"));
        let wake = notifier.wake().unwrap();
        assert_eq!(due(&mut notifier, wake).unwrap(), ["handed-over", "noticed", "quiet"]);
        notifier.answered(wake, Ok(()));
        assert!(notifier.is_empty() && notifier.failures == 0);
        notifier.push(wake, &Announcement::sample("survived"));
        assert_eq!(due(&mut notifier, wake).unwrap(), ["survived"], "afterwards at once again");
    }

    #[test]
    fn pauses_grow_and_end_at_a_minute_after_the_deadline() {
        let mut notifier = with(&["handed-over"]);
        let (mut now, mut tries, mut longest) = (at(0), 0, Duration::ZERO);
        while !notifier.is_empty() {
            due(&mut notifier, now).unwrap();
            tries += 1;
            let line = notifier.settle(now, failed(FailureKind::Fault, None));
            match notifier.wake() {
                Some(wake) => longest = longest.max(wake.since(now)),
                None => assert!(line.unwrap().ends_with("the milestone handed-over: it answered HTTP 5xx; given up")),
            }
            now = notifier.wake().unwrap_or(now);
        }
        assert!((at(168_900)..at(171_000)).contains(&now), "{now:?}");
        assert!((9..30).contains(&tries), "{tries}");
        assert!(longest <= PAUSES.longest * 3 / 2 && longest > PAUSES.longest / 3, "{longest:?}");
    }

    #[test]
    fn a_pause_that_the_webhook_names_is_kept() {
        let mut notifier = with(&["noticed"]);
        due(&mut notifier, at(0)).unwrap();
        let pause = pause_after(&mut notifier, at(0), failed(FailureKind::Throttled, Some(30)));
        assert!((Duration::from_secs(30)..=Duration::from_secs(33)).contains(&pause), "{pause:?}");
    }

    #[test]
    fn a_named_pause_beyond_the_end_still_leaves_one_last_try() {
        let mut notifier = with(&["handed-over"]);
        due(&mut notifier, at(0)).unwrap();
        let pause = pause_after(&mut notifier, at(0), failed(FailureKind::Fault, Some(600)));
        assert_eq!(pause, Duration::from_millis(108_900) - LAST_TRY);
        let now = at(0) + pause;
        due(&mut notifier, now).unwrap();
        let pause = pause_after(&mut notifier, now, failed(FailureKind::Fault, Some(600)));
        assert_eq!(now + pause, at(168_900), "and one where the instance lives on");
    }

    #[test]
    fn a_refusal_is_not_tried_again() {
        let mut notifier = with(&["quiet", "survived"]);
        due(&mut notifier, at(0)).unwrap();
        let line = notifier.settle(at(1), failed(FailureKind::Rejected, None)).unwrap();
        assert!(line.ends_with("did not take the milestone quiet: it answered HTTP 5xx; given up"), "{line}");
        assert_eq!(due(&mut notifier, at(2)).unwrap(), ["survived"]);
    }

    #[test]
    fn several_that_are_refused_together_have_a_try_of_their_own_each() {
        let mut notifier = with(&["noticed", "quiet", "handed-over"]);
        due(&mut notifier, at(0)).unwrap();
        notifier.settle(at(1), failed(FailureKind::Throttled, None));
        let wake = notifier.wake().unwrap();
        due(&mut notifier, wake).unwrap();
        assert_eq!(notifier.settle(at(900), failed(FailureKind::Rejected, None)), None);
        assert_eq!(due(&mut notifier, at(901)).unwrap(), ["noticed"]);
        assert!(notifier.settle(at(902), failed(FailureKind::Rejected, None)).unwrap().contains("noticed:"));
        assert_eq!(due(&mut notifier, at(903)).unwrap(), ["quiet"]);
        // After a pause, too, milestones that were refused together are not posted together again.
        notifier.settle(at(904), failed(FailureKind::Throttled, None));
        let wake = notifier.wake().unwrap();
        assert_eq!(due(&mut notifier, wake).unwrap(), ["quiet"]);
        assert_eq!(notifier.settle(wake, Ok(())), None);
        assert_eq!(due(&mut notifier, wake).unwrap(), ["handed-over"]);
        assert_eq!(notifier.settle(wake, Ok(())), None);
        assert!(notifier.is_empty());
    }

    #[test]
    fn the_end_of_the_process_ends_a_pause() {
        let mut notifier = with(&["handed-over"]);
        due(&mut notifier, at(0)).unwrap();
        notifier.settle(at(0), failed(FailureKind::Throttled, Some(60)));
        notifier.hurry(at(5));
        assert_eq!(due(&mut notifier, at(5)).unwrap(), ["handed-over"]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_that_waits_and_never_an_outcome() {
        let mut notifier = with(&["noticed", "handed-over"]);
        due(&mut notifier, at(0)).unwrap();
        let post = |number: usize| Post {
            announcement: Announcement::sample(&format!("m{number}")),
            seed: 0,
            deadline: None,
            matters_until: at(1_000_000),
        };
        let lines: Vec<String> = (0..QUEUE + 1).filter_map(|number| notifier.enqueue(post(number))).collect();
        assert_eq!(
            lines,
            [
                "64 milestones wait for the webhook at https://hooks.slack.com, which is the limit: the oldest, m0, is dropped, and \
                 so will be others"
            ]
        );
        assert_eq!((notifier.waiting.len(), notifier.dropped), (QUEUE, 3));
        // The one on its way is not what is dropped, and is answered as itself.
        notifier.answered(at(1), Ok(()));
        assert_eq!(due(&mut notifier, at(2)).unwrap(), ["handed-over"]);
    }

    #[test]
    fn a_webhook_that_is_slow_to_answer_has_more_time_for_the_next_post() {
        let mut notifier = with(&["noticed"]);
        let mut now = at(0);
        for limit in [3, 6, 9, 9] {
            let (_, _, its_limit) = notifier.due(now).unwrap();
            assert_eq!(its_limit, Duration::from_secs(limit));
            notifier.settle(now, failed(FailureKind::Unanswered, None));
            now = notifier.wake().unwrap();
        }
    }

    #[test]
    fn without_a_webhook_nothing_is_ever_due() {
        let mut notifier = Notifier::new(None);
        notifier.push(at(0), &Announcement::sample("noticed"));
        assert!(notifier.is_empty() && notifier.wake().is_none() && notifier.due(at(0)).is_none());
        notifier.answered(at(0), Ok(()));
    }
}
