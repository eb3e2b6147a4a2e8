//! An HTTP server that answers what a test tells it to, and remembers what was asked over which connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Counts from zero.
    pub(crate) connection: usize,
    /// `GET /latest/...`
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_token_request(&self) -> bool {
        self.line.starts_with("PUT ")
    }
}

pub(crate) enum Reply {
    /// Status, further header lines (each with its line end), body.
    Http(u16, String, Vec<u8>),
    /// 200 with this body, so much later.
    After(Duration, String),
    /// Nothing, and the connection stays.
    Silence,
    /// Nothing, and the connection is closed.
    HangUp,
    /// This status, and the connection is closed without a word of it.
    Last(u16),
    /// Bytes of a body for ever, about a KiB each millisecond: a limit of time comes before one of size.
    WithoutEnd,
    /// This status, and a body of which the first byte comes alone.
    Unfinished(u16),
}

pub(crate) fn reply(status: u16, body: &str) -> Reply {
    Reply::Http(status, String::new(), body.as_bytes().to_vec())
}

pub(crate) struct Stub {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    server: JoinHandle<()>,
}

impl Stub {
    /// `answer` sees each request with the number of those before it.
    pub(crate) async fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        let server = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, connection, &seen, &*answer).await });
            }
        });
        Self { url, requests, server }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request, usize) -> Reply + Send + Sync),
) {
    while let Some(request) = read(&mut stream, connection).await {
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        match answer(&request, before) {
            Reply::Http(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} Reason\r\n{headers}content-length: {}\r\n\r\n", body.len());
                if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                    return;
                }
            }
            Reply::After(pause, body) => {
                tokio::time::sleep(pause).await;
                let whole = format!("HTTP/1.1 200 Reason\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(whole.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Unfinished(status) => {
                let head = format!("HTTP/1.1 {status} Reason\r\ncontent-length: 100\r\n\r\nx");
                if stream.write_all(head.as_bytes()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            }
            Reply::Last(status) => {
                let _ =
                    stream.write_all(format!("HTTP/1.1 {status} Reason\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
                return;
            }
            Reply::HangUp => return,
            Reply::Silence => tokio::time::sleep(Duration::from_secs(60)).await,
            Reply::WithoutEnd => {
                let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let mut open = stream.write_all(head).await.is_ok();
                while open {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    open = stream.write_all(format!("400\r\n{}\r\n", "x".repeat(0x400)).as_bytes()).await.is_ok();
                }
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream, connection: usize) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let header = |line: &str| line.split_once(": ").map(|(key, value)| (key.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(header).collect();
    let length = headers.iter().find(|(key, _)| key == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    Some(Request { connection, line, headers, body: String::from_utf8(body).unwrap() })
}
