//! Whether one side has more of something than the other, tested after each pair and stopped at any time.
//!
//! Somebody bets against "the canary has no more of it than the active bundle, but for the tolerance": of each difference `d` of two
//! values in 0..=1, a share `λ` of the wealth is put on `d` being larger than the tolerance, so the wealth is multiplied by
//! `1 + λ(d − tolerance)`. Where the claim is true, the wealth never grows in expectation, and the chance that it ever reaches `1/α` is
//! at most `α`, however often it is looked at (Ville's inequality). This is the two-sample test by betting of Shekhar and Ramdas
//! ("Nonparametric two-sample testing by betting", IEEE Transactions on Information Theory 2024), with bets on bounded means as
//! Waudby-Smith and Ramdas make them ("Estimating means of bounded random variables by betting", JRSS B 2024). As nobody knows how
//! large a difference will be, the wealth is spread over fixed shares, as the mixture of mSPRT is (Robbins 1970; Johari et al., "Always
//! valid inference", Operations Research 2022); unlike mSPRT it needs no normal approximation, so it holds from the first pair on.

/// The chance that all guards together take back a canary that is as good as the active bundle, over its whole life.
pub(super) const FALSE_ALARM: f64 = 0.01;
/// Shares of the wealth that are put on a difference: small ones find small differences, large ones find large ones soon.
const BETS: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.65, 0.9];
/// Largest tolerance: with the largest bet and the worst difference, wealth is left.
pub(super) const TOLERANCE_MAX: f64 = 0.1;

/// What the bets have come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Wealth {
    /// Logarithm of what each bet has made of 1.
    logs: [f64; BETS.len()],
    /// The most that the whole was, as a logarithm.
    most: f64,
}

// === impl Wealth ===

impl Wealth {
    /// Takes in one pair: the canary's value less the active bundle's, from -1 to 1.
    pub(super) fn bet(&mut self, difference: f64, tolerance: f64) {
        let more = difference.clamp(-1.0, 1.0) - tolerance.clamp(0.0, TOLERANCE_MAX);
        for (log, bet) in self.logs.iter_mut().zip(BETS) {
            *log += (bet * more).ln_1p();
        }
        self.most = self.most.max(self.log());
    }

    /// How much of what an alarm needs was ever there: 1 is an alarm, by a test of this level.
    pub(super) fn evidence(&self, level: f64) -> f64 {
        (self.most / -level.ln()).clamp(0.0, 1.0)
    }

    /// Logarithm of the wealth: the mean over the bets.
    fn log(&self) -> f64 {
        let most = self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.logs.iter().map(|log| (log - most).exp()).sum();
        most + (sum / f64::from(u8::try_from(BETS.len()).unwrap_or(u8::MAX))).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::tests::Dice;

    const LEVEL: f64 = 0.01;
    const RUNS: u32 = 2_000;

    /// In how many runs there is an alarm within so many pairs, and after how many pairs in the middle.
    fn alarms(dice: &mut Dice, pairs: u32, tolerance: f64, draw: impl Fn(&mut Dice) -> f64) -> (u32, u32) {
        let mut after = Vec::new();
        for _ in 0..RUNS {
            let mut wealth = Wealth::default();
            let alarm = (1..=pairs).find(|_| {
                wealth.bet(draw(dice), tolerance);
                wealth.evidence(LEVEL) >= 1.0
            });
            after.extend(alarm);
        }
        after.sort_unstable();
        (
            u32::try_from(after.len()).unwrap_or(u32::MAX),
            after.get(after.len() / 2).copied().unwrap_or(u32::MAX),
        )
    }

    /// One of the canary's against the mean of so many of the other's.
    fn pair(p: f64, q: f64, others: u32) -> impl Fn(&mut Dice) -> f64 {
        move |dice| {
            let mean = (0..others).map(|_| dice.once(q)).sum::<f64>() / f64::from(others);
            dice.once(p) - mean
        }
    }

    #[test]
    fn looking_after_each_pair_alarms_no_more_often_than_it_says() {
        let mut dice = Dice::new(1);
        // Equal, and as much worse as is tolerated: the level, and five standard deviations of so many runs.
        let most = f64::from(RUNS) * LEVEL;
        let most = most + 5.0 * most.sqrt();
        for (p, q, tolerance, others) in [
            (0.5, 0.5, 0.0, 1),
            (0.05, 0.05, 0.0, 19),
            (0.01, 0.01, 0.02, 1),
            (0.12, 0.1, 0.02, 1),
            (0.3, 0.2, 0.1, 4),
        ] {
            let (found, _) = alarms(&mut dice, 2_000, tolerance, pair(p, q, others));
            assert!(f64::from(found) <= most, "{p} against {q}: {found} of {RUNS}");
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
            let (found, middle) = alarms(&mut dice, 4 * within, 0.02, pair(p, q, 9));
            assert!(middle <= within, "{p} against {q}: half within {middle}");
            assert!(found >= RUNS / 100 * 99, "{p} against {q}: {found} of {RUNS}");
        }
        // Negative control: what is better is no alarm.
        assert_eq!(alarms(&mut dice, 1_000, 0.0, pair(0.05, 0.15, 9)).0, 0);
    }
}
