//! The duty to wait until the last request is answered: this instance's own connections tell, because a load balancer
//! shows `draining` until the delay is over even when nothing is in flight (docs/aws.md 3).

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{About, Answer, Call, Journal, Pace, Report, View, seconds};
use crate::core::model::{BootInstant, Connections, MilestoneKind, Registration};

/// Between two looks at the kernel's table of connections.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Quiet {
    pace: Pace,
    last: Option<Connections>,
    ended: Option<(BootInstant, EndedBy)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndedBy {
    Connections {
        established: usize,
        still_for: Duration,
    },
    /// Target health says `unused`.
    Unused,
    /// The end of the notice, kept for hooks: some connections may still be busy.
    Reserve {
        busy: Option<usize>,
    },
    NotInService,
}

impl Quiet {
    pub(super) fn new(now: BootInstant, seed: u64) -> Quiet {
        Quiet { pace: Pace::new(now, seed), last: None, ended: None }
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
        if let Some(by) = self.ended_by(view) {
            self.ended = Some((view.now, by));
            journal.reach(view.now, MilestoneKind::Quiet, by.to_string(), About::default());
            return None;
        }
        let ports: BTreeSet<u16> = view.registrations.iter().flat_map(Registration::ports).collect();
        let look = view.left_at.is_some() && self.pace.begin(view.now);
        look.then_some(Call::LookAtConnections { ports, quiet_for: view.settings.quiet_for })
    }

    fn ended_by(&self, view: &View<'_>) -> Option<EndedBy> {
        // New requests may arrive for a moment after the deregistration, so quiet is counted from there.
        // A Network Load Balancer sends new flows for minutes (docs/aws.md 3): behind one, only the reserve ends the wait.
        let network = view.registrations.iter().any(|registration| registration.network);
        let long_enough =
            view.left_at.is_some_and(|left_at| view.now >= left_at + view.settings.settle.max(view.settings.quiet_for))
                && !network;
        match self.last {
            _ if view.left_at.is_some() && view.registrations.is_empty() => Some(EndedBy::NotInService),
            Some(Connections { established, busy: 0 }) if long_enough => {
                Some(EndedBy::Connections { established, still_for: view.settings.quiet_for })
            }
            _ if view.all_unused => Some(EndedBy::Unused),
            last if view.reserve_reached() && view.deregistration_tried => {
                Some(EndedBy::Reserve { busy: last.map(|last| last.busy) })
            }
            _ => None,
        }
    }

    pub(super) fn answered(&mut self, now: BootInstant, answer: Answer) {
        match answer {
            Answer::Connections(connections) => {
                self.last = Some(connections);
                self.pace.succeeded(now + LOOK_EVERY);
            }
            other => {
                self.last = None;
                self.pace.failed_by(now, other);
            }
        }
    }

    pub(super) fn wake(&self) -> Option<BootInstant> {
        if self.ended.is_some() { None } else { self.pace.wake() }
    }

    pub(super) fn report(&self, begun_at: BootInstant) -> Report {
        match self.ended {
            Some((at, by)) => {
                let what = format!("after {}: {}", seconds(at.since(begun_at)), by);
                Report::new("quiet", by.is_quiet(), what)
            }
            None => Report::new("quiet", false, "this instance was not seen quiet"),
        }
    }
}

impl EndedBy {
    fn is_quiet(self) -> bool {
        !matches!(self, EndedBy::Reserve { busy } if busy != Some(0))
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
            EndedBy::Reserve { busy: Some(0) } => f.write_str("the reserve is reached, and no request is open"),
            EndedBy::Reserve { busy: Some(busy) } => write!(f, "the reserve is reached with {busy} connections busy"),
            EndedBy::Reserve { busy: None } => {
                f.write_str("the reserve is reached before this instance was seen quiet")
            }
            EndedBy::NotInService => f.write_str("this instance serves no target group"),
        }
    }
}
