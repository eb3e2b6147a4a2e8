//! spot-relay: hands a Spot instance's work over when the two-minute notice comes.

pub mod model;
pub mod retry;

pub mod config;
pub mod handover;
pub mod notice;
pub mod plan;

#[cfg(feature = "daemon")]
pub mod aws;
#[cfg(feature = "daemon")]
pub mod boot;
#[cfg(feature = "daemon")]
pub mod imds;
#[cfg(feature = "daemon")]
pub mod record;
#[cfg(feature = "daemon")]
pub mod signals;
#[cfg(feature = "daemon")]
pub mod sockets;
#[cfg(feature = "daemon")]
pub mod systemd;

#[cfg(feature = "daemon")]
pub mod daemon;

#[cfg(feature = "daemon")]
pub mod cli;

#[cfg(feature = "daemon")]
pub mod sim;
