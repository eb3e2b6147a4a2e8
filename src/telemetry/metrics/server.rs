//! The endpoint for Prometheus: `GET /metrics` over plain HTTP, one request a connection.
//!
//! Invariant: scrapers cost at most a few connections for a few seconds, whatever they do, and nothing else waits for
//! them. A port that cannot be bound ends nothing.

use core::net::SocketAddr;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TEXT_FORMAT;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// The most connections at once; the next ones wait in the kernel.
const MOST_CONNECTIONS: usize = 8;
/// The limit of a connection, from its acceptance to its end. Prometheus itself waits ten seconds.
const LIMIT: Duration = Duration::from_secs(3);
/// The limit for the first line and the headers of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(1);
/// The pauses before the next try to listen, and to accept.
const LISTEN_AGAIN: Duration = Duration::from_secs(10);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves the result of `text` for ever. If the port is taken this is logged once and tried again.
pub(crate) async fn serve(address: SocketAddr, text: impl Fn() -> String + Clone + Send + Sync + 'static) {
    let listener = listen(address).await;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // The only error is a closed semaphore, and nobody closes it.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let text = text.clone();
                tokio::spawn(async move {
                    // Its result matters to the scraper only.
                    let _ = tokio::time::timeout(LIMIT, connection(stream, text)).await;
                    drop(place);
                });
            }
            // For example, there are no file descriptors left.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut is_said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                info!("metrics are served at http://{address}/metrics");
                return listener;
            }
            Err(error) if !is_said => {
                is_said = true;
                warn!(
                    "metrics cannot be served at {address}: {error}; everything else goes on, and it is tried again; \
                     is [metrics] listen an address of this machine, and its port free?"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

async fn connection(stream: TcpStream, text: impl Fn() -> String) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &text))));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).keep_alive(false);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, text: impl Fn() -> String) -> Response<Full<Bytes>> {
    let with = |status: StatusCode, header, value, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header, HeaderValue::from_static(value));
        response
    };
    let in_words = "text/plain; charset=utf-8";
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => with(StatusCode::OK, CONTENT_TYPE, TEXT_FORMAT, text()),
        ("/metrics", _) => with(StatusCode::METHOD_NOT_ALLOWED, ALLOW, "GET, HEAD", String::new()),
        _ => with(StatusCode::NOT_FOUND, CONTENT_TYPE, in_words, "The metrics are at /metrics.\n".to_owned()),
    }
}
