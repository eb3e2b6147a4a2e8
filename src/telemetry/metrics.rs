//! The metrics: counters and gauges in Prometheus's text format.
//!
//! Invariants: counting never waits and never fails; every series exists from the start, at zero, or as `NaN` where
//! zero would be wrong (Prometheus, *Avoid missing metrics*); every label has a closed set of values.

mod handover;
mod registrar;
mod server;
mod situation;

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus::{Gauge, IntCounter, IntCounterVec, Registry, TextEncoder};

use crate::core::call::HookKind;
use crate::core::model::{BootInstant, Milestone, MilestoneKind};
use crate::core::retry::FailureKind;
use crate::core::words::words;

use handover::HandoverGauges;
use registrar::Registrar;
pub(crate) use server::serve;
use situation::StandingGauges;

words! {
    /// The result of a look at the metadata.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum LookResult {
        /// There is no notice: a 404.
        Absent = "absent",
        Notice = "notice",
        /// There was no answer in time.
        Unanswered = "unanswered",
        /// The status was neither 200 nor 404.
        Refused = "refused",
        /// The answer cannot be read.
        Unusable = "unusable",
    }
}

/// The label `result` of a success; a failure has its kind there.
const OK: &str = "ok";
const FAILED: &str = "failed";

pub(crate) struct PrometheusMetrics {
    registry: Registry,
    since_last_look: Gauge,
    looks: IntCounterVec,
    notices: IntCounter,
    milestones: IntCounterVec,
    handover: HandoverGauges,
    situation: StandingGauges,
    credentials_left: Gauge,
    aws_calls: IntCounterVec,
    retries: IntCounterVec,
    hooks: IntCounterVec,
    webhook_posts: IntCounterVec,
    state: Mutex<MetricsState>,
}

struct MetricsState {
    /// The time of the last good look, or of the start.
    last_look: BootInstant,
    notice_stands: bool,
}

impl PrometheusMetrics {
    /// `actions` and `duties` are all values of these labels; `started` and `now` are the start on both clocks.
    ///
    /// # Errors
    /// Prometheus rejects a name or a label, which cannot happen for the names here.
    pub(crate) fn new(
        actions: &[&'static str],
        duties: &[&'static str],
        started: Timestamp,
        now: BootInstant,
    ) -> prometheus::Result<PrometheusMetrics> {
        let register = Registrar(Registry::new());
        let build = register.gauges("spot_relay_build_info", "The version, as a label of 1.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let start = register
            .gauge("process_start_time_seconds", "Start time of the process since the Unix epoch, in seconds.")?;
        start.set(started.as_duration().as_secs_f64());
        let metrics = PrometheusMetrics {
            since_last_look: register.gauge(
                "spot_relay_metadata_last_good_look_age_seconds",
                "Seconds since the metadata last told whether a notice stands, or since the start if it never did.",
            )?,
            looks: register.counters(
                "spot_relay_metadata_looks_total",
                "Looks at the metadata for a notice, by what came of them.",
                &["result"],
            )?,
            notices: register.counter("spot_relay_notices_total", "Spot interruption notices seen.")?,
            milestones: register.counters(
                "spot_relay_milestones_total",
                "Milestones reached, one for each target group where they are of one.",
                &["milestone"],
            )?,
            handover: HandoverGauges::new(&register)?,
            situation: StandingGauges::new(&register)?,
            credentials_left: register.gauge(
                "spot_relay_credentials_left_seconds",
                "Seconds until the credentials for AWS end; NaN if they never do, or there are none.",
            )?,
            aws_calls: register.counters(
                "spot_relay_aws_calls_total",
                "Calls to AWS, by API action and what came of them.",
                &["action", "result"],
            )?,
            retries: register.counters(
                "spot_relay_retries_total",
                "Calls begun again after a failure, by the duty that they belong to.",
                &["duty"],
            )?,
            hooks: register.counters(
                "spot_relay_hooks_total",
                "Hooks that ran, by moment and result.",
                &["hook", "result"],
            )?,
            webhook_posts: register.counters(
                "spot_relay_webhook_posts_total",
                "Posts to the webhook, each try, by what came of them.",
                &["result"],
            )?,
            state: Mutex::new(MetricsState { last_look: now, notice_stands: false }),
            registry: register.0,
        };
        metrics.stand_at_zero(actions, duties);
        Ok(metrics)
    }

    /// Asks for every series, because a series exists only after that.
    fn stand_at_zero(&self, actions: &[&str], duties: &[&str]) {
        let results = || [OK].into_iter().chain(FailureKind::ALL.map(FailureKind::as_str));
        for result in LookResult::ALL {
            self.looks.with_label_values(&[result.as_str()]);
        }
        for milestone in MilestoneKind::ALL {
            self.milestones.with_label_values(&[milestone.as_str()]);
        }
        for (action, result) in actions.iter().flat_map(|action| results().map(move |result| (*action, result))) {
            self.aws_calls.with_label_values(&[action, result]);
        }
        for duty in duties {
            self.retries.with_label_values(&[duty]);
        }
        for hook in HookKind::ALL {
            self.hooks.with_label_values(&[hook.as_str(), OK]);
            self.hooks.with_label_values(&[hook.as_str(), FAILED]);
        }
        for result in results() {
            self.webhook_posts.with_label_values(&[result]);
        }
        self.credentials_left(None);
    }

    /// Counts a look, and a notice when it appears.
    pub(crate) fn looked(&self, result: LookResult, at: BootInstant) {
        self.looks.with_label_values(&[result.as_str()]).inc();
        if matches!(result, LookResult::Absent | LookResult::Notice) {
            let mut state = self.state();
            state.last_look = at;
            let stands = result == LookResult::Notice;
            if stands && !state.notice_stands {
                self.notices.inc();
            }
            state.notice_stands = stands;
        }
    }

    /// Counts a milestone. `begun` is the start of its handover, if it belongs to one.
    pub(crate) fn reached(&self, milestone: &Milestone, begun: Option<BootInstant>) {
        let kind = milestone.milestone;
        self.milestones.with_label_values(&[kind.as_str()]).inc();
        self.handover.reached(milestone, begun);
    }

    /// Counts a handover that ended; `outcome` is `complete` or `partial`.
    pub(crate) fn handed_over(&self, outcome: &'static str) {
        self.situation.handed_over(outcome);
    }

    /// Sets the number of this instance's targets and its owner, by a look-up; `None` if still unknown.
    pub(crate) fn looked_up(&self, targets: Option<usize>, owner: Option<&'static str>) {
        self.situation.registered(targets);
        self.situation.owned_by(owner);
    }

    pub(crate) fn credentials_left(&self, seconds: Option<f64>) {
        self.credentials_left.set(seconds.unwrap_or(f64::NAN));
    }

    pub(crate) fn aws_call(&self, action: &'static str, failure: Option<FailureKind>) {
        self.aws_calls.with_label_values(&[action, result(failure)]).inc();
    }

    pub(crate) fn retried(&self, duty: &'static str) {
        self.retries.with_label_values(&[duty]).inc();
    }

    pub(crate) fn hook(&self, hook: HookKind, succeeded: bool) {
        self.hooks.with_label_values(&[hook.as_str(), if succeeded { OK } else { FAILED }]).inc();
    }

    pub(crate) fn posted(&self, failure: Option<FailureKind>) {
        self.webhook_posts.with_label_values(&[result(failure)]).inc();
    }

    /// The text of all metrics at `now`.
    pub(crate) fn text(&self, now: BootInstant) -> String {
        self.since_last_look.set(now.since(self.state().last_look).as_secs_f64());
        // It errs only for a family without a sample, and every family has one.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, MetricsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn result(failure: Option<FailureKind>) -> &'static str {
    failure.map_or(OK, FailureKind::as_str)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant::since_boot(Duration::from_secs(seconds))
    }

    fn metrics() -> PrometheusMetrics {
        let started = Timestamp::from_second(1_700_000_000).unwrap();
        PrometheusMetrics::new(&["CreateTags", "other"], &["leave"], started, at(100)).unwrap()
    }

    fn milestone(milestone: MilestoneKind, seconds: u64) -> Milestone {
        Milestone {
            milestone,
            at: at(seconds),
            left: Some(Duration::from_secs(320 - seconds)),
            target_group: None,
            successor_id: None,
            owner: None,
            message: String::new(),
        }
    }

    /// The value of a series.
    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} in {text}")).parse().unwrap()
    }

    #[test]
    fn every_series_stands_from_the_start_at_zero_or_nan() {
        let text = metrics().text(at(160));
        let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        // Looks, notices, milestones (and those of a handover), its end, credentials, calls, retries, hooks, posts;
        // age, build, start; outcomes, targets, owners.
        assert_eq!(series.len(), 5 + 1 + 13 + 11 + 1 + 1 + 2 * 7 + 1 + 4 + 7 + 3 + 2 + 1 + 5, "{text}");
        for line in &series {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let expected = match name.split('{').next().unwrap() {
                "spot_relay_build_info" => "1",
                "process_start_time_seconds" => "1700000000",
                "spot_relay_metadata_last_good_look_age_seconds" => "60",
                "spot_relay_handover_milestone_seconds"
                | "spot_relay_handover_left_seconds"
                | "spot_relay_registered_targets"
                | "spot_relay_credentials_left_seconds" => "NaN",
                _ => "0",
            };
            assert_eq!(value, expected, "{name}");
        }
        assert_eq!(text.matches("# HELP ").count(), text.matches("# TYPE ").count());
    }

    #[test]
    fn looks_are_counted_and_a_notice_once_however_often_it_is_seen() {
        let metrics = metrics();
        for (result, seconds) in [
            (LookResult::Absent, 101),
            (LookResult::Notice, 102),
            (LookResult::Unanswered, 103),
            (LookResult::Notice, 104),
            (LookResult::Refused, 105),
        ] {
            metrics.looked(result, at(seconds));
        }
        let text = metrics.text(at(110));
        assert_eq!(value(&text, "spot_relay_metadata_last_good_look_age_seconds"), 6.0);
        assert_eq!(value(&text, "spot_relay_metadata_looks_total{result=\"notice\"}"), 2.0);
        assert_eq!(value(&text, "spot_relay_metadata_looks_total{result=\"refused\"}"), 1.0);
        assert_eq!(value(&text, "spot_relay_notices_total"), 1.0);
        metrics.looked(LookResult::Absent, at(111));
        metrics.looked(LookResult::Notice, at(112));
        assert_eq!(value(&metrics.text(at(112)), "spot_relay_notices_total"), 2.0);
    }

    #[test]
    fn milestones_are_timed_for_the_last_handover_and_counted_for_all() {
        let metrics = metrics();
        metrics.reached(&milestone(MilestoneKind::Arrived, 150), None);
        metrics.reached(&milestone(MilestoneKind::Noticed, 200), Some(at(200)));
        metrics.reached(&milestone(MilestoneKind::Left, 203), Some(at(200)));
        metrics.reached(&milestone(MilestoneKind::Left, 205), Some(at(200)));
        metrics.reached(&milestone(MilestoneKind::HandedOver, 260), Some(at(200)));
        let text = metrics.text(at(261));
        let seconds = |text: &str, milestone: &str| {
            value(text, &format!("spot_relay_handover_milestone_seconds{{milestone=\"{milestone}\"}}"))
        };
        assert_eq!(
            (seconds(&text, "noticed"), seconds(&text, "left"), seconds(&text, "handed-over")),
            (0.0, 5.0, 60.0)
        );
        assert!(seconds(&text, "quiet").is_nan());
        assert_eq!(value(&text, "spot_relay_handover_left_seconds"), 60.0);
        assert_eq!(value(&text, "spot_relay_milestones_total{milestone=\"left\"}"), 2.0);
        assert_eq!(value(&text, "spot_relay_milestones_total{milestone=\"arrived\"}"), 1.0);
        metrics.reached(&milestone(MilestoneKind::Noticed, 300), Some(at(300)));
        let text = metrics.text(at(301));
        assert!(seconds(&text, "left").is_nan() && value(&text, "spot_relay_handover_left_seconds").is_nan());
        assert_eq!(value(&text, "spot_relay_milestones_total{milestone=\"noticed\"}"), 2.0);
    }

    #[test]
    fn what_an_alert_needs_follows_the_last_look_up() {
        let metrics = metrics();
        metrics.looked_up(Some(2), Some("ec2-fleet"));
        metrics.handed_over("partial");
        let text = metrics.text(at(101));
        assert_eq!(value(&text, "spot_relay_registered_targets"), 2.0);
        assert_eq!(value(&text, "spot_relay_owner{owner=\"ec2-fleet\"}"), 1.0);
        assert_eq!(value(&text, "spot_relay_handovers_total{outcome=\"partial\"}"), 1.0);
        metrics.looked_up(None, Some("none"));
        let text = metrics.text(at(102));
        assert!(value(&text, "spot_relay_registered_targets").is_nan());
        assert_eq!(value(&text, "spot_relay_owner{owner=\"ec2-fleet\"}"), 0.0);
        assert_eq!(value(&text, "spot_relay_owner{owner=\"none\"}"), 1.0);
    }

    #[test]
    fn calls_hooks_posts_and_retries_are_counted_by_result() {
        let metrics = metrics();
        metrics.aws_call("CreateTags", None);
        metrics.aws_call("CreateTags", Some(FailureKind::Throttled));
        metrics.aws_call("other", Some(FailureKind::Unanswered));
        metrics.retried("leave");
        metrics.hook(HookKind::Drained, false);
        metrics.posted(Some(FailureKind::Fault));
        let text = metrics.text(at(101));
        for series in [
            "spot_relay_aws_calls_total{action=\"CreateTags\",result=\"ok\"}",
            "spot_relay_aws_calls_total{action=\"CreateTags\",result=\"throttled\"}",
            "spot_relay_aws_calls_total{action=\"other\",result=\"unanswered\"}",
            "spot_relay_retries_total{duty=\"leave\"}",
            "spot_relay_hooks_total{hook=\"drained\",result=\"failed\"}",
            "spot_relay_webhook_posts_total{result=\"fault\"}",
        ] {
            assert_eq!(value(&text, series), 1.0, "{series}");
        }
    }
}
