//! A double of a disk that loses power: what a watched folder may hold after a cut at each sync and each change of a name
//! below it. Unsynced bytes are lost, there, or there in part of a page; unsynced names are lost or there.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

const PAGE_BYTES: usize = 4096;
/// Of a page that was being written, so much is new.
const TORN_AT: usize = 20;

static WATCHED: Mutex<Vec<Arc<Mutex<Disk>>>> = Mutex::new(Vec::new());

struct Disk {
    root: PathBuf,
    /// Bytes of each inode at its last sync.
    synced: HashMap<u64, Vec<u8>>,
    /// Inode of each name at the last sync of its folder.
    names: BTreeMap<PathBuf, u64>,
    told: u64,
    images: Vec<Image>,
}

/// What a cut leaves.
pub struct Image {
    /// What the test had told the disk by then.
    pub told: u64,
    pub what: &'static str,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// The folder as it is found after the cut.
    pub fn restored(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in &self.files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        directory
    }
}

/// Ends with its test.
pub struct Watch(Arc<Mutex<Disk>>);

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.lock().retain(|disk| !Arc::ptr_eq(disk, &self.0));
    }
}

/// What is below `root` is durable; what comes is as durable as it is made.
pub fn watch(root: &Path) -> Watch {
    let root = root.canonicalize().unwrap();
    let names: BTreeMap<PathBuf, u64> = below(&root).into_iter().map(|(path, data)| (path, data.ino())).collect();
    let synced = names.iter().map(|(path, inode)| (*inode, std::fs::read(path).unwrap())).collect();
    let disk = Arc::new(Mutex::new(Disk { root, synced, names, told: 0, images: Vec::new() }));
    WATCHED.lock().push(disk.clone());
    Watch(disk)
}

impl Watch {
    /// Images from here on must hold what was promised with this number.
    pub fn tell(&self, number: u64) {
        self.0.lock().told = number;
    }

    /// Every cut so far, and one now.
    pub fn images(self) -> Vec<Image> {
        let mut disk = self.0.lock();
        disk.cut();
        std::mem::take(&mut disk.images)
    }
}

/// Files below `root`.
fn below(root: &Path) -> Vec<(PathBuf, Metadata)> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match std::fs::metadata(&path) {
                Ok(data) if data.is_dir() => folders.push(path),
                Ok(data) => found.push((path, data)),
                // A spare that another thread makes got its name.
                Err(_) => {}
            }
        }
    }
    found
}

impl Disk {
    fn cut(&mut self) {
        let (mut now, mut bytes) = (BTreeMap::new(), HashMap::new());
        for (path, data) in below(&self.root) {
            // Removed by another thread, if it is not there.
            let Ok(content) = std::fs::read(&path) else { continue };
            now.insert(path, data.ino());
            bytes.insert(data.ino(), content);
        }
        let old = |inode: &u64| self.synced.get(inode).cloned().unwrap_or_default();
        let new = |inode: &u64| bytes.get(inode).cloned().unwrap_or_else(|| old(inode));
        let torn = |inode: &u64| torn(&old(inode), &new(inode));
        let images = [
            self.image("nothing unsynced", &self.names, old),
            self.image("names, no bytes", &now, old),
            self.image("parts of pages", &self.names, torn),
            self.image("everything", &now, new),
        ];
        self.images.extend(images);
    }

    fn image(&self, what: &'static str, names: &BTreeMap<PathBuf, u64>, bytes: impl Fn(&u64) -> Vec<u8>) -> Image {
        let relative = |path: &Path| path.strip_prefix(&self.root).unwrap().to_path_buf();
        let files = names.iter().map(|(path, inode)| (relative(path), bytes(inode))).collect();
        Image { told: self.told, what, files }
    }
}

fn torn(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = old.to_vec();
    bytes.resize(old.len().max(new.len()), 0);
    for at in (0..new.len()).step_by(PAGE_BYTES) {
        let end = (at + TORN_AT).min(new.len());
        bytes[at..end].copy_from_slice(&new[at..end]);
    }
    bytes
}

/// Look up who watches `path`.
fn of(path: &Path) -> Option<Arc<Mutex<Disk>>> {
    let path = path.canonicalize().ok()?;
    WATCHED.lock().iter().find(|disk| path.starts_with(&disk.lock().root)).cloned()
}

fn of_file(file: &File) -> Option<Arc<Mutex<Disk>>> {
    of(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
}

pub fn before_sync(file: &File) {
    if let Some(disk) = of_file(file) {
        disk.lock().cut();
    }
}

pub fn after_sync(file: &File) {
    if let Some(disk) = of_file(file) {
        let bytes = std::fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        disk.lock().synced.insert(file.metadata().unwrap().ino(), bytes);
    }
}

/// Never in the middle of a cut that another thread brings about.
pub fn rename(from: &Path, to: &Path) -> std::io::Result<()> {
    let Some(disk) = of(from) else { return std::fs::rename(from, to) };
    let mut disk = disk.lock();
    std::fs::rename(from, to)?;
    disk.cut();
    Ok(())
}

pub fn after_sync_of_names(directory: &Path) {
    if let Some(disk) = of(directory) {
        let directory = directory.canonicalize().unwrap();
        let mut disk = disk.lock();
        disk.names.retain(|path, _| path.parent() != Some(&directory));
        let here = below(&directory).into_iter().filter(|(path, _)| path.parent() == Some(&directory));
        disk.names.extend(here.map(|(path, data)| (path, data.ino())));
    }
}
