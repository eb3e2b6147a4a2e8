//! The facts known before a notice comes, and the lines about them. [`Rounds`] decides when they are looked up again.
//!
//! Invariant: a fact that is known stays known if a later look-up fails.

use std::time::Duration;

use super::fleets::{Tidied, told_of_the_fleet};
use super::gap::{Gap, Planned};
use super::log_line::LogLine;
use super::outlook;
use super::prepare::{Delays, Findings};
use super::put_off::PutOff;
use super::rounds::{RENEW_DELAYS, Round, Rounds};
use super::said::{SaidBefore, news};
use crate::cloud::elb::{FoundRegistrations, ScanSpeed};
use crate::core::config::{Config, TargetGroups, When};
use crate::core::handover::LookedUp;
use crate::core::model::{BootInstant, Registration, TargetGroupArn};
use crate::core::plan::Plan;
use crate::core::retry::{Failure, FailureKind};

/// The facts that the look-ups have found.
#[derive(Default)]
pub(super) struct Preparation {
    pub(super) rounds: Rounds,
    plan: Option<Plan>,
    /// The permissions that a raise of the fleet needs and IAM denies, each in a sentence.
    denied_reads: Vec<String>,
    /// The last round did not find the owner that is known.
    owner_is_missed: bool,
    put_off: PutOff,
    found: Option<FoundRegistrations>,
    when: When,
    /// The look-ups that failed in the last round, by name.
    unknown: Vec<String>,
    said: SaidBefore,
}

impl Preparation {
    pub(super) fn new(when: When, now: BootInstant) -> Preparation {
        Preparation { rounds: Rounds::new(now), when, ..Preparation::default() }
    }

    /// Tells whether we choose the successor's zone: then the zones that the load balancers serve come first.
    pub(super) fn chooses_zones(&self, config: &Config) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.chooses_zones(config))
    }

    /// The speed of a scan that is to begin now. A round comes before it, because it is quick.
    pub(super) fn is_scan_due(&self, config: &Config, now: BootInstant) -> Option<ScanSpeed> {
        let fellows = self.plan.as_ref().and_then(Plan::fellows);
        let speed = self.rounds.scan_speed(now, fellows, self.is_registered());
        speed.filter(|_| config.target_groups == TargetGroups::Discover)
    }

    /// Takes what a scan of all target groups found.
    pub(super) fn scanned(
        &mut self,
        found: Result<FoundRegistrations, Failure>,
        took: Duration,
        now: BootInstant,
    ) -> Vec<LogLine> {
        if self.rounds.scan_ends(took, now) {
            return self.scanned_slowly(found);
        }
        let (mut failed, mut lines) = (self.unknown.clone(), Vec::new());
        match found {
            Ok(found) => {
                lines = self.said.doubts_of(&found);
                let untold = untold(&found);
                let known = self.found.take().unwrap_or_default();
                let FoundRegistrations { registrations, unclear, served_zones, without_delay, .. } = found;
                self.found = Some(FoundRegistrations { registrations, unclear, served_zones, without_delay, ..known });
                if untold.is_some() {
                    failed.extend(untold);
                    self.rounds.scan_failed(now);
                }
                if failed.is_empty() {
                    self.rounds.schedule(self.round(), now);
                }
            }
            Err(failure) => {
                failed.push(format!("target groups: {failure}"));
                self.rounds.scan_failed(now);
            }
        }
        lines.extend(self.news(&failed));
        lines
    }

    /// Takes the result of a slow scan. Known registrations stay as they are: their own rounds renew them.
    fn scanned_slowly(&mut self, found: Result<FoundRegistrations, Failure>) -> Vec<LogLine> {
        let found = found.unwrap_or_default();
        let mut lines = self.said.doubts_of(&found);
        let known = &mut self.found.get_or_insert_default().registrations;
        for registration in found.registrations {
            if !known.iter().any(|known| known.target_group == registration.target_group) {
                known.push(registration);
            }
        }
        let failed = self.unknown.clone();
        lines.extend(self.news(&failed));
        lines
    }

    /// The registrations that are known in full: only their targets are asked for again.
    pub(super) fn known_in_full(&self) -> Vec<Registration> {
        let Some(found) = &self.found else { return Vec::new() };
        let known = found.registrations.iter();
        known.filter(|it| !found.without_delay.contains(&it.target_group)).cloned().collect()
    }

    /// The groups in which this instance was found: the next round looks into them again.
    pub(super) fn groups(&self) -> Vec<TargetGroupArn> {
        let found = self.found.iter().flat_map(|found| &found.registrations);
        found.map(|registration| registration.target_group.clone()).collect()
    }

    pub(super) fn known(&self) -> LookedUp {
        let found = self.found.clone().unwrap_or_default();
        LookedUp {
            plan: self.plan.clone().filter(|_| self.put_off.knows_hooks()).map(|plan| match &found.served_zones {
                Some(served) => plan.preferring(served),
                None => plan,
            }),
            unclear: found.unclear_groups(),
            registrations: self.found.is_some().then_some(found.registrations),
            missing: found.missing,
            more_expected: found.awaits_more,
            is_in_some: found.is_in_some,
        }
    }

    /// Takes a round's findings. What a failed look-up knew before is kept. Returns what is news to a person.
    pub(super) fn learn(&mut self, findings: Findings, now: BootInstant) -> Vec<LogLine> {
        let Findings { credentials, plan, hooks_put_off, registrations, delays, denied_reads, tidied } = findings;
        let is_left_over = matches!(tidied, Ok(Tidied::Later(_)) | Err(_));
        self.rounds.leftover_rounds = if is_left_over { self.rounds.leftover_rounds + 1 } else { 0 };
        let mut lines: Vec<LogLine> = self.said.news_of_fleet(told_of_the_fleet(tidied)).into_iter().collect();
        self.denied_reads = denied_reads.unwrap_or_else(|| std::mem::take(&mut self.denied_reads));
        let mut failed: Vec<String> = Vec::new();
        match credentials {
            Ok(last) => self.rounds.renewed(&Ok(last), now),
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
                self.put_off.health = found.is_presumed;
                self.found = Some(found);
            }
            Some(Err(failure)) => failed.push(format!("target groups: {failure}")),
        }
        match delays {
            Ok(Delays::Renewed) => self.rounds.renew_delays_at = now + RENEW_DELAYS,
            Ok(Delays::Added) => {}
            Err(failure) => failed.push(format!("deregistration delay: {failure}")),
        }
        self.rounds.wants_scan(self.is_registered(), may_scan, now);
        let round = match () {
            () if failed.is_empty() => self.round(),
            () if may_scan && gaps_last => Round::Denied,
            () => Round::Incomplete,
        };
        self.rounds.schedule(round, now);
        self.unknown = failed.clone();
        let missing = self.found.iter().flat_map(|found| &found.missing);
        failed.extend(
            missing.map(|it| format!("target-groups names {it}, and there is no such target group in this region")),
        );
        // Facts that a scan is about to find are no news yet.
        if !failed.is_empty() || self.found.is_some() {
            lines.extend(self.news(&failed));
        }
        lines
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
        self.found.as_ref().is_some_and(|found| !found.registrations.is_empty())
    }

    fn is_without_owner(&self) -> bool {
        self.owner_is_missed || self.plan.as_ref().is_some_and(Plan::is_doubtful)
    }

    /// The result of a round in which nothing failed.
    fn round(&self) -> Round {
        match &self.found {
            Some(found) if self.is_registered() && !found.awaits_more && !self.is_without_owner() => {
                let is_all = found.without_delay.is_empty() && self.put_off.is_nothing();
                if is_all { Round::Complete } else { Round::PutOff }
            }
            _ => Round::Early,
        }
    }

    /// The owner, the registrations and the outlook, each in a sentence, if it differs from the last one.
    fn news(&mut self, failed: &[String]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        let owner = self.plan.as_ref().map(outlook::owner);
        lines.extend(owner.and_then(|text| news(&mut self.said.owner, text)).map(LogLine::Info));
        let mut remarks = self.plan.as_ref().map(Plan::remarks).unwrap_or_default();
        remarks.extend(self.denied_reads.iter().cloned());
        let new = remarks.iter().filter(|remark| !self.said.remarks.contains(remark));
        lines.extend(new.cloned().map(LogLine::Warn));
        self.said.remarks = remarks;
        let registered = self.found.as_ref().map(|it| outlook::registered(&it.registrations, &it.without_delay));
        lines.extend(registered.and_then(|text| news(&mut self.said.registered, text)).map(LogLine::Info));
        let registrations = self.found.as_ref().map(|found| found.registrations.as_slice());
        let outlook = outlook::on_a_notice(registrations, self.plan.as_ref(), self.when);
        let text = match failed {
            [] => format!("ready; on a notice: {outlook}{}", self.put_off.in_words()),
            failed => format!(
                "not everything could be looked up, still trying: {}; on a notice as far as known: {outlook}",
                failed.join("; ")
            ),
        };
        let line = if failed.is_empty() { LogLine::Info } else { LogLine::Warn };
        lines.extend(news(&mut self.said.ready, text).map(line));
        lines
    }
}

/// The first group of which AWS has not told, and why: it is asked for again soon.
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
    use crate::daemon::prepare::groups_to_ask;
    use crate::daemon::rounds::{PUT_OFF_BY, RENEW_EVERY};

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
            text.contains("hooks are asked within five minutes")
        };
        assert!(lines.iter().any(said));
        assert_eq!(preparation.known().plan, None);
        assert!(preparation.known().registrations.is_some());
        assert!(preparation.rounds.next <= now + PUT_OFF_BY * 5, "{:?}", preparation.rounds.next);
        preparation.learn(planned(false), now);
        assert!(preparation.known().plan.is_some() && preparation.rounds.next >= now + RENEW_EVERY);
        // A recommendation has them put off again, and those that are known stay.
        preparation.learn(planned(true), now);
        assert!(preparation.known().plan.is_some() && preparation.rounds.next <= now + PUT_OFF_BY * 5);
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
            preparation.rounds.renewed(&Ok(Some(Duration::from_secs(60 * 60))), now);
        }
        let lines = preparation.learn(found(["web", "udp"]), now);
        assert_eq!(beginnings(&lines), ["registered", "ready"]);
    }

    #[test]
    fn a_fleet_that_has_more_than_its_target_is_told_once_and_looked_at_again_soon() {
        let (mut preparation, mut now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        let mut look = |tidied: Tidied| {
            let lines = preparation.learn(Findings { tidied: Ok(tidied), ..found(["web", "api"]) }, now);
            let pause = preparation.rounds.next.since(now);
            now = preparation.rounds.next;
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
        assert!(!preparation.rounds.renews_delays(start) && preparation.rounds.renews_delays(preparation.rounds.next));
        let later = preparation.rounds.next;
        preparation.rounds.renew_now(later);
        assert!(!preparation.rounds.renews_delays(later), "all of a group may be recommended to go at once");
        preparation.learn(found(["web", "api"]), later);
        assert!(preparation.rounds.renews_delays(later), "nobody has asked yet");
        preparation.learn(Findings { delays: Ok(Delays::Renewed), ..found(["web", "api"]) }, later);
        assert!(!preparation.rounds.renews_delays(later) && preparation.rounds.renews_delays(preparation.rounds.next));
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
            preparation.rounds.next.since(now)
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
        assert!(preparation.rounds.next <= now + PUT_OFF_BY * 5, "{:?}", preparation.rounds.next);
        let lines = preparation.learn(found(["web", "api"]), now + PUT_OFF_BY);
        assert_eq!(beginnings(&lines), ["registered"]);
        assert_eq!(preparation.known_in_full().len(), 2);
        assert!(preparation.rounds.next > now + RENEW_EVERY);
    }

    #[test]
    fn a_delay_that_a_scan_of_one_of_many_put_off_is_asked_for_in_the_next_round_and_then_nothing_for_hours() {
        let (mut preparation, now) = (Preparation::new(When::Auto, BootInstant::default()), BootInstant::default());
        preparation.learn(Findings { registrations: None, ..found(["web", "api"]) }, now);
        assert!(preparation.is_scan_due(&Config::default(), now).is_some(), "nobody names a target group");
        let Some(Ok(mut scanned)) = found(["web", "api"]).registrations else { panic!("two of them") };
        scanned.without_delay = scanned.registrations.iter().map(|it| it.target_group.clone()).collect();
        preparation.scanned(Ok(scanned.clone()), Duration::from_secs(1), now);
        let next = preparation.rounds.next;
        assert!(next <= now + PUT_OFF_BY * 5 && preparation.known_in_full().is_empty(), "{next:?}");
        let asked = groups_to_ask(&preparation.groups(), &[]);
        assert_eq!(asked, scanned.without_delay, "the round looks into them, and asks for their delays");
        preparation.learn(found(["web", "api"]), next);
        assert!(preparation.rounds.next >= next + RENEW_EVERY && preparation.known_in_full().len() == 2);
    }
}
