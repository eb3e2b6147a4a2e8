//! Makes counters and gauges, and registers them.

use prometheus::core::Collector;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, Result};

pub(super) struct Registrar(pub(super) Registry);

impl Registrar {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.registered(IntCounter::new(name, help)?)
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.registered(Gauge::new(name, help)?)
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.registered(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn registered<C: Collector + Clone + 'static>(&self, made: C) -> Result<C> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}
