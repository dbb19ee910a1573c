//! Snapshots: the same state comes back, the original goes on meanwhile, and no damage passes.

mod common;

use common::{CHUNK, ROOT, World, creds};
use meta::State;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

/// A state with something in every table.
fn varied() -> World {
    let mut world = World::new();
    let dir = world.mkdir(ROOT, "directory", 0o2775).unwrap();
    let small = world.run_as(creds(0, 5, &[]), |world| world.create(dir, "small", 0o640)).unwrap();
    world.write(small, 3, b"inline").unwrap();
    world.link(small, ROOT, &"long name ".repeat(20)).unwrap();
    world.symlink(dir, "link", "../directory/small").unwrap();
    let big = world.chunked("big", 2);
    world.truncate(big, CHUNK + 77).unwrap();
    let chunk = world.map(big).chunks[0].clone();
    let target = (1..=4).find(|id| chunk.replicas.iter().all(|replica| replica.server_id != *id)).unwrap();
    let begin = BeginHeal { chunk_id: chunk.chunk.unwrap().id, version: chunk.chunk.unwrap().version, target };
    world.admin(Admin::BeginHeal(begin)).unwrap();
    let gone = world.chunked("gone", 1);
    world.unlink(ROOT, "gone").unwrap();
    world.write(small, 0, b"x").unwrap();
    world.grant(small, 0).unwrap();
    world.admin(Admin::BeginHistory(BeginHistory { mark: 77 })).unwrap();
    let server = world.state.servers()[0].clone();
    world
        .admin(Admin::ConfirmServer(ConfirmServer { server_id: server.id, epoch: server.epoch, remembered: 7 }))
        .unwrap();
    let lost = Position { index: 5, mark: 99, next_chunk: 1000, ..Position::default() };
    world.admin(Admin::AcceptHistory(AcceptHistory { server_id: 0, known: vec![lost] })).unwrap();
    world.rmdir(ROOT, "absent").unwrap_err();
    world.register();
    assert_eq!(world.state.orphans(), vec![gone]);
    world
}

/// The same at the newest level, with what the later ones brought.
fn newest() -> World {
    let mut world = varied();
    raise(&mut world, wire::level::LEVEL);
    let kind = FileKind::FileFifo as i32;
    let op = MakeNode { parent: ROOT, name: b"fifo".to_vec(), mode: 0o600, kind, rdev: 0, full_mode: None };
    world.name(Op::MakeNode(op)).unwrap();
    let inode = world.lookup(ROOT, "directory").unwrap();
    let op = SetXattr { inode, name: b"user.a".to_vec(), value: b"value".to_vec(), flags: 0 };
    world.name(Op::SetXattr(op)).unwrap();
    world
}

#[test]
fn a_snapshot_gives_back_the_same_state() {
    let mut raised = varied();
    raise(&mut raised, 2);
    for world in [varied(), raised, newest(), World::new()] {
        let read = State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
        read.check().unwrap();
        assert_eq!((read.hash(), read.level()), (world.state.hash(), world.state.level()));
        assert_eq!(read.counters(), world.state.counters());
        assert_eq!(read.servers(), world.state.servers());
        assert_eq!(read.sessions(), world.state.sessions());
        assert_eq!(read.healing(), world.state.healing());
        assert_eq!(read.cluster(), world.state.cluster());
        let (read_position, position) = (read.position(), world.state.position());
        assert_eq!((read_position.mark, read_position.next_chunk), (position.mark, position.next_chunk));
        assert_eq!(read.keeps_unknown(1000), world.state.keeps_unknown(1000));
        assert_eq!(read.memory_bytes(), world.state.memory_bytes());
        let mut again = Vec::new();
        read.write_snapshot(&mut again).unwrap();
        assert_eq!(again, world.snapshot(), "the same state, the same bytes");
    }
    let empty = State::new();
    let mut bytes = Vec::new();
    empty.write_snapshot(&mut bytes).unwrap();
    assert_eq!(State::read_snapshot(&mut &bytes[..]).unwrap().hash(), empty.hash());
}

fn raise(world: &mut World, level: u32) {
    world.admin(Admin::RaiseLevel(RaiseLevel { level })).unwrap();
}

#[test]
fn the_cluster_level_decides_the_format_of_snapshots_and_never_falls() {
    let mut world = varied();
    let format = |world: &World| world.snapshot()[8];
    assert_eq!((world.state.level(), format(&world)), (1, 3), "masters of the first level read no other");
    raise(&mut world, 2);
    assert_eq!((world.state.level(), format(&world)), (2, 4));
    let mut newest = newest();
    assert_eq!((newest.state.level(), format(&newest)), (3, 5));
    raise(&mut newest, 2);
    assert_eq!(newest.state.level(), 3);
    raise(&mut world, 1);
    assert_eq!(world.state.level(), 2);
}

#[test]
fn devices_survive_a_snapshot_of_the_level_that_brought_them() {
    let mut world = varied();
    raise(&mut world, 2);
    let kind = FileKind::FileCharacterDevice as i32;
    let op = MakeNode { parent: 1, name: b"device".to_vec(), mode: 0o600, kind, rdev: 0x1234_0567, full_mode: None };
    let inode = world.name(Op::MakeNode(op)).unwrap().attr.unwrap().inode;
    let read = State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    assert_eq!(read.hash(), world.state.hash());
    let request = NameRequest { op: Some(Op::Getattr(GetAttr { inode })), ..NameRequest::default() };
    assert_eq!(read.query(&request).attr, Some(world.attr(inode)));
}

#[test]
fn snapshots_that_earlier_software_wrote_are_read() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for (file, level) in [("level-1.snapshot", 1), ("level-2.snapshot", 2), ("level-3.snapshot", 3)] {
        let bytes = std::fs::read(data.join(file)).unwrap();
        let read = State::read_snapshot(&mut &bytes[..]).unwrap();
        read.check().unwrap();
        assert_eq!(read.level(), level);
        let request = NameRequest { op: Some(Op::Resolve(resolve("directory/small"))), ..NameRequest::default() };
        let attr = read.query(&request).attr.expect("the file is there");
        let counters = read.counters();
        assert_eq!((attr.size, attr.nlink, attr.mode), (9, 2, 0o640), "{file}");
        let inodes = if level < 3 { 6 } else { 7 };
        assert_eq!((counters.inodes, counters.chunks, read.servers().len()), (inodes, 4, 4), "{file}");
        assert!(read.keeps_unknown(1) && !read.keeps_unknown(1 << 40), "{file}");
    }
}

fn resolve(path: &str) -> Resolve {
    Resolve { start: ROOT, path: path.as_bytes().to_vec(), follow: true }
}

#[test]
fn an_inode_of_a_later_version_is_refused_with_a_sentence() {
    let mut world = World::new();
    raise(&mut world, 2);
    let mut bytes = world.snapshot();
    // The block of the inodes: its only record begins with the version.
    let mut at = 16;
    while bytes[at] != 5 {
        at += 13 + u32::from_le_bytes(bytes[at + 5..at + 9].try_into().unwrap()) as usize;
    }
    let length = u32::from_le_bytes(bytes[at + 5..at + 9].try_into().unwrap()) as usize;
    bytes[at + 13] = 9;
    let crc = base::crc::crc32c_of(&[&bytes[at..at + 9], &bytes[at + 13..at + 13 + length]]);
    bytes[at + 9..at + 13].copy_from_slice(&crc.to_le_bytes());
    let error = State::read_snapshot(&mut &bytes[..]).err().unwrap();
    assert!(error.message.contains("has version 9, this software reads 1"), "{error}");
}

#[test]
fn a_clone_stays_as_it_was_while_the_original_goes_on() {
    let mut world = varied();
    let (frozen, hash, bytes) = (world.state.clone(), world.state.hash(), world.snapshot());
    for n in 0..500 {
        world.create(ROOT, &format!("later{n}"), 0o644).unwrap();
    }
    let mut late = Vec::new();
    frozen.write_snapshot(&mut late).unwrap();
    assert!(late == bytes && frozen.hash() == hash && world.state.hash() != hash);
    frozen.check().unwrap();
}

#[test]
fn a_snapshot_cut_anywhere_is_refused() {
    let bytes = varied().snapshot();
    for length in 0..bytes.len() {
        let error = State::read_snapshot(&mut &bytes[..length]).err().unwrap_or_else(|| panic!("cut at {length}"));
        assert!(error.message.contains("snapshot"), "{error}");
    }
}

#[test]
fn a_snapshot_with_any_byte_flipped_is_refused() {
    let mut bytes = varied().snapshot();
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xff] {
            bytes[at] ^= mask;
            assert!(State::read_snapshot(&mut &bytes[..]).is_err(), "byte {at} flipped by {mask:#x}");
            bytes[at] ^= mask;
        }
    }
    State::read_snapshot(&mut &bytes[..]).unwrap();
}

#[test]
fn whole_blocks_lost_doubled_or_swapped_are_refused() {
    let mut world = varied();
    for n in 0..3000 {
        let request = NameRequest {
            session: world.session,
            op_id: 10_000 + n,
            acked_below: 10_000 + n,
            creds: Some(creds(0, 0, &[])),
            op: Some(name_request::Op::Mkdir(MkDir {
                parent: ROOT,
                name: format!("d{n}").into(),
                mode: 0o755,
                full_mode: None,
            })),
        };
        world.state.apply(&Command { now_ns: 1, seed: 1, what: Some(command::What::Name(request)) });
    }
    let bytes = world.snapshot();
    let mut blocks = Vec::new();
    let mut at = 16;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 5..at + 9].try_into().unwrap()) as usize + 13;
        blocks.push(&bytes[at..at + length]);
        at += length;
    }
    assert!(blocks.len() > 8, "{} blocks", blocks.len());
    let join = |blocks: &[&[u8]]| [&bytes[..16], &blocks.concat()[..]].concat();
    assert!(State::read_snapshot(&mut &join(&blocks)[..]).is_ok());
    for at in 0..blocks.len() {
        let mut lost = blocks.clone();
        lost.remove(at);
        assert!(State::read_snapshot(&mut &join(&lost)[..]).is_err(), "block {at} lost");
        if at + 1 < blocks.len() {
            let mut doubled = blocks.clone();
            doubled.insert(at, blocks[at]);
            assert!(State::read_snapshot(&mut &join(&doubled)[..]).is_err(), "block {at} doubled");
            let mut swapped = blocks.clone();
            swapped.swap(at, at + 1);
            assert!(State::read_snapshot(&mut &join(&swapped)[..]).is_err(), "block {at} swapped");
        }
    }
}

#[test]
fn a_snapshot_of_another_format_says_so() {
    let mut bytes = varied().snapshot();
    bytes[8] = 9;
    let crc = base::crc::crc32c(&bytes[..12]).to_le_bytes();
    bytes[12..16].copy_from_slice(&crc);
    let error = State::read_snapshot(&mut &bytes[..]).err().unwrap();
    assert!(error.message.contains("format 9"), "{error}");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 < bytes.len() {
                return Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let world = varied();
    for room in 0..world.snapshot().len() {
        assert!(world.state.write_snapshot(&mut Full(room)).is_err());
    }
}

#[test]
fn a_snapshot_of_an_older_format_is_read() {
    let mut world = World::new();
    world.chunked("file", 1);
    let mut bytes = world.snapshot();
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = base::crc::crc32c(&bytes[..12]).to_le_bytes();
    bytes[12..16].copy_from_slice(&crc);
    let read = State::read_snapshot(&mut &bytes[..]).unwrap();
    assert_eq!((read.hash(), read.position().mark), (world.state.hash(), 0));
}
