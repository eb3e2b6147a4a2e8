//! The times at which the demo observed each step.

use std::time::Duration;

use crate::cli::chart::Bar;
use crate::cli::screen::Tone;

/// The first observation of each step, as the time after the notice.
#[derive(Clone, Debug, Default)]
pub(super) struct Witnessed {
    pub(super) noticed: Option<Duration>,
    pub(super) out: Option<Duration>,
    pub(super) answered: Option<Duration>,
    pub(super) quiet: Option<Duration>,
    pub(super) asked: Option<Duration>,
    pub(super) launched: Option<Duration>,
    pub(super) runs: Option<Duration>,
    pub(super) registered: Option<Duration>,
    pub(super) serves: Option<Duration>,
    pub(super) restored: Option<Duration>,
    pub(super) handed_over: Option<Duration>,
}

impl Witnessed {
    /// The bars of the observed steps, in the order of a handover.
    pub(super) fn bars(&self) -> Vec<Bar> {
        let bar = |label: &str, from: Option<Duration>, until: Option<Duration>, tone| {
            Some(Bar { label: label.to_owned(), from: from.unwrap_or_default(), until: until?, tone })
        };
        let bars = [
            bar("notice seen", None, self.noticed, Tone::Alarm),
            bar("out of the load balancer", self.noticed, self.out, Tone::Good),
            bar("last request answered", None, self.answered, Tone::Good),
            bar("connections quiet", self.out, self.quiet, Tone::Good),
            bar("successor requested", self.noticed, self.asked, Tone::Call),
            bar("successor launched", self.asked, self.launched, Tone::Call),
            bar("successor running", self.launched, self.runs, Tone::Call),
            bar("successor registered", self.runs, self.registered, Tone::Call),
            bar("successor serves", self.registered, self.serves, Tone::Call),
            bar("capacity put back", self.asked, self.restored, Tone::Call),
            bar("handed over", self.noticed, self.handed_over, Tone::Strong),
        ];
        bars.into_iter().flatten().collect()
    }
}

/// Records the first observation of a step.
pub(super) fn first(fact: &mut Option<Duration>, at: Option<Duration>) {
    *fact = fact.or(at);
}
