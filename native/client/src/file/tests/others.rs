//! What other clients and servers started anew do to a file that is open here.

use super::*;

#[test]
fn a_read_that_meets_another_start_of_a_server_sends_again_what_it_may_have_lost() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    stage.rest();
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
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    stage.write(5000, &[2; 1000]);
    stage.tell(Event::Flush { settle: false });
    let sent = stage.take(|action| matches!(action, Action::Send { .. }));
    assert!(matches!(sent, Some(Action::Send { create: false, .. })), "{sent:?}");
}

#[test]
fn a_file_that_others_made_small_again_is_asked_for_anew_although_an_old_grant_is_held() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    let Some(Action::Commit { cycle, .. }) = stage.take(|action| matches!(action, Action::Commit { .. })) else {
        panic!("a commit is wanted")
    };
    let attr = Attr { size: 100, data_version: stage.file.attr.data_version + 3, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), ..NameReply::default() };
    stage.tell(Event::Committed { cycle, outcome: Ok(Box::new(reply)) });
    let reply =
        NameReply { attr: Some(attr), is_inline: true, inline_data: vec![7; 100].into(), ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    stage.write(20_000, &[2; 10]);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT);
    (stage.chunk_id, stage.version) = (51, 1);
    stage.grant(None);
    assert_eq!(stage.sends().len(), 1, "{:?}", stage.waiting);
}

#[test]
fn a_chunk_that_another_client_cut_away_is_not_read_though_it_took_bytes_of_ours() {
    let mut stage = Stage::new();
    stage.written();
    let attr = Attr { size: 150_000, data_version: stage.file.attr.data_version + 2, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), ..NameReply::default() };
    stage.tell(Event::Learned { reply: Box::new(reply), first: 0, count: 1 });
    assert!(matches!(stage.file.source(0), Source::Known(info) if info.chunk.is_none()));
    assert_eq!(stage.file.patches(0, 150_000, 151_000).len(), 1, "ours comes after the cut");
}

#[test]
fn another_clients_change_that_comes_with_a_grant_counts_as_foreign_and_the_own_commit_does_not() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    stage.tell(Event::Flush { settle: false });
    let before = stage.file.foreign_changes();
    let granted = stage.take(|action| matches!(action, Action::Grant { .. }));
    assert!(granted.is_some());
    let attr = Attr { data_version: stage.file.attr.data_version + 1, ..stage.file.attr };
    let reply = NameReply { attr: Some(attr), chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
    assert_eq!(stage.file.foreign_changes(), before + 1, "pages of before may be cached");
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    assert!(stage.file.is_done(1));
    assert_eq!(stage.file.foreign_changes(), before + 1);
}

#[test]
fn what_was_sent_before_another_client_cut_the_file_is_sent_again_at_the_new_version() {
    let mut stage = Stage::new();
    stage.written();
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3);
    stage.commit(Err(Error::stale("cut").because(Reason::ChunkMoved)));
    assert!(!stage.file.is_done(1));
    stage.version = 4;
    stage.grant(Some(100_000));
    assert!(stage.sends().is_empty(), "the tail is zeroed first");
    let trim = stage.take(|action| matches!(action, Action::Trim { .. }));
    assert!(trim.is_some());
    stage.tell(Event::Trimmed { index: 0, outcome: Ok(()) });
    let Some(Action::TellTrim { request, .. }) = stage.take(|action| matches!(action, Action::TellTrim { .. })) else {
        panic!("the leader hears of it")
    };
    assert_eq!((request.trim, request.chunk.unwrap().version), (100_000, 4));
    stage.version = 5;
    let reply = NameReply { chunks: vec![stage.info(None)], ..NameReply::default() };
    stage.tell(Event::TrimTold { index: 0, outcome: Ok(Box::new(reply)) });
    assert_eq!(stage.sends()[0].2, [1; 1000]);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).stored[0].version, 5);
    assert!(stage.file.is_done(1) && !stage.file.is_dirty() && stage.file.faults() == 0);
}

#[test]
fn a_sync_that_finds_the_chunk_on_none_of_its_servers_blames_nobody() {
    for absent in [3, 2] {
        let mut stage = Stage::new();
        stage.written();
        let gone = Error::namespace(libc::ENOENT, "chunk 50 is not on this server");
        stage.sync(|server| if server <= absent { Synced::Failed(gone.clone()) } else { Synced::Stable(4096) });
        let asked = stage.take(|action| matches!(action, Action::Grant { .. }));
        let Some(Action::Grant { request, .. }) = asked else { panic!("a grant is asked for: {:?}", stage.waiting) };
        assert_eq!(request.failed.len() as u32, if absent == 3 { 0 } else { 2 });
        (stage.chunk_id, stage.version) = (51, 1);
        let reply = NameReply { attr: Some(stage.file.attr), chunks: vec![stage.info(None)], ..NameReply::default() };
        stage.tell(Event::Granted { index: 0, outcome: Ok(Box::new(reply)) });
        assert_eq!(stage.sends().len(), 1, "it goes to the new chunk");
    }
}

#[test]
fn who_finds_a_chunk_moved_again_and_again_asks_for_it_after_the_pause_and_not_before() {
    let mut stage = Stage::new();
    stage.write(0, &[1; 100]);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    for tries in 0..5 {
        stage.acknowledge(BOOT);
        assert_eq!(stage.sync(|_| Synced::Moved), 3);
        if stage.take(|action| matches!(action, Action::Wait { timer: Timer::Cycle, .. })).is_some() {
            let asked = stage.waiting.iter().any(|action| matches!(action, Action::Grant { .. }));
            assert!(!asked, "the answer would be old when the pause is over");
            stage.tell(Event::Fired(Timer::Cycle));
        } else {
            assert_eq!(tries, 0);
        }
        // Another client cut the file once more.
        stage.version += 1;
        stage.grant(None);
    }
    stage.acknowledge(BOOT);
    assert_eq!(stage.sync(|_| Synced::Stable(4096)), 3);
    stage.commit(Ok(()));
    assert!(!stage.file.is_dirty());
}
