//! The sentences for what the name space refuses. The errno is Linux's; the sentence names the thing.

use base::{Error, Reason};

pub(crate) fn show(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

pub(crate) fn above_level(what: &str, needed: u32, agreed: u32) -> Error {
    Error::namespace(
        libc::EOPNOTSUPP,
        format!(
            "{what} needs cluster level {needed}, this cluster has {agreed}; run the newer software on every master"
        ),
    )
}

/// An inode given by number that is not there (any more).
pub(crate) fn no_inode(inode: u64) -> Error {
    Error::stale(format!("inode {inode} does not exist any more; look the path up again"))
}

pub(crate) fn no_entry(parent: u64, name: &[u8]) -> Error {
    Error::namespace(libc::ENOENT, format!("{} does not exist in directory {parent}", show(name)))
}

pub(crate) fn exists(parent: u64, name: &[u8]) -> Error {
    Error::namespace(libc::EEXIST, format!("{} exists in directory {parent} already", show(name)))
}

pub(crate) fn removed_directory(inode: u64) -> Error {
    Error::namespace(libc::ENOENT, format!("directory {inode} was removed; nothing can be made in it"))
}

pub(crate) fn not_a_directory(inode: u64) -> Error {
    Error::namespace(libc::ENOTDIR, format!("inode {inode} is not a directory"))
}

pub(crate) fn is_a_directory(inode: u64) -> Error {
    Error::namespace(libc::EISDIR, format!("inode {inode} is a directory"))
}

pub(crate) fn not_a_file(inode: u64) -> Error {
    Error::namespace(libc::EINVAL, format!("inode {inode} is not a regular file"))
}

/// Its content is in the kernel that opens it, never here.
pub(crate) fn no_content(inode: u64) -> Error {
    let message = format!("inode {inode} is a fifo, socket or device; open it through a mount");
    Error::namespace(libc::ENXIO, message)
}

pub(crate) fn is_a_symlink(inode: u64) -> Error {
    Error::namespace(libc::ELOOP, format!("inode {inode} is a symbolic link; resolve it first"))
}

pub(crate) fn not_empty(inode: u64) -> Error {
    Error::namespace(libc::ENOTEMPTY, format!("directory {inode} is not empty"))
}

pub(crate) fn too_many_links(inode: u64) -> Error {
    Error::namespace(libc::EMLINK, format!("inode {inode} has as many links as it may have"))
}

pub(crate) fn file_too_big(inode: u64) -> Error {
    Error::namespace(libc::EFBIG, format!("inode {inode} would exceed {} bytes", base::limits::MAX_FILE_BYTES))
}

pub(crate) fn denied(inode: u64) -> Error {
    Error::namespace(libc::EACCES, format!("the permissions of inode {inode} do not allow this"))
}

pub(crate) fn not_owner(inode: u64) -> Error {
    Error::namespace(libc::EPERM, format!("only the owner of inode {inode} or root may do this"))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::namespace(libc::EINVAL, message)
}

pub(crate) fn no_xattr(inode: u64, name: &[u8]) -> Error {
    Error::namespace(libc::ENODATA, format!("inode {inode} has no attribute {}", show(name)))
}

pub(crate) fn no_xattr_space(name: &[u8]) -> Error {
    Error::namespace(libc::EOPNOTSUPP, format!("attributes like {} are not kept here", show(name)))
}

pub(crate) fn unsupported(what: &str) -> Error {
    Error::namespace(libc::EOPNOTSUPP, format!("the name space does not answer {what} here"))
}

pub(crate) fn no_cluster() -> Error {
    Error::unavailable("the cluster has no configuration yet; wait until its first leader wrote it")
}

pub(crate) fn no_session(session: u64) -> Error {
    Error::stale(format!("session {session} has ended; register a new one")).because(Reason::NoSession)
}

pub(crate) fn converting(inode: u64, session: u64) -> Error {
    Error::namespace(libc::EBUSY, format!("session {session} moves inode {inode} into chunks just now; ask again"))
        .because(Reason::TurnTaken)
}

pub(crate) fn appending(inode: u64, session: u64) -> Error {
    Error::namespace(libc::EBUSY, format!("session {session} appends to inode {inode} just now; ask again"))
        .because(Reason::TurnTaken)
}

pub(crate) fn turn_lost(inode: u64) -> Error {
    Error::stale(format!("the turn to append to inode {inode} has ended; take a new one and send the bytes again"))
        .because(Reason::TurnLost)
}

/// Not that chunk, or no chunk, lies at this place of the file.
pub(crate) fn moved(inode: u64, index: u64, chunk: u64) -> Error {
    Error::stale(format!("chunk {chunk} is not at place {index} of inode {inode} any more; ask for a grant"))
        .because(Reason::ChunkMoved)
}

pub(crate) fn no_chunk(chunk: u64) -> Error {
    Error::stale(format!("chunk {chunk} does not exist any more; ask for the map again"))
}

pub(crate) fn other_version(chunk: u64, asked: u32, committed: u32) -> Error {
    Error::stale(format!("chunk {chunk} is at version {committed}, not {asked}; ask for the map again"))
        .because(Reason::ChunkMoved)
}
