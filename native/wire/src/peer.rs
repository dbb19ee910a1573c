//! Chunkservers as whoever asks them sees them: one checked connection to each, and a sign of life on a second one. A
//! server that takes long is not a dead one: it is left only when it shows no sign of life for a time that its own pings
//! and the lateness of our own timers justify.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::time::Deadline;
use base::{Error, ErrorKind, Result};

use crate::link::{Link, LinkConfig, Links};
use crate::method::Method;
use crate::proto::{Empty, Replica, Role};
use crate::pulse::{Pulse, Pulses, SUSPECT_AFTER, Silence, TICK};

/// A ping's own deadline; the pulse decides long before.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Peers {
    data: Links,
    /// Apart from the data, so that a sign of life never waits behind megabytes.
    pings: Links,
    pulses: Pulses,
    connect_timeout: Duration,
}

impl Peers {
    pub fn new(config: LinkConfig) -> Peers {
        let connect_timeout = config.connect_timeout;
        Peers {
            data: Links::new(config.clone()),
            pings: Links::new(config),
            pulses: Pulses::default(),
            connect_timeout,
        }
    }

    /// A connection to the server that `replica` names, and to no other that may listen there now. Requests on different
    /// lanes go over different connections.
    pub async fn connected(&self, replica: &Replica, lane: usize, deadline: Deadline) -> Result<Arc<Link>> {
        self.checked(&self.data, replica, lane, deadline).await
    }

    async fn checked(&self, links: &Links, replica: &Replica, lane: usize, deadline: Deadline) -> Result<Arc<Link>> {
        // Callers share one attempt at a time; the outer limit keeps the last of them from waiting for all attempts.
        let limit = deadline.left().min(self.connect_timeout);
        let (id, address) = (replica.server_id, &replica.address);
        let connecting = links.get_node(Role::Chunkserver, id, address, lane);
        let outcome = tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, libc::ETIMEDOUT, format!("{address} cannot be reached")))
        });
        // Whatever kept us from connecting, a foreign cluster included, makes this server unusable.
        outcome.map_err(|error| error.with_failed(id))
    }

    /// The connection may hang, or be dead without saying so: the next call starts with a new one.
    pub fn forget(&self, replica: &Replica) {
        self.data.forget(&replica.address);
    }

    /// Ends only when the server does not answer. Of all that wait for one server, one asks at a time.
    pub async fn no_sign_of_life(&self, replica: &Replica) -> Error {
        let pulse = self.pulses.of(replica.server_id);
        loop {
            let since = Instant::now();
            tokio::time::sleep(SUSPECT_AFTER).await;
            let _asking = pulse.asking.lock().await;
            let outcome = match pulse.since(since) {
                Some(true) => continue,
                Some(false) => Err(Error::unavailable("a ping was not answered")),
                None => self.ping(replica, &pulse).await,
            };
            if let Err(error) = outcome {
                self.pings.forget(&replica.address);
                return Error::new(ErrorKind::Unavailable, libc::ETIMEDOUT, format!("no sign of life: {error}"));
            }
        }
    }

    /// One ping, waited for as long as `pulse` says.
    async fn ping(&self, replica: &Replica, pulse: &Pulse) -> Result<()> {
        let usual = pulse.usual();
        let asking = async {
            let deadline = Deadline::after(PING_TIMEOUT);
            let link = self.checked(&self.pings, replica, 0, deadline).await?;
            let asked = Instant::now();
            link.call(Method::Ping, &Empty {}, None, deadline).await?;
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
