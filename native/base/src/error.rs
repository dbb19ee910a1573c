//! One error type for all native code: an errno for the application, a kind for the retry loop, a sentence for the reader.

use std::fmt;

/// What the caller can do about it. Same numbers as `ErrorKind` in `common.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The answer is no; asking again will not help.
    Namespace = 0,
    /// Your view is old: refresh, then retry.
    Stale = 1,
    /// Nobody could answer: retry until the deadline.
    Unavailable = 2,
    /// Stored bytes are wrong: try another copy, report.
    Integrity = 3,
}

/// What exactly was refused, for a caller that acts on it. Same numbers as `Reason` in `common.proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    #[default]
    None = 0,
    /// The session is not registered or has expired.
    NoSession = 1,
    /// The chunk has another version, or another chunk or none is in its place.
    ChunkMoved = 2,
    /// Another client appends, or moves the inline bytes: ask again.
    TurnTaken = 3,
    /// The append turn went to another client.
    TurnLost = 4,
    /// The chunkserver was started anew since these writes.
    Restarted = 5,
    /// A later round of the same writer has been here.
    Overtaken = 6,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Positive Linux errno.
    pub errno: i32,
    pub kind: ErrorKind,
    /// One sentence that names the thing and the mend.
    pub message: String,
    /// The leader's client address, when the sender knows it and is not it.
    pub leader: Option<String>,
    /// Chunkservers that did not take part in a chain.
    pub failed_servers: Vec<u32>,
    pub reason: Reason,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, errno: i32, message: impl Into<String>) -> Error {
        Error { errno, kind, message: message.into(), leader: None, failed_servers: Vec::new(), reason: Reason::None }
    }

    pub fn namespace(errno: i32, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Namespace, errno, message)
    }

    pub fn stale(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Stale, libc::ESTALE, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unavailable, libc::EIO, message)
    }

    pub fn integrity(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Integrity, libc::EBADMSG, message)
    }

    pub fn not_leader(leader: Option<String>) -> Error {
        let message = match &leader {
            Some(address) => format!("this master is not the leader; ask {address}"),
            None => "this master is not the leader and knows none yet; ask again shortly".to_string(),
        };
        Error { leader, ..Error::new(ErrorKind::Unavailable, libc::EAGAIN, message) }
    }

    pub fn with_failed(mut self, server_id: u32) -> Error {
        if !self.failed_servers.contains(&server_id) {
            self.failed_servers.push(server_id);
        }
        self
    }

    pub fn because(mut self, reason: Reason) -> Error {
        self.reason = reason;
        self
    }

    /// Put what was being done before the sentence.
    pub fn context(mut self, what: impl fmt::Display) -> Error {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (errno {})", self.message, self.errno)
    }
}

impl std::error::Error for Error {}

/// I/O on this machine: the errno stays, so ENOSPC and EROFS reach the application as they are.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Error::new(ErrorKind::Unavailable, errno, error.to_string())
    }
}
