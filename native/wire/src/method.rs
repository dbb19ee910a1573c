//! The numbers of every call. Once given, a number is never used for another one.

use base::{Error, Result};

macro_rules! methods {
    ($($(#[$about:meta])* $name:ident = $number:literal,)+) => {
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[$about])* $name = $number,)+
        }

        impl Method {
            pub const ALL: &[Method] = &[$(Method::$name),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Method::$name => stringify!($name),)+
                }
            }
        }
    };
}

methods! {
    /// Hello -> Hello. First on every connection.
    Hello = 1,
    /// Empty -> Empty.
    Ping = 2,

    /// NameRequest -> NameReply. To the leader.
    Name = 10,
    /// RenewSession -> RenewReply. To the leader.
    Renew = 11,

    /// ServerHello -> ServerWelcome.
    ServerHello = 20,
    /// Inventory -> Empty.
    Inventory = 21,
    /// Heartbeat -> HeartbeatReply.
    Heartbeat = 22,
    /// ServerCommand, pushed by the leader; no reply frame.
    ServerCommand = 23,
    /// CommandResult -> Empty.
    CommandResult = 24,

    /// ViewRequest -> ClusterView. Any master answers from what it knows.
    View = 30,
    /// FileInfoRequest -> FileInfo.
    FileInfo = 31,
    /// AdminCommand -> AdminReply.
    Admin = 32,
    /// Intents -> IntentsReply.
    Intents = 33,
    /// TransferLeader -> AdminReply.
    Transfer = 34,

    /// ChunkWrite + payload -> ChunkWriteReply.
    ChunkWrite = 40,
    /// ChunkTrim -> ChunkWriteReply.
    ChunkTrim = 41,
    /// ChunkSync -> ChunkSyncReply.
    ChunkSync = 42,
    /// ChunkRead -> ChunkReadReply + payload.
    ChunkRead = 43,
    /// ChunkMap -> ChunkMapReply.
    ChunkMap = 44,
    /// ChunkFill -> ChunkWriteReply.
    ChunkFill = 45,
    /// ChunkCopy -> ChunkWriteReply.
    ChunkCopy = 46,

    /// AppendRequest -> AppendReply.
    RaftAppend = 60,
    /// VoteRequest -> VoteReply.
    RaftVote = 61,
    /// SnapshotPiece + payload -> SnapshotReply.
    RaftSnapshot = 62,
    /// TransferRequest -> Empty.
    RaftTransfer = 63,
    /// RaftStatusRequest -> RaftStatusReply. Any master, also one without a log.
    RaftStatus = 64,
    /// JoinRequest -> JoinReply. To the leader.
    RaftJoin = 65,
}

impl TryFrom<u16> for Method {
    type Error = Error;
    fn try_from(number: u16) -> Result<Method> {
        Method::ALL.iter().copied().find(|method| *method as u16 == number).ok_or_else(|| {
            Error::namespace(
                libc::EOPNOTSUPP,
                format!("method {number} is not one of this version; are both sides of one release?"),
            )
        })
    }
}
