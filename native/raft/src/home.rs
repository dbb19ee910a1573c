//! The data directory of one member: identity, vote, log, snapshots. Opens it, checks that it all fits together, and
//! sets a damaged one aside. Nothing is ever deleted here.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use base::{Error, ErrorKind, Result, crc};
use serde::{Deserialize, Serialize};

use crate::RaftConfig;
use crate::files::{random_bytes, sync_directory, write_atomically};
use crate::log::open::{OpenError, Opened, open};
use crate::log::progress::ProgressFile;
use crate::log::segment::Folder;
use crate::log::store::LogStore;
use crate::outdated;
use crate::snapshot::Snapshots;
use crate::types::{Vote, term_of};
use crate::vote::{Stored, VoteFile};

/// Who the directory belongs to. Kept in `identity`, one line of JSON and one with its CRC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    pub cluster_id: String,
    pub node_id: u64,
    /// Random; a directory made anew has another one.
    pub incarnation: u64,
    /// A damaged log was set aside before this directory was made: it is never the start of a new cluster.
    pub lost: bool,
}

const FORMAT: u32 = 1;

pub struct Home {
    pub identity: Identity,
    pub log: LogStore,
    pub vote: Option<Vote>,
    pub snapshots: Snapshots,
    /// Held while the process lives.
    pub lock: File,
}

/// Where a member keeps everything.
pub fn directory(config: &RaftConfig) -> PathBuf {
    config.data_dir.join("raft")
}

/// Open the member's directory. A damaged one is set aside when other members may hold what it held; an older copy, of
/// which an earlier run learnt that it was replaced, always.
pub fn open_home(config: &RaftConfig) -> Result<Home> {
    let path = directory(config);
    match try_open(config, &path, false) {
        Ok(home) => Ok(home),
        Err(OpenError::Failed(error)) => Err(error),
        Err(OpenError::Outdated(why)) => {
            let aside = set_aside(&path, "outdated")?;
            tracing::warn!("{why}; the directory was set aside as {}", aside.display());
            anew(config, &path)
        }
        Err(OpenError::Damaged(what)) if config.peers.len() == 1 => Err(Error::integrity(format!(
            "{what}; this is the only master, so nothing can replace it: restore {} from a backup, together with the \
             chunkservers' directories of the same backup. Chunkservers that remember more than it does refuse to be used by \
             it until you decide (docs/deploy.md, \"Backup and leaving\")",
            path.display()
        ))),
        Err(OpenError::Damaged(what)) => {
            let aside = set_aside(&path, "damaged")?;
            tracing::error!(
                "{what}; the directory was set aside as {} and everything is fetched from the other masters",
                aside.display()
            );
            anew(config, &path)
        }
    }
}

/// Open an empty directory in the place of one that was set aside.
fn anew(config: &RaftConfig, path: &Path) -> Result<Home> {
    match try_open(config, path, true) {
        Ok(home) => Ok(home),
        Err(OpenError::Failed(error)) => Err(error),
        Err(OpenError::Damaged(what) | OpenError::Outdated(what)) => Err(Error::integrity(what)),
    }
}

fn set_aside(path: &Path, because: &str) -> Result<PathBuf> {
    let stamp = base::time::wall_ns() / 1_000_000;
    let aside = path.with_file_name(format!("raft.{because}-{stamp}"));
    std::fs::rename(path, &aside)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))?;
    Ok(aside)
}

fn try_open(config: &RaftConfig, path: &Path, lost: bool) -> std::result::Result<Home, OpenError> {
    let name = |error: std::io::Error| Error::from(error).context(path.display());
    for folder in [path.to_path_buf(), path.join("log"), path.join("snapshot")] {
        std::fs::create_dir_all(folder).map_err(name)?;
    }
    sync_directory(path).map_err(name)?;
    sync_directory(&config.data_dir).map_err(name)?;
    let lock = lock(path)?;
    if let Some(why) = outdated::marked(path).map_err(name)? {
        return Err(OpenError::Outdated(why));
    }
    let (votes, stored) = VoteFile::open(&path.join("vote")).map_err(name)?;
    let (progress, noted) = ProgressFile::open(&path.join("progress")).map_err(name)?;
    let unused = stored == Stored::Never && std::fs::read_dir(path.join("log")).map_err(name)?.next().is_none();
    let identity = match read_identity(&path.join("identity"))? {
        Some(identity) => check_identity(identity, config, path)?,
        None if unused => make_identity(config, path, lost)?,
        None => return Err(OpenError::Damaged(format!("{} is missing", path.join("identity").display()))),
    };
    let folder =
        Folder { path: path.join("log"), segment_bytes: config.segment_bytes, incarnation: identity.incarnation };
    let opened = open(&folder, &noted)?;
    let vote = check_vote(stored, &opened, path)?;
    let snapshots = Snapshots::open(path.join("snapshot"), &config.cluster_id)?;
    check_reach(&opened, &snapshots, path)?;
    let log = LogStore::start(config.node_id, opened, folder, votes, vote, progress, noted)?;
    Ok(Home { identity, log, vote, snapshots, lock })
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        let error = std::io::Error::from(error);
        let errno = error.raw_os_error().unwrap_or(0);
        let message = format!("{} is in use by another process; end that one first ({error})", path.display());
        Error::new(ErrorKind::Unavailable, errno, message)
    })?;
    Ok(file)
}

fn make_identity(config: &RaftConfig, path: &Path, lost: bool) -> Result<Identity> {
    let identity = Identity {
        format: FORMAT,
        cluster_id: config.cluster_id.clone(),
        node_id: config.node_id,
        incarnation: u64::from_le_bytes(random_bytes()?).max(1),
        lost,
    };
    let json = serde_json::to_string(&identity).map_err(|error| Error::unavailable(error.to_string()))?;
    write_atomically(&path.join("identity"), format!("{json}\n{:08x}\n", crc::crc32c(json.as_bytes())).as_bytes())?;
    Ok(identity)
}

fn read_identity(path: &Path) -> std::result::Result<Option<Identity>, OpenError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::new(),
        Err(error) => return Err(Error::from(error).context(path.display()).into()),
    };
    let (json, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let intact = rest.trim() == format!("{:08x}", crc::crc32c(json.as_bytes()));
    match serde_json::from_str(json) {
        Ok(identity) if intact => Ok(Some(identity)),
        _ => Err(OpenError::Damaged(format!("{} is unreadable", path.display()))),
    }
}

fn check_identity(identity: Identity, config: &RaftConfig, path: &Path) -> Result<Identity> {
    let refuse = |what: String| {
        Err(Error::namespace(
            libc_einval(),
            format!("{} {what}; set the data directory of this master", path.display()),
        ))
    };
    if identity.format != FORMAT {
        return refuse(format!("has format {}, this release reads {FORMAT}", identity.format));
    }
    if identity.cluster_id != config.cluster_id {
        return refuse(format!("belongs to cluster {:?}, not to {:?}", identity.cluster_id, config.cluster_id));
    }
    if identity.node_id != config.node_id {
        return refuse(format!("belongs to master {}, not to {}", identity.node_id, config.node_id));
    }
    Ok(identity)
}

fn libc_einval() -> i32 {
    rustix::io::Errno::INVAL.raw_os_error()
}

fn check_vote(stored: Stored, opened: &Opened, path: &Path) -> std::result::Result<Option<Vote>, OpenError> {
    let last = opened.index.last();
    let damaged = |what: &str| Err(OpenError::Damaged(format!("{} {what}", path.join("vote").display())));
    match (stored, last) {
        (Stored::Damaged, _) => damaged("is unreadable"),
        (Stored::Never, Some(_)) => damaged("is empty although there is a log"),
        (Stored::Vote(vote), Some(last)) if vote.leader_id.term < term_of(&last) => {
            damaged("is older than the log beside it")
        }
        (Stored::Vote(vote), _) => Ok(Some(vote)),
        (Stored::Never, None) => Ok(None),
    }
}

/// What was compacted must be in a snapshot.
fn check_reach(opened: &Opened, snapshots: &Snapshots, path: &Path) -> std::result::Result<(), OpenError> {
    let purged = opened.index.purged();
    if purged.is_some() && snapshots.newest().and_then(|snapshot| snapshot.meta.last_log_id) < purged {
        return Err(OpenError::Damaged(format!(
            "no snapshot in {} reaches to where the log begins",
            path.join("snapshot").display()
        )));
    }
    Ok(())
}
