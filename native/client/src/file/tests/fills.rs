//! Holes, promises of space, and copies that chunkservers make.

use super::*;

#[test]
fn a_hole_that_is_sent_again_takes_along_what_was_written_over_it() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    let (taken, actions) = stage.file.fill(stage.now, (0, 200_000), Fill::Hole, false);
    stage.keep(actions);
    assert_eq!(taken, Taken::At(0));
    assert_eq!(laid(&stage.file.patches(0, 0, 10)[0])[..10], [0; 10], "it is read at once");
    stage.write(5000, &[7; 100]);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT);
    assert_eq!(stage.sends().len(), 0);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Restarted);
    let mut again = Vec::new();
    while let Some((_, offset, bytes)) = stage.sends().pop() {
        again.push((offset, bytes));
        let stamps = (1..=3).map(|server_id| Stamp { server_id, boot_id: 8, stored_bytes: 4096 }).collect();
        stage.answer_a_piece(Ok(ChunkWriteReply { stamps }));
    }
    assert_eq!(again[0], (5000, vec![7; 100]), "{again:?}");
    assert!(again.contains(&(0, vec![])) && again.contains(&(5100, vec![])), "the rest stays a hole: {again:?}");
}

#[test]
fn a_promise_that_is_refused_is_told_to_who_asked_and_loses_nothing() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 1000]);
    let (_, actions) = stage.file.fill(stage.now, (0, 1 << 20), Fill::Promise, true);
    stage.keep(actions);
    assert_eq!(stage.file.size(), 1 << 20);
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    assert_eq!(stage.sends(), [(0, 150_000, vec![1; 1000])], "in order with bytes of its blocks");
    let stamps: Vec<_> = (1..=3).map(|server_id| Stamp { server_id, boot_id: BOOT, stored_bytes: 4096 }).collect();
    stage.answer_a_piece(Ok(ChunkWriteReply { stamps }));
    assert_eq!(stage.sends(), [(0, 0, vec![])]);
    stage.answer_a_piece(Err(Refusal { error: full(), blamed: vec![2] }));
    let abandoned = stage.take(|action| matches!(action, Action::Release { abandoned: true, .. }));
    assert!(abandoned.is_some(), "copies may differ: {:?}", stage.waiting);
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).size, 151_000);
    assert!(!stage.file.is_dirty());
    assert_eq!((stage.file.faults(), stage.file.size()), (0, 200_000));
    assert_eq!(stage.file.take_refusal().map(|error| error.errno), Some(libc::ENOSPC));
    assert_eq!(stage.file.take_refusal(), None);
}

#[test]
fn a_copy_that_servers_cannot_make_is_told_to_who_asked_and_blames_nobody() {
    let mut stage = Stage::new();
    stage.written();
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    let source = Arc::new(stage.info(None));
    let (taken, actions) = stage.file.copy(stage.now, 10_000, Copied { source, offset: 77, length: 50_000 });
    stage.keep(actions);
    assert_eq!(taken, Taken::At(10_000));
    assert!(stage.file.patches(0, 0, 100_000).is_empty(), "nobody here knows those bytes");
    stage.write(20_000, &[9; 100]);
    stage.tell(Event::Flush { settle: false });
    let error = Error::new(ErrorKind::Namespace, libc::EREMOTEIO, "no copy");
    stage.answer_a_piece(Err(Refusal { error, blamed: Blame::new() }));
    stage.grant(None);
    assert_eq!(stage.sends(), [(1, 20_000, vec![9; 100])], "bytes go on");
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Ok(()));
    assert!(!stage.file.is_dirty());
    assert_eq!(stage.file.take_refusal().map(|error| error.errno), Some(libc::EREMOTEIO));
    assert_eq!(stage.file.faults(), 0);
}

#[test]
fn a_copy_that_is_sent_again_takes_along_what_was_written_over_it() {
    let source = Arc::new(Stage::new().info(None));
    let copied = Arc::new(Piece::copy(3, 10_000, Copied { source, offset: 500, length: 50_000 }));
    let over = Arc::new(Piece::new(4, 20_000, base::Buffer::copy_of(&[9; 100]), false));
    let parts = copied.under(&[over]);
    let told: Vec<_> = parts.iter().map(|part| (part.seq, part.offset, part.end(), part.bytes().len())).collect();
    assert_eq!(told, [(3, 20_000, 20_100, 100), (3, 10_000, 20_000, 0), (3, 20_100, 60_000, 0)]);
    let Content::Copy(last) = &parts[2].content else { panic!() };
    assert_eq!(last.offset, 500 + 10_100);
}

#[test]
fn bytes_in_the_inode_become_a_hole_there_and_a_promise_makes_it_longer() {
    let mut stage = Stage::new();
    stage.file.body = Body::Inline(Default::default());
    stage.file.attr.size = 0;
    stage.write(0, &[5; 100]);
    let mut fill = |span, fill, grows| {
        let (taken, actions) = stage.file.fill(stage.now, span, fill, grows);
        stage.keep(actions);
        assert_eq!(taken, Taken::At(span.0));
        stage.file.size()
    };
    assert_eq!(fill((10, 5000), Fill::Hole, false), 100);
    assert_eq!(fill((50, 300), Fill::Promise, false), 100);
    assert_eq!(fill((50, 300), Fill::Promise, true), 300);
    let bytes = stage.file.read_inline(0, 300).expect("it lies in its inode");
    assert_eq!((&bytes[..10], &bytes[10..]), (&[5; 10][..], &[0; 290][..]));
}
