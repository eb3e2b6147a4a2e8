//! The kernel's list of TCP sockets, by netlink socket diagnostics (sock_diag(7)).
//!
//! Invariant: it never waits longer than [`PATIENCE`] for a piece of the list, whatever the kernel answers.

use std::collections::BTreeSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SOCK_DIAG_BY_FAMILY, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

use super::socket::{Socket as TcpSocket, garbled};
use crate::core::model::Connections;

/// The wait for the next piece. The kernel answers a dump within the system call, so any wait is unusual.
const PATIENCE: Duration = Duration::from_millis(200);
/// The size of our buffer; the kernel sends at most 32 KiB at once (`max_recvmsg_len` in net/netlink/af_netlink.c).
const PIECE: usize = 64 * 1024;
/// The most dumps of one family: a dump during which the table changed is repeated, until the last one is good enough.
const DUMPS: usize = 3;
/// The states of listeners, and of connections that may carry a request or have just ended.
const STATES: [StateFlags; 9] = [
    StateFlags::ESTABLISHED,
    StateFlags::SYN_RECV,
    StateFlags::FIN_WAIT1,
    StateFlags::FIN_WAIT2,
    StateFlags::TIME_WAIT,
    StateFlags::CLOSE_WAIT,
    StateFlags::LAST_ACK,
    StateFlags::LISTEN,
    StateFlags::CLOSING,
];

pub(super) struct Dump {
    socket: Socket,
    piece: Vec<u8>,
    sequence: u32,
}

#[derive(Clone, Copy)]
struct DumpFilter<'a> {
    ports: &'a BTreeSet<u16>,
    quiet_for: Duration,
}

/// The progress of a dump after one piece.
#[derive(PartialEq)]
enum DumpProgress {
    More,
    Done,
}

impl Dump {
    pub(super) fn open() -> io::Result<Dump> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Dump { socket, piece: Vec::with_capacity(PIECE), sequence: 0 })
    }

    /// Counts the sockets whose local port is one of `ports`, over IPv4 and IPv6.
    pub(super) fn count(&mut self, ports: &BTreeSet<u16>, quiet_for: Duration) -> io::Result<Connections> {
        let wanted = DumpFilter { ports, quiet_for };
        let mut found = Connections::default();
        for family in [AF_INET, AF_INET6] {
            found = self.of(family, wanted, &found)?;
        }
        Ok(found)
    }

    fn of(&mut self, family: u8, wanted: DumpFilter<'_>, before: &Connections) -> io::Result<Connections> {
        for _ in 1..DUMPS {
            let (found, interrupted) = self.once(family, wanted, before.clone())?;
            if !interrupted {
                return Ok(found);
            }
        }
        Ok(self.once(family, wanted, before.clone())?.0)
    }

    /// Makes one dump, and tells whether the table changed meanwhile.
    fn once(&mut self, family: u8, wanted: DumpFilter<'_>, mut found: Connections) -> io::Result<(Connections, bool)> {
        self.sequence += 1;
        let request = self.request(family, wanted.ports);
        self.socket.send(&request, 0)?;
        let mut interrupted = false;
        loop {
            self.receive()?;
            if self.read_piece(wanted, &mut found, &mut interrupted)? == DumpProgress::Done {
                return Ok((found, interrupted));
            }
        }
    }

    fn request(&self, family: u8, ports: &BTreeSet<u16>) -> Vec<u8> {
        let mut socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        // The kernel can filter by one port itself (inet_diag_dump_icsk).
        if let (Some(port), 1) = (ports.first(), ports.len()) {
            socket_id.source_port = *port;
        }
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::from_iter(STATES),
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

    fn read_piece(
        &self,
        wanted: DumpFilter<'_>,
        found: &mut Connections,
        interrupted: &mut bool,
    ) -> io::Result<DumpProgress> {
        let mut rest = self.piece.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|error| garbled(&error))?;
            *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            let of_this_dump = message.sequence_number() == self.sequence;
            match message.message_type() {
                NLMSG_DONE if of_this_dump => return Ok(DumpProgress::Done),
                NLMSG_ERROR if of_this_dump => return Err(refusal(message.payload())),
                NLMSG_OVERRUN => return Err(io::Error::other("the kernel lost a part of its list of connections")),
                SOCK_DIAG_BY_FAMILY if of_this_dump => {
                    let socket = TcpSocket::parse(message.payload())?;
                    if wanted.ports.contains(&socket.port) {
                        socket.add_to(found, wanted.quiet_for);
                    }
                }
                _ => {}
            }
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(DumpProgress::More)
    }
}

fn refusal(payload: &[u8]) -> io::Error {
    match ErrorBuffer::new_checked(payload).ok().and_then(|error| error.code()) {
        Some(code) => io::Error::from_raw_os_error(code.get().saturating_abs()),
        None => io::Error::other("the kernel acknowledged instead of listing connections"),
    }
}
