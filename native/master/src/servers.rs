//! The chunkservers registered with this leader: who they are, on which connection, when last heard of.
//! Decides which committed up/down marks are wrong; committing them is the driver's part.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meta::ServerState;
use wire::Peer;
use wire::proto::{DiskStatus, ServerHello, SetServerUp};

/// A lost connection counts as a dead server only after this long: a restart of the network path is quicker.
const RECONNECT_GRACE: Duration = Duration::from_secs(1);

/// When a server was last heard of, and since when its connection is lost.
#[derive(Clone, Copy)]
pub struct Contact {
    pub epoch: u64,
    pub seen: Instant,
    pub lost: Option<Instant>,
}

pub struct Registered {
    pub peer: Arc<Peer>,
    pub contact: Contact,
    /// What the log says that its disks remember of this registration, and since when.
    pub confirmed: Option<(u64, Instant)>,
    pub boot_id: u64,
    pub address: String,
    pub version: String,
    pub disks: Vec<DiskStatus>,
    pub counters: HashMap<String, f64>,
}

pub struct Servers {
    since: Instant,
    by_id: HashMap<u32, Registered>,
    /// Since when this leader has known each server to be down.
    down_since: HashMap<u32, Instant>,
}

impl Servers {
    pub fn new(now: Instant) -> Servers {
        Servers { since: now, by_id: HashMap::new(), down_since: HashMap::new() }
    }

    /// Whether another daemon that is alive uses this id.
    pub fn taken_by(&self, hello: &ServerHello, peer: &Peer, timeout: Duration, now: Instant) -> Option<String> {
        let other = self.by_id.get(&hello.server_id)?;
        let alive = !other.peer.is_closed() && now.saturating_duration_since(other.contact.seen) < timeout;
        (alive && other.boot_id != hello.boot_id && other.peer.id != peer.id).then(|| other.address.clone())
    }

    /// Whether the same start of the same daemon is registered already.
    pub fn is_same_boot(&self, hello: &ServerHello) -> bool {
        self.by_id.get(&hello.server_id).is_some_and(|known| known.boot_id == hello.boot_id)
    }

    pub fn register(&mut self, hello: ServerHello, peer: Arc<Peer>, epoch: u64, now: Instant) {
        let registered = Registered {
            peer,
            contact: Contact { epoch, seen: now, lost: None },
            confirmed: None,
            boot_id: hello.boot_id,
            address: hello.address,
            version: hello.version,
            disks: hello.disks,
            counters: HashMap::new(),
        };
        self.by_id.insert(hello.server_id, registered);
    }

    pub fn get(&self, server: u32) -> Option<&Registered> {
        self.by_id.get(&server)
    }

    pub fn get_mut(&mut self, server: u32) -> Option<&mut Registered> {
        self.by_id.get_mut(&server)
    }

    /// The registration behind a message, when connection and epoch are the registered ones; it counts as heard of.
    pub fn heard(&mut self, server: u32, epoch: u64, peer: &Peer, now: Instant) -> Option<&mut Registered> {
        let registered = self.by_id.get_mut(&server)?;
        if registered.contact.epoch != epoch || registered.peer.id != peer.id {
            return None;
        }
        registered.contact.seen = now;
        registered.contact.lost = None;
        Some(registered)
    }

    /// A connection ended. -> the server that was registered on it.
    pub fn disconnected(&mut self, peer: &Peer, now: Instant) -> Option<u32> {
        let (id, registered) = self.by_id.iter_mut().find(|(_, registered)| registered.peer.id == peer.id)?;
        registered.contact.lost = Some(now);
        Some(*id)
    }

    pub fn forget(&mut self, server: u32) {
        self.by_id.remove(&server);
        self.down_since.remove(&server);
    }

    /// Which committed marks to change.
    pub fn wrong_marks(&self, committed: &[ServerState], timeout: Duration, now: Instant) -> Vec<SetServerUp> {
        let contact = |id: u32| self.by_id.get(&id).map(|registered| registered.contact);
        committed.iter().filter_map(|server| wrong_mark(server, contact(server.id), self.since, timeout, now)).collect()
    }

    pub fn note_down(&mut self, committed: &[ServerState], now: Instant) {
        for server in committed {
            if server.up {
                self.down_since.remove(&server.id);
            } else {
                self.down_since.entry(server.id).or_insert(now);
            }
        }
    }

    pub fn down_for(&self, server: u32, now: Instant) -> Duration {
        self.down_since.get(&server).map_or(Duration::ZERO, |since| now.saturating_duration_since(*since))
    }

    pub fn silent_for(&self, server: u32, now: Instant) -> Duration {
        let seen = self.by_id.get(&server).map_or(self.since, |registered| registered.contact.seen);
        now.saturating_duration_since(seen)
    }

    /// Total and free bytes as files see them: each of their bytes lies on `copies` of the servers that can be written to.
    pub fn capacity(&self, copies: usize) -> (u64, u64) {
        let (mut total, mut free) = (Vec::new(), Vec::new());
        for server in self.by_id.values().filter(|registered| registered.contact.lost.is_none()) {
            let writable: Vec<_> = server.disks.iter().filter(|disk| disk.state == "ok").collect();
            if !writable.is_empty() {
                total.push(server.disks.iter().map(|disk| disk.total_bytes).sum());
                free.push(writable.iter().map(|disk| disk.free_bytes).sum());
            }
        }
        (room_for_copies(total, copies), room_for_copies(free, copies))
    }
}

/// The most bytes that can lie on `copies` of these servers at once, or on all of them where those are fewer.
fn room_for_copies(mut rooms: Vec<u64>, copies: usize) -> u64 {
    rooms.sort_unstable();
    // However many of the largest hold one copy of everything, the others must share the rest of the copies.
    let shared = |largest: usize| {
        let others: u64 = rooms[..rooms.len() - largest].iter().sum();
        others / (copies.min(rooms.len()) - largest) as u64
    };
    (0..copies.min(rooms.len())).map(shared).min().unwrap_or(0)
}

/// Whether the committed up/down mark of one server contradicts what this leader hears of it.
fn wrong_mark(
    server: &ServerState,
    contact: Option<Contact>,
    since: Instant,
    timeout: Duration,
    now: Instant,
) -> Option<SetServerUp> {
    let alive = match contact {
        Some(contact) => {
            let silent = now.saturating_duration_since(contact.seen) > timeout;
            let cut = contact.lost.is_some_and(|lost| now.saturating_duration_since(lost) > RECONNECT_GRACE);
            let alive = !silent && !cut;
            // A registration is being committed just now: it brings its own mark.
            if alive && contact.epoch != server.epoch {
                return None;
            }
            alive
        }
        // Not heard of by this leader: leave the mark as it is until it had time to find us.
        None => server.up && now.saturating_duration_since(since) <= timeout,
    };
    (alive != server.up).then_some(SetServerUp { server_id: server.id, epoch: server.epoch, up: alive })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn server(up: bool) -> ServerState {
        ServerState {
            id: 1,
            address: "a:1".into(),
            epoch: 5,
            confirmed: 0,
            remembered: 0,
            up,
            weight: 1,
            boot_id: 1,
            chunks: 0,
        }
    }

    fn mark(up: bool, contact: Option<Contact>, since: Instant, now: Instant) -> Option<bool> {
        wrong_mark(&server(up), contact, since, TIMEOUT, now).map(|mark| mark.up)
    }

    #[test]
    fn room_is_what_can_lie_on_so_many_servers_at_once() {
        assert_eq!(room_for_copies(vec![10, 10, 10], 3), 10);
        assert_eq!(room_for_copies(vec![0, 10, 10], 3), 0, "one is full: no third copy");
        assert_eq!(
            room_for_copies(vec![10, 100, 10, 10], 2),
            30,
            "the largest holds one of each, the others share the rest"
        );
        assert_eq!(room_for_copies(vec![7, 9], 3), 7, "fewer servers than copies: all of them");
        assert_eq!(room_for_copies(Vec::new(), 3), 0);
    }

    proptest::proptest! {
        #[test]
        fn room_is_the_largest_size_whose_copies_fit(rooms in proptest::collection::vec(0u64..40, 1..7), copies in 1usize..5) {
            let used = copies.min(rooms.len()) as u64;
            // Copies of `size` bytes can be spread over distinct servers exactly when this holds.
            let fits = |size: u64| rooms.iter().map(|room| (*room).min(size)).sum::<u64>() >= used * size;
            let largest = (0..=240).filter(|size| fits(*size)).max().unwrap();
            proptest::prop_assert_eq!(room_for_copies(rooms.clone(), copies), largest);
        }
    }

    #[test]
    fn a_silent_server_is_marked_down_and_up_again_when_heard() {
        let start = Instant::now();
        let now = start + Duration::from_secs(10);
        let silent = Contact { epoch: 5, seen: start, lost: None };
        assert_eq!(mark(true, Some(silent), start, now), Some(false));
        assert_eq!(mark(false, Some(silent), start, now), None);
        let heard = Contact { seen: now, ..silent };
        assert_eq!(mark(true, Some(heard), start, now), None);
        assert_eq!(mark(false, Some(heard), start, now), Some(true));
    }

    #[test]
    fn a_lost_connection_counts_after_its_grace() {
        let start = Instant::now();
        let lost = Contact { epoch: 5, seen: start, lost: Some(start) };
        assert_eq!(mark(true, Some(lost), start, start + Duration::from_millis(900)), None);
        assert_eq!(mark(true, Some(lost), start, start + Duration::from_millis(1100)), Some(false));
    }

    #[test]
    fn a_new_leader_gives_every_server_time_to_find_it() {
        let start = Instant::now();
        assert_eq!(mark(true, None, start, start + TIMEOUT), None);
        assert_eq!(mark(true, None, start, start + TIMEOUT * 2), Some(false));
        assert_eq!(mark(false, None, start, start), None);
    }
}
