//! This machine: one file for each part of it that the daemon uses.
//!
//! Invariant: a file here decides nothing, and knows neither the cloud nor the telemetry.

pub(crate) mod boot;
pub mod connections;
pub(crate) mod files;
pub mod hooks;
pub(crate) mod lock;
pub(crate) mod processes;
pub(crate) mod readiness;
pub mod signals;
pub mod systemd;
pub(crate) mod text_file;
pub(crate) mod threads;
