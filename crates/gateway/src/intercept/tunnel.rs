//! Carries bytes between a client and another host, both ways, and looks at none of them. Never keeps more than two buffers for a tunnel,
//! and ends one that has been silent for too long.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hotspare_core::FailureKind;
use hotspare_upstream::dial::DialError;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{ESTABLISHED, refuse};
use crate::guard::{Connect, Guarded};
use crate::server::Gateway;

/// Bytes under way in each direction of a tunnel: 256 tunnels take 8 MiB.
const BUFFER: usize = 16 * 1024;

/// A tunnel without a byte in either direction is ended after this, or after twice as long at most. Long: a server may push once in a while.
pub(super) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// The same once nothing new is served any more. A kept-alive connection that nobody uses must not keep a process for minutes; an answer
/// under way is not silent for so long.
const STOPPED_IDLE: Duration = Duration::from_secs(5);

/// Opens a tunnel to where the client wants one, and carries its bytes.
pub(super) async fn blind<I>(gateway: &Gateway, mut client: Guarded<I>, asked: &Connect, stop: Pin<&mut impl Future<Output = ()>>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let origin = match gateway.network().dial(&asked.host, asked.port).await {
        Ok(origin) => origin,
        Err(error) => {
            tracing::debug!(?asked, %error, "no tunnel");
            let status = match &error {
                DialError::Forbidden => 403,
                DialError::Failed(failure) if failure.kind == FailureKind::ConnectTimeout => 504,
                DialError::Failed(_) => 502,
            };
            let words = format!("hotspare: no tunnel to {}:{}: {error}", asked.host, asked.port);
            return refuse(&mut client, status, "", "api_error", &words).await;
        }
    };
    if client.write_all(ESTABLISHED).await.is_ok() {
        carry(client, origin, TUNNEL_IDLE, stop).await;
    }
}

/// Carries bytes until both sides have ended, one breaks, or nothing has come for `idle`; after the stop for [`STOPPED_IDLE`]. An end of one
/// side is passed on at once; the other may go on.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    mut origin: impl AsyncRead + AsyncWrite + Unpin,
    mut idle: Duration,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) {
    let mut stopped = false;
    let moved = AtomicU64::new(0);
    let mut client = Counted { inner: client, moved: &moved };
    let mut carrying = pin!(tokio::io::copy_bidirectional_with_sizes(&mut client, &mut origin, BUFFER, BUFFER));
    loop {
        let before = moved.load(Ordering::Relaxed);
        // Cancel-safe: carrying is polled on.
        tokio::select! {
            biased;
            ended = carrying.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a tunnel broke");
                }
                return;
            }
            () = &mut stop, if !stopped => {
                stopped = true;
                idle = idle.min(STOPPED_IDLE);
            }
            () = tokio::time::sleep(idle) => {
                if moved.load(Ordering::Relaxed) == before {
                    tracing::debug!("a tunnel was silent for too long");
                    return;
                }
            }
        }
    }
}

/// Counts what goes through.
struct Counted<'a, I> {
    inner: I,
    moved: &'a AtomicU64,
}

impl<I> Counted<'_, I> {
    fn count(&self, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<'_, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.count(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<'_, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    const IDLE: Duration = Duration::from_secs(60);

    const ALMOST: Duration = Duration::from_secs(59);

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends_and_one_that_speaks_now_and_then_does_not() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut origin, far) = tokio::io::duplex(64);
        let began = tokio::time::Instant::now();
        let carrying = tokio::spawn(async move { carry(near, far, IDLE, pin!(std::future::pending())).await });
        for _ in 0..5 {
            tokio::time::sleep(ALMOST).await;
            origin.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        assert!(!carrying.is_finished());
        carrying.await.unwrap();
        let (took, spoke) = (began.elapsed(), 5 * ALMOST);
        assert!(took >= spoke + IDLE && took <= spoke + 2 * IDLE, "{took:?}");
    }

    /// Whoever stops hotspare does not wait for connections that nobody uses.
    #[tokio::test(start_paused = true)]
    async fn after_the_stop_a_tunnel_that_speaks_goes_on_and_a_silent_one_ends() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut origin, far) = tokio::io::duplex(64);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let began = tokio::time::Instant::now();
        let carrying = tokio::spawn(async move {
            let stopped = pin!(async { stopped.await.unwrap_or_default() });
            carry(near, far, IDLE, stopped).await;
        });
        tokio::time::sleep(2 * STOPPED_IDLE).await;
        stop.send(()).unwrap();
        for _ in 0..5 {
            tokio::time::sleep(STOPPED_IDLE / 2).await;
            origin.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        assert!(!carrying.is_finished());
        let spoke = began.elapsed();
        carrying.await.unwrap();
        assert!(began.elapsed() <= spoke + 2 * STOPPED_IDLE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut origin, far) = tokio::io::duplex(64);
        let carrying = tokio::spawn(async move { carry(near, far, IDLE, pin!(std::future::pending())).await });
        client.write_all(b"a question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        origin.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "a question");
        assert!(!carrying.is_finished());
        origin.write_all(b"a late answer").await.unwrap();
        drop(origin);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "a late answer");
        carrying.await.unwrap();
    }
}
