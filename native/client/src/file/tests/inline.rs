//! A file whose bytes lie in its inode, with unsent ones of ours, and on its way out of it.

use super::*;

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

/// A file of 16 bytes in its inode, 4 of which were written here and not sent.
fn dirty_inline() -> Stage {
    let mut stage = Stage::new();
    let attr = Attr { inode: 9, size: 16, data_version: 4, ..Attr::default() };
    let limits = Limits { window_bytes: 4 << 20, inline_bytes: 64, deadline_ms: 60_000 };
    stage.file = File::new(attr, Credentials::default(), limits, Rounds::default());
    let reply =
        NameReply { attr: Some(attr), is_inline: true, inline_data: vec![1; 16].into(), ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 0 });
    stage.write(4, &[2; 4]);
    stage
}

#[test]
fn unsent_bytes_in_the_inode_lie_over_what_another_client_made_of_it() {
    let mut stage = dirty_inline();
    let attr = Attr { size: 32, data_version: 5, ..stage.file.attr };
    stage.tell(Event::Seen(attr));
    assert!(!stage.file.is_body_known(), "the rest is to be asked for");
    let reply =
        NameReply { attr: Some(attr), is_inline: true, inline_data: vec![3; 32].into(), ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    let bytes = stage.file.read_inline(0, 32).unwrap();
    assert_eq!((&bytes[..4], &bytes[4..8], &bytes[8..]), (&[3; 4][..], &[2; 4][..], &[3; 24][..]));
}

#[test]
fn unsent_bytes_in_the_inode_follow_the_file_into_its_chunks() {
    let mut stage = dirty_inline();
    let attr = Attr { size: 5000, data_version: 5, ..stage.file.attr };
    stage.tell(Event::Seen(attr));
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert!(stage.file.read_inline(0, 32).is_none());
    assert!(matches!(stage.file.source(0), Source::Known(info) if info.written));
    let patches = stage.file.patches(0, 0, 5000);
    assert!(patches.iter().all(|patch| (patch.span().0, laid(patch)) == (4, vec![2; 4])) && !patches.is_empty());
}

#[test]
fn on_the_way_out_of_the_inode_what_another_client_made_of_the_file_is_read() {
    let mut stage = dirty_inline();
    stage.write(100, &[5; 10]);
    let own = |stage: &Stage| stage.file.patches(0, 0, 4).is_empty();
    assert!(!own(&stage), "what lay in the inode lies over the chunk until others have moved it");
    let attr = Attr { size: 5000, data_version: 6, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert!(own(&stage));
    assert!(!stage.file.patches(0, 100, 110).is_empty());
}

#[test]
fn bytes_of_the_inode_that_were_about_to_move_and_are_old_are_neither_read_nor_moved() {
    let mut stage = dirty_inline();
    stage.write(100, &[5; 10]);
    stage.take(|action| matches!(action, Action::Grant { .. })).expect("a grant");
    let old = stage.file.attr;
    let granted = NameReply {
        attr: Some(old),
        is_inline: true,
        inline_data: vec![1; 16].into(),
        chunks: vec![stage.info(None)],
        ..NameReply::default()
    };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(granted)) });
    assert_eq!(laid(&stage.file.patches(0, 8, 16)[0])[..4], [1; 4]);
    let attr = Attr { size: 9, data_version: 6, ..old };
    let reply = NameReply { attr: Some(attr), is_inline: true, inline_data: vec![9; 9].into(), ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert!(stage.file.patches(0, 9, 16).is_empty());
    assert_eq!(laid(&stage.file.patches(0, 0, 4)[0])[..4], [9; 4]);
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some(), "it is asked for again");
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
    stage.sync(|_| Synced::Stable(4096));
    let refused = stage.commit(Err(Error::stale("changed").because(Reason::ChunkMoved)));
    assert_eq!((refused.convert_inline, refused.expect_inline_version), (true, 5));
    grant_inline(&mut stage, 6, &[4; 16]);
    put_all(&mut stage, &mut copies);
    assert_eq!(copies[..16], [[4; 4], [2; 4], [4; 4], [4; 4]].concat(), "ours is on the copies already");
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).expect_inline_version, 6);
    assert!(stage.file.is_done(2) && stage.file.faults() == 0);
}

#[test]
fn unsent_bytes_lie_over_what_another_client_put_into_the_inode_after_it_cut_the_file_away() {
    for committing in [false, true] {
        let mut stage = Stage::new();
        stage.written();
        if committing {
            stage.sync(|_| Synced::Stable(4096));
        }
        let attr = Attr { size: 100, data_version: stage.file.attr.data_version + 2, ..stage.file.attr };
        let inline_data = vec![7; 100].into();
        let reply = NameReply { attr: Some(attr), is_inline: true, inline_data, ..NameReply::default() };
        stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
        assert_eq!(laid(&stage.file.patches(0, 0, 4096)[0]), [7; 100]);
        assert_eq!(stage.file.patches(0, 150_000, 151_000).len(), 1, "ours comes after the cut");
        if committing {
            stage.commit(Err(Error::stale("inline").because(Reason::ChunkMoved)));
        } else {
            stage.sync(|_| Synced::Stable(4096));
        }
        (stage.chunk_id, stage.version) = (51, 1);
        let mut copies = vec![0; 151_000];
        grant_inline(&mut stage, attr.data_version, &[7; 100]);
        put_all(&mut stage, &mut copies);
        assert_eq!((&copies[..100], &copies[150_000..]), (&[7; 100][..], &[1; 1000][..]));
        stage.sync(|_| Synced::Stable(4096));
        let request = stage.commit(Ok(()));
        assert_eq!((request.convert_inline, request.expect_inline_version), (true, attr.data_version));
        assert!(stage.file.is_done(1) && !stage.file.is_dirty());
    }
}

#[test]
fn bytes_of_the_inode_that_a_refused_commit_would_have_moved_are_not_read_once_another_client_cut_them_off() {
    for chunk_is_named in [false, true] {
        let mut stage = dirty_inline();
        stage.write(100, &[5; 10]);
        stage.tell(Event::Flush { settle: false });
        grant_inline(&mut stage, 4, &[1; 16]);
        put_all(&mut stage, &mut [0; 110]);
        stage.sync(|_| Synced::Stable(4096));
        let cut = Attr { size: 9, data_version: 5, ..stage.file.attr };
        stage.tell(Event::Seen(cut));
        stage.commit(Err(Error::stale("changed").because(Reason::ChunkMoved)));
        stage.version += 1;
        let chunks = if chunk_is_named { vec![stage.info(Some(9))] } else { Vec::new() };
        let (inline_data, is_inline) = (vec![1; 9].into(), true);
        let reply = NameReply { attr: Some(cut), chunks, is_inline, inline_data, ..NameReply::default() };
        stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
        assert!(stage.file.patches(0, 9, 16).is_empty(), "they are read as zeros");
        assert_eq!(stage.file.patches(0, 100, 110).len(), 1, "ours lie over whatever is there");
        assert!(matches!(stage.file.source(0), Source::Known(info) if info.chunk.is_none() || chunk_is_named));
    }
}

#[test]
fn a_sync_of_bytes_that_go_out_of_the_inode_meanwhile_waits_until_the_chunk_has_them() {
    let mut stage = Stage::new();
    let attr = Attr { inode: 9, ..Attr::default() };
    let limits = Limits { window_bytes: 4 << 20, inline_bytes: 64, deadline_ms: 60_000 };
    stage.file = File::new(attr, Credentials::default(), limits, Rounds::default());
    let empty = NameReply { attr: Some(attr), is_inline: true, ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(empty), first: 0, count: 0 });
    stage.write(4, &[2; 4]);
    let synced = stage.file.changes();
    stage.tell(Event::Flush { settle: false });
    assert!(stage.take(|action| matches!(action, Action::WriteInline { .. })).is_some());
    stage.write(100, &[5; 10]);
    stage.tell(Event::InlineWritten { outcome: Err(Error::namespace(libc::EFBIG, "it lies in chunks")) });
    assert!(!stage.file.is_done(synced), "they are nowhere yet");
    stage.grant(None);
    assert_eq!(stage.sends().iter().map(|(_, offset, _)| *offset).collect::<Vec<_>>(), [4]);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    assert!(stage.file.is_done(synced) && !stage.file.is_done(synced + 1), "what came later is for the next");
}

#[test]
fn a_late_grant_from_before_another_client_wrote_into_the_inode_does_not_hide_it() {
    let mut stage = Stage::new();
    stage.written();
    let cut = Attr { size: 0, data_version: stage.file.attr.data_version + 1, ..stage.file.attr };
    stage.tell(Event::Learned {
        reply: Box::new(NameReply { attr: Some(cut), ..NameReply::default() }),
        first: 0,
        count: 1,
    });
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some(), "{:?}", stage.waiting);
    let wrote = Attr { size: 100, data_version: cut.data_version + 1, ..cut };
    let inline_data = vec![7; 100].into();
    let reply = NameReply { attr: Some(wrote), is_inline: true, inline_data, ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    (stage.chunk_id, stage.version) = (51, 1);
    let late = NameReply { attr: Some(cut), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(late)) });
    assert_eq!(laid(&stage.file.patches(0, 0, 4096)[0]), [7; 100]);
}

#[test]
fn nothing_is_committed_past_an_operation_on_the_inode_that_is_under_way() {
    let mut stage = dirty_inline();
    stage.tell(Event::Flush { settle: false });
    let changes = stage.file.changes();
    assert!(stage.take(|action| matches!(action, Action::WriteInline { .. })).is_some(), "{:?}", stage.waiting);
    // It waits somewhere. Another client moved the file into chunks meanwhile.
    let attr = Attr { size: 20_000, data_version: 5, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    stage.grant(None);
    assert_eq!(stage.sends(), [(0, 4, vec![2; 4])]);
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 0, "it may still arrive, after what follows a sync");
    stage.tell(Event::InlineWritten { outcome: Err(Error::namespace(libc::EFBIG, "it lies in chunks")) });
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    assert!(stage.file.is_done(changes));
}

/// What copies of chunk 0 hold once a commit says that the inode's bytes are there.
fn moved(stage: &mut Stage, copies: &mut [u8]) {
    for _ in 0..3 {
        put_all(stage, copies);
        stage.sync(|_| Synced::Stable(4096));
        if stage.waiting.iter().any(|action| matches!(action, Action::Commit { .. })) {
            assert!(stage.commit(Ok(())).convert_inline);
            return;
        }
    }
    panic!("nothing is committed: {:?}", stage.waiting);
}

#[test]
fn a_write_over_the_inodes_bytes_while_a_grant_is_asked_for_leaves_no_hole_when_they_move() {
    for later in [&[6; 16][..], &[6; 5][..]] {
        let mut stage = dirty_inline();
        stage.write(100, &[5; 10]);
        stage.write(0, later);
        grant_inline(&mut stage, 4, &[1; 16]);
        let mut copies = [0; 200];
        moved(&mut stage, &mut copies);
        let mut expected = [1; 16];
        expected[4..8].fill(2);
        expected[..later.len()].copy_from_slice(later);
        assert_eq!((&copies[..16], &copies[100..110]), (&expected[..], &[5; 10][..]));
    }
}

#[test]
fn a_write_over_the_inodes_bytes_while_the_chunk_is_synced_leaves_no_hole_when_they_move() {
    let mut stage = dirty_inline();
    stage.write(100, &[5; 10]);
    grant_inline(&mut stage, 4, &[1; 16]);
    let mut copies = [0; 200];
    put_all(&mut stage, &mut copies);
    // Another client wrote into the inode; while the servers sync, this one writes over that and asks for a grant.
    stage.write(0, &[6; 16]);
    let attr = Attr { data_version: 5, ..stage.file.attr };
    let inline_data = vec![3; 16].into();
    let reply = NameReply { attr: Some(attr), is_inline: true, inline_data, ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    grant_inline(&mut stage, 5, &[3; 16]);
    moved(&mut stage, &mut copies);
    assert_eq!((&copies[..16], &copies[100..110]), (&[6; 16][..], &[5; 10][..]));
}

#[test]
fn bytes_that_another_client_put_into_the_inode_after_a_commit_are_read_although_its_answer_comes_last() {
    let mut stage = dirty_inline();
    stage.write(100, &[5; 10]);
    grant_inline(&mut stage, 4, &[1; 16]);
    put_all(&mut stage, &mut [0; 200]);
    stage.sync(|_| Synced::Stable(4096));
    let attr = Attr { data_version: 7, size: 9, ..stage.file.attr };
    let inline_data = vec![9; 9].into();
    let reply = NameReply { attr: Some(attr), is_inline: true, inline_data, ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    grant_inline(&mut stage, 7, &[9; 9]);
    let Some(Action::Commit { cycle, .. }) = stage.take(|action| matches!(action, Action::Commit { .. })) else {
        panic!("a commit is under way: {:?}", stage.waiting)
    };
    let attr = Attr { data_version: 5, size: 110, ..attr };
    let late = NameReply { attr: Some(attr), ..NameReply::default() };
    stage.tell(Event::Committed { cycle, outcome: Ok(Box::new(late)) });
    assert!(!stage.file.is_body_known() || laid(&stage.file.patches(0, 0, 9)[0]) == [9; 9]);
}
