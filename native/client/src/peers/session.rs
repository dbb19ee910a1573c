//! One registration with the masters: operation ids, which of them are answered, and when it has expired.

use std::collections::BTreeSet;

use parking_lot::Mutex;

#[derive(Debug)]
struct Ops {
    next: u64,
    open: BTreeSet<u64>,
}

#[derive(Debug)]
pub struct Session {
    pub id: u64,
    pub timeout_ms: u32,
    pub inline_limit: u32,
    ops: Mutex<Ops>,
}

/// One mutation's id; the leader may forget its reply once this is dropped.
pub struct Ticket<'a> {
    session: &'a Session,
    pub op_id: u64,
    pub acked_below: u64,
}

impl Session {
    pub fn new(id: u64, timeout_ms: u32, inline_limit: u32) -> Session {
        Session { id, timeout_ms, inline_limit, ops: Mutex::new(Ops { next: 1, open: BTreeSet::new() }) }
    }

    pub fn ticket(&self) -> Ticket<'_> {
        let mut ops = self.ops.lock();
        let op_id = ops.next;
        ops.next += 1;
        ops.open.insert(op_id);
        let acked_below = ops.open.first().copied().unwrap_or(op_id);
        Ticket { session: self, op_id, acked_below }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.session.ops.lock().open.remove(&self.op_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_forgotten_only_below_the_oldest_operation_in_flight() {
        let session = Session::new(7, 60_000, 8192);
        let first = session.ticket();
        let second = session.ticket();
        assert_eq!((second.op_id, second.acked_below), (2, 1));
        drop(first);
        assert_eq!(session.ticket().acked_below, 2);
        drop(second);
        assert_eq!(session.ticket().acked_below, 4);
    }
}
