//! spot-relay hands a Spot instance's work over when the two-minute notice comes. It takes its own instance out of its
//! target groups, and asks the owner of the instance to launch a successor. It waits until the last request is
//! answered, and leaves a record of what happened.
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
//! Only the [`core`](crate::core) decides what to do next. It has no clock, no network, no log and no randomness:
//! instants are arguments. The `daemon` performs the core's calls, one task a call, and reports each answer to it. A
//! file named after an outside party speaks to that party and decides nothing.
//!
//! | folder | what it is | may import |
//! |---|---|---|
//! | `core` | decides: AWS's words as types, settings, plan, policy, incident, duties, signals | nothing of ours |
//! | `cloud` | the metadata service and AWS: one file an outside party | `core` |
//! | `host` | this machine: boot clock, connections, hooks, files, lock, processes, readiness, signals, systemd | `core` |
//! | `telemetry` | what others read: the log and journald, metrics, webhook | `core` |
//! | `daemon` | start-up, the watch loop, the calls of the core | all above |
//! | `cli` | what a person types and reads | all above, `sim` for the demo |
//! | `sim` | simulates the cloud, over HTTP on loopback: for the demo and the tests | nothing of ours |
//!
//! Imports go down only; `cloud`, `host` and `telemetry` do not import each other. `tests/tidy.rs` checks this table.
//!
//! Absent are: state on disk that a handover needs; retries below the core (but for a refused metadata token, a
//! throttled scan and the SDK's sources of credentials); calls to AWS in quiet times, but for a rare round of look-ups.
//!
//! All folders but `core` need the feature `daemon`. Without it the core builds in seconds. Its tests take minutes,
//! because they explore.

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
