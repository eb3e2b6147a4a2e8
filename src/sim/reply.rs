//! An answer to send: status, headers, and a body, which may be endless.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    pub(crate) endless: bool,
    /// The delay before it is sent.
    pub(crate) after: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<String>) -> Reply {
        let headers = vec![("content-type", content_type.to_owned())];
        Reply { status, headers, body: body.into(), endless: false, after: Duration::ZERO }
    }

    pub(crate) fn endless() -> Reply {
        Reply { endless: true, ..Reply::new(200, "text/plain", "") }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn into_response(self) -> hyper::Response<ReplyBody> {
        let mut builder = hyper::Response::builder().status(self.status);
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        let body = if self.endless { ReplyBody::Endless } else { ReplyBody::Whole(Some(self.body.into())) };
        // An invalid header (a redirect to nonsense) gives an empty 500.
        builder.body(body).unwrap_or_else(|_| {
            let mut response = hyper::Response::new(ReplyBody::Whole(None));
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }
}

pub(crate) enum ReplyBody {
    Whole(Option<Bytes>),
    Endless,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match &mut *self {
            ReplyBody::Whole(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            ReplyBody::Endless => Some(Ok(Frame::data(Bytes::from_static(&[b'{'; 4096])))),
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            ReplyBody::Endless => SizeHint::default(),
        }
    }
}
