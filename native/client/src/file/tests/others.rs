//! What other clients and servers started anew do to a file that is open here.

use super::*;

#[test]
fn a_read_that_meets_another_start_of_a_server_sends_again_what_it_may_have_lost() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    stage.now.mono_ms += IDLE_SEND_MS;
    stage.tell(Event::Tick);
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.tell(Event::ReadFrom { index: 0, server: 2, boot_id: BOOT });
    assert!(stage.sends().is_empty(), "it has them");
    stage.tell(Event::ReadFrom { index: 0, server: 2, boot_id: BOOT + 1 });
    assert_eq!(stage.sends()[0].2, [1; 1000]);
}

#[test]
fn an_answer_from_before_what_is_known_names_no_chunk_to_read() {
    let mut stage = Stage::new();
    let known = Attr { data_version: 6, ..stage.file.attr };
    stage.tell(Event::Seen(known));
    let late = Attr { data_version: 5, ..known };
    let reply = NameReply { attr: Some(late), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert!(matches!(stage.file.source(0), Source::Unknown));
}

#[test]
fn a_chunk_whose_bytes_are_committed_is_never_made_anew_though_its_grant_is_from_before() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 1000]);
    stage.tell(Event::Flush { settle: false });
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some());
    let fresh = ChunkInfo { written: false, ..stage.info(None) };
    let reply = NameReply { attr: Some(stage.file.attr), chunks: vec![fresh], ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable);
    stage.commit(Ok(()));
    stage.write(5000, &[2; 1000]);
    stage.tell(Event::Flush { settle: false });
    let sent = stage.take(|action| matches!(action, Action::Send { .. }));
    assert!(matches!(sent, Some(Action::Send { create: false, .. })), "{sent:?}");
}

/// The answer to a grant of a chunk for a file that still lies in its inode.
fn grant_inline(stage: &mut Stage, data_version: u64, bytes: &[u8]) {
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some(), "{:?}", stage.waiting);
    let attr = Attr { data_version, ..stage.file.attr };
    let (chunks, inline_data) = (vec![stage.info(None)], bytes.to_vec().into());
    let reply = NameReply { attr: Some(attr), chunks, is_inline: true, inline_data, ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
}

/// As `Stage::acknowledge`, noting what the copies hold.
fn put_all(stage: &mut Stage, copies: &mut [u8]) {
    while !stage.sends().is_empty() {
        for (_, offset, bytes) in stage.sends() {
            copies[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        }
        let sent: Vec<Action> = std::mem::take(&mut stage.waiting);
        for action in sent {
            let Action::Send { index, round, piece, .. } = action else {
                stage.waiting.push(action);
                continue;
            };
            let stamps = (1..=3).map(|server_id| Stamp { server_id, boot_id: BOOT, stored_bytes: 4096 }).collect();
            let (seq, offset) = (piece.seq, piece.offset);
            stage.tell(Event::Sent { index, round, seq, offset, outcome: Ok(ChunkWriteReply { stamps }) });
        }
    }
}

#[test]
fn a_file_moves_out_of_its_inode_with_the_bytes_that_were_read_there_and_ours_over_them() {
    let mut stage = dirty_inline();
    let mut copies = [0; 110];
    stage.write(100, &[2; 10]);
    stage.tell(Event::Flush { settle: false });
    grant_inline(&mut stage, 5, &[3; 16]);
    put_all(&mut stage, &mut copies);
    assert_eq!(copies[..16], [[3; 4], [2; 4], [3; 4], [3; 4]].concat());
    // Another client writes into the inode before the commit that moves it arrives.
    stage.tell(Event::Seen(Attr { data_version: 6, ..stage.file.attr }));
    stage.sync(|_| Synced::Stable);
    let refused = stage.commit(Err(Error::stale("changed").because(Reason::ChunkMoved)));
    assert_eq!((refused.convert_inline, refused.expect_inline_version), (true, 5));
    grant_inline(&mut stage, 6, &[4; 16]);
    put_all(&mut stage, &mut copies);
    assert_eq!(copies[..16], [[4; 4], [2; 4], [4; 4], [4; 4]].concat(), "ours is on the copies already");
    stage.sync(|_| Synced::Stable);
    assert_eq!(stage.commit(Ok(())).expect_inline_version, 6);
    assert!(stage.file.is_done(2) && stage.file.faults() == 0);
}
