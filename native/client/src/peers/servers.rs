//! The chunkservers as seen from here: connections, who is busy, who failed lately. One call each; retries are the caller's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, Error};
use parking_lot::Mutex;
use prost::Message;
use wire::proto::Replica;
use wire::{LinkConfig, Method, Peers, Reply};

use crate::metrics::Metrics;

/// How long a server that failed is asked last.
const AVOID: Duration = Duration::from_secs(5);
/// A new connection to a chunkserver on the same network takes well under a millisecond.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);

#[derive(Clone, Default)]
struct Load {
    /// Bytes asked for and not yet answered.
    pending_bytes: usize,
    /// Running mean of a read's time.
    mean_ns: f64,
    avoid_until: Option<Instant>,
}

pub struct Servers {
    peers: Peers,
    loads: Mutex<HashMap<u32, Load>>,
    pub metrics: Arc<Metrics>,
}

/// Who says no.
#[derive(Debug)]
pub enum Failure {
    /// The server's own answer.
    Answered(Error),
    /// It did not answer: not connected, connection lost, or too slow.
    Silent(Error),
}

impl Failure {
    pub fn error(self) -> Error {
        match self {
            Failure::Answered(error) | Failure::Silent(error) => error,
        }
    }
}

impl Servers {
    pub fn new(config: LinkConfig, metrics: Arc<Metrics>) -> Servers {
        let config = LinkConfig { connect_timeout: CONNECT_TIMEOUT, ..config };
        Servers { peers: Peers::new(config), loads: Mutex::default(), metrics }
    }

    pub async fn call<M: Message>(
        &self,
        replica: &Replica,
        method: Method,
        message: &M,
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> std::result::Result<Reply, Failure> {
        let link = match self.peers.connected(replica, 0, deadline).await {
            Ok(link) => link,
            Err(error) => return Err(self.silent(replica, error)),
        };
        match link.ask_raw(method, &message.encode_to_vec(), payload, deadline).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(Failure::Answered(named(replica, error))),
            Err(error) => {
                if error.errno == libc::ETIMEDOUT {
                    // It may hang: later calls shall not queue behind this connection.
                    self.peers.forget(replica);
                }
                Err(self.silent(replica, error))
            }
        }
    }

    /// As `call`, for what may take long on a busy disk: fails early only when the server shows no sign of life.
    pub async fn call_patiently<M: Message>(
        &self,
        replica: &Replica,
        method: Method,
        message: &M,
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> std::result::Result<Reply, Failure> {
        tokio::select! {
            biased;
            answer = self.call(replica, method, message, payload, deadline) => answer,
            error = self.peers.no_sign_of_life(replica) => {
                self.peers.forget(replica);
                Err(self.silent(replica, error))
            }
        }
    }

    fn silent(&self, replica: &Replica, error: Error) -> Failure {
        self.avoid(replica.server_id);
        Failure::Silent(named(replica, error))
    }

    /// Ask this server last for a while.
    pub fn avoid(&self, server_id: u32) {
        self.loads.lock().entry(server_id).or_default().avoid_until = Some(Instant::now() + AVOID);
    }

    pub fn is_avoided(&self, server_id: u32) -> bool {
        let avoid_until = self.loads.lock().get(&server_id).and_then(|load| load.avoid_until);
        avoid_until.is_some_and(|until| until > Instant::now())
    }

    /// The order in which copies are tried: those that did not fail lately, then the least busy.
    pub fn rank(&self, replicas: &[Replica], turn: usize) -> Vec<Replica> {
        let (now, loads) = (Instant::now(), self.loads.lock());
        let count = replicas.len().max(1);
        let mut ranked: Vec<(bool, usize, usize, &Replica)> = replicas
            .iter()
            .enumerate()
            .map(|(place, replica)| {
                let load = loads.get(&replica.server_id);
                let avoid = load.and_then(|load| load.avoid_until).is_some_and(|until| until > now);
                (avoid, load.map_or(0, |load| load.pending_bytes), (place + count - turn % count) % count, replica)
            })
            .collect();
        ranked.sort_by_key(|(avoid, pending, place, _)| (*avoid, *pending, *place));
        ranked.into_iter().map(|(_, _, _, replica)| replica.clone()).collect()
    }

    /// Count a read as pending until the guard is dropped.
    pub fn reading(&self, server_id: u32, bytes: usize) -> Pending<'_> {
        self.loads.lock().entry(server_id).or_default().pending_bytes += bytes;
        Pending { servers: self, server_id, bytes, start: Instant::now() }
    }

    /// How long a read of this server usually takes.
    pub fn usual(&self, server_id: u32) -> Duration {
        let mean = self.loads.lock().get(&server_id).map_or(0.0, |load| load.mean_ns);
        Duration::from_nanos(mean as u64)
    }
}

fn named(replica: &Replica, error: Error) -> Error {
    error.context(format!("chunkserver {} at {}", replica.server_id, replica.address))
}

pub struct Pending<'a> {
    servers: &'a Servers,
    server_id: u32,
    bytes: usize,
    start: Instant,
}

impl Pending<'_> {
    /// The read succeeded: its time counts.
    pub fn succeeded(self) {
        let ns = self.start.elapsed().as_nanos() as f64;
        if let Some(load) = self.servers.loads.lock().get_mut(&self.server_id) {
            load.mean_ns = if load.mean_ns == 0.0 { ns } else { load.mean_ns * 0.9 + ns * 0.1 };
            load.avoid_until = None;
        }
        self.servers.metrics.chunk_read.since(self.start);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(load) = self.servers.loads.lock().get_mut(&self.server_id) {
            load.pending_bytes = load.pending_bytes.saturating_sub(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas() -> Vec<Replica> {
        (1..=3).map(|server_id| Replica { server_id, address: format!("h:{server_id}") }).collect()
    }

    fn servers() -> Servers {
        let hello = wire::proto::Hello::default();
        Servers::new(LinkConfig { hello, connect_timeout: CONNECT_TIMEOUT }, Arc::default())
    }

    fn ids(ranked: &[Replica]) -> Vec<u32> {
        ranked.iter().map(|replica| replica.server_id).collect()
    }

    #[test]
    fn the_least_busy_copy_is_asked_first_and_a_failed_one_last() {
        let servers = servers();
        assert_eq!(ids(&servers.rank(&replicas(), 1)), [2, 3, 1]);
        let busy = servers.reading(2, 4096);
        assert_eq!(ids(&servers.rank(&replicas(), 1)), [3, 1, 2]);
        servers.avoid(3);
        assert_eq!(ids(&servers.rank(&replicas(), 1)), [1, 2, 3]);
        drop(busy);
        assert_eq!(ids(&servers.rank(&replicas(), 1)), [2, 1, 3]);
    }
}
