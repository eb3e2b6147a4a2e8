//! HTTP clients. Only this file makes them: for AWS, for the webhook, and for the application's readiness URL.
//!
//! A client speaks HTTP/1.1 and keeps its connections. Invariants: it follows no redirect, and it never sends a request
//! twice. HTTPS goes through the proxy that `HTTPS_PROXY` or `ALL_PROXY` names, unless `NO_PROXY` says otherwise. Plain
//! HTTP never goes through a proxy, because the proxy would read the credentials and secrets in it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use reqwest::Client;
use reqwest::dns::Resolve;
use reqwest::redirect::Policy;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::names::{Names, on_a_thread};

/// A connection whose other end has not acknowledged a packet for so long is dead: a firewall may have forgotten it. Without
/// this limit a launch waits for its whole time on it. The kernel's own probes of an idle connection end it so, too.
const UNACKNOWLEDGED_AT_MOST: Duration = Duration::from_secs(3);

/// Makes a client without a connection. `trusted` is `None` for plain HTTP. Without `names` it asks the system's
/// resolver each time. `connect_limit` covers the name, the proxy and TLS together, for all addresses of a host.
pub fn client(
    trusted: Option<Arc<RootCertStore>>,
    names: Option<Arc<dyn Resolve>>,
    connect_limit: Duration,
) -> anyhow::Result<Client> {
    let builder = Client::builder().http1_only().redirect(Policy::none()).retry(reqwest::retry::never()).referer(false);
    let builder = builder.connect_timeout(connect_limit).tcp_user_timeout(UNACKNOWLEDGED_AT_MOST);
    // reqwest reads the variables also without its feature `system-proxy`.
    let builder = if trusted.is_some() { builder } else { builder.no_proxy() };
    let builder = if let Some(names) = names { builder.dns_resolver(names) } else { builder };
    // Plain HTTP needs this too: reqwest panics without a TLS configuration.
    let tls = ClientConfig::builder_with_provider(ring::default_provider().into());
    let trusted = trusted.unwrap_or_else(|| Arc::new(RootCertStore::empty()));
    let tls = tls.with_safe_default_protocol_versions()?.with_root_certificates(trusted);
    let builder = builder.tls_backend_preconfigured(tls.with_no_client_auth());
    builder.build().map_err(reqwest::Error::without_url).context("failed to make an HTTP client")
}

/// Makes a client for requests to this machine, over plain HTTP. The caller limits the time for the answer.
pub(crate) fn for_questions() -> anyhow::Result<Client> {
    client(None, None, Duration::from_secs(2))
}

/// Makes a client for posts. It connects within two seconds and remembers the addresses that it finds. One second is
/// left for the answer.
pub fn for_posts(is_https: bool) -> BoxFuture<'static, anyhow::Result<Client>> {
    const CONNECT_LIMIT: Duration = Duration::from_secs(2);
    Box::pin(async move {
        let trusted = if is_https { Some(system_certificates().await?) } else { None };
        client(trusted, Some(Arc::new(Names::default())), CONNECT_LIMIT)
    })
}

/// The certificates that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them). A thread reads them once:
/// that takes time and memory, and a disk may hang.
///
/// # Errors
/// The system has no certificates. The next call reads again.
pub(super) async fn system_certificates() -> anyhow::Result<Arc<RootCertStore>> {
    static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let read =
        || async { on_a_thread("certificates", read_certificates).await.context("failed to read certificates")? };
    SYSTEM.get_or_try_init(read).await.cloned()
}

fn read_certificates() -> anyhow::Result<Arc<RootCertStore>> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(found.certs);
    if trusted.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        anyhow::bail!("the system has no certificates to trust{why}; install ca-certificates, or set SSL_CERT_FILE");
    }
    Ok(Arc::new(trusted))
}
