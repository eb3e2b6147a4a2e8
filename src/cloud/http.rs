//! The HTTP client under all AWS clients: one pool of connections for plain HTTP, one for HTTPS.
//!
//! The first HTTPS call reads the certificates; plain HTTP endpoints (tests, `demo`, emulators) never do. Every
//! answer's `Date` teaches the [`Clock`]. Invariants: an answer has an end ([`LONGEST_ANSWER`]); a name is looked up
//! before the time limit of the connection starts ([`Names`]). That limit is short. When it was too short for a while a
//! longer one is used.

use std::collections::HashMap;
use std::env;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use http_body_util::Limited;
use hyper::http::uri::Scheme;
use hyper::{Response, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use jiff::Timestamp;
use reqwest::{Body, Client, Request};
use rustix::fs::OFlags;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::client;
use super::clock::Clock;
use super::names::{Names, on_a_thread};
use crate::core::error_chain::causes;
use crate::core::notice::parse_http_date;

/// The limit of a connection, proxy and TLS included. A connection that takes longer is dead.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The limit of a connection after [`SLOW_AFTER`]. The limit of the call itself may be shorter.
const SLOW_CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// The time for which connections time out, without one that succeeds, before they count as slow.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// The limit of an answer. AWS's longest pages (target groups, launch template versions) have some hundred KiB.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Http {
    shared: Arc<Clients>,
}

#[derive(Debug)]
struct Clients {
    clock: Clock,
    names: Names,
    /// The proxies of the environment, by the rules of reqwest.
    proxies: Matcher,
    /// The file of `AWS_CA_BUNDLE`, and its certificates once they are read, in place of the system's.
    bundle: Option<(PathBuf, OnceCell<Arc<RootCertStore>>)>,
    made: Mutex<HashMap<Route, Arc<Client>>>,
    /// The time of the first connection that timed out, if none has succeeded since.
    late_since: Mutex<Option<Instant>>,
}

/// A kind of connection. Each has its own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Route {
    Plain,
    Tls,
    SlowTls,
}

impl Http {
    /// Takes the file and the proxies that the environment names, and reads nothing yet.
    pub(super) fn from_env(clock: Clock, names: Names) -> Self {
        let bundle = env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let bundle = bundle.map(|path| (path, OnceCell::new()));
        let (proxies, made, late_since) = (Matcher::from_system(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Clients { clock, names, proxies, bundle, made, late_since }) }
    }
}

impl Route {
    fn connect_limit(self) -> Duration {
        if self == Route::SlowTls { SLOW_CONNECT_LIMIT } else { CONNECT_LIMIT }
    }
}

impl Clients {
    async fn send(&self, request: HttpRequest, client: &Client, route: Route) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let request = Request::try_from(request.map(Body::wrap)).map_err(|error| ConnectorError::user(error.into()))?;
        let answer = client.execute(request).await.map_err(|error| unanswered(error, route.connect_limit()))?;
        let answer = Response::from(answer).map(|body| SdkBody::from_body_1_x(Limited::new(body, LONGEST_ANSWER)));
        HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
    }

    async fn client(&self, route: Route) -> anyhow::Result<Arc<Client>> {
        if let Some(made) = lock(&self.made).get(&route) {
            return Ok(made.clone());
        }
        let trusted = match (route, &self.bundle) {
            (Route::Plain, _) => None,
            (_, Some((path, bundle))) => Some(bundle.get_or_try_init(|| bundled(path)).await?.clone()),
            (_, None) => Some(client::system_certificates().await?),
        };
        let client = client::client(trusted, Some(Arc::new(self.names.clone())), route.connect_limit())?;
        Ok(lock(&self.made).entry(route).or_insert(Arc::new(client)).clone())
    }

    /// Lets the SDK drop the connection after a server fault: another connection may lead to a healthy server. That
    /// drops all idle connections of this client, but not those of a client made since.
    fn offer_to_give_up(self: &Arc<Self>, route: Route, client: Arc<Client>, offered: &CaptureSmithyConnection) {
        let clients = self.clone();
        offered.set_connection_retriever(move || {
            let (clients, client) = (clients.clone(), client.clone());
            let give_up = move || lock(&clients.made).retain(|of, made| *of != route || !Arc::ptr_eq(made, &client));
            Some(ConnectionMetadata::builder().proxied(false).poison_fn(give_up).build())
        });
    }

    fn is_slow(&self) -> bool {
        lock(&self.late_since).is_some_and(|since| since.elapsed() >= SLOW_AFTER)
    }

    /// Learns from a call whether connections come in time. Success within the long limit says nothing of the short
    /// one.
    fn learn(&self, answer: &Result<HttpResponse, ConnectorError>, is_slow: bool) {
        let is_late = answer.as_ref().is_err_and(ConnectorError::is_timeout);
        let mut since = lock(&self.late_since);
        match (is_late, is_slow) {
            (true, false) => *since = since.or_else(|| Some(Instant::now())),
            // Even the long limit was too short: the path is dead, not slow.
            (true, true) => *since = None,
            (false, false) if answer.is_ok() => *since = None,
            (false, _) => {}
        }
    }

    /// Looks up the name that a connection for this request needs, so that the connection has its addresses at once. A
    /// failure shows when the connection is made.
    async fn look_up(&self, url: &str) {
        if let Some(name) = name_to_find(url, &self.proxies) {
            let _ = self.names.find(&name).await;
        }
    }
}

/// The host name of the proxy for this URL, or of the URL itself; `None` if it is an address. Plain HTTP has no proxy.
fn name_to_find(url: &str, proxies: &Matcher) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let proxy = Some(&uri).filter(|uri| uri.scheme() == Some(&Scheme::HTTPS)).and_then(|uri| proxies.intercept(uri));
    // As the client asks for it: it writes the host of a URL small, and a proxy's as the environment has it.
    let host = match &proxy {
        Some(proxy) => proxy.uri().host()?.to_owned(),
        None => uri.host()?.to_ascii_lowercase(),
    };
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    (!is_address).then_some(host)
}

/// Nothing panics while this lock is held.
fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads an error of reqwest. The SDK retries credentials on the kinds that it knows as passing.
fn unanswered(error: reqwest::Error, limit: Duration) -> ConnectorError {
    if error.is_connect() && error.is_timeout() {
        return ConnectorError::timeout(format!("connect timeout after {limit:?}").into());
    }
    let error = error.without_url();
    let of_http = causes(&error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    let (is_cut, is_no_http) = of_http.map_or((false, false), |it| (it.is_incomplete_message(), it.is_parse()));
    match (is_cut, is_no_http) {
        (true, _) => ConnectorError::other(error.into(), Some(ErrorKind::TransientError)),
        (_, true) => ConnectorError::other(error.into(), None),
        _ => ConnectorError::io(error.into()),
    }
}

/// The certificates of a file, in place of the system's, read on a thread: a disk may hang.
///
/// # Errors
/// The file holds no usable certificate. The next call reads it again.
async fn bundled(path: &Path) -> anyhow::Result<Arc<RootCertStore>> {
    let file = path.to_owned();
    let read = async { on_a_thread("certificates", move || read_bundle(&file)).await? };
    read.await.with_context(|| format!("failed to use AWS_CA_BUNDLE={}", path.display()))
}

fn read_bundle(path: &Path) -> anyhow::Result<Arc<RootCertStore>> {
    // With `NONBLOCK` a pipe at this path does not block us.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    anyhow::ensure!(file.metadata()?.is_file(), "it is no regular file");
    let mut pem = Vec::new();
    file.take(LONGEST_ANSWER as u64).read_to_end(&mut pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.context("it is not PEM")?).context("a certificate in it cannot be used")?;
    }
    anyhow::ensure!(!roots.is_empty(), "it holds no certificate");
    Ok(Arc::new(roots))
}

impl HttpClient for Http {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let shared = self.shared.clone();
        HttpConnectorFuture::new(async move {
            shared.look_up(request.uri()).await;
            let is_slow = shared.is_slow();
            let route = match request.uri().starts_with("https:") {
                false => Route::Plain,
                true if is_slow => Route::SlowTls,
                true => Route::Tls,
            };
            let offered = request.extension::<CaptureSmithyConnection>().cloned();
            let client = shared.client(route).await.map_err(|error| ConnectorError::other(error.into(), None))?;
            let answer = shared.send(request, &client, route).await;
            shared.learn(&answer, is_slow);
            let answer = answer?;
            if let Some(date) = date(&answer) {
                shared.clock.learn(date);
            }
            if let Some(offered) = offered {
                shared.offer_to_give_up(route, client, &offered);
            }
            Ok(answer)
        })
    }
}

fn date(answer: &HttpResponse) -> Option<Timestamp> {
    parse_http_date(answer.headers().get("date")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_the_connection_needs_is_looked_up() {
        let proxies = Matcher::builder().https("http://proxy.example:3128").no("vpce.example,192.0.2.1").build();
        let find = |url: &str, proxies: &Matcher| name_to_find(url, proxies).unwrap_or_default();
        assert_eq!(find("https://ec2.example", &proxies), "proxy.example");
        assert_eq!(find("https://ec2.vpce.example/", &proxies), "ec2.vpce.example", "NO_PROXY");
        assert_eq!(find("http://ec2.example:8080", &proxies), "ec2.example", "plain HTTP has no proxy");
        assert_eq!(find("https://192.0.2.1", &proxies), "");
        for (of_https, expected) in
            [("", "all.example"), ("http://192.0.2.9:3128", ""), ("one.example:1", "one.example")]
        {
            let proxies = Matcher::builder().https(of_https).all("http://all.example").build();
            assert_eq!(find("https://ec2.example", &proxies), expected, "{of_https:?}");
        }
    }
}
