//! Orders to chunkservers: pushed on the connection each one opened, answered by `CommandResult`, each with a deadline.
//! Never repeats an order by itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use wire::proto::{CommandResult, Position, ServerCommand, server_command::Command};
use wire::{Method, Peer};

struct Pending {
    server: u32,
    peer: u64,
    answer: oneshot::Sender<Result<CommandResult>>,
}

#[derive(Default)]
pub struct Commands {
    last_id: AtomicU64,
    pending: Mutex<HashMap<u64, Pending>>,
}

impl Commands {
    /// Order `command` of the server registered with `epoch` on `peer`, which remembers `position` before it acts, and wait
    /// for what came of it.
    pub async fn order(
        &self,
        server: u32,
        peer: &Peer,
        epoch: u64,
        position: Position,
        command: Command,
        timeout: Duration,
    ) -> Result<CommandResult> {
        let command_id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, result) = oneshot::channel();
        self.pending.lock().insert(command_id, Pending { server, peer: peer.id, answer });
        let _forget = Forget { commands: self, command_id };
        let exchange = async {
            let command = ServerCommand { epoch, command_id, command: Some(command), position: Some(position) };
            peer.push(Method::ServerCommand, &command).await?;
            // The connection may have ended before the order was entered above.
            if peer.is_closed() {
                return Err(lost(server));
            }
            result.await.map_err(|_| lost(server))?
        };
        let result = tokio::time::timeout(timeout, exchange).await.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                libc::ETIMEDOUT,
                format!("chunkserver {server} did not carry out an order within {timeout:?}"),
            )
        })??;
        match result.error {
            Some(error) => Err(Error::from(error).context(format!("chunkserver {server}"))),
            None => Ok(result),
        }
    }

    /// A result arrived; false when nobody waits for it (any more) or another server answers.
    pub fn answered(&self, peer: &Peer, result: CommandResult) -> bool {
        let mut pending = self.pending.lock();
        match pending.get(&result.command_id) {
            Some(order) if order.peer == peer.id && order.server == result.server_id => {}
            _ => return false,
        }
        pending.remove(&result.command_id).is_some_and(|order| order.answer.send(Ok(result)).is_ok())
    }

    /// A connection ended: its orders are answered by nobody.
    pub fn disconnected(&self, peer: &Peer) {
        let mut pending = self.pending.lock();
        let ids: Vec<u64> = pending.iter().filter(|(_, order)| order.peer == peer.id).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(order) = pending.remove(&id) {
                let _ = order.answer.send(Err(lost(order.server)));
            }
        }
    }
}

fn lost(server: u32) -> Error {
    Error::unavailable(format!("the connection to chunkserver {server} was lost before it answered an order"))
}

struct Forget<'a> {
    commands: &'a Commands,
    command_id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.commands.pending.lock().remove(&self.command_id);
    }
}
