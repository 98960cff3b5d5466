#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn whose(number: u128) -> Whose {
    (Name::new("acme").unwrap(), TaskId(uuid::Uuid::from_u128(number)))
}

#[test]
fn a_withdrawal_stops_the_call_before_and_after_it_begins() {
    let desk = Desk::default();
    let calling = desk.call(whose(1));
    assert!(!calling.withdrawn.is_cancelled());
    desk.cancel(whose(2));
    assert!(!calling.withdrawn.is_cancelled(), "another task's");
    desk.cancel(whose(1));
    assert!(calling.withdrawn.is_cancelled());
    assert!(desk.call(whose(2)).withdrawn.is_cancelled(), "withdrawn before it began");
    assert!(desk.is_canceled(&whose(1)) && !desk.is_canceled(&whose(3)));
}

#[test]
fn a_message_is_taken_up_once_at_a_time() {
    let desk = Desk::default();
    let seat = desk.seat(7);
    assert!(seat.is_some() && desk.seat(7).is_none() && desk.seat(8).is_some());
    drop(seat);
    assert!(desk.seat(7).is_some());
}

#[test]
fn withdrawals_are_forgotten_oldest_first() {
    let desk = Desk::default();
    (0..=CANCELED_MAX as u128).for_each(|number| desk.cancel(whose(number)));
    assert!(!desk.is_canceled(&whose(0)) && desk.is_canceled(&whose(1)));
}
