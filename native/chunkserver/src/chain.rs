//! Passing a write or trim on to the next server of its chain, and noticing within a second that it does not answer.
//! A slow disk is not a dead server: a hop that takes long is asked for a sign of life on a second connection, and
//! fails only when that stays out too, or when the whole hop's time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Buffer, Error, ErrorKind, Result};
use prost::Message;
use wire::proto::{ChunkWriteReply, Empty, Hello, Replica, Stamp};
use wire::{LinkConfig, Links, Method};

use crate::outcome;
use crate::pulse::{Pulse, Pulses, SUSPECT_AFTER, Silence, TICK};

/// Larger and writers stall longer at a vanished machine; smaller and a busy one looks vanished.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time for a hop whose server is alive: its disk is stuck. Smaller fails writes on a disk that only syncs.
const HOP_TIMEOUT: Duration = Duration::from_secs(10);
/// More for each server behind the next, so that the one nearest to the trouble speaks first.
const HOP_MARGIN: Duration = Duration::from_secs(2);

/// Connections to other chunkservers, as used for writes.
pub struct Chain {
    /// A lane for each count of servers behind the next: see `wire::budget`.
    data: Links,
    /// Apart from the data, so that a sign of life never waits behind megabytes.
    pings: Links,
    pulses: Pulses,
}

impl Chain {
    pub fn new(hello: Hello) -> Chain {
        let config = LinkConfig { hello, connect_timeout: CONNECT_TIMEOUT };
        Chain { data: Links::new(config.clone()), pings: Links::new(config), pulses: Pulses::default() }
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
            error = self.sign_of_life(next) => Err(error),
        };
        let stamps = outcome.and_then(|stamps: Vec<Stamp>| check_stamps(stamps, chain));
        stamps.map_err(|error| {
            if is_silence(&error) {
                // The connection may be dead without saying so; the next write starts with a new one.
                self.data.forget(&next.address);
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
        let link = connected(&self.data, next, behind).await?;
        let reply: ChunkWriteReply = link.call_raw(method, message, payload, deadline).await?.decode()?;
        Ok(reply.stamps)
    }

    /// Ends only when the server does not answer. Of all that wait for one server, one asks at a time.
    async fn sign_of_life(&self, next: &Replica) -> Error {
        let pulse = self.pulses.of(next.server_id);
        loop {
            let since = Instant::now();
            tokio::time::sleep(SUSPECT_AFTER).await;
            let _asking = pulse.asking.lock().await;
            let outcome = match pulse.since(since) {
                Some(true) => continue,
                Some(false) => Err(Error::unavailable("a ping was not answered")),
                None => self.ping(next, &pulse).await,
            };
            if let Err(error) = outcome {
                self.pings.forget(&next.address);
                return Error::new(ErrorKind::Unavailable, libc::ETIMEDOUT, format!("no sign of life: {error}"));
            }
        }
    }

    /// One ping, waited for as long as `pulse` says.
    async fn ping(&self, next: &Replica, pulse: &Pulse) -> Result<()> {
        let usual = pulse.usual();
        let asking = async {
            let link = connected(&self.pings, next, 0).await?;
            let asked = Instant::now();
            link.call(Method::Ping, &Empty {}, None, Deadline::after(HOP_TIMEOUT)).await?;
            pulse.answered(asked.elapsed(), Instant::now());
            Ok(())
        };
        tokio::pin!(asking);
        let mut silence = Silence::default();
        loop {
            let tick = Instant::now();
            let outcome = tokio::time::timeout(TICK, &mut asking).await;
            silence = silence.and(tick.elapsed());
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(_) if !silence.is_death(usual) => continue,
                Err(_) => Err(Error::unavailable(format!("a ping was not answered within {silence:?}"))),
            };
            if outcome.is_err() {
                pulse.silent(Instant::now());
            }
            return outcome;
        }
    }
}

/// A connection to the server that `replica` names, and to no other that may listen there now.
async fn connected(links: &Links, replica: &Replica, lane: usize) -> Result<Arc<wire::Link>> {
    // Callers share one attempt at a time; the outer limit keeps the last of them from waiting for all attempts.
    let outcome =
        tokio::time::timeout(CONNECT_TIMEOUT, links.get_lane(&replica.address, lane)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, libc::ETIMEDOUT, format!("{} cannot be reached", replica.address)))
        });
    // Whatever kept us from connecting, a foreign cluster included, makes this hop unusable.
    let link = outcome.map_err(|error| error.with_failed(replica.server_id))?;
    if link.peer.node_id != replica.server_id {
        links.forget(&replica.address);
        let sentence = format!(
            "{} is chunkserver {} and not {}; refresh the chunk map",
            replica.address, link.peer.node_id, replica.server_id
        );
        return Err(Error::unavailable(sentence).with_failed(replica.server_id));
    }
    Ok(link)
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
        let chain = Chain::new(Hello { protocol: wire::link::PROTOCOL_VERSION, ..Hello::default() });
        let hop = [Replica { server_id: 9, address: closed }];
        let error = chain.forward(Method::ChunkTrim, &hop, None, |_| Empty {}).await.unwrap_err();
        assert_eq!(error.failed_servers, [9]);
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_named_within_a_second() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let chain = Chain::new(Hello { protocol: wire::link::PROTOCOL_VERSION, ..Hello::default() });
        let hop = [Replica { server_id: 9, address }];
        let started = std::time::Instant::now();
        let error = chain.forward(Method::ChunkTrim, &hop, None, |_| Empty {}).await.unwrap_err();
        assert_eq!(error.failed_servers, [9]);
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    }
}
