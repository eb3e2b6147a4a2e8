//! Token buckets, which limit the calls of an account in a region.

use std::collections::BTreeMap;
use std::time::Instant;

use super::settings::{Rate, Rates};

#[derive(Debug)]
pub(crate) struct Buckets {
    rates: Option<Rates>,
    levels: BTreeMap<&'static str, (f64, Instant)>,
}

impl Buckets {
    pub(crate) fn new(rates: Option<Rates>) -> Buckets {
        Buckets { rates, levels: BTreeMap::new() }
    }

    /// Takes a token from the action's bucket; false if it is empty, and then the call is throttled.
    pub(crate) fn take(&mut self, service: &str, action: &str, now: Instant) -> bool {
        let Some((name, rate)) = self.rates.as_ref().and_then(|rates| bucket(rates, service, action)) else {
            return true;
        };
        let (level, filled) = self.levels.entry(name).or_insert((rate.size, now));
        let since = now.saturating_duration_since(*filled).as_secs_f64();
        *level = (*level + since * rate.per_second).min(rate.size);
        *filled = now;
        if *level < 1.0 {
            if self.rates.as_ref().is_some_and(|rates| rates.refusals_cost) {
                *level = 0.0;
            }
            return false;
        }
        *level -= 1.0;
        true
    }
}

fn bucket(rates: &Rates, service: &str, action: &str) -> Option<(&'static str, Rate)> {
    match (service, action) {
        ("elasticloadbalancing", "RegisterTargets" | "DeregisterTargets") => Some(("elb targets", rates.elb_targets)),
        ("elasticloadbalancing", _) => Some(("elb describe", rates.elb_describe)),
        ("ec2", action) if action.starts_with("Describe") => Some(("ec2 describe", rates.ec2_describe)),
        ("ec2", _) => Some(("ec2 mutating", rates.ec2_mutating)),
        ("autoscaling", _) => Some(("auto scaling", rates.auto_scaling)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refused_call_may_cost_what_the_bucket_has_gathered() {
        for (refusals_cost, taken) in [(false, true), (true, false)] {
            let mut buckets = Buckets::new(Some(Rates { refusals_cost, ..Rates::default() }));
            let start = Instant::now();
            let mut take = |milliseconds| {
                buckets.take("autoscaling", "DetachInstances", start + Duration::from_millis(milliseconds))
            };
            assert_eq!((0..101).filter(|_| take(0)).count(), 100);
            assert!(!take(60), "a token takes a tenth of a second");
            assert_eq!(take(120), taken);
        }
    }

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let mut buckets = Buckets::new(Some(Rates::default()));
        let start = Instant::now();
        let mut take = |at| buckets.take("elasticloadbalancing", "DeregisterTargets", at);
        assert_eq!((0..25).filter(|_| take(start)).count(), 20);
        assert_eq!((0..25).filter(|_| take(start + Duration::from_secs(1))).count(), 4);
    }
}
