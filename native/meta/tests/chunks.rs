//! Content: inline bytes, chunk placement and versions, healing, truncation, conversion.

mod common;

use common::{CHUNK, LIMIT, ROOT, World, creds, stored};
use libc::*;
use meta::Event;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

/// About chunk 1.
fn grant(inode: u64, version: u32, failed: &[u32]) -> Op {
    let chunk = Some(ChunkRef { id: 1, version });
    Op::GrantWrite(GrantWrite { inode, index: 0, chunk, failed: failed.to_vec(), take_over: false, append: false })
}

fn servers(world: &World, id: u64) -> Vec<u32> {
    world.state.chunk(id).unwrap().servers
}

fn ids(reply: &NameReply) -> (u64, u32) {
    let chunk = reply.chunks[0].chunk.unwrap();
    (chunk.id, chunk.version)
}

fn set_up(world: &mut World, server_id: u32, up: bool) {
    let epoch = world.state.server(server_id).unwrap().epoch;
    world.admin(Admin::SetServerUp(SetServerUp { server_id, epoch, up })).unwrap();
}

fn set_weights(world: &mut World, weights: &[u32]) {
    let weights = weights.iter().zip(1..).map(|(&weight, server_id)| ServerWeight { server_id, weight }).collect();
    world.admin(Admin::SetWeights(SetWeights { weights })).unwrap();
}

#[test]
fn inline_writers_merge_and_grow_up_to_the_limit() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let first = world.attr(file).data_version;
    world.write(file, 0, b"aaaa").unwrap();
    world.write(file, 6, b"bb").unwrap();
    world.write(file, 2, b"cc").unwrap();
    assert_eq!(&world.map(file).inline_data[..], b"aacc\0\0bb");
    assert_eq!((world.attr(file).size, world.attr(file).data_version, world.attr(file).blocks), (8, first + 3, 1));
    let append = WriteInline { inode: file, offset: 0, data: b"dd".to_vec().into(), append: true, times: None };
    assert_eq!(world.name(Op::WriteInline(append.clone())).unwrap().offset, 8);
    assert_eq!(world.name(Op::WriteInline(append)).unwrap().offset, 10);
    world.write(file, u64::from(LIMIT) - 1, b"e").unwrap();
    assert_eq!(world.write(file, u64::from(LIMIT), b"e").unwrap_err(), EFBIG);
    assert_eq!(world.write(file, u64::MAX, b"e").unwrap_err(), EFBIG);
    assert_eq!(world.write(ROOT, 0, b"e").unwrap_err(), EINVAL);
    assert!(world.map(file).is_inline && world.map(file).chunks.is_empty());
}

#[test]
fn an_inline_file_can_have_a_hole_behind_its_bytes() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"abcdef").unwrap();
    world.truncate(file, 3).unwrap();
    world.truncate(file, 10).unwrap();
    assert_eq!(&world.map(file).inline_data[..], b"abc\0\0\0\0\0\0\0");
    world.truncate(file, 1 << 30).unwrap();
    assert_eq!((world.attr(file).size, world.map(file).inline_data.len()), (1 << 30, LIMIT as usize));
    world.write(file, 5, b"x").unwrap();
    assert_eq!(&world.map(file).inline_data[..7], b"abc\0\0x\0");
    assert_eq!(world.attr(file).size, 1 << 30);
    assert_eq!(world.truncate(file, (1 << 52) + 1).unwrap_err(), EFBIG);
    world.truncate(file, 1 << 52).unwrap();
    assert_eq!(world.truncate(ROOT, 1).unwrap_err(), EISDIR);
}

#[test]
fn a_new_chunk_lies_on_as_many_servers_as_there_should_be_copies() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let reply = world.grant(file, 0).unwrap();
    let chunk = &reply.chunks[0];
    assert_eq!((chunk.replicas.len(), chunk.written, chunk.healing, ids(&reply)), (3, false, false, (1, 1)));
    assert!(chunk.replicas.iter().all(|replica| replica.address == format!("127.0.0.1:{}", 9000 + replica.server_id)));
    assert!(!reply.is_inline, "an empty file has no bytes to convert");
    assert_eq!(ids(&world.grant(file, 0).unwrap()), (1, 1), "asking again gives the same chunk");
    let far = world.grant(file, 5).unwrap();
    assert_eq!((far.chunks[0].index, ids(&far)), (5, (2, 1)));
    assert_eq!(world.grant(file, 1 << 26).unwrap_err(), EFBIG);
    assert_eq!(world.grant(file, u64::MAX).unwrap_err(), EFBIG);
    assert_eq!(world.grant(ROOT, 0).unwrap_err(), EINVAL);
}

#[test]
fn committed_chunks_are_in_the_map_and_count_as_stored() {
    let mut world = World::new();
    let file = world.chunked("f", 2);
    let attr = world.attr(file);
    assert_eq!((attr.size, attr.blocks), (2 * CHUNK, 2 * CHUNK / 512));
    let chunk = world.map(file).chunks[1].clone();
    world.commit(file, CHUNK + 1, &chunk, 4096).unwrap();
    assert_eq!((world.attr(file).size, world.attr(file).blocks), (2 * CHUNK, (CHUNK + 4096) / 512));
    assert!(world.map(file).chunks.iter().all(|chunk| chunk.written));
    let one = world.read(Op::GetChunks(GetChunks { inode: file, first: 1, count: 1 })).unwrap();
    assert_eq!(one.chunks.len(), 1);
    let none = world.read(Op::GetChunks(GetChunks { inode: file, first: u64::MAX, count: u32::MAX })).unwrap();
    assert!(none.chunks.is_empty());
    let mut other = stored(&chunk, 0);
    other.chunk_id = 99;
    let op = CommitWrite { inode: file, stored: vec![other], ..Default::default() };
    assert_eq!(world.name(Op::CommitWrite(op)).unwrap_err(), ESTALE);
    let mut newer = stored(&chunk, 0);
    newer.version += 1;
    let op = CommitWrite { inode: file, stored: vec![newer], ..Default::default() };
    assert_eq!(world.name(Op::CommitWrite(op)).unwrap_err(), ESTALE);
}

#[test]
fn the_time_of_a_write_is_the_client_s_when_it_says_one() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let op = CommitWrite { inode: file, mtime_ns: 77, ..Default::default() };
    let attr = world.name(Op::CommitWrite(op)).unwrap().attr.unwrap();
    assert_eq!((attr.mtime_ns, attr.ctime_ns), (77, world.now_ns));
    let op = CommitWrite { inode: file, ..Default::default() };
    assert_eq!(world.name(Op::CommitWrite(op)).unwrap().attr.unwrap().mtime_ns, world.now_ns);
}

#[test]
fn a_failed_server_leaves_the_write_set_at_a_new_version_while_enough_stay() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let set = servers(&world, 1);
    let reply = world.name(grant(file, 1, &set[..1])).unwrap();
    assert_eq!((ids(&reply), servers(&world, 1)), ((1, 2), set[1..].to_vec()));
    assert_eq!(world.events, vec![Event::ChunkChanged(1)]);
    let stale = world.name(grant(file, 1, &set[1..2])).unwrap();
    assert_eq!(ids(&stale), (1, 2), "a complaint about an older version only gets the map");
    assert_eq!(world.name(grant(file, 2, &set[1..2])).unwrap_err(), EIO, "one of three would stay, two must");
    assert_eq!(servers(&world, 1).len(), 2);
    let stranger = world.name(grant(file, 2, &[99])).unwrap();
    assert_eq!(ids(&stranger), (1, 2));
}

#[test]
fn a_chunk_without_a_committed_byte_and_with_too_few_servers_left_is_made_anew_elsewhere() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.grant(file, 0).unwrap();
    let set = servers(&world, 1);
    let reply = world.name(grant(file, 1, &set[..2])).unwrap();
    assert_eq!(ids(&reply), (2, 1));
    assert!(!set[..2].iter().any(|failed| servers(&world, 2).contains(failed)), "four servers have room for it");
    let late = world.name(grant(file, 1, &set[..2])).unwrap();
    assert_eq!(ids(&late), (2, 1), "a complaint about the former one only gets the map");
    let set = servers(&world, 2);
    for server in 1..=4 {
        set_up(&mut world, server, set.contains(&server));
    }
    let chunk = Some(ChunkRef { id: 2, version: 1 });
    let failed = GrantWrite { inode: file, index: 0, chunk, failed: set[..1].to_vec(), ..Default::default() };
    let reply = world.name(Op::GrantWrite(failed)).unwrap();
    assert_eq!(ids(&reply), (3, 1), "who failed is taken again when there is nobody else");
}

#[test]
fn too_few_copies_of_committed_bytes_wait() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let granted = world.grant(file, 0).unwrap();
    world.commit(file, 5000, &granted.chunks[0], 8192).unwrap();
    let set = servers(&world, 1);
    assert_eq!(world.name(grant(file, 1, &set[..2])).unwrap_err(), EIO, "acknowledged bytes may lie on the third");
    let drop = |world: &World| {
        let chunk = world.state.chunk(1).unwrap();
        Admin::DropReplica(DropReplica { chunk_id: 1, version: chunk.version, server_id: chunk.servers[0] })
    };
    world.admin(drop(&world)).unwrap();
    world.admin(drop(&world)).unwrap();
    assert_eq!(world.admin(drop(&world)).unwrap_err(), EBUSY, "never the last one");
    assert_eq!(world.grant(file, 0).unwrap_err(), EIO);
}

#[test]
fn new_chunks_need_enough_servers_that_are_up_and_have_space() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    set_up(&mut world, 1, false);
    set_up(&mut world, 2, false);
    world.grant(file, 0).unwrap();
    let mut set = servers(&world, 1);
    set.sort_unstable();
    assert_eq!(set, [3, 4], "two of three copies will do");
    let failed = Op::GrantWrite(GrantWrite { inode: file, index: 1, failed: vec![3], ..Default::default() });
    assert_eq!(world.name(failed).unwrap_err(), EIO);
    set_up(&mut world, 3, false);
    assert_eq!(world.grant(file, 1).unwrap_err(), EIO);
    for server in 1..=3 {
        set_up(&mut world, server, true);
    }
    set_weights(&mut world, &[0, 0, 0, 5]);
    assert_eq!(world.grant(file, 1).unwrap_err(), ENOSPC);
    set_weights(&mut world, &[0, 0, 0, 0]);
    assert_eq!(world.grant(file, 1).unwrap_err(), ENOSPC);
    world.grant(file, 0).unwrap();
    set_weights(&mut world, &[0, 7, 0, 5]);
    world.grant(file, 1).unwrap();
    set_up(&mut world, 2, false);
    assert_eq!(world.grant(file, 2).unwrap_err(), EIO, "server 2 has space and may come back");
}

#[test]
fn without_any_server_a_write_waits() {
    let mut world = World::new();
    for server_id in 1..=4 {
        set_up(&mut world, server_id, false);
        world.admin(Admin::ForgetServer(ForgetServer { server_id })).unwrap();
    }
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let request = world.request(grant(file, 0, &[]));
    let error = world.send(request.clone()).error.unwrap();
    assert_eq!((error.errno, error.kind()), (EIO, ErrorKind::ErrorUnavailable));
    for server_id in 1..=2 {
        let address = "127.0.0.1:1".into();
        world.admin(Admin::RegisterServer(RegisterServer { server_id, address, boot_id: 1 })).unwrap();
    }
    assert_eq!(world.send(request).error, None, "the same operation may be tried again");
}

#[test]
fn a_copy_is_added_by_a_heal_and_only_by_the_running_one() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let set = servers(&world, 1);
    let target = (1..=4).find(|server| !set.contains(server)).unwrap();
    let begin = |version| Admin::BeginHeal(BeginHeal { chunk_id: 1, version, target });
    let end = |heal_id, ok| Admin::EndHeal(EndHeal { chunk_id: 1, heal_id, ok, stored_bytes: 0 });
    assert_eq!(world.admin(begin(7)).unwrap_err(), ESTALE);
    let heal = world.admin(begin(1)).unwrap().chunk.unwrap();
    assert_eq!((heal.version, heal.servers.len(), heal.heal_target), (2, 3, target));
    assert_eq!(world.state.healing(), vec![heal.clone()]);
    assert_eq!(world.admin(begin(2)).unwrap_err(), EBUSY);
    assert!(world.grant(file, 0).unwrap().chunks[0].healing);
    assert_eq!(world.admin(end(heal.heal_id + 1, true)).unwrap_err(), ESTALE);
    let healed = world.admin(end(heal.heal_id, true)).unwrap().chunk.unwrap();
    assert_eq!((healed.version, healed.servers.last(), healed.heal_id), (2, Some(&target), 0));
    assert_eq!(world.admin(end(heal.heal_id, true)).unwrap_err(), ESTALE);
    assert_eq!(world.state.server(target).unwrap().chunks, 1);
    let again = world.admin(Admin::BeginHeal(BeginHeal { chunk_id: 1, version: 2, target: set[0] })).unwrap();
    assert_eq!(again.chunk.as_ref().unwrap().servers.len(), 3, "a copy being replaced is out of the set meanwhile");
    world.admin(end(again.chunk.unwrap().heal_id, false)).unwrap();
    assert_eq!((servers(&world, 1).len(), world.state.healing().len()), (3, 0));
}

#[test]
fn copies_that_are_newer_than_the_masters_know_are_taken_as_they_are_and_compared() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let version = 1;
    let adopt = |held, servers: &[u32]| {
        Admin::AdoptCopies(AdoptCopies { chunk_id: 1, version, held, servers: servers.to_vec() })
    };
    for (held, servers) in [(1, &[1][..]), (u32::MAX, &[1]), (5, &[]), (5, &[1, 1]), (5, &[1, 99])] {
        assert_eq!(world.admin(adopt(held, servers)).unwrap_err(), EINVAL, "{held} {servers:?}");
    }
    let taken = world.admin(adopt(5, &[4, 2])).unwrap().chunk.unwrap();
    assert_eq!((taken.version, &taken.servers[..], &taken.writers[..]), (5, &[4, 2][..], &[0][..]));
    assert_eq!(world.map(file).chunks[0].chunk.unwrap().version, 5);
    assert_eq!(world.admin(adopt(6, &[4, 2])).unwrap_err(), ESTALE, "it was looked at before");
}

#[test]
fn newer_copies_of_a_chunk_that_nobody_committed_here_are_read_as_zeros() {
    let mut world = World::new();
    let file = world.create(meta::ROOT, "f", 0o644).unwrap();
    let version = world.grant(file, 0).unwrap().chunks[0].chunk.unwrap().version;
    let adopt = AdoptCopies { chunk_id: 1, version, held: 7, servers: vec![1, 2, 3] };
    assert!(!world.admin(Admin::AdoptCopies(adopt)).unwrap().chunk.unwrap().written);
    let granted = world.grant(file, 0).unwrap().chunks[0].clone();
    assert!(granted.trim == Some(0) || granted.chunk.unwrap().id != 1, "{granted:?}");
}

#[test]
fn any_other_new_version_ends_a_running_heal() {
    for cause in 0..3 {
        let mut world = World::new();
        let file = world.chunked("f", 1);
        let set = servers(&world, 1);
        let target = (1..=4).find(|server| !set.contains(server)).unwrap();
        let heal = world.admin(Admin::BeginHeal(BeginHeal { chunk_id: 1, version: 1, target })).unwrap().chunk.unwrap();
        match cause {
            0 => drop(world.name(grant(file, 2, &set[..1])).unwrap()),
            1 => drop(
                world.admin(Admin::DropReplica(DropReplica { chunk_id: 1, version: 2, server_id: set[0] })).unwrap(),
            ),
            _ => drop(world.truncate(file, 5).unwrap()),
        }
        let end = Admin::EndHeal(EndHeal { chunk_id: 1, heal_id: heal.heal_id, ok: true, stored_bytes: 0 });
        assert_eq!(world.admin(end).unwrap_err(), ESTALE);
        assert!(world.state.healing().is_empty());
    }
}

#[test]
fn a_heal_needs_a_server_that_is_up_and_a_source() {
    let mut world = World::new();
    world.chunked("f", 1);
    let begin = |target| Admin::BeginHeal(BeginHeal { chunk_id: 1, version: 1, target });
    assert_eq!(world.admin(begin(99)).unwrap_err(), EIO);
    set_up(&mut world, 4, false);
    assert_eq!(world.admin(begin(4)).unwrap_err(), EIO);
    assert_eq!(world.admin(Admin::BeginHeal(BeginHeal { chunk_id: 9, version: 1, target: 1 })).unwrap_err(), ESTALE);
    for version in 1..3 {
        let server_id = servers(&world, 1)[0];
        world.admin(Admin::DropReplica(DropReplica { chunk_id: 1, version, server_id })).unwrap();
    }
    let last = servers(&world, 1)[0];
    set_up(&mut world, last, true);
    let op = Admin::BeginHeal(BeginHeal { chunk_id: 1, version: 3, target: last });
    assert_eq!(world.admin(op).unwrap_err(), EBUSY, "the last copy cannot be copied from itself");
}

#[test]
fn cutting_a_file_frees_what_is_behind_and_marks_the_chunk_in_the_middle() {
    let mut world = World::new();
    let file = world.chunked("f", 3);
    world.truncate(file, CHUNK + 5000).unwrap();
    let freed = match &world.events[..] {
        [Event::ChunksFreed(freed), Event::ChunkChanged(2)] => freed.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((freed.len(), freed[0].id, freed[0].version, freed[0].servers.len()), (1, 3, 1, 3));
    let map = world.map(file);
    assert_eq!((map.chunks.len(), map.chunks[1].trim, map.chunks[1].chunk.unwrap().version), (2, Some(5000), 2));
    assert_eq!(world.attr(file).blocks, (CHUNK + 8192) / 512);
    world.truncate(file, 2 * CHUNK).unwrap();
    assert_eq!(world.map(file).chunks[1].trim, Some(5000), "growing shows zeros");
    world.truncate(file, CHUNK + 100).unwrap();
    let version = world.map(file).chunks[1].chunk.unwrap().version;
    let done = |trim, version| {
        let chunk = Some(ChunkRef { id: 2, version });
        Op::TrimDone(TrimDone { inode: file, index: 1, chunk, trim })
    };
    assert_eq!(world.name(done(5000, version)).unwrap_err(), ESTALE);
    assert_eq!(world.name(done(100, version - 1)).unwrap_err(), ESTALE);
    let reply = world.name(done(100, version)).unwrap();
    assert_eq!(reply.chunks[0].chunk.unwrap().version, version + 1, "the trim itself is fenced");
    assert_eq!(world.name(done(100, version)).unwrap_err(), ESTALE);
    assert_eq!(world.map(file).chunks[1].trim, None);
    world.truncate(file, CHUNK).unwrap();
    assert_eq!(world.map(file).chunks.len(), 1, "a cut between two chunks marks none");
    world.truncate(file, 0).unwrap();
    assert!(world.map(file).is_inline && world.state.counters().chunks == 0, "an empty file lies inline again");
    world.write(file, 0, b"small").unwrap();
}

#[test]
fn a_writer_that_was_cut_off_does_not_bring_its_bytes_back() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let old = world.map(file).chunks[0].clone();
    let late = world.grant(file, 1).unwrap().chunks[0].clone();
    world.truncate(file, 0).unwrap();
    for size in [0, 2 * CHUNK] {
        let stored = vec![stored(&old, 4096), stored(&late, 4096)];
        let op = CommitWrite { inode: file, size, stored, ..Default::default() };
        assert_eq!(world.name(Op::CommitWrite(op)).unwrap_err(), ESTALE, "what was cut off is to be sent again");
    }
    assert_eq!((world.attr(file).size, world.attr(file).blocks), (0, 0));
    let new = world.grant(file, 0).unwrap().chunks[0].clone();
    assert_ne!(new.chunk.unwrap().id, old.chunk.unwrap().id);
    assert_eq!(world.commit(file, 10, &old, 4096).unwrap_err(), ESTALE);
    world.commit(file, 10, &new, 4096).unwrap();
}

#[test]
fn converting_keeps_the_inline_bytes_and_refuses_when_they_changed() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"small").unwrap();
    let reply = world.grant(file, 0).unwrap();
    assert!(reply.is_inline && &reply.inline_data[..] == b"small");
    let expect = reply.attr.as_ref().unwrap().data_version;
    let chunk = reply.chunks[0].clone();
    assert!(world.map(file).chunks.is_empty(), "readers see the inline bytes until the commit");
    let commit = |expect, convert_inline, stored| {
        Op::CommitWrite(CommitWrite {
            inode: file,
            size: 100,
            stored,
            expect_inline_version: expect,
            convert_inline,
            ..Default::default()
        })
    };
    let whole = vec![stored(&chunk, 4096)];
    assert_eq!(world.name(commit(0, false, whole.clone())).unwrap_err(), ESTALE);
    assert_eq!(world.name(commit(0, true, whole.clone())).unwrap_err(), EINVAL);
    assert_eq!(world.name(commit(expect, true, vec![])).unwrap_err(), ESTALE, "the inline bytes would be lost");
    world.write(file, 1, b"M").unwrap();
    assert_eq!(world.name(commit(expect, true, whole.clone())).unwrap_err(), ESTALE);
    let again = world.grant(file, 0).unwrap();
    assert_eq!(
        (&again.inline_data[..], ids(&again)),
        (&b"sMall"[..], ids(&reply)),
        "the same converter, the same chunk"
    );
    world.name(commit(expect + 1, true, whole)).unwrap();
    let map = world.map(file);
    assert!(!map.is_inline && map.chunks[0].written && map.attr.unwrap().size == 100);
    assert_eq!(world.write(file, 0, b"x").unwrap_err(), EFBIG);
}

#[test]
fn two_converters_never_write_into_one_chunk() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"small").unwrap();
    let expect = world.attr(file).data_version;
    let first = world.grant(file, 0).unwrap().chunks[0].clone();
    let mut other = world.clone();
    other.session = other.register();
    assert_eq!(other.grant(file, 0).unwrap_err(), EBUSY, "the first one is at it");
    let mut orphan = other.clone();
    orphan.session = world.session;
    orphan.name(Op::CloseSession(CloseSession {})).unwrap();
    orphan.session = other.session;
    assert!(orphan.grant(file, 0).is_ok(), "the first one is gone");
    let take_over = GrantWrite { inode: file, take_over: true, ..Default::default() };
    let second = other.name(Op::GrantWrite(take_over)).unwrap().chunks[0].clone();
    assert_ne!(first.chunk.unwrap().id, second.chunk.unwrap().id);
    assert!(matches!(&other.events[0], Event::ChunksFreed(freed) if freed[0].id == first.chunk.unwrap().id));
    let commit = |chunk: &ChunkInfo| {
        let stored = vec![stored(chunk, 4096)];
        Op::CommitWrite(CommitWrite {
            inode: file,
            size: 100,
            stored,
            expect_inline_version: expect,
            convert_inline: true,
            ..Default::default()
        })
    };
    assert_eq!(other.name(commit(&first)).unwrap_err(), ESTALE);
    other.name(commit(&second)).unwrap();
    assert_eq!(other.name(commit(&first)).unwrap_err(), ESTALE);
}

#[test]
fn purging_a_file_frees_its_chunks() {
    let mut world = World::new();
    let file = world.chunked("f", 2);
    world.unlink(ROOT, "f").unwrap();
    assert_eq!(world.map(file).chunks.len(), 2);
    world.grant(file, 2).unwrap();
    world.admin(Admin::Purge(Purge { inodes: vec![file] })).unwrap();
    assert!(matches!(&world.events[..], [Event::ChunksFreed(freed), Event::Purged(_)] if freed.len() == 3));
    assert_eq!(world.state.counters().chunks, 0);
    assert!(world.state.servers().iter().all(|server| server.chunks == 0));
}

#[test]
fn a_server_is_forgotten_only_when_it_is_down_and_holds_no_last_copy() {
    let mut world = World::new();
    world.chunked("f", 2);
    let server_id = servers(&world, 1)[0];
    let forget = Admin::ForgetServer(ForgetServer { server_id });
    assert_eq!(world.admin(forget.clone()).unwrap_err(), EBUSY);
    set_up(&mut world, server_id, false);
    world.admin(forget.clone()).unwrap();
    assert!(world.state.server(server_id).is_none());
    assert_eq!(world.state.chunk(1).unwrap().version, 2);
    assert!(world.state.chunks().all(|chunk| !chunk.servers.contains(&server_id)));
    assert_eq!(world.admin(forget).unwrap_err(), ENOENT);
    for version in 2.. {
        let chunk = world.state.chunk(1).unwrap();
        if let [server_id] = chunk.servers[..] {
            set_up(&mut world, server_id, false);
            assert_eq!(world.admin(Admin::ForgetServer(ForgetServer { server_id })).unwrap_err(), EBUSY);
            break;
        }
        let op = DropReplica { chunk_id: 1, version, server_id: chunk.servers[0] };
        world.admin(Admin::DropReplica(op)).unwrap();
    }
}

#[test]
fn registering_again_gives_a_new_epoch_that_fences_the_old_one() {
    let mut world = World::new();
    world.chunked("f", 1);
    set_weights(&mut world, &[9, 9, 9, 9]);
    let before = world.state.server(1).unwrap();
    set_up(&mut world, 1, false);
    let op = RegisterServer { server_id: 1, address: "127.0.0.1:7".into(), boot_id: 8 };
    let epoch = world.admin(Admin::RegisterServer(op)).unwrap().epoch;
    assert!(epoch > before.epoch);
    let after = world.state.server(1).unwrap();
    assert_eq!((after.up, after.weight, after.boot_id, after.chunks), (true, 9, 8, before.chunks));
    let old = SetServerUp { server_id: 1, epoch: before.epoch, up: false };
    assert_eq!(world.admin(Admin::SetServerUp(old)).unwrap_err(), ESTALE);
    assert_eq!(world.admin(Admin::RegisterServer(RegisterServer::default())).unwrap_err(), EINVAL);
}

#[test]
fn a_cluster_is_configured_once_and_sensibly() {
    let mut state = meta::State::new();
    let apply = |state: &mut meta::State, copies, min_copies| {
        let op = Bootstrap { cluster_id: "c".into(), copies, min_copies, inline_limit: 8192 };
        let what = command::What::Admin(AdminCommand { expected_term: 0, op: Some(Admin::Bootstrap(op)) });
        let (applied, _) = state.apply(&Command { now_ns: 5, seed: 0, what: Some(what) });
        applied.error().map(|error| error.errno)
    };
    let before = state.query(&NameRequest { op: Some(Op::Getattr(GetAttr { inode: ROOT })), ..Default::default() });
    assert_eq!(before.error.unwrap().kind(), ErrorKind::ErrorUnavailable);
    for (copies, min_copies) in [(0, 0), (3, 0), (3, 4), (8, 2)] {
        assert_eq!(apply(&mut state, copies, min_copies), Some(EINVAL));
    }
    assert_eq!(apply(&mut state, 3, 2), None);
    assert_eq!(apply(&mut state, 1, 1), None);
    assert_eq!(state.cluster().unwrap().copies, 3);
    state.check().unwrap();
}

#[test]
fn the_space_of_a_new_file_shows_only_after_its_commit() {
    let mut world = World::new();
    let file = world.run_as(creds(0, 0, &[]), |world| world.create(ROOT, "f", 0o600)).unwrap();
    let chunk = world.grant(file, 0).unwrap().chunks[0].clone();
    assert_eq!((world.attr(file).blocks, world.attr(file).size), (0, 0));
    world.commit(file, 10_000, &chunk, 12_288).unwrap();
    assert_eq!((world.attr(file).blocks, world.attr(file).size), (24, 10_000));
    assert_eq!(world.state.counters().bytes, 10_000);
}

#[test]
fn the_times_that_were_told_of_a_write_stay_unless_something_came_after_it() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let born = world.attr(file).ctime_ns;
    let write = |world: &mut World, mtime_ns: i64, ctime_ns: i64| {
        let times = Some(Times { mtime_ns, ctime_ns });
        let op = WriteInline { inode: file, data: b"x".to_vec().into(), times, ..Default::default() };
        let attr = world.name(Op::WriteInline(op)).unwrap().attr.unwrap();
        (attr.mtime_ns, attr.ctime_ns)
    };
    world.now_ns = born + 10_000;
    assert_eq!(write(&mut world, born + 5000, born + 5000), (born + 5000, born + 5000), "not the time of the commit");
    assert_eq!(write(&mut world, 77, born + 6000), (77, born + 6000), "a date that was set after the write");
    assert_eq!(write(&mut world, born + 100, born + 100), (born + 100, born + 6000), "ctime does not go back");
    let changed = world.chmod(file, 0o600).unwrap();
    assert!(changed.ctime_ns > born + 10_000);
    assert_eq!(write(&mut world, born + 7000, born + 7000), (born + 7000, changed.ctime_ns));
    let far = world.now_ns + 10_000_000_000;
    let (mtime_ns, ctime_ns) = write(&mut world, far, far);
    assert!(mtime_ns == ctime_ns && ctime_ns < far, "a clock that is far ahead does not count");
    let before = world.attr(file).ctime_ns;
    let op = SetAttr { inode: file, mtime_ns: Some(before + 50_000_000_000), ..Default::default() };
    world.setattr(op).unwrap();
    let now_ns = world.now_ns + 2_000_000_000;
    world.now_ns = now_ns;
    assert_eq!(write(&mut world, now_ns, now_ns), (now_ns, now_ns), "a date in the future ends with the next write");
}

#[test]
fn access_times_only_grow_to_about_now_and_change_nothing_else() {
    let mut world = World::new();
    world.admin(Admin::RaiseLevel(RaiseLevel { level: 3 })).unwrap();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let before = world.attr(file);
    world.now_ns += 1000;
    let read = |world: &mut World, inodes: Vec<u64>, atimes_ns: Vec<i64>| {
        world.name(Op::Accessed(Accessed { inodes, atimes_ns })).map(drop)
    };
    read(&mut world, vec![999, file], vec![1, before.atime_ns + 500]).unwrap();
    assert_eq!(world.attr(file), Attr { atime_ns: before.atime_ns + 500, ..before });
    read(&mut world, vec![file], vec![before.atime_ns + 400]).unwrap();
    assert_eq!(world.attr(file).atime_ns, before.atime_ns + 500);
    read(&mut world, vec![file], vec![i64::MAX]).unwrap();
    assert!(world.attr(file).atime_ns <= world.now_ns + 1_000_000_000);
    assert_eq!(read(&mut world, vec![file], vec![]), Err(EINVAL));
    assert_eq!(read(&mut world, vec![file; 5000], vec![0; 5000]), Err(EINVAL));
}
