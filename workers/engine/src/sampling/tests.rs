use toktrie::SimpleVob;

use super::Sampler;
use crate::job::SamplingParams;

fn sampler(temperature: f64, top_p: f64, seed: u64) -> Sampler {
    Sampler::new(&SamplingParams { temperature, top_p, seed, ..SamplingParams::default() })
}

#[test]
fn zero_temperature_takes_the_highest_and_the_lowest_id_of_a_tie() {
    let mut greedy = sampler(0.0, 1.0, 1);
    let cases: &[(&[f32], Option<u32>)] = &[
        (&[0.1, 2.0, 1.9], Some(1)),
        (&[2.0, 2.0], Some(0)),
        (&[f32::NAN, 1.0], Some(1)),
        (&[f32::NAN, f32::NAN], None),
        (&[f32::NEG_INFINITY], None),
        (&[], None),
    ];
    for (logits, expected) in cases {
        assert_eq!(greedy.choose(logits, None), *expected, "{logits:?}");
    }
}

#[test]
fn a_constraint_limits_the_choice() {
    let logits = [5.0, 4.0, 3.0];
    let mut allowed = SimpleVob::alloc(3);
    assert_eq!(sampler(0.0, 1.0, 1).choose(&logits, Some(&allowed)), None);
    allowed.allow_token(2);
    for temperature in [0.0, 1.0] {
        assert_eq!(sampler(temperature, 1.0, 1).choose(&logits, Some(&allowed)), Some(2));
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let logits: Vec<f32> = (0..100u8).map(|n| f32::from(n % 7)).collect();
    let run = |seed| {
        let mut sampler = sampler(1.0, 1.0, seed);
        (0..50).map(|_| sampler.choose(&logits, None)).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn top_p_cuts_the_tail_and_frequencies_follow_the_weights() {
    // Probabilities 0.6, 0.3, 0.1.
    let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
    let count = |top_p| {
        let mut sampler = sampler(1.0, top_p, 3);
        let mut counts = [0u32; 3];
        for _ in 0..4000 {
            if let Some(count) =
                sampler.choose(&logits, None).and_then(|token| counts.get_mut(token as usize))
            {
                *count += 1;
            }
        }
        counts
    };
    assert_eq!(count(0.5), [4000, 0, 0]);
    let [_, _, third] = count(0.85);
    assert_eq!(third, 0);
    let [first, second, third] = count(1.0);
    assert!(
        (2250..2550).contains(&first) && (1080..1320).contains(&second) && third > 300,
        "{first} {second} {third}"
    );
}
