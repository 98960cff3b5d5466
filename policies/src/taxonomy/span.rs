//! Places of values in a text.

#[cfg(test)]
mod tests;

pub use tidegate_schemas::redact::Span;

/// A match of a rule, at its place in the text as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) rule: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) strength: u8,
    pub(super) is_value: bool,
}

impl Hit {
    fn len(&self) -> usize {
        self.end - self.start
    }

    /// What tells most: the stronger check, then the longer match, then the rule that stands first.
    fn tells_more_than(&self, other: &Self) -> bool {
        let of = |hit: &Self| (hit.strength, hit.len(), std::cmp::Reverse(hit.rule));
        of(self) > of(other)
    }
}

/// Each match once: of one rule's matches that share a place, as in several forms of it, the first counts.
pub(super) fn distinct(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_unstable_by_key(|hit| (hit.rule, hit.start, hit.end));
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match kept.last() {
            Some(last) if last.rule == hit.rule && hit.start < last.end => {}
            _ => kept.push(hit),
        }
    }
    kept
}

/// One for each stretch that matches cover: all of it, as the match that tells most.
pub(super) fn apart(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.retain(|hit| hit.start < hit.end);
    hits.sort_unstable_by_key(|hit| (hit.start, hit.end, hit.rule));
    let mut kept: Vec<(Hit, usize, usize)> = Vec::with_capacity(hits.len());
    for hit in hits {
        match kept.last_mut() {
            Some((best, _, end)) if hit.start < *end => {
                *end = hit.end.max(*end);
                if hit.tells_more_than(best) {
                    *best = hit;
                }
            }
            _ => kept.push((hit, hit.start, hit.end)),
        }
    }
    kept.into_iter().map(|(best, start, end)| Hit { start, end, ..best }).collect()
}
