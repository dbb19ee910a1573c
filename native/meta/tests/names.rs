//! Names, links, rename, permissions and times as POSIX has them.

mod common;

use common::{ROOT, World, creds};
use libc::*;
use meta::{Event, State};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

fn alice() -> Credentials {
    creds(1000, 1000, &[100])
}

fn bob() -> Credentials {
    creds(2000, 2000, &[])
}

/// A world whose root everybody may write to.
fn shared() -> World {
    let mut world = World::new();
    world.chmod(ROOT, 0o777).unwrap();
    world
}

#[test]
fn a_name_is_any_bytes_but_slash_and_nul_up_to_255() {
    let mut world = World::new();
    let longest = "n".repeat(255);
    world.create(ROOT, &longest, 0o644).unwrap();
    assert_eq!(world.lookup(ROOT, &longest), Ok(2));
    assert_eq!(world.create(ROOT, &"n".repeat(256), 0o644), Err(ENAMETOOLONG));
    assert_eq!(world.create(ROOT, "", 0o644), Err(ENOENT));
    assert_eq!(world.create(ROOT, "a/b", 0o644), Err(EINVAL));
    assert_eq!(world.create(ROOT, "a\0b", 0o644), Err(EINVAL));
    let odd = vec![0xff, 0xfe, b'\n', b' '];
    let op = MkDir { parent: ROOT, name: odd.clone(), mode: 0o755, full_mode: None };
    let made = world.name(Op::Mkdir(op)).unwrap().attr.unwrap();
    let found = world.read(Op::Lookup(Lookup { parent: ROOT, name: odd })).unwrap();
    assert_eq!(found.attr, Some(made));
}

#[test]
fn dot_and_dot_dot_can_be_looked_up_and_never_made_or_removed() {
    let mut world = World::new();
    let dir = world.mkdir(ROOT, "d", 0o755).unwrap();
    assert_eq!(world.lookup(dir, "."), Ok(dir));
    assert_eq!(world.lookup(dir, ".."), Ok(ROOT));
    assert_eq!(world.lookup(ROOT, ".."), Ok(ROOT));
    assert_eq!(world.mkdir(dir, ".", 0o755), Err(EEXIST));
    assert_eq!(world.create(dir, "..", 0o644), Err(EEXIST));
    assert_eq!(world.symlink(dir, ".", "x"), Err(EEXIST));
    assert_eq!(world.link(dir, dir, ".").unwrap_err(), EEXIST);
    assert_eq!(world.unlink(dir, ".").unwrap_err(), EISDIR);
    assert_eq!(world.rmdir(dir, "."), Err(EINVAL));
    assert_eq!(world.rmdir(dir, ".."), Err(ENOTEMPTY));
    assert_eq!(world.rename((dir, ".."), (ROOT, "x"), 0), Err(EBUSY));
}

#[test]
fn link_counts_of_directories_follow_their_subdirectories() {
    let mut world = World::new();
    let a = world.mkdir(ROOT, "a", 0o755).unwrap();
    let b = world.mkdir(ROOT, "b", 0o755).unwrap();
    world.mkdir(a, "x", 0o755).unwrap();
    assert_eq!((world.attr(ROOT).nlink, world.attr(a).nlink, world.attr(b).nlink), (4, 3, 2));
    world.rename((a, "x"), (b, "x"), 0).unwrap();
    assert_eq!((world.attr(a).nlink, world.attr(b).nlink), (2, 3));
    assert_eq!(world.rmdir(ROOT, "b"), Err(ENOTEMPTY));
    world.rmdir(b, "x").unwrap();
    world.rmdir(ROOT, "b").unwrap();
    assert_eq!(world.attr(ROOT).nlink, 3);
}

#[test]
fn unknown_inodes_are_stale_and_unknown_names_do_not_exist() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    assert_eq!(world.lookup(ROOT, "gone"), Err(ENOENT));
    assert_eq!(world.lookup(99, "x"), Err(ESTALE));
    assert_eq!(world.lookup(file, "x"), Err(ENOTDIR));
    assert_eq!(world.read(Op::Getattr(GetAttr { inode: 99 })).unwrap_err(), ESTALE);
    assert_eq!(world.unlink(ROOT, "gone").unwrap_err(), ENOENT);
    assert_eq!(world.rmdir(ROOT, "f"), Err(ENOTDIR));
    let dir = world.mkdir(ROOT, "d", 0o755).unwrap();
    assert_eq!(world.unlink(ROOT, "d").unwrap_err(), EISDIR);
    assert_eq!(world.link(dir, ROOT, "e").unwrap_err(), EPERM);
}

#[test]
fn an_unlinked_file_lives_on_by_its_number_until_it_is_purged() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.write(file, 0, b"data").unwrap();
    assert_eq!(world.unlink(ROOT, "f").unwrap().nlink, 0);
    assert_eq!(world.events, vec![Event::Orphaned(file)]);
    assert_eq!(world.state.orphans(), vec![file]);
    world.write(file, 4, b"more").unwrap();
    assert_eq!(&world.map(file).inline_data[..], b"datamore");
    world.setattr(SetAttr { inode: file, size: Some(2), by_handle: true, ..Default::default() }).unwrap();
    assert_eq!(world.link(file, ROOT, "again").unwrap_err(), ENOENT);
    world.admin(Admin::Purge(Purge { inodes: vec![file, ROOT, 77] })).unwrap();
    assert_eq!(world.events, vec![Event::Purged(file)]);
    assert_eq!(world.read(Op::Getattr(GetAttr { inode: file })).unwrap_err(), ESTALE);
    assert_eq!(world.create(ROOT, "f", 0o644), Ok(file + 1), "inode numbers are not reused");
}

#[test]
fn nothing_can_be_made_in_a_removed_directory() {
    let mut world = World::new();
    let dir = world.mkdir(ROOT, "d", 0o755).unwrap();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    world.rmdir(ROOT, "d").unwrap();
    assert_eq!(world.attr(dir).nlink, 0);
    assert_eq!(world.create(dir, "x", 0o644), Err(ENOENT));
    assert_eq!(world.mkdir(dir, "x", 0o755), Err(ENOENT));
    assert_eq!(world.link(file, dir, "x").unwrap_err(), ENOENT);
    assert_eq!(world.rename((ROOT, "f"), (dir, "x"), 0), Err(ENOENT));
    assert!(world.names(dir).is_empty());
}

#[test]
fn create_opens_what_is_there_unless_it_is_exclusive() {
    let mut world = shared();
    let file = world.create(ROOT, "f", 0o640).unwrap();
    world.write(file, 0, b"hello").unwrap();
    let mut op = Create { parent: ROOT, name: b"f".into(), mode: 0o777, read: true, ..Default::default() };
    let reply = world.name(Op::Create(op.clone())).unwrap();
    assert!(!reply.created && reply.is_inline && &reply.inline_data[..] == b"hello");
    assert_eq!(reply.attr.unwrap().mode, 0o640);
    op.exclusive = true;
    assert_eq!(world.name(Op::Create(op.clone())).unwrap_err(), EEXIST);
    op.exclusive = false;
    assert_eq!(world.run_as(bob(), |world| world.name(Op::Create(op.clone()))).unwrap_err(), EACCES);
    op.truncate = true;
    assert_eq!(world.name(Op::Create(op)).unwrap().attr.unwrap().size, 0);
    world.mkdir(ROOT, "d", 0o777).unwrap();
    world.symlink(ROOT, "l", "nowhere").unwrap();
    let open =
        |name: &str, exclusive| Op::Create(Create { parent: ROOT, name: name.into(), exclusive, ..Default::default() });
    assert_eq!(world.name(open("d", false)).unwrap_err(), EISDIR);
    assert_eq!(world.name(open("l", false)).unwrap_err(), ELOOP);
    assert_eq!(world.name(open("l", true)).unwrap_err(), EEXIST, "also for a dangling link");
}

#[test]
fn rename_replaces_what_posix_allows() {
    let mut world = World::new();
    let a = world.create(ROOT, "a", 0o644).unwrap();
    let b = world.create(ROOT, "b", 0o644).unwrap();
    let full = world.mkdir(ROOT, "full", 0o755).unwrap();
    world.mkdir(ROOT, "empty", 0o755).unwrap();
    world.create(full, "x", 0o644).unwrap();
    assert_eq!(world.rename((ROOT, "a"), (ROOT, "full"), 0), Err(EISDIR));
    assert_eq!(world.rename((ROOT, "full"), (ROOT, "a"), 0), Err(ENOTDIR));
    assert_eq!(world.rename((ROOT, "empty"), (ROOT, "full"), 0), Err(ENOTEMPTY));
    assert_eq!(world.rename((ROOT, "gone"), (ROOT, "a"), 0), Err(ENOENT));
    assert_eq!(world.rename((ROOT, "a"), (ROOT, "b"), NOREPLACE), Err(EEXIST));
    assert_eq!(world.rename((ROOT, "a"), (ROOT, "z"), 8), Err(EINVAL));
    world.rename((ROOT, "a"), (ROOT, "b"), 0).unwrap();
    assert_eq!(world.events, vec![Event::Orphaned(b)]);
    assert_eq!((world.lookup(ROOT, "a"), world.lookup(ROOT, "b")), (Err(ENOENT), Ok(a)));
    world.rename((ROOT, "full"), (ROOT, "empty"), 0).unwrap();
    assert_eq!(world.lookup(ROOT, "empty"), Ok(full));
    assert_eq!(world.attr(ROOT).nlink, 3);
    world.rename((ROOT, "b"), (ROOT, "c"), NOREPLACE).unwrap();
}

#[test]
fn rename_of_two_names_of_one_file_changes_nothing() {
    let mut world = World::new();
    let file = world.create(ROOT, "a", 0o644).unwrap();
    world.link(file, ROOT, "b").unwrap();
    let before = world.state.content_hash();
    world.rename((ROOT, "a"), (ROOT, "b"), 0).unwrap();
    assert_eq!(before, world.state.content_hash());
    assert_eq!(world.rename((ROOT, "a"), (ROOT, "b"), NOREPLACE), Err(EEXIST));
}

#[test]
fn a_directory_cannot_move_into_itself() {
    let mut world = World::new();
    let a = world.mkdir(ROOT, "a", 0o755).unwrap();
    let b = world.mkdir(a, "b", 0o755).unwrap();
    assert_eq!(world.rename((ROOT, "a"), (b, "c"), 0), Err(EINVAL));
    assert_eq!(world.rename((ROOT, "a"), (a, "c"), 0), Err(EINVAL));
    assert_eq!(world.rename((a, "b"), (ROOT, "a"), 0), Err(ENOTEMPTY), "over its own parent");
    assert_eq!(world.rename((a, "b"), (ROOT, "a"), EXCHANGE), Err(EINVAL));
}

#[test]
fn exchange_swaps_a_file_and_a_directory_between_directories() {
    let mut world = World::new();
    let left = world.mkdir(ROOT, "left", 0o755).unwrap();
    let right = world.mkdir(ROOT, "right", 0o755).unwrap();
    let dir = world.mkdir(left, "x", 0o755).unwrap();
    let file = world.create(right, "y", 0o644).unwrap();
    assert_eq!(world.rename((left, "x"), (right, "z"), EXCHANGE), Err(ENOENT));
    world.rename((left, "x"), (right, "y"), EXCHANGE).unwrap();
    assert_eq!((world.lookup(left, "x"), world.lookup(right, "y")), (Ok(file), Ok(dir)));
    assert_eq!((world.attr(left).nlink, world.attr(right).nlink, world.attr(dir).parent), (2, 3, right));
}

#[test]
fn a_sticky_directory_lets_only_owners_take_entries_away() {
    let mut world = shared();
    let tmp = world.mkdir(ROOT, "tmp", 0o1777).unwrap();
    world.chmod(tmp, 0o1777).unwrap();
    world.run_as(alice(), |world| world.create(tmp, "a", 0o666)).unwrap();
    world.run_as(bob(), |world| {
        world.create(tmp, "b", 0o666).unwrap();
        assert_eq!(world.unlink(tmp, "a").unwrap_err(), EPERM);
        assert_eq!(world.rename((tmp, "a"), (tmp, "c"), 0), Err(EPERM));
        assert_eq!(world.rename((tmp, "b"), (tmp, "a"), 0), Err(EPERM));
        world.rename((tmp, "b"), (tmp, "mine"), 0).unwrap();
    });
    world.run_as(alice(), |world| world.unlink(tmp, "a")).unwrap();
}

#[test]
fn moving_a_directory_to_another_parent_needs_the_right_to_write_to_it() {
    let mut world = shared();
    let dir = world.run_as(alice(), |world| world.mkdir(ROOT, "d", 0o555)).unwrap();
    let other = world.mkdir(ROOT, "o", 0o777).unwrap();
    world.chmod(other, 0o777).unwrap();
    world.run_as(alice(), |world| {
        assert_eq!(world.rename((ROOT, "d"), (other, "d"), 0), Err(EACCES));
        world.rename((ROOT, "d"), (ROOT, "e"), 0).unwrap();
        world.chmod(dir, 0o755).unwrap();
        world.rename((ROOT, "e"), (other, "d"), 0).unwrap();
    });
}

#[test]
fn a_set_group_id_directory_hands_on_its_group() {
    let mut world = shared();
    let dir = world.mkdir(ROOT, "d", 0o777).unwrap();
    world.chown(dir, None, Some(100)).unwrap();
    world.chmod(dir, 0o2777).unwrap();
    world.run_as(bob(), |world| {
        let sub = world.mkdir(dir, "sub", 0o755).unwrap();
        let file = world.create(dir, "f", 0o2755).unwrap();
        assert_eq!((world.attr(sub).gid, world.attr(sub).mode), (100, 0o2755));
        assert_eq!((world.attr(file).gid, world.attr(file).mode), (100, 0o755), "a stranger makes no set-gid program");
    });
    world.run_as(alice(), |world| {
        let file = world.create(dir, "g", 0o2755).unwrap();
        assert_eq!(world.attr(file).mode, 0o2755);
    });
}

#[test]
fn set_id_bits_go_when_a_user_writes_cuts_or_anybody_gives_away() {
    let mut world = shared();
    let file = world.run_as(alice(), |world| world.create(ROOT, "f", 0o6777)).unwrap();
    world.chown(file, None, Some(100)).unwrap();
    let reset = |world: &mut World| {
        world.chmod(file, 0o6777).unwrap();
    };
    assert_eq!(world.attr(file).mode, 0o777, "chown, even by root");
    reset(&mut world);
    world.write(file, 0, b"root").unwrap();
    assert_eq!(world.attr(file).mode, 0o6777, "root may");
    world.run_as(bob(), |world| world.write(file, 0, b"bob")).unwrap();
    assert_eq!(world.attr(file).mode, 0o777);
    reset(&mut world);
    world.run_as(bob(), |world| world.truncate(file, 1)).unwrap();
    assert_eq!(world.attr(file).mode, 0o777);
    reset(&mut world);
    world.truncate(file, 0).unwrap();
    world.run_as(bob(), |world| world.grant(file, 0)).unwrap();
    assert_eq!(world.attr(file).mode, 0o777);
    world.chmod(file, 0o2767).unwrap();
    world.run_as(alice(), |world| world.chown(file, None, Some(1000))).unwrap();
    assert_eq!(world.attr(file).mode, 0o2767, "without group execution it is no set-gid program");
}

#[test]
fn only_owners_change_modes_and_only_root_gives_files_away() {
    let mut world = shared();
    let file = world.run_as(alice(), |world| world.create(ROOT, "f", 0o644)).unwrap();
    assert_eq!(world.attr(file).gid, 1000);
    world.run_as(bob(), |world| {
        assert_eq!(world.chmod(file, 0o777).unwrap_err(), EPERM);
        assert_eq!(world.chown(file, Some(2000), None).unwrap_err(), EPERM);
        assert_eq!(world.chown(file, None, Some(2000)).unwrap_err(), EPERM);
    });
    world.run_as(alice(), |world| {
        assert_eq!(world.chown(file, Some(2000), None).unwrap_err(), EPERM);
        assert_eq!(world.chown(file, None, Some(2000)).unwrap_err(), EPERM, "not a group of hers");
        world.chown(file, Some(1000), Some(100)).unwrap();
        assert_eq!(world.chmod(file, 0o2755).unwrap().mode, 0o2755);
    });
    world.chown(file, Some(2000), Some(2000)).unwrap();
    world.chown(file, Some(1000), None).unwrap();
    world.run_as(alice(), |world| assert_eq!(world.chmod(file, 0o2755).unwrap().mode, 0o755, "group 2000 is not hers"));
    let link = world.symlink(ROOT, "l", "f").unwrap();
    assert_eq!(world.chmod(link, 0o600).unwrap_err(), EOPNOTSUPP);
}

#[test]
fn times_are_set_to_now_by_writers_and_to_anything_by_owners() {
    let mut world = shared();
    let file = world.run_as(alice(), |world| world.create(ROOT, "f", 0o666)).unwrap();
    let now = SetAttr { inode: file, atime_now: true, mtime_now: true, ..Default::default() };
    let one = SetAttr { inode: file, mtime_now: true, ..Default::default() };
    let past = SetAttr { inode: file, atime_ns: Some(-5), mtime_ns: Some(i64::MAX), ..Default::default() };
    world.run_as(bob(), |world| {
        let attr = world.setattr(now).unwrap();
        assert_eq!((attr.atime_ns, attr.mtime_ns, attr.ctime_ns), (world.now_ns, world.now_ns, world.now_ns));
        assert_eq!(world.setattr(past).unwrap_err(), EPERM);
        assert_eq!(world.setattr(one).unwrap_err(), EPERM);
    });
    world.run_as(alice(), |world| {
        let attr = world.setattr(past).unwrap();
        assert_eq!((attr.atime_ns, attr.mtime_ns, attr.ctime_ns), (-5, i64::MAX, world.now_ns));
        world.setattr(one).unwrap();
        world.chmod(file, 0o600).unwrap();
    });
    world.run_as(bob(), |world| assert_eq!(world.setattr(now).unwrap_err(), EACCES));
}

#[test]
fn search_and_write_permission_are_asked_of_each_directory() {
    let mut world = shared();
    let dir = world.mkdir(ROOT, "d", 0o754).unwrap();
    world.create(dir, "f", 0o644).unwrap();
    world.run_as(bob(), |world| {
        assert_eq!(world.lookup(dir, "f"), Err(EACCES));
        assert_eq!(world.lookup(dir, "gone"), Err(EACCES));
        assert_eq!(world.read(Op::Readdir(ReadDir { inode: dir, ..Default::default() })).unwrap().entries.len(), 1);
        assert_eq!(world.create(dir, "x", 0o644), Err(EACCES));
    });
    world.chmod(dir, 0o751).unwrap();
    world.run_as(bob(), |world| {
        world.lookup(dir, "f").unwrap();
        assert_eq!(world.read(Op::Readdir(ReadDir { inode: dir, ..Default::default() })).unwrap_err(), EACCES);
        assert_eq!(world.create(dir, "x", 0o644), Err(EACCES));
        assert_eq!(world.create(dir, "f", 0o644), Err(EEXIST));
        assert_eq!(world.unlink(dir, "f").unwrap_err(), EACCES);
    });
}

#[test]
fn every_group_counts_and_the_owner_s_bits_come_first() {
    let mut world = shared();
    let file = world.run_as(alice(), |world| world.create(ROOT, "f", 0o074)).unwrap();
    let access = |mask| Op::Access(Access { inode: file, mask });
    let group = creds(3000, 3000, &[5, 6, 1000]);
    world.run_as(alice(), |world| assert_eq!(world.read(access(4)).unwrap_err(), EACCES));
    world.run_as(group, |world| world.read(access(7)).unwrap());
    world.run_as(bob(), |world| {
        world.read(access(4)).unwrap();
        assert_eq!(world.read(access(2)).unwrap_err(), EACCES);
        world.read(access(0)).unwrap();
    });
    world.read(access(7)).unwrap();
    world.chmod(file, 0o666).unwrap();
    assert_eq!(world.read(access(1)).unwrap_err(), EACCES, "root executes only what somebody may");
    assert_eq!(world.read(access(8)).unwrap_err(), EINVAL);
    let nobody = world.state.query(&NameRequest { op: Some(access(1)), ..Default::default() });
    assert_eq!(nobody.error.unwrap().errno, EACCES, "no credentials, no rights");
}

#[test]
fn changes_touch_the_times_that_posix_names() {
    let mut world = World::new();
    let dir = world.mkdir(ROOT, "d", 0o755).unwrap();
    let file = world.create(dir, "f", 0o644).unwrap();
    let times = |world: &World, inode| (world.attr(inode).mtime_ns, world.attr(inode).ctime_ns);
    assert_eq!(times(&world, dir), (world.now_ns, world.now_ns));
    let made = times(&world, file);
    world.chmod(file, 0o600).unwrap();
    assert_eq!(times(&world, file), (made.0, world.now_ns));
    world.link(file, dir, "g").unwrap();
    assert_eq!((times(&world, file), times(&world, dir)), ((made.0, world.now_ns), (world.now_ns, world.now_ns)));
    world.rename((dir, "g"), (ROOT, "g"), 0).unwrap();
    let now = world.now_ns;
    assert_eq!((times(&world, file).1, times(&world, dir), times(&world, ROOT)), (now, (now, now), (now, now)));
    world.write(file, 0, b"").unwrap();
    assert_eq!(times(&world, file), (made.0, now), "a write of nothing touches nothing");
    world.write(file, 0, b"x").unwrap();
    assert_eq!(times(&world, file), (world.now_ns, world.now_ns));
    world.truncate(file, 1).unwrap();
    assert_eq!(times(&world, file), (world.now_ns, world.now_ns));
    world.unlink(ROOT, "g").unwrap();
    assert_eq!((times(&world, file).1, times(&world, ROOT)), (world.now_ns, (world.now_ns, world.now_ns)));
    world.setattr(SetAttr { inode: file, ..Default::default() }).unwrap();
    assert_eq!(times(&world, file).1, world.now_ns - 1, "no field, no change");
}

#[test]
fn a_symbolic_link_has_a_target_of_1_to_4095_bytes() {
    let mut world = World::new();
    let link = world.symlink(ROOT, "l", &"t".repeat(4095)).unwrap();
    assert_eq!(world.read(Op::Readlink(ReadLink { inode: link })).unwrap().value.len(), 4095);
    assert_eq!((world.attr(link).size, world.attr(link).mode), (4095, 0o777));
    assert_eq!(world.symlink(ROOT, "m", &"t".repeat(4096)), Err(ENAMETOOLONG));
    assert_eq!(world.symlink(ROOT, "m", ""), Err(ENOENT));
    assert_eq!(world.symlink(ROOT, "m", "a\0"), Err(EINVAL));
    assert_eq!(world.read(Op::Readlink(ReadLink { inode: ROOT })).unwrap_err(), EINVAL);
    assert_eq!(world.read(Op::Open(Open { inode: link, read: true, write: false })).unwrap_err(), ELOOP);
    assert_eq!(world.truncate(link, 0).unwrap_err(), EINVAL);
}

#[test]
fn a_path_is_walked_through_symbolic_links_40_at_most() {
    let mut world = World::new();
    let a = world.mkdir(ROOT, "a", 0o755).unwrap();
    let b = world.mkdir(a, "b", 0o755).unwrap();
    let file = world.create(b, "f", 0o644).unwrap();
    world.symlink(ROOT, "rel", "a/b").unwrap();
    world.symlink(a, "abs", "/a/b/").unwrap();
    let last = world.symlink(b, "last", "f").unwrap();
    world.symlink(ROOT, "loop", "loop").unwrap();
    let walk = |world: &World, path: &str, follow| {
        let op = Resolve { start: 0, path: path.into(), follow };
        world.read(Op::Resolve(op)).map(|reply| reply.attr.unwrap().inode)
    };
    assert_eq!(walk(&world, "", true), Ok(ROOT));
    assert_eq!(walk(&world, "/", true), Ok(ROOT));
    assert_eq!(walk(&world, "//a/./b/../b/f", true), Ok(file));
    assert_eq!(walk(&world, "rel/f", false), Ok(file));
    assert_eq!(walk(&world, "a/abs/last", true), Ok(file));
    assert_eq!(walk(&world, "a/abs/last", false), Ok(last));
    assert_eq!(walk(&world, "rel/", false), Ok(b), "a trailing slash follows");
    assert_eq!(walk(&world, "a/b/f/", true), Err(ENOTDIR));
    assert_eq!(walk(&world, "a/b/f/x", true), Err(ENOTDIR));
    assert_eq!(walk(&world, "loop", true), Err(ELOOP));
    assert_eq!(walk(&world, "../../a", true), Ok(a));
    assert_eq!(walk(&world, &"x".repeat(4096), true), Err(ENAMETOOLONG));
    for link in 0..45 {
        let target = if link == 0 { "a".into() } else { format!("c{}", link - 1) };
        world.symlink(ROOT, &format!("c{link}"), &target).unwrap();
    }
    assert_eq!(walk(&world, "c39", true), Ok(a));
    assert_eq!(walk(&world, "c40", true), Err(ELOOP));
    world.chmod(a, 0o700).unwrap();
    world.run_as(bob(), |world| assert_eq!(walk(world, "rel/f", true), Err(EACCES)));
}

#[test]
fn a_listing_shows_what_stays_once_while_entries_come_and_go() {
    let mut world = World::new();
    let dir = world.mkdir(ROOT, "d", 0o755).unwrap();
    for n in 0..10 {
        world.create(dir, &format!("f{n}"), 0o644).unwrap();
    }
    let page = |world: &World, cookie, max_entries| {
        world.read(Op::Readdir(ReadDir { inode: dir, cookie, max_entries, plus: true, by_handle: false })).unwrap()
    };
    let first = page(&world, 0, 4);
    assert!(first.entries.len() == 4 && !first.end);
    assert_eq!(first.entries[0].attr.as_ref().unwrap().inode, first.entries[0].inode);
    let cookie = first.entries[3].cookie;
    for gone in ["f1", "f3", "f5"] {
        world.unlink(dir, gone).unwrap();
    }
    world.create(dir, "new", 0o644).unwrap();
    world.rename((dir, "f0"), (dir, "f7"), 0).unwrap();
    let rest = page(&world, cookie, 0);
    let names: Vec<_> = rest.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name)).collect();
    assert_eq!(names, ["f4", "f6", "f7", "f8", "f9", "new"]);
    assert!(rest.end && rest.entries.windows(2).all(|pair| pair[0].cookie < pair[1].cookie));
    assert!(page(&world, u64::MAX, 0).end);
}

#[test]
fn links_of_one_file_and_subdirectories_have_a_limit() {
    let mut world = World::new();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let mut state = world.state.clone();
    let most = base::limits::MAX_LINKS;
    let link = |state: &mut meta::State, n: u32| {
        let op = Op::Link(Link { inode: file, parent: ROOT, name: format!("l{n}").into() });
        let request = NameRequest {
            session: world.session,
            op_id: 1000 + u64::from(n),
            acked_below: 1000 + u64::from(n),
            creds: Some(creds(0, 0, &[])),
            op: Some(op),
        };
        let (applied, _) = state.apply(&Command { what: Some(command::What::Name(request)), ..Default::default() });
        applied.error().map(|error| error.errno)
    };
    for n in 1..most {
        assert_eq!(link(&mut state, n), None);
    }
    assert_eq!(link(&mut state, most), Some(EMLINK));
    state.check().unwrap();
}

/// At the cluster level that brought special files.
fn raised() -> World {
    let mut world = shared();
    world.admin(Admin::RaiseLevel(RaiseLevel { level: 2 })).unwrap();
    world
}

fn node(world: &mut World, parent: u64, name: &str, kind: FileKind, rdev: u32) -> Result<Attr, i32> {
    let op = MakeNode { parent, name: name.into(), mode: 0o4640, kind: kind as i32, rdev, full_mode: None };
    world.name(Op::MakeNode(op)).map(|reply| reply.attr.unwrap())
}

#[test]
fn what_a_kernel_keeps_has_a_name_and_rights_like_any_other_and_no_content() {
    let mut world = raised();
    let device = node(&mut world, ROOT, "device", FileKind::FileBlockDevice, 0x0701).unwrap();
    assert_eq!((device.kind(), device.rdev, device.size, device.mode), (FileKind::FileBlockDevice, 0x0701, 0, 0o4640));
    assert_eq!(node(&mut world, ROOT, "device", FileKind::FileFifo, 0), Err(EEXIST));
    assert_eq!(node(&mut world, ROOT, "pipe", FileKind::FileFifo, 9).unwrap().rdev, 0, "a fifo has no number");
    for kind in [FileKind::FileRegular, FileKind::FileDirectory, FileKind::FileSymlink] {
        assert_eq!(node(&mut world, ROOT, "other", kind, 0), Err(EINVAL));
    }
    let unknown = MakeNode { parent: ROOT, name: b"other".to_vec(), mode: 0, kind: 99, rdev: 0, full_mode: None };
    assert_eq!(world.name(Op::MakeNode(unknown)).map(|_| ()), Err(EINVAL));
    assert_eq!(world.read(Op::Open(Open { inode: device.inode, read: true, write: false })).map(|_| ()), Err(ENXIO));
    assert_eq!(world.truncate(device.inode, 0), Err(EINVAL));
    assert_eq!(world.write(device.inode, 0, b"x"), Err(EINVAL));
    world.link(device.inode, ROOT, "again").unwrap();
    world.rename((ROOT, "again"), (ROOT, "pipe"), 0).unwrap();
    assert_eq!(world.attr(device.inode).nlink, 2);
    world.unlink(ROOT, "pipe").unwrap();
    world.unlink(ROOT, "device").unwrap();
}

#[test]
fn only_root_makes_a_device_that_opens_something() {
    let mut world = raised();
    let made = world.run_as(alice(), |world| {
        let device = node(world, ROOT, "device", FileKind::FileCharacterDevice, 0x0103).map(|_| ());
        let whiteout = node(world, ROOT, "whiteout", FileKind::FileCharacterDevice, 0).map(|attr| attr.uid);
        let socket = node(world, ROOT, "socket", FileKind::FileSocket, 0).map(|attr| attr.uid);
        (device, whiteout, socket)
    });
    assert_eq!(made, (Err(EPERM), Ok(1000), Ok(1000)));
    let shut = world.mkdir(ROOT, "shut", 0o755).unwrap();
    let refused = world.run_as(bob(), |world| node(world, shut, "pipe", FileKind::FileFifo, 0).map(|_| ()));
    assert_eq!(refused, Err(EACCES));
}

/// At the cluster level that brought files without a name, whiteouts and times of birth.
fn latest() -> World {
    let mut world = shared();
    world.admin(Admin::RaiseLevel(RaiseLevel { level: 3 })).unwrap();
    world
}

fn unnamed(world: &mut World, exclusive: bool) -> Result<Attr, i32> {
    let op =
        Create { parent: ROOT, mode: 0o640, exclusive, read: true, write: true, unnamed: true, ..Default::default() };
    world.name(Op::Create(op)).map(|reply| reply.attr.unwrap())
}

#[test]
fn a_file_without_a_name_is_an_orphan_until_it_is_given_one() {
    let mut world = latest();
    let before = world.attr(ROOT);
    let file = unnamed(&mut world, false).unwrap();
    assert_eq!((file.nlink, file.mode, world.state.orphans()), (0, 0o640, vec![file.inode]));
    assert_eq!(world.attr(ROOT), before, "its directory does not change");
    assert_eq!(world.events, vec![Event::Orphaned(file.inode)]);
    world.write(file.inode, 0, b"x").unwrap();
    let read = State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    assert_eq!(read.hash(), world.state.hash());
    world.state = read;
    assert_eq!(world.link(file.inode, ROOT, "named").unwrap().nlink, 1);
    assert_eq!((world.state.orphans(), world.events.clone()), (vec![], vec![Event::Named(file.inode)]));
    world.admin(Admin::Purge(Purge { inodes: vec![file.inode] })).unwrap();
    assert_eq!(world.lookup(ROOT, "named"), Ok(file.inode));
    world.unlink(ROOT, "named").unwrap();
    assert_eq!(world.link(file.inode, ROOT, "again").map(drop), Err(ENOENT), "it had a name");
    world.admin(Admin::Purge(Purge { inodes: vec![file.inode] })).unwrap();

    let own = unnamed(&mut world, true).unwrap().inode;
    assert_eq!(world.link(own, ROOT, "never").map(drop), Err(ENOENT));
    world.chmod(ROOT, 0o555).unwrap();
    world.run_as(creds(9, 9, &[]), |world| assert_eq!(unnamed(world, false).map(drop), Err(EACCES)));
}

#[test]
fn a_whiteout_takes_the_place_of_what_was_moved_in_the_same_step() {
    let mut world = latest();
    let (a, b) = (world.mkdir(ROOT, "a", 0o755).unwrap(), world.mkdir(ROOT, "b", 0o755).unwrap());
    let file = world.create(a, "f", 0o644).unwrap();
    world.mkdir(a, "d", 0o755).unwrap();
    world.rename((a, "f"), (b, "f"), 4).unwrap();
    world.rename((a, "d"), (b, "d"), 5).unwrap();
    assert_eq!((world.names(a), world.lookup(b, "f")), (vec!["f".into(), "d".into()], Ok(file)));
    for name in ["f", "d"] {
        let left = world.attr(world.lookup(a, name).unwrap());
        assert_eq!((left.kind(), left.rdev, left.mode, left.nlink), (FileKind::FileCharacterDevice, 0, 0, 1));
    }
    assert_eq!((world.attr(a).nlink, world.attr(b).nlink), (2, 3));
    world.create(a, "g", 0o644).unwrap();
    assert_eq!(world.rename((a, "g"), (b, "f"), 5), Err(EEXIST));
    assert_eq!(world.rename((a, "g"), (b, "f"), 6), Err(EINVAL));
    assert_eq!(world.rename((a, "none"), (b, "f"), 4), Err(ENOENT));
    let mut older = raised();
    older.create(ROOT, "f", 0o644).unwrap();
    assert_eq!(older.rename((ROOT, "f"), (ROOT, "g"), 4), Err(EOPNOTSUPP));
    assert_eq!(unnamed(&mut older, false).map(drop), Err(EOPNOTSUPP));
}

#[test]
fn a_file_knows_when_it_was_made() {
    let mut world = latest();
    let file = world.create(ROOT, "f", 0o644).unwrap();
    let born = world.attr(file).btime_ns;
    assert_eq!(born, world.attr(file).ctime_ns);
    world.chmod(file, 0o600).unwrap();
    let read = State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    world.state = read;
    assert_eq!(world.attr(file).btime_ns, born);
    let mut older = raised();
    let file = older.create(ROOT, "f", 0o644).unwrap();
    assert_eq!(older.attr(file).btime_ns, 0, "what some masters could not keep nobody knows");
}
