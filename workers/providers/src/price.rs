//! What a call cost, by the price list that `genai-prices` carries. An unknown provider or model has no price: none, not 0.

use genai_prices::{PriceRequest, Usage, UsageKey};
use jiff::Timestamp;

use crate::answer::Counted;

#[cfg(test)]
mod tests;

/// Whose prices count.
#[derive(Debug, Clone, Copy)]
pub enum Seller<'a> {
    /// A provider of the price list.
    Id(&'a str),
    /// Whoever is at this URL.
    Url(&'a str),
}

/// Millionths of a US dollar, rounded to the nearest; none when the price is not known.
#[must_use]
pub fn usd_micros(seller: Seller<'_>, model: &str, counted: Counted, at: Timestamp) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
    let count = |tokens: u64| tokens as f64;
    let usage = Usage::from([
        (UsageKey::INPUT_TOKENS, count(counted.input)),
        (UsageKey::OUTPUT_TOKENS, count(counted.output)),
        (UsageKey::CACHE_READ_TOKENS, count(counted.cache_read)),
        (UsageKey::CACHE_WRITE_TOKENS, count(counted.cache_write)),
    ]);
    let request = PriceRequest::new(model, &usage).with_timestamp(std::time::SystemTime::from(at));
    let request = match seller {
        Seller::Id(id) => request.with_provider_id(id),
        Seller::Url(url) => request.with_provider_api_url(url),
    };
    let micros = genai_prices::calculate(&request).ok()?.total_price * 1e6;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 1e15")]
    (0.0..1e15).contains(&micros).then(|| micros.round() as u64)
}
