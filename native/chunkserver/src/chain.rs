//! Passing a write or trim on to the next server of its chain, and noticing within a second that it does not answer.
//! A slow disk is not a dead server: a hop that takes long is asked for a sign of life on a second connection, and
//! fails only when that stays out too, or when the whole hop's time is over.

use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Buffer, Error, Result};
use prost::Message;
use wire::proto::{ChunkWriteReply, Hello, Replica, Stamp};
use wire::{LinkConfig, Method, Peers};

use crate::outcome;

/// Larger and writers stall longer at a vanished machine; smaller and a busy one looks vanished.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for a hop whose server is alive: its disk is stuck. Smaller fails writes on a disk that only syncs.
const HOP_TIMEOUT: Duration = Duration::from_secs(10);
/// More for each server behind the next, so that the one nearest to the trouble speaks first.
const HOP_MARGIN: Duration = Duration::from_secs(2);

/// Other chunkservers, as writes reach them: a lane for each count of servers behind the next, see `wire::budget`.
pub struct Chain(Peers);

impl Chain {
    pub fn new(hello: Hello) -> Chain {
        Chain(Peers::new(LinkConfig { hello, connect_timeout: CONNECT_TIMEOUT }))
    }

    /// Send what `message` makes of the rest of `chain` to its first server; the stamps of all of them come back.
    /// No chain, no stamps. An error names the servers that failed.
    pub async fn forward<M: Message>(
        &self,
        method: Method,
        chain: &[Replica],
        payload: Option<Arc<Buffer>>,
        message: impl FnOnce(Vec<Replica>) -> M,
    ) -> Result<Vec<Stamp>> {
        let Some((next, rest)) = chain.split_first() else { return Ok(Vec::new()) };
        let message = message(rest.to_vec()).encode_to_vec();
        let hop = HOP_TIMEOUT + HOP_MARGIN * rest.len() as u32;
        let outcome = tokio::select! {
            biased;
            outcome = self.call(next, rest.len(), method, &message, payload, Deadline::after(hop)) => outcome,
            error = self.0.no_sign_of_life(next) => Err(error),
        };
        let stamps = outcome.and_then(|stamps: Vec<Stamp>| check_stamps(stamps, chain));
        stamps.map_err(|error| {
            if is_silence(&error) {
                // The connection may be dead without saying so; the next write starts with a new one.
                self.0.forget(next);
            }
            outcome::next(error, next.server_id).context(format!("chunkserver {}", next.server_id))
        })
    }

    async fn call(
        &self,
        next: &Replica,
        behind: usize,
        method: Method,
        message: &[u8],
        payload: Option<Arc<Buffer>>,
        deadline: Deadline,
    ) -> Result<Vec<Stamp>> {
        let link = self.0.connected(next, behind, deadline).await?;
        let reply: ChunkWriteReply = link.call_raw(method, message, payload, deadline).await?.decode()?;
        Ok(reply.stamps)
    }
}

fn check_stamps(stamps: Vec<Stamp>, chain: &[Replica]) -> Result<Vec<Stamp>> {
    if stamps.iter().map(|stamp| stamp.server_id).eq(chain.iter().map(|replica| replica.server_id)) {
        return Ok(stamps);
    }
    let got: Vec<u32> = stamps.iter().map(|stamp| stamp.server_id).collect();
    let want: Vec<u32> = chain.iter().map(|replica| replica.server_id).collect();
    Err(Error::integrity(format!("stamps came from servers {got:?} instead of {want:?}")))
}

fn is_silence(error: &Error) -> bool {
    error.errno == libc::ETIMEDOUT && error.failed_servers.is_empty()
}

#[cfg(test)]
mod tests {
    use base::ErrorKind;
    use wire::proto::Empty;

    use super::*;

    fn replica(server_id: u32) -> Replica {
        Replica { server_id, address: format!("127.0.0.1:{server_id}") }
    }

    #[test]
    fn stamps_of_other_servers_are_refused() {
        let stamp = |server_id| Stamp { server_id, boot_id: 1, stored_bytes: 0 };
        assert!(check_stamps(vec![stamp(2), stamp(3)], &[replica(2), replica(3)]).is_ok());
        assert!(check_stamps(vec![stamp(2)], &[replica(2), replica(3)]).is_err());
        assert!(check_stamps(vec![stamp(3), stamp(2)], &[replica(2), replica(3)]).is_err());
    }

    #[tokio::test]
    async fn a_server_that_refuses_connections_is_named_at_once() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let chain = Chain::new(wire::link::hello());
        let hop = [Replica { server_id: 9, address: closed }];
        let error = chain.forward(Method::ChunkTrim, &hop, None, |_| Empty {}).await.unwrap_err();
        assert_eq!(error.failed_servers, [9]);
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_named_within_a_second() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let chain = Chain::new(wire::link::hello());
        let hop = [Replica { server_id: 9, address }];
        let started = std::time::Instant::now();
        let error = chain.forward(Method::ChunkTrim, &hop, None, |_| Empty {}).await.unwrap_err();
        assert_eq!(error.failed_servers, [9]);
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    }
}
