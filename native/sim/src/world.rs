//! The loop: one queue of steps in the order of their time, one clock, one seed.

use std::collections::BTreeMap;

use base::{Error, ErrorKind};

use crate::client_side::{Client, ClientStep};
use crate::faults::{Fault, Plan};
use crate::leader::{Leader, LeaderStep};
use crate::oracle::{Log, Register, Time};
use crate::put_back::Backup;
use crate::random::Random;
use crate::server_side::{Server, ServerStep};

pub const MS: Time = 1000;
pub const SECOND: Time = 1000 * MS;
/// Between two looks of a client at what rests.
const TICK: Time = 100 * MS;

/// How a run went.
pub struct Report {
    /// The same seed gives the same.
    pub trace: u64,
    pub steps: u64,
    /// Operations of clients that ended well.
    pub operations: u64,
    /// What was found, if anything.
    pub failure: Option<String>,
    /// The last steps before it.
    pub story: Vec<String>,
}

pub enum Step {
    Client { id: usize, life: u32, what: ClientStep },
    Server { id: usize, what: ServerStep },
    Leader(LeaderStep),
    Fault(Fault),
    Ticks,
}

pub struct World {
    pub now: Time,
    queue: BTreeMap<(Time, u64), Step>,
    queued: u64,
    pub random: Random,
    /// For the network only, so that a fault more or less moves nothing else.
    pub weather: Random,
    pub plan: Plan,
    pub clients: Vec<Client>,
    pub servers: Vec<Server>,
    pub leader: Leader,
    pub register: Register,
    pub log: Log,
    pub backup: Backup,
    pub operations: u64,
    pub calm: bool,
    pub failure: Option<String>,
    trace: u64,
    steps: u64,
    telling: bool,
    story: std::collections::VecDeque<String>,
}

/// Run one seed to its end. `tell`: keep the story of all steps, for a replay.
pub fn run(seed: u64, tell: bool) -> Report {
    let mut random = Random::new(seed);
    let plan = Plan::draw(&mut random);
    let mut world = World {
        now: SECOND,
        queue: BTreeMap::new(),
        queued: 0,
        weather: random.split(),
        clients: Vec::new(),
        servers: Vec::new(),
        leader: Leader::new(),
        register: Register::default(),
        log: Log::default(),
        backup: Backup::draw(seed, plan.length),
        operations: 0,
        calm: false,
        failure: None,
        trace: 0xcbf2_9ce4_8422_2325,
        steps: 0,
        telling: tell,
        story: std::collections::VecDeque::new(),
        plan,
        random,
    };
    world.begin(seed);
    world.go();
    Report {
        trace: world.trace,
        steps: world.steps,
        operations: world.operations,
        failure: world.failure.take(),
        story: world.story.into(),
    }
}

impl World {
    fn begin(&mut self, seed: u64) {
        let servers = self.plan.servers;
        self.leader.min_copies = self.plan.min_copies;
        self.leader.bootstrap();
        for id in 0..servers {
            self.servers.push(Server::new(id, seed));
            self.start_server(id);
            self.register_server(id);
        }
        self.leader.make_log();
        for id in 0..self.plan.clients {
            self.add_client(id as u32);
        }
        for (at, fault) in self.plan.take_faults() {
            self.after(at, Step::Fault(fault));
        }
        self.after(TICK, Step::Ticks);
        self.after(TICK, Step::Leader(LeaderStep::Look));
    }

    /// Until the faults are over and everything had time to become whole.
    fn go(&mut self) {
        let (stop, end) = (self.plan.length, self.plan.length + self.plan.quiet);
        while let Some(((at, _), step)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            if self.now > end + SECOND || self.failure.is_some() {
                break;
            }
            if self.now > stop && !self.calm {
                self.calm = true;
                self.note(|| "calm".into());
                self.become_calm();
            }
            self.steps += 1;
            self.take(step);
            self.backup.look(self.now, &self.leader.state);
        }
        if self.failure.is_none() {
            self.check_whole();
        }
        if self.failure.is_none() {
            self.try_put_back();
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Client { id, life, what } => {
                let client = &self.clients[id];
                if client.life != life {
                    return;
                }
                if client.paused_until > self.now {
                    let wait = client.paused_until - self.now;
                    return self.after(wait, Step::Client { id, life, what });
                }
                self.mix(1 + id as u64);
                self.client_step(id, what);
            }
            Step::Server { id, what } => {
                if self.servers[id].paused_until > self.now {
                    let wait = self.servers[id].paused_until - self.now;
                    return self.after(wait, Step::Server { id, what });
                }
                self.mix(100 + id as u64);
                self.server_step(id, what);
            }
            Step::Leader(what) => {
                self.mix(200);
                self.leader_step(what);
            }
            Step::Fault(fault) => {
                self.mix(300);
                self.note(|| format!("{fault:?}"));
                self.bring(fault);
            }
            Step::Ticks => {
                for id in 0..self.clients.len() {
                    let life = self.clients[id].life;
                    self.after(0, Step::Client { id, life, what: ClientStep::Tick });
                }
                self.after(TICK, Step::Ticks);
            }
        }
    }

    pub fn after(&mut self, wait: Time, step: Step) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), step);
    }

    /// How long a message takes: mostly little, now and then long enough to be overtaken by everything.
    pub fn travel(&mut self) -> Time {
        let (slow, late) = if self.calm { (0, 0) } else { (self.plan.slow, self.plan.late) };
        if self.weather.per_mille(late) {
            self.weather.between(SECOND, 8 * SECOND)
        } else if self.weather.per_mille(slow) {
            self.weather.between(20 * MS, 400 * MS)
        } else {
            self.weather.between(100, 2 * MS)
        }
    }

    pub fn is_lost(&mut self) -> bool {
        let lost = if self.calm { 0 } else { self.plan.lost };
        self.weather.per_mille(lost)
    }

    pub fn mix(&mut self, what: u64) {
        for part in [self.now, what] {
            self.trace = (self.trace ^ part).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if self.telling {
            self.story.push_back(format!("{:>12.6} {}", self.now as f64 / SECOND as f64, what()));
        }
    }

    pub fn fail(&mut self, sentence: String) {
        if self.failure.is_none() {
            self.note(|| format!("FAILED: {sentence}"));
            self.failure = Some(format!("at {:.6} s: {sentence}", self.now as f64 / SECOND as f64));
        }
    }
}

pub fn silent(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, libc::ETIMEDOUT, format!("{what} does not answer"))
}
