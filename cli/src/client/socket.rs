//! The Unix socket, and what to do when the other end stops listening but still has something to say.

use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

/// A socket whose writes go nowhere once the peer has stopped reading, so that its answer can still be read.
///
/// `fvmd` may refuse an upload long before its end, answer and close. The next write then fails although
/// the answer waits in the receive buffer; an HTTP client that gives up at a failed write would never
/// read it. The end of what can be read is the end of the connection either way.
#[derive(Debug)]
pub(super) struct Patient {
    stream: UnixStream,
    deaf: bool,
}

impl Patient {
    /// Connects.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path).await?;
        Ok(Self {
            stream,
            deaf: false,
        })
    }

    /// Takes a write as done if it failed because the peer no longer reads.
    fn forgive(&mut self, written: io::Result<usize>, wanted: usize) -> io::Result<usize> {
        match written {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.deaf = true;
                Ok(wanted)
            }
            other => other,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.forgive(written, bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bytes.iter().map(|part| part.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(wanted));
        }
        let written =
            std::task::ready!(Pin::new(&mut self.stream).poll_write_vectored(context, bytes));
        Poll::Ready(self.forgive(written, wanted))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The way to a daemon: of this host, or of another.
#[derive(Debug)]
pub(super) enum Either {
    /// A socket.
    Socket(Patient),
    /// An `ssh`.
    Tunnel(super::Tunnel),
}

/// Hands a call on to whichever it is.
macro_rules! either {
    ($self:ident, $call:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).$call($($argument),*),
            Self::Tunnel(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Either {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, poll_read(context, buffer))
    }
}

impl AsyncWrite for Either {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(context))
    }
}
