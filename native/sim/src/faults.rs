//! What goes wrong in a run, and when: drawn from the seed before it begins.

use chunk::sim::{SimFault, SimOp};

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
    /// Operations of a server's disk fail, once or for a time.
    BadDisk {
        id: usize,
        fault: SimFault,
        time: Time,
    },
    /// The disk works again; its server is started anew.
    MendDisk {
        id: usize,
    },
    /// The disk is put back to what it was so long before.
    RollBack {
        id: usize,
        down: Time,
    },
    /// The date of a client jumps.
    Jump {
        id: usize,
        by_ns: i64,
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
    /// A new file that takes the place of the one in use, and the name taken away, of a thousand opens.
    pub renames: u64,
    pub unlinks: u64,
    /// A client that is silent for so long loses its session.
    pub expire: Time,
    /// Clocks go so many thousandths too fast or too slow at most.
    drift: u64,
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
            renames: [0, 0, 200, 500][random.below(4) as usize],
            unlinks: [0, 0, 0, 200][random.below(4) as usize],
            expire: [60 * SECOND, 60 * SECOND, 8 * SECOND][random.below(3) as usize],
            drift: [0, 0, 50][random.below(3) as usize],
            faults: Vec::new(),
        };
        let count = [0, 0, 2, 5][random.below(4) as usize];
        for _ in 0..count {
            let at = random.between(SECOND, plan.length);
            let fault = plan.draw_one(random);
            // Copies of two put back disks may be all that there are.
            let again = plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::RollBack { .. }));
            if !(again && matches!(fault, Fault::RollBack { .. })) {
                plan.faults.push((at, fault));
            }
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
        match random.below(13) {
            0 => Fault::KillServer { id, down },
            1 => Fault::RestartServer { id, down: down / 4 },
            2 => Fault::CutPower { id, down },
            3 => Fault::PauseServer { id, time: down },
            4 => Fault::AllServers { down: down / 2, power: false },
            5 => Fault::AllServers { down: down / 2, power: true },
            6 => Fault::KillClient { id: client },
            7 => Fault::PauseClient { id: client, time: down * 2 },
            8 | 9 => Fault::BadDisk { id, fault: draw_disk_fault(random), time: down },
            10 => Fault::RollBack { id, down: down / 4 },
            11 => Fault::Jump { id: client, by_ns: (random.below(7200) as i64 - 3600) * 1_000_000_000 },
            _ => Fault::LoseLeader { time: down / 3 },
        }
    }

    /// How fast a clock goes, in thousandths of the truth, and how far its date is off.
    pub fn clock(&self, random: &mut Random) -> (u64, i64) {
        let rate = 1000 - self.drift + random.below(2 * self.drift + 1);
        let off = if self.drift == 0 { 0 } else { random.below(7200) as i64 - 3600 };
        (rate, off * 1_000_000_000)
    }

    pub fn take_faults(&mut self) -> Vec<(Time, Fault)> {
        std::mem::take(&mut self.faults)
    }
}

fn draw_disk_fault(random: &mut Random) -> SimFault {
    let (op, errno) = match random.below(6) {
        0 => (SimOp::Read, libc::EIO),
        1 => (SimOp::Write, libc::EIO),
        2 => (SimOp::ShortWrite(random.below(8192) as usize), libc::EIO),
        3 => (SimOp::Sync, libc::EIO),
        4 => (SimOp::Name, libc::EIO),
        _ => (SimOp::Write, libc::ENOSPC),
    };
    SimFault { op, after: random.below(20), errno, stay: random.below(2) == 0 }
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
                    if !self.servers[id].is_up() {
                        return self.after(SECOND, Step::Fault(fault));
                    }
                    let soon = self.weather.between(100 * MS, 700 * MS);
                    self.after(soon, Step::Leader(crate::leader::LeaderStep::Registers { server: id }));
                }
            }
            Fault::PauseServer { id, time } => self.servers[id].paused_until = self.now + time,
            Fault::PauseClient { id, time } => self.clients[id].paused_until = self.now + time,
            Fault::KillClient { id } => self.kill_client(id),
            Fault::LoseLeader { time } => self.lose_leader(time),
            Fault::BadDisk { id, fault, time } => {
                self.servers[id].disk.inject(fault);
                (self.servers[id].has_bad_disk, self.servers[id].had_bad_disk) = (true, true);
                self.after(time, Step::Fault(Fault::MendDisk { id }));
            }
            Fault::MendDisk { id } => {
                self.servers[id].has_bad_disk = false;
                self.servers[id].disk.clear_faults();
                self.bring(Fault::KillServer { id, down: 200 * MS });
            }
            Fault::RollBack { id, down } => {
                let image = self.servers[id].old_image(self.now);
                if let Some(image) = image.filter(|_| !self.has_last_copy(id)) {
                    self.stop_server(id, down, |server, _| server.disk.restore(&image));
                }
            }
            Fault::Jump { id, by_ns } => self.clients[id].jump(by_ns),
        }
    }

    /// Whether a chunk may lie on this server's disk alone: without it bytes are lost, as they may be.
    fn has_last_copy(&self, id: usize) -> bool {
        let is_gone = |server: &u32| *server == id as u32 + 1 || self.servers[*server as usize - 1].had_bad_disk;
        self.leader.state.chunks().any(|chunk| chunk.servers.iter().all(is_gone))
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
            if self.servers[id].has_bad_disk {
                self.bring(Fault::MendDisk { id });
            }
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
