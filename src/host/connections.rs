//! This machine's TCP connections as the kernel lists them: they show how far draining has come.
//!
//! It only counts; the core decides what is quiet. It needs no privilege. Invariant: a count keeps nothing for the next
//! one, and runs on its own thread, because it takes 0.2 s for 100,000 connections.

mod dump;
mod socket;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::model::Connections;
use dump::Dump;

/// The folder in which the kernel lists this namespace's network interfaces.
const INTERFACES: &str = "/sys/class/net";
/// The first letters of the names of container bridges: Docker, CNI plugins, Podman, nerdctl.
const CONTAINER_BRIDGES: [&str; 5] = ["docker", "br-", "cni", "podman", "nerdctl"];

/// Counts the connections from other machines to these local ports, over IPv4 and IPv6.
///
/// # Errors
/// The kernel does not list them, or its list cannot be read.
pub async fn connections(ports: BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
    let (sender, receiver) = oneshot::channel();
    let wanted = ports.clone();
    let look = move || drop(sender.send(count(&wanted, quiet_for)));
    match thread::Builder::new().name("connections".to_owned()).spawn(look) {
        Ok(_) => receiver.await.map_err(io::Error::other)?,
        // Without a thread this blocks the daemon for a moment, which is better than no count.
        Err(_) => count(&ports, quiet_for),
    }
}

fn count(ports: &BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
    if ports.is_empty() {
        return Ok(Connections::default());
    }
    let mut found = Dump::open()?.count(ports, quiet_for)?;
    if !has_container_bridge(Path::new(INTERFACES)) {
        found.reached.extend(&found.listening);
    }
    Ok(found)
}

/// Tells whether container software has made a bridge here. Then a port may be published: its requests go to another
/// network namespace although a proxy listens on the port in this one.
fn has_container_bridge(interfaces: &Path) -> bool {
    let Ok(entries) = fs::read_dir(interfaces) else { return false };
    let is_bridge = |name: &str| CONTAINER_BRIDGES.iter().any(|prefix| name.starts_with(prefix));
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_bridge))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_of_containers_is_known_by_its_name() {
        for (names, expected) in [(vec!["lo", "eth0"], false), (vec!["lo", "docker0"], true), (vec!["br-0a1b2c"], true)]
        {
            let folder =
                std::env::temp_dir().join(format!("spot-relay-interfaces-{}-{}", std::process::id(), names.len()));
            for name in &names {
                fs::create_dir_all(folder.join(name)).expect("a folder for the interface");
            }
            assert_eq!(has_container_bridge(&folder), expected, "{names:?}");
            fs::remove_dir_all(&folder).expect("the folder goes");
        }
        assert!(!has_container_bridge(Path::new("/nowhere")));
    }
}
