//! Takes clients' connections and serves their requests one after the other. Never decides what a request means, and never lets one connection
//! harm another.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::guard::{Guarded, Opening};
use crate::intercept;
use crate::peer::Peer;
use crate::server::{Entrance, Gateway};

/// Longest that a kept connection may wait for its next request; how long a head may take is the guard's business.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(300);

/// How often kept connections to providers are looked through: none is kept for much longer than it may be.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A connection that was taken just before the stop brings its first request within this, or it is closed: whoever has only just connected shall
/// not be refused because the next process is about to take the port.
const LATE_REQUEST: Duration = Duration::from_secs(1);

/// Serves until `shutdown` ends, then lets answers in flight end for as long as it said.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, shutdown: impl Future<Output = Duration>) {
    let places = Arc::new(Semaphore::new(gateway.max_connections));
    let (stop, stopped) = tokio::sync::watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut starved = false;
    let drain = loop {
        // Cancel-safe: `accept`, `join_next` and `tick` lose nothing when another branch wins.
        tokio::select! {
            biased;
            drain = &mut shutdown => break drain,
            Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
            _ = sweep.tick() => gateway.upstreams().sweep(),
            accepted = accept(&listener) => {
                match accepted {
                    Ok((stream, peer)) => {
                        starved = false;
                        let Ok(place) = places.clone().try_acquire_owned() else {
                            tracing::warn!("too many connections: one was closed");
                            continue;
                        };
                        let gateway = gateway.clone();
                        let mut stopped = stopped.clone();
                        connections.spawn(async move {
                            let _place = place;
                            serve_peer(gateway, stream, peer, async move { let _ = stopped.changed().await; }).await;
                        });
                    }
                    Err(error) => {
                        // Out of descriptors, most likely: a moment's rest instead of a busy loop, and one line for as long as it lasts.
                        if !std::mem::replace(&mut starved, true) {
                            tracing::warn!(%error, "a connection could not be accepted");
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    };
    drop(stop);
    drop(listener);
    let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        connections.abort_all();
    }
    gateway.finish_hooks().await;
    gateway.keep_all();
}

/// The next connection. What is written to it goes out at once, however little it is.
async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Peer)> {
    let (stream, address) = listener.accept().await?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    Ok((stream, Peer::at(address)))
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended with a bug of ours; the others go on");
    }
}

/// Serves one client's connection until it closes; after `stop` it closes behind the answer that is under way.
pub async fn serve_connection<I>(gateway: Arc<Gateway>, stream: I, stop: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve_peer(gateway, stream, Peer::unknown(), stop).await;
}

/// The same, where it is known whose connection it is.
async fn serve_peer<I>(gateway: Arc<Gateway>, stream: I, peer: Peer, stop: impl Future<Output = ()>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut guarded = Guarded::new(stream, gateway.local());
    let stop = stop.shared();
    if gateway.terminator().is_some() {
        let late = stop.clone().then(|()| tokio::time::sleep(LATE_REQUEST));
        // Cancel-safe: what comes too late is not read any more.
        let opening = tokio::select! {
            biased;
            opening = guarded.opening() => opening,
            () = late => return,
        };
        if let Opening::Connect(asked) = opening {
            return Box::pin(intercept::serve(gateway, guarded, asked, &peer, pin!(stop))).await;
        }
    }
    serve_requests(gateway, guarded, Entrance::Port, peer, pin!(stop)).await;
}

/// Serves the requests of one connection.
pub(crate) async fn serve_requests<I>(
    gateway: Arc<Gateway>,
    guarded: Guarded<I>,
    entrance: Entrance,
    peer: Peer,
    stop: Pin<&mut impl Future<Output = ()>>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let turn = guarded.turn();
    let io = TokioIo::new(guarded);
    let asked = Notify::new();
    let service = service_fn(|request| {
        asked.notify_one();
        let (gateway, turn, peer) = (gateway.clone(), turn.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(gateway.handle(request, entrance, &peer).await.map(|body| turn.answered_by(body))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // A connection on which nothing was asked yet would be closed at once.
    let may_close = async {
        stop.await;
        tokio::select! {
            () = asked.notified() => {}
            () = tokio::time::sleep(LATE_REQUEST) => {}
        }
    };
    // Cancel-safe: the connection is polled on after the stop. In order, so that a run can be repeated to the letter.
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = may_close => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "client connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// claude-code-mux took 44 ms for each answer without it (measured).
    #[tokio::test]
    async fn r10_what_is_written_to_a_client_goes_out_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(accept(&listener).await.unwrap().0.nodelay().unwrap());
    }
}
