//! The table of operations against the state machine: what the table calls a change it carries out, what a read it answers.

mod common;

use common::World;
use prost::Message;
use wire::op::{Kind, TABLE};
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::{NameRequest, RaiseLevel};

/// The operation of this number with nothing in it.
fn empty(number: u32) -> Op {
    let mut request = Vec::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut request);
    request.push(0);
    NameRequest::decode(&request[..]).unwrap().op.expect("an operation of the schema")
}

fn is_unknown(outcome: Result<wire::proto::NameReply, i32>) -> bool {
    outcome == Err(libc::EOPNOTSUPP)
}

#[test]
fn every_change_is_carried_out_and_nothing_else_is() {
    for row in TABLE {
        let mut world = World::new();
        world.admin(Admin::RaiseLevel(RaiseLevel { level: wire::level::LEVEL })).unwrap();
        assert_eq!(is_unknown(world.name(empty(row.number))), row.kind != Kind::Change, "{}", row.name);
    }
}

#[test]
fn what_a_later_level_brought_is_refused_below_it() {
    for row in TABLE.iter().filter(|row| row.level > wire::level::FIRST) {
        assert!(is_unknown(World::new().name(empty(row.number))), "{}", row.name);
    }
}

#[test]
fn every_read_is_answered_and_no_change_is() {
    let world = World::new();
    for row in TABLE {
        let unknown = is_unknown(world.read(empty(row.number)));
        match row.kind {
            Kind::Read => assert!(!unknown, "{}", row.name),
            Kind::Change => assert!(unknown, "{}", row.name),
            // The leader's; the state knows the part of it that is a question of rights.
            Kind::Memory => {}
        }
    }
}
