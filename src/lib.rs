//! spot-relay hands a Spot instance's work over when the two-minute notice comes: it takes its own instance out of its
//! target groups, tells whoever owns the instance to launch a successor, waits until the last request is answered, and
//! leaves a record of what happened.
//!
//! # The architecture in five minutes
//!
//! ```text
//!             signals                calls due
//!    imds ──────────────▶ life ──────────────────▶ daemon ──▶ aws, sockets, hooks, record, systemd
//!    (edge)   notice     (pure)  ◀──────────────────  (loop)  ◀── answers
//!                                    answers
//! ```
//!
//! What to do next is decided in one place, [`life`], which holds a [`handover`] or an [`arrival`]: no clock, no network, no log, no chance; instants come in as
//! arguments. The `daemon` performs what it says, one task a call, and tells it each answer. A file named after an
//! outside party speaks to that party and decides nothing. Imports go down only; edges do not know each other.
//!
//! | layer | modules | responsibility |
//! |---|---|---|
//! | 0 pure | [`model`], [`retry`] | the words as types; failures and backoff |
//! | 1 pure | [`notice`], [`config`], [`plan`], [`policy`], [`handover`], [`arrival`], [`life`], [`drill`], [`watchdog`] | metadata bodies to signals, settings, who is asked for the successor and how, what IAM has to allow for it; leaving, coming (back), and which of them a signal asks for; what a drill is going to do; whether this process is to be restarted |
//! | 2 edges | `boot`, `imds`, `aws`, `sockets`, `probe`, `record`, `lock`, `process`, `hooks`, `webhook`, `metrics`, `signals`, `systemd`, `journal` | one outside party each |
//! | 3 | `daemon` | start-up, watch loop, look-ups, handover loop |
//! | 4 | `cli` | what a person types and reads |
//! | beside | `sim` | simulated metadata service and AWS over HTTP on loopback: for `demo` and the tests |
//!
//! What is absent: no retry but the core's (the SDK makes one attempt, edges none), no thread but one (a file is
//! written, a name resolved, a hook started and a full journal waited for in a passing one), no state on disk that a handover needs, no call to AWS
//! while nothing happens.
//!
//! Layers 2 and up stand behind the feature `daemon`; without it the pure core builds and is tested in seconds.

pub mod model;
pub mod retry;

pub mod config;
pub mod notice;
pub mod plan;
pub mod policy;

pub mod handover;

pub mod arrival;

pub mod life;

pub mod drill;

pub mod watchdog;

#[cfg(feature = "daemon")]
pub mod aws;
#[cfg(feature = "daemon")]
pub mod boot;
#[cfg(feature = "daemon")]
pub mod hooks;
#[cfg(feature = "daemon")]
pub mod imds;
#[cfg(feature = "daemon")]
pub mod journal;
#[cfg(feature = "daemon")]
pub mod lock;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "daemon")]
pub mod probe;
#[cfg(feature = "daemon")]
pub mod process;
#[cfg(feature = "daemon")]
pub mod record;
#[cfg(feature = "daemon")]
pub mod signals;
#[cfg(feature = "daemon")]
pub mod sockets;
#[cfg(feature = "daemon")]
pub mod systemd;
#[cfg(feature = "daemon")]
pub mod webhook;

#[cfg(feature = "daemon")]
pub mod daemon;

#[cfg(feature = "daemon")]
pub mod cli;

#[cfg(feature = "daemon")]
pub mod sim;
