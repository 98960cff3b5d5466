//! What the parts of the full road cost, each alone on one thread.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Result;

use crate::machine::median_us;
use crate::task::{self, Sample};

/// Time for each part.
const SPAN: Duration = Duration::from_millis(300);

/// Median microseconds of each.
pub(super) struct Parts {
    pub(super) read_us: f64,
    pub(super) decide_us: f64,
    pub(super) render_us: f64,
    pub(super) sign_us: f64,
}

impl Parts {
    pub(super) fn measure(bytes: usize) -> Result<Self> {
        let sample = Sample::new(bytes)?;
        Ok(Self {
            read_us: median_us(SPAN, || drop(black_box(sample.read()))),
            decide_us: median_us(SPAN, || drop(black_box(sample.decide()))),
            render_us: median_us(SPAN, || drop(black_box(task::rendered(&sample.task)))),
            sign_us: median_us(SPAN, || drop(black_box(sample.signer.sign(&sample.claims)))),
        })
    }

    /// What counts into the ceiling: decide (classification included), render and sign.
    pub(super) fn sum_us(&self) -> f64 {
        self.decide_us + self.render_us + self.sign_us
    }

    /// Messages a second if the parts cost what they cost alone, and nothing else did.
    pub(super) fn ceiling(&self, raw_us: f64) -> f64 {
        super::per_second(raw_us + self.sum_us())
    }
}
