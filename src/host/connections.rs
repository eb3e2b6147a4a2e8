//! This machine's TCP connections as the kernel lists them: the local truth about draining.
//!
//! It counts; what is quiet enough is not decided here. No privilege is needed. Invariant: a look keeps nothing for the
//! next one, and runs on a thread of its own, because 100,000 connections take it 0.2 s.

mod dump;
mod socket;

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::model::Connections;
use dump::Dump;

/// Counts the connections of other machines whose local port is one of `ports`, over IPv4 and IPv6.
///
/// # Errors
/// The kernel refuses to list them, or its list is not to be understood.
pub async fn connections(ports: BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
    let (tell, told) = oneshot::channel();
    let wanted = ports.clone();
    let look = move || drop(tell.send(count(&wanted, quiet_for)));
    match thread::Builder::new().name("connections".to_owned()).spawn(look) {
        Ok(_) => told.await.map_err(io::Error::other)?,
        // Better held up for a moment than blind.
        Err(_) => count(&ports, quiet_for),
    }
}

fn count(ports: &BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
    if ports.is_empty() {
        return Ok(Connections::default());
    }
    Dump::open()?.count(ports, quiet_for)
}
