//! An AWS that nothing is sent to: what a call would put on the wire is kept, and the call fails.
//!
//! Invariant: no request leaves this process, and what is kept is what the clients themselves have written.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// A request of the Query protocol, as it would have been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub action: String,
    /// Flat, in order, without `Action` and `Version`.
    pub parameters: Vec<(String, String)>,
}

/// A handle; its copies share what is kept.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    recorded: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// What was kept since the last time.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.recorded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpClient for Recorder {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Recorder {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
        // The body has the form of a URL's query.
        let url = reqwest::Url::parse(&format!("http://localhost/?{body}")).ok();
        let pairs: Vec<(String, String)> = url.iter().flat_map(|url| url.query_pairs().into_owned()).collect();
        let action = pairs.iter().find(|(key, _)| key == "Action").map(|(_, value)| value.clone()).unwrap_or_default();
        let parameters = pairs.into_iter().filter(|(key, _)| key != "Action" && key != "Version").collect();
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded { action, parameters });
        HttpConnectorFuture::ready(Err(ConnectorError::user("nothing is sent in a rehearsal".into())))
    }
}
