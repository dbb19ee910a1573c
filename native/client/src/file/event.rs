//! What happens to an open file, and what is to be done about it. Plain values: no socket, no clock, no task.

use std::sync::Arc;

use base::Error;
use wire::proto::{
    self, Attr, ChunkInfo, ChunkRef, ChunkWriteReply, CommitWrite, GrantWrite, NameReply, Replica, TrimDone,
};

use super::pieces::Piece;

/// The clocks at the time of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds on the monotonic clock, from any start.
    pub mono_ms: u64,
    /// Nanoseconds since 1970, as the leader's clock has it.
    pub wall_ns: i64,
}

/// When bytes were written, as this client tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}

impl From<Times> for proto::Times {
    fn from(times: Times) -> proto::Times {
        proto::Times { mtime_ns: times.mtime_ns, ctime_ns: times.ctime_ns }
    }
}

/// Servers to leave out; none: nobody is to blame, only the map was old or the bytes were damaged on their way.
pub type Blame = Vec<u32>;

#[derive(Clone, Debug)]
pub struct Refusal {
    pub error: Error,
    pub blamed: Blame,
}

/// What one server said to a sync.
#[derive(Clone, Debug)]
pub enum Synced {
    /// With what its copy stores now.
    Stable(u32),
    /// It was started anew since our writes: they may be lost there.
    Restarted,
    /// Its copy has another version.
    Moved,
    Failed(Error),
}

#[derive(Debug)]
pub enum Event {
    /// Everything written so far is to be committed. `settle`: and the grants given back, as nothing follows soon.
    Flush {
        settle: bool,
    },
    /// Time passed.
    Tick,
    Fired(Timer),
    /// Attributes as the masters have them.
    Seen(Attr),
    /// The same, after a date was set: the commit that follows must not undo it.
    Dated(Attr),
    /// The answer to Open or GetChunks about chunks `first..first + count`.
    Learned {
        reply: Box<NameReply>,
        first: u64,
        count: u64,
    },
    /// This client changed the size; nothing was dirty then.
    Resized(Attr),
    Granted {
        index: u64,
        outcome: Result<Box<NameReply>, Error>,
    },
    Trimmed {
        index: u64,
        outcome: Result<(), Refusal>,
    },
    TrimTold {
        index: u64,
        outcome: Result<Box<NameReply>, Error>,
    },
    Sent {
        index: u64,
        round: u32,
        seq: u64,
        offset: u32,
        outcome: Result<ChunkWriteReply, Refusal>,
    },
    Synced {
        cycle: u64,
        index: u64,
        server: u32,
        outcome: Synced,
    },
    InlineWritten {
        outcome: Result<Box<NameReply>, Error>,
    },
    Committed {
        cycle: u64,
        outcome: Result<Box<NameReply>, Error>,
    },
    Turn {
        outcome: Result<Box<NameReply>, Error>,
    },
    /// A read of chunk `index` was answered by this start of the server.
    ReadFrom {
        index: u64,
        server: u32,
        boot_id: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Ask again for the grant of this chunk.
    Grant(u64),
    /// Begin another commit.
    Cycle,
    /// Ask again for the turn to append.
    Turn,
    /// Look whether appending has paused.
    Linger,
}

#[derive(Clone, Debug)]
pub enum Action {
    /// To the leader; -> `Granted`.
    Grant { index: u64, request: GrantWrite },
    /// Down the chain of `info`; -> `Sent`.
    Send { index: u64, round: u32, info: Arc<ChunkInfo>, piece: Arc<Piece>, create: bool },
    /// Zero what lies behind the mark of `info` on every copy; -> `Trimmed`.
    Trim { index: u64, info: Arc<ChunkInfo> },
    /// To the leader; -> `TrimTold`.
    TellTrim { index: u64, request: TrimDone },
    /// To one server; -> `Synced`.
    Sync { cycle: u64, index: u64, chunk: ChunkRef, replica: Replica, boot_id: u64 },
    /// To the leader; -> `InlineWritten`.
    WriteInline { offset: u64, data: Vec<u8>, times: Times },
    /// To the leader; -> `Committed`.
    Commit { cycle: u64, request: CommitWrite },
    /// To the leader; -> `Turn`.
    AskTurn,
    /// To the leader; no answer is waited for.
    Release { chunks: Vec<ChunkRef>, abandoned: bool },
    /// -> `Fired`, after about this long.
    Wait { timer: Timer, after_ms: u64 },
    /// Data fetched ahead that overlaps this span is old.
    Forget { start: u64, end: u64 },
    /// Appended bytes lost their place: `reappend` is to be called until it has put all of them.
    Reappend,
    /// Whoever waits for room, for a commit or for a turn looks again.
    Progress,
    /// Written bytes were given up; every handle reports it once.
    GaveUp(Error),
    /// These servers were left out of a write set.
    LeftOut(Vec<u32>),
}

/// Where a write stands after it was offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// The bytes are in the file's care; an append tells where they begin.
    At(u64),
    /// Ask for the body first.
    NeedsBody,
    /// The window is full: offer it again after `Progress`.
    NeedsRoom,
    /// The turn to append is being asked for: offer it again after `Progress`.
    NeedsTurn,
}
