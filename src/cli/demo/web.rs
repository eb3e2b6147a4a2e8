//! The small, real web service that is handed over, and its clients: a load balancer with quick requests, and one
//! request that takes seconds.
//!
//! Every request has its own TCP connection to the target's port, so the daemon sees it in the kernel's table.
//! Invariant: each request is counted once when it is sent, and once when it is fully answered or lost.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const QUICK: &str = "/";
const SLOW: &str = "/report";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\nconnection: close\r\n\r\nserved";
/// The load balancer's address. The daemon ignores connections from this machine itself, which come from 127.0.0.1.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The longest request head that is read.
const HEAD: usize = 4096;

/// The counts of the requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestCount {
    pub(super) sent: u32,
    pub(super) answered: u32,
    pub(super) lost: u32,
}

impl RequestCount {
    pub(super) fn open(self) -> u32 {
        self.sent.saturating_sub(self.answered + self.lost)
    }
}

/// The running service; clones are handles to it.
#[derive(Clone, Debug)]
pub(super) struct Web {
    address: SocketAddr,
    count: Arc<Mutex<RequestCount>>,
}

impl Web {
    /// Serves on a free port of loopback as long as the runtime lives; a slow answer takes `slow`.
    pub(super) async fn start(slow: Duration) -> io::Result<Web> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            loop {
                if let Ok((connection, _)) = listener.accept().await {
                    tokio::spawn(serve(connection, slow));
                }
            }
        });
        Ok(Web { address, count: Arc::default() })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn count(&self) -> RequestCount {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, RequestCount> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends quick requests, one every `pause`, like a load balancer, while `in_service` is true.
    pub(super) fn balance(&self, pause: Duration, in_service: impl Fn() -> bool + Send + 'static) {
        let web = self.clone();
        tokio::spawn(async move {
            loop {
                if in_service() {
                    web.request(QUICK).await;
                }
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// Sends the slow request, and tells `ended` whether it was answered.
    pub(super) fn ask_slowly(&self, ended: impl FnOnce(bool) + Send + 'static) {
        let web = self.clone();
        tokio::spawn(async move { ended(web.request(SLOW).await) });
    }

    async fn request(&self, path: &str) -> bool {
        self.counted().sent += 1;
        let answered = get(self.address, path).await.is_ok_and(|answer| answer == ANSWER);
        let mut count = self.counted();
        *if answered { &mut count.answered } else { &mut count.lost } += 1;
        answered
    }
}

async fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((BALANCER, 0)))?;
    let mut connection = socket.connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn serve(mut connection: TcpStream, slow: Duration) -> io::Result<()> {
    let mut head = Vec::with_capacity(HEAD);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD || connection.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    if head.starts_with(format!("GET {SLOW} ").as_bytes()) {
        tokio::time::sleep(slow).await;
    }
    connection.write_all(ANSWER).await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_the_slow_one_takes_its_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let web = Web::start(Duration::from_millis(50)).await.unwrap();
            let began = std::time::Instant::now();
            let (quick, slow) = tokio::join!(web.request(QUICK), web.request(SLOW));
            assert!(quick && slow && began.elapsed() >= Duration::from_millis(50));
            assert_eq!(web.count(), RequestCount { sent: 2, answered: 2, lost: 0 });
        });
    }

    #[test]
    fn a_request_that_nobody_answers_is_lost() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
            let web = Web { address: gone, count: Arc::default() };
            assert!(!web.request(QUICK).await);
            assert_eq!(web.count(), RequestCount { sent: 1, answered: 0, lost: 1 });
            assert_eq!(web.count().open(), 0);
        });
    }
}
