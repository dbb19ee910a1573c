//! What the leader tells this server to do, pushed on the connection that this server registered on. Commands end
//! with that connection: a leader that is gone gets no results, and its successor commands anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::time::Deadline;
use base::{Error, Result};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use wire::proto::server_command::Command;
use wire::proto::{self, CommandResult, CopyChunk, DeleteChunks, DigestChunk, Empty, Position, ServerCommand};
use wire::{Frame, Link, Method};

use crate::copy;
use crate::metrics::add;
use crate::node::{Node, Opened, chunk_ref};

/// Copies made at a time. More only fight for the same disks and delay clients.
const COPIES: usize = 2;
/// Commands that may wait or run; further ones are refused, and the leader sends them again later.
const COMMANDS: usize = 4096;
const RESULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Carry out commands until the connection ends.
pub async fn run(node: &Arc<Node>, opened: &Arc<Opened>, link: &Arc<Link>, epoch: u64, inventory: &Notify) -> Error {
    let mut tasks = JoinSet::new();
    let mut copies: HashMap<u64, AbortHandle> = HashMap::new();
    let room = Arc::new(Semaphore::new(COPIES));
    loop {
        let frame = tokio::select! {
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            frame = link.pushed() => frame,
        };
        let Some(frame) = frame else { return Error::unavailable("the leader's connection ended") };
        let command = match read_command(&frame) {
            Ok(command) => command,
            Err(error) => return error,
        };
        let answer = Answer { node: node.clone(), link: link.clone(), command_id: command.command_id };
        let checked = check(&command, epoch, tasks.len());
        let order = Order { node: node.clone(), opened: opened.clone(), epoch, position: command.position };
        match checked.map(|()| command.command) {
            Err(error) => drop(tasks.spawn(answer.send(Err(error)))),
            Ok(Some(Command::Inventory(_))) => {
                inventory.notify_one();
                tasks.spawn(answer.send(Ok(CommandResult::default())));
            }
            Ok(Some(Command::Delete(delete))) => {
                tasks.spawn(async move { answer.send(delete_chunks(order, delete).await).await });
            }
            Ok(Some(Command::Copy(copy))) => {
                let chunk = copy.chunk.map_or(0, |chunk| chunk.id);
                copies.retain(|_, running| !running.is_finished());
                // The leader commands a chunk again only when it has given the earlier copy up.
                if let Some(earlier) = copies.remove(&chunk) {
                    earlier.abort();
                }
                let room = room.clone();
                let running = tasks.spawn(async move {
                    let outcome = make_copy(&order, copy, &room).await;
                    answer.send(outcome).await;
                });
                copies.insert(chunk, running);
            }
            Ok(Some(Command::Digest(asked))) => {
                tasks.spawn(async move { answer.send(digest(&order, asked).await).await });
            }
            Ok(None) => {
                let sentence =
                    "this release of the chunkserver does not know the command; run one release on all nodes";
                tasks.spawn(answer.send(Err(Error::namespace(libc::EOPNOTSUPP, sentence))));
            }
        }
    }
}

fn read_command(frame: &Frame) -> Result<ServerCommand> {
    if frame.method != Method::ServerCommand as u16 {
        return Err(Error::namespace(libc::EPROTO, format!("the leader pushed method {}", frame.method)));
    }
    wire::link::decode(&frame.message)
}

fn check(command: &ServerCommand, epoch: u64, running: usize) -> Result<()> {
    if command.epoch != epoch {
        return Err(Error::stale(format!("the command is for epoch {}, this server has epoch {epoch}", command.epoch)));
    }
    if running >= COMMANDS {
        return Err(Error::new(
            base::ErrorKind::Unavailable,
            libc::EAGAIN,
            format!("{running} commands are waiting already; send it again later"),
        ));
    }
    Ok(())
}

/// Where an order is carried out, and when in the masters' history it was given.
struct Order {
    node: Arc<Node>,
    opened: Arc<Opened>,
    epoch: u64,
    position: Option<Position>,
}

impl Order {
    /// Before anything is changed: masters that do not know this order must be told from those that gave it.
    async fn remember(&self) -> Result<()> {
        self.node.remember_order(&self.opened, self.epoch, self.position.as_ref()).await
    }
}

async fn make_copy(order: &Order, command: CopyChunk, room: &Semaphore) -> Result<CommandResult> {
    let _room = room.acquire().await.map_err(|_| Error::unavailable("stopping"))?;
    order.remember().await?;
    let outcome = copy::copy(&order.node, &order.opened, command).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "a copy was not made; the leader tries again");
    }
    outcome.map(|stored_bytes| CommandResult { stored_bytes, ..CommandResult::default() })
}

/// What the copy here holds, after the fence where one is asked for.
async fn digest(order: &Order, asked: DigestChunk) -> Result<CommandResult> {
    if asked.fence {
        order.remember().await?;
    }
    let (chunk, store) = (chunk_ref(asked.chunk)?, order.opened.store.clone());
    let read = order.node.stable.run(move || if asked.fence { store.settle(chunk) } else { store.map(chunk) });
    match read.await {
        Ok(map) => Ok(CommandResult { digest: map.digest, version: map.version, ..CommandResult::default() }),
        Err(error) if error.errno == libc::ENOENT => Ok(CommandResult::default()),
        Err(error) => Err(error),
    }
}

async fn delete_chunks(order: Order, delete: DeleteChunks) -> Result<CommandResult> {
    order.remember().await?;
    let chunks = delete.chunks.into_iter().map(|chunk| chunk_ref(Some(chunk))).collect::<Result<Vec<_>>>()?;
    let (node, store) = (order.node, order.opened.store.clone());
    let background = &node.clone().background;
    background
        .run(move || {
            let mut failed = None;
            for chunk in chunks {
                match store.delete(chunk) {
                    Ok(deleted) => {
                        add(&node.metrics.chunks_deleted, u64::from(deleted));
                        node.reports.forget(chunk.id);
                    }
                    // The others go on: a bad disk must not keep the good ones full.
                    Err(error) => failed = Some(error.context(format!("deleting chunk {}", chunk.id))),
                }
            }
            failed.map_or_else(|| Ok(CommandResult::default()), Err)
        })
        .await
}

/// Where the result of one command goes.
struct Answer {
    node: Arc<Node>,
    link: Arc<Link>,
    command_id: u64,
}

impl Answer {
    async fn send(self, outcome: Result<CommandResult>) {
        let failed = |error| CommandResult { error: Some(proto::Error::from(error)), ..CommandResult::default() };
        let (server_id, command_id) = (self.node.server_id(), self.command_id);
        let result = CommandResult { server_id, command_id, ..outcome.unwrap_or_else(failed) };
        let sent = self.link.call(Method::CommandResult, &result, None, Deadline::after(RESULT_TIMEOUT)).await;
        if let Err(error) = sent.and_then(|reply| reply.decode::<Empty>()) {
            tracing::debug!(%error, command = self.command_id, "the leader did not take a command's result");
        }
    }
}
