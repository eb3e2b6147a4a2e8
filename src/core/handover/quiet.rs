//! The duty to wait until the last request is answered: this instance's own connections tell, because a load balancer
//! shows `draining` until the delay is over even when nothing is in flight (docs/aws.md 3).
//!
//! Invariant: only a look that was begun after the settling time counts. Where the connections cannot tell, the end of the
//! notice or of the deregistration delay does.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{About, Answer, Call, Journal, Pace, Report, View, seconds};
use crate::core::model::{BootInstant, Connections, DEFAULT_DEREGISTRATION_DELAY, MilestoneKind, Registration, Signal};

/// Between two looks at the kernel's table of connections, once this instance has settled.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// And before.
const LOOK_BEFORE_EVERY: Duration = Duration::from_secs(2);
/// So many looks in a row have to agree: a client connects again within moments.
const LOOKS_THAT_AGREE: u32 = 3;

pub(super) struct Quiet {
    pace: Pace,
    /// The ports of the last look, when it was begun, and what it showed.
    looked_at: BTreeSet<u16>,
    begun_at: BootInstant,
    last: Option<Connections>,
    /// On these ports somebody has listened here at some look.
    heard: BTreeSet<u16>,
    /// On these ports a connection of another machine has ended or was open at some look.
    reached: BTreeSet<u16>,
    /// When the settling time is over.
    settles_at: Option<BootInstant>,
    calm_looks: u32,
    ended: Option<(BootInstant, EndedBy)>,
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

/// What was left when time was up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rest {
    NotSeen,
    Busy(usize),
    /// Nothing is busy, as far as connections tell.
    Still(Option<Blind>),
}

/// Why this instance's connections do not tell of its requests.
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
    /// The last thing on so many connections may be a request or its answer.
    Unclear(usize),
}

impl Quiet {
    pub(super) fn new(now: BootInstant, seed: u64) -> Quiet {
        Quiet {
            pace: Pace::new(now, seed),
            looked_at: BTreeSet::new(),
            begun_at: now,
            last: None,
            heard: BTreeSet::new(),
            reached: BTreeSet::new(),
            settles_at: None,
            calm_looks: 0,
            ended: None,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn due(&mut self, view: &View<'_>, journal: &mut Journal) -> Option<Call> {
        if self.ended.is_some() {
            return None;
        }
        if self.settles_at.is_none() && view.left_at.is_some() && self.pace.failures == 0 {
            self.pace.next = self.pace.next.min(view.now);
        }
        self.settles_at = view.left_at.map(|left_at| left_at + view.settings.settle);
        if let Some(by) = self.ended_by(view) {
            journal.reach(view.now, MilestoneKind::Quiet, by.to_string(), About::default());
            self.ended = Some((view.now, by));
            return None;
        }
        let ports: BTreeSet<u16> = view.registrations.iter().flat_map(Registration::ports).collect();
        // Who listens, and who comes, is looked at while this instance still serves.
        let serves = view.deregistration_tried || view.may_leave_later;
        let learns = serves && (ports != self.looked_at || !ports.is_subset(&self.reached));
        if (view.left_at.is_none() && !learns) || ports.is_empty() || !self.pace.begin(view.now) {
            return None;
        }
        self.begun_at = view.now;
        self.looked_at.clone_from(&ports);
        Some(Call::LookAtConnections { ports, quiet_for: view.settings.quiet_for })
    }

    fn ended_by(&self, view: &View<'_>) -> Option<EndedBy> {
        let rest = || self.rest(view);
        if view.reserve_reached() && view.deregistration_tried {
            return Some(EndedBy::Reserve(rest()));
        }
        let left_at = view.left_at?;
        let has_settled = view.now >= left_at + view.settings.settle;
        if view.registrations.is_empty() && view.elsewhere.is_none() {
            return (view.plan_is_known || has_settled).then_some(EndedBy::NotInService);
        }
        match &self.last {
            Some(last) if self.calm_looks >= LOOKS_THAT_AGREE && self.blind(view).is_none() => {
                let (established, still_for) = (last.established, view.settings.quiet_for);
                Some(EndedBy::Connections { established, still_for })
            }
            _ if !has_settled => None,
            Some(last) if view.all_unused && last.busy == 0 && !self.has_other_ways(view) => Some(EndedBy::Unused),
            _ if delay_is_over(view, left_at) => Some(EndedBy::Delay(rest())),
            _ => None,
        }
    }

    /// Requests come for longer than target health shows, or from elsewhere.
    fn has_other_ways(&self, view: &View<'_>) -> bool {
        matches!(self.blind(view), Some(Blind::NetworkLoadBalancer | Blind::Elsewhere(_)))
    }

    fn blind(&self, view: &View<'_>) -> Option<Blind> {
        if let Some(elsewhere) = &view.elsewhere {
            return Some(Blind::Elsewhere(elsewhere.clone()));
        }
        if view.registrations.iter().any(|registration| registration.network) {
            return Some(Blind::NetworkLoadBalancer);
        }
        if view.registrations.iter().any(|registration| registration.multiplexed) {
            return Some(Blind::Multiplexed);
        }
        let ports: BTreeSet<u16> = view.registrations.iter().flat_map(Registration::ports).collect();
        let deaf = ports.difference(&self.heard).next().copied().map(Blind::NobodyListens);
        deaf.or_else(|| ports.difference(&self.reached).next().copied().map(Blind::NobodyComes))
    }

    fn rest(&self, view: &View<'_>) -> Rest {
        match &self.last {
            // There is no port to look at.
            None if view.registrations.is_empty() => Rest::Still(self.blind(view)),
            None => Rest::NotSeen,
            Some(Connections { busy, .. }) if *busy > 0 => Rest::Busy(*busy),
            Some(Connections { unclear, .. }) if *unclear > 0 => Rest::Still(Some(Blind::Unclear(*unclear))),
            Some(_) => Rest::Still(self.blind(view)),
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        let has_settled = |at: BootInstant| self.settles_at.is_some_and(|settles_at| at >= settles_at);
        match answer {
            Answer::Connections(connections) => {
                let is_calm = connections.busy + connections.unclear + connections.ended_lately == 0;
                self.calm_looks = if is_calm && has_settled(self.begun_at) { self.calm_looks + 1 } else { 0 };
                self.heard.extend(&connections.listening);
                self.reached.extend(&connections.reached);
                let soon = now + LOOK_EVERY;
                let next = match self.settles_at {
                    Some(settles_at) if soon < settles_at => settles_at.min(now + LOOK_BEFORE_EVERY),
                    None => now + LOOK_BEFORE_EVERY,
                    Some(_) => soon,
                };
                self.last = Some(connections);
                self.pace.succeeded(next);
            }
            other => {
                self.last = None;
                self.calm_looks = 0;
                self.pace.failed_by(now, other);
            }
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.ended.is_some() { None } else { self.pace.wake() }
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        match &self.ended {
            Some((at, by)) => {
                let what = format!("after {}: {}", seconds(at.since(begun_at)), by);
                Report::new("quiet", by.is_quiet(), what)
            }
            None => Report::new("quiet", false, "this instance was not seen quiet"),
        }
    }
}

/// No interruption is announced: the load balancer closes at the end of the delay what is left, so nothing is gained by
/// waiting for longer. A notice leaves its whole time.
fn delay_is_over(view: &View<'_>, left_at: BootInstant) -> bool {
    let longest = view.registrations.iter().map(|registration| registration.deregistration_delay).max();
    let is_announced = matches!(view.terms.signal, Signal::Notice | Signal::Drill);
    // What sends requests from elsewhere has a delay of its own.
    let elsewhere = view.elsewhere.as_ref().map(|_| DEFAULT_DEREGISTRATION_DELAY);
    !is_announced && view.now >= left_at + longest.max(elsewhere).unwrap_or_default()
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
            EndedBy::Unused => f.write_str("target health shows unused: the load balancer is done"),
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
                f.write_str(", for which a target of a Network Load Balancer waits; no request is open")
            }
            Rest::Still(Some(Blind::Multiplexed)) => {
                f.write_str("; several requests share a connection, so that a silent one is not seen")
            }
            Rest::Still(Some(Blind::NobodyListens(port))) => {
                write!(f, "; nobody listens on port {port} here, so that its requests are not seen")
            }
            Rest::Still(Some(Blind::NobodyComes(port))) => write!(
                f,
                "; no connection of another machine was seen on port {port}, so that its requests may go past this look"
            ),
            Rest::Still(Some(Blind::Elsewhere(elsewhere))) => write!(f, "; {elsewhere}"),
            Rest::Still(Some(Blind::Unclear(connections))) => {
                write!(f, "; nothing moves on the {connections} connections whose last request may be open")
            }
        }
    }
}
