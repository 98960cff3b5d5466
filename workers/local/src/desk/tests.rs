//! What is remembered, and for how long.

#![expect(clippy::unwrap_used, reason = "tests")]

use uuid::Uuid;

use super::*;

fn whose(number: u128) -> Whose {
    (Name::new("acme").unwrap(), TaskId(Uuid::from_u128(number)))
}

#[test]
fn a_message_has_one_seat() {
    let desk = Desk::default();
    let seat = desk.seat(7);
    assert!(seat.is_some());
    assert!(desk.seat(7).is_none(), "taken");
    assert!(desk.seat(8).is_some(), "another message");
    drop(seat);
    assert!(desk.seat(7).is_some(), "free again");
}

#[test]
fn a_withdrawal_reaches_a_run_whichever_comes_first() {
    let desk = Desk::default();
    let (before, during, other) = (CancelFlag::new(), CancelFlag::new(), CancelFlag::new());
    desk.cancel(whose(1));
    let _one = desk.run(whose(1), before.clone());
    let _two = desk.run(whose(2), during.clone());
    let _three = desk.run(whose(3), other.clone());
    desk.cancel(whose(2));
    assert!(before.is_canceled() && during.is_canceled());
    assert!(!other.is_canceled(), "nobody withdrew it");
}

#[test]
fn withdrawals_are_forgotten_in_order() {
    let desk = Desk::default();
    for number in 0..=CANCELED_MAX as u128 {
        desk.cancel(whose(number));
        desk.cancel(whose(number));
    }
    assert!(!desk.is_canceled(&whose(0)), "the oldest is forgotten");
    assert!(desk.is_canceled(&whose(1)) && desk.is_canceled(&whose(CANCELED_MAX as u128)));
}
