//! What was sent counts only under the version that is committed; whose turn it is to append; what ended writers leave.

mod common;

use common::*;
use libc::{EBUSY, ESTALE};
use meta::{Event, State};
use proptest::prelude::*;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

const SECOND_NS: i64 = 1_000_000_000;

fn trim_done(inode: u64, info: &ChunkInfo) -> Op {
    Op::TrimDone(TrimDone { inode, index: info.index, chunk: info.chunk, trim: info.trim.unwrap() })
}

fn begin(chunk_id: u64, version: u32, target: u32) -> Admin {
    Admin::BeginHeal(BeginHeal { chunk_id, version, target })
}

fn append(inode: u64) -> Op {
    Op::AppendBegin(AppendBegin { inode })
}

fn cut(inode: u64, size: u64) -> Op {
    Op::Setattr(SetAttr { inode, size: Some(size), ..Default::default() })
}

/// A commit of the whole chunk, without a turn.
fn plain(inode: u64, size: u64, info: &ChunkInfo) -> Op {
    Op::CommitWrite(CommitWrite { inode, size, stored: vec![stored(info, 8192)], ..Default::default() })
}

/// A commit that ends the turn.
fn at_the_end(inode: u64, size: u64) -> Op {
    Op::CommitWrite(CommitWrite { inode, size, append: true, ..Default::default() })
}

fn reason(world: &mut World, op: Op) -> Reason {
    let request = world.request(op);
    world.send(request).error.map_or(Reason::None, |error| error.reason())
}

/// Another client of the same cluster: changes made by one are seen by the other.
fn as_session<T>(world: &mut World, session: u64, act: impl FnOnce(&mut World) -> T) -> T {
    let own = std::mem::replace(&mut world.session, session);
    let result = act(world);
    world.session = own;
    result
}

fn end_session(world: &mut World, session: u64) {
    as_session(world, session, |world| world.name(Op::CloseSession(CloseSession {})).unwrap());
}

#[test]
fn a_commit_under_a_version_from_before_a_cut_a_growth_or_a_heal_is_refused() {
    let mut world = World::new();
    let other = world.register();
    for change in 0..4 {
        let file = world.chunked(&format!("f{change}"), 1);
        world.truncate(file, 200_000).unwrap();
        let granted = world.grant(file, 0).unwrap().chunks[0].clone();
        let chunk = granted.chunk.unwrap();
        as_session(&mut world, other, |world| match change {
            0 => drop(world.truncate(file, 100_000).unwrap()),
            1 => drop(world.truncate(file, 300_000).unwrap()),
            2 => drop(world.admin(begin(chunk.id, chunk.version, 4)).unwrap()),
            _ => drop(world.name(trim_done(file, &granted)).unwrap()),
        });
        let op = CommitWrite { inode: file, size: 151_000, stored: vec![stored(&granted, 4096)], ..Default::default() };
        assert_eq!(reason(&mut world, Op::CommitWrite(op)), Reason::ChunkMoved, "change {change}");
        let again = world.grant(file, 0).unwrap().chunks[0].clone();
        assert!(again.chunk.unwrap().version > chunk.version);
        world.commit(file, 151_000, &again, 4096).unwrap();
    }
}

#[test]
fn a_file_that_grows_shows_zeros_where_somebody_may_have_sent_bytes_behind_its_end() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 5000).unwrap();
    let info = world.map(file).chunks[0].clone();
    world.name(trim_done(file, &info)).unwrap();
    let quiet = world.map(file).chunks[0].clone();
    world.truncate(file, 6000).unwrap();
    assert_eq!(world.map(file).chunks[0].chunk, quiet.chunk, "nobody writes: nothing to cut");
    let other = world.register();
    as_session(&mut world, other, |world| world.grant(file, 0).unwrap());
    as_session(&mut world, other, |world| world.grant(file, 1).unwrap());
    world.truncate(file, 2 * CHUNK).unwrap();
    let map = world.map(file);
    assert_eq!((map.chunks.len(), map.chunks[0].trim), (1, Some(6000)), "and chunks wholly behind the end go");
}

#[test]
fn a_file_that_its_writer_makes_longer_shows_zeros_where_that_writer_gave_bytes_up() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 5000).unwrap();
    let info = world.grant(file, 0).unwrap().chunks[0].clone();
    world.name(trim_done(file, &info)).unwrap();
    world.truncate(file, 2 * CHUNK).unwrap();
    let map = world.map(file);
    assert_eq!(map.chunks[0].trim, Some(5000));
    assert!(map.chunks[0].chunk.unwrap().version > info.chunk.unwrap().version);
}

#[test]
fn one_session_at_a_time_appends_and_its_commit_ends_the_turn() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let other = world.register();
    let reply = world.name(append(file)).unwrap();
    assert_eq!((reply.offset, reply.chunks.len()), (CHUNK, 0));
    assert_eq!(world.name(append(file)).unwrap().offset, CHUNK, "asked again, the same turn");
    assert_eq!(as_session(&mut world, other, |world| reason(world, append(file))), Reason::TurnTaken);
    let commit = |size| Op::CommitWrite(CommitWrite { inode: file, size, append: true, ..Default::default() });
    world.name(commit(CHUNK + 100)).unwrap();
    assert_eq!(reason(&mut world, commit(CHUNK + 200)), Reason::TurnLost);
    assert_eq!(as_session(&mut world, other, |world| world.name(append(file)).unwrap().offset), CHUNK + 100);
}

#[test]
fn a_holder_that_ended_or_takes_too_long_loses_its_turn_and_what_it_sent_in_it() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 9000).unwrap();
    let (slow, dead) = (world.register(), world.register());
    as_session(&mut world, slow, |world| world.name(append(file)).unwrap());
    let sent_to = as_session(&mut world, slow, |world| world.grant(file, 0).unwrap().chunks[0].clone());
    world.now_ns += 3 * SECOND_NS - 100;
    assert_eq!(world.name(append(file)).unwrap_err(), EBUSY);
    world.now_ns += SECOND_NS;
    world.name(append(file)).unwrap();
    let now = world.map(file).chunks[0].clone();
    assert!(now.chunk.unwrap().version > sent_to.chunk.unwrap().version && now.trim == Some(9000));
    let late = CommitWrite { inode: file, size: 9100, append: true, ..Default::default() };
    assert_eq!(as_session(&mut world, slow, |world| reason(world, Op::CommitWrite(late))), Reason::TurnLost);
    world.truncate(file, 8000).unwrap();
    as_session(&mut world, dead, |world| world.name(append(file)).unwrap());
    end_session(&mut world, dead);
    world.name(append(file)).unwrap();
}

#[test]
fn appended_bytes_get_no_grant_once_their_turn_is_over() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 5000).unwrap();
    let other = world.register();
    let grant = Op::GrantWrite(GrantWrite { inode: file, append: true, ..Default::default() });
    as_session(&mut world, other, |world| world.name(append(file)).unwrap());
    as_session(&mut world, other, |world| world.name(grant.clone()).unwrap());
    let granted = world.state.chunk(1).unwrap().version;
    world.now_ns += 4 * SECOND_NS;
    world.truncate(file, 6000).unwrap();
    assert!(world.state.chunk(1).unwrap().version > granted, "what it sent is void");
    assert_eq!(as_session(&mut world, other, |world| reason(world, grant)), Reason::TurnLost);
}

#[test]
fn whoever_cuts_or_adds_to_a_small_file_waits_for_the_turn_to_append() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"small").unwrap();
    let other = world.register();
    as_session(&mut world, other, |world| world.name(append(file)).unwrap());
    let add = WriteInline { inode: file, data: b"x".to_vec().into(), append: true, ..Default::default() };
    assert_eq!(reason(&mut world, Op::WriteInline(add.clone())), Reason::TurnTaken);
    let longer = WriteInline { inode: file, offset: 3, data: b"longer".to_vec().into(), ..Default::default() };
    assert_eq!(reason(&mut world, Op::WriteInline(longer)), Reason::TurnTaken);
    assert_eq!(reason(&mut world, cut(file, 2)), Reason::TurnTaken);
    world.write(file, 0, b"SMALL").unwrap();
    as_session(&mut world, other, |world| world.name(cut(file, 2)).unwrap());
    world.name(Op::WriteInline(add)).unwrap();
    let commit = CommitWrite { inode: file, append: true, ..Default::default() };
    assert_eq!(as_session(&mut world, other, |world| world.name(Op::CommitWrite(commit)).unwrap_err()), ESTALE);
}

#[test]
fn nobody_else_moves_the_end_while_a_session_has_the_turn() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 5000).unwrap();
    let info = world.grant(file, 0).unwrap().chunks[0].clone();
    let other = world.register();
    as_session(&mut world, other, |world| world.name(append(file)).unwrap());
    let version = world.state.chunk(1).unwrap().version;
    let anew = Op::Create(Create { parent: ROOT, name: b"f".to_vec(), truncate: true, ..Default::default() });
    for op in [cut(file, 100), cut(file, 5000), cut(file, 9000), anew, plain(file, 5001, &info)] {
        assert_eq!(reason(&mut world, op.clone()), Reason::TurnTaken, "{op:?}");
    }
    world.name(plain(file, 5000, &info)).unwrap();
    assert_eq!(world.state.chunk(1).unwrap().version, version, "what is appended keeps its place");
    world.now_ns += 4 * SECOND_NS;
    world.name(plain(file, 5001, &info)).unwrap();
    world.name(cut(file, 100)).unwrap();
    assert_eq!(as_session(&mut world, other, |world| reason(world, at_the_end(file, 6000))), Reason::TurnLost);
}

#[test]
fn who_has_the_turn_to_append_moves_a_small_file_into_chunks_before_whoever_was_about_to() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"small").unwrap();
    let begun = world.grant(file, 0).unwrap();
    let version = begun.attr.unwrap().data_version;
    let moving = |info: &ChunkInfo, size, append| {
        let stored = vec![stored(info, 8192)];
        let (convert_inline, expect_inline_version) = (true, version);
        let commit = CommitWrite {
            inode: file,
            size,
            stored,
            append,
            convert_inline,
            expect_inline_version,
            ..Default::default()
        };
        Op::CommitWrite(commit)
    };
    let other = world.register();
    as_session(&mut world, other, |world| world.name(append(file)).unwrap());
    let grant = Op::GrantWrite(GrantWrite { inode: file, append: true, ..Default::default() });
    let granted = as_session(&mut world, other, |world| world.name(grant).unwrap().chunks[0].clone());
    assert_ne!(granted.chunk, begun.chunks[0].chunk);
    assert_eq!(reason(&mut world, moving(&begun.chunks[0], 9000, false)), Reason::TurnTaken);
    as_session(&mut world, other, |world| world.name(moving(&granted, 9100, true)).unwrap());
    assert_eq!(reason(&mut world, moving(&begun.chunks[0], 9200, false)), Reason::ChunkMoved);
}

#[test]
fn a_holder_that_ended_or_takes_too_long_loses_its_turn_to_an_inline_append_too() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"small").unwrap();
    let (slow, dead) = (world.register(), world.register());
    let add =
        Op::WriteInline(WriteInline { inode: file, data: b"x".to_vec().into(), append: true, ..Default::default() });
    as_session(&mut world, slow, |world| world.name(append(file)).unwrap());
    world.now_ns += 3 * SECOND_NS - 100;
    assert_eq!(reason(&mut world, add.clone()), Reason::TurnTaken);
    world.now_ns += SECOND_NS;
    assert_eq!(world.name(add.clone()).unwrap().offset, 5);
    let late = CommitWrite { inode: file, append: true, ..Default::default() };
    assert_eq!(as_session(&mut world, slow, |world| reason(world, Op::CommitWrite(late))), Reason::TurnLost);
    as_session(&mut world, dead, |world| world.name(append(file)).unwrap());
    end_session(&mut world, dead);
    assert_eq!(world.name(add).unwrap().offset, 6);
}

#[test]
fn a_grant_counts_until_its_writer_settles_it_and_a_writer_that_ends_leaves_a_mark() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    assert!(world.state.granted().is_empty());
    let (one, two) = (world.register(), world.register());
    let info = as_session(&mut world, one, |world| world.grant(file, 0).unwrap().chunks[0].clone());
    as_session(&mut world, two, |world| world.grant(file, 0).unwrap());
    assert!(world.map(file).chunks[0].granted);
    assert_eq!(world.state.granted(), vec![(1, vec![one, two])]);
    as_session(&mut world, one, |world| world.commit(file, CHUNK, &info, 4096).unwrap());
    assert_eq!(world.state.granted(), vec![(1, vec![two])]);
    end_session(&mut world, two);
    assert_eq!(world.state.granted(), vec![(1, vec![0])]);
    let copy = State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    assert_eq!((copy.granted(), copy.hash()), (world.state.granted(), world.state.hash()));
}

#[test]
fn a_writer_that_gives_up_what_it_sent_leaves_a_mark_and_one_that_gives_its_grant_back_none() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    for (abandoned, left) in [(false, vec![]), (true, vec![(1, vec![0])])] {
        let writer = world.register();
        as_session(&mut world, writer, |world| {
            let chunks = vec![world.grant(file, 0).unwrap().chunks[0].chunk.unwrap()];
            world.name(Op::ReleaseGrants(ReleaseGrants { inode: file, chunks, abandoned })).unwrap();
        });
        assert_eq!(world.state.granted(), left, "some copies may have bytes that others lack");
    }
}

#[test]
fn settling_fences_the_chunk_and_takes_the_mark_away_when_the_copies_are_equal() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    world.truncate(file, 7000).unwrap();
    let info = world.map(file).chunks[0].clone();
    world.name(trim_done(file, &info)).unwrap();
    let writer = world.register();
    let granted = as_session(&mut world, writer, |world| world.grant(file, 0).unwrap().chunks[0].clone());
    end_session(&mut world, writer);
    let version = granted.chunk.unwrap().version;
    let set = world.state.chunk(1).unwrap().servers;
    let heal = world.admin(begin(1, version, 0)).unwrap().chunk.unwrap();
    assert_eq!((heal.version, &heal.servers), (version + 1, &set), "all copies stay");
    assert_eq!(heal.trim, Some(7000), "what was sent behind the end was never committed");
    assert!(world.grant(file, 0).unwrap().chunks[0].healing && world.state.granted()[0].1 == [0], "writers wait");
    let end = |ok| Admin::EndHeal(EndHeal { chunk_id: 1, heal_id: heal.heal_id, ok, stored_bytes: 0 });
    let mut failed = world.clone();
    failed.admin(end(false)).unwrap();
    assert_eq!(failed.state.granted()[0].1, [0], "the copies may differ still");
    world.admin(end(true)).unwrap();
    assert!(world.state.granted().is_empty() && world.state.chunk(1).unwrap().servers == set);
}

#[test]
fn a_chunk_that_is_freed_while_its_copies_are_compared_is_deleted_on_its_servers_only() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let chunk = world.state.chunk(1).unwrap();
    world.admin(begin(1, chunk.version, 0)).unwrap();
    world.truncate(file, 0).unwrap();
    let Some(Event::ChunksFreed(freed)) = world.events.first() else { panic!("{:?}", world.events) };
    assert_eq!(freed[0].servers, chunk.servers);
}

#[test]
fn the_end_of_a_heal_that_was_overtaken_adds_no_copy() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let start = |world: &mut World| {
        let version = world.state.chunk(1).unwrap().version;
        world.admin(begin(1, version, 4)).unwrap().chunk.unwrap().heal_id
    };
    let former = start(&mut world);
    world.truncate(file, 5000).unwrap();
    let present = start(&mut world);
    let set = world.state.chunk(1).unwrap().servers;
    let end = |heal_id| Admin::EndHeal(EndHeal { chunk_id: 1, heal_id, ok: true, stored_bytes: 0 });
    assert_eq!(world.admin(end(former)).unwrap_err(), ESTALE, "that copy was made before the cut");
    assert_eq!(world.state.chunk(1).unwrap().servers, set);
    world.admin(end(present)).unwrap();
    assert!(world.state.chunk(1).unwrap().servers.contains(&4));
}

#[test]
fn a_chunk_without_a_committed_byte_goes_with_its_last_writer() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let writer = world.register();
    as_session(&mut world, writer, |world| world.grant(file, 0).unwrap());
    assert_eq!(world.admin(begin(1, 1, 0)).unwrap_err(), EBUSY);
    end_session(&mut world, writer);
    let mut other = world.clone();
    let fresh = other.grant(file, 0).unwrap().chunks[0].clone();
    assert_eq!(fresh.chunk.unwrap().id, 2, "nobody writes into what somebody else left");
    world.admin(begin(1, 1, 0)).unwrap();
    assert!(matches!(&world.events[..], [Event::ChunksFreed(_)]));
}

#[test]
fn a_chunk_that_is_gone_blames_no_server() {
    let mut world = World::new();
    let file = world.chunked("f", 1);
    let old = world.grant(file, 0).unwrap().chunks[0].clone();
    world.truncate(file, 0).unwrap();
    let failed = (1..=4).collect();
    let op = GrantWrite { inode: file, chunk: old.chunk, failed, ..Default::default() };
    assert_eq!(world.name(Op::GrantWrite(op)).unwrap().chunks[0].replicas.len(), 3);
}

#[test]
fn a_snapshot_of_the_format_before_is_read() {
    let mut world = World::new();
    world.chunked("f", 2);
    let mut bytes = world.snapshot();
    bytes[8] = 1;
    let crc = base::crc::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(State::read_snapshot(&mut &bytes[..]).unwrap().hash(), world.state.hash());
}

proptest! {
    /// Whatever two writers, an appender, cuts and ends do: no commit is taken under a version that is over, nor over an
    /// end that another session adds to.
    #[test]
    fn a_commit_is_taken_only_at_the_present_version(steps in prop::collection::vec((0u8..7, 0u64..3, 0u64..300_000), 1..60)) {
        let mut world = World::new();
        let file = world.chunked("f", 1);
        let mut sessions = [world.register(), world.register(), world.register()];
        let mut granted: [Option<ChunkInfo>; 3] = [None, None, None];
        for (what, who, size) in steps {
            let at = who as usize;
            let session = sessions[at];
            match what {
                0 => granted[at] = as_session(&mut world, session, |w| w.grant(file, 0)).ok().map(|reply| reply.chunks[0].clone()),
                1 => { let _ = as_session(&mut world, session, |w| w.truncate(file, size.max(1))); }
                2 => if let Some(info) = &granted[at] {
                    let now = world.state.chunk(info.chunk.unwrap().id).map(|chunk| chunk.version);
                    let taken_turn = world.state.appender(file, world.now_ns).is_some_and(|holder| holder != session);
                    let is_free = !taken_turn || size <= world.attr(file).size;
                    let taken = as_session(&mut world, session, |w| w.commit(file, size, info, 4096)).is_ok();
                    prop_assert_eq!(taken, is_free && now == Some(info.chunk.unwrap().version));
                },
                3 => if let Some(info) = world.map(file).chunks.first().filter(|info| info.trim.is_some()) {
                    let op = trim_done(file, info);
                    let _ = as_session(&mut world, session, |w| w.name(op));
                },
                4 => { let _ = as_session(&mut world, session, |w| w.name(append(file))); }
                5 => { end_session(&mut world, session); sessions[at] = world.register(); granted[at] = None; }
                _ => if let Some(info) = world.map(file).chunks.first() {
                    let chunk = info.chunk.unwrap();
                    if let Ok(reply) = world.admin(begin(chunk.id, chunk.version, 0)) && let Some(chunk) = reply.chunk {
                        let end = EndHeal { chunk_id: chunk.id, heal_id: chunk.heal_id, ok: size % 2 == 0, stored_bytes: 0 };
                        world.admin(Admin::EndHeal(end)).unwrap();
                    }
                },
            }
        }
    }
}
