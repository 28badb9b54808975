//! The one clock of everything that waits. Never the operating system's own: a paused runtime in a test moves all of it together.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// The present, as the runtime's timers see it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago it was; nothing for what is still to come.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// A deadline that is over only once everything that arrived before it could be read.
///
/// A process that stood still (SIGSTOP, a paused container, a machine asleep) wakes up with its timers due and its answers unread: `epoll_wait`
/// returns with `EINTR` then (signal(7)), so the runtime sees the timers first. One more turn of the runtime looks at the sockets again.
#[derive(Default)]
pub struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Runs until the runtime has looked at its sockets.
    turn: Option<JoinHandle<()>>,
}

impl Deadline {
    /// Ready once `due` is over. The timer is moved only to come earlier, and looks again when it comes too early: deadlines of streams
    /// move with every byte.
    pub fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let due: tokio::time::Instant = due.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                break;
            }
            self.turn = None;
            sleep.as_mut().reset(due);
        }
        // Whatever becomes of the turn, it is over.
        let _ = ready!(Pin::new(self.turn.get_or_insert_with(turn)).poll(cx));
        // Spent: the next deadline arms it again.
        *self = Self::default();
        Poll::Ready(())
    }
}

/// Ends once the runtime has looked at its sockets and timers. In a task of its own: whatever else wakes the waiting one would end its
/// `yield_now` early.
fn turn() -> JoinHandle<()> {
    tokio::spawn(tokio::task::yield_now())
}

/// Runs work with a time limit; `None` if it is not done by then. Looks at the work once more, as [`Deadline`] does, before it gives up.
pub async fn timeout<F: Future>(limit: Duration, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(limit, work.as_mut()).await {
        return Some(done);
    }
    let _ = turn().await;
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use super::*;

    /// The waiting task is told of a timer that ran out before it is told of what arrived in the meantime.
    #[tokio::test(start_paused = true)]
    async fn deadline_lets_the_runtime_turn_before_it_is_over() {
        let (send, mut receive) = tokio::sync::oneshot::channel();
        let due = now() + Duration::from_secs(1);
        let mut deadline = Deadline::default();
        let mut sender = Some(send);
        let first = poll_fn(|cx| {
            if let Poll::Ready(Ok(word)) = Pin::new(&mut receive).poll(cx) {
                return Poll::Ready(word);
            }
            let over = deadline.poll(cx, due);
            if now() >= due
                && let Some(send) = sender.take()
            {
                // What the next turn brings.
                tokio::spawn(async move { send.send("arrived") });
            }
            over.map(|()| "late")
        });
        assert_eq!(first.await, "arrived");
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_follows_a_due_time_that_moves() {
        let began = now();
        let mut deadline = Deadline::default();
        let mut moved = false;
        poll_fn(|cx| {
            let due = began + Duration::from_secs(if moved { 5 } else { 1 });
            moved |= since(began) >= Duration::from_secs(1);
            deadline.poll(cx, due)
        })
        .await;
        assert_eq!(since(began), Duration::from_secs(5));
        poll_fn(|cx| deadline.poll(cx, began + Duration::from_secs(7))).await;
        assert_eq!(since(began), Duration::from_secs(7), "it is armed again");
    }

    #[tokio::test(start_paused = true)]
    async fn timeout_takes_work_that_is_done_when_time_is_up() {
        let done = std::sync::atomic::AtomicBool::new(false);
        let due = now() + Duration::from_secs(1);
        let work = poll_fn(|_| {
            let late = now() >= due;
            if late && done.swap(true, std::sync::atomic::Ordering::Relaxed) { Poll::Ready("done") } else { Poll::Pending }
        });
        assert_eq!(timeout(Duration::from_secs(1), work).await, Some("done"));
        assert!(timeout(Duration::from_secs(1), pending::<()>()).await.is_none());
    }
}
