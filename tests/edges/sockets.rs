//! Socket diagnostics of the real kernel over real connections.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use spot_relay::core::model::Connections;
use spot_relay::host::connections::connections;

const QUIET_FOR: Duration = Duration::from_millis(1000);
const LONGER: Duration = Duration::from_millis(1200);

struct Pair {
    client: TcpStream,
    server: TcpStream,
    ports: BTreeSet<u16>,
}

fn connect(address: &str, client: &str) -> Pair {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect((client, port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    Pair { client, server, ports: BTreeSet::from([port]) }
}

impl Pair {
    fn request(&mut self) {
        self.client.write_all(b"GET").unwrap();
        self.server.read_exact(&mut [0; 3]).unwrap();
    }

    fn answer(&mut self) {
        self.server.write_all(b"200").unwrap();
        self.client.read_exact(&mut [0; 3]).unwrap();
    }

    fn look(&self) -> Connections {
        connections(&self.ports, QUIET_FOR).unwrap()
    }
}

#[test]
fn an_answered_connection_is_busy_first_and_quiet_later() {
    let mut pair = connect("127.0.0.1:0", "127.0.0.1");
    pair.request();
    pair.answer();
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 0 });
    pair.request();
    pair.answer();
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
}

#[test]
fn a_request_without_an_answer_stays_busy_until_it_is_answered() {
    let mut pair = connect("127.0.0.1:0", "127.0.0.1");
    // At once, and so within the jiffy of the connection.
    pair.request();
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
    pair.answer();
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 0 });
    // And again on the same connection.
    pair.request();
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
    pair.answer();
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 0 });
}

#[test]
fn a_connection_that_never_said_anything_is_quiet() {
    let pair = connect("127.0.0.1:0", "127.0.0.1");
    sleep(LONGER);
    assert_eq!(pair.look(), Connections { established: 1, busy: 0 });
}

#[test]
fn ipv6_and_ipv4_mapped_connections_count() {
    let mut pair = connect("[::1]:0", "::1");
    pair.request();
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
    let mut pair = connect("[::]:0", "127.0.0.1");
    pair.request();
    assert_eq!(pair.look(), Connections { established: 1, busy: 1 });
}

#[test]
fn closed_connections_listeners_and_other_ports_do_not_count() {
    let pair = connect("127.0.0.1:0", "127.0.0.1");
    let mut other = connect("127.0.0.1:0", "127.0.0.1");
    let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
    other.request();
    let both = pair.ports.union(&other.ports).copied().collect();
    assert_eq!(connections(&both, QUIET_FOR).unwrap().established, 2);
    let Pair { client, server, ports } = other;
    drop((client, server));
    assert_eq!(connections(&ports, QUIET_FOR).unwrap(), Connections::default());
    assert_eq!(connections(&both, QUIET_FOR).unwrap().established, 1);
    assert_eq!(connections(&BTreeSet::new(), QUIET_FOR).unwrap(), Connections::default());
}

/// More than one piece of the kernel's list, over one port (which the kernel picks out) and two (which we do).
#[test]
fn two_thousand_connections_are_counted_to_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let held: Vec<(TcpStream, TcpStream)> =
        (0..2000).map(|_| (TcpStream::connect(address).unwrap(), listener.accept().unwrap().0)).collect();
    let mut ports = BTreeSet::from([address.port()]);
    let began = Instant::now();
    assert_eq!(connections(&ports, QUIET_FOR).unwrap().established, held.len());
    ports.insert(9);
    assert_eq!(connections(&ports, QUIET_FOR).unwrap().established, held.len());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
