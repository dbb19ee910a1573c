//! Figures of the state machine on this machine: printed always (`--nocapture` shows them), judged only generously.

mod common;

use std::time::Instant;

use common::{ROOT, World, creds};
use wire::proto::name_request::Op;
use wire::proto::*;

const FILES: u64 = 200_000;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn command(world: &World, n: u64, op: Op) -> Command {
    let request = NameRequest {
        session: world.session,
        op_id: 1000 + n,
        acked_below: 1000 + n.saturating_sub(64),
        creds: Some(creds(1000, 1000, &[])),
        op: Some(op),
    };
    Command { now_ns: n as i64, seed: n, what: Some(command::What::Name(request)) }
}

fn name(n: u64) -> Vec<u8> {
    format!("file-{:011}", n.wrapping_mul(0x9E37_79B9) % 100_000_000_000).into()
}

#[test]
fn creating_and_looking_up_take_microseconds_and_a_file_some_hundred_bytes() {
    let mut world = World::new();
    world.chmod(ROOT, 0o777).unwrap();
    let creates: Vec<_> = (0..FILES)
        .map(|n| {
            command(&world, n, Op::Create(Create { parent: ROOT, name: name(n), mode: 0o644, ..Default::default() }))
        })
        .collect();
    let lookups: Vec<_> = (0..FILES)
        .map(|n| NameRequest {
            creds: Some(creds(1000, 1000, &[])),
            op: Some(Op::Lookup(Lookup { parent: ROOT, name: name(n * 7919 % FILES) })),
            ..Default::default()
        })
        .collect();
    let before = resident_bytes();
    let start = Instant::now();
    for command in &creates {
        assert_eq!(world.state.apply(command).0.error(), None);
    }
    let create_ns = start.elapsed().as_nanos() as u64 / FILES;
    let file_bytes = (resident_bytes() - before) / FILES;
    let start = Instant::now();
    for lookup in &lookups {
        assert_eq!(world.state.query(lookup).error, None);
    }
    let lookup_ns = start.elapsed().as_nanos() as u64 / FILES;
    let start = Instant::now();
    for n in 0..FILES {
        let op = Op::Getattr(GetAttr { inode: 2 + n * 7919 % FILES });
        assert_eq!(world.state.query(&NameRequest { op: Some(op), ..Default::default() }).error, None);
    }
    let getattr_ns = start.elapsed().as_nanos() as u64 / FILES;
    let start = Instant::now();
    let bytes = world.snapshot();
    let write_ms = start.elapsed().as_millis();
    let start = Instant::now();
    let read = meta::State::read_snapshot(&mut &bytes[..]).unwrap();
    let read_ms = start.elapsed().as_millis();
    assert_eq!(read.hash(), world.state.hash());
    let frozen = world.state.clone();
    let start = Instant::now();
    for n in 0..FILES / 10 {
        let op = Op::Setattr(SetAttr {
            inode: 2 + n * 7919 % FILES,
            atime_now: true,
            mtime_now: true,
            ..Default::default()
        });
        assert_eq!(world.state.apply(&command(&world, FILES + n, op)).0.error(), None);
    }
    let frozen_ns = start.elapsed().as_nanos() as u64 / (FILES / 10);
    drop(frozen);
    let estimate = world.state.memory_bytes() / FILES;
    println!(
        "{FILES} files: create {create_ns} ns, lookup {lookup_ns} ns, getattr {getattr_ns} ns, utimes beside a \
         snapshot {frozen_ns} ns; {file_bytes} bytes/file resident, {estimate} estimated, {} in a snapshot \
         (written in {write_ms} ms, read in {read_ms} ms)",
        bytes.len() as u64 / FILES
    );
    assert!(create_ns < 50_000 && lookup_ns < 10_000 && getattr_ns < 10_000);
    assert!(file_bytes < 1000, "{file_bytes} bytes per file");
}
