//! Choosing the next token.

#[cfg(test)]
mod tests;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use toktrie::SimpleVob;

use crate::job::SamplingParams;

/// Below this share of the most likely token's probability a token is never chosen: its mass is lost in rounding.
const NEGLIGIBLE: f64 = 1e-9;

/// The state of one sequence's choices.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    random: StdRng,
}

impl Sampler {
    pub(crate) fn new(params: &SamplingParams) -> Self {
        Self {
            temperature: params.temperature,
            top_p: params.top_p,
            random: StdRng::seed_from_u64(params.seed),
        }
    }

    /// A token from `logits`, among `allowed` where there is a constraint. `None` when nothing may be chosen or the
    /// logits are not numbers.
    pub(crate) fn choose(&mut self, logits: &[f32], allowed: Option<&SimpleVob>) -> Option<u32> {
        let candidates = || {
            (0u32..)
                .zip(logits.iter().copied())
                .filter(|(token, logit)| !logit.is_nan() && allowed.is_none_or(|set| set.is_allowed(*token)))
        };
        // The lowest id wins a tie, so that equal logits give equal answers.
        let best = candidates().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        if self.temperature <= 0.0 || !best.1.is_finite() {
            return best.1.is_finite().then_some(best.0);
        }
        let mut weighed: Vec<(u32, f64)> = candidates()
            .map(|(token, logit)| (token, (f64::from(logit - best.1) / self.temperature).exp()))
            .filter(|(_, weight)| *weight > NEGLIGIBLE)
            .collect();
        weighed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self.draw(&weighed)
    }

    /// Draws from the most likely tokens that together hold `top_p` of the mass.
    fn draw(&mut self, weighed: &[(u32, f64)]) -> Option<u32> {
        let total: f64 = weighed.iter().map(|(_, weight)| weight).sum();
        let mut kept = 0.0;
        let mut count = 0;
        for (_, weight) in weighed {
            kept += weight;
            count += 1;
            if kept >= self.top_p * total {
                break;
            }
        }
        let mut left = self.random.random::<f64>() * kept;
        let nucleus = weighed.get(..count)?;
        for (token, weight) in nucleus {
            left -= weight;
            if left <= 0.0 {
                return Some(*token);
            }
        }
        nucleus.last().map(|(token, _)| *token)
    }
}
