//! What comes back to a client: answers of chunkservers and of the leader, as events of its file.

use base::{Error, ErrorKind, Reason};
use client::file::{Event, Refusal, Synced, blamed, not_synced, stamped, synced};
use wire::proto::*;

use super::{AppendStage, Back, Call, ClientStep, Doing, MAP_CHUNKS, Waiting};
use crate::oracle::GRAIN;
use crate::server_side::{Answer, Failure, Outcome};
use crate::world::{MS, Step, World};

impl World {
    pub(super) fn answered(&mut self, id: usize, call: Call, server: u32, outcome: Outcome) {
        let Some((open, waiting)) = self.clients[id].calls.remove(&call) else { return };
        if let Err(failure) = &outcome {
            self.note(|| format!("client {id} hears of server {server}: {}", failure.error));
        }
        match waiting {
            Waiting::Send { index, round, seq, offset, info } => {
                let outcome = told_by_chain(outcome, &info);
                self.tell_if(id, open, Event::Sent { index, round, seq, offset, outcome });
            }
            Waiting::Trim { index, info } => {
                let outcome = told_by_chain(outcome, &info).map(drop);
                self.tell_if(id, open, Event::Trimmed { index, outcome });
            }
            Waiting::Sync { cycle, index, server, boot } => {
                let outcome = match outcome {
                    Ok(Answer::Synced(stamp)) => synced(&ChunkSyncReply { stamp: Some(stamp) }, boot),
                    Ok(_) => Synced::Failed(Error::integrity("another answer")),
                    Err(failure) => not_synced(failure.error, failure.answered),
                };
                self.tell_if(id, open, Event::Synced { cycle, index, server, outcome });
            }
            Waiting::Read => self.read_answered(id, server, outcome),
        }
    }

    pub(super) fn replied(&mut self, id: usize, back: Back, outcome: Result<Box<NameReply>, Error>) {
        match back {
            Back::Nothing => {}
            Back::Granted { open, index } => self.tell_if(id, open, Event::Granted { index, outcome }),
            Back::TrimTold { open, index } => self.tell_if(id, open, Event::TrimTold { index, outcome }),
            Back::InlineWritten { open } => self.tell_if(id, open, Event::InlineWritten { outcome }),
            Back::Committed { open, cycle } => self.tell_if(id, open, Event::Committed { cycle, outcome }),
            Back::Turn { open } => self.tell_if(id, open, Event::Turn { outcome }),
            Back::Found => self.was_found(id, outcome),
            Back::Created => self.was_created(id, outcome),
            Back::Opened => self.was_opened(id, outcome),
            Back::Unlinked | Back::Renamed => self.was_named(id, outcome),
            Back::Body { open }
            | Back::Map { open, .. }
            | Back::Size { open }
            | Back::Stat { open, .. }
            | Back::Resized { open }
            | Back::AppendedInline { open } => {
                if self.clients[id].opens != open || self.clients[id].opened.is_none() {
                    return;
                }
                match outcome {
                    Ok(reply) => self.replied_well(id, back, reply),
                    Err(error) => self.replied_badly(id, back, error),
                }
            }
        }
    }

    fn replied_well(&mut self, id: usize, back: Back, reply: Box<NameReply>) {
        match back {
            Back::Body { .. } => {
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.asking_body = false;
                }
                self.tell(id, Event::Learned { reply, first: 0, count: u64::from(MAP_CHUNKS) });
            }
            Back::Map { index, .. } => {
                let fresh = reply.chunks.iter().find(|info| info.index == index).cloned();
                let overtaken = self.clients[id].opened.as_ref().is_some_and(|opened| opened.file.is_overtaken(&reply));
                self.tell(id, Event::Learned { reply, first: index, count: u64::from(MAP_CHUNKS) });
                self.read_mapped(id, index, fresh, overtaken);
            }
            Back::Size { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Seen(attr));
                }
                if let Doing::Reading(read) = &mut self.clients[id].doing {
                    (read.looked, read.asking) = (true, false);
                }
            }
            Back::Stat { began, .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Seen(attr));
                }
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.at = began;
                }
                // Mostly to read at once what is there now.
                let random = &mut self.clients[id].random;
                if random.per_mille(700) {
                    let length = GRAIN * random.between(1, self.plan.span / GRAIN + 1);
                    return self.read_range(id, 0, length);
                }
                self.ended(id);
            }
            Back::Resized { .. } => {
                if let Some(attr) = reply.attr {
                    self.tell(id, Event::Resized(attr));
                }
                if let Doing::Cutting { effect, .. } = self.clients[id].doing {
                    self.register.done(effect, self.now);
                    self.ended(id);
                }
            }
            Back::AppendedInline { .. } => {
                let Doing::Appending { record, data, .. } = std::mem::replace(&mut self.clients[id].doing, Doing::Idle)
                else {
                    return;
                };
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.file.appended_inline(&reply, &data);
                }
                self.log.taken(record, self.now);
                self.log.synced(self.clients[id].name, self.now, self.now);
                self.ended(id);
            }
            _ => {}
        }
    }

    fn replied_badly(&mut self, id: usize, back: Back, error: Error) {
        if let (Back::AppendedInline { .. }, Doing::Appending { stage, .. }) = (back, &mut self.clients[id].doing) {
            if error.reason == Reason::TurnTaken || error.kind == ErrorKind::Unavailable {
                *stage = AppendStage::Begin;
                let life = self.clients[id].life;
                return self.after(5 * MS, Step::Client { id, life, what: ClientStep::ReadOn });
            }
            if error.errno == libc::EFBIG {
                *stage = AppendStage::Parts(0);
                if let Some(opened) = &mut self.clients[id].opened {
                    opened.file.outgrown();
                }
                return;
            }
        }
        if let (Back::Resized { .. }, Doing::Cutting { is_asked, .. }) = (back, &mut self.clients[id].doing)
            && error.reason == Reason::TurnTaken
        {
            *is_asked = false;
            let life = self.clients[id].life;
            return self.after(5 * MS, Step::Client { id, life, what: ClientStep::ReadOn });
        }
        match (back, &self.clients[id].doing) {
            // Nobody can know whether it was carried out: it was, or it was not, and is over.
            (Back::Resized { .. }, Doing::Cutting { effect, .. }) if error.reason == Reason::NoSession => {
                let effect = *effect;
                self.register.is_over(effect, self.now);
                self.ended(id);
            }
            (Back::AppendedInline { .. }, _) if error.reason == Reason::NoSession => self.ended(id),
            _ => self.fail(format!("client {id}: {back:?} failed: {error}")),
        }
    }
}

fn told_by_chain(outcome: Outcome, info: &ChunkInfo) -> Result<ChunkWriteReply, Refusal> {
    let failure = match outcome {
        Ok(Answer::Stamps(stamps)) => return stamped(info, ChunkWriteReply { stamps }),
        Ok(_) => Failure { error: Error::integrity("another answer"), answered: false },
        Err(failure) => failure,
    };
    Err(Refusal { blamed: blamed(info, &failure.error, failure.answered), error: failure.error })
}
