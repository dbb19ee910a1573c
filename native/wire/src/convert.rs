//! Between the error of native code and the one on the wire.

use base::{Error, ErrorKind, Reason};

use crate::proto;

impl From<Error> for proto::Error {
    fn from(error: Error) -> proto::Error {
        proto::Error {
            errno: error.errno,
            kind: error.kind as i32,
            message: error.message,
            leader: error.leader.unwrap_or_default(),
            term: 0,
            failed_servers: error.failed_servers,
            reason: error.reason as i32,
        }
    }
}

impl From<proto::Error> for Error {
    fn from(error: proto::Error) -> Error {
        let kind = match error.kind() {
            proto::ErrorKind::ErrorNamespace => ErrorKind::Namespace,
            proto::ErrorKind::ErrorStale => ErrorKind::Stale,
            proto::ErrorKind::ErrorUnavailable => ErrorKind::Unavailable,
            proto::ErrorKind::ErrorIntegrity => ErrorKind::Integrity,
        };
        let reason = match error.reason() {
            proto::Reason::None => Reason::None,
            proto::Reason::NoSession => Reason::NoSession,
            proto::Reason::ChunkMoved => Reason::ChunkMoved,
            proto::Reason::TurnTaken => Reason::TurnTaken,
            proto::Reason::TurnLost => Reason::TurnLost,
            proto::Reason::Restarted => Reason::Restarted,
            proto::Reason::Overtaken => Reason::Overtaken,
        };
        let errno = if (1..4096).contains(&error.errno) { error.errno } else { libc::EIO };
        Error {
            errno,
            kind,
            message: error.message,
            leader: (!error.leader.is_empty()).then_some(error.leader),
            failed_servers: error.failed_servers,
            reason,
        }
    }
}

impl proto::DiskStatus {
    /// Whether what is there can still be changed; a full disk takes overwrites and deletes.
    pub fn takes_writes(&self) -> bool {
        matches!(self.condition(), proto::DiskCondition::DiskOk | proto::DiskCondition::DiskFull)
    }
}
