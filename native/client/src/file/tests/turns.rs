//! Records appended here stay whole and in order.

use super::*;

#[test]
fn records_that_lost_their_place_come_again_in_the_order_in_which_they_were_written() {
    let mut stage = Stage::new();
    append(&mut stage, b"one");
    turn(&mut stage, 200_000);
    append(&mut stage, b"one");
    stage.rest();
    stage.grant(None);
    stage.acknowledge(BOOT);
    append(&mut stage, b"two");
    stage.rest();
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
    stage.sync(|_| Synced::Stable(4096));
    assert!(!stage.commit(Ok(())).append);
    stage.tell(Event::Flush { settle: false });
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
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
    stage.sync(|_| Synced::Stable(4096));
    assert!(stage.commit(Ok(())).append);
    assert_eq!(append(&mut stage, b"next"), Taken::NeedsTurn);
}

#[test]
fn an_append_waits_for_its_turn_and_the_commit_that_shows_it_ends_the_turn() {
    let mut stage = Stage::new();
    assert_eq!(append(&mut stage, b"one"), Taken::NeedsTurn);
    turn(&mut stage, 200_000);
    assert_eq!(append(&mut stage, b"one"), Taken::At(200_000));
    assert_eq!(append(&mut stage, b"two"), Taken::At(200_003));
    stage.now.mono_ms += 5;
    stage.tell(Event::Fired(Timer::Linger));
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    let request = stage.commit(Ok(()));
    assert!(request.append && request.size == 200_006);
    assert_eq!(append(&mut stage, b"three"), Taken::NeedsTurn);
}

#[test]
fn appended_bytes_that_lost_their_place_come_again_at_the_new_end_once() {
    let mut stage = Stage::new();
    append(&mut stage, b"mine");
    turn(&mut stage, 200_000);
    append(&mut stage, b"mine");
    stage.tell(Event::Flush { settle: false });
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    stage.commit(Err(Error::stale("lost").because(Reason::TurnLost)));
    assert!(!stage.file.is_done(1));
    stage.version = 4;
    turn(&mut stage, 200_100);
    let again = stage.take(|action| matches!(action, Action::Reappend));
    assert!(again.is_some());
    let (taken, actions) = stage.file.reappend(stage.now);
    assert!(matches!(taken, Taken::At(_)));
    stage.keep(actions);
    stage.grant(None);
    let sends: Vec<_> = stage.sends().into_iter().map(|(_, offset, bytes)| (offset, bytes)).collect();
    assert_eq!(sends, [(200_100, b"mine".to_vec())]);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert_eq!(stage.commit(Ok(())).size, 200_104);
    assert!(stage.file.is_done(1));
}

#[test]
fn appended_bytes_whose_turn_is_over_are_not_even_sent_to_their_old_place() {
    let mut stage = Stage::new();
    append(&mut stage, b"mine");
    turn(&mut stage, 200_000);
    append(&mut stage, b"mine");
    stage.tell(Event::Flush { settle: false });
    let Some(Action::Grant { index, request }) = stage.take(|action| matches!(action, Action::Grant { .. })) else {
        panic!("a grant is asked for")
    };
    assert!(request.append);
    let lost = Error::stale("lost").because(Reason::TurnLost);
    stage.tell(Event::Granted { index, outcome: Err(lost) });
    assert!(stage.sends().is_empty() && stage.file.faults() == 0 && !stage.file.is_done(1));
    turn(&mut stage, 100);
    let (taken, actions) = stage.file.reappend(stage.now);
    assert!(matches!(taken, Taken::At(_)));
    stage.keep(actions);
    stage.grant(None);
    assert_eq!(stage.sends()[0].1, 100);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert!(stage.commit(Ok(())).append && stage.file.is_done(1));
}

#[test]
fn a_grant_asked_for_before_bytes_were_appended_is_asked_for_again_with_them() {
    let mut stage = Stage::new();
    stage.write(150_000, &[1; 10]);
    stage.tell(Event::Flush { settle: false });
    let (_, actions) = stage.file.append(stage.now, &[1; 100], true);
    stage.keep(actions);
    let reply = NameReply { attr: Some(stage.file.attr), ..NameReply::default() };
    stage.tell(Event::Turn { outcome: Ok(Box::new(reply)) });
    let (taken, actions) = stage.file.append(stage.now, &[2; 100], true);
    assert!(matches!(taken, Taken::At(200_000)));
    stage.keep(actions);
    // The answer may be hours old for what we know: the turn, and the place, may be another's by now.
    stage.grant(None);
    assert!(stage.sends().is_empty());
    let again = stage.waiting.iter().any(|action| matches!(action, Action::Grant { request, .. } if request.append));
    assert!(again, "{:?}", stage.waiting);
    stage.grant(None);
    assert!(!stage.sends().is_empty());
}

#[test]
fn a_pause_before_asking_for_a_turn_that_came_and_went_asks_for_no_other() {
    let mut stage = Stage::new();
    let (taken, actions) = stage.file.append(stage.now, &[1; 100], true);
    assert_eq!(taken, Taken::NeedsTurn);
    stage.keep(actions);
    let asks = |stage: &Stage| stage.waiting.iter().filter(|action| matches!(action, Action::AskTurn)).count();
    let refused = || Err(Error::unavailable("another appends").because(Reason::TurnTaken));
    stage.tell(Event::Turn { outcome: refused() });
    // Asked for once, however many want to append.
    let (_, actions) = stage.file.append(stage.now, &[2; 100], true);
    stage.keep(actions);
    assert_eq!(asks(&stage), 1);
    stage.tell(Event::Fired(Timer::Turn));
    assert_eq!(asks(&stage), 2);
    let reply = NameReply { attr: Some(stage.file.attr), ..NameReply::default() };
    stage.tell(Event::Turn { outcome: Ok(Box::new(reply)) });
    stage.now.mono_ms += 1000;
    stage.tell(Event::Fired(Timer::Linger));
    stage.commit(Ok(()));
    stage.tell(Event::Fired(Timer::Turn));
    assert_eq!(asks(&stage), 2, "the turn is over and nothing is to be appended");
}

#[test]
fn after_the_commit_that_ended_a_turn_another_is_asked_for() {
    let mut stage = Stage::new();
    let append = |stage: &mut Stage| {
        let (taken, actions) = stage.file.append(stage.now, &[1; 100], true);
        stage.keep(actions);
        taken
    };
    assert_eq!(append(&mut stage), Taken::NeedsTurn);
    let reply = NameReply { attr: Some(stage.file.attr), ..NameReply::default() };
    stage.tell(Event::Turn { outcome: Ok(Box::new(reply)) });
    assert_eq!(append(&mut stage), Taken::At(200_000));
    stage.now.mono_ms += 1000;
    stage.tell(Event::Fired(Timer::Linger));
    stage.grant(None);
    stage.acknowledge(BOOT);
    stage.sync(|_| Synced::Stable(4096));
    assert!(stage.commit(Ok(())).append);
    assert_eq!(append(&mut stage), Taken::NeedsTurn);
}
