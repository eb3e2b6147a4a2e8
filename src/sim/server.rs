//! The listeners: accept connections, keep them alive, and handle each request in steps.
//!
//! A request arrives (it is logged, the watcher called), meets a fault or is performed, the watcher is called again,
//! and it is answered. If the client is gone when the first watcher call returns, the request is forgotten. If it goes
//! later the request is performed all the same.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::aws::{self, ApiCall};
use super::control;
use super::faults::FaultKind;
use super::metadata::{self, MetadataRequest, Tokens};
use super::refusal::Refusal;
use super::reply::{Reply, ReplyBody};
use super::requests::{Request, RequestMoment, Wire};
use super::simulation::{Inner, Watcher};

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The service behind a listener.
#[derive(Clone)]
pub(crate) enum Role {
    /// The metadata of one instance, for every client.
    Metadata {
        instance: String,
        tokens: Arc<Mutex<Tokens>>,
    },
    /// The metadata of the instance with the client's address, or of `otherwise` if no instance has it.
    MetadataByAddress {
        otherwise: String,
        tokens: Arc<Mutex<Tokens>>,
    },
    Aws,
    Control,
}

impl Role {
    pub(crate) fn metadata(instance: &str) -> Role {
        Role::Metadata { instance: instance.to_owned(), tokens: Arc::default() }
    }

    pub(crate) fn metadata_by_address(otherwise: &str) -> Role {
        Role::MetadataByAddress { otherwise: otherwise.to_owned(), tokens: Arc::default() }
    }

    /// The role for a client with this address.
    fn towards(&self, inner: &Inner, address: IpAddr) -> Role {
        match self {
            Role::MetadataByAddress { otherwise, tokens } => {
                let asks = inner.world().instance_with_address(address);
                Role::Metadata { instance: asks.unwrap_or_else(|| otherwise.clone()), tokens: Arc::clone(tokens) }
            }
            Role::Metadata { .. } | Role::Aws | Role::Control => self.clone(),
        }
    }
}

/// The connection is closed without an answer.
#[derive(Debug)]
struct ConnectionClosed;

impl std::fmt::Display for ConnectionClosed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the simulator closes this connection without an answer")
    }
}

impl std::error::Error for ConnectionClosed {}

pub(crate) fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(&tls.certificate).map_err(io::Error::other)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves in its own task, and returns the listener's address.
pub(crate) fn serve(
    inner: &Arc<Inner>,
    listener: TcpListener,
    role: Role,
    tls: Option<TlsAcceptor>,
) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let role = role.towards(&inner, peer.ip());
                    drop(tokio::spawn(connection(Arc::clone(&inner), stream, role, tls.clone())));
                }
                // For example, there are no file descriptors left until others close some.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    Ok(address)
}

async fn connection(inner: Arc<Inner>, stream: TcpStream, role: Role, tls: Option<TlsAcceptor>) {
    // Small segments that wait would be measured as the daemon's time.
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(inner, stream, role).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                requests(inner, stream, role).await;
            }
        }
    }
}

async fn requests(inner: Arc<Inner>, stream: impl AsyncRead + AsyncWrite + Unpin, role: Role) {
    let number = inner.connections.fetch_add(1, Ordering::Relaxed);
    let keep_alive = if matches!(role, Role::Aws) { inner.world().settings.keep_alive } else { None };
    let service = service_fn(|request| one_request(Arc::clone(&inner), number, role.clone(), request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(keep_alive);
    // The end of a connection matters only to the client or a fault.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn one_request(
    inner: Arc<Inner>,
    connection: u64,
    role: Role,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<ReplyBody>, ConnectionClosed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| ConnectionClosed)?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let incoming = Wire { method: head.method.as_str().to_owned(), path, headers: headers(&head.headers), body };
    if matches!(role, Role::Control) {
        return Ok(control::answer(&inner, &incoming).into_response());
    }
    let asked = Arc::new(Asking::new(role, incoming));
    let (number, fault) = arrive(&inner, connection, &asked);
    watched(&inner, number, RequestMoment::Arrived).await;
    let (reply, lost) = match fault {
        Some(FaultKind::Hang) => pending::<(Reply, bool)>().await,
        Some(FaultKind::Drop) => return Err(ConnectionClosed),
        Some(FaultKind::LostReply) => (act(&inner, &asked), true),
        Some(FaultKind::Delay(delay)) => (act_late(&inner, &asked, delay).await?, false),
        Some(other) => (instead(&asked, other), false),
        None => (act(&inner, &asked), false),
    };
    if !reply.after.is_zero() && !lost {
        tokio::time::sleep(reply.after).await;
    }
    let answered = if lost { None } else { Some(&reply) };
    inner.log().done(number, answered);
    watched(&inner, number, RequestMoment::Done).await;
    if lost { Err(ConnectionClosed) } else { Ok(reply.into_response()) }
}

fn headers(headers: &hyper::HeaderMap) -> BTreeMap<String, String> {
    let pairs = headers.iter();
    pairs.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect()
}

/// A request with the role of its listener.
struct Asking {
    role: Role,
    wire: Wire,
    /// The call; `None` for the metadata.
    call: Option<ApiCall>,
}

impl Asking {
    fn new(role: Role, wire: Wire) -> Asking {
        let call = matches!(role, Role::Aws).then(|| ApiCall::parse(&wire.body));
        Asking { role, wire, call }
    }

    fn service(&self) -> &'static str {
        self.call.as_ref().map_or("metadata", |call| call.service)
    }

    fn action(&self) -> String {
        match &self.call {
            Some(call) => call.action.clone(),
            None => format!("{} {}", self.wire.method, self.wire.path),
        }
    }
}

fn arrive(inner: &Inner, connection: u64, asked: &Asking) -> (usize, Option<FaultKind>) {
    let at = Instant::now();
    let request = Request {
        at,
        since_start: at.saturating_duration_since(inner.started),
        answered_since_start: None,
        service: asked.service().to_owned(),
        action: asked.action(),
        parameters: asked.call.as_ref().map(|call| call.query.flat().clone()).unwrap_or_default(),
        headers: asked.wire.headers.clone(),
        connection,
        status: None,
        body: None,
    };
    let mut log = inner.log();
    let fault = log.faults.meet(&request.service, &request.action);
    (log.requests.arrived(request), fault)
}

/// Calls the watcher, if any, on its own thread: it may block, or end a process.
async fn watched(inner: &Inner, number: usize, moment: RequestMoment) {
    let watcher: Option<Watcher> = inner.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(watcher) = watcher else { return };
    let request = inner.log().requests.all().get(number).cloned();
    let Some(request) = request else { return };
    let _ = tokio::task::spawn_blocking(move || watcher(&request, moment)).await;
    // This lets the end of a killed client be noticed before its request is performed.
    tokio::time::sleep(Duration::from_millis(2)).await;
}

fn act(inner: &Inner, asked: &Asking) -> Reply {
    let mut world = inner.world();
    let date = world.clock.http_date(world.now);
    let mut after = Duration::ZERO;
    let reply = match (&asked.role, &asked.call) {
        (Role::Metadata { instance, tokens }, _) => {
            let wire = &asked.wire;
            let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let asked = MetadataRequest { method: &wire.method, path: &wire.path, headers: &wire.headers };
            metadata::answer(&mut world, &mut tokens, instance, &asked).with_header("server", "EC2ws")
        }
        (_, Some(call)) => {
            let (status, body) = aws::answer(&mut world, call, &asked.wire.headers);
            after = std::mem::take(&mut world.answers_after);
            Reply::new(status, "text/xml", body)
        }
        (_, None) => Reply::new(404, "text/plain", ""),
    };
    Reply { after, ..reply.with_header("date", date) }
}

/// Performs a delayed request even if the client has not waited, so a slow call can meet its own repeat.
async fn act_late(inner: &Arc<Inner>, asked: &Arc<Asking>, delay: Duration) -> Result<Reply, ConnectionClosed> {
    let (inner, asked) = (Arc::clone(inner), Arc::clone(asked));
    let task = tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        act(&inner, &asked)
    });
    task.await.map_err(|_| ConnectionClosed)
}

/// The answer of a fault that replaces the request.
fn instead(asked: &Asking, fault: FaultKind) -> Reply {
    match (fault, &asked.call) {
        (FaultKind::Status { status, code, message }, Some(call)) => {
            let failure = Refusal { status, code, message };
            Reply::new(status, "text/xml", aws::error(call.service, &failure, "f0a1f7de-0000-4000-8000-000000000000"))
        }
        (FaultKind::Status { status, message, .. }, None) => metadata::page(status, &message),
        (FaultKind::Body { status, body }, _) => Reply::new(status, "text/plain", body),
        (FaultKind::Redirect(to), _) => Reply::new(302, "text/plain", "").with_header("location", to),
        (FaultKind::EndlessBody, _) => Reply::endless(),
        // The other faults were handled before.
        _ => Reply::new(500, "text/plain", ""),
    }
}
