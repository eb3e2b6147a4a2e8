//! The core decides: the words as types, settings, plan, policy, the incident, its duties, a life's signals.
//!
//! Invariant: std, serde, jiff and a parser, and nothing else of ours. No clock, no network, no log, no randomness;
//! instants come in as arguments.

pub mod error_chain;
pub mod model;
pub mod printable;
pub mod retry;

pub mod aws_time;
pub mod config;
pub mod notice;
pub mod ours;
pub mod plan;
pub mod policy;

pub mod incident;

pub mod call;
pub mod duty;
pub mod handover;

pub mod arrival;

pub mod life;

pub mod drill;

pub mod watchdog;
