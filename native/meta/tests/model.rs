//! Random histories of names against the plain model: every reply, every attribute, every listing.

mod common;
#[path = "common/model.rs"]
mod plain;

use common::{LIMIT, World, creds};
use plain::{Kind, Model};
use proptest::prelude::*;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

/// One step; numbers are cut down to inodes that may exist when it is made.
#[derive(Clone, Debug)]
enum Step {
    Lookup(u8, u8),
    MkDir(u8, u8, u32),
    Create(u8, u8, u32, bool, bool),
    Symlink(u8, u8),
    Unlink(u8, u8),
    RmDir(u8, u8),
    Link(u8, u8, u8),
    Rename(u8, u8, u8, u8, u32),
    Write(u8, u8, Vec<u8>),
    Truncate(u8, u8, bool),
    Chmod(u8, u32),
    Chown(u8, Option<u8>, Option<u8>),
    Utimes(u8, Option<i64>),
    Purge(u8),
}

const NAMES: [&str; 6] = ["a", "b", "c", "a name that is too long to be short", ".", ".."];

fn name(n: u8) -> Vec<u8> {
    // The dots are rare: they rarely do anything.
    NAMES[if n < 240 { usize::from(n % 4) } else { usize::from(4 + n % 2) }].into()
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let mode = || prop_oneof![Just(0o777u32), Just(0o755), 0o0u32..0o10000];
    let dir = || prop_oneof![3 => 1u8..5, 1 => any::<u8>()];
    prop_oneof![
        1 => (dir(), any::<u8>()).prop_map(|(d, n)| Lookup(d, n)),
        4 => (dir(), any::<u8>(), mode()).prop_map(|(d, n, m)| MkDir(d, n, m)),
        4 => (dir(), any::<u8>(), mode(), any::<bool>(), any::<bool>()).prop_map(|(d, n, m, x, t)| Create(d, n, m, x, t)),
        1 => (dir(), any::<u8>()).prop_map(|(d, n)| Symlink(d, n)),
        2 => (dir(), any::<u8>()).prop_map(|(d, n)| Unlink(d, n)),
        2 => (dir(), any::<u8>()).prop_map(|(d, n)| RmDir(d, n)),
        2 => (any::<u8>(), dir(), any::<u8>()).prop_map(|(i, d, n)| Link(i, d, n)),
        5 => (dir(), any::<u8>(), dir(), any::<u8>(), 0u32..4).prop_map(|(d, n, e, m, f)| Rename(d, n, e, m, f)),
        2 => (any::<u8>(), 0u8..70, prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(i, o, b)| Write(i, o, b)),
        2 => (any::<u8>(), 0u8..200, any::<bool>()).prop_map(|(i, s, h)| Truncate(i, s, h)),
        3 => (any::<u8>(), mode()).prop_map(|(i, m)| Chmod(i, m)),
        2 => (any::<u8>(), prop::option::of(0u8..3), prop::option::of(0u8..4)).prop_map(|(i, u, g)| Chown(i, u, g)),
        1 => (any::<u8>(), prop::option::of(any::<i64>())).prop_map(|(i, t)| Utimes(i, t)),
        1 => any::<u8>().prop_map(Purge),
    ]
}

fn users() -> [Credentials; 4] {
    [creds(0, 0, &[]), creds(1, 1, &[3]), creds(2, 2, &[1, 3]), creds(0, 0, &[])]
}

fn run(world: &mut World, model: &mut Model, user: usize, step: &Step) -> Result<(), TestCaseError> {
    let inodes = model.nodes.keys().max().unwrap() + 1; // one more than were ever seen alive: a stale one
    let id = |n: u8| 1 + u64::from(n) % inodes;
    world.who = users()[user].clone();
    let now = world.now_ns + 1;
    let model = model.at(now, &world.who.clone());
    let (op, expected) = match step.clone() {
        Step::Lookup(dir, n) => {
            let (parent, name) = (id(dir), name(n));
            let found = world.read(Op::Lookup(Lookup { parent, name: name.clone() }));
            prop_assert_eq!(found.map(|reply| reply.attr.unwrap().inode), model.lookup(parent, &name));
            return Ok(());
        }
        Step::Purge(inode) => {
            world.admin(Admin::Purge(Purge { inodes: vec![id(inode)] })).unwrap();
            model.purge(id(inode));
            return Ok(());
        }
        Step::MkDir(dir, n, mode) => {
            let (parent, name) = (id(dir), name(n));
            (Op::Mkdir(MkDir { parent, name: name.clone(), mode, full_mode: None }), model.mkdir(parent, &name, mode))
        }
        Step::Create(dir, n, mode, exclusive, truncate) => {
            let (parent, name) = (id(dir), name(n));
            let op = Create {
                parent,
                name: name.clone(),
                mode,
                exclusive,
                read: true,
                write: false,
                truncate,
                full_mode: None,
                unnamed: false,
            };
            (Op::Create(op), model.create(parent, &name, mode, exclusive, truncate))
        }
        Step::Symlink(dir, n) => {
            let (parent, name) = (id(dir), name(n));
            let op = Symlink { parent, name: name.clone(), target: b"target".into() };
            (Op::Symlink(op), model.symlink(parent, &name))
        }
        Step::Unlink(dir, n) => {
            let (parent, name) = (id(dir), name(n));
            (Op::Unlink(Unlink { parent, name: name.clone() }), model.unlink(parent, &name))
        }
        Step::RmDir(dir, n) => {
            let (parent, name) = (id(dir), name(n));
            (Op::Rmdir(RmDir { parent, name: name.clone() }), model.rmdir(parent, &name))
        }
        Step::Link(inode, dir, n) => {
            let (inode, parent, name) = (id(inode), id(dir), name(n));
            (Op::Link(Link { inode, parent, name: name.clone() }), model.link(inode, parent, &name))
        }
        Step::Rename(from, n, to, m, flags) => {
            let (source_parent, source_name, target_parent, target_name) = (id(from), name(n), id(to), name(m));
            let expected = model.rename((source_parent, &source_name), (target_parent, &target_name), flags);
            (Op::Rename(Rename { source_parent, source_name, target_parent, target_name, flags }), expected)
        }
        Step::Write(inode, offset, data) => {
            let (inode, offset) = (id(inode), u64::from(offset));
            let expected = model.write(inode, offset as usize, &data);
            (Op::WriteInline(WriteInline { inode, offset, data: data.into(), append: false, times: None }), expected)
        }
        Step::Truncate(inode, size, by_handle) => {
            let (inode, size) = (id(inode), u64::from(size));
            let expected = model.truncate(inode, size as usize, by_handle);
            (Op::Setattr(SetAttr { inode, size: Some(size), by_handle, ..Default::default() }), expected)
        }
        Step::Chmod(inode, mode) => {
            let inode = id(inode);
            (Op::Setattr(SetAttr { inode, mode: Some(mode), ..Default::default() }), model.chmod(inode, mode))
        }
        Step::Chown(inode, uid, gid) => {
            let (inode, uid, gid) = (id(inode), uid.map(u32::from), gid.map(u32::from));
            (Op::Setattr(SetAttr { inode, uid, gid, ..Default::default() }), model.chown(inode, uid, gid))
        }
        Step::Utimes(inode, time) => {
            let (inode, now) = (id(inode), time.is_none());
            let op =
                SetAttr { inode, atime_ns: time, mtime_ns: time, atime_now: now, mtime_now: now, ..Default::default() };
            (Op::Setattr(op), model.utimes(inode, time))
        }
    };
    let done = world.name(op).map(|reply| reply.attr.unwrap().inode);
    prop_assert_eq!(done, expected);
    Ok(())
}

fn compare(world: &World, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(world.state.counters().inodes, model.nodes.len() as u64);
    for (&inode, node) in &model.nodes {
        let attr = world.attr(inode);
        let seen = (attr.mode, attr.uid, attr.gid, attr.nlink, attr.atime_ns, attr.mtime_ns, attr.ctime_ns);
        let expected = (node.mode, node.uid, node.gid, model.nlink(inode), node.atime, node.mtime, node.ctime);
        prop_assert_eq!(seen, expected, "inode {}", inode);
        match &node.kind {
            Kind::Dir { parent, entries } => {
                let mut names: Vec<_> = world.names(inode).into_iter().map(String::into_bytes).collect();
                names.sort();
                prop_assert_eq!(names, entries.keys().cloned().collect::<Vec<_>>());
                prop_assert_eq!(attr.parent, *parent);
            }
            Kind::File { data } => {
                let shown = &data[..data.len().min(LIMIT as usize)];
                prop_assert_eq!((attr.size, &world.map(inode).inline_data[..]), (data.len() as u64, shown));
            }
            Kind::Symlink => prop_assert_eq!(attr.size, 6),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_name_space_behaves_like_the_plain_model(steps in prop::collection::vec((0usize..4, step()), 1..120)) {
        let mut world = World::new();
        let mut model = Model::new(LIMIT as usize, world.attr(common::ROOT).ctime_ns);
        model.at(world.now_ns + 1, &creds(0, 0, &[])).chmod(common::ROOT, 0o777).unwrap();
        world.chmod(common::ROOT, 0o777).unwrap();
        for (user, step) in &steps {
            run(&mut world, &mut model, *user, step)?;
            compare(&world, &model)?;
        }
    }
}
