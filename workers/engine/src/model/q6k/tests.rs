#![expect(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};

use super::quantise;

/// Weights as 4-bit blocks give them: sixteen levels between two ends, other ends for every 32.
fn weights(blocks: usize) -> Vec<f32> {
    let mut state = 12345u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 65_535.0
    };
    let mut weights = Vec::new();
    for _ in 0..blocks * 8 {
        let (low, step) = (-next() - 0.1, (next() + 0.2) / 8.0);
        weights.extend((0..32).map(|_| low + step * (next() * 15.0).round()));
    }
    weights
}

fn error(of: &[f32], dense: &[f32]) -> f32 {
    let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
    (sum(&mut of.iter().zip(dense).map(|(a, b)| a - b)) / sum(&mut dense.iter().copied())).sqrt()
}

#[test]
fn blocks_come_back_as_close_as_from_a_search() {
    let mut dense = weights(64);
    // A row's padding and an empty block stay what they are.
    dense[..16].fill(0.0);
    dense[256..512].fill(0.0);
    let shape = (64, 256);
    let ours = QStorage::from_data(Cow::Owned(quantise(&dense)), &Device::Cpu, GgmlDType::Q6K).unwrap();
    let ours: Vec<f32> = QTensor::new(ours, shape)
        .unwrap()
        .dequantize(&Device::Cpu)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let tensor = Tensor::from_slice(&dense, shape, &Device::Cpu).unwrap();
    let searched = QTensor::quantize(&tensor, GgmlDType::Q6K).unwrap();
    let searched: Vec<f32> =
        searched.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let (ours_error, searched_error) = (error(&ours, &dense), error(&searched, &dense));
    assert!(ours_error < 0.015 && ours_error < searched_error * 1.25, "{ours_error} {searched_error}");
    assert!(ours[..16].iter().chain(&ours[256..512]).all(|weight| *weight == 0.0));
    // Negative control: four bits are not as close.
    let coarse = QTensor::quantize(&tensor, GgmlDType::Q4K).unwrap();
    let coarse: Vec<f32> = coarse.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    assert!(error(&coarse, &dense) > ours_error * 1.5);
}
