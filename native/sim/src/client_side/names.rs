//! Names: which file a client opens, what becomes of a new one, and the session under which it asks.

use base::{Error, Reason};
use client::file::{Event, File, Limits};
use wire::proto::name_request::Op;
use wire::proto::*;

use super::{Back, Client, Doing, Heir, Opened, WINDOW};
use crate::leader::INLINE_LIMIT;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// Written anywhere, cut, unlinked, and replaced by others.
    Cuts,
    /// Only appended to.
    Log,
    /// What a client makes to put it in the place of the first.
    New(usize),
}

impl std::fmt::Display for FileName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FileName::Cuts => write!(out, "cuts"),
            FileName::Log => write!(out, "log"),
            FileName::New(id) => write!(out, "new-{id}"),
        }
    }
}

impl World {
    /// A client without an open file opens one, or takes the name of one away.
    pub(super) fn choose_name(&mut self, id: usize) {
        if let Some(Heir::Opens(name, _)) = self.clients[id].heir {
            self.clients[id].opens += 1;
            return self.look_up(id, name);
        }
        let (appends, renames, unlinks) = (self.plan.appends, self.plan.renames, self.plan.unlinks);
        let random = &mut self.clients[id].random;
        if random.per_mille(unlinks) {
            return self.unlink(id);
        }
        let name = match () {
            () if random.per_mille(renames) => FileName::New(id),
            () if random.per_mille(appends) => FileName::Log,
            () => FileName::Cuts,
        };
        self.clients[id].opens += 1;
        self.look_up(id, name);
    }

    fn look_up(&mut self, id: usize, name: FileName) {
        self.note(|| format!("client {id} opens {name}"));
        self.clients[id].doing = Doing::Opening { began: self.now, name, inode: 0 };
        let op = Lookup { parent: meta::ROOT, name: name.to_string().into() };
        self.ask(id, Op::Lookup(op), Back::Found);
    }

    pub(super) fn was_found(&mut self, id: usize, outcome: Result<Box<NameReply>, Error>) {
        let Doing::Opening { name, inode, .. } = &mut self.clients[id].doing else { return };
        match outcome {
            Ok(reply) => {
                *inode = reply.attr.map_or(0, |attr| attr.inode);
                let inode = *inode;
                self.ask(id, Op::Open(Open { inode, read: true, write: true }), Back::Opened);
            }
            Err(error) if error.errno == libc::ENOENT => {
                let name = name.to_string().into();
                let create =
                    Create { parent: meta::ROOT, name, mode: 0o666, read: true, write: true, ..Create::default() };
                self.ask(id, Op::Create(create), Back::Created);
            }
            Err(error) => self.fail(format!("client {id} cannot look a name up: {error}")),
        }
    }

    pub(super) fn was_created(&mut self, id: usize, outcome: Result<Box<NameReply>, Error>) {
        let Doing::Opening { inode, .. } = &mut self.clients[id].doing else { return };
        match outcome {
            Ok(reply) => {
                *inode = reply.attr.map_or(0, |attr| attr.inode);
                self.opens(id, *reply);
            }
            Err(error) => self.fail(format!("client {id} cannot create: {error}")),
        }
    }

    pub(super) fn was_opened(&mut self, id: usize, outcome: Result<Box<NameReply>, Error>) {
        let Doing::Opening { name, .. } = self.clients[id].doing else { return };
        match outcome {
            Ok(reply) => self.opens(id, *reply),
            // Unlinked since the name was looked up.
            Err(error) if matches!(error.errno, libc::ENOENT | libc::ESTALE) => self.look_up(id, name),
            Err(error) => self.fail(format!("client {id} cannot open: {error}")),
        }
    }

    fn opens(&mut self, id: usize, reply: NameReply) {
        let Some(attr) = reply.attr else { return self.fail("an open without attributes".into()) };
        let limits = Limits { window_bytes: WINDOW, inline_bytes: INLINE_LIMIT, deadline_ms: 60_000 };
        let client = &mut self.clients[id];
        let Doing::Opening { began, name, .. } = client.doing else { return };
        client.opened = Some(Opened {
            name,
            inode: attr.inode,
            at: began,
            file: File::new(attr, Credentials::default(), limits, client.rounds.clone()),
            asking_body: false,
            reappend: false,
            beside: None,
        });
        let knows = reply.is_inline || !reply.chunks.is_empty();
        let count = reply.chunks.last().map_or(0, |info| info.index + 1);
        let event = match knows {
            true => Event::Learned { reply: Box::new(reply), first: 0, count },
            false => Event::Seen(attr),
        };
        self.tell(id, event);
        self.ended(id);
    }

    fn unlink(&mut self, id: usize) {
        self.note(|| format!("client {id} unlinks {}", FileName::Cuts));
        self.clients[id].doing = Doing::Naming;
        let op = Unlink { parent: meta::ROOT, name: FileName::Cuts.to_string().into() };
        self.ask(id, Op::Unlink(op), Back::Unlinked);
    }

    /// What a client made takes the place of the file that all use.
    pub(super) fn after_close(&mut self, id: usize) {
        let closed = self.clients[id].closed.last_key_value().map(|(_, closed)| closed.name);
        let Some(name @ FileName::New(_)) = closed else { return self.ended(id) };
        self.note(|| format!("client {id} renames {name} over {}", FileName::Cuts));
        self.clients[id].doing = Doing::Naming;
        let rename = Rename {
            source_parent: meta::ROOT,
            source_name: name.to_string().into(),
            target_parent: meta::ROOT,
            target_name: FileName::Cuts.to_string().into(),
            flags: 0,
        };
        self.ask(id, Op::Rename(rename), Back::Renamed);
    }

    pub(super) fn was_named(&mut self, id: usize, outcome: Result<Box<NameReply>, Error>) {
        match outcome {
            // Another client, or what this one asked in an earlier life, was faster.
            Err(error) if error.errno != libc::ENOENT && error.reason != Reason::NoSession => {
                self.fail(format!("client {id} cannot take a name away: {error}"));
            }
            _ => self.ended(id),
        }
    }

    /// Whether a client has this inode open, or is about to.
    pub fn is_held_open(&self, inode: u64) -> bool {
        self.clients.iter().any(|client| {
            let opening = matches!(client.doing, Doing::Opening { inode: opening, .. } if opening == inode);
            opening || client.opened.as_ref().is_some_and(|opened| opened.inode == inode)
        })
    }

    // ---- the session ----

    pub(super) fn renew(&mut self, id: usize) {
        let session = self.clients[id].session;
        if self.leader.state.has_session(session) {
            self.leader.hears(session, self.now);
        } else {
            self.begin_session(id);
        }
    }

    fn begin_session(&mut self, id: usize) {
        let session = self.leader.open_session(self.now);
        self.note(|| format!("client {id} has session {session} now"));
        self.clients[id].session = session;
    }

    /// As `Peers::name_until` does it: a new session, and the same again unless it may have been carried out.
    pub(super) fn without_session(&mut self, id: usize, request: NameRequest, back: Back, maybe_done: bool) {
        let Client { session, unanswered, .. } = &mut self.clients[id];
        unanswered.remove(&request.op_id);
        if *session == request.session {
            self.begin_session(id);
        }
        let Some(op) = request.op else { return };
        if maybe_done && wire::op::is_change(&op) {
            let lost =
                Error::unavailable("the session expired before the outcome was known").because(Reason::NoSession);
            return self.replied(id, back, Err(lost));
        }
        let (session, op_id) = (self.clients[id].session, self.clients[id].op_id + 1);
        if let Some(effect) = self.leader.cutting.remove(&(request.session, request.op_id)) {
            self.leader.cutting.insert((session, op_id), effect);
        }
        self.ask(id, op, back);
    }
}
