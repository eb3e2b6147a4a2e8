//! The whole program: the real binary, with real clients, against the simulator, over real sockets.
//!
//! Each test starts a world of its own and a daemon of its own; nothing is shared and no port is fixed.
#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails says where")]

mod check;
mod counts;
mod documents;
mod drained;
mod drill;
mod faults;
mod fleets;
mod group;
mod hostile;
mod journal;
mod kills;
mod last_one;
mod launches;
mod life;
mod lock;
mod metrics;
mod owners;
mod policy;
mod quiet_hour;

mod scenario;
mod secrets;
mod signals;
mod soak;
mod status;
mod survivors;
mod target_groups;
mod threads;
mod watchdog;
mod webhook;
mod words;
