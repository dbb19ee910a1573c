//! Extended attributes and access control lists, by the rules of xattr(7) and acl(5).

mod common;

use common::{LIMIT, ROOT, World, creds};
use libc::{E2BIG, EACCES, EEXIST, EINVAL, ENODATA, ENOSPC, EOPNOTSUPP, EPERM, ERANGE, ESTALE};
use proptest::prelude::*;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";
const OWNER: u32 = 1000;
const NONE: u32 = u32::MAX;

fn world() -> World {
    let mut world = World::new();
    world.admin(Admin::RaiseLevel(RaiseLevel { level: 3 })).unwrap();
    world.chmod(ROOT, 0o777).unwrap();
    world.who = creds(OWNER, OWNER, &[100]);
    world
}

fn set_with(world: &mut World, inode: u64, name: &str, value: &[u8], flags: u32) -> Result<Attr, i32> {
    let op = SetXattr { inode, name: name.into(), value: value.to_vec(), flags };
    world.name(Op::SetXattr(op)).map(|reply| reply.attr.unwrap())
}

fn set(world: &mut World, inode: u64, name: &str, value: &[u8]) -> Result<Attr, i32> {
    set_with(world, inode, name, value, 0)
}

fn get(world: &World, inode: u64, name: &str) -> Result<Vec<u8>, i32> {
    world.read(Op::GetXattr(GetXattr { inode, name: name.into() })).map(|reply| reply.value)
}

fn remove(world: &mut World, inode: u64, name: &str) -> Result<(), i32> {
    world.name(Op::RemoveXattr(RemoveXattr { inode, name: name.into() })).map(drop)
}

fn list(world: &World, inode: u64) -> Vec<String> {
    let names = world.read(Op::ListXattr(ListXattr { inode })).unwrap().value;
    names
        .split_inclusive(|byte| *byte == 0)
        .map(|name| String::from_utf8(name[..name.len() - 1].to_vec()).unwrap())
        .collect()
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// Owner all, user 7 as said, owning group read, the mask as said, others nothing.
fn for_user_7(permissions: u16, mask: u16) -> Vec<u8> {
    acl(&[(1, 7, NONE), (2, permissions, 7), (4, 4, NONE), (16, mask, NONE), (32, 0, NONE)])
}

fn may(world: &mut World, uid: u32, groups: &[u32], inode: u64, mask: u32) -> bool {
    world.run_as(creds(uid, uid, groups), |world| world.read(Op::Access(Access { inode, mask })).is_ok())
}

#[test]
fn attributes_are_kept_replaced_listed_and_removed_and_move_ctime_alone() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o644).unwrap();
    let before = world.attr(file);
    assert!(!before.has_xattr && list(&world, file).is_empty());
    let after = set(&mut world, file, "user.a", b"one").unwrap();
    assert!(after.ctime_ns > before.ctime_ns && after.has_xattr && !after.has_acl);
    assert_eq!((after.mtime_ns, after.data_version), (before.mtime_ns, before.data_version));
    assert_eq!(set_with(&mut world, file, "user.a", b"two", 1), Err(EEXIST));
    assert_eq!(set_with(&mut world, file, "user.b", b"", 2), Err(ENODATA));
    set_with(&mut world, file, "user.a", b"two", 2).unwrap();
    set_with(&mut world, file, "user.b", b"", 1).unwrap();
    assert_eq!(set_with(&mut world, file, "user.a", b"", 4), Err(EINVAL));
    assert_eq!((get(&world, file, "user.a").unwrap(), get(&world, file, "user.b").unwrap()), (b"two".to_vec(), vec![]));
    assert_eq!(list(&world, file), ["user.a", "user.b"]);
    let before = world.attr(file).ctime_ns;
    remove(&mut world, file, "user.a").unwrap();
    assert!(world.attr(file).ctime_ns > before);
    assert_eq!(remove(&mut world, file, "user.a"), Err(ENODATA));
    assert_eq!(get(&world, file, "user.a"), Err(ENODATA));
    remove(&mut world, file, "user.b").unwrap();
    assert!(!world.attr(file).has_xattr);
}

#[test]
fn sizes_and_names_are_bounded() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o644).unwrap();
    let largest = vec![7; 64 << 10];
    assert_eq!(set(&mut world, file, "user.a", &vec![7; (64 << 10) + 1]), Err(E2BIG));
    for name in ["user.a", "user.b", "user.c"] {
        set(&mut world, file, name, &largest).unwrap();
    }
    assert_eq!(set(&mut world, file, "user.d", &largest), Err(ENOSPC));
    set(&mut world, file, "user.d", &largest[..60 << 10]).unwrap();
    set(&mut world, file, "user.c", &largest).unwrap();
    assert_eq!(set(&mut world, file, &format!("user.{}", "n".repeat(251)), b""), Err(ERANGE));
    for name in ["", "user."] {
        assert!(set(&mut world, file, name, b"").is_err());
    }
    for name in ["none.a", "system.a", "security.selinux"] {
        assert_eq!(set(&mut world, file, name, b""), Err(EOPNOTSUPP));
        assert_eq!(get(&world, file, name), Err(EOPNOTSUPP));
    }
    assert_eq!(set(&mut world, 999, "user.a", b""), Err(ESTALE));
}

#[test]
fn each_name_space_has_its_rights() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o604).unwrap();
    set(&mut world, file, "user.a", b"").unwrap();
    for name in ["trusted.a", "security.a"] {
        assert_eq!(set(&mut world, file, name, b""), Err(EPERM));
        world.run_as(creds(0, 0, &[]), |world| set(world, file, name, b"x")).unwrap();
    }
    assert_eq!(get(&world, file, "trusted.a"), Err(ENODATA), "it is not told to others");
    assert_eq!(get(&world, file, "security.a").unwrap(), b"x");
    assert_eq!(list(&world, file), ["security.a", "user.a"]);
    world.run_as(creds(0, 0, &[]), |world| {
        assert_eq!(list(world, file), ["security.a", "trusted.a", "user.a"]);
    });
    world.run_as(creds(1, 1, &[]), |world| {
        assert_eq!(get(world, file, "user.a").unwrap(), b"");
        assert_eq!(set(world, file, "user.a", b""), Err(EACCES));
        assert_eq!(remove(world, file, "user.a"), Err(EACCES));
        assert_eq!(set(world, file, ACCESS, &for_user_7(7, 7)), Err(EPERM));
    });
    world.run_as(creds(1, 1, &[OWNER]), |world| assert_eq!(get(world, file, "user.a"), Err(EACCES)));
    let sticky = world.mkdir(ROOT, "sticky", 0o1777).unwrap();
    world.chmod(sticky, 0o1777).unwrap();
    world.run_as(creds(1, 1, &[]), |world| assert_eq!(set(world, sticky, "user.a", b""), Err(EPERM)));
    set(&mut world, sticky, "user.a", b"").unwrap();
    let link = world.symlink(ROOT, "link", "file").unwrap();
    world.run_as(creds(0, 0, &[]), |world| {
        assert_eq!(set(world, link, "user.a", b""), Err(EPERM));
        assert_eq!(get(world, link, "user.a"), Err(ENODATA));
        assert_eq!(set(world, link, ACCESS, &for_user_7(7, 7)), Err(EOPNOTSUPP));
        assert_eq!(get(world, link, ACCESS), Err(EOPNOTSUPP));
        set(world, link, "trusted.a", b"").unwrap();
    });
}

#[test]
fn attributes_go_with_the_inode_not_with_a_name() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o644).unwrap();
    set(&mut world, file, "user.a", b"value").unwrap();
    world.link(file, ROOT, "other").unwrap();
    world.rename((ROOT, "file"), (ROOT, "moved"), 0).unwrap();
    world.unlink(ROOT, "moved").unwrap();
    assert_eq!(get(&world, file, "user.a").unwrap(), b"value");
    world.unlink(ROOT, "other").unwrap();
    assert_eq!(get(&world, file, "user.a").unwrap(), b"value", "an open file keeps them");
    world.admin(Admin::Purge(Purge { inodes: vec![file] })).unwrap();
    assert_eq!(get(&world, file, "user.a"), Err(ESTALE));
}

#[test]
fn a_list_gives_rights_to_those_it_names_as_far_as_the_mask_goes() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o600).unwrap();
    let attr = set(&mut world, file, ACCESS, &for_user_7(6, 7)).unwrap();
    assert_eq!((attr.mode, attr.has_acl), (0o770, true), "the group's bits show the mask");
    assert!(may(&mut world, 7, &[], file, 6) && !may(&mut world, 7, &[], file, 1));
    assert!(may(&mut world, 8, &[OWNER], file, 4) && !may(&mut world, 8, &[OWNER], file, 2));
    assert!(!may(&mut world, 8, &[], file, 4));
    assert_eq!(world.chmod(file, 0o640).unwrap().mode, 0o640);
    assert!(may(&mut world, 7, &[], file, 4) && !may(&mut world, 7, &[], file, 2));
    assert_eq!(
        get(&world, file, ACCESS).unwrap(),
        acl(&[(1, 6, NONE), (2, 6, 7), (4, 4, NONE), (16, 4, NONE), (32, 0, NONE)])
    );
    world.chmod(file, 0o600).unwrap();
    assert!(!may(&mut world, 7, &[], file, 4), "an empty mask leaves nothing");
    // A list of owner, group and others is a mode.
    let plain = set(&mut world, file, ACCESS, &acl(&[(1, 7, NONE), (4, 5, NONE), (32, 1, NONE)])).unwrap();
    assert_eq!((plain.mode, plain.has_acl, get(&world, file, ACCESS)), (0o751, false, Err(ENODATA)));
    set(&mut world, file, ACCESS, &for_user_7(6, 7)).unwrap();
    assert_eq!(set(&mut world, file, ACCESS, &acl(&[])).unwrap().mode, 0o770, "without its list the mode stays");
    assert_eq!(remove(&mut world, file, ACCESS), Ok(()));
    assert_eq!(set(&mut world, file, ACCESS, b"no list"), Err(EOPNOTSUPP));
    assert_eq!(set(&mut world, file, ACCESS, &acl(&[(1, 7, NONE)])), Err(EINVAL));
}

#[test]
fn a_list_set_by_who_is_not_in_the_files_group_clears_set_gid() {
    let mut world = world();
    let file = world.create(ROOT, "file", 0o2755).unwrap();
    world.run_as(creds(0, 0, &[]), |world| {
        world.chown(file, None, Some(55)).unwrap();
        world.chmod(file, 0o2755).unwrap();
    });
    assert_eq!(set(&mut world, file, ACCESS, &for_user_7(6, 7)).unwrap().mode, 0o770);
}

#[test]
fn what_is_made_under_a_default_list_has_it_instead_of_the_umask() {
    let mut world = world();
    let dir = world.mkdir(ROOT, "dir", 0o755).unwrap();
    let file = world.create(ROOT, "file", 0o644).unwrap();
    assert_eq!(set(&mut world, file, DEFAULT, &for_user_7(6, 7)), Err(EACCES));
    assert_eq!(set(&mut world, file, DEFAULT, &acl(&[])).map(|attr| attr.has_acl), Ok(false));
    let attr = set(&mut world, dir, DEFAULT, &for_user_7(6, 7)).unwrap();
    assert_eq!((attr.mode, attr.has_acl), (0o755, true), "its own rights stay");
    assert!(!may(&mut world, 7, &[], dir, 2));

    let op = Create { parent: dir, name: b"f".to_vec(), mode: 0o600, full_mode: Some(0o666), ..Default::default() };
    let made = world.name(Op::Create(op)).unwrap().attr.unwrap();
    assert_eq!((made.mode, made.has_acl), (0o660, true));
    assert_eq!(
        get(&world, made.inode, ACCESS).unwrap(),
        acl(&[(1, 6, NONE), (2, 6, 7), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE)])
    );
    assert_eq!(get(&world, made.inode, DEFAULT), Err(ENODATA));
    assert!(may(&mut world, 7, &[], made.inode, 6));

    let op = MkDir { parent: dir, name: b"d".to_vec(), mode: 0o700, full_mode: Some(0o777) };
    let made = world.name(Op::Mkdir(op)).unwrap().attr.unwrap();
    assert_eq!((made.mode, get(&world, made.inode, DEFAULT).unwrap()), (0o770, for_user_7(6, 7)));
    let link = world.symlink(dir, "l", "f").unwrap();
    assert!(!world.attr(link).has_xattr);
    // A default list that is no more than a mode is one for what is made.
    set(&mut world, dir, DEFAULT, &acl(&[(1, 7, NONE), (4, 5, NONE), (32, 0, NONE)])).unwrap();
    let op = Create { parent: dir, name: b"g".to_vec(), mode: 0o600, full_mode: Some(0o666), ..Default::default() };
    let made = world.name(Op::Create(op)).unwrap().attr.unwrap();
    assert_eq!((made.mode, made.has_xattr), (0o640, false));
    remove(&mut world, dir, DEFAULT).unwrap();
    let op = Create { parent: dir, name: b"h".to_vec(), mode: 0o600, full_mode: Some(0o666), ..Default::default() };
    assert_eq!(world.name(Op::Create(op)).unwrap().attr.unwrap().mode, 0o600);
}

#[test]
fn who_changes_a_program_takes_its_capabilities_away() {
    let mut world = world();
    let root = creds(0, 0, &[]);
    let file = world.create(ROOT, "file", 0o755).unwrap();
    let give = |world: &mut World| {
        world.run_as(root.clone(), |world| set(world, file, "security.capability", b"all")).unwrap();
    };
    type Change = fn(&mut World, u64);
    let changes: [(&str, Change); 5] = [
        ("write", |world, file| {
            world.write(file, 0, b"x").unwrap();
        }),
        ("truncate", |world, file| {
            world.truncate(file, 0).unwrap();
        }),
        ("chown", |world, file| {
            world.chown(file, None, Some(100)).unwrap();
        }),
        ("grant", |world, file| {
            world.truncate(file, u64::from(LIMIT) + 1).unwrap();
            world.run_as(creds(0, 0, &[]), |world| set(world, file, "security.capability", b"all")).unwrap();
            world.grant(file, 0).unwrap();
        }),
        ("commit", |world, file| {
            let chunk = world.grant(file, 0).unwrap().chunks[0].clone();
            world.run_as(creds(0, 0, &[]), |world| set(world, file, "security.capability", b"all")).unwrap();
            let op = CommitWrite {
                inode: file,
                size: 10,
                stored: vec![common::stored(&chunk, 4096)],
                convert_inline: true,
                expect_inline_version: world.attr(file).data_version,
                ..Default::default()
            };
            world.name(Op::CommitWrite(op)).unwrap();
        }),
    ];
    for (what, change) in changes {
        give(&mut world);
        change(&mut world, file);
        assert_eq!(get(&world, file, "security.capability"), Err(ENODATA), "{what}");
    }
    give(&mut world);
    world.chmod(file, 0o700).unwrap();
    assert!(get(&world, file, "security.capability").is_ok(), "chmod is no change of the program");
}

#[test]
fn attributes_survive_a_snapshot_of_the_level_that_brought_them() {
    let mut world = world();
    let dir = world.mkdir(ROOT, "dir", 0o755).unwrap();
    set(&mut world, dir, DEFAULT, &for_user_7(6, 7)).unwrap();
    set(&mut world, dir, "user.a name that is too long to be a short one", &[1; 5000]).unwrap();
    let read = meta::State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    read.check().unwrap();
    assert_eq!(read.hash(), world.state.hash());
    let mut again = world.clone();
    again.state = read;
    assert_eq!(list(&again, dir), list(&world, dir));
    assert_eq!(get(&again, dir, DEFAULT).unwrap(), for_user_7(6, 7));
    assert_eq!(world.snapshot()[8], 5, "the format says that older software cannot read it");
}

#[test]
fn below_their_level_they_are_refused_and_asking_finds_none() {
    let mut world = World::new();
    assert_eq!(set(&mut world, ROOT, "user.a", b""), Err(EOPNOTSUPP));
    assert_eq!(get(&world, ROOT, "user.a"), Err(ENODATA));
    assert!(list(&world, ROOT).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize, Vec<u8>, u32),
    Acl(usize, bool, u16, u16),
    Remove(usize, usize),
    Make(usize, bool, u32),
    Chmod(usize, u32),
    Unlink(usize),
}

const NAMES: [&str; 6] = ["user.a", "user.b", "trusted.a", "security.capability", ACCESS, DEFAULT];

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let value = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        (0usize..6, 0usize..4, value, 0u32..4).prop_map(|(i, n, v, f)| Set(i, n, v, f)),
        (0usize..6, any::<bool>(), 0u16..8, 0u16..8).prop_map(|(i, d, p, m)| Acl(i, d, p, m)),
        (0usize..6, 0usize..6).prop_map(|(i, n)| Remove(i, n)),
        (0usize..6, any::<bool>(), 0u32..0o1000).prop_map(|(i, d, m)| Make(i, d, m)),
        (0usize..6, 0u32..0o10000).prop_map(|(i, m)| Chmod(i, m)),
        (0usize..6).prop_map(Unlink),
    ]
}

proptest! {
    /// The invariants are looked at after each step (`World::apply`): totals, bounds, lists that fit their modes.
    #[test]
    fn any_history_keeps_the_invariants_and_a_snapshot_is_the_state(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = world();
        let mut inodes = vec![world.mkdir(ROOT, "0", 0o755).unwrap()];
        for (n, step) in steps.into_iter().enumerate() {
            let at = |i: usize| inodes[i % inodes.len()];
            match step {
                Step::Set(i, name, value, flags) => drop(set_with(&mut world, at(i), NAMES[name], &value, flags)),
                Step::Acl(i, default, permissions, mask) => {
                    let name = if default { DEFAULT } else { ACCESS };
                    let inode = at(i);
                    let _ = set(&mut world, inode, name, &for_user_7(permissions, mask));
                }
                Step::Remove(i, name) => drop(remove(&mut world, at(i), NAMES[name])),
                Step::Make(i, directory, mode) => {
                    let (parent, name) = (at(i), format!("{}", n + 1));
                    let full_mode = Some(mode | 0o22);
                    let made = if directory {
                        world.name(Op::Mkdir(MkDir { parent, name: name.into(), mode, full_mode }))
                    } else {
                        world.name(Op::Create(Create { parent, name: name.into(), mode, full_mode, ..Default::default() }))
                    };
                    inodes.extend(made.ok().and_then(|reply| reply.attr).map(|attr| attr.inode));
                }
                Step::Chmod(i, mode) => drop(world.chmod(at(i), mode)),
                Step::Unlink(i) => {
                    let inode = at(i);
                    drop(world.admin(Admin::Purge(Purge { inodes: vec![inode] })));
                }
            }
        }
        let read = meta::State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
        read.check().unwrap();
        prop_assert_eq!(read.hash(), world.state.hash());
    }
}
