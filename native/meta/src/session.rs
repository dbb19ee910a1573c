//! A client's registration and the replies remembered for its retries.

use std::sync::Arc;

use base::{Error, Result};
use imbl::OrdMap;

use crate::errors;

/// Most replies remembered per session; beyond, operations wait until `acked_below` moves.
pub const MAX_REPLIES: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionInfo {
    pub name: String,
    pub host: String,
    pub mount_point: String,
    pub registered_ns: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub info: Arc<SessionInfo>,
    pub acked_below: u64,
    /// Encoded replies by operation id, none below `acked_below`.
    pub replies: OrdMap<u64, Arc<[u8]>>,
}

impl Session {
    pub fn new(info: SessionInfo) -> Session {
        Session { info: Arc::new(info), acked_below: 0, replies: OrdMap::new() }
    }

    /// Forget replies of operations below `acked_below`. Returns the bytes forgotten.
    pub fn forget_below(&mut self, acked_below: u64) -> usize {
        let mut forgotten = 0;
        if acked_below > self.acked_below {
            self.acked_below = acked_below;
            while let Some(&(op_id, _)) = self.replies.get_min() {
                if op_id >= acked_below {
                    break;
                }
                forgotten += self.replies.remove(&op_id).map_or(0, |reply| reply.len());
            }
        }
        forgotten
    }

    /// The reply of an earlier try, or the leave to run the operation.
    pub fn recall(&self, op_id: u64) -> Result<Option<Arc<[u8]>>> {
        if op_id == 0 {
            return Err(errors::invalid("a change needs an operation id above 0"));
        }
        if op_id < self.acked_below {
            return Err(errors::invalid(format!(
                "operation {op_id} was acknowledged (all below {}); use a new id",
                self.acked_below
            )));
        }
        if let Some(reply) = self.replies.get(&op_id) {
            return Ok(Some(reply.clone()));
        }
        if self.replies.len() >= MAX_REPLIES {
            let message =
                format!("{MAX_REPLIES} replies of this session are unacknowledged; raise acked_below, then retry");
            return Err(Error::new(base::ErrorKind::Unavailable, libc::EAGAIN, message));
        }
        Ok(None)
    }
}
