//! systemd's notification socket: what `systemctl status` shows, and the watchdog.
//!
//! Everything here does nothing without systemd. Invariant: no message blocks its caller or returns an error; an unsent
//! message is a debug line.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use tracing::debug;

use crate::core::printable::printable;

/// The longest text after `STATUS=`: systemd drops a message of 4096 bytes or more (`NOTIFY_BUFFER_MAX`).
const LONGEST_STATUS: usize = 4000;

/// The service manager that started us, if any, by the protocol of sd_notify(3).
#[derive(Debug)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let watchdog_usec = env::var("WATCHDOG_USEC").ok();
        let for_us = env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == process::id().to_string());
        let watchdog = watchdog_usec.filter(|_| for_us).and_then(|microseconds| microseconds.parse().ok());
        Self::new(env::var_os("NOTIFY_SOCKET").as_deref(), watchdog.map(Duration::from_micros))
    }

    /// Opens `notify_socket`, a path or an abstract name after `@`. Silence for `watchdog` counts as a hang.
    pub fn new(notify_socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let socket = notify_socket.filter(|name| !name.is_empty()).and_then(|name| {
            open(name).inspect_err(|error| debug!(?name, %error, "cannot use the notification socket")).ok()
        });
        Self { socket, watchdog: watchdog.filter(|limit| !limit.is_zero()) }
    }

    pub fn ready(&self) {
        self.notify("READY=1");
    }

    pub fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Sets the text of `systemctl status`. Line breaks become spaces, and other control characters are escaped.
    pub fn status(&self, text: &str) {
        let text = text.replace(['\n', '\r'], " ");
        let text = printable(&text);
        let cut = text.get(..text.floor_char_boundary(LONGEST_STATUS)).unwrap_or_default();
        self.notify(&format!("STATUS={cut}"));
    }

    /// Says that we are alive. Call it well within [`Self::watchdog_limit`].
    pub fn watchdog(&self) {
        self.notify("WATCHDOG=1");
    }

    /// Asks for this much time from now to start or to stop.
    pub fn extend_timeout(&self, by: Duration) {
        self.notify(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()));
    }

    /// The silence after which systemd restarts us, if it watches us (sd_watchdog_enabled(3)).
    pub fn watchdog_limit(&self) -> Option<Duration> {
        self.watchdog
    }

    fn notify(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            debug!(message, %error, "cannot notify systemd");
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
