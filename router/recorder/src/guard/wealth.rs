//! Whether one side has more of something than the other, tested after each pair and stopped at any time, so that no tenant alone
//! says so.
//!
//! Somebody bets against "the canary has no more of it than the active bundle, but for the tolerance": of each difference `d` of two
//! values in 0..=1, a share `λ` of the wealth is put on `d` being larger than the tolerance, so the wealth is multiplied by
//! `1 + λ(d − tolerance)`. Where the claim is true, the wealth never grows in expectation, and the chance that it ever reaches `1/α` is
//! at most `α`, however often it is looked at (Ville's inequality). This is the two-sample test by betting of Shekhar and Ramdas
//! ("Nonparametric two-sample testing by betting", IEEE Transactions on Information Theory 2024), with bets on bounded means as
//! Waudby-Smith and Ramdas make them ("Estimating means of bounded random variables by betting", JRSS B 2024). As nobody knows how
//! large a difference will be, the wealth is spread over fixed shares, as the mixture of mSPRT is (Robbins 1970; Johari et al., "Always
//! valid inference", Operations Research 2022); unlike mSPRT it needs no normal approximation, so it holds from the first pair on.
//!
//! Each tenant has an account of its own, which begins with 1: a part of it is kept, the rest is bet on this tenant's pairs. The whole
//! is the product of all accounts. A pair changes one account, and where the claim is true of its tenant that account does not grow in
//! expectation, whatever was seen before and of whom; so the whole does not either, whoever comes when. That is what makes a product of
//! e-processes one (Vovk and Wang, "E-values: Calibration, combination and applications", Annals of Statistics 2021). Two things bound
//! what one tenant can do. It can hide no more than what is kept: its account never falls below that. And where there are several
//! tenants, the whole must reach `1/α` also without each of them: what a tenant of which the claim is not true brings adds nothing to the
//! chance that a canary is taken back which is as good for the others.

use std::collections::HashMap;

use tidegate_schemas::ids::Name;

/// The chance that all guards together take back a canary that is as good as the active bundle, over its whole life.
pub(super) const FALSE_ALARM: f64 = 0.01;
/// Shares of the wealth that are put on a difference: small ones find small differences, large ones find large ones soon.
const BETS: [f64; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.65, 0.9];
/// Largest tolerance: with the largest bet and the worst difference, wealth is left.
pub(super) const TOLERANCE_MAX: f64 = 0.1;
/// The part of each account that is never bet: one tenant can make the whole this much smaller, and no more.
const KEPT: f64 = 0.1;
/// Tenants with an account of their own, count; those that come later share one.
const ACCOUNTS_MAX: usize = 256;

/// By bet.
type Logs = [f64; BETS.len()];

/// What the bets have come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Wealth {
    /// Accounts by tenant, in the order in which they came.
    accounts: Vec<Account>,
    by_tenant: HashMap<Name, usize>,
    /// Logarithm of the product of all accounts.
    whole: Logs,
    /// The most that the whole was, as a logarithm.
    most_of_all: f64,
    /// The most that the whole was without any one tenant.
    most: f64,
    /// Without whom it was least when the whole was last as much as never before.
    least_without: Option<usize>,
}

/// What is bet on one tenant's pairs.
#[derive(Debug, Clone)]
struct Account {
    /// None: of all tenants that came late.
    tenant: Option<Name>,
    /// Logarithm of what each bet has made of 1.
    bets: Logs,
    /// Logarithm of that with what is kept.
    logs: Logs,
}

// === impl Wealth ===

impl Wealth {
    /// Takes in one pair of a tenant's: the canary's value less the active bundle's, from -1 to 1.
    pub(super) fn bet(&mut self, tenant: &Name, difference: f64, tolerance: f64) {
        let more = difference.clamp(-1.0, 1.0) - tolerance.clamp(0.0, TOLERANCE_MAX);
        let at = self.account(tenant);
        let Some(account) = self.accounts.get_mut(at) else { return };
        for (((own, log), whole), bet) in
            account.bets.iter_mut().zip(&mut account.logs).zip(&mut self.whole).zip(BETS)
        {
            *own += (bet * more).ln_1p();
            let now = with_kept(*own);
            *whole += now - *log;
            *log = now;
        }
        let whole = mean(&self.whole);
        // What is without somebody is asked only where it could be more than ever: it counts for no more than the whole.
        if whole > self.most {
            let (without, least) = self.without_one();
            self.most = self.most.max(least.min(whole));
            self.least_without = without;
        }
        self.most_of_all = self.most_of_all.max(whole);
    }

    /// How much of what an alarm needs was ever there, also without any one tenant: 1 is an alarm, by a test of this level.
    pub(super) fn evidence(&self, level: f64) -> f64 {
        (self.most / -level.ln()).clamp(0.0, 1.0)
    }

    /// The tenant that alone makes what would be an alarm: without its pairs there is none.
    pub(super) fn alone(&self, level: f64) -> Option<&Name> {
        let is_open = self.evidence(level) < 1.0 && self.most_of_all >= -level.ln();
        self.accounts.get(self.least_without.filter(|_| is_open)?)?.tenant.as_ref()
    }

    fn account(&mut self, tenant: &Name) -> usize {
        if let Some(at) = self.by_tenant.get(tenant) {
            return *at;
        }
        let full = self.accounts.len() >= ACCOUNTS_MAX;
        let late = self.accounts.last().is_some_and(|last| last.tenant.is_none());
        if full && late {
            return self.accounts.len() - 1;
        }
        let at = self.accounts.len();
        let tenant = if full {
            None
        } else {
            self.by_tenant.insert(tenant.clone(), at);
            Some(tenant.clone())
        };
        self.accounts.push(Account { tenant, bets: Logs::default(), logs: Logs::default() });
        at
    }

    /// Without whom the whole is least, and how much it is; of one tenant alone the whole itself.
    fn without_one(&self) -> (Option<usize>, f64) {
        if self.accounts.len() < 2 {
            return (None, f64::INFINITY);
        }
        let mut least = (None, f64::INFINITY);
        for (at, account) in self.accounts.iter().enumerate() {
            let mut others = self.whole;
            others.iter_mut().zip(account.logs).for_each(|(whole, own)| *whole -= own);
            let others = mean(&others);
            if others < least.1 {
                least = (Some(at), others);
            }
        }
        least
    }
}

/// Logarithm of the mean over the bets.
fn mean(logs: &Logs) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + (sum / f64::from(u8::try_from(BETS.len()).unwrap_or(u8::MAX))).ln()
}

/// Logarithm of an account, by that of what was bet: what is kept does not change.
fn with_kept(bets: f64) -> f64 {
    // Beyond what a number can hold the kept part is nothing.
    if bets > 500.0 { bets + (1.0 - KEPT).ln() } else { (KEPT + (1.0 - KEPT) * bets.exp()).ln() }
}

#[cfg(test)]
mod tests;
