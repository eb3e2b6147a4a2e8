//! This machine: one file for each of its parts that the daemon speaks to.
//!
//! Invariant: a file here decides nothing, and knows neither the cloud nor the telemetry.

pub mod boot;
pub mod connections;
pub mod files;
pub mod hooks;
pub mod lock;
pub mod processes;
pub mod readiness;
pub mod signals;
pub mod systemd;
pub mod text_file;
pub mod threads;
