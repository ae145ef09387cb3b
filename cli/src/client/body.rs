//! Request bodies: nothing, one piece, or pieces from a thread.

use hyper::body::{Body, Bytes, Frame};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// What is sent with a request.
#[derive(Debug)]
pub(crate) enum Content {
    /// One piece, perhaps empty.
    Whole(Option<Bytes>),
    /// Pieces as they come; the end of the channel is the end of the body.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(piece) => piece.take(),
            Self::Pieces(pieces) => std::task::ready!(pieces.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(piece) => {
                hyper::body::SizeHint::with_exact(piece.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Pieces(_) => hyper::body::SizeHint::new(),
        }
    }
}
