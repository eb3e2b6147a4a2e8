//! The HTTP client under all AWS clients: one pool of connections for plain HTTP, one for HTTPS.
//!
//! The system's certificates are read when the first HTTPS call is made, and never where the endpoints are plain HTTP
//! (tests, `demo`, emulators). HTTPS goes through the proxy that the environment names; plain HTTP never does, because the
//! credentials of the metadata service come that way. Every answer's `Date` sets the [`Clock`].

use std::env;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

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
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::date_time::{DateTime, Format};
use jiff::Timestamp;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::clock::Clock;

/// A connection that is not there after this is a dead one; what is left of the call's limit is for another try.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Http {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Empty once the first HTTPS call has taken it: a bundle of certificates is large.
    trusted: Mutex<TrustStore>,
    plain: OnceLock<Connector>,
    tls: OnceLock<Connector>,
}

impl Http {
    /// Reads `AWS_CA_BUNDLE` if it is set, and errs when it holds no usable certificate.
    pub(super) fn from_env(clock: Clock) -> anyhow::Result<Self> {
        let bundle = env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let trusted = match bundle {
            Some(path) => bundled(&path).with_context(|| format!("failed to use AWS_CA_BUNDLE={}", path.display()))?,
            None => TrustStore::default(),
        };
        let shared = Shared { clock, trusted: Mutex::new(trusted), plain: OnceLock::new(), tls: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    fn connector(&self, request: &HttpRequest) -> &Connector {
        if request.uri().starts_with("https:") {
            return self.tls.get_or_init(|| {
                let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
                let trusted = mem::replace(&mut *trusted, TrustStore::empty());
                connector(trusted, Connector::builder().proxy_config(ProxyConfig::from_env()))
            });
        }
        self.plain.get_or_init(|| connector(TrustStore::empty(), Connector::builder()))
    }
}

fn connector(trusted: TrustStore, builder: ConnectorBuilder) -> Connector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_LIMIT).build();
    let builder = builder.connector_settings(settings).sleep_impl(TokioSleep::new());
    let builder = builder.tls_provider(Provider::rustls(CryptoMode::Ring));
    // Its only error is one that no version has: the builder is infallible in all but type.
    match TlsContext::builder().with_trust_store(trusted).build() {
        Ok(context) => builder.tls_context(context).build(),
        Err(_) => builder.build(),
    }
}

/// The certificates of a file, in place of the system's. Each is tried here: the connector, which parses them again,
/// panics on one that cannot be used.
fn bundled(path: &Path) -> anyhow::Result<TrustStore> {
    let pem = fs::read(path)?;
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
        let answer = self.shared.connector(&request).call(request);
        let clock = self.shared.clock.clone();
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            if let Some(date) = date(&answer) {
                clock.learn(date);
            }
            Ok(answer)
        })
    }
}

fn date(answer: &HttpResponse) -> Option<Timestamp> {
    let date = DateTime::from_str(answer.headers().get("date")?, Format::HttpDate).ok()?;
    Timestamp::from_second(date.secs()).ok()
}
