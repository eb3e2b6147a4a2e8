//! Drained means drained: real connections to a real server, and the application is stopped when the daemon says that this
//! instance is quiet. Whatever is open then is lost.
//!
//! The notice is a real one of two minutes and the configuration the default one. Nearly all of that is waiting, so that all rows
//! are played at the same time.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use spot_relay::sim::{Owner, Settings, Sim};
use tokio::net::TcpSocket;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use crate::scenario::{Scenario, target_group, world};

/// The name of the target group. Everything else has its default.
const CONFIG: &str = "target-groups = [\"web\"]\n";
/// A request stays open this long after the deregistration: settling, and what counts as still, are long over.
const OPEN_FOR: Duration = Duration::from_secs(45);
/// A pause in a request or in its answer.
const PAUSE: Duration = Duration::from_secs(6);
const NOTICE: Duration = Duration::from_secs(120);

/// The signals between server, client and test.
#[derive(Default)]
struct Stage {
    deregistered: Mutex<Option<Instant>>,
    stopped: AtomicBool,
}

impl Stage {
    /// The request is still to be open.
    fn goes_on(&self) -> bool {
        self.is_before(OPEN_FOR)
    }

    /// Before so long after the deregistration.
    fn is_before(&self, after: Duration) -> bool {
        let deregistered = *self.deregistered.lock().expect("the stage");
        deregistered.is_none_or(|at| at.elapsed() < after) && !self.stopped.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        while self.goes_on() {
            sleep(Duration::from_millis(10));
        }
    }
}

type Part = fn(TcpStream, &Stage) -> io::Result<()>;

struct Row {
    name: &'static str,
    server: Part,
    client: Client,
    settings: fn() -> Settings,
    /// The quiet milestone says so.
    says: &'static str,
}

enum Client {
    /// One connection of another machine's.
    Other(Part),
    /// One connection after the other, until so long after the deregistration, with a pause after each.
    Balancer(Duration, Duration),
    /// A program of this machine that never ends.
    Agent(Part),
}

fn rows() -> Vec<Row> {
    let row = |name, server, client| Row { name, server, client, settings: web, says: "no request is open" };
    let until_the_reserve = |row: Row| Row { says: "the reserve is reached", ..row };
    vec![
        row("streamed response or server-sent events with pauses", stream, Client::Other(read_stream)),
        row("WebSocket with pauses", web_socket, Client::Other(talk)),
        row("upload after 100 Continue that pauses", take_upload, Client::Other(upload)),
        row("client that reads slowly", send_much, Client::Other(read_late)),
        Row { settings: https, ..row("first request over TLS 1.3", answer_over_tls, Client::Other(ask_over_tls)) },
        row("second request right after an answer", answer_late, Client::Other(ask_twice)),
        row("pipelined requests", answer_pipelined, Client::Other(pipeline)),
        row(
            "load balancer that goes on sending after the deregistration",
            answer,
            Client::Balancer(Duration::from_secs(18), Duration::from_secs(4)),
        ),
        row(
            "connection closed after each answer, twenty a second",
            answer,
            Client::Balancer(OPEN_FOR, Duration::from_millis(50)),
        ),
        Row {
            settings: hooked,
            ..row("termination hook in the midst of a stream", stream, Client::Other(read_stream))
        },
        row("agent of this machine on a kept-alive connection", echo, Client::Agent(chat)),
        until_the_reserve(Row {
            settings: multiplexed,
            ..row(
                "silent stream beside a quick one on one connection",
                answer_multiplexed,
                Client::Other(ask_multiplexed),
            )
        }),
        until_the_reserve(Row { settings: redirected, ..row("redirected port", stream, Client::Other(read_stream)) }),
    ]
}

fn web() -> Settings {
    Settings { owner: Owner::LaunchTemplate, target_groups: vec![target_group("web", &[])], ..world() }
}

fn hooked() -> Settings {
    let owner = Owner::AutoScalingGroup { capacity_rebalance: false, termination_hook: true, mixed_instances: false };
    let mut settings = Settings { owner, ..web() };
    settings.target_groups[0].deregistration_delay = Duration::from_secs(1);
    settings
}

fn https() -> Settings {
    let mut settings = web();
    "HTTPS".clone_into(&mut settings.target_groups[0].protocol);
    settings
}

fn multiplexed() -> Settings {
    let mut settings = web();
    "HTTP2".clone_into(&mut settings.target_groups[0].protocol_version);
    settings
}

/// The kernel of this machine redirects it to the server's. No test listens there, and the kernel gives it to nobody who asks for
/// any port.
fn redirected() -> Settings {
    let mut settings = web();
    settings.target_groups[0].ports = vec![61_099];
    settings
}

impl Row {
    fn play(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
        let port = listener.local_addr().expect("its address").port();
        let mut settings = (self.settings)();
        let group = &mut settings.target_groups[0];
        if group.ports.is_empty() {
            group.ports = vec![port];
        }
        group.port = group.ports[0];
        let sim = Sim::start_on_a_thread(settings).expect("the simulator starts");
        let scenario = Scenario::of(&sim, sim.metadata_endpoint()).config(CONFIG);
        let stage = Stage::default();
        thread::scope(|scope| {
            scope.spawn(|| serve(&listener, self.server, &stage));
            let client = scope.spawn(|| self.client.play(port, &stage));
            let ended =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.watch(&scenario, &stage, &client)));
            // The application is stopped, whatever came of it.
            stage.stopped.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            let answered = client.join().expect("the client");
            if let Err(why) = ended {
                std::panic::resume_unwind(why);
            }
            assert!(answered.is_ok(), "{}: {answered:?}", self.name);
        });
    }

    /// From the notice until this instance is quiet.
    fn watch(&self, scenario: &Scenario, stage: &Stage, client: &thread::ScopedJoinHandle<'_, io::Result<()>>) {
        let daemon = scenario.ready();
        scenario.sim.notice("terminate", NOTICE);
        daemon.wait_for("deregistered");
        *stage.deregistered.lock().expect("the stage") = Some(Instant::now());
        let quiet = daemon.wait_patiently_for("quiet", NOTICE);
        let context = format!("{}: {quiet}\n{}", self.name, daemon.lines().join("\n"));
        let is_agent = matches!(self.client, Client::Agent(_));
        assert!(is_agent || client.is_finished(), "a request is lost: {context}");
        assert!(quiet["message"].as_str().is_some_and(|message| message.contains(self.says)), "{context}");
        if matches!((self.settings)().owner, Owner::AutoScalingGroup { .. }) {
            let completed =
                crate::scenario::eventually(|| (scenario.count("CompleteLifecycleAction") > 0).then_some(()));
            assert!(completed.is_some(), "{context}");
        }
    }
}

impl Client {
    fn play(&self, port: u16, stage: &Stage) -> io::Result<()> {
        match self {
            Client::Other(part) => part(from(Ipv4Addr::new(127, 0, 0, 2), port)?, stage),
            Client::Agent(part) => {
                // Another machine has come, and says nothing.
                let _idle = from(Ipv4Addr::new(127, 0, 0, 2), port)?;
                part(from(Ipv4Addr::LOCALHOST, port)?, stage)
            }
            Client::Balancer(until, pause) => {
                while stage.is_before(*until) {
                    let mut connection = from(Ipv4Addr::new(127, 0, 0, 2), port)?;
                    connection.write_all(b"request\n")?;
                    expect(&mut connection, b"answer\n")?;
                    sleep(*pause);
                }
                Ok(())
            }
        }
    }
}

/// From 127.0.0.2 comes no program of this machine by itself: it is another one, for the daemon.
fn from(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((address, 0)))?;
        socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?.into_std()
    })?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn serve(listener: &TcpListener, part: Part, stage: &Stage) {
    thread::scope(|scope| {
        for connection in listener.incoming() {
            if stage.stopped.load(Ordering::SeqCst) {
                return;
            }
            // A client that has gone is its own affair.
            scope.spawn(move || connection.and_then(|connection| part(connection, stage)).ok());
        }
    });
}

fn line(connection: &mut impl io::Read) -> io::Result<()> {
    let mut byte = [0];
    while byte != *b"\n" {
        connection.read_exact(&mut byte)?;
    }
    Ok(())
}

fn expect(connection: &mut impl io::Read, wanted: &[u8]) -> io::Result<()> {
    let mut read = vec![0; wanted.len()];
    connection.read_exact(&mut read)?;
    if read == wanted { Ok(()) } else { Err(io::Error::other(format!("{:?}", String::from_utf8_lossy(&read)))) }
}

fn answer(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    connection.write_all(b"answer\n")
}

fn stream(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    while stage.goes_on() {
        connection.write_all(b"piece\n")?;
        sleep(PAUSE);
    }
    connection.write_all(b"end\n")
}

fn read_stream(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    connection.write_all(b"request\n")?;
    let last = BufReader::new(connection).lines().map_while(Result::ok).last();
    if last.as_deref() == Some("end") { Ok(()) } else { Err(io::Error::other(format!("{last:?}"))) }
}

fn web_socket(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    while stage.goes_on() {
        sleep(PAUSE);
        connection.write_all(b"ping\n")?;
        line(&mut connection)?;
    }
    connection.write_all(b"bye!\n")
}

fn talk(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    connection.write_all(b"upgrade\n")?;
    while expect(&mut connection, b"ping\n").is_ok() {
        sleep(PAUSE);
        connection.write_all(b"pong\n")?;
    }
    Ok(())
}

fn take_upload(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    connection.write_all(b"100 Continue\n")?;
    line(&mut connection)?;
    connection.write_all(b"answer\n")
}

fn upload(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    connection.write_all(b"Expect: 100-continue\n")?;
    expect(&mut connection, b"100 Continue\n")?;
    while stage.goes_on() {
        sleep(PAUSE);
        connection.write_all(b"piece")?;
    }
    connection.write_all(b"\n")?;
    expect(&mut connection, b"answer\n")
}

/// More than the buffers on both sides hold.
const MUCH: usize = 32 * 1024 * 1024;

fn send_much(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    connection.write_all(&vec![b'x'; MUCH])
}

fn read_late(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    connection.write_all(b"request\n")?;
    expect(&mut connection, b"x")?;
    stage.wait();
    let rest = io::copy(&mut connection, &mut io::sink())?;
    if rest == MUCH as u64 - 1 { Ok(()) } else { Err(io::Error::other(format!("{rest} bytes"))) }
}

fn answer_late(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    connection.write_all(b"answer\n")?;
    line(&mut connection)?;
    stage.wait();
    connection.write_all(b"answer\n")
}

fn ask_twice(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    for _ in 0..2 {
        connection.write_all(b"request\n")?;
        expect(&mut connection, b"answer\n")?;
    }
    Ok(())
}

/// A server and a client that speak nothing older than TLS 1.3.
static TLS: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("spot-relay-drained-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").current_dir(&directory).args(arguments.split(' ')).output();
        let output = output.expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("req -x509 {key} -keyout authority.key -out authority.pem -subj /CN=authority"));
    let name = "-subj /CN=here -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    openssl(&format!("req -x509 {key} -CA authority.pem -CAkey authority.key -keyout here.key -out here.pem {name}"));
    let certificate = |file: &str| CertificateDer::from_pem_file(directory.join(file)).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority.pem")).expect("an authority");
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let key = PrivateKeyDer::from_pem_file(directory.join("here.key")).expect("a key");
    let server = server.with_protocol_versions(&[&TLS13]).expect("TLS 1.3").with_no_client_auth();
    let server = server.with_single_cert(vec![certificate("here.pem")], key).expect("a server");
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let client = client.with_protocol_versions(&[&TLS13]).expect("TLS 1.3").with_root_certificates(roots);
    std::fs::remove_dir_all(&directory).expect("it is removed");
    (Arc::new(server), Arc::new(client.with_no_client_auth()))
});

/// The end of the handshake and the request wait for the server together. So its session tickets, which belong to the handshake,
/// are the last data on the connection, as if they were the answer.
fn answer_over_tls(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    let mut session = ServerConnection::new(TLS.0.clone()).map_err(io::Error::other)?;
    session.read_tls(&mut connection)?;
    session.process_new_packets().map_err(io::Error::other)?;
    while session.wants_write() {
        session.write_tls(&mut connection)?;
    }
    sleep(Duration::from_millis(100));
    let mut connection = StreamOwned::new(session, connection);
    line(&mut connection)?;
    stage.wait();
    connection.write_all(b"answer\n")
}

fn ask_over_tls(connection: TcpStream, _: &Stage) -> io::Result<()> {
    let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
    let session = ClientConnection::new(TLS.1.clone(), name).map_err(io::Error::other)?;
    let mut connection = StreamOwned::new(session, connection);
    connection.write_all(b"request\n")?;
    expect(&mut connection, b"answer\n")
}

/// Reads one request when it has answered the one before it.
fn answer_pipelined(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    connection.write_all(b"answer\n")?;
    stage.wait();
    line(&mut connection)?;
    connection.write_all(b"answer\n")
}

fn pipeline(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    connection.write_all(b"request\nrequest\n")?;
    expect(&mut connection, b"answer\n")?;
    expect(&mut connection, b"answer\n")
}

/// The first request is answered last, and the last one first.
fn answer_multiplexed(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    line(&mut connection)?;
    line(&mut connection)?;
    sleep(PAUSE);
    connection.write_all(b"quick!\n")?;
    stage.wait();
    connection.write_all(b"silent\n")
}

fn ask_multiplexed(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    connection.write_all(b"silent\nquick!\n")?;
    expect(&mut connection, b"quick!\n")?;
    expect(&mut connection, b"silent\n")
}

fn echo(mut connection: TcpStream, _: &Stage) -> io::Result<()> {
    loop {
        line(&mut connection)?;
        connection.write_all(b"answer\n")?;
    }
}

fn chat(mut connection: TcpStream, stage: &Stage) -> io::Result<()> {
    while !stage.stopped.load(Ordering::SeqCst) {
        connection.write_all(b"request\n")?;
        expect(&mut connection, b"answer\n")?;
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn nothing_that_is_open_is_lost_when_this_instance_is_called_quiet() {
    thread::scope(|scope| {
        let plays: Vec<_> = rows().into_iter().map(|row| scope.spawn(move || row.play())).collect();
        let failed = plays.into_iter().filter_map(|play| play.join().err()).count();
        assert_eq!(failed, 0, "rows have failed");
    });
}
