//! What a client sends: the actions of its file as questions to the leader and to chunkservers.

use std::sync::Arc;

use chunk::ChunkRef;
use client::file::{Action, Event, PieceRequest, chain, piece_request};
use wire::proto::name_request::Op;
use wire::proto::*;

use super::{Back, ClientStep, SYNC_PATIENCE, Waiting};
use crate::oracle::Time;
use crate::server_side::{Question, ReplyTo};
use crate::world::{MS, Step, World};

impl World {
    pub(super) fn perform(&mut self, id: usize, action: Action) {
        let client = &self.clients[id];
        let open = client.opens;
        let Some(opened) = &client.opened else { return };
        let inode = opened.inode;
        match action {
            Action::Grant { index, request } => self.ask(id, Op::GrantWrite(request), Back::Granted { open, index }),
            Action::TellTrim { index, request } => self.ask(id, Op::TrimDone(request), Back::TrimTold { open, index }),
            Action::WriteInline { offset, data, times } => {
                let message =
                    WriteInline { inode, offset, data: data.into(), append: false, times: Some(times.into()) };
                self.ask(id, Op::WriteInline(message), Back::InlineWritten { open });
            }
            Action::Commit { cycle, request } => {
                self.ask(id, Op::CommitWrite(request), Back::Committed { open, cycle })
            }
            Action::AskTurn => self.ask(id, Op::AppendBegin(AppendBegin { inode }), Back::Turn { open }),
            Action::Release { chunks, abandoned } => {
                self.ask(id, Op::ReleaseGrants(ReleaseGrants { inode, chunks, abandoned }), Back::Nothing);
            }
            Action::Send { index, round, info, piece, create } => {
                let Some((head, rest)) = chain(&info) else { return };
                let patience = hops(rest.len());
                let (seq, offset) = (piece.seq, piece.offset);
                let what = match piece_request(&info, &piece, rest, (client.writer, round), create) {
                    PieceRequest::Write(message, data) => Question::Write { message, data: Arc::new(data.to_vec()) },
                    PieceRequest::Fill(message) => Question::Fill { message },
                    // Bytes say where they were written, so no simulated client copies.
                    PieceRequest::Copy(_) => return,
                };
                self.call(id, head.server_id, what, Waiting::Send { index, round, seq, offset, info }, patience);
            }
            Action::Trim { index, info } => {
                let (Some(length), Some(chunk), Some((head, rest)), true) =
                    (info.trim, info.chunk, chain(&info), info.written)
                else {
                    return self.tell(id, Event::Trimmed { index, outcome: Ok(()) });
                };
                let patience = hops(rest.len());
                let what = Question::Trim { chunk: reference(chunk), length, chain: rest };
                self.call(id, head.server_id, what, Waiting::Trim { index, info }, patience);
            }
            Action::Sync { cycle, index, chunk, replica, boot_id } => {
                let what = Question::Sync { chunk: reference(chunk), boot: boot_id };
                let server = replica.server_id;
                self.call(id, server, what, Waiting::Sync { cycle, index, server, boot: boot_id }, SYNC_PATIENCE);
            }
            Action::Wait { timer, after_ms } => {
                let life = client.life;
                let after = after_ms * MS * 1000 / client.rate;
                let wait = after / 2 + self.weather.below(after);
                self.after(wait, Step::Client { id, life, what: ClientStep::Fired { open, timer } });
            }
            Action::Reappend => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.reappend = true;
                }
            }
            Action::GaveUp(error) => self.gave_up(id, &error),
            Action::Forget { .. } | Action::Progress | Action::LeftOut(_) => {}
        }
    }

    pub(super) fn ask(&mut self, id: usize, op: Op, back: Back) {
        let client = &mut self.clients[id];
        let once = wire::op::is_once(&op);
        if once {
            client.op_id += 1;
            client.unanswered.insert(client.op_id);
        }
        let op_id = if once { client.op_id } else { 0 };
        let acked_below = client.unanswered.first().copied().unwrap_or(client.op_id);
        let creds = Some(Credentials::default());
        let request = NameRequest { session: client.session, op_id, acked_below, creds, op: Some(op) };
        self.ask_leader(id, request, back);
    }

    pub(super) fn call(&mut self, id: usize, server: u32, what: Question, waiting: Waiting, patience: Time) {
        self.note(|| format!("client {id} asks server {server}: {}", brief(&what)));
        let client = &mut self.clients[id];
        client.next_call += 1;
        let (call, life) = (client.next_call, client.life);
        client.calls.insert(call, (client.opens, waiting));
        self.ask_server(server as usize - 1, what, ReplyTo::Client { id, life, call }, None);
        self.after(patience, Step::Client { id, life, what: ClientStep::Waited { call, server } });
    }
}

fn hops(chain: usize) -> Time {
    1100 * MS + 150 * MS * chain as u64
}

pub(super) fn reference(chunk: wire::proto::ChunkRef) -> ChunkRef {
    ChunkRef { id: chunk.id, version: chunk.version }
}

fn brief(what: &Question) -> String {
    match what {
        Question::Write { message, .. } => {
            format!("write {} at {} of {:?} round {}", message.length, message.offset, message.chunk, message.round)
        }
        Question::Fill { message } => format!(
            "{:?} {} at {} of {:?} round {}",
            message.fill(),
            message.length,
            message.offset,
            message.chunk,
            message.round
        ),
        other => format!("{other:?}"),
    }
}
