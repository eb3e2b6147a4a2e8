//! The kernel's table of TCP connections, by netlink socket diagnostics (sock_diag(7)): the local truth about draining.
//!
//! It counts; what is quiet enough is not decided here. No privilege is needed. Invariant: it never waits longer than
//! [`PATIENCE`], whatever the kernel answers, and keeps nothing between two calls.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator, Parseable as _,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, INET_DIAG_INFO, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{SOCK_DIAG_BY_FAMILY, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use crate::core::model::Connections;

/// A dump is answered from within the system call, so waiting at all is out of the ordinary.
const PATIENCE: Duration = Duration::from_millis(200);
/// What the kernel hands over in one piece is at most 32 KiB (`max_recvmsg_len` in net/netlink/af_netlink.c).
const PIECE: usize = 64 * 1024;
/// A dump that other connections disturbed is made again this often; then its answer is good enough.
const DUMPS: usize = 3;
/// `struct inet_diag_msg`, before its attributes.
const MESSAGE_LENGTH: usize = 72;
/// `tcpi_last_data_sent` and `tcpi_last_data_recv` in `struct tcp_info` (linux/tcp.h): milliseconds since then.
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECV: usize = 52;
/// `tcpi_data_segs_in` and `tcpi_data_segs_out`: segments with data, since Linux 4.6.
const DATA_SEGMENTS_IN: usize = 152;
const DATA_SEGMENTS_OUT: usize = 156;

/// The established connections whose local port is one of `ports`, over IPv4 and IPv6. One is busy when it moved data in
/// either direction within `quiet_for`, or when its last data came in and nothing has gone out since: a request that is
/// not answered. Blocks for microseconds to milliseconds, with the number of connections.
pub fn connections(ports: &BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
    let mut found = Connections::default();
    if ports.is_empty() {
        return Ok(found);
    }
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    let quiet_for = u32::try_from(quiet_for.as_millis()).unwrap_or(u32::MAX);
    let mut dump = Dump { socket, ports, quiet_for, piece: Vec::with_capacity(PIECE), sequence: 0 };
    for family in [AF_INET, AF_INET6] {
        let connections = dump.of(family)?;
        found.established += connections.established;
        found.busy += connections.busy;
    }
    Ok(found)
}

struct Dump<'a> {
    socket: Socket,
    ports: &'a BTreeSet<u16>,
    /// Milliseconds.
    quiet_for: u32,
    piece: Vec<u8>,
    sequence: u32,
}

/// How far a dump has come after one piece.
#[derive(PartialEq)]
enum Step {
    More,
    Done,
}

impl Dump<'_> {
    fn of(&mut self, family: u8) -> io::Result<Connections> {
        for _ in 1..DUMPS {
            let (connections, interrupted) = self.once(family)?;
            if !interrupted {
                return Ok(connections);
            }
        }
        Ok(self.once(family)?.0)
    }

    /// One dump, and whether the table changed under it.
    fn once(&mut self, family: u8) -> io::Result<(Connections, bool)> {
        self.sequence += 1;
        let request = self.request(family);
        self.socket.send(&request, 0)?;
        let (mut connections, mut interrupted) = (Connections::default(), false);
        loop {
            self.receive()?;
            if self.read_piece(&mut connections, &mut interrupted)? == Step::Done {
                return Ok((connections, interrupted));
            }
        }
    }

    fn request(&self, family: u8) -> Vec<u8> {
        let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        // The kernel passes over the others by itself (inet_diag_dump_icsk), which it can do for one port.
        if let (Some(port), 1) = (self.ports.first(), self.ports.len()) {
            socket_id.source_port = *port;
        }
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::ESTABLISHED,
            socket_id,
        };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(SockDiagMessage::InetRequest(request)));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn receive(&mut self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            self.piece.clear();
            match self.socket.recv(&mut self.piece, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel did not end its list of connections",
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_piece(&self, connections: &mut Connections, interrupted: &mut bool) -> io::Result<Step> {
        let mut rest = self.piece.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|error| garbled(&error))?;
            *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            let of_this_dump = message.sequence_number() == self.sequence;
            match message.message_type() {
                NLMSG_DONE if of_this_dump => return Ok(Step::Done),
                NLMSG_ERROR if of_this_dump => return Err(refusal(message.payload())),
                NLMSG_OVERRUN => return Err(io::Error::other("the kernel lost a part of its list of connections")),
                SOCK_DIAG_BY_FAMILY if of_this_dump => self.count(message.payload(), connections)?,
                _ => {}
            }
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(Step::More)
    }

    fn count(&self, payload: &[u8], connections: &mut Connections) -> io::Result<()> {
        let header = InetResponseHeader::parse(payload).map_err(|error| garbled(&error))?;
        if !self.ports.contains(&header.socket_id.source_port) {
            return Ok(());
        }
        connections.established += 1;
        if let Some(traffic) = Traffic::read(payload) {
            let moved = traffic.sent.min(traffic.received) < self.quiet_for;
            connections.busy += usize::from(moved || traffic.is_unanswered());
        }
        Ok(())
    }
}

/// What one connection has carried.
struct Traffic {
    /// Milliseconds since data was last sent; since the connection was made, if none was.
    sent: u32,
    received: u32,
    segments_in: u32,
    segments_out: u32,
}

impl Traffic {
    /// A kernel that does not tell makes no connection busy.
    fn read(payload: &[u8]) -> Option<Traffic> {
        let attributes = NlasIterator::new(payload.get(MESSAGE_LENGTH..)?);
        let info = attributes.filter_map(Result::ok).find(|attribute| attribute.kind() == INET_DIAG_INFO)?;
        let info = info.value();
        Some(Traffic {
            sent: number(info, LAST_DATA_SENT)?,
            received: number(info, LAST_DATA_RECV)?,
            segments_in: number(info, DATA_SEGMENTS_IN).unwrap_or(0),
            segments_out: number(info, DATA_SEGMENTS_OUT).unwrap_or(0),
        })
    }

    /// A first request right after the connection is as old as the connection (the kernel counts in jiffies), so that
    /// nothing has gone out yet tells more than the ages.
    fn is_unanswered(&self) -> bool {
        self.received < self.sent || (self.segments_in > 0 && self.segments_out == 0)
    }
}

fn number(info: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(offset..)?.first_chunk()?))
}

fn refusal(payload: &[u8]) -> io::Error {
    match ErrorBuffer::new_checked(payload).ok().and_then(|error| error.code()) {
        Some(code) => io::Error::from_raw_os_error(code.get().saturating_abs()),
        None => io::Error::other("the kernel acknowledged instead of listing connections"),
    }
}

fn garbled(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's list of connections is garbled: {error}"))
}
