//! What the parts of the full road cost while every core works on them, as it does in a drain: a core whose neighbour rests is
//! faster, and so are caches and memory that nobody shares.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::machine::{cores, median_us};
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
        let samples = (0..cores()).map(|_| Sample::new(bytes)).collect::<Result<Vec<_>>>()?;
        let (own, others) = samples.split_first().context("a machine without cores")?;
        let over = AtomicBool::new(false);
        Ok(std::thread::scope(|scope| {
            for sample in others {
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        black_box(sample.decide());
                        drop(black_box(task::rendered(&sample.task)));
                        black_box(sample.signer.sign(&sample.claims));
                    }
                });
            }
            let parts = Self::of(own);
            over.store(true, Ordering::Relaxed);
            parts
        }))
    }

    fn of(sample: &Sample) -> Self {
        Self {
            read_us: median_us(SPAN, || drop(black_box(sample.read()))),
            decide_us: median_us(SPAN, || drop(black_box(sample.decide()))),
            render_us: median_us(SPAN, || drop(black_box(task::rendered(&sample.task)))),
            sign_us: median_us(SPAN, || drop(black_box(sample.signer.sign(&sample.claims)))),
        }
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
