//! A target under libFuzzer, which keeps the inputs that reach what no other reached. Built and called by `tests/fuzz/run`; an example, so
//! that cargo needs the same of every dependency as for the tests and builds none twice.
#![no_main]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tidegate_fuzz::{CONTROLS, TARGETS, Target, mutate, seeds};

/// Names the target. Without it the names of all are printed, those of the controls last.
const TARGET_VARIABLE: &str = "TIDEGATE_FUZZ_TARGET";
/// A folder in which the seeds (`seeds/`) and the words (`words`) of the target are laid out before it runs.
const FOLDER_VARIABLE: &str = "TIDEGATE_FUZZ_FOLDER";
/// One input of so many is fed repeated, too, to this length in bytes: libFuzzer stops what takes longer than it may, and what is short is
/// never slow.
const LONG_EVERY: u32 = 64;
const LONG_BYTES: usize = 64 * 1024;

struct Chosen {
    target: Target,
    seeds: Vec<Vec<u8>>,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

fuzz_target!(init: choose(), |data: &[u8]| {
    let Some(chosen) = CHOSEN.get() else { return };
    (chosen.target.run)(data);
    if !data.is_empty() && sum(data).is_multiple_of(LONG_EVERY) {
        (chosen.target.run)(&data.repeat(LONG_BYTES.div_ceil(data.len())));
    }
});

/// By what an input is chosen to be fed once more, repeated: of the input alone, so that it is when it is fed again.
fn sum(data: &[u8]) -> u32 {
    data.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}

// Every second change knows the form, as that of the tests; the others are libFuzzer's, with the words and with what was compared.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let known = CHOSEN.get().filter(|_| seed.is_multiple_of(2)).map(|chosen| {
        mutate::changed(data[..size].to_vec(), &chosen.seeds, chosen.target.words, u64::from(seed))
    });
    let Some(changed) = known.filter(|changed| changed.len() <= max_size) else {
        return fuzzer_mutate(data, size, max_size);
    };
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
});

fn choose() {
    let all = || TARGETS.into_iter().chain(CONTROLS);
    let name = std::env::var(TARGET_VARIABLE).unwrap_or_default();
    let Some(target) = all().find(|target| target.name == name) else {
        let names: Vec<&str> = all().map(|target| target.name).collect();
        let _ = writeln!(std::io::stdout(), "{}", names.join("\n"));
        std::process::exit(i32::from(!name.is_empty()));
    };
    let seeds = seeds(&target);
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from)
        && let Err(error) = lay_out(&folder, &target, &seeds)
    {
        let _ = writeln!(std::io::stderr(), "cannot write to {}: {error}", folder.display());
        std::process::exit(2);
    }
    let _ = CHOSEN.set(Chosen { target, seeds });
}

fn lay_out(folder: &Path, target: &Target, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    let into = folder.join("seeds");
    std::fs::create_dir_all(&into)?;
    for (index, seed) in seeds.iter().enumerate() {
        std::fs::write(into.join(format!("{index:03}")), seed)?;
    }
    let quoted = |word: &&str| {
        let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    };
    let words: String = target.words.iter().filter(|word| !word.is_empty()).map(quoted).collect();
    // An empty file is refused.
    std::fs::write(folder.join("words"), format!("# {}\n{words}", target.name))
}
