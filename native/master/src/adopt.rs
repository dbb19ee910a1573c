//! Copies that are newer than these masters know. Masters that were put back to an older state, by an operator's word,
//! find their chunks at versions that they never gave, perhaps on other servers: what is there is taken as it is, or
//! nobody could read or write it again.

use futures::future::join_all;
use wire::proto::{AdoptCopies, admin_command::Op};

use crate::health::ahead;
use crate::node::Node;

/// Commits at a time.
const AT_ONCE: usize = 256;

impl Node {
    pub async fn adopt_newer_copies(&self, term: u64) {
        let found: Vec<u64> = self.health.lock().findings.ahead.iter().copied().collect();
        if found.is_empty() || !self.knows_all_copies() {
            return;
        }
        let adoptions = found.into_iter().filter_map(|chunk| self.adoption(chunk)).take(AT_ONCE);
        let commits = adoptions.map(|adopt| async move {
            let AdoptCopies { chunk_id: chunk, version, held, servers } = adopt.clone();
            match self.committer.admin(term, Op::AdoptCopies(adopt)).await {
                Ok(_) => tracing::warn!(
                    chunk,
                    version,
                    held,
                    ?servers,
                    "copies newer than these masters know were taken as they are"
                ),
                Err(error) => tracing::debug!(chunk, %error, "newer copies could not be taken; trying again"),
            }
        });
        join_all(commits).await;
    }

    /// Who else may have a copy is away, or told of all it has.
    fn knows_all_copies(&self) -> bool {
        let servers = self.machine.state().servers();
        let copies = self.machine.soft.copies.read();
        self.refusals.lock().views(std::time::Instant::now()).is_empty()
            && servers.iter().all(|server| !server.up || copies.is_known(server.id))
    }

    fn adoption(&self, chunk_id: u64) -> Option<AdoptCopies> {
        // Before the table is looked at: it knows of a version before any copy has it.
        let held = self.machine.soft.copies.read().holders(chunk_id);
        let chunk = self.machine.state().chunk(chunk_id)?;
        if self.heals.is_running(chunk_id) {
            return None;
        }
        let ahead = ahead(chunk.version, held.into_iter())?;
        Some(AdoptCopies { chunk_id, version: chunk.version, held: ahead.version, servers: ahead.servers })
    }
}
