//! Answers `NameRequest` and `RenewSession`: reads from the applied state under the leader's lease, mutations through
//! the log, and what clients hold open in the leader's memory. Checks no permission itself: that is the state's part.

use std::time::Instant;

use base::{Error, Result};
use bytes::Bytes;
use prost::Message;
use wire::proto::{self, FsStats, NameReply, NameRequest, RenewReply, RenewSession, name_request::Op};

use crate::commit::COMMAND_BYTES;
use crate::node::Node;
use crate::turns::{End, Place};

/// Entries of one page of a directory: at most 1.5 MB with attributes and the longest names.
const MOST_ENTRIES: u32 = 4096;
/// Files this cluster could still hold, as statfs tells: bounded by the masters' memory only.
const FREE_INODES: u64 = 1 << 32;

impl Node {
    /// -> an encoded `NameReply`.
    pub async fn name(&self, message: Bytes) -> Result<Bytes> {
        self.lead().await?;
        let bytes = message.len();
        if bytes > COMMAND_BYTES {
            return Err(Error::namespace(
                libc::EMSGSIZE,
                format!("a request of {bytes} bytes was refused; at most {COMMAND_BYTES}"),
            ));
        }
        let mut request = NameRequest::decode(message)
            .map_err(|error| Error::integrity(format!("a request could not be read: {error}")))?;
        self.metrics.op(&request);
        self.check_level(&request)?;
        if !request.op.as_ref().is_some_and(wire::op::is_change) {
            if let Some(Op::Readdir(page)) = &mut request.op {
                page.max_entries = page.max_entries.min(MOST_ENTRIES);
            }
            return Ok(self.consensus.read(|| self.read(&request))?.encode_to_vec().into());
        }
        wire::level::fit(&mut request, || self.machine.state().level());
        let _place = self.wait_for_turn(&request).await;
        let registers = matches!(request.op, Some(Op::RegisterSession(_)));
        let reply = self.committer.name(request, bytes).await?;
        if registers { self.complete_registration(reply) } else { Ok(reply) }
    }

    /// Held until the request was carried out. `None`: it moves the end of no file.
    async fn wait_for_turn(&self, request: &NameRequest) -> Option<Place<'_>> {
        let inode = self.machine.state().moved_end(request)?;
        let end = || match self.machine.state().appender(inode, base::time::wall_ns()) {
            None => End::Free,
            Some(session) if session == request.session => End::Own,
            Some(_) => End::Taken,
        };
        Some(self.machine.soft.turns.enter(inode, end).await)
    }

    fn read(&self, request: &NameRequest) -> NameReply {
        match &request.op {
            Some(Op::Open(open)) => self.open(request, open.inode),
            Some(Op::Release(release)) => self.release(request, &release.inodes),
            Some(Op::Statfs(_)) => self.statfs(),
            _ => self.machine.state().query(request),
        }
    }

    /// Rights are the state's answer; the handle is noted before any later command can purge the inode.
    fn open(&self, request: &NameRequest, inode: u64) -> NameReply {
        let state = self.machine.state();
        if !state.has_session(request.session) {
            return refused(no_session(request.session));
        }
        let reply = state.query(request);
        if reply.error.is_none() && !self.machine.soft.sessions.lock().open(request.session, inode, Instant::now()) {
            return refused(Error::namespace(libc::ENOENT, format!("inode {inode} was removed")));
        }
        reply
    }

    fn release(&self, request: &NameRequest, inodes: &[u64]) -> NameReply {
        self.machine.soft.sessions.lock().release(request.session, request.op_id, inodes, Instant::now());
        NameReply::default()
    }

    fn statfs(&self) -> NameReply {
        let (total_bytes, free_bytes) = self.servers.lock().capacity(self.copies().max(1) as usize);
        let inodes = self.machine.state().counters().inodes;
        let statfs = FsStats { total_bytes, free_bytes, inodes: inodes + FREE_INODES, free_inodes: FREE_INODES };
        NameReply { statfs: Some(statfs), ..NameReply::default() }
    }

    /// The timeout is this master's setting, not part of the state.
    fn complete_registration(&self, reply: Bytes) -> Result<Bytes> {
        let mut reply: NameReply = wire::link::decode(&reply)?;
        if reply.error.is_none() {
            reply.session_timeout_ms = self.session_timeout_ms();
            reply.now_ns = base::time::wall_ns();
        }
        Ok(reply.encode_to_vec().into())
    }

    fn session_timeout_ms(&self) -> u32 {
        u32::try_from(self.config.session_timeout_ms).unwrap_or(u32::MAX)
    }

    pub async fn renew(&self, request: &RenewSession) -> Result<RenewReply> {
        let term = self.lead().await?;
        self.consensus.read(|| self.renewed(request, term))
    }

    fn renewed(&self, request: &RenewSession, term: u64) -> RenewReply {
        // The state's lock is held so that an expiry cannot come between the check and the renewal.
        let state = self.machine.state();
        if !state.has_session(request.session) {
            let error = proto::Error { term, ..no_session(request.session).into() };
            return RenewReply { error: Some(error), ..RenewReply::default() };
        }
        let mut sessions = self.machine.soft.sessions.lock();
        if request.alive {
            sessions.alive(request.session, Instant::now());
        } else {
            sessions.renew(request.session, &request.open_inodes, Instant::now());
        }
        drop(sessions);
        let now_ns = base::time::wall_ns();
        RenewReply { error: None, session_timeout_ms: self.session_timeout_ms(), term, now_ns }
    }
}

fn no_session(session: u64) -> Error {
    Error::stale(format!("session {session} is not registered or expired; register again"))
        .because(base::Reason::NoSession)
}

fn refused(error: Error) -> NameReply {
    NameReply { error: Some(error.into()), ..NameReply::default() }
}
