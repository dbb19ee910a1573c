//! A simulation of chunkservers and writers under the rules of versions, against the state machine: what was
//! acknowledged is on every server of the committed write set, whatever fails, heals and comes late.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{ROOT, World};
use proptest::prelude::*;
use wire::proto::admin_command::Op as Admin;
use wire::proto::name_request::Op;
use wire::proto::*;

const ID: u64 = 1;

/// One chunk's copy: its version and the writes it took.
#[derive(Clone, Debug, Default)]
struct Copy {
    version: u32,
    writes: BTreeSet<u32>,
}

/// What a writer believes: the version and the set it was granted.
#[derive(Clone, Debug, Default)]
struct Grant {
    version: u32,
    servers: Vec<u32>,
}

struct Simulation {
    world: World,
    inode: u64,
    copies: BTreeMap<u32, Copy>,
    writers: [Grant; 3],
    acknowledged: BTreeSet<u32>,
    writes: u32,
}

#[derive(Clone, Debug)]
enum Step {
    /// A writer asks for the chunk again.
    Ask(usize),
    /// A writer writes; the chain breaks behind this many servers.
    Write(usize, usize),
    /// A writer's chain broke at this server of its set.
    Complain(usize, usize),
    Begin(u32),
    /// The running copy takes place (the source is this one of the set) ...
    Copy(usize),
    /// ... and ends.
    End(bool),
    Drop(usize),
    /// A reader with the current map makes a server advance.
    Advance(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let few = 0usize..3;
    prop_oneof![
        3 => few.clone().prop_map(Step::Ask),
        8 => (few.clone(), 0usize..8).prop_map(|(writer, reach)| Step::Write(writer, reach)),
        2 => (few.clone(), few.clone()).prop_map(|(writer, server)| Step::Complain(writer, server)),
        3 => (1u32..5).prop_map(Step::Begin),
        4 => few.clone().prop_map(Step::Copy),
        3 => any::<bool>().prop_map(Step::End),
        1 => few.clone().prop_map(Step::Drop),
        1 => few.prop_map(Step::Advance),
    ]
}

impl Simulation {
    fn new() -> Simulation {
        let mut world = World::new();
        let inode = world.create(ROOT, "f", 0o644).unwrap();
        let granted = world.grant(inode, 0).unwrap();
        // Before a first commit a chunk may be made anew.
        world.commit(inode, 1, &granted.chunks[0], 4096).unwrap();
        let mut simulation = Simulation {
            world,
            inode,
            copies: BTreeMap::new(),
            writers: Default::default(),
            acknowledged: BTreeSet::new(),
            writes: 0,
        };
        for server in simulation.chunk().servers {
            simulation.copies.insert(server, Copy { version: 1, ..Copy::default() });
        }
        simulation
    }

    fn chunk(&self) -> ChunkState {
        self.world.state.chunk(ID).unwrap()
    }

    /// Rule 2: a server behind advances, a server ahead refuses.
    fn reach(&mut self, server: u32, version: u32) -> Option<&mut Copy> {
        let copy = self.copies.get_mut(&server)?;
        if copy.version > version {
            return None;
        }
        copy.version = version;
        Some(copy)
    }

    /// Rule 3 and 4: take the grant, unless the chunk is being healed.
    fn take(&mut self, writer: usize, reply: Result<NameReply, i32>) {
        let Ok(reply) = reply else { return };
        let chunk = &reply.chunks[0];
        if !chunk.healing {
            let servers = chunk.replicas.iter().map(|replica| replica.server_id).collect();
            self.writers[writer] = Grant { version: chunk.chunk.unwrap().version, servers };
        }
    }

    fn step(&mut self, step: &Step) {
        let chunk = self.chunk();
        match *step {
            Step::Ask(writer) => {
                let reply = self.world.grant(self.inode, 0);
                self.take(writer, reply);
            }
            Step::Write(writer, reach) => self.write(writer, reach),
            Step::Complain(writer, server) => {
                let Grant { version, servers } = self.writers[writer].clone();
                let failed = servers.get(server).copied().into_iter().collect();
                let chunk = Some(ChunkRef { id: ID, version });
                let op = GrantWrite { inode: self.inode, failed, chunk, ..Default::default() };
                let reply = self.world.name(Op::GrantWrite(op));
                self.take(writer, reply);
            }
            Step::Begin(target) => {
                let op = BeginHeal { chunk_id: ID, version: chunk.version, target };
                let _refused_at_times = self.world.admin(Admin::BeginHeal(op));
            }
            Step::Copy(source) => self.copy(&chunk, source),
            Step::End(ok) => {
                // Only a copy that was made may be reported as such.
                let made = self.copies.get(&chunk.heal_target).is_some_and(|copy| copy.version == chunk.version);
                let op = EndHeal { chunk_id: ID, heal_id: chunk.heal_id, ok: ok && made, stored_bytes: 0 };
                let _refused_at_times = self.world.admin(Admin::EndHeal(op));
            }
            Step::Drop(server) => {
                let Some(&server_id) = chunk.servers.get(server) else { return };
                let op = DropReplica { chunk_id: ID, version: chunk.version, server_id };
                let _refused_at_times = self.world.admin(Admin::DropReplica(op));
            }
            Step::Advance(server) => {
                let Some(&server) = chunk.servers.get(server) else { return };
                self.reach(server, chunk.version);
            }
        }
    }

    /// Rule 1: acknowledged when every server of the writer's set took it.
    fn write(&mut self, writer: usize, reach: usize) {
        let Grant { version, servers } = self.writers[writer].clone();
        if servers.is_empty() {
            return;
        }
        self.writes += 1;
        let write = self.writes;
        for &server in servers.iter().take(reach) {
            match self.reach(server, version) {
                Some(copy) => copy.writes.insert(write),
                None => return,
            };
        }
        if reach >= servers.len() {
            self.acknowledged.insert(write);
        }
    }

    /// Rule 4: fence the source, then replace what the target has.
    fn copy(&mut self, chunk: &ChunkState, source: usize) {
        let Some(&source) = chunk.servers.get(source) else { return };
        if chunk.heal_id == 0 {
            return;
        }
        let Some(copy) = self.reach(source, chunk.version).cloned() else { return };
        self.copies.insert(chunk.heal_target, copy);
    }

    fn check(&self) {
        for server in self.chunk().servers {
            let copy = &self.copies[&server];
            let lost: Vec<_> = self.acknowledged.difference(&copy.writes).collect();
            assert!(lost.is_empty(), "server {server} at version {} lacks {lost:?}", copy.version);
            assert!(copy.version <= self.chunk().version, "server {server} is ahead of what was committed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_bytes_are_on_every_server_of_the_committed_set(steps in prop::collection::vec(step(), 1..80)) {
        let mut simulation = Simulation::new();
        for step in &steps {
            simulation.step(step);
            simulation.check();
        }
    }
}
