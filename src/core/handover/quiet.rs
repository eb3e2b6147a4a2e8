//! The duty to wait until the last request is answered. This instance's own connections tell, because a load balancer
//! shows `draining` until the delay is over even when nothing is in flight (docs/aws.md 3).
//!
//! Invariant: only a look that was begun after the settling time counts. If the connections cannot tell, the end of the
//! notice or of the deregistration delay counts.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::course::{HandingOver, News, Situation};
use super::words::seconds;
use crate::core::call::{Answer, Call};
use crate::core::duty::{Attempts, Duty, DutyReport, its_attempts};
use crate::core::incident::About;
use crate::core::model::{BootInstant, Connections, DEFAULT_DEREGISTRATION_DELAY, MilestoneKind, Registration};

/// The pause between two looks at the kernel's table of connections, once this instance has settled.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause between two looks before that.
const LOOK_BEFORE_EVERY: Duration = Duration::from_secs(2);
/// This many looks in a row have to agree, because a client connects again within moments.
const LOOKS_THAT_AGREE: u32 = 3;

pub(super) struct Quiet {
    attempts: Attempts,
    /// The ports of the last look, and what it showed.
    looked_at: BTreeSet<u16>,
    last: Option<Connections>,
    /// Ports on which somebody listened on this machine at some look.
    listening: BTreeSet<u16>,
    /// Ports on which a connection of another machine was seen at some look.
    reached: BTreeSet<u16>,
    /// The end of the settling time.
    settles_at: Option<BootInstant>,
    calm_looks: u32,
    told: Told,
    /// A sentence for a person.
    news: Option<String>,
    ended: Option<(BootInstant, EndedBy)>,
}

/// The part of the wait that a person has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    /// This instance drains, for a certain time at most.
    Draining,
    /// Something is still open, though the load balancer sends nothing new.
    StillBusy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum EndedBy {
    Connections {
        established: usize,
        still_for: Duration,
    },
    /// Target health says `unused`, and no connection is busy.
    Unused,
    /// The end of the notice, kept for hooks: some connections may still be busy.
    Reserve(Rest),
    /// The deregistration delay is over, after which a load balancer closes what is left.
    Delay(Rest),
    NotInService,
}

/// The connections when time was up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    NotSeen,
    Busy(usize),
    /// Nothing is busy, as far as connections tell.
    Still(Option<Blind>),
}

/// The reason why this instance's connections do not tell of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Blind {
    /// New flows come for minutes after the deregistration (docs/aws.md 3).
    NetworkLoadBalancer,
    /// A silent stream beside a busy one is not seen.
    Multiplexed,
    /// Nobody listens on the port here: it is redirected, or another network namespace serves it.
    NobodyListens(u16),
    /// No connection of another machine was ever seen on the port: nobody comes, or what comes is redirected.
    NobodyComes(u16),
    /// Requests may come from elsewhere than a known target group, as in "the group has ...".
    Elsewhere(String),
    /// On this many connections the last data may be a request or its answer.
    Unclear(usize),
}

impl Quiet {
    pub(super) fn new(attempts: Attempts) -> Quiet {
        Quiet {
            attempts,
            looked_at: BTreeSet::new(),
            last: None,
            listening: BTreeSet::new(),
            reached: BTreeSet::new(),
            settles_at: None,
            calm_looks: 0,
            told: Told::Nothing,
            news: None,
            ended: None,
        }
    }

    pub(super) fn take_news(&mut self) -> Option<String> {
        self.news.take()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.ended.is_some()
    }

    /// Begins again, because this instance was registered again and gets requests.
    pub(super) fn begin_again(&mut self, now: BootInstant) {
        self.ended = None;
        self.calm_looks = 0;
        self.told = Told::Nothing;
        self.attempts.begins_again(now);
    }

    /// Says once what is waited for, and how long at most; and once more if this goes on after the settling time.
    fn tell(&mut self, situation: &Situation<'_>, has_settled: bool) {
        let (Some(left_at), Some(last)) = (situation.left_at, &self.last) else { return };
        if last.busy == 0 && situation.incident.start.handed_over.is_some() {
            return;
        }
        let settles_in = (left_at + situation.settings.settle).since(situation.now);
        let most = seconds(latest_end(situation, left_at).since(situation.now).max(settles_in));
        let least = seconds(settles_in);
        let (told, news) = match (self.told, self.blind(situation)) {
            (Told::Nothing, None) => (
                Told::Draining,
                format!("draining: {}; this takes {least} at least, and {most} at most", in_words(last)),
            ),
            (Told::Nothing, Some(_)) => (
                Told::Draining,
                format!(
                    "draining: {}; connections do not show every request here, so this takes {most}",
                    in_words(last)
                ),
            ),
            (Told::Draining, _) if has_settled && last.busy > 0 => {
                (Told::StillBusy, format!("still draining: {}; this takes {most} more at most", in_words(last)))
            }
            _ => return,
        };
        (self.told, self.news) = (told, Some(news));
    }

    fn ended_by(&self, situation: &Situation<'_>) -> Option<EndedBy> {
        let rest = || self.rest(situation);
        if situation.reserve_reached() && situation.deregistration_tried {
            return Some(EndedBy::Reserve(rest()));
        }
        let left_at = situation.left_at?;
        let has_settled = situation.now >= left_at + situation.settings.settle;
        if situation.registrations().is_empty() && situation.elsewhere.is_none() {
            return (situation.plan_is_known || has_settled).then_some(EndedBy::NotInService);
        }
        match &self.last {
            Some(last) if self.calm_looks >= LOOKS_THAT_AGREE && self.blind(situation).is_none() => {
                let (established, still_for) = (last.established, situation.settings.quiet_for);
                Some(EndedBy::Connections { established, still_for })
            }
            _ if !has_settled => None,
            Some(last) if situation.all_unused && last.busy == 0 && !self.has_other_ways(situation) => {
                Some(EndedBy::Unused)
            }
            _ if delay_is_over(situation, left_at) => Some(EndedBy::Delay(rest())),
            _ => None,
        }
    }

    /// Tells whether requests may come for longer than target health shows, or from elsewhere.
    fn has_other_ways(&self, situation: &Situation<'_>) -> bool {
        matches!(self.blind(situation), Some(Blind::NetworkLoadBalancer | Blind::Elsewhere(_)))
    }

    fn blind(&self, situation: &Situation<'_>) -> Option<Blind> {
        if let Some(elsewhere) = &situation.elsewhere {
            return Some(Blind::Elsewhere(elsewhere.clone()));
        }
        if situation.registrations().iter().any(|registration| registration.network) {
            return Some(Blind::NetworkLoadBalancer);
        }
        if situation.registrations().iter().any(|registration| registration.multiplexed) {
            return Some(Blind::Multiplexed);
        }
        let ports: BTreeSet<u16> = situation.registrations().iter().flat_map(Registration::ports).collect();
        let nobody_listens = ports.difference(&self.listening).next().copied().map(Blind::NobodyListens);
        nobody_listens.or_else(|| ports.difference(&self.reached).next().copied().map(Blind::NobodyComes))
    }

    fn rest(&self, situation: &Situation<'_>) -> Rest {
        match &self.last {
            // There is no port to look at.
            None if situation.registrations().is_empty() => Rest::Still(self.blind(situation)),
            None => Rest::NotSeen,
            Some(Connections { busy, .. }) if *busy > 0 => Rest::Busy(*busy),
            Some(Connections { unclear, .. }) if *unclear > 0 => Rest::Still(Some(Blind::Unclear(*unclear))),
            Some(_) => Rest::Still(self.blind(situation)),
        }
    }
}

impl Duty<HandingOver> for Quiet {
    its_attempts!();

    fn consider(&mut self, situation: &mut Situation<'_>) {
        if self.ended.is_some() {
            return;
        }
        if self.settles_at.is_none() && situation.left_at.is_some() && self.attempts.failures == 0 {
            self.attempts.next = self.attempts.next.min(situation.now);
        }
        self.settles_at = situation.left_at.map(|left_at| left_at + situation.settings.settle);
        if let Some(by) = self.ended_by(situation) {
            situation.incident.reach(situation.now, MilestoneKind::Quiet, by.to_string(), About::default());
            self.ended = Some((situation.now, by));
            self.attempts.end();
        }
    }

    fn call(&mut self, situation: &Situation<'_>) -> Option<Call> {
        let ports: BTreeSet<u16> = situation.registrations().iter().flat_map(Registration::ports).collect();
        // While this instance still serves, it looks who listens and who connects.
        let serves = situation.deregistration_tried || !situation.may_leave;
        let learns = serves && (ports != self.looked_at || !ports.is_subset(&self.reached));
        if (situation.left_at.is_none() && !learns) || ports.is_empty() {
            return None;
        }
        self.looked_at.clone_from(&ports);
        Some(Call::LookAtConnections { ports, quiet_for: situation.settings.quiet_for })
    }

    fn take(&mut self, situation: &mut Situation<'_>, answer: Answer) -> Result<News, Answer> {
        let Answer::Connections(mut connections) = answer else {
            self.last = None;
            self.calm_looks = 0;
            return Err(answer);
        };
        if situation.registrations().iter().any(|registration| registration.tls) {
            connections.unclear += connections.begun;
        }
        let has_settled = self.settles_at.is_some_and(|settles_at| self.attempts.begun_at >= settles_at);
        let is_calm = connections.busy + connections.unclear + connections.ended_lately == 0;
        self.calm_looks = if is_calm && has_settled { self.calm_looks + 1 } else { 0 };
        self.listening.extend(&connections.listening);
        self.reached.extend(&connections.reached);
        let soon = situation.now + LOOK_EVERY;
        let next = match self.settles_at {
            Some(settles_at) if soon < settles_at => settles_at.min(situation.now + LOOK_BEFORE_EVERY),
            None => situation.now + LOOK_BEFORE_EVERY,
            Some(_) => soon,
        };
        self.last = Some(connections);
        self.attempts.succeeded(next);
        self.tell(situation, has_settled);
        Ok(News::None)
    }

    fn report(&self, begun_at: BootInstant) -> Option<DutyReport> {
        let (done, what) = match &self.ended {
            Some((at, by)) => (by.is_quiet(), format!("after {}: {}", seconds(at.since(begun_at)), by)),
            None => (false, "requests may still be open".to_owned()),
        };
        Some(DutyReport::new("quiet", done, what))
    }
}

/// Tells whether the deregistration delay is over, unless a notice leaves its whole time. The load balancer then closes
/// what is left, so nothing is gained by waiting for longer.
fn delay_is_over(situation: &Situation<'_>, left_at: BootInstant) -> bool {
    !situation.incident.signal.is_notice() && situation.now >= end_of_delay(situation, left_at)
}

fn end_of_delay(situation: &Situation<'_>, left_at: BootInstant) -> BootInstant {
    let longest = situation.registrations().iter().map(|registration| registration.deregistration_delay).max();
    // A source of requests that ELB does not know has a delay of its own.
    let elsewhere = situation.elsewhere.as_ref().map(|_| DEFAULT_DEREGISTRATION_DELAY);
    left_at + longest.max(elsewhere).unwrap_or_default()
}

/// The end of the wait, even if something is still open.
fn latest_end(situation: &Situation<'_>, left_at: BootInstant) -> BootInstant {
    let reserve = situation.incident.deadline - situation.settings.reserve;
    if situation.incident.signal.is_notice() { reserve } else { reserve.min(end_of_delay(situation, left_at)) }
}

/// A sentence such as "12 connections are open, 3 of them busy".
fn in_words(connections: &Connections) -> String {
    match (connections.established, connections.busy) {
        (0, _) => "no connection is open now".to_owned(),
        (1, 0) => "one connection is open, and still".to_owned(),
        (1, _) => "one connection is open, and busy".to_owned(),
        (open, busy) => format!("{open} connections are open, {busy} of them busy"),
    }
}

impl EndedBy {
    fn is_quiet(&self) -> bool {
        !matches!(self, EndedBy::Reserve(Rest::Busy(_) | Rest::NotSeen) | EndedBy::Delay(Rest::Busy(_) | Rest::NotSeen))
    }
}

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndedBy::Connections { established: 0, .. } => f.write_str("no request is open: no connection is left"),
            EndedBy::Connections { established, still_for } => {
                let connections = if *established == 1 { "one connection" } else { "connections" };
                let count = if *established == 1 { String::new() } else { format!("{established} ") };
                let still_for = seconds(*still_for);
                write!(f, "no request is open: {count}{connections}, on which nothing has moved for {still_for}")
            }
            EndedBy::Unused => {
                f.write_str("target health shows unused: the load balancer has finished with this instance")
            }
            EndedBy::Reserve(rest) => write!(f, "the reserve is reached{rest}"),
            EndedBy::Delay(rest) => write!(f, "the deregistration delay is over{rest}"),
            EndedBy::NotInService => f.write_str("this instance serves no target group"),
        }
    }
}

/// The end of a sentence.
impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rest::NotSeen => f.write_str(" before this instance was seen quiet"),
            Rest::Busy(1) => f.write_str(" with one connection busy"),
            Rest::Busy(busy) => write!(f, " with {busy} connections busy"),
            Rest::Still(None) => f.write_str(", and no request is open"),
            Rest::Still(Some(Blind::NetworkLoadBalancer)) => {
                f.write_str("; behind a Network Load Balancer it is always waited for. No request is open")
            }
            Rest::Still(Some(Blind::Multiplexed)) => {
                f.write_str("; several requests share a connection, so that a silent one is not seen")
            }
            Rest::Still(Some(Blind::NobodyListens(port))) => {
                write!(f, "; nobody listens on port {port} here, so that its requests are not seen")
            }
            Rest::Still(Some(Blind::NobodyComes(port))) => write!(
                f,
                "; no connection of another machine was seen on port {port}, so requests may reach it in a way that is not seen"
            ),
            Rest::Still(Some(Blind::Elsewhere(elsewhere))) => write!(f, "; {elsewhere}"),
            Rest::Still(Some(Blind::Unclear(connections))) => {
                write!(f, "; {connections} connections are silent, but each may still wait for an answer")
            }
        }
    }
}
