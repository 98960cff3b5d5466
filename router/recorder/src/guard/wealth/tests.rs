//! The test by betting: how often it alarms, how soon, and what one tenant can do about it.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::guard::tests::Dice;

const LEVEL: f64 = 0.01;
const RUNS: u32 = 2_000;

fn tenant(n: u32) -> Name {
    Name::new(format!("t{n}")).unwrap()
}

/// A pair: whose, and its difference.
type Pair = (u32, f64);

/// In how many of so many runs there is an alarm within so many pairs, and after how many pairs in the middle.
fn alarms(
    dice: &mut Dice,
    (runs, pairs): (u32, u32),
    tolerance: f64,
    draw: impl Fn(&mut Dice) -> Pair,
) -> (u32, u32) {
    let mut after = Vec::new();
    let tenants: Vec<Name> = (0..64).map(tenant).collect();
    for _ in 0..runs {
        let mut wealth = Wealth::default();
        let alarm = (1..=pairs).find(|_| {
            let (whose, difference) = draw(dice);
            wealth.bet(&tenants[whose as usize], difference, tolerance);
            wealth.evidence(LEVEL) >= 1.0
        });
        after.extend(alarm);
    }
    after.sort_unstable();
    (u32::try_from(after.len()).unwrap_or(u32::MAX), after.get(after.len() / 2).copied().unwrap_or(u32::MAX))
}

/// One of the canary's against the mean of so many of the other's.
fn pair(p: f64, q: f64, others: u32) -> impl Fn(&mut Dice) -> f64 {
    move |dice| {
        let mean = (0..others).map(|_| dice.once(q)).sum::<f64>() / f64::from(others);
        dice.once(p) - mean
    }
}

/// The same pairs under the rule of one wealth for all: whose they are does not matter.
fn pooled(draw: impl Fn(&mut Dice) -> Pair) -> impl Fn(&mut Dice) -> Pair {
    move |dice| (0, draw(dice).1)
}

/// The level, and five standard deviations of so many runs.
fn as_often_as_said(runs: u32) -> f64 {
    let most = f64::from(runs) * LEVEL;
    most + 5.0 * most.sqrt()
}

#[test]
fn looking_after_each_pair_alarms_no_more_often_than_it_says() {
    let mut dice = Dice::new(1);
    let most = as_often_as_said(RUNS);
    // Equal, and as much worse as is tolerated; of one tenant, and of several of which some ask more than others.
    for (p, q, tolerance, others) in [
        (0.5, 0.5, 0.0, 1),
        (0.05, 0.05, 0.0, 19),
        (0.01, 0.01, 0.02, 1),
        (0.12, 0.1, 0.02, 1),
        (0.3, 0.2, 0.1, 4),
    ] {
        let of_one = |dice: &mut Dice| (0, pair(p, q, others)(dice));
        let (found, _) = alarms(&mut dice, (RUNS, 2_000), tolerance, of_one);
        assert!(f64::from(found) <= most, "{p} against {q}: {found} of {RUNS}");
        let of_several = |dice: &mut Dice| {
            let whose = u32::try_from(dice.up_to(4).min(dice.up_to(4))).unwrap();
            (whose, pair(p, q, others)(dice))
        };
        let (found, _) = alarms(&mut dice, (RUNS / 4, 2_000), tolerance, of_several);
        assert!(f64::from(found) <= as_often_as_said(RUNS / 4), "{p} against {q} of several: {found}");
    }
    // Negative control: a test that is right once, looked at after each pair, alarms far more often.
    let mut naive = 0;
    for _ in 0..RUNS {
        let (mut sum, mut squares) = (0.0, 0.0);
        let alarm = (1..=2_000_u32).any(|n| {
            let d = pair(0.5, 0.5, 1)(&mut dice);
            (sum, squares) = (sum + d, squares + d * d);
            n > 30 && sum > 2.326 * f64::sqrt(squares)
        });
        naive += u32::from(alarm);
    }
    assert!(f64::from(naive) > 3.0 * most, "{naive} of {RUNS}");
}

#[test]
fn what_is_worse_is_found_the_sooner_the_worse_it_is() {
    let mut dice = Dice::new(2);
    let rows = [
        // The canary's rate, the other's, and within how many pairs half of the runs have an alarm.
        (1.0, 0.0, 12),
        (0.5, 0.0, 40),
        (0.25, 0.05, 120),
        (0.15, 0.05, 500),
    ];
    for (p, q, within) in rows {
        let of_one = |dice: &mut Dice| (0, pair(p, q, 9)(dice));
        let (found, middle) = alarms(&mut dice, (RUNS, 4 * within), 0.02, of_one);
        assert!(middle <= within, "{p} against {q}: half within {middle}");
        assert!(found >= RUNS / 100 * 99, "{p} against {q}: {found} of {RUNS}");
    }
    // Negative control: what is better is no alarm.
    assert_eq!(alarms(&mut dice, (RUNS, 1_000), 0.0, |dice| (0, pair(0.05, 0.15, 9)(dice))).0, 0);
}

#[test]
fn what_all_tenants_suffer_is_found_nearly_as_soon_as_if_they_were_one() {
    let mut dice = Dice::new(8);
    // Tenants, and how many times as many pairs half of the runs take. Of two, each has to show it by itself.
    for (tenants, times) in [(2_u32, 3.2), (5, 2.2), (20, 1.8)] {
        let draw = |dice: &mut Dice| {
            let whose = u32::try_from(dice.up_to(u64::from(tenants))).unwrap();
            (whose, pair(0.4, 0.05, 1)(dice))
        };
        let (found, middle) = alarms(&mut dice, (400, 2_000), 0.02, draw);
        let (_, as_one) = alarms(&mut dice, (400, 2_000), 0.02, pooled(draw));
        assert_eq!(found, 400, "{tenants}");
        assert!(f64::from(middle) <= times * f64::from(as_one), "{tenants}: {middle} against {as_one}");
    }
}

#[test]
fn a_tenant_that_fails_on_purpose_takes_nothing_back_and_is_named() {
    let mut dice = Dice::new(9);
    // Half of all pairs are of one tenant, whose tasks all fail under the canary; the others see no difference.
    let spoilt = |dice: &mut Dice| {
        let whose = u32::try_from(dice.up_to(8).saturating_sub(3)).unwrap();
        (whose, if whose == 0 { 1.0 } else { pair(0.1, 0.1, 1)(dice) })
    };
    let runs = 600;
    let (found, _) = alarms(&mut dice, (runs, 1_500), 0.02, spoilt);
    assert!(f64::from(found) <= as_often_as_said(runs), "{found} of {runs}");
    let mut wealth = Wealth::default();
    // Another tenant was there before.
    wealth.bet(&tenant(1), 0.0, 0.0);
    for _ in 0..200 {
        let (whose, difference) = spoilt(&mut dice);
        wealth.bet(&tenant(whose), difference, 0.02);
    }
    assert_eq!((wealth.alone(LEVEL), wealth.evidence(LEVEL) < 1.0), (Some(&tenant(0)), true));
    // Negative control: under one wealth for all it is taken back each time.
    assert_eq!(alarms(&mut dice, (runs, 1_500), 0.02, pooled(spoilt)).0, runs);
    // Nor is anybody named where all see no difference, or all see one.
    for p in [0.1, 0.9] {
        let mut wealth = Wealth::default();
        (0..600).for_each(|n| wealth.bet(&tenant(n % 5), pair(p, 0.1, 1)(&mut dice), 0.02));
        assert_eq!((wealth.alone(LEVEL), wealth.evidence(LEVEL) >= 1.0), (None, p > 0.5), "{p}");
    }
}

#[test]
fn a_tenant_that_floods_good_pairs_hides_no_harm_of_the_others() {
    let mut dice = Dice::new(10);
    // Nineteen of twenty pairs are of one tenant, whose tasks all fail under the active bundle; the others are harmed.
    let flooded = |dice: &mut Dice| {
        let whose = u32::try_from(dice.up_to(80).saturating_sub(76)).unwrap();
        (whose, if whose == 0 { -1.0 } else { pair(0.5, 0.05, 1)(dice) })
    };
    let (runs, pairs) = (200, 6_000);
    let (found, with) = alarms(&mut dice, (runs, pairs), 0.02, flooded);
    assert_eq!(found, runs, "half within {with}");
    // It costs the others a part of what they show, and no more.
    let (found, without) = alarms(&mut dice, (runs, pairs), 0.02, |dice: &mut Dice| {
        let (whose, difference) = flooded(dice);
        (whose.max(1), if whose == 0 { 0.02 } else { difference })
    });
    assert_eq!(found, runs);
    assert!(f64::from(with) <= 1.8 * f64::from(without), "{with} against {without}");
    // Negative control: under one wealth for all nobody sees it.
    assert_eq!(alarms(&mut dice, (runs, pairs), 0.02, pooled(flooded)).0, 0);
}

#[test]
fn tenants_beyond_the_limit_share_an_account() {
    let mut wealth = Wealth::default();
    for n in 0..600 {
        wealth.bet(&tenant(n), 1.0, 0.0);
    }
    assert_eq!(wealth.accounts.len(), ACCOUNTS_MAX + 1);
    assert!(wealth.evidence(LEVEL) >= 1.0, "negative control: all of them are bet on");
}
