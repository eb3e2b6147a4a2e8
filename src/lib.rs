//! spot-relay hands a Spot instance's work over when the two-minute notice comes: it takes its own instance out of its
//! target groups, asks the owner of the instance to launch a successor, waits until the last request is answered, and
//! leaves a record of what happened.
//!
//! # The architecture in five minutes
//!
//! ```text
//!             signals                calls due
//!    cloud ─────────────▶  core  ──────────────────▶ daemon ──▶ cloud, host, telemetry
//!  (metadata)  notice    (decides) ◀──────────────────  (loop)  ◀── answers
//!                                    answers
//! ```
//!
//! What to do next is decided in one place, the [`core`](crate::core): no clock, no network, no log, no randomness;
//! instants come in as arguments. The `daemon` performs what it says, one task a call, and tells it each answer. A file
//! named after an outside party speaks to that party and decides nothing.
//!
//! | folder | what it is | may import |
//! |---|---|---|
//! | `core` | decides: the words as types, settings, plan, policy, the incident, its duties, a life's signals | nothing of ours |
//! | `cloud` | the metadata service and AWS: one file an outside party | `core` |
//! | `host` | this machine: boot clock, connections, hooks, files, lock, processes, readiness, signals, systemd | `core` |
//! | `telemetry` | what is told to others: the log and journald, metrics, webhook | `core` |
//! | `daemon` | start-up, the watch loop, the calls of the core | all above |
//! | `cli` | what a person types and reads | all above, `sim` for the demo |
//! | `sim` | plays the cloud, over HTTP on loopback: for the demo and the tests | nothing of ours |
//!
//! Imports go down only; `cloud`, `host` and `telemetry` do not know each other. `tests/tidy.rs` holds this table.
//!
//! What is absent: no retry but the core's (the SDK makes one attempt, and nothing below the core tries again), no state
//! on disk that a handover needs, no call to AWS while nothing happens but a rare round of look-ups.
//!
//! All folders but `core` stand behind the feature `daemon`; without it the core builds in seconds. Its tests take
//! minutes, because they explore.

pub mod core;

#[cfg(feature = "daemon")]
pub mod cloud;
#[cfg(feature = "daemon")]
pub mod host;
#[cfg(feature = "daemon")]
pub mod telemetry;

#[cfg(feature = "daemon")]
pub mod daemon;

#[cfg(feature = "daemon")]
pub mod cli;

#[cfg(feature = "daemon")]
pub mod sim;
