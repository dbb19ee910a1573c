//! Bytes that change on the disk, in every kind of place: found, or harmless; never wrong bytes to a reader.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::limits::BLOCK_BYTES;

use super::{chunk, get, new_folder, noise, open, put};
use crate::Store;
use crate::layout::{HEADER_BYTES, HEADER_SPACE, entry_offset};
use crate::types::ScrubCursor;

const LENGTH: usize = 5 * BLOCK_BYTES;

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("a byte");
}

fn pick(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path).and_then(|file| file.read_exact_at(&mut bytes, at)).expect("bytes");
    bytes
}

fn place(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.write_all_at(bytes, at)).expect("bytes");
}

/// A chunk of five blocks, synced and settled, in a closed store; paths of its files.
fn stored(disk: &Path, data: &[u8]) -> (std::path::PathBuf, std::path::PathBuf) {
    let store = open(disk);
    put(&store, chunk(1, 1), 0, data).expect("a write");
    store.sync(chunk(1, 1)).expect("a sync");
    store.flush_lazy();
    // A second header write levels both copies.
    put(&store, chunk(1, 1), 0, &data[..1]).expect("a write");
    store.sync(chunk(1, 1)).expect("a sync");
    store.flush_lazy();
    let path = store.locate(1).expect("its file");
    (path.clone(), path.with_extension("sums"))
}

fn scrub(store: &Store) -> Vec<u32> {
    let mut cursor = ScrubCursor::default();
    let mut bad = Vec::new();
    while cursor.rounds == 0 {
        bad.extend(store.scrub_next(&mut cursor, 1 << 20).into_iter().map(|block| block.offset));
    }
    bad
}

#[test]
fn a_flipped_byte_of_data_is_found_by_reads_and_scrubs() {
    let disk = new_folder();
    let data = noise(1, LENGTH);
    let (path, _) = stored(disk.path(), &data);
    flip(&path, BLOCK_BYTES as u64 + 77);
    let store = open(disk.path());
    assert_eq!(get(&store, chunk(1, 1), 0, LENGTH as u32).expect_err("rot").errno, libc::EBADMSG);
    assert_eq!(get(&store, chunk(1, 1), 0, 4096).expect("its neighbour is fine"), data[..4096]);
    assert_eq!(scrub(&store), vec![4096]);
    assert_eq!(put(&store, chunk(1, 1), 4100, b"part").expect_err("rot under a part").errno, libc::EBADMSG);
    // A whole block written over it mends it.
    put(&store, chunk(1, 1), 4096, &data[..4096]).expect("a write");
    store.sync(chunk(1, 1)).expect("a sync");
    assert_eq!(scrub(&store), Vec::<u32>::new());
}

#[test]
fn a_flipped_byte_of_an_entry_or_header_is_found_or_harmless() {
    let data = noise(2, LENGTH);
    let entries = (0..LENGTH / BLOCK_BYTES).flat_map(|block| (0..8).map(move |byte| entry_offset(0, block) + byte));
    let absent = (0..8).map(|byte| entry_offset(0, 100) + byte);
    let headers = (0..HEADER_BYTES as u64).step_by(7).flat_map(|at| [at, HEADER_SPACE + at]);
    for at in entries.chain(absent).chain(headers) {
        let disk = new_folder();
        let (_, sums) = stored(disk.path(), &data);
        flip(&sums, at);
        let store = open(disk.path());
        match get(&store, chunk(1, 1), 0, 120 * BLOCK_BYTES as u32) {
            Ok(found) => assert!(found[..LENGTH] == data && found[LENGTH..].iter().all(|&byte| byte == 0), "byte {at}"),
            Err(error) => assert_eq!(error.errno, libc::EBADMSG, "byte {at}"),
        }
        let in_header = at < 2 * HEADER_SPACE;
        assert_eq!(scrub(&store).is_empty(), in_header, "byte {at}: entries are found, one header copy is enough");
    }
}

#[test]
fn a_zeroed_page_of_the_table_does_not_read_as_zeros() {
    let disk = new_folder();
    let (_, sums) = stored(disk.path(), &noise(3, LENGTH));
    place(&sums, entry_offset(0, 0), &[0; 4096]);
    let store = open(disk.path());
    assert_eq!(get(&store, chunk(1, 1), 0, 10).expect_err("rot").errno, libc::EBADMSG);
}

#[test]
fn swapped_blocks_with_their_entries_are_found() {
    let disk = new_folder();
    let (path, sums) = stored(disk.path(), &noise(4, LENGTH));
    let (a, b) = (pick(&path, 0, BLOCK_BYTES), pick(&path, BLOCK_BYTES as u64, BLOCK_BYTES));
    let (x, y) = (pick(&sums, entry_offset(0, 0), 8), pick(&sums, entry_offset(0, 1), 8));
    place(&path, 0, &b);
    place(&path, BLOCK_BYTES as u64, &a);
    place(&sums, entry_offset(0, 0), &y);
    place(&sums, entry_offset(0, 1), &x);
    assert_eq!(scrub(&open(disk.path())), vec![0, 4096]);
}

#[test]
fn a_stale_block_with_its_entry_is_found_after_a_version_advance() {
    let disk = new_folder();
    let old = noise(5, LENGTH);
    let (path, sums) = stored(disk.path(), &old);
    let block = pick(&path, 0, BLOCK_BYTES);
    let entry = pick(&sums, entry_offset(0, 0), 8);
    let store = open(disk.path());
    assert_eq!(store.fence(chunk(1, 2)), Ok(2));
    put(&store, chunk(1, 2), 0, &noise(6, BLOCK_BYTES)).expect("a write");
    store.sync(chunk(1, 2)).expect("a sync");
    store.flush_lazy();
    drop(store);
    place(&path, 0, &block);
    place(&sums, entry_offset(0, 0), &entry);
    place(&sums, entry_offset(1, 0), &entry);
    let store = open(disk.path());
    assert_eq!(get(&store, chunk(1, 2), 0, 10).expect_err("stale").errno, libc::EBADMSG);
    assert_eq!(get(&store, chunk(1, 2), 4096, 4096).expect("its neighbour is fine"), old[4096..8192]);
}

#[test]
fn a_cut_data_file_and_damaged_headers_are_found() {
    let disk = new_folder();
    let data = noise(7, LENGTH);
    let (path, sums) = stored(disk.path(), &data);
    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(2 * 4096)).expect("cut");
    let store = open(disk.path());
    assert_eq!(scrub(&store), vec![8192, 12288, 16384]);
    drop(store);
    flip(&sums, 20);
    flip(&sums, HEADER_SPACE + 20);
    let store = open(disk.path());
    assert_eq!(get(&store, chunk(1, 1), 0, 10).expect_err("missing").errno, libc::ENOENT);
    // The damaged slot is not used for anything else.
    put(&store, chunk(2, 1), 0, &data).expect("a write");
    assert_ne!(store.locate(2).expect("its file"), path);
    drop(store);
    // A table file of another slot is no table of this one.
    let other = open(disk.path()).locate(2).expect("its file").with_extension("sums");
    fs::copy(other, &sums).expect("a copy");
    assert_eq!(open(disk.path()).inventory().len(), 1);
}
