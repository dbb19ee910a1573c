//! What chunkservers tell the leader: hello, inventory, heartbeats, results of orders. A message of another epoch or
//! connection than the registered one is refused, so that a revived server cannot speak for its successor.

use std::sync::Arc;
use std::time::Instant;

use base::{Error, ErrorKind, Result};
use wire::Peer;
use wire::proto::{
    CommandResult, ConfirmServer, Heartbeat, HeartbeatReply, Inventory, RegisterServer, Role, ServerHello,
    ServerWelcome, admin_command,
};

use crate::history::{is_to_confirm, outdated, remembered_by_all};
use crate::node::Node;

/// Chunks of one inventory part.
const MOST_REPORTS: usize = 20_000;

impl Node {
    pub async fn server_hello(&self, peer: &Arc<Peer>, hello: ServerHello) -> Result<ServerWelcome> {
        if peer.hello.role != Role::Chunkserver as i32 {
            return Err(Error::namespace(libc::EPERM, "only a chunkserver may register as one"));
        }
        let term = self.lead().await?;
        if hello.server_id == 0 || hello.address.is_empty() {
            return Err(Error::namespace(libc::EINVAL, "a chunkserver must give its id (from 1) and its address"));
        }
        let now = Instant::now();
        if let Some(address) = self.servers.lock().taken_by(&hello, peer, self.config.server_timeout(), now) {
            return Err(Error::new(
                ErrorKind::Unavailable,
                libc::EBUSY,
                format!(
                    "server id {} is in use by the chunkserver at {address}; give each its own id, or wait until that one is gone",
                    hello.server_id
                ),
            ));
        }
        self.admit(term, &hello).await?;
        let outdated_disks = self.outdated_disks(&hello);
        let op = admin_command::Op::RegisterServer(RegisterServer {
            server_id: hello.server_id,
            address: hello.address.clone(),
            boot_id: hello.boot_id,
        });
        let epoch = self.committer.admin(term, op).await?.epoch;
        let (server, address) = (hello.server_id, hello.address.clone());
        {
            let mut servers = self.servers.lock();
            let same_boot = servers.is_same_boot(&hello);
            servers.register(hello, peer.clone(), epoch, Instant::now());
            self.machine.soft.copies.write().registered(server, same_boot);
        }
        tracing::info!(server, address, epoch, "chunkserver registered");
        let position = Some(self.machine.state().position());
        // Three heartbeats may get lost before the server counts as dead.
        let heartbeat_ms = u32::try_from(self.config.server_timeout_ms / 3).unwrap_or(1000).clamp(50, 1000);
        let cluster_id = self.config.cluster_id.clone();
        Ok(ServerWelcome { epoch, cluster_id, heartbeat_ms, term, position, outdated_disks })
    }

    /// Disks of this server that were put back to an older image; their copies are made anew from others.
    fn outdated_disks(&self, hello: &ServerHello) -> Vec<String> {
        let server = hello.server_id;
        let confirmed =
            self.machine.state().server(server).map_or((0, 0), |server| (server.confirmed, server.remembered));
        let servers = self.servers.lock();
        let before = servers.get(server).map_or(&[][..], |registered| &registered.disks);
        let found = outdated(&hello.disks, confirmed, before);
        for disk in &found {
            tracing::error!(
                server,
                disk,
                "a disk was put back to an older image of itself; its copies are neither served nor counted, and made anew from other servers"
            );
        }
        found
    }

    pub async fn inventory(&self, peer: &Peer, part: &Inventory) -> Result<()> {
        self.lead().await?;
        self.check_registered(part.server_id, part.epoch, peer)?;
        if part.chunks.len() > MOST_REPORTS {
            return Err(Error::namespace(libc::EMSGSIZE, format!("an inventory part may list {MOST_REPORTS} chunks")));
        }
        let taken = self.machine.soft.copies.write().part(part.server_id, &part.chunks, part.first, part.last);
        if !taken {
            return Err(Error::stale(
                "an inventory part is missing before this one; send the inventory from its start",
            ));
        }
        if part.last {
            let chunks = self.machine.soft.copies.read().count(part.server_id);
            tracing::info!(server = part.server_id, chunks, "inventory complete");
        }
        Ok(())
    }

    pub async fn heartbeat(&self, peer: &Peer, beat: Heartbeat) -> Result<HeartbeatReply> {
        let term = self.lead().await?;
        let changed_at = self.machine.soft.copies.read().changed_at(beat.server_id);
        let to_confirm = {
            let mut servers = self.servers.lock();
            let registered = servers
                .heard(beat.server_id, beat.epoch, peer, Instant::now())
                .ok_or_else(|| register_again(beat.server_id))?;
            registered.disks = beat.disks;
            registered.counters = beat.counters;
            let (confirmed, now) = (registered.confirmed, Instant::now());
            let remembered = remembered_by_all(&registered.disks, beat.epoch);
            remembered.filter(|remembered| is_to_confirm(confirmed, *remembered, changed_at, now))
        };
        if let Some(remembered) = to_confirm {
            self.confirm(term, beat.server_id, beat.epoch, remembered).await?;
        }
        if !beat.bad.is_empty() {
            tracing::warn!(
                server = beat.server_id,
                chunks = beat.bad.len(),
                "bad or lost copies reported; they are made anew from others"
            );
            let mut copies = self.machine.soft.copies.write();
            for report in &beat.bad {
                copies.reported(beat.server_id, report);
            }
        }
        let position = Some(self.machine.state().position());
        Ok(HeartbeatReply { epoch: beat.epoch, term, position })
    }

    /// From here on a disk of this server that remembers less is an older image.
    async fn confirm(&self, term: u64, server_id: u32, epoch: u64, remembered: u64) -> Result<()> {
        let confirm = ConfirmServer { server_id, epoch, remembered };
        self.committer.admin(term, admin_command::Op::ConfirmServer(confirm)).await?;
        if let Some(registered) = self.servers.lock().get_mut(server_id)
            && registered.contact.epoch == epoch
        {
            registered.confirmed = Some((remembered, Instant::now()));
        }
        Ok(())
    }

    /// A result nobody waits for any more is dropped: its order was given up.
    pub fn command_result(&self, peer: &Peer, result: CommandResult) {
        if let Some(registered) = self.servers.lock().get(result.server_id)
            && registered.peer.id != peer.id
        {
            return;
        }
        self.commands.answered(peer, result);
    }

    pub fn peer_disconnected(&self, peer: &Peer) {
        self.commands.disconnected(peer);
        if let Some(server) = self.servers.lock().disconnected(peer, Instant::now()) {
            tracing::warn!(server, "the connection to a chunkserver was lost");
        }
    }

    fn check_registered(&self, server: u32, epoch: u64, peer: &Peer) -> Result<()> {
        let mut servers = self.servers.lock();
        servers.heard(server, epoch, peer, Instant::now()).map(|_| ()).ok_or_else(|| register_again(server))
    }
}

fn register_again(server: u32) -> Error {
    Error::stale(format!("chunkserver {server} is not registered with this leader under that epoch; register again"))
}
