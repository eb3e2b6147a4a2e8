//! Requests to the metadata service, over one connection that is kept: plain HTTP/1.1, no proxy, no redirects.
//!
//! A connection runs only inside the task of its request. Between two requests nothing runs; if it has ended, the next
//! request notices and opens another one. Invariant: a request that was sent is not sent again.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The reason why an answer, or its end, is missing.
pub(super) type Broken = Box<dyn Error + Send + Sync>;

type Body = Empty<Bytes>;

type Http1 = http1::Connection<TokioIo<TcpStream>, Body>;

/// The connection that is not in use, if there is one.
#[derive(Default)]
pub(super) struct Idle(Mutex<Option<Connection>>);

pub(super) struct Connection {
    sender: SendRequest<Body>,
    wire: Option<Http1>,
}

impl Idle {
    /// Sends the request over the idle connection, or over a new one to the host of this URL. Returns when the answer's
    /// head is there.
    pub(super) async fn send(
        &self,
        endpoint: &str,
        request: Request<Body>,
    ) -> Result<(Connection, Response<Incoming>), Broken> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = idle {
            match connection.send(request.clone()).await {
                // The idle connection has ended, and nothing was sent.
                Err(error) if error.is_canceled() || error.is_closed() => {}
                answer => return Ok((connection, answer?)),
            }
        }
        let mut connection = Connection::open(endpoint).await?;
        let answer = connection.send(request).await?;
        Ok((connection, answer))
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, connection: Connection) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").finish_non_exhaustive()
    }
}

impl Connection {
    async fn open(endpoint: &str) -> Result<Connection, Broken> {
        let endpoint: Uri = endpoint.parse()?;
        let (host, port) = (endpoint.host().unwrap_or_default(), endpoint.port_u16().unwrap_or(80));
        // `host` has the brackets of an IPv6 address.
        let stream = TcpStream::connect(format!("{host}:{port}")).await?;
        let (sender, wire) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, wire: Some(wire) })
    }

    async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let Connection { sender, wire } = self;
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        with_wire(wire, answer).await
    }

    /// Reads the body to its end; `None` if it has more than `limit` bytes.
    pub(super) async fn read(&mut self, mut body: Incoming, limit: usize) -> Result<Option<Vec<u8>>, Broken> {
        let read = async {
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let Ok(chunk) = frame?.into_data() else { continue };
                if bytes.len() + chunk.len() > limit {
                    return Ok(None);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(bytes))
        };
        with_wire(&mut self.wire, read).await
    }
}

/// Does the work, and drives the connection until the work is done.
async fn with_wire<T>(wire: &mut Option<Http1>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(result) = work.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if wire.as_mut().is_some_and(|wire| Pin::new(wire).poll(context).is_ready()) {
            // Dropping the connection wakes the work with an error.
            *wire = None;
        }
        work.as_mut().poll(context)
    })
    .await
}
