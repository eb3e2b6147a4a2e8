//! The core decides: the words as types, settings, plan, policy, the incident, its duties, a life's signals.
//!
//! Invariant: std, serde, jiff and a parser, and nothing else of ours. No clock, no network, no log, no randomness;
//! instants come in as arguments.

#![cfg_attr(
    not(feature = "daemon"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "the daemon is who uses it")
)]

pub(crate) mod error_chain;
pub mod model;
pub(crate) mod printable;
pub mod retry;
pub(crate) mod words;

pub(crate) mod aws_time;
pub mod config;
pub mod notice;
pub(crate) mod ours;
pub mod plan;
pub mod policy;

pub mod incident;

pub mod call;
pub(crate) mod duty;
pub(crate) mod handover;

pub(crate) mod arrival;

pub mod life;

pub(crate) mod drill;

pub(crate) mod watchdog;
