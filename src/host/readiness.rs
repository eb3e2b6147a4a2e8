//! The application on this instance: whether it is ready to serve, by a TCP connection or an HTTP answer.
//!
//! It asks once, within [`LIMIT`]; the caller repeats. It uses no proxy.

use std::time::Duration;

use reqwest::Client;
use tokio::net::TcpStream;

use crate::core::error_chain::error_chain;
use crate::core::model::Readiness;
use crate::core::retry::{Failure, FailureKind};

/// An application that takes longer is not ready.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);

/// # Errors
/// The reason why it is not ready: refused, silent, or an answer other than 2xx.
pub(crate) async fn is_ready(
    readiness: &Readiness,
    make_client: impl FnOnce() -> anyhow::Result<Client>,
) -> Result<(), Failure> {
    let asked = async {
        match readiness {
            Readiness::AtOnce => Ok(()),
            Readiness::Tcp(address) => match TcpStream::connect(address.as_str()).await {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::unanswered(format!("tcp://{address}: {error}"))),
            },
            Readiness::Http(url) => get(url, make_client).await,
        }
    };
    let late = || Failure::unanswered(format!("no answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(late()))
}

async fn get(url: &str, make_client: impl FnOnce() -> anyhow::Result<Client>) -> Result<(), Failure> {
    let client = make_client().map_err(|error| Failure::unanswered(format!("{error:#}")))?;
    let response = client.get(url).send().await.map_err(|error| Failure::unanswered(error_chain(&error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let message = format!("{url} answers HTTP {}", status.as_u16());
    Err(Failure::of(FailureKind::Fault, message))
}
