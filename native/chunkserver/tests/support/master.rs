//! A double of a master for these tests: welcomes servers, keeps what they report, pushes commands. No Raft, no state.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base::{Error, Result};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use wire::proto::server_command::Command;
use wire::proto::*;
use wire::service::Stopper;
use wire::{Handler, Method, Peer, Request, Response, Server};

use super::{hello, until};

#[derive(Default)]
pub struct Seen {
    pub peers: HashMap<u32, (Arc<Peer>, u64)>,
    pub hellos: Vec<ServerHello>,
    pub inventories: HashMap<u32, Vec<ChunkReport>>,
    pub whole: HashMap<u32, bool>,
    pub bad: Vec<(u32, ChunkReport)>,
    pub heartbeats: u64,
    pub results: HashMap<u64, CommandResult>,
}

pub struct FakeMaster {
    pub cluster_id: String,
    pub seen: Mutex<Seen>,
    pub leader: AtomicBool,
    /// Answers nothing, like a paused process.
    pub paused: AtomicBool,
    /// Where a follower sends its callers.
    pub hint: Mutex<Option<String>>,
    epochs: AtomicU64,
    commands: AtomicU64,
}

pub struct RunningMaster {
    pub master: Arc<FakeMaster>,
    pub address: SocketAddr,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl RunningMaster {
    pub async fn start(cluster_id: &str, leader: bool) -> RunningMaster {
        RunningMaster::start_at("127.0.0.1:0", cluster_id, leader).await
    }

    pub async fn start_at(address: &str, cluster_id: &str, leader: bool) -> RunningMaster {
        let server = Server::bind(address).await.unwrap();
        let (address, stopper) = (server.address().unwrap(), server.stopper());
        let master = Arc::new(FakeMaster {
            cluster_id: cluster_id.to_string(),
            seen: Mutex::default(),
            leader: AtomicBool::new(leader),
            paused: AtomicBool::new(false),
            hint: Mutex::new(None),
            epochs: AtomicU64::new(1),
            commands: AtomicU64::new(1),
        });
        let task = tokio::spawn(server.run(master.clone()));
        RunningMaster { master, address, stopper, task }
    }

    pub async fn stop(self) {
        self.stopper.stop();
        self.task.await.unwrap();
    }

    pub async fn registered(&self, server_id: u32) {
        until("the server is registered and its inventory whole", || {
            self.master.seen.lock().whole.get(&server_id) == Some(&true)
        })
        .await;
    }

    /// Push a command to a registered server and wait for its result.
    pub async fn command(&self, server_id: u32, command: Command) -> CommandResult {
        let epoch = self.master.seen.lock().peers[&server_id].1;
        self.command_of_epoch(server_id, epoch, command).await
    }

    /// Push a command and do not wait. -> its id
    pub async fn push(&self, server_id: u32, epoch: u64, command: Command) -> u64 {
        let peer = self.master.seen.lock().peers[&server_id].0.clone();
        let command_id = self.master.commands.fetch_add(1, Ordering::Relaxed);
        let message = ServerCommand { epoch, command_id, command: Some(command), position: None };
        peer.push(Method::ServerCommand, &message).await.unwrap();
        command_id
    }

    pub async fn command_of_epoch(&self, server_id: u32, epoch: u64, command: Command) -> CommandResult {
        let command_id = self.push(server_id, epoch, command).await;
        until("the command has a result", || self.master.seen.lock().results.contains_key(&command_id)).await;
        self.master.seen.lock().results.remove(&command_id).unwrap()
    }
}

impl Handler for FakeMaster {
    fn hello(&self) -> Hello {
        hello(&self.cluster_id, Role::Master, 1)
    }

    async fn handle(self: Arc<Self>, request: Request) -> Result<Response> {
        if self.paused.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if !self.leader.load(Ordering::SeqCst) {
            return Err(Error::not_leader(self.hint.lock().clone()));
        }
        let mut seen = self.seen.lock();
        match request.method {
            Method::ServerHello => {
                let message: ServerHello = request.decode()?;
                let epoch = self.epochs.fetch_add(1, Ordering::SeqCst);
                seen.peers.insert(message.server_id, (request.peer.clone(), epoch));
                seen.whole.insert(message.server_id, false);
                seen.hellos.push(message);
                let cluster_id = self.cluster_id.clone();
                Ok((&ServerWelcome { epoch, cluster_id, term: 1, ..ServerWelcome::default() }).into())
            }
            Method::Inventory => {
                let message: Inventory = request.decode()?;
                let chunks = seen.inventories.entry(message.server_id).or_default();
                if message.first {
                    chunks.clear();
                }
                chunks.extend(message.chunks);
                seen.whole.insert(message.server_id, message.last);
                Ok((&Empty {}).into())
            }
            Method::Heartbeat => {
                let message: Heartbeat = request.decode()?;
                seen.heartbeats += 1;
                seen.bad.extend(message.bad.into_iter().map(|bad| (message.server_id, bad)));
                let epoch = seen.peers.get(&message.server_id).map_or(0, |peer| peer.1);
                Ok((&HeartbeatReply { epoch, term: 1, position: None }).into())
            }
            Method::CommandResult => {
                let message: CommandResult = request.decode()?;
                seen.results.insert(message.command_id, message);
                Ok((&Empty {}).into())
            }
            other => Err(Error::namespace(libc::EOPNOTSUPP, format!("{other:?}"))),
        }
    }
}
