//! Exactly once: one effect and one reply per (session, operation id), as long as the session lives.

mod common;

use common::{ROOT, World, split};
use libc::*;
use meta::{Event, MAX_REPLIES};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

fn mkdir(name: &str) -> Op {
    Op::Mkdir(MkDir { parent: ROOT, name: name.into(), mode: 0o755, full_mode: None })
}

#[test]
fn a_retry_gets_the_same_reply_and_has_no_second_effect() {
    let mut world = World::new();
    let request = world.request(mkdir("d"));
    let first = world.send(request.clone());
    world.rename((ROOT, "d"), (ROOT, "e"), 0).unwrap();
    let hash = world.state.hash();
    assert_eq!(world.send(request), first);
    assert_eq!(hash, world.state.hash());
    let refused = world.request(mkdir("e"));
    let no = world.send(refused.clone());
    assert_eq!(no.error.as_ref().unwrap().errno, EEXIST);
    world.rmdir(ROOT, "e").unwrap();
    assert_eq!(world.send(refused), no, "also a refusal");
}

#[test]
fn a_retry_is_recognised_after_a_snapshot() {
    let mut world = World::new();
    let request = world.request(mkdir("d"));
    let first = world.send(request.clone());
    world.state = meta::State::read_snapshot(&mut &world.snapshot()[..]).unwrap();
    assert_eq!(world.send(request), first);
}

#[test]
fn two_sessions_may_use_the_same_operation_ids() {
    let mut world = World::new();
    let mut request = world.request(mkdir("a"));
    split(world.send(request.clone())).unwrap();
    request.session = world.register();
    request.op = Some(mkdir("b"));
    split(world.send(request)).unwrap();
    assert!(world.lookup(ROOT, "b").is_ok());
}

#[test]
fn acknowledged_replies_are_forgotten_and_their_operations_refused() {
    let mut world = World::new();
    let mut first = world.request(mkdir("a"));
    split(world.send(first.clone())).unwrap();
    let mut second = world.request(mkdir("b"));
    second.acked_below = second.op_id;
    split(world.send(second.clone())).unwrap();
    assert_eq!(split(world.send(first.clone())).unwrap_err(), EINVAL);
    first.op_id = 0;
    assert_eq!(split(world.send(first)).unwrap_err(), EINVAL);
    split(world.send(second)).unwrap();
}

#[test]
fn a_session_waits_when_too_many_replies_are_unacknowledged() {
    let mut world = World::new();
    let remember = |world: &mut World, acked_below| {
        let mut request = world.request(Op::Setattr(SetAttr { inode: ROOT, ..Default::default() }));
        request.acked_below = acked_below;
        let what = Some(command::What::Name(request.clone()));
        let (applied, _) = world.state.apply(&Command { what, ..Default::default() });
        (request, applied.error().cloned())
    };
    for _ in 0..MAX_REPLIES {
        assert_eq!(remember(&mut world, 0).1, None);
    }
    let (request, error) = remember(&mut world, 0);
    let error = error.unwrap();
    assert_eq!((error.errno, error.kind()), (EAGAIN, ErrorKind::ErrorUnavailable));
    assert_eq!(remember(&mut world, 10).1, None);
    split(world.send(request)).unwrap();
}

#[test]
fn an_ended_session_is_refused_and_its_number_not_reused() {
    let mut world = World::new();
    let session = world.session;
    assert_eq!(world.state.sessions()[0].id, session);
    world.admin(Admin::ExpireSession(ExpireSession { session })).unwrap();
    assert_eq!(world.events, vec![Event::SessionEnded(session)]);
    assert_eq!(world.name(mkdir("d")).unwrap_err(), ESTALE);
    world.admin(Admin::ExpireSession(ExpireSession { session })).unwrap();
    assert!(world.events.is_empty());
    world.session = world.register();
    assert!(world.session > session);
    world.name(mkdir("d")).unwrap();
    world.name(Op::CloseSession(CloseSession {})).unwrap();
    world.name(Op::CloseSession(CloseSession {})).unwrap();
    assert!(!world.state.has_session(world.session));
}

#[test]
fn registering_tells_the_inline_limit_and_refuses_endless_texts() {
    let mut world = World::new();
    let op = RegisterSession { name: "n".into(), host: "h".into(), mount_point: "/m".into() };
    let reply = world.name(Op::RegisterSession(op)).unwrap();
    assert_eq!(reply.inline_limit, common::LIMIT);
    let last = world.state.sessions().pop().unwrap();
    assert_eq!((last.id, &*last.host, last.registered_ns), (reply.session, "h", world.now_ns));
    let op = RegisterSession { name: "n".repeat(5000), ..Default::default() };
    assert_eq!(world.name(Op::RegisterSession(op)).unwrap_err(), EINVAL);
}

#[test]
fn reads_are_not_changes_and_changes_are_not_reads() {
    let mut world = World::new();
    assert_eq!(world.name(Op::Getattr(GetAttr { inode: ROOT })).unwrap_err(), EOPNOTSUPP);
    assert_eq!(world.read(mkdir("d")).unwrap_err(), EOPNOTSUPP);
    assert_eq!(world.read(Op::Statfs(StatFs {})).unwrap_err(), EOPNOTSUPP);
    assert_eq!(world.state.query(&NameRequest::default()).error.unwrap().errno, EINVAL);
    let (applied, _) = world.state.apply(&Command::default());
    assert_eq!(applied.error().unwrap().errno, EINVAL);
}

#[test]
fn encoded_commands_and_requests_work_as_decoded_ones() {
    use prost::Message;
    let mut world = World::new();
    let request = world.request(mkdir("d"));
    let mut twin = world.state.clone();
    let command = Command { now_ns: world.now_ns + 1, seed: 1, what: Some(command::What::Name(request.clone())) };
    let reply = NameReply::decode(&*twin.apply_bytes(&command.encode_to_vec()).unwrap()).unwrap();
    assert_eq!(world.send(request), reply);
    let read = NameRequest { op: Some(Op::Getattr(GetAttr { inode: 2 })), ..Default::default() };
    let bytes = twin.query_bytes(&read.encode_to_vec()).unwrap();
    assert_eq!(NameReply::decode(&*bytes).unwrap().attr, reply.attr);
    assert_eq!(twin.apply_bytes(&[0xff, 0xff]).unwrap_err().errno, EINVAL);
    assert_eq!(twin.query_bytes(&[0x08]).unwrap_err().errno, EINVAL);
}
