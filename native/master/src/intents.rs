//! Carries out what planners and operators ask of the leader: intents, admin commands, a transfer of leadership.
//! Everything is checked against the state as it is now; a planner's view may be a second old.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{Error, Result};
use futures::future::join_all;
use wire::proto::{
    AdminCommand, AdminReply, ChunkRef, DeleteIntent, DropReplica, HealIntent, Intents, IntentsReply, Purge,
    ServerWeight, SetWeights, TransferLeader, admin_command::Op,
};

use crate::deletes::is_orphan;
use crate::machine::stale_term;
use crate::node::Node;

/// Intents of one call, of each kind.
const MOST_INTENTS: usize = 10_000;
/// Drops committed at a time.
const DROPS_AT_ONCE: usize = 256;

impl Node {
    pub async fn intents(self: &Arc<Node>, intents: Intents) -> Result<IntentsReply> {
        let term = self.lead().await?;
        if intents.expected_term != 0 && intents.expected_term != term {
            let error = stale_term(intents.expected_term, term);
            return Ok(IntentsReply { error: Some(error.into()), ..IntentsReply::default() });
        }
        let lists = [intents.heal.len(), intents.drop.len(), intents.delete.len(), intents.weights.len()];
        if lists.iter().any(|len| *len > MOST_INTENTS) {
            return Err(Error::namespace(libc::E2BIG, format!("at most {MOST_INTENTS} intents of a kind at once")));
        }
        self.consensus.may_read()?;
        if let Some(policy) = &intents.policy {
            self.policy.lock().follow(policy);
        }
        let mut counts = Counts::default();
        let weights = intents.weights.len();
        let set = self.set_weights(term, intents.weights).await;
        (0..weights).for_each(|_| counts.add(set));
        for heal in intents.heal {
            counts.add(self.heal_is_possible(&heal) && self.heals.add(heal));
        }
        self.pump_heals(term);
        for drops in intents.drop.chunks(DROPS_AT_ONCE) {
            let commits = drops.iter().map(|drop| {
                let drop = DropReplica { chunk_id: drop.chunk_id, version: drop.version, server_id: drop.server_id };
                self.committer.admin(term, Op::DropReplica(drop))
            });
            join_all(commits).await.iter().for_each(|outcome| counts.add(outcome.is_ok()));
        }
        for delete in &intents.delete {
            counts.add(self.delete_orphan(delete));
        }
        self.pump_deletes();
        Ok(IntentsReply { error: None, accepted: counts.accepted, refused: counts.refused })
    }

    /// Commit weights that differ from the committed ones.
    async fn set_weights(&self, term: u64, weights: Vec<ServerWeight>) -> bool {
        let changed: Vec<ServerWeight> = {
            let state = self.machine.state();
            let differs = |weight: &ServerWeight| {
                state.server(weight.server_id).is_some_and(|server| server.weight != weight.weight)
            };
            weights.into_iter().filter(differs).collect()
        };
        if changed.is_empty() {
            return true;
        }
        let outcome = self.committer.admin(term, Op::SetWeights(SetWeights { weights: changed })).await;
        if let Err(error) = &outcome {
            tracing::warn!(%error, "placement weights could not be committed; the planner will send them again");
        }
        outcome.is_ok()
    }

    fn heal_is_possible(&self, heal: &HealIntent) -> bool {
        let state = self.machine.state();
        let up = |server: u32| state.server(server).is_some_and(|server| server.up);
        let Some(chunk) = state.chunk(heal.chunk_id) else { return false };
        chunk.version == heal.version
            && heal.source != heal.target
            && chunk.servers.contains(&heal.source)
            && up(heal.source)
            && up(heal.target)
    }

    /// Queue the delete of a copy that belongs to no chunk now.
    fn delete_orphan(&self, delete: &DeleteIntent) -> bool {
        let is_garbage = is_orphan(&self.machine.state(), delete);
        is_garbage
            && self.deletes.lock().add(delete.server_id, ChunkRef { id: delete.chunk_id, version: delete.version })
    }

    /// What others may order directly. The leader's own orders (registrations, heals, bootstrap) are refused.
    pub async fn admin(&self, command: AdminCommand) -> Result<AdminReply> {
        let term = self.lead().await?;
        if command.expected_term != 0 && command.expected_term != term {
            return Err(stale_term(command.expected_term, term));
        }
        match command.op {
            Some(Op::Purge(purge)) => self.purge_by_hand(term, purge).await,
            Some(Op::ForgetServer(forget)) => {
                let reply = self.committer.admin(term, Op::ForgetServer(forget)).await?;
                self.servers.lock().forget(forget.server_id);
                self.machine.soft.copies.write().forget(forget.server_id);
                Ok(reply)
            }
            Some(Op::AcceptHistory(accept)) => self.accept_history(term, accept.server_id).await,
            Some(Op::DropUnknown(_)) => self.drop_unknown(term).await,
            Some(op @ (Op::SetWeights(_) | Op::DropReplica(_) | Op::ExpireSession(_))) => {
                self.committer.admin(term, op).await
            }
            _ => Err(Error::namespace(libc::EPERM, "only the leader itself gives this order")),
        }
    }

    async fn purge_by_hand(&self, term: u64, purge: Purge) -> Result<AdminReply> {
        let wanted: BTreeSet<u64> = purge.inodes.into_iter().collect();
        let inodes = self.machine.soft.sessions.lock().begin_purge(&wanted, wanted.len());
        let outcome = if inodes.len() == wanted.len() {
            self.committer.admin(term, Op::Purge(Purge { inodes: inodes.clone() })).await
        } else {
            Err(Error::namespace(libc::EBUSY, "some of these inodes are open; close them first"))
        };
        self.machine.soft.sessions.lock().end_purge(&inodes);
        outcome
    }

    pub async fn transfer(&self, request: TransferLeader) -> Result<AdminReply> {
        self.lead().await?;
        let target = (request.target != 0).then_some(u64::from(request.target));
        self.consensus.transfer(target).await?;
        Ok(AdminReply::default())
    }
}

#[derive(Default)]
struct Counts {
    accepted: u32,
    refused: u32,
}

impl Counts {
    fn add(&mut self, accepted: bool) {
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
    }
}
