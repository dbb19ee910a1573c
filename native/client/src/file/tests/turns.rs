//! Records appended here stay whole and in order.

use super::*;

/// Time for what was written to be sent.
fn rest(stage: &mut Stage) {
    stage.now.mono_ms += IDLE_SEND_MS;
    stage.tell(Event::Tick);
}

#[test]
fn records_that_lost_their_place_come_again_in_the_order_in_which_they_were_written() {
    let mut stage = Stage::new();
    append(&mut stage, b"one");
    turn(&mut stage, 200_000);
    append(&mut stage, b"one");
    rest(&mut stage);
    stage.grant(None);
    stage.acknowledge(BOOT);
    append(&mut stage, b"two");
    rest(&mut stage);
    let Some(Action::Send { index, round, piece, .. }) = stage.take(|action| matches!(action, Action::Send { .. }))
    else {
        panic!("the second is under way: {:?}", stage.waiting)
    };
    let refusal = Refusal { error: Error::stale("moved"), blamed: Blame::new() };
    stage.tell(Event::Sent { index, round, seq: piece.seq, offset: piece.offset, outcome: Err(refusal) });
    assert!(stage.take(|action| matches!(action, Action::Grant { .. })).is_some());
    let lost = Error::stale("lost").because(Reason::TurnLost);
    stage.tell(Event::Granted { index: 0, outcome: Err(lost) });
    stage.version = 4;
    turn(&mut stage, 200_100);
    let (taken, actions) = stage.file.reappend(stage.now);
    assert!(matches!(taken, Taken::At(_)));
    stage.keep(actions);
    stage.tell(Event::Flush { settle: false });
    // The first was asked for while nothing was appended.
    stage.grant(None);
    stage.grant(None);
    let sent: Vec<_> = stage.sends().into_iter().map(|(_, offset, bytes)| (offset, bytes)).collect();
    assert_eq!(sent, [(200_100, b"onetwo".to_vec())]);
}

#[test]
fn a_turn_does_not_end_in_the_middle_of_a_record() {
    let mut stage = Stage::new();
    append(&mut stage, b"half");
    turn(&mut stage, 200_000);
    let (taken, actions) = stage.file.append(stage.now, b"half", false);
    assert_eq!(taken, Taken::At(200_000));
    stage.keep(actions);
    stage.tell(Event::Flush { settle: false });
    assert_eq!(append(&mut stage, b"rest"), Taken::At(200_004), "nobody else's record comes between");
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable);
    assert!(!stage.commit(Ok(())).append);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable);
    assert!(stage.commit(Ok(())).append, "the record is whole");
}

#[test]
fn after_a_commit_that_a_full_window_wanted_another_turn_is_asked_for() {
    let mut stage = Stage::new();
    append(&mut stage, b"first");
    turn(&mut stage, 200_000);
    let record = vec![1; 1 << 20];
    assert!((0..10).any(|_| append(&mut stage, &record) == Taken::NeedsTurn), "a commit is under way");
    assert!(!stage.file.is_done(1), "the window is half full, and nobody asked for a sync");
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable);
    assert!(stage.commit(Ok(())).append);
    assert_eq!(append(&mut stage, b"next"), Taken::NeedsTurn);
}
