//! Socket diagnostics of the real kernel over real connections: each kind of open request that a look has to see. Times are a
//! tenth of the defaults.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use spot_relay::core::model::Connections;
use spot_relay::host::connections::connections;
use tokio::net::TcpSocket;

const QUIET_FOR: Duration = Duration::from_millis(1500);
const LONGER: Duration = Duration::from_millis(1800);
/// A pause in a request or in its answer.
const PAUSE: Duration = Duration::from_millis(600);

struct Pair {
    client: TcpStream,
    server: TcpStream,
    ports: BTreeSet<u16>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn look(ports: &BTreeSet<u16>) -> Connections {
    runtime().block_on(connections(ports.clone(), QUIET_FOR)).unwrap()
}

/// From an address that no program of this machine comes from by itself: another machine's, for us.
fn from_another_machine(to: SocketAddr) -> TcpStream {
    let stream = runtime().block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

fn connect_to(listener: &TcpListener) -> Pair {
    let port = listener.local_addr().unwrap().port();
    let client = from_another_machine(SocketAddr::from(([127, 0, 0, 1], port)));
    let (server, _) = listener.accept().unwrap();
    Pair { client, server, ports: BTreeSet::from([port]) }
}

fn connect() -> Pair {
    connect_to(&TcpListener::bind("127.0.0.1:0").unwrap())
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
        look(&self.ports)
    }

    fn busy(&self) -> bool {
        let seen = self.look();
        assert_eq!(seen.established, 1, "{seen:?}");
        seen.busy == 1
    }

    /// Looks all the time for so long.
    fn stays_busy_for(&self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            assert!(self.busy(), "after {:?}: {:?}", began.elapsed(), self.look());
            sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn an_answered_connection_is_busy_first_and_quiet_later() {
    let mut pair = connect();
    for _ in 0..2 {
        pair.request();
        sleep(Duration::from_millis(20));
        pair.answer();
        assert!(pair.busy());
        sleep(LONGER);
        let seen = pair.look();
        assert_eq!((seen.established, seen.busy, seen.unclear), (1, 0, 0));
    }
}

#[test]
fn a_first_request_that_is_answered_within_a_tick_is_answered() {
    let mut pair = connect();
    pair.request();
    pair.answer();
    sleep(LONGER);
    let seen = pair.look();
    assert_eq!((seen.established, seen.busy, seen.unclear), (1, 0, 0));
}

#[test]
fn a_request_without_an_answer_stays_busy_until_it_is_answered() {
    let mut pair = connect();
    for _ in 0..2 {
        pair.request();
        sleep(LONGER);
        assert!(pair.busy());
        sleep(Duration::from_millis(20));
        pair.answer();
        sleep(LONGER);
        assert!(!pair.busy());
    }
}

#[test]
fn a_second_request_right_after_an_answer_is_never_taken_for_an_answered_one() {
    let mut pairs: Vec<Pair> = (0..40).map(|_| connect()).collect();
    for pair in &mut pairs {
        pair.request();
        pair.answer();
        pair.request();
    }
    sleep(LONGER);
    for pair in &pairs {
        let seen = pair.look();
        assert_eq!(seen.busy + seen.unclear, 1, "{seen:?}");
    }
}

#[test]
fn a_pipelined_request_that_waits_in_the_queue_is_busy() {
    let mut pair = connect();
    pair.client.write_all(b"GETGET").unwrap();
    pair.server.read_exact(&mut [0; 3]).unwrap();
    pair.answer();
    sleep(LONGER);
    assert!(pair.busy());
    pair.server.read_exact(&mut [0; 3]).unwrap();
    sleep(Duration::from_millis(20));
    pair.answer();
    sleep(LONGER);
    assert!(!pair.busy());
}

#[test]
fn a_streamed_answer_stays_busy_in_its_pauses() {
    let mut pair = connect();
    pair.request();
    for _ in 0..4 {
        pair.answer();
        pair.stays_busy_for(PAUSE);
    }
}

#[test]
fn an_upload_that_pauses_after_100_continue_stays_busy() {
    let mut pair = connect();
    pair.request();
    sleep(Duration::from_millis(20));
    pair.answer();
    pair.stays_busy_for(PAUSE);
    pair.request();
    pair.stays_busy_for(PAUSE);
}

/// The tickets that the server sends after the handshake look like an answer to the request that came with its end.
#[test]
fn a_first_request_over_tls_stays_busy_for_as_long_as_anything_has_moved() {
    let mut pair = connect();
    for _ in 0..2 {
        pair.request();
        sleep(Duration::from_millis(20));
        pair.answer();
    }
    pair.stays_busy_for(PAUSE);
}

#[test]
fn a_client_that_reads_slowly_keeps_it_busy_even_when_the_server_has_closed() {
    let mut pair = connect();
    pair.request();
    pair.server.set_nonblocking(true).unwrap();
    let block = [0; 1 << 16];
    while pair.server.write(&block).is_ok() {}
    sleep(LONGER);
    assert!(pair.busy(), "data waits in the send queue");
    let Pair { client, server, ports } = pair;
    drop(server);
    assert_eq!(look(&ports).busy, 1, "also after the close");
    drop(client);
    sleep(Duration::from_millis(200));
    assert_eq!(look(&ports).busy, 0, "there is nobody to read it any more");
}

#[test]
fn connections_that_the_server_closes_after_each_answer_are_remembered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pair = connect_to(&listener);
    pair.request();
    pair.answer();
    let Pair { client, server, ports } = pair;
    drop(server);
    drop(client);
    sleep(Duration::from_millis(100));
    let seen = look(&ports);
    assert_eq!((seen.established, seen.busy, seen.ended_lately), (0, 0, 1), "{seen:?}");
    sleep(LONGER);
    let seen = look(&ports);
    assert_eq!((seen.ended_lately, seen.reached), (0, ports), "somebody has come within the last minute");
}

#[test]
fn a_client_that_has_sent_everything_still_waits_for_its_answer() {
    let mut pair = connect();
    pair.request();
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    sleep(LONGER);
    assert!(pair.busy());
}

#[test]
fn connections_of_this_machine_itself_do_not_count() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports = BTreeSet::from([port]);
    let mut held = Vec::new();
    for own in ["127.0.0.1", "127.0.1.1", "::1"] {
        let client = TcpStream::connect((own, port)).unwrap();
        (&client).write_all(b"GET").unwrap();
        held.push((client, listener.accept().unwrap()));
    }
    let seen = look(&ports);
    assert_eq!((seen.established, seen.busy, seen.unclear, seen.ended_lately), (0, 0, 0, 0), "{seen:?}");
    assert_eq!(seen.listening, ports);
    // And one from elsewhere, to the same listener, does.
    let client = from_another_machine(SocketAddr::from(([127, 0, 0, 1], port)));
    (&client).write_all(b"GET").unwrap();
    held.push((client, listener.accept().unwrap()));
    let seen = look(&ports);
    assert_eq!((seen.busy, &seen.reached), (1, &ports));
}

#[test]
fn it_tells_on_which_ports_somebody_listens() {
    let listeners = ["127.0.0.1:0", "[::]:0"].map(|address| TcpListener::bind(address).unwrap());
    let mut ports: BTreeSet<u16> = listeners.iter().map(|one| one.local_addr().unwrap().port()).collect();
    let listening = ports.clone();
    ports.insert(9);
    assert_eq!(look(&ports).listening, listening);
    drop(listeners);
    assert!(look(&ports).listening.is_empty());
}

#[test]
fn a_connection_that_never_said_anything_is_quiet() {
    let pair = connect();
    sleep(LONGER);
    let seen = pair.look();
    assert_eq!((seen.established, seen.busy, seen.unclear), (1, 0, 0));
}

#[test]
fn other_ports_do_not_count() {
    let pair = connect();
    let mut other = connect();
    other.request();
    assert_eq!(pair.look().established, 1);
    let both = pair.ports.union(&other.ports).copied().collect();
    assert_eq!(look(&both).established, 2);
    assert_eq!(look(&BTreeSet::new()), Connections::default());
}

/// More than one piece of the kernel's list, over one port (which the kernel picks out) and two (which we do).
#[test]
fn two_thousand_connections_are_counted_to_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<Pair> = (0..2000).map(|_| connect_to(&listener)).collect();
    let mut ports = BTreeSet::from([listener.local_addr().unwrap().port()]);
    let began = Instant::now();
    assert_eq!(look(&ports).established, held.len());
    ports.insert(9);
    assert_eq!(look(&ports).established, held.len());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// The one thread of the daemon goes on while the kernel lists: its timers run.
#[test]
fn a_look_holds_nothing_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held: Vec<Pair> = (0..2000).map(|_| connect_to(&listener)).collect();
    let ports = BTreeSet::from([listener.local_addr().unwrap().port()]);
    runtime().block_on(async {
        let mut turns = 0;
        let looking = connections(ports, QUIET_FOR);
        tokio::pin!(looking);
        let seen = loop {
            tokio::select! {
                biased;
                seen = &mut looking => break seen.unwrap(),
                () = tokio::task::yield_now() => turns += 1,
            }
        };
        assert_eq!(seen.established, held.len());
        assert!(turns > 0, "nothing else had its turn");
    });
}
