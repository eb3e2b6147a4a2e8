//! The facts known before a notice comes, and when they are looked up again.
//!
//! Invariant: found out at start, spread by jitter, and rarely again; a look-up that fails is tried again with growing pauses.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fleets::{Tidied, told_of_the_fleet};
use super::gap::{Gap, Planned, Tempo};
use super::log_line::LogLine;
use super::outlook;
use super::prepare::{Delays, Findings};
use super::put_off::PutOff;
use super::said::Said;
use crate::cloud::elb::{FoundRegistrations, ScanPace};
use crate::core::config::{Config, TargetGroups, When};
use crate::core::handover::LookedUp;
use crate::core::model::{BootInstant, Identity, Registration, TargetGroupArn};
use crate::core::plan::Plan;
use crate::core::retry::{self, Backoff, Failure, FailureKind, LOOK_UP};

/// A deregistration delay that is known for longer is asked for again in a usual round.
const RENEW_DELAYS: Duration = Duration::from_secs(60 * 60);
/// Instances that boot together do not ask together.
pub(super) const START_JITTER: Duration = Duration::from_secs(5);
/// The pause between two look-ups that found everything; an instance's own jitter makes it up to a tenth longer.
const RENEW_EVERY: Duration = Duration::from_secs(2 * 60 * 60);
/// The delay of what was put off at the start, and up to five times as long, spread over all fellows.
const PUT_OFF_BY: Duration = Duration::from_secs(60);
/// An instance whose tags name no owner, or that is in no target group yet may just have booted: looked for again soon, then less and less often.
const NOT_REGISTERED_YET: Backoff = Backoff { first: Duration::from_secs(15), longest: Duration::from_secs(30 * 60) };
/// The remains of a raise on the fleet are looked at again when its victims are gone, then less and less often.
const LEFT_OVER: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(2 * 60 * 60) };
/// The pauses after a denial, which only a person can change: longer than after what may be well in a moment.
const DENIED: Backoff = Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(30 * 60) };
/// The rounds without a registration in which all target groups are asked; then only at a recommendation. A worker that
/// serves nothing must not ask the whole account for ever.
const SCANS_WITHOUT_REGISTRATION: u32 = 7;
/// A scan beside what is known takes so long at least, however few target groups there are.
const SLOW_SCAN: Duration = Duration::from_secs(60 * 60);
/// The pause from one such scan to the next.
const SLOW_SCAN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// A scan that takes longer than this is not repeated in the two minutes.
const QUICK_SCAN: Duration = Duration::from_secs(10);
/// Credentials are renewed so long before they expire: AWS promises new ones five minutes before.
const CREDENTIALS_MARGIN: Duration = Duration::from_secs(4 * 60);
/// The least time between two renewals of the credentials.
const RENEW_CREDENTIALS_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// The facts known, and the time to look again.
pub(super) struct Preparation {
    next: BootInstant,
    begun: bool,
    failures: u32,
    empty_rounds: u32,
    /// Rounds in a row that found something left over on the fleet that cannot be put right yet.
    leftover_rounds: u32,
    seed: u64,
    /// Others of a group may begin in the same moment.
    in_turn: bool,
    /// Tells whether all of the account's target groups are to be asked after the next round, if it finds this instance in none:
    /// at start, and at a recommendation. No other way finds a registration that neither the owner nor a person names.
    scan_wanted: bool,
    scan_due: bool,
    scan_was_quick: bool,
    /// The instant at which all target groups are asked though this instance is known to be in one: it may be in
    /// another as well.
    slow_scan_at: Option<BootInstant>,
    scanning: Option<ScanPace>,
    renew_credentials_at: Option<BootInstant>,
    renew_delays_at: BootInstant,
    plan: Option<Plan>,
    /// What a raise of the fleet needs and IAM denies, each in a sentence.
    denied_reads: Vec<String>,
    /// The last round did not find the owner that is known.
    owner_is_missed: bool,
    put_off: PutOff,
    registrations: Option<Vec<Registration>>,
    served_zones: Option<BTreeSet<String>>,
    /// Groups whose deregistration delay is still to be asked for.
    without_delay: Vec<TargetGroupArn>,
    missing: Vec<String>,
    awaits_more: bool,
    /// Target groups of which AWS does not tell whether this instance is in them.
    unclear: Vec<TargetGroupArn>,
    when: When,
    /// The look-ups that failed in the last round, by name.
    unknown: Vec<String>,
    said: Said,
}

impl Preparation {
    pub(super) fn new(when: When, now: BootInstant) -> Preparation {
        Preparation {
            next: now,
            begun: false,
            failures: 0,
            empty_rounds: 0,
            leftover_rounds: 0,
            seed: 0,
            in_turn: true,
            scan_wanted: true,
            scan_due: false,
            scan_was_quick: true,
            slow_scan_at: None,
            scanning: None,
            renew_credentials_at: None,
            renew_delays_at: now + RENEW_DELAYS,
            plan: None,
            denied_reads: Vec::new(),
            owner_is_missed: false,
            put_off: PutOff::default(),
            registrations: None,
            served_zones: None,
            without_delay: Vec::new(),
            missing: Vec::new(),
            awaits_more: false,
            unclear: Vec::new(),
            when,
            unknown: Vec::new(),
            said: Said::default(),
        }
    }

    /// It is known who this instance is.
    pub(super) fn begin(&mut self, identity: &Identity, now: BootInstant) {
        self.seed = retry::seed(&format!("look-ups of {}", identity.instance_id));
        self.next = now + START_JITTER.mul_f64(retry::fraction(self.seed));
        self.begun = true;
    }

    /// The failures of rounds in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn is_due(&self, now: BootInstant) -> bool {
        self.begun && now >= self.next
    }

    /// The successor's zone is ours to choose: the zones that the load balancers serve come first.
    pub(super) fn chooses_zones(&self, config: &Config) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.chooses_zones(config))
    }

    /// Begins the next round at once: at a recommendation, or after a standstill.
    pub(super) fn renew_now(&mut self, now: BootInstant) {
        self.next = now;
        self.in_turn = true;
        self.scan_wanted = true;
    }

    /// The tempo of the next round's calls.
    pub(super) fn tempo(&self) -> Tempo {
        if self.in_turn { Tempo::InTurn { seed: self.seed } } else { Tempo::AtOnce }
    }

    /// The deregistration delays that are known may have changed. They are not asked for where many ask at once.
    pub(super) fn renews_delays(&self, now: BootInstant) -> bool {
        !self.in_turn && now >= self.renew_delays_at
    }

    /// The pace of a scan that is to begin now: after a round, which looked at what is quick to ask.
    pub(super) fn is_scan_due(&self, config: &Config, now: BootInstant) -> Option<ScanPace> {
        if config.target_groups != TargetGroups::Discover || self.scanning.is_some() {
            return None;
        }
        let fellows = self.plan.as_ref().and_then(Plan::fellows);
        let slow = self.slow_scan_at.is_some_and(|at| now >= at) && self.is_registered();
        match () {
            () if self.scan_due => Some(ScanPace::last_way(fellows)),
            () if slow => Some(ScanPace::slow(fellows, SLOW_SCAN)),
            () => None,
        }
    }

    pub(super) fn scan_begins(&mut self, pace: ScanPace) {
        self.scanning = Some(pace);
    }

    /// A scan is under way for whose end the rounds wait: nothing else is known.
    pub(super) fn waits_for_scan(&self) -> bool {
        self.scanning.is_some_and(|pace| !pace.is_slow())
    }

    /// Takes what a scan of all target groups found.
    pub(super) fn scanned(
        &mut self,
        found: Result<FoundRegistrations, Failure>,
        took: Duration,
        now: BootInstant,
    ) -> Vec<LogLine> {
        if self.scanning.take().is_some_and(ScanPace::is_slow) {
            return self.scanned_slowly(found, now);
        }
        self.scan_due = false;
        self.scan_was_quick = took < QUICK_SCAN;
        let (mut failed, mut lines) = (self.unknown.clone(), Vec::new());
        match found {
            Ok(found) => {
                lines = self.said.doubts_of(&found);
                let untold = untold(&found);
                self.unclear = found.unclear_groups();
                self.served_zones = found.served_zones;
                self.registrations = Some(found.registrations);
                if untold.is_some() {
                    self.scan_wanted = true;
                    failed.extend(untold);
                    self.schedule(Round::Incomplete, now);
                }
                if failed.is_empty() {
                    self.schedule(Round::Complete, now);
                }
            }
            Err(failure) => {
                self.scan_wanted = true;
                failed.push(format!("target groups: {failure}"));
                self.schedule(Round::Incomplete, now);
            }
        }
        lines.extend(self.news(&failed));
        lines
    }

    /// Takes the result of a slow scan. What is known already stays: its own rounds see to it.
    fn scanned_slowly(&mut self, found: Result<FoundRegistrations, Failure>, now: BootInstant) -> Vec<LogLine> {
        self.slow_scan_at = Some(now + SLOW_SCAN_EVERY.mul_f64(1.0 + retry::fraction(self.seed) / 10.0));
        let found = found.unwrap_or_default();
        let mut lines = self.said.doubts_of(&found);
        let known = self.registrations.get_or_insert_default();
        for registration in found.registrations {
            if !known.iter().any(|known| known.target_group == registration.target_group) {
                known.push(registration);
            }
        }
        let failed = self.unknown.clone();
        lines.extend(self.news(&failed));
        lines
    }

    /// Tells whether "in no target group" is to be believed at a notice without asking again.
    pub(super) fn trusts_empty(&self) -> bool {
        !self.scan_was_quick
    }

    /// A round of look-ups came to no end of its own.
    pub(super) fn died(&mut self, now: BootInstant) {
        self.schedule(Round::Incomplete, now);
    }

    pub(super) fn is_renewal_due(&self, now: BootInstant) -> bool {
        self.renew_credentials_at.is_some_and(|renew_at| now >= renew_at)
    }

    /// Credentials were renewed, or not: by themselves, whatever else is known stays. Trouble with them is told elsewhere.
    pub(super) fn renewed(&mut self, result: &Result<Option<Duration>, Failure>, now: BootInstant) {
        let last = match result {
            Ok(last) => *last,
            Err(_) => Some(Duration::ZERO),
        };
        self.renew_credentials_at =
            last.map(|last| now + last.saturating_sub(CREDENTIALS_MARGIN).max(RENEW_CREDENTIALS_AT_MOST_EVERY));
    }

    /// The registrations of which nothing is to be asked again but their targets.
    pub(super) fn known_in_full(&self) -> Vec<Registration> {
        let known = self.registrations.iter().flatten();
        known.filter(|it| !self.without_delay.contains(&it.target_group)).cloned().collect()
    }

    pub(super) fn known(&self) -> LookedUp {
        LookedUp {
            registrations: self.registrations.clone(),
            plan: self.plan.clone().filter(|_| self.put_off.knows_hooks()).map(|plan| match &self.served_zones {
                Some(served) => plan.preferring(served),
                None => plan,
            }),
            missing: self.missing.clone(),
            unclear: self.unclear.clone(),
            more_expected: self.awaits_more,
        }
    }

    /// Takes a round's findings. What a failed look-up knew before is kept. Returns what is news to a person.
    pub(super) fn learn(&mut self, findings: Findings, now: BootInstant) -> Vec<LogLine> {
        let Findings { credentials, plan, hooks_put_off, registrations, delays, denied_reads, tidied } = findings;
        let is_left_over = matches!(tidied, Ok(Tidied::Later(_)) | Err(_));
        self.leftover_rounds = if is_left_over { self.leftover_rounds + 1 } else { 0 };
        let mut lines: Vec<LogLine> = self.said.news_of_fleet(told_of_the_fleet(tidied)).into_iter().collect();
        self.denied_reads = denied_reads.unwrap_or_else(|| std::mem::take(&mut self.denied_reads));
        let mut failed: Vec<String> = Vec::new();
        match credentials {
            Ok(last) => self.renewed(&Ok(last), now),
            Err(failure) => failed.push(format!("credentials: {failure}")),
        }
        let Planned { plan, gaps } = plan;
        let gaps_last = gaps.iter().all(|gap| gap.kind() == FailureKind::Denied);
        let throttled = gaps.iter().any(|gap| gap.kind() == FailureKind::Throttled);
        let untold = registrations.as_ref().and_then(|found| untold(found.as_ref().ok()?));
        let is_told = !matches!(registrations, Some(Err(_))) && untold.is_none();
        let may_scan = failed.is_empty() && is_told && !throttled;
        failed.extend(gaps.iter().map(Gap::to_string));
        self.learn_plan(plan, gaps.iter().any(Gap::is_of_hooks), hooks_put_off);
        match registrations {
            None => {}
            Some(Ok(found)) => {
                lines.extend(self.said.doubts_of(&found));
                failed.extend(untold);
                self.learn_registrations(found);
            }
            Some(Err(failure)) => failed.push(format!("target groups: {failure}")),
        }
        match delays {
            Ok(Delays::Renewed) => self.renew_delays_at = now + RENEW_DELAYS,
            Ok(Delays::Added) => {}
            Err(failure) => failed.push(format!("deregistration delay: {failure}")),
        }
        self.in_turn = false;
        // The last way: nobody has named a target group that this instance is in.
        let looks_on = self.scan_wanted || self.empty_rounds < SCANS_WITHOUT_REGISTRATION;
        self.scan_due = may_scan && !self.is_registered() && looks_on;
        self.scan_wanted &= !(self.scan_due || self.is_registered());
        if self.is_registered() {
            self.slow_scan_at.get_or_insert(now + SLOW_SCAN.mul_f64(retry::fraction(self.seed.rotate_left(7)) / 4.0));
        }
        let round = match () {
            () if failed.is_empty() => Round::Complete,
            () if may_scan && gaps_last => Round::Denied,
            () => Round::Incomplete,
        };
        self.schedule(round, now);
        self.unknown = failed.clone();
        failed.extend(
            self.missing
                .iter()
                .map(|group| format!("target-groups names {group}, and there is no such target group in this region")),
        );
        // Facts that a scan is about to find out are no news yet.
        if !failed.is_empty() || self.registrations.is_some() {
            lines.extend(self.news(&failed));
        }
        lines
    }

    fn learn_registrations(&mut self, found: FoundRegistrations) {
        self.unclear = found.unclear_groups();
        self.missing = found.missing;
        self.put_off.health = found.is_presumed;
        self.awaits_more = found.awaits_more;
        self.served_zones = found.served_zones;
        self.without_delay = found.without_delay;
        self.registrations = Some(found.registrations);
    }

    /// Keeps what the round before knew, where AWS did not tell it this time.
    fn learn_plan(&mut self, plan: Option<Plan>, hooks_failed: bool, hooks_put_off: bool) {
        let is_lost =
            plan.as_ref().is_some_and(Plan::is_doubtful) && self.plan.as_ref().is_some_and(|it| !it.is_doubtful());
        // One answer without the owner may be a fault of AWS's: the next round has to agree.
        let plan = plan.filter(|_| !is_lost || self.owner_is_missed);
        self.owner_is_missed = is_lost && !self.owner_is_missed;
        self.put_off.learn_hooks(self.plan.as_ref(), plan.as_ref(), hooks_put_off);
        self.plan = match (plan, self.plan.take()) {
            (Some(plan), Some(before)) if hooks_failed || hooks_put_off => Some(plan.with_hooks_of(&before)),
            (plan, before) => plan.or(before),
        };
    }

    fn is_registered(&self) -> bool {
        self.registrations.as_ref().is_some_and(|registrations| !registrations.is_empty())
    }

    fn is_without_owner(&self) -> bool {
        self.owner_is_missed || self.plan.as_ref().is_some_and(Plan::is_doubtful)
    }

    fn schedule(&mut self, round: Round, now: BootInstant) {
        let longest = match self.leftover_rounds {
            0 => Duration::MAX,
            rounds => LEFT_OVER.ceiling(rounds).mul_f64(1.0 + retry::fraction(self.seed)),
        };
        let pause = if round != Round::Complete {
            self.failures += 1;
            let backoff = if round == Round::Denied { DENIED } else { LOOK_UP };
            backoff.pause(self.failures, self.seed).max(LOOK_UP.first)
        } else if !self.is_registered() || self.awaits_more || self.is_without_owner() {
            self.failures = 0;
            self.empty_rounds += 1;
            NOT_REGISTERED_YET.ceiling(self.empty_rounds)
        } else {
            self.failures = 0;
            self.empty_rounds = 0;
            let is_complete = self.without_delay.is_empty() && self.put_off.is_nothing();
            let every = if is_complete { RENEW_EVERY } else { PUT_OFF_BY };
            every.mul_f64(1.0 + retry::fraction(self.seed) * if every == RENEW_EVERY { 0.1 } else { 4.0 })
        };
        self.next = now + pause.min(longest);
    }

    /// Owner, registrations and what happens on a notice, each in a sentence, if it is not what was said last.
    fn news(&mut self, failed: &[String]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let owner = self.plan.as_ref().map(outlook::owner);
        if let Some(text) = owner.filter(|text| self.said.owner.as_ref() != Some(text)) {
            lines.push(LogLine::Info(text.clone()));
            self.said.owner = Some(text);
        }
        let mut remarks = self.plan.as_ref().map(Plan::remarks).unwrap_or_default();
        remarks.extend(self.denied_reads.iter().cloned());
        let new = remarks.iter().filter(|remark| !self.said.remarks.contains(remark));
        lines.extend(new.cloned().map(LogLine::Warn));
        self.said.remarks = remarks;
        let registered = self.registrations.as_deref().map(|them| outlook::registered(them, &self.without_delay));
        if let Some(text) = registered.filter(|text| self.said.registered.as_ref() != Some(text)) {
            lines.push(LogLine::Info(text.clone()));
            self.said.registered = Some(text);
        }
        let outlook = outlook::on_a_notice(self.registrations.as_deref(), self.plan.as_ref(), self.when);
        let text = match failed {
            [] => format!("ready; on a notice: {outlook}{}", self.put_off.in_words()),
            failed => format!(
                "not everything could be looked up, still trying: {}; on a notice as far as known: {outlook}",
                failed.join("; ")
            ),
        };
        if self.said.ready.as_ref() != Some(&text) {
            lines.push(if failed.is_empty() { LogLine::Info(text.clone()) } else { LogLine::Warn(text.clone()) });
            self.said.ready = Some(text);
        }
        lines
    }
}

/// The end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Complete,
    /// Complete but for what IAM denies.
    Denied,
    Incomplete,
}

/// The first group that AWS has not told of, and why: it is asked for again soon.
fn untold(found: &FoundRegistrations) -> Option<String> {
    let words =
        |target_group: &TargetGroupArn, failure: Failure| format!("target group {}: {failure}", target_group.name());
    found.unclear.iter().find_map(|(target_group, reason)| Some(words(target_group, reason.to_ask_again()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::{AutoScalingGroup, LifecycleHook, Target, TargetType};
    use crate::core::plan::GroupRequest;

    fn registration(name: &str) -> Registration {
        let arn = format!("arn:aws:elasticloadbalancing:r:1:targetgroup/{name}/0");
        Registration::new(
            TargetGroupArn::new(arn),
            TargetType::Instance,
            [Target { id: "i-us".to_owned(), port: 80 }].into_iter().collect(),
        )
    }

    /// The facts of a round that found everything, in the order in which AWS happened to answer.
    fn found(names: [&str; 2]) -> Findings {
        let registrations = names.map(registration).to_vec();
        Findings {
            credentials: Ok(Some(Duration::from_secs(6 * 60 * 60))),
            plan: Planned { plan: Some(Plan::nobody_ever("the configuration wants none")), gaps: Vec::new() },
            hooks_put_off: false,
            registrations: Some(Ok(FoundRegistrations { registrations, ..FoundRegistrations::default() })),
            delays: Ok(Delays::Added),
            denied_reads: None,
            tidied: Ok(Tidied::Nothing),
        }
    }

    fn beginnings(lines: &[LogLine]) -> Vec<String> {
        let first = |text: &str| text.split([':', ';', ' ']).next().unwrap_or_default().to_owned();
        lines.iter().map(|(LogLine::Info(text) | LogLine::Warn(text))| first(text)).collect()
    }

    #[test]
    fn hooks_that_aws_does_not_tell_in_a_later_round_stay_known() {
        let hook = || LifecycleHook { name: "drain".to_owned(), heartbeat_timeout: Duration::from_secs(60) };
        let planned = |hooks: Vec<LifecycleHook>, gaps: Vec<Gap>| {
            let how = if hooks.is_empty() { GroupRequest::Detach } else { GroupRequest::Terminate };
            let group = AutoScalingGroup {
                name: "shop-asg".to_owned(),
                termination_hooks: hooks,
                ..AutoScalingGroup::default()
            };
            Findings { plan: Planned { plan: Some(Plan::Group { group, how }), gaps }, ..found(["web", "api"]) }
        };
        let now = BootInstant::default();
        let mut preparation = Preparation::new(When::Auto, now);
        let mut known_after = |findings: Findings| {
            preparation.learn(findings, now);
            preparation.known().plan.expect("a plan")
        };
        known_after(planned(vec![hook()], Vec::new()));
        let plan = known_after(planned(Vec::new(), vec![Gap::of_hooks("shop-asg", Failure::unanswered("no answer"))]));
        assert_eq!(plan.termination_hooks(), [hook()]);
        assert!(matches!(plan, Plan::Group { how: GroupRequest::Terminate, .. }), "{plan}");
        assert!(known_after(planned(Vec::new(), Vec::new())).termination_hooks().is_empty(), "AWS has told of none");
    }

    #[test]
    fn hooks_that_are_put_off_have_the_plan_looked_up_at_a_notice_until_they_were_asked_for_once() {
        let group = || AutoScalingGroup { name: "shop-asg".to_owned(), ..AutoScalingGroup::default() };
        let plan = || Plan::Group { group: group(), how: GroupRequest::Detach };
        let planned = |hooks_put_off| Findings {
            plan: Planned { plan: Some(plan()), gaps: Vec::new() },
            hooks_put_off,
            ..found(["web", "api"])
        };
        let (mut preparation, now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        let lines = preparation.learn(planned(true), now);
        let said = |(LogLine::Info(text) | LogLine::Warn(text)): &LogLine| {
            text.contains("hooks are asked for in some minutes")
        };
        assert!(lines.iter().any(said));
        assert_eq!(preparation.known().plan, None);
        assert!(preparation.known().registrations.is_some());
        assert!(preparation.next <= now + PUT_OFF_BY * 5, "{:?}", preparation.next);
        preparation.learn(planned(false), now);
        assert!(preparation.known().plan.is_some() && preparation.next >= now + RENEW_EVERY);
        // A recommendation has them put off again, and those that are known stay.
        preparation.learn(planned(true), now);
        assert!(preparation.known().plan.is_some() && preparation.next <= now + PUT_OFF_BY * 5);
    }

    #[test]
    fn a_week_of_look_ups_that_find_the_same_says_nothing_and_a_change_says_what_it_is() {
        let mut now = BootInstant::default();
        let mut preparation = Preparation::new(When::Auto, now);
        let lines = preparation.learn(found(["web", "api"]), now);
        assert_eq!(beginnings(&lines), ["owner", "registered", "ready"]);
        for round in 0..84 {
            now = now + Duration::from_secs(2 * 60 * 60);
            let lines = preparation.learn(found(if round % 2 == 0 { ["api", "web"] } else { ["web", "api"] }), now);
            assert_eq!(beginnings(&lines), Vec::<String>::new(), "round {round}");
            preparation.renewed(&Ok(Some(Duration::from_secs(60 * 60))), now);
        }
        let lines = preparation.learn(found(["web", "udp"]), now);
        assert_eq!(beginnings(&lines), ["registered", "ready"]);
    }

    #[test]
    fn a_fleet_that_has_more_than_its_target_is_told_once_and_looked_at_again_soon() {
        let (mut preparation, mut now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        let mut look = |tidied: Tidied| {
            let lines = preparation.learn(Findings { tidied: Ok(tidied), ..found(["web", "api"]) }, now);
            let pause = preparation.next.since(now);
            now = preparation.next;
            (beginnings(&lines), pause <= RENEW_EVERY / 2)
        };
        let surplus = || Tidied::Later(Some("fleet-1 has 4 units".to_owned()));
        assert_eq!(look(surplus()), (["fleet-1", "owner", "registered", "ready"].map(str::to_owned).to_vec(), true));
        assert_eq!(look(surplus()), (Vec::new(), true));
        assert_eq!(look(Tidied::Nothing), (Vec::new(), false));
        assert_eq!(look(surplus()).0, ["fleet-1"]);
    }

    #[test]
    fn the_usual_rounds_ask_for_known_delays_again_and_those_of_the_first_hour_do_not() {
        let (mut preparation, start) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        preparation.learn(found(["web", "api"]), start);
        assert!(!preparation.renews_delays(start) && preparation.renews_delays(preparation.next));
        let later = preparation.next;
        preparation.renew_now(later);
        assert!(!preparation.renews_delays(later), "all of a group may be recommended to go at once");
        preparation.learn(found(["web", "api"]), later);
        assert!(preparation.renews_delays(later), "nobody has asked yet");
        preparation.learn(Findings { delays: Ok(Delays::Renewed), ..found(["web", "api"]) }, later);
        assert!(!preparation.renews_delays(later) && preparation.renews_delays(preparation.next));
    }

    #[test]
    fn a_listed_registration_that_is_not_there_yet_is_looked_for_soon_and_then_less_and_less_often() {
        let (mut preparation, mut now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        let mut look = |awaits_more: bool, now: BootInstant| {
            let mut findings = found(["web", "api"]);
            if let Some(Ok(found)) = &mut findings.registrations {
                found.awaits_more = awaits_more;
            }
            preparation.learn(findings, now);
            preparation.next.since(now)
        };
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                let pause = look(true, now);
                now = now + pause;
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960, 1_800, 1_800]);
        assert!(look(false, now) >= RENEW_EVERY);
    }

    #[test]
    fn a_delay_that_was_put_off_is_asked_for_within_minutes_and_nothing_else_of_its_group_is_unknown() {
        let (mut preparation, now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        let mut findings = found(["web", "api"]);
        if let Some(Ok(found)) = &mut findings.registrations {
            found.without_delay = vec![found.registrations[0].target_group.clone()];
        }
        let lines = preparation.learn(findings, now);
        assert_eq!(beginnings(&lines), ["owner", "registered", "ready"]);
        let known: Vec<String> = preparation.known_in_full().iter().map(|it| it.name().to_owned()).collect();
        assert_eq!(known, ["api"]);
        assert_eq!(preparation.known().registrations.map(|them| them.len()), Some(2));
        assert!(preparation.next <= now + PUT_OFF_BY * 5, "{:?}", preparation.next);
        let lines = preparation.learn(found(["web", "api"]), now + PUT_OFF_BY);
        assert_eq!(beginnings(&lines), ["registered"]);
        assert_eq!(preparation.known_in_full().len(), 2);
        assert!(preparation.next > now + RENEW_EVERY);
    }
}
