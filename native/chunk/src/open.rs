//! Opening a store's directories: whose they are, what they hold, and which copy of a chunk counts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Error, Result};

use crate::disk::Disk;
use crate::env::Env;
use crate::fs::{Access, Fs};
use crate::identity::{Identity, check_owner, is_empty};
use crate::layout::{HEADER_SPACE, Headers, choose_header};
use crate::probe::{Probe, probe};
use crate::slot::{Shared, Slot, read_up_to};
use crate::types::StoreConfig;

/// A configured directory as it came up.
pub(crate) enum Place {
    Open(Arc<Disk>),
    /// With the sentence that says why, and the mend.
    Failed(PathBuf, String),
}

/// What the scan of one disk found.
#[derive(Default)]
struct Scan {
    slots: Vec<Arc<Slot>>,
    damaged: u64,
}

/// Open every directory. Foreign ones are an error; unusable ones are left out with a sentence.
pub(crate) fn open_places(config: &StoreConfig, shared: &Arc<Shared>) -> Result<Vec<Place>> {
    let mut identities: Vec<Option<Identity>> = Vec::new();
    let mut troubles: Vec<Option<String>> = Vec::new();
    for (index, path) in config.disks.iter().enumerate() {
        let fs = shared.env.fs(index);
        match usable(&fs, path).and_then(|()| Ok(Identity::load(&fs, path)?)) {
            Ok(identity) => {
                if let Some(identity) = &identity {
                    check_owner(path, identity, &config.cluster_id, config.server_id)?;
                }
                identities.push(identity);
                troubles.push(None);
            }
            Err(Trouble::Refused(error)) => return Err(error),
            Err(Trouble::Disk(why)) => {
                identities.push(None);
                troubles.push(Some(why));
            }
        }
    }
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (path, identity) in config.disks.iter().zip(&identities) {
        let Some(identity) = identity else { continue };
        known.extend(identity.siblings.clone());
        let is_there = |other: PathBuf| {
            let Some(at) = config.disks.iter().position(|disk| *disk == other && other != *path) else { return false };
            let there = Identity::load(&shared.env.fs(at), &other);
            there.is_ok_and(|there| there.is_some_and(|there| there.disk_uuid == identity.disk_uuid))
        };
        if known.insert(identity.disk_uuid.clone(), path.clone()).is_some_and(is_there) {
            let message =
                format!("{} is a copy of another configured disk; configure only one of them", path.display());
            return Err(Error::namespace(libc::EINVAL, message));
        }
    }
    let mut places = Vec::new();
    for (index, path) in config.disks.iter().enumerate() {
        let place = match troubles[index].take() {
            Some(why) => Place::Failed(path.clone(), why),
            None => match open_disk(config, index, identities[index].take(), &mut known, shared) {
                Ok(disk) => Place::Open(disk),
                Err(Trouble::Refused(error)) => return Err(error),
                Err(Trouble::Disk(why)) => Place::Failed(path.clone(), why),
            },
        };
        if let Place::Failed(path, why) = &place {
            tracing::warn!(disk = %path.display(), "{why}");
        }
        places.push(place);
    }
    remember_siblings(&places, &known);
    Ok(places)
}

/// Why a directory is not opened.
enum Trouble {
    /// The whole store refuses: a wrong configuration.
    Refused(Error),
    /// This disk is out; the others work.
    Disk(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        match error.kind {
            base::ErrorKind::Namespace => Trouble::Refused(error),
            _ => Trouble::Disk(error.message),
        }
    }
}

/// Whether the path is a directory that can be listed.
fn usable(fs: &Fs, path: &Path) -> std::result::Result<(), Trouble> {
    let is_dir = fs.is_dir(path).map_err(|error| {
        Trouble::Disk(format!(
            "{} cannot be used ({error}); create or mount it, then restart the chunkserver",
            path.display()
        ))
    })?;
    if !is_dir {
        let message = format!("{} is not a directory; name a directory per disk", path.display());
        return Err(Trouble::Refused(Error::namespace(libc::ENOTDIR, message)));
    }
    fs.list(path).map(drop).map_err(|error| {
        Trouble::Disk(format!("{} cannot be read ({error}); check its rights and its file system", path.display()))
    })
}

fn open_disk(
    config: &StoreConfig,
    index: usize,
    identity: Option<Identity>,
    known: &mut BTreeMap<String, PathBuf>,
    shared: &Arc<Shared>,
) -> std::result::Result<Arc<Disk>, Trouble> {
    let (path, fs) = (&config.disks[index], shared.env.fs(index));
    let broken = |doing: &str, error: io::Error| {
        Trouble::Disk(format!("{doing} {} failed ({error}); check its rights and its file system", path.display()))
    };
    let directory = fs.open_dir(path).map_err(|error| broken("opening", error))?;
    directory.lock().map_err(|error| match error.raw_os_error() {
        Some(libc::EWOULDBLOCK) => {
            let message = format!("{} is in use by another chunkserver; stop that one first", path.display());
            Trouble::Refused(Error::namespace(libc::EBUSY, message))
        }
        _ => broken("locking", error),
    })?;
    let identity = match identity {
        Some(identity) => identity,
        None => format_disk(config, &fs, path, known)?,
    };
    let uuid = identity.uuid_bytes().ok_or_else(|| broken("reading", io::Error::from_raw_os_error(libc::EINVAL)))?;
    let read_only =
        fs.create_dir(&path.join("chunks")).err().filter(|error| error.kind() != io::ErrorKind::AlreadyExists);
    let read_only =
        read_only.or_else(|| write_test(&fs, path).err().filter(|error| error.raw_os_error() == Some(libc::EROFS)));
    let measured = match read_only {
        None if fs.is_real() => probe(path, config.direct_io),
        _ => Probe::NONE,
    };
    let disk = Disk::new(index, path, directory, uuid, measured, config.reserve_bytes, shared.clone());
    if let Some(error) = read_only {
        disk.set_read_only(format!(
            "{} takes no writes ({error}); check its file system, remount it, then restart the chunkserver",
            path.display()
        ));
    }
    Ok(Arc::new(disk))
}

/// Whether the directory takes new files. A full disk does not count as read-only.
fn write_test(fs: &Fs, path: &Path) -> io::Result<()> {
    let file = path.join("mooseng-probe");
    fs.open(&file, Access::CREATE)?;
    fs.unlink(&file)
}

/// Give an empty directory its identity.
fn format_disk(
    config: &StoreConfig,
    fs: &Fs,
    path: &Path,
    known: &mut BTreeMap<String, PathBuf>,
) -> std::result::Result<Identity, Trouble> {
    let broken = |error: io::Error| {
        Trouble::Disk(format!("formatting {} failed ({error}); check its rights and its file system", path.display()))
    };
    if !is_empty(fs, path).map_err(broken)? {
        let message = format!(
            "{} holds files that are not of a chunkserver disk; give an empty directory, or empty this one",
            path.display()
        );
        return Err(Trouble::Refused(Error::namespace(libc::ENOTEMPTY, message)));
    }
    if let Some((uuid, _)) = known.iter().find(|(_, at)| *at == path) {
        return Err(Trouble::Disk(format!(
            "{} is empty but was disk {uuid} of this server; mount it, or configure another path for a new disk",
            path.display()
        )));
    }
    if config.cluster_id.is_empty() {
        let message =
            format!("{} has no cluster id yet; start the masters, which know it, or configure it", path.display());
        return Err(Trouble::Refused(Error::namespace(libc::EINVAL, message)));
    }
    let mut identity = Identity::new(fs, &config.cluster_id, config.server_id).map_err(broken)?;
    identity.save(fs, path).map_err(broken)?;
    tracing::info!(disk = %path.display(), uuid = identity.disk_uuid, "formatted an empty directory");
    known.insert(identity.disk_uuid.clone(), path.to_path_buf());
    Ok(identity)
}

/// Let every disk name all others, so that a missing mount is not taken for a new disk.
fn remember_siblings(places: &[Place], known: &BTreeMap<String, PathBuf>) {
    for place in places {
        let Place::Open(disk) = place else { continue };
        let Ok(Some(mut identity)) = Identity::load(&disk.fs, &disk.path) else { continue };
        if identity.siblings == *known || !disk.writable() {
            continue;
        }
        identity.siblings = known.clone();
        if let Err(error) = identity.save(&disk.fs, &disk.path) {
            tracing::warn!(disk = %disk.path.display(), %error, "cannot note the other disks; a missing mount may look like a new disk");
        }
    }
}

/// Find all chunks. The index has each chunk once: the highest version, then the latest incarnation; losers are freed.
pub(crate) fn scan_all(places: &[Place], env: &Env) -> Result<BTreeMap<u64, Arc<Slot>>> {
    let disks = places.iter().filter_map(|place| match place {
        Place::Open(disk) => Some(disk.clone()),
        Place::Failed(..) => None,
    });
    let scans: Vec<Scan> = if env.has_threads() {
        std::thread::scope(|scope| {
            let running: Vec<_> = disks.map(|disk| (disk.clone(), scope.spawn(move || scan(&disk)))).collect();
            let panicked = || Err(Error::unavailable("the scan panicked"));
            running.into_iter().map(|(disk, scan)| scanned(&disk, scan.join().unwrap_or_else(|_| panicked()))).collect()
        })
    } else {
        disks.map(|disk| scanned(&disk, scan(&disk))).collect()
    };
    let mut index: BTreeMap<u64, Arc<Slot>> = BTreeMap::new();
    for scan in scans {
        if scan.damaged > 0 {
            tracing::warn!(
                slots = scan.damaged,
                "slots without a readable header are left aside; their chunks count as missing"
            );
        }
        for slot in scan.slots {
            let rank = |slot: &Slot| (slot.version(), slot.incarnation);
            let loser = match index.get(&slot.id) {
                Some(held) if rank(held) >= rank(&slot) => Some(slot),
                _ => index.insert(slot.id, slot),
            };
            if let Some(loser) = loser
                && let Err(error) = loser.free()
            {
                tracing::warn!(chunk = loser.id, "an older duplicate stays until the next start: {error}");
            }
        }
    }
    Ok(index)
}

/// What a scan found; a disk whose scan failed is out.
fn scanned(disk: &Disk, scan: Result<Scan>) -> Scan {
    scan.unwrap_or_else(|error| {
        disk.fence(format!("scanning {} failed: {}", disk.path.display(), error.message));
        Scan::default()
    })
}

/// Read the headers of one disk's slots.
fn scan(disk: &Arc<Disk>) -> Result<Scan> {
    let mut scan = Scan::default();
    let chunks = disk.path.join("chunks");
    let listing = |path: &Path| -> Result<Vec<PathBuf>> {
        disk.fs.list(path).map_err(|error| disk.error(&format!("listing {}", path.display()), &error))
    };
    let mut numbers = Vec::new();
    for folder in listing(&chunks)?.into_iter().filter(|path| disk.fs.is_dir(path).unwrap_or(false)) {
        for path in listing(&folder)? {
            let stem =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| u64::from_str_radix(stem, 16).ok());
            match stem.filter(|&number| disk.data_path(number) == path || disk.sums_path(number) == path) {
                Some(number) => numbers.push(number),
                None => tracing::warn!(path = %path.display(), "not a file of the chunk store; left alone"),
            }
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    disk.set_next_slot(numbers.last().map_or(0, |last| last + 1));
    for number in numbers.into_iter().rev() {
        // The server that made it may have been killed before it made the name durable.
        disk.note_name(number);
        match read_headers(disk, number)? {
            Headers::Found(header, at) if header.used => {
                disk.shared.saw_incarnation(header.incarnation);
                scan.slots.push(Arc::new(Slot::stored(disk.clone(), header, at)));
            }
            // The server that freed it may have been killed before it made that durable.
            Headers::Found(..) => disk.give_freed(number, warm_bytes(disk, number)),
            Headers::Blank => disk.give_slot(number, warm_bytes(disk, number)),
            Headers::Damaged => {
                scan.damaged += 1;
                tracing::warn!(path = %disk.sums_path(number).display(), "both header copies are damaged; remove the slot's two files to reuse its space");
            }
        }
    }
    Ok(scan)
}

fn read_headers(disk: &Disk, number: u64) -> Result<Headers> {
    let path = disk.sums_path(number);
    let mut bytes = [0; 2 * HEADER_SPACE as usize];
    let read = match disk.fs.open(&path, Access::READ) {
        Ok(file) => read_up_to(&file, &mut bytes, 0),
        // A data file alone: its creation did not finish.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Headers::Blank),
        Err(error) => Err(error),
    };
    match read {
        Ok(length) => Ok(choose_header(&bytes[..length], number, &disk.uuid)),
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            tracing::warn!(path = %path.display(), %error, "a table file cannot be read");
            Ok(Headers::Damaged)
        }
        Err(error) => Err(disk.error(&format!("reading {}", path.display()), &error)),
    }
}

/// What a free slot's data file keeps allocated; unreadable counts as nothing.
fn warm_bytes(disk: &Disk, number: u64) -> u64 {
    disk.fs.open(&disk.data_path(number), Access::READ).and_then(|file| file.allocated_bytes()).unwrap_or(0)
}

/// Ask the directories for their cluster id before the store is opened.
pub(crate) fn read_cluster_id(disks: &[PathBuf]) -> Result<Option<String>> {
    let mut found: Option<(String, &PathBuf)> = None;
    for path in disks {
        let identity = match Identity::load(&Fs::Real, path) {
            Ok(Some(identity)) => identity,
            Ok(None) => continue,
            Err(error) if error.kind == base::ErrorKind::Namespace => return Err(error),
            Err(error) => {
                tracing::warn!(disk = %path.display(), "cannot ask for its cluster id: {error}");
                continue;
            }
        };
        match &found {
            Some((id, other)) if *id != identity.cluster_id => {
                let message = format!(
                    "{} belongs to cluster {id} and {} to cluster {}; configure disks of one cluster",
                    other.display(),
                    path.display(),
                    identity.cluster_id
                );
                return Err(Error::namespace(libc::EPERM, message));
            }
            Some(_) => {}
            None => found = Some((identity.cluster_id, path)),
        }
    }
    Ok(found.map(|(id, _)| id))
}
