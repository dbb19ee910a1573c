//! One file against answers made by hand: transcripts of what it wants done, and a model under random orders of events.

use std::sync::Arc;

use base::{Error, Reason};
use proptest::prelude::*;
use wire::proto::{
    Attr, ChunkInfo, ChunkRef, ChunkWriteReply, CommitWrite, Credentials, Fill, NameReply, Replica, Stamp,
};

use super::*;

mod fills;
mod inline;
mod others;
mod turns;

const BOOT: u64 = 7;

struct Stage {
    file: File,
    now: Now,
    waiting: Vec<Action>,
    version: u32,
    chunk_id: u64,
}

impl Stage {
    /// A file in one chunk of 200,000 bytes, opened.
    fn new() -> Stage {
        let attr = Attr { inode: 9, size: 200_000, data_version: 4, ..Attr::default() };
        let limits = Limits { window_bytes: 4 << 20, inline_bytes: 8192, deadline_ms: 60_000 };
        let file = File::new(attr, Credentials::default(), limits, Rounds::default());
        let now = Now { mono_ms: 1000, wall_ns: 5 };
        let mut stage = Stage { file, now, waiting: Vec::new(), version: 3, chunk_id: 50 };
        let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
        stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
        stage
    }

    fn info(&self, trim: Option<u32>) -> ChunkInfo {
        let replicas = (1..=3).map(|server_id| Replica { server_id, address: format!("s:{server_id}") }).collect();
        let chunk = Some(ChunkRef { id: self.chunk_id, version: self.version });
        ChunkInfo { index: 0, chunk, replicas, written: true, trim, ..ChunkInfo::default() }
    }

    fn tell(&mut self, event: Event) {
        let actions = self.file.decide(self.now, event);
        self.keep(actions);
    }

    fn keep(&mut self, actions: Vec<Action>) {
        self.waiting
            .extend(actions.into_iter().filter(|action| !matches!(action, Action::Forget { .. } | Action::Progress)));
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (taken, actions) = self.file.write(self.now, offset, data);
        assert_eq!(taken, Taken::At(offset));
        self.keep(actions);
    }

    /// Time for what was written to be sent.
    fn rest(&mut self) {
        self.now.mono_ms += IDLE_SEND_MS;
        self.tell(Event::Tick);
    }

    fn take(&mut self, wanted: impl Fn(&Action) -> bool) -> Option<Action> {
        let at = self.waiting.iter().position(wanted)?;
        Some(self.waiting.remove(at))
    }

    /// The leader grants what is committed now.
    fn grant(&mut self, trim: Option<u32>) {
        let action = self.take(|action| matches!(action, Action::Grant { .. }));
        assert!(action.is_some(), "a grant is asked for: {:?}", self.waiting);
        let attr = self.file.attr;
        let reply = NameReply { attr: Some(attr), chunks: vec![self.info(trim)], ..NameReply::default() };
        self.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
    }

    fn sends(&self) -> Vec<(u32, u32, Vec<u8>)> {
        let sends = self.waiting.iter().filter_map(|action| match action {
            Action::Send { round, piece, .. } => Some((*round, piece.offset, piece.bytes().to_vec())),
            _ => None,
        });
        sends.collect()
    }

    fn answer_a_piece(&mut self, outcome: Result<ChunkWriteReply, Refusal>) {
        let Some(Action::Send { index, round, piece, .. }) = self.take(|action| matches!(action, Action::Send { .. }))
        else {
            panic!("a piece is sent: {:?}", self.waiting)
        };
        let (seq, offset) = (piece.seq, piece.offset);
        self.tell(Event::Sent { index, round, seq, offset, outcome });
    }

    /// Every piece under way arrives at all copies.
    fn acknowledge(&mut self, boot_id: u64) {
        while let Some(Action::Send { index, round, piece, .. }) =
            self.take(|action| matches!(action, Action::Send { .. }))
        {
            let stamps = (1..=3).map(|server_id| Stamp { server_id, boot_id, stored_bytes: 4096 }).collect();
            let (seq, offset) = (piece.seq, piece.offset);
            self.tell(Event::Sent { index, round, seq, offset, outcome: Ok(ChunkWriteReply { stamps }) });
        }
    }

    fn sync(&mut self, outcome: impl Fn(u32) -> Synced) -> usize {
        let mut count = 0;
        while let Some(Action::Sync { cycle, index, replica, .. }) =
            self.take(|action| matches!(action, Action::Sync { .. }))
        {
            count += 1;
            let server = replica.server_id;
            self.tell(Event::Synced { cycle, index, server, outcome: outcome(server) });
        }
        count
    }

    fn commit(&mut self, outcome: Result<(), Error>) -> CommitWrite {
        let Some(Action::Commit { cycle, request }) = self.take(|action| matches!(action, Action::Commit { .. }))
        else {
            panic!("a commit is wanted: {:?}", self.waiting)
        };
        let mut attr = self.file.attr;
        attr.size = attr.size.max(request.size);
        attr.data_version += 1;
        let reply = outcome.map(|()| Box::new(NameReply { attr: Some(attr), ..NameReply::default() }));
        self.tell(Event::Committed { cycle, outcome: reply });
        request
    }

    /// One write, granted and on every copy.
    fn written(&mut self) {
        self.write(150_000, &[1; 1000]);
        self.tell(Event::Flush { settle: false });
        self.grant(None);
        self.acknowledge(BOOT);
    }
}

#[test]
fn a_chunk_that_is_gone_is_asked_for_anew_without_blaming_anybody() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Err(Error::stale("gone").because(Reason::ChunkMoved)));
    (stage.chunk_id, stage.version) = (51, 1);
    stage.grant(None);
    assert_eq!(stage.sends().len(), 1);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).stored[0].chunk_id, 51);
}

#[test]
fn servers_that_were_started_anew_get_the_bytes_again_and_none_is_left_out() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|server| if server == 2 { Synced::Restarted } else { Synced::Stable(4096) });
    assert_eq!(stage.sends().len(), 1, "at once, in another round");
    let (first, _, bytes) = stage.sends().remove(0);
    assert_eq!((first, &bytes[..]), (1, &[1; 1000][..]));
    stage.acknowledge(BOOT + 1);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    stage.write(0, &[2; 10]);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT + 2);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3, "what was committed needs no server to be as it was");
    stage.commit(Ok(()));
    assert_eq!(stage.file.faults(), 0);
}

#[test]
fn a_server_that_cannot_sync_is_left_out_and_the_bytes_go_to_the_others() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|server| if server == 2 { Synced::Failed(Error::unavailable("disk")) } else { Synced::Stable(4096) });
    let Some(Action::Grant { request, .. }) =
        stage.waiting.iter().find(|action| matches!(action, Action::Grant { .. }))
    else {
        panic!("a grant is asked for")
    };
    assert_eq!((&request.failed[..], request.chunk.unwrap().version), (&[2][..], 3));
}

#[test]
fn answers_of_an_earlier_round_change_nothing() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 1000]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    let Some(Action::Send { index, round, piece, .. }) = stage.take(|action| matches!(action, Action::Send { .. }))
    else {
        panic!("it is sent")
    };
    let (seq, offset) = (piece.seq, piece.offset);
    let refusal = Refusal { error: Error::unavailable("silent"), blamed: vec![1] };
    stage.tell(Event::Sent { index, round, seq, offset, outcome: Err(refusal) });
    stage.version = 4;
    stage.grant(None);
    let stamps = (1..=3).map(|server_id| Stamp { server_id, boot_id: BOOT, stored_bytes: 4096 }).collect();
    stage.tell(Event::Sent { index, round, seq, offset, outcome: Ok(ChunkWriteReply { stamps }) });
    assert!(stage.sync(|_| Synced::Stable(4096)) == 0 && stage.sends()[0].0 > round);
}

#[test]
fn bytes_at_rest_are_committed_in_the_background_and_their_grant_goes_back() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 1000]);
    stage.rest();
    stage.grant(None);
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 0);
    stage.now.mono_ms += REST_MS;
    stage.tell(Event::Tick);
    stage.sync(|_| Synced::Stable(4096));
    assert!(stage.commit(Ok(())).stored[0].settled);
    assert!(!stage.file.is_dirty() && !stage.file.needs_ticks());
}

#[test]
fn a_size_never_shows_over_bytes_that_are_not_on_the_servers() {
    let mut stage = Stage::new();
    stage.write(200_000, &[1; 1000]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    stage.write(201_000, &[2; 1000]);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).size, 201_000, "what came after the cycle began is for the next one");
    assert_eq!(stage.file.size(), 202_000);
}

fn turn(stage: &mut Stage, end: u64) {
    let asked = stage.take(|action| matches!(action, Action::AskTurn));
    assert!(asked.is_some());
    let mut attr = stage.file.attr;
    attr.size = end;
    let reply = NameReply { offset: end, attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Turn { outcome: Ok(Box::new(reply)) });
}

fn append(stage: &mut Stage, data: &[u8]) -> Taken {
    let (taken, actions) = stage.file.append(stage.now, data, true);
    stage.keep(actions);
    taken
}

#[test]
fn a_full_window_asks_for_a_commit_and_a_failed_one_is_reported() {
    let mut stage = Stage::new();
    let piece = vec![3; 1 << 20];
    let mut at = 0;
    while stage.file.write(stage.now, at, &piece).0 == Taken::At(at) {
        at += piece.len() as u64;
    }
    assert!((2..5).contains(&(at >> 20)), "{at}");
    stage.tell(Event::Tick);
    let error = Error::namespace(libc::ENOSPC, "full");
    stage.tell(Event::Granted { index: 0, outcome: Err(error) });
    assert_eq!((stage.file.faults(), stage.file.fault().unwrap().errno), (1, libc::ENOSPC));
    assert_eq!((stage.file.unstable_bytes(), stage.file.size()), (0, 200_000));
}

#[test]
fn what_was_acknowledged_under_a_version_that_is_over_is_ours_to_show_although_its_grant_went_back() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    stage.tell(Event::Flush { settle: true });
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert!(stage.file.patches(0, 150_000, 151_000).is_empty(), "every copy has it");
    stage.version = 4;
    let attr = Attr { data_version: stage.file.attr.data_version + 1, size: 100_000, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(Some(100_000))], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert_eq!(stage.file.patches(0, 150_000, 151_000).len(), 1, "behind the cut of another client");
}

#[test]
fn what_was_committed_is_read_although_an_answer_from_before_says_the_chunk_is_new() {
    let mut stage = Stage::new();
    let fresh = ChunkInfo { written: false, ..stage.info(None) };
    stage.written();
    let attr = Some(stage.file.attr);
    let reply = NameReply { attr, chunks: vec![fresh], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    assert!(!stage.file.is_dirty());
    assert!(matches!(stage.file.source(0), Source::Known(info) if info.written));
}

#[test]
fn a_server_started_anew_between_two_pieces_gets_both_again() {
    let mut stage = Stage::new();
    for offset in [0, 150_000] {
        stage.write(offset, &[1; 1000]);
    }
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    let sent: Vec<Action> = std::mem::take(&mut stage.waiting);
    assert_eq!(sent.len(), 2);
    for (number, action) in sent.into_iter().enumerate() {
        let Action::Send { index, round, piece, .. } = action else { panic!("{action:?}") };
        let boot_id = |server_id| if server_id == 2 { BOOT + number as u64 } else { BOOT };
        let stamp = |server_id| Stamp { server_id, boot_id: boot_id(server_id), stored_bytes: 4096 };
        let outcome = Ok(ChunkWriteReply { stamps: (1..=3).map(stamp).collect() });
        stage.tell(Event::Sent { index, round, seq: piece.seq, offset: piece.offset, outcome });
    }
    let again: Vec<u32> = stage.sends().into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(again, [0, 150_000], "what the former start took may be gone");
}

#[test]
fn bytes_sent_again_take_along_what_was_written_over_them_so_that_no_reader_goes_back() {
    let mut stage = Stage::new();
    stage.write(4096, &[1; 8192]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.write(8192, &[2; 2048]);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Moved), 3);
    stage.version = 4;
    stage.grant(None);
    let sent = stage.sends();
    let first = sent.iter().find(|(_, offset, _)| *offset == 4096).expect("the first write goes again");
    assert!(first.2[..4096].iter().all(|byte| *byte == 1) && first.2[4096..6144].iter().all(|byte| *byte == 2));
}

#[test]
fn the_size_does_not_reach_over_bytes_that_were_given_up() {
    let mut stage = Stage::new();
    // Still under way when those are given up.
    stage.write(150_000, &[1; 10]);
    stage.write(CHUNK_BYTES + 10, &[1; 10]);
    assert_eq!(stage.file.size(), CHUNK_BYTES + 20);
    stage.tell(Event::Flush { settle: false });
    let error = Error::namespace(libc::EDQUOT, "no room");
    stage.tell(Event::Granted { index: 1, outcome: Err(error) });
    assert_eq!((stage.file.faults(), stage.file.size()), (1, 200_000));
}

#[test]
fn a_new_chunk_that_is_gone_from_its_servers_gets_everything_again_and_nobody_is_blamed() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 1000]);
    stage.tell(Event::Tick);
    stage.rest();
    let Some(Action::Grant { .. }) = stage.take(|action| matches!(action, Action::Grant { .. })) else {
        panic!("a grant is asked for")
    };
    let fresh = ChunkInfo { written: false, chunk: Some(ChunkRef { id: 60, version: 1 }), ..stage.info(None) };
    let reply = NameReply { attr: Some(stage.file.attr), chunks: vec![fresh.clone()], ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply.clone())) });
    assert!(stage.waiting.iter().any(|action| matches!(action, Action::Send { create: true, .. })));
    stage.acknowledge(BOOT);
    stage.write(5000, &[2; 1000]);
    stage.rest();
    let Some(Action::Send { index, round, piece, create, .. }) =
        stage.take(|action| matches!(action, Action::Send { .. }))
    else {
        panic!("it is sent: {:?}", stage.waiting)
    };
    assert!(!create, "half a chunk must not come back");
    let refusal = Refusal { error: Error::namespace(libc::ENOENT, "gone"), blamed: vec![1, 2, 3] };
    stage.tell(Event::Sent { index, round, seq: piece.seq, offset: piece.offset, outcome: Err(refusal) });
    let Some(Action::Grant { request, .. }) = stage.take(|action| matches!(action, Action::Grant { .. })) else {
        panic!("a grant is asked for")
    };
    assert!(request.failed.is_empty());
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
    let again: Vec<bool> = stage
        .waiting
        .iter()
        .filter_map(|action| match action {
            Action::Send { create, .. } => Some(*create),
            _ => None,
        })
        .collect();
    assert_eq!(again, [true, true]);
}

#[test]
fn a_cut_by_another_client_that_a_grant_tells_of_is_not_taken_for_a_change_of_our_own() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    stage.write(CHUNK_BYTES, &[2; 100]);
    stage.tell(Event::Flush { settle: false });
    assert!(stage.take(|action| matches!(action, Action::Grant { index: 1, .. })).is_some());
    let attr = Attr { size: 0, data_version: stage.file.attr.data_version + 1, ..stage.file.attr };
    let chunk = Some(ChunkRef { id: 60, version: 1 });
    let info = ChunkInfo { index: 1, written: false, chunk, ..stage.info(None) };
    let reply = NameReply { attr: Some(attr), chunks: vec![info], ..NameReply::default() };
    stage.tell(Event::Granted { index: 1, outcome: Ok(Box::new(reply)) });
    assert_eq!(stage.file.foreign_changes(), 1);
    assert!(matches!(stage.file.source(0), Source::Unknown), "chunk 0 went with the cut");
}

#[test]
fn who_went_on_under_the_grant_that_was_asks_for_no_other_when_everything_is_committed() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    let Some(Action::Send { index, round, piece, .. }) = stage.take(|action| matches!(action, Action::Send { .. }))
    else {
        panic!("it is sent: {:?}", stage.waiting)
    };
    let refusal = Refusal { error: Error::unavailable("silent"), blamed: vec![2] };
    stage.tell(Event::Sent { index, round, seq: piece.seq, offset: piece.offset, outcome: Err(refusal) });
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some());
    stage.tell(Event::Granted { index, outcome: Err(Error::unavailable("too few copies")) });
    stage.tell(Event::Fired(Timer::Grant(index)));
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    let attr = Attr { size: 0, data_version: stage.file.attr.data_version + 1, ..stage.file.attr };
    stage.waiting.clear();
    stage.tell(Event::Resized(attr));
    assert!(stage.waiting.is_empty(), "nothing is to be written: {:?}", stage.waiting);
}

#[test]
fn bytes_that_were_recalled_while_a_cycle_synced_are_sent_and_synced_again_before_it_commits() {
    let mut stage = Stage::new();
    stage.write(16_000, &[1]);
    stage.write(14_000, &[2; 2001]);
    stage.tell(Event::Flush { settle: false });
    stage.write(0, &[3]);
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.write(20_000, &[4]);
    stage.tell(Event::Tick);
    stage.rest();
    let Some(Action::Send { index, round, piece, .. }) = stage.take(|action| matches!(action, Action::Send { .. }))
    else {
        panic!("a later write is under way: {:?}", stage.waiting)
    };
    let refusal = Refusal { error: Error::stale("moved"), blamed: Blame::new() };
    stage.version = 4;
    stage.tell(Event::Sent { index, round, seq: piece.seq, offset: piece.offset, outcome: Err(refusal) });
    stage.grant(None);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3, "of the old version");
    assert!(!stage.file.is_done(2) && !stage.waiting.iter().any(|action| matches!(action, Action::Commit { .. })));
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3);
    assert_eq!(stage.commit(Ok(())).stored[0].version, 4);
    assert!(stage.file.is_done(2) && stage.file.faults() == 0);
}

#[test]
fn a_grant_that_comes_after_the_last_close_goes_back_at_once() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    stage.waiting.clear();
    let actions = stage.file.closing();
    assert!(matches!(actions[..], [Action::Release { .. }]), "{actions:?}");
    let attr = stage.file.attr;
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
    let released = stage.take(|action| matches!(action, Action::Release { .. }));
    assert!(released.is_some(), "{:?}", stage.waiting);
}

proptest! {
    /// Whatever the answers and their order: while the leader's and the servers' rules hold, what is committed is what was
    /// written, and nothing is forgotten before.
    #[test]
    fn any_order_of_answers_commits_what_was_written(steps in prop::collection::vec((0u8..10, 0u64..40, 1usize..3000), 1..80)) {
        let mut stage = Stage::new();
        let mut wanted: Vec<u8> = Vec::new();
        // What all copies of the chunk hold, and under which version.
        let mut copies: Vec<u8> = Vec::new();
        let mut fill = 0u8;
        let put = |bytes: &mut Vec<u8>, offset: usize, data: &[u8]| {
            bytes.resize(bytes.len().max(offset + data.len()), 0);
            bytes[offset..offset + data.len()].copy_from_slice(data);
        };
        let quiet: Vec<(u8, u64, usize)> = (0..60).flat_map(|_| [(1, 0, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1), (5, 1, 1), (7, 0, 1)]).collect();
        let until = steps.len();
        for (at, (what, place, length)) in steps.into_iter().chain(quiet).enumerate() {
            let calm = at >= until;
            stage.now.mono_ms += 20;
            match what {
                0 => {
                    fill = fill.wrapping_add(1).max(1);
                    let data = vec![fill; length];
                    let offset = place * 1000;
                    let (taken, actions) = stage.file.write(stage.now, offset, &data);
                    stage.keep(actions);
                    if taken == Taken::At(offset) {
                        put(&mut wanted, offset as usize, &data);
                    }
                    stage.tell(Event::Tick);
                }
                1 => stage.tell(Event::Flush { settle: length % 2 == 0 }),
                2 if stage.waiting.iter().any(|action| matches!(action, Action::Grant { .. })) => stage.grant(None),
                3 => if let Some(Action::Send { index, round, piece, info, .. }) = stage.take(|action| matches!(action, Action::Send { .. })) {
                    let current = info.chunk.unwrap().version == stage.version && info.chunk.unwrap().id == stage.chunk_id;
                    let (seq, offset) = (piece.seq, piece.offset);
                    let outcome = if !current {
                        Err(Refusal { error: Error::stale("moved").because(Reason::ChunkMoved), blamed: Blame::new() })
                    } else if !calm && place == 7 {
                        Err(Refusal { error: Error::unavailable("lost on the way"), blamed: Blame::new() })
                    } else if !calm && place == 5 && piece.is_promise() {
                        Err(Refusal { error: full(), blamed: vec![1] })
                    } else {
                        copies.resize(copies.len().max(piece.end() as usize), 0);
                        piece.lay_over(&mut copies, 0);
                        let stamps = (1..=3).map(|server_id| Stamp { server_id, boot_id: BOOT, stored_bytes: 4096 }).collect();
                        Ok(ChunkWriteReply { stamps })
                    };
                    stage.tell(Event::Sent { index, round, seq, offset, outcome });
                },
                4 => if let Some(Action::Sync { cycle, index, replica, .. }) = stage.take(|action| matches!(action, Action::Sync { .. })) {
                    let outcome = if !calm && place == 3 { Synced::Restarted } else { Synced::Stable(4096) };
                    stage.tell(Event::Synced { cycle, index, server: replica.server_id, outcome });
                },
                5 => if let Some(Action::Commit { cycle, request }) = stage.take(|action| matches!(action, Action::Commit { .. })) {
                    let good = request.stored.iter().all(|stored| (stored.chunk_id, stored.version) == (stage.chunk_id, stage.version));
                    let mut attr = stage.file.attr;
                    attr.data_version += u64::from(good);
                    attr.size = attr.size.max(request.size);
                    let outcome = if good { Ok(Box::new(NameReply { attr: Some(attr), ..NameReply::default() })) }
                        else { Err(Error::stale("moved").because(Reason::ChunkMoved)) };
                    stage.tell(Event::Committed { cycle, outcome });
                },
                6 if !calm && place < 8 => {
                    // Another client's cut behind all of this: the version moves on; or the chunk goes altogether.
                    stage.version += 1;
                    if place == 0 {
                        (stage.chunk_id, stage.version) = (stage.chunk_id + 1, 1);
                        copies.clear();
                        wanted.clear();
                        // Nothing is promised for what was committed before: only what is still ours comes again.
                        let own = stage.file.writers.get(&0).map(|writer| writer.own()).unwrap_or_default();
                        let patches: Vec<_> = own.iter().collect();
                        prop_assume!(patches.is_empty());
                    }
                }
                8 | 9 => {
                    let (start, end) = (place * 1000, place * 1000 + length as u64);
                    let fill = if what == 8 { Fill::Hole } else { Fill::Promise };
                    let (taken, actions) = stage.file.fill(stage.now, (start, end), fill, false);
                    stage.keep(actions);
                    if taken == Taken::At(start) && fill == Fill::Hole {
                        put(&mut wanted, start as usize, &vec![0; length]);
                    }
                    stage.tell(Event::Tick);
                }
                7 => {
                    while let Some(Action::Wait { timer, .. }) = stage.take(|action| matches!(action, Action::Wait { .. })) {
                        stage.tell(Event::Fired(timer));
                    }
                }
                _ => {}
            }
        }
        let file = &stage.file;
        prop_assert!(
            !file.is_dirty() && file.is_done(file.changes()),
            "{} of {} done, {} wanted, cycle {}, paused {}, waiting {:?}",
            file.done, file.changes, file.wanted, file.cycle.is_some(), file.paused, stage.waiting
        );
        prop_assert_eq!(stage.file.faults(), 0);
        prop_assert_eq!(stage.file.unstable_bytes(), 0);
        copies.resize(wanted.len().max(copies.len()), 0);
        wanted.resize(copies.len(), 0);
        let differs = copies.iter().zip(&wanted).position(|(held, right)| held != right);
        prop_assert!(differs.is_none(), "byte {:?} of the copies is not what was written last", differs);
    }
}

fn full() -> Error {
    Error::new(ErrorKind::Unavailable, libc::ENOSPC, "full")
}

/// What a patch puts over other bytes.
fn laid(patch: &Patch) -> Vec<u8> {
    let (start, end) = patch.span();
    let mut bytes = vec![0xEE; (end - start) as usize];
    patch.lay_over(&mut bytes, start);
    bytes
}

/// The piece behind an `Arc` is shared with what is on its way, never copied.
#[test]
fn pieces_are_shared_and_small_ones_take_little_memory() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 100]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    let Some(Action::Send { piece, .. }) = stage.take(|action| matches!(action, Action::Send { .. })) else { panic!() };
    assert!(Arc::strong_count(&piece) == 2 && stage.file.unstable_bytes() <= 8192);
}

#[test]
fn two_pieces_of_one_block_go_one_after_the_other() {
    let mut stage = Stage::new();
    stage.write(1000, &[1]);
    stage.tell(Event::Tick);
    stage.write(0, &[2]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    assert_eq!(stage.sends().len(), 1);
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3, "{:?}", stage.waiting);
    stage.commit(Ok(()));
    assert!(stage.file.is_done(2) && !stage.file.is_dirty(), "{} {}", stage.file.done, stage.file.changes);
}
