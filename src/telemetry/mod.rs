//! The telemetry, for others to read: the log and journald, metrics, the webhook.
//!
//! Invariant: a file here decides nothing and blocks nothing: what cannot be sent now is queued or dropped.

pub mod journal;
pub(crate) mod logging;
pub(crate) mod metrics;
pub mod webhook;
