//! The log of requests, in order: every request to the metadata and to AWS, with its answer.
//!
//! Tests assert against this list, and the kill tests use its watcher. The watcher is called when a request has arrived
//! but is not performed, and when it is performed but not answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One request, and its answer.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub since_start: Duration,
    /// The time at which its answer was sent; `None` until then.
    pub answered_since_start: Option<Duration>,
    /// `metadata`, `elasticloadbalancing`, `ec2`, `autoscaling` or `sts`.
    pub service: String,
    /// The API's action, or `GET /latest/meta-data/...` and `PUT /latest/api/token`.
    pub action: String,
    /// Flat Query parameters as sent, without `Action` and `Version`.
    pub parameters: BTreeMap<String, String>,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The number of its connection.
    pub connection: u64,
    /// The status of the answer; `None` until then.
    pub status: Option<u16>,
    /// The answer's body.
    pub body: Option<String>,
}

impl Request {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "seconds": self.since_start.as_secs_f64(),
            "answered_seconds": self.answered_since_start.map(|it| it.as_secs_f64()),
            "service": self.service,
            "action": self.action,
            "parameters": self.parameters,
            "headers": self.headers,
            "connection": self.connection,
            "status": self.status,
            "body": self.body,
        })
    }
}

/// A request as it arrived.
pub(crate) struct Wire {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// The moment at which a watcher is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestMoment {
    /// The request has arrived, but is not performed.
    Arrived,
    /// The request is performed, or replaced by a fault's answer, but the answer is not sent.
    Done,
}

#[derive(Debug, Default)]
pub(crate) struct Requests(Vec<Request>);

impl Requests {
    /// Adds a request, and returns its number for [`Requests::answered`].
    pub(crate) fn arrived(&mut self, request: Request) -> usize {
        self.0.push(request);
        self.0.len() - 1
    }

    pub(crate) fn answered(&mut self, number: usize, status: u16, body: &str) {
        if let Some(request) = self.0.get_mut(number) {
            request.answered_since_start = Some(request.since_start + request.at.elapsed());
            request.status = Some(status);
            request.body = Some(body.to_owned());
        }
    }

    pub(crate) fn all(&self) -> &[Request] {
        &self.0
    }
}
