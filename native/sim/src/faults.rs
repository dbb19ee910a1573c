//! What goes wrong in a run, and when: drawn from the seed before it begins.

use crate::client_side::ClientStep;
use crate::oracle::Time;
use crate::random::Random;
use crate::world::{MS, SECOND, Step, World};

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    KillServer {
        id: usize,
        down: Time,
    },
    /// An orderly stop: everything is synced.
    RestartServer {
        id: usize,
        down: Time,
    },
    CutPower {
        id: usize,
        down: Time,
    },
    PauseServer {
        id: usize,
        time: Time,
    },
    AllServers {
        down: Time,
        power: bool,
    },
    StartServer {
        id: usize,
    },
    KillClient {
        id: usize,
    },
    PauseClient {
        id: usize,
        time: Time,
    },
    LoseLeader {
        time: Time,
    },
}

pub struct Plan {
    pub clients: usize,
    pub servers: usize,
    /// Servers that a write needs: with all of them no failure makes a new version.
    pub min_copies: u32,
    /// Operations end here.
    pub length: Time,
    /// Then everything has so long to become whole.
    pub quiet: Time,
    /// Messages of a thousand.
    pub slow: u64,
    pub late: u64,
    pub lost: u64,
    /// A disk may take so long to make a chunk stable.
    pub sync: Time,
    /// Longest pause between two operations of a client.
    pub think: Time,
    /// Appends to the log, of a thousand operations.
    pub appends: u64,
    /// Bytes of a file that are written to.
    pub span: u64,
    faults: Vec<(Time, Fault)>,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Plan {
        let mut plan = Plan {
            clients: random.between(2, 5) as usize,
            servers: random.between(3, 5) as usize,
            min_copies: [2, 2, 3][random.below(3) as usize],
            length: SECOND * random.between(8, 25),
            quiet: 45 * SECOND,
            slow: [0, 5, 30][random.below(3) as usize],
            late: [0, 0, 4][random.below(3) as usize],
            lost: [0, 0, 5][random.below(3) as usize],
            sync: [0, 100 * MS, 800 * MS][random.below(3) as usize],
            think: [20 * MS, 300 * MS, 2 * SECOND][random.below(3) as usize],
            appends: [0, 200, 600][random.below(3) as usize],
            span: [2048, 64 << 10, 256 << 10][random.below(3) as usize],
            faults: Vec::new(),
        };
        let count = [0, 0, 2, 5][random.below(4) as usize];
        for _ in 0..count {
            let at = random.between(SECOND, plan.length);
            let fault = plan.draw_one(random);
            plan.faults.push((at, fault));
            let spoils = matches!(fault, Fault::KillServer { .. } | Fault::CutPower { .. } | Fault::PauseServer { .. });
            if spoils && random.per_mille(250) {
                // What only some copies took nobody settles but the leader.
                let client = random.below(plan.clients as u64) as usize;
                plan.faults.push((at + random.below(SECOND), Fault::KillClient { id: client }));
            }
        }
        plan
    }

    fn draw_one(&self, random: &mut Random) -> Fault {
        let id = random.below(self.servers as u64) as usize;
        let down = random.between(50 * MS, 6 * SECOND);
        let client = random.below(self.clients as u64) as usize;
        match random.below(9) {
            0 => Fault::KillServer { id, down },
            1 => Fault::RestartServer { id, down: down / 4 },
            2 => Fault::CutPower { id, down },
            3 => Fault::PauseServer { id, time: down },
            4 => Fault::AllServers { down: down / 2, power: false },
            5 => Fault::AllServers { down: down / 2, power: true },
            6 => Fault::KillClient { id: client },
            7 => Fault::PauseClient { id: client, time: down * 2 },
            _ => Fault::LoseLeader { time: down / 3 },
        }
    }

    pub fn take_faults(&mut self) -> Vec<(Time, Fault)> {
        std::mem::take(&mut self.faults)
    }
}

impl World {
    pub fn bring(&mut self, fault: Fault) {
        match fault {
            Fault::KillServer { id, down } => self.stop_server(id, down, |server, _| server.disk.kill()),
            Fault::RestartServer { id, down } => self.stop_server(id, down, |server, _| {
                server.disk.sync_all();
                server.disk.kill();
            }),
            Fault::CutPower { id, down } => self.stop_server(id, down, |server, luck| server.disk.power_cut(luck)),
            Fault::AllServers { down, power } => {
                for id in 0..self.servers.len() {
                    let fault = if power { Fault::CutPower { id, down } } else { Fault::KillServer { id, down } };
                    self.bring(fault);
                }
            }
            Fault::StartServer { id } => {
                if !self.servers[id].is_up() {
                    self.start_server(id);
                    let soon = self.weather.between(100 * MS, 700 * MS);
                    self.after(soon, Step::Leader(crate::leader::LeaderStep::Registers { server: id }));
                }
            }
            Fault::PauseServer { id, time } => self.servers[id].paused_until = self.now + time,
            Fault::PauseClient { id, time } => self.clients[id].paused_until = self.now + time,
            Fault::KillClient { id } => self.kill_client(id),
            Fault::LoseLeader { time } => self.lose_leader(time),
        }
    }

    fn stop_server(&mut self, id: usize, down: Time, how: impl FnOnce(&mut crate::server_side::Server, u64)) {
        if !self.servers[id].is_up() {
            return;
        }
        let luck = self.random.next();
        self.servers[id].stop();
        how(&mut self.servers[id], luck);
        self.after(SECOND, Step::Leader(crate::leader::LeaderStep::Misses { server: id }));
        self.after(down, Step::Fault(Fault::StartServer { id }));
    }

    /// No more faults: who is paused goes on, who is down starts, clients finish and close.
    pub fn become_calm(&mut self) {
        for id in 0..self.servers.len() {
            self.servers[id].paused_until = 0;
            if !self.servers[id].is_up() {
                self.bring(Fault::StartServer { id });
            }
        }
        for id in 0..self.clients.len() {
            self.clients[id].paused_until = 0;
            let life = self.clients[id].life;
            self.after(0, Step::Client { id, life, what: ClientStep::Tick });
        }
    }
}
