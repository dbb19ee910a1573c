//! Walk a path on the server, symbolic links included. Source: path_resolution(7).

use base::limits::{MAX_PATH_BYTES, MAX_SYMLINKS};
use base::{Error, Result};
use wire::proto::{NameReply, Resolve};

use super::attr_reply;
use super::lookup::step;
use crate::access::Caller;
use crate::errors;
use crate::inode::{Body, ROOT};
use crate::tables::Tables;

/// A leading `/` of the path means nothing (it is relative to `start`); that of a symbolic link's target means the root.
pub(crate) fn resolve(tables: &Tables, caller: &Caller, op: &Resolve) -> Result<NameReply> {
    if op.path.len() > MAX_PATH_BYTES {
        let message = format!("a path of {} bytes is longer than {MAX_PATH_BYTES}", op.path.len());
        return Err(Error::namespace(libc::ENAMETOOLONG, message));
    }
    let mut at = if op.start == 0 { ROOT } else { op.start };
    tables.inode(at)?;
    // Components still to walk, the next one last; an empty one demands a directory (a trailing slash).
    let mut left = components(&op.path);
    let mut followed = 0;
    while let Some(name) = left.pop() {
        if name.is_empty() {
            tables.directory(at)?;
            continue;
        }
        let found = step(tables, caller, at, name)?;
        match &tables.inode(found)?.body {
            Body::Symlink(target) if op.follow || !left.is_empty() => {
                followed += 1;
                if followed > MAX_SYMLINKS {
                    let message = format!("more than {MAX_SYMLINKS} symbolic links on the way; is there a loop?");
                    return Err(Error::namespace(libc::ELOOP, message));
                }
                if target.starts_with(b"/") {
                    at = ROOT;
                }
                left.extend(components(target));
            }
            _ => at = found,
        }
    }
    if op.path.is_empty() && op.follow && tables.inode(at)?.is_symlink() {
        return Err(errors::is_a_symlink(at));
    }
    Ok(attr_reply(tables, at))
}

/// The names of a path, last first; a trailing slash is an empty name.
fn components(path: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
    if path.ends_with(b"/") {
        names.push(b"");
    }
    names.reverse();
    names
}
