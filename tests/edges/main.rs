//! The edges against real sockets: each speaks to a server on port 0 that says what the test tells it to, to the
//! kernel, or to the simulator. One crate, because linking the AWS SDK is what takes time.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails says where")]

mod alone;
mod calls;
mod credentials;
mod environment;
mod hooks;
mod hostile;
mod imds;
mod journal;
mod resolver;
mod services;
mod signals;
mod sockets;
mod stub;
mod systemd;
mod webhook;
