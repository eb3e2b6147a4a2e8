//! The HTTP client under all AWS clients: one pool of connections for plain HTTP, one for HTTPS.
//!
//! The system's certificates are read when the first HTTPS call is made, and never where the endpoints are plain HTTP
//! (tests, `demo`, emulators). HTTPS goes through the proxy that the environment names; plain HTTP never does, because the
//! credentials of a container come that way. Every answer's `Date` teaches the [`Clock`]. Invariants: an answer has an end
//! ([`LONGEST_ANSWER`]); a name is looked up before the time for the connection begins ([`Names`]). A connection has little time,
//! and more once that was too little for a while: a slow path is a path.

use std::env;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;
use jiff::Timestamp;
use reqwest::Url;
use rustix::fs::OFlags;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::clock::Clock;
use super::names::Names;
use crate::core::notice::parse_http_date;

/// Proxy and TLS included. A connection that is not there after this is a dead one.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The same once connections have come too late for [`SLOW_AFTER`]. The limit of the call itself may be shorter.
const SLOW_CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// The time from the first connection that came too late, with none in time since.
const SLOW_AFTER: Duration = Duration::from_secs(2);
/// The longest page that AWS sends us (target groups, launch template versions) has some hundred KiB.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;
/// The variables that name a proxy for HTTPS; the first one that is set counts.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

#[derive(Clone, Debug)]
pub(super) struct Http {
    shared: Arc<Connectors>,
}

#[derive(Debug)]
struct Connectors {
    clock: Clock,
    names: Names,
    /// The name of the proxy for HTTPS, if there is one.
    proxy: Option<String>,
    trusted: TrustStore,
    plain: OnceLock<Connector>,
    tls: OnceLock<Connector>,
    /// As `tls`, for a slow path.
    slow_tls: OnceLock<Connector>,
    /// Since when connections come too late.
    late_since: Mutex<Option<Instant>>,
}

impl Http {
    /// Reads `AWS_CA_BUNDLE` if it is set, and errs when it holds no usable certificate.
    pub(super) fn from_env(clock: Clock, names: Names) -> anyhow::Result<Self> {
        let bundle = env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let trusted = match bundle {
            Some(path) => bundled(&path).with_context(|| format!("failed to use AWS_CA_BUNDLE={}", path.display()))?,
            None => TrustStore::default(),
        };
        let proxy = PROXIES.iter().find_map(|name| env::var(name).ok()).filter(|proxy| !proxy.is_empty());
        let proxy =
            proxy.and_then(|proxy| name_in(&if proxy.contains("://") { proxy } else { format!("http://{proxy}") }));
        let (plain, tls, slow_tls) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let shared = Connectors { clock, names, proxy, trusted, plain, tls, slow_tls, late_since: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Connectors {
    fn connector(&self, request: &HttpRequest, is_slow: bool) -> &Connector {
        if !request.uri().starts_with("https:") {
            return self.plain.get_or_init(|| self.build(TrustStore::empty(), Connector::builder(), CONNECT_LIMIT));
        }
        let (connector, limit) =
            if is_slow { (&self.slow_tls, SLOW_CONNECT_LIMIT) } else { (&self.tls, CONNECT_LIMIT) };
        let through_proxy = || Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.get_or_init(|| self.build(self.trusted.clone(), through_proxy(), limit))
    }

    fn late_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.late_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_slow(&self) -> bool {
        self.late_since().is_some_and(|since| since.elapsed() >= SLOW_AFTER)
    }

    /// Learns from a call whether connections come in time. One that came in more time tells nothing of a short one.
    fn learn(&self, answer: &Result<HttpResponse, ConnectorError>, is_slow: bool) {
        let is_late = answer.as_ref().is_err_and(ConnectorError::is_timeout);
        let mut since = self.late_since();
        match (is_late, is_slow) {
            (true, false) => *since = since.or_else(|| Some(Instant::now())),
            // It is dead after all.
            (true, true) => *since = None,
            (false, false) if answer.is_ok() => *since = None,
            (false, _) => {}
        }
    }

    fn build(&self, trusted: TrustStore, builder: ConnectorBuilder, limit: Duration) -> Connector {
        let settings = HttpConnectorSettings::builder().connect_timeout(limit).build();
        let builder = builder.connector_settings(settings).sleep_impl(TokioSleep::new());
        let builder = builder.tls_provider(Provider::rustls(CryptoMode::Ring));
        // Its only error is one that no version has: the builder is infallible in all but type.
        match TlsContext::builder().with_trust_store(trusted).build() {
            Ok(context) => builder.tls_context(context).build_with_resolver(self.names.clone()),
            Err(_) => builder.build_with_resolver(self.names.clone()),
        }
    }

    /// Looks up the name that a connection for this request needs, so that the connection finds its addresses at once. What
    /// comes of it shows when the connection is made.
    async fn look_up(&self, url: &str) {
        let name = match &self.proxy {
            Some(proxy) if url.starts_with("https:") => Some(proxy.clone()),
            _ => name_in(url),
        };
        if let Some(name) = name {
            let _ = self.names.find(&name).await;
        }
    }
}

/// The name of the host in a URL; none where that is an address.
fn name_in(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
    (!is_address).then(|| host.to_owned())
}

/// The certificates of a file, in place of the system's. Each is tried here: the connector, which parses them again,
/// panics on one that cannot be used.
fn bundled(path: &Path) -> anyhow::Result<TrustStore> {
    // Nobody is waited for, whatever stands there.
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
    Ok(TrustStore::empty().with_pem_certificate(pem))
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
            let answer = shared.connector(&request, is_slow).call(request).await;
            shared.learn(&answer, is_slow);
            let answer = answer?;
            if let Some(date) = date(&answer) {
                shared.clock.learn(date);
            }
            Ok(answer.map(|body| SdkBody::from_body_1_x(Limited::new(body, LONGEST_ANSWER))))
        })
    }
}

fn date(answer: &HttpResponse) -> Option<Timestamp> {
    parse_http_date(answer.headers().get("date")?)
}
