//! Random histories of everything that can be in the log: refusals leave no trace (the world checks each), a replay
//! gives the same state, a snapshot at any moment continues like the original, retries have no second effect.

mod common;

use common::{CHUNK, ROOT, World, creds, stored};
use meta::State;
use proptest::prelude::*;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

/// What one step is made from: which operation, and small numbers that mean something else to each.
type Step = (u8, u8, u8, u16);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>()), 1..150)
}

fn inode_of(world: &World, n: u8) -> u64 {
    1 + u64::from(n) % (world.state.counters().inodes + 2)
}

fn chunk_of(world: &World, n: u8) -> ChunkState {
    let chunks: Vec<_> = world.state.chunks().collect();
    chunks.get(usize::from(n) % chunks.len().max(1)).cloned().unwrap_or_default()
}

/// The version that is right most of the time.
fn version_of(chunk: &ChunkState, c: u16) -> u32 {
    if c.is_multiple_of(8) { u32::from(c) } else { chunk.version }
}

fn name_op(world: &World, (kind, a, b, c): Step) -> Op {
    let (parent, name) = (inode_of(world, a), format!("n{}", b % 5).into_bytes());
    let inode = inode_of(world, b);
    let sizes = [0, 1, 5000, CHUNK - 1, CHUNK, CHUNK + 7, 3 * CHUNK, u64::MAX];
    let size = sizes[usize::from(c % 8)];
    match kind % 14 {
        0 => Op::Mkdir(MkDir { parent, name, mode: 0o777, full_mode: None }),
        1 | 2 => {
            Op::Create(Create { parent, name, mode: u32::from(c), truncate: c.is_multiple_of(3), ..Default::default() })
        }
        3 => Op::Unlink(Unlink { parent, name }),
        4 => Op::Rmdir(RmDir { parent, name }),
        5 => Op::Link(Link { inode: u64::from(c % 9), parent, name }),
        6 => Op::Rename(Rename {
            source_parent: parent,
            source_name: name,
            target_parent: u64::from(c % 9),
            target_name: format!("n{}", c / 9 % 5).into(),
            flags: u32::from(c / 45 % 3),
        }),
        7 => Op::Setattr(SetAttr { inode, size: Some(size), by_handle: true, ..Default::default() }),
        8 => Op::WriteInline(WriteInline {
            inode,
            offset: u64::from(c % 70),
            data: vec![b; 3].into(),
            append: c.is_multiple_of(2),
            times: None,
        }),
        9 | 10 => {
            let chunk = chunk_of(world, a);
            let failed = chunk.servers.first().filter(|_| c.is_multiple_of(4)).copied().into_iter().collect();
            let (inode, index) =
                if c.is_multiple_of(4) { (chunk.inode, chunk.index) } else { (inode, u64::from(c / 4 % 4)) };
            let chunk = Some(ChunkRef { id: chunk.id, version: version_of(&chunk, c) });
            Op::GrantWrite(GrantWrite {
                inode,
                index,
                failed,
                chunk,
                take_over: c.is_multiple_of(5),
                append: c.is_multiple_of(7),
            })
        }
        11 | 12 => commit_op(world, a, c, size),
        _ => {
            let chunk = chunk_of(world, a);
            let trim = chunk.trim.unwrap_or(u32::from(c));
            let reference = Some(ChunkRef { id: chunk.id, version: version_of(&chunk, c) });
            Op::TrimDone(TrimDone { inode: chunk.inode, index: chunk.index, chunk: reference, trim })
        }
    }
}

fn commit_op(world: &World, a: u8, c: u16, size: u64) -> Op {
    let chunk = chunk_of(world, a);
    let info = ChunkInfo {
        index: chunk.index,
        chunk: Some(ChunkRef { id: chunk.id, version: version_of(&chunk, c) }),
        ..Default::default()
    };
    let attr = world.read(Op::Getattr(GetAttr { inode: chunk.inode })).ok().and_then(|reply| reply.attr);
    Op::CommitWrite(CommitWrite {
        inode: chunk.inode,
        size: size.min(4 * CHUNK),
        mtime_ns: i64::from(c % 2),
        stored: vec![stored(&info, u32::from(c))],
        expect_inline_version: attr.map_or(0, |attr| attr.data_version + u64::from(c % 16 == 1)),
        convert_inline: !c.is_multiple_of(3),
        append: false,
        times: None,
    })
}

fn admin_op(world: &World, (kind, a, b, c): Step) -> Admin {
    let server_id = u32::from(b % 6);
    let chunk = chunk_of(world, a);
    let (chunk_id, version) = (chunk.id, version_of(&chunk, c));
    match kind % 9 {
        0 => {
            let address = format!("host{b}:{c}");
            Admin::RegisterServer(RegisterServer { server_id, address, boot_id: u64::from(c) })
        }
        1 => {
            let epoch = world.state.server(server_id).map_or(0, |server| server.epoch);
            Admin::SetServerUp(SetServerUp { server_id, epoch, up: !c.is_multiple_of(4) })
        }
        2 => Admin::SetWeights(SetWeights { weights: vec![ServerWeight { server_id, weight: u32::from(c % 4) * 50 }] }),
        3 | 4 => Admin::BeginHeal(BeginHeal { chunk_id, version, target: server_id }),
        5 => {
            let healing = world.state.healing();
            let heal = healing.get(usize::from(a) % healing.len().max(1)).cloned().unwrap_or_default();
            Admin::EndHeal(EndHeal {
                chunk_id: heal.id,
                heal_id: heal.heal_id,
                ok: !c.is_multiple_of(3),
                stored_bytes: 0,
            })
        }
        6 => Admin::DropReplica(DropReplica { chunk_id, version, server_id }),
        7 => Admin::Purge(Purge { inodes: world.state.orphans() }),
        _ => Admin::ForgetServer(ForgetServer { server_id }),
    }
}

/// Every command that a history leads to, with its reply and its events.
fn run(world: &mut World, steps: &[Step], mut each: impl FnMut(&World)) -> u32 {
    let mut done = 0;
    for &step in steps {
        world.who = creds(u32::from(step.3.is_multiple_of(5)), 1, &[]);
        done += u32::from(match step.0 {
            0..64 => world.admin(admin_op(world, step)).is_ok(),
            64..68 => {
                world.session = world.register();
                true
            }
            68..70 => world.admin(Admin::ExpireSession(ExpireSession { session: u64::from(step.1 % 4) })).is_ok(),
            _ => world.name(name_op(world, step)).is_ok(),
        });
        each(world);
    }
    done
}

fn world() -> World {
    let mut world = World::new();
    world.chmod(ROOT, 0o777).unwrap();
    world.create(ROOT, "n1", 0o666).unwrap();
    world.chunked("n2", 2);
    world
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_replay_gives_the_same_state_and_the_same_replies(steps in steps()) {
        let mut world = world();
        run(&mut world, &steps, |_| {});
        let (mut once, mut again) = (State::new(), State::new());
        for command in &world.log {
            prop_assert_eq!(once.apply(command), again.apply(command));
        }
        prop_assert_eq!(once.hash(), world.state.hash());
        prop_assert_eq!(again.hash(), world.state.hash());
    }

    #[test]
    fn a_snapshot_at_any_moment_continues_like_the_original(steps in steps(), at in any::<prop::sample::Index>()) {
        let mut world = world();
        run(&mut world, &steps, |_| {});
        let at = at.index(world.log.len());
        let mut original = State::new();
        world.log[..at].iter().for_each(|command| drop(original.apply(command)));
        let frozen = original.clone();
        let hash = frozen.hash();
        world.log[at..].iter().for_each(|command| drop(original.apply(command)));
        let mut bytes = Vec::new();
        frozen.write_snapshot(&mut bytes).unwrap();
        let mut restored = State::read_snapshot(&mut &bytes[..]).unwrap();
        prop_assert_eq!(restored.hash(), hash);
        restored.check().map_err(TestCaseError::fail)?;
        world.log[at..].iter().for_each(|command| drop(restored.apply(command)));
        prop_assert_eq!(restored.hash(), original.hash());
    }

    #[test]
    fn a_retried_operation_gives_the_same_reply_and_no_second_effect(steps in steps()) {
        let mut world = world();
        run(&mut world, &steps, |world| {
            let Some(command) = world.log.last() else { return };
            let Some(command::What::Name(request)) = &command.what else { return };
            if request.op_id == 0 || matches!(request.op, Some(Op::RegisterSession(_))) {
                return;
            }
            let mut twin = world.state.clone();
            let (first, events) = twin.apply(command);
            assert!(events.is_empty());
            assert_eq!(twin.hash(), world.state.hash());
            assert_eq!(twin.apply(command).0, first);
        });
    }

    #[test]
    fn any_bytes_as_a_command_are_an_answer_and_no_panic(steps in steps(), cut in any::<u16>(), flip in any::<u16>(), mask in 1u8..) {
        use prost::Message;
        let mut world = world();
        run(&mut world, &steps, |_| {});
        for command in &world.log {
            let mut bytes = command.encode_to_vec();
            let at = usize::from(flip) % bytes.len();
            bytes[at] ^= mask;
            let _any_answer = world.state.apply_bytes(&bytes);
            bytes.truncate(usize::from(cut) % bytes.len());
            let _any_answer = world.state.apply_bytes(&bytes);
            let _any_answer = world.state.query_bytes(&bytes);
        }
        world.state.check().map_err(TestCaseError::fail)?;
    }
}

#[test]
fn random_histories_do_something() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut done, mut made, mut healed) = (0, 0, 0);
    for _ in 0..100 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut world = world();
        done += run(&mut world, &steps, |world| healed += world.state.healing().len());
        made += world.state.counters().chunks;
    }
    assert!(done > 2000 && made > 200 && healed > 300, "{done} done, {made} chunks, {healed} healing");
}
