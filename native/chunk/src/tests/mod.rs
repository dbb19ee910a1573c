//! Tests that need the inside of the store: its disks, its files, its limits.

mod crash;
mod disks;
mod faults;
mod model;
mod rot;
mod rounds;
mod simulated;
mod threads;

use std::path::{Path, PathBuf};

use base::Result;
use base::crc::{check_pieces, piece_crcs};

use crate::Store;
use crate::types::{ChunkRef, DirectIo, Sender, StoreConfig};

pub fn chunk(id: u64, version: u32) -> ChunkRef {
    ChunkRef { id, version }
}

pub fn config(disks: &[&Path]) -> StoreConfig {
    StoreConfig {
        disks: disks.iter().map(PathBuf::from).collect(),
        server_id: 7,
        cluster_id: "test".to_string(),
        direct_io: DirectIo::Off,
        reserve_bytes: 1 << 20,
    }
}

pub fn open(disk: &Path) -> Store {
    Store::open(config(&[disk])).expect("the store opens")
}

pub fn put(store: &Store, chunk: ChunkRef, offset: u32, data: &[u8]) -> Result<u32> {
    store.write(chunk, Sender::default(), offset, data, &piece_crcs(offset as usize, data), true)
}

/// Read exactly the span; the CRCs that come along are checked too.
pub fn get(store: &Store, chunk: ChunkRef, offset: u32, length: u32) -> Result<Vec<u8>> {
    let read = store.read(chunk, offset, length)?;
    assert_eq!(check_pieces(read.offset as usize, &read.data, &read.crcs), Ok(()));
    let start = (offset - read.offset) as usize;
    Ok(read.data[start..start + length as usize].to_vec())
}

/// A folder in memory where there is one: these tests are about order and not about the disk.
pub fn new_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Bytes that differ by seed and place.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Copy a directory tree of small files, keeping holes.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder is made");
    for entry in std::fs::read_dir(from).expect("the folder is listed") {
        let entry = entry.expect("an entry is read");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type is known").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("a file is copied");
        }
    }
}
