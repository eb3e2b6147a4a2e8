//! One TCP socket of the kernel's list, and whether a request may be open on it. Pure.
//!
//! A connection is busy while a request may be open on it. The kernel's ages count in its ticks, mostly 4 ms. So a
//! request right after an answer can look as if it was answered: then the connection is unclear.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NlasIterator, Parseable as _};
use netlink_packet_sock_diag::constants::{
    INET_DIAG_INFO, TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK,
    TCP_LISTEN, TCP_SYN_RECV, TCP_TIME_WAIT,
};
use netlink_packet_sock_diag::inet::{InetResponseHeader, Timer};

use crate::core::model::Connections;

/// The length of `struct inet_diag_msg`, which the attributes follow.
const MESSAGE_LENGTH: usize = 72;
/// The offset of `idiag_expires` in it: milliseconds until the timer ends.
const EXPIRES: usize = 52;
/// `TCP_TIMEWAIT_LEN`: the kernel remembers an ended connection for so many milliseconds (net/tcp.h).
const TIME_WAIT_LASTS: u32 = 60_000;
/// Offsets in `struct tcp_info` (linux/tcp.h) of ages in milliseconds: `tcpi_last_data_sent`, `tcpi_last_data_recv`,
/// `tcpi_last_ack_recv`.
const LAST_DATA_SENT: usize = 44;
const LAST_DATA_RECV: usize = 52;
const LAST_ACK_RECV: usize = 56;
/// Offsets of `tcpi_data_segs_in` and `tcpi_data_segs_out`, the counts of segments with data (since Linux 4.6).
const DATA_SEGMENTS_IN: usize = 152;
const DATA_SEGMENTS_OUT: usize = 156;

/// A client's data segments: two for its greeting with a post-quantum key, one for the end of the handshake, one for
/// the request (RFC 8446, 2).
const HANDSHAKE_AND_REQUEST: u32 = 4;

/// A FIN takes one place in the send queue, like a byte of data.
const ONLY_THE_END: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) port: u16,
    is_from_this_machine: bool,
    state: TcpState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TcpState {
    Listening,
    /// The handshake is not complete: a request follows.
    Opening,
    /// The connection is open; the other end may have said that it sends nothing more.
    Open {
        waiting: bool,
        traffic: Option<Traffic>,
    },
    /// This end has closed it, but data is still on its way to the other end.
    Ending,
    /// It ended this many milliseconds ago.
    Ended(u32),
    /// It carries nothing more.
    Done,
}

/// The traffic of one connection. The ages are in milliseconds; without traffic it is the age of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traffic {
    sent: u32,
    received: u32,
    acknowledged: u32,
    segments_in: u32,
    segments_out: u32,
}

/// The state of the last request on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastRequest {
    Answered,
    Unanswered,
    Unclear,
}

impl Socket {
    /// Reads one message of the kernel's list: `struct inet_diag_msg` and its attributes.
    pub(super) fn parse(payload: &[u8]) -> io::Result<Socket> {
        let header = InetResponseHeader::parse(payload).map_err(|error| garbled(&error))?;
        let (own, other) = (header.socket_id.source_address, header.socket_id.destination_address);
        let (unread, unsent) = (header.recv_queue, header.send_queue);
        let state = match header.state {
            TCP_LISTEN => TcpState::Listening,
            TCP_SYN_RECV => TcpState::Opening,
            TCP_ESTABLISHED | TCP_CLOSE_WAIT => {
                TcpState::Open { waiting: unread > 0 || unsent > 0, traffic: Traffic::read(payload) }
            }
            TCP_FIN_WAIT1 | TCP_CLOSING | TCP_LAST_ACK if unsent > ONLY_THE_END => TcpState::Ending,
            TCP_TIME_WAIT | TCP_FIN_WAIT2 if matches!(header.timer, Some(Timer::TimeWait)) => {
                TcpState::Ended(TIME_WAIT_LASTS.saturating_sub(number(payload, EXPIRES).unwrap_or(0)))
            }
            _ => TcpState::Done,
        };
        Ok(Socket {
            port: header.socket_id.source_port,
            is_from_this_machine: is_from_this_machine(own.to_canonical(), other.to_canonical()),
            state,
        })
    }

    pub(super) fn add_to(&self, found: &mut Connections, quiet_for: Duration) {
        if self.state != TcpState::Listening && !self.is_from_this_machine {
            found.reached.insert(self.port);
        }
        let quiet_for = u32::try_from(quiet_for.as_millis()).unwrap_or(u32::MAX);
        match &self.state {
            TcpState::Listening => drop(found.listening.insert(self.port)),
            _ if self.is_from_this_machine => {}
            TcpState::Opening | TcpState::Ending => {
                found.established += 1;
                found.busy += 1;
            }
            TcpState::Open { waiting, traffic } => {
                let moved = traffic.is_some_and(|traffic| traffic.sent.min(traffic.received) < quiet_for);
                let request = traffic.map_or(LastRequest::Answered, Traffic::last_request);
                let is_busy = *waiting || moved || request == LastRequest::Unanswered;
                found.established += 1;
                found.busy += usize::from(is_busy);
                found.unclear += usize::from(!is_busy && request == LastRequest::Unclear);
                let has_begun = traffic.is_some_and(Traffic::has_begun);
                found.begun += usize::from(!is_busy && request != LastRequest::Unclear && has_begun);
            }
            TcpState::Ended(ago) => found.ended_lately += usize::from(*ago < quiet_for),
            TcpState::Done => {}
        }
    }
}

pub(super) fn garbled(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's list of connections is garbled: {error}"))
}

/// A program on this machine connects from the address to which it connects, or from the loopback address.
fn is_from_this_machine(own: IpAddr, other: IpAddr) -> bool {
    other == own || other == IpAddr::from([127, 0, 0, 1]) || other == IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])
}

impl Traffic {
    /// Reads the traffic; `None` if the kernel does not tell, and then it makes no connection busy.
    fn read(payload: &[u8]) -> Option<Traffic> {
        let attributes = NlasIterator::new(payload.get(MESSAGE_LENGTH..)?);
        let info = attributes.filter_map(Result::ok).find(|attribute| attribute.kind() == INET_DIAG_INFO)?;
        let info = info.value();
        Some(Traffic {
            sent: number(info, LAST_DATA_SENT)?,
            received: number(info, LAST_DATA_RECV)?,
            acknowledged: number(info, LAST_ACK_RECV)?,
            segments_in: number(info, DATA_SEGMENTS_IN).unwrap_or(0),
            segments_out: number(info, DATA_SEGMENTS_OUT).unwrap_or(0),
        })
    }

    /// Tells whether so little has come that it may be a handshake and one request.
    fn has_begun(self) -> bool {
        (2..=HANDSHAKE_AND_REQUEST).contains(&self.segments_in)
    }

    fn last_request(self) -> LastRequest {
        match self {
            // `sent` and `received` are both the connection's age if its first request came at once.
            Traffic { segments_in, segments_out: 0, .. } if segments_in > 0 => LastRequest::Unanswered,
            Traffic { sent, received, .. } if received < sent => LastRequest::Unanswered,
            Traffic { sent, received, .. } if received > sent => LastRequest::Answered,
            // The only request was answered; or the other end has acknowledged something since its last data.
            Traffic { segments_in: 0 | 1, .. } => LastRequest::Answered,
            Traffic { acknowledged, received, .. } if acknowledged < received => LastRequest::Answered,
            _ => LastRequest::Unclear,
        }
    }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}
