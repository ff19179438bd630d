//! Nothing is ever lost: runs that are cut off at random instants give what others give.

#![cfg(target_os = "linux")]

mod support;
#[path = "support/torment.rs"]
mod torment;

use support::World;
use torment::{Cut, Torment};

/// All that is random or kept from step to step.
const NOISY: [&str; 7] = [
    "method.lora.lora_dropout=0.1",
    "train.micro_batch_size=2",
    "train.neftune_noise_alpha=5.0",
    "train.ema_decay=0.9",
    "train.eval_steps=5",
    "data.validation_rows=4",
    "train.load_best_model_at_end=true",
];

/// How often a test cuts runs off: `cargo xtask kill --times N`, or a few times.
#[expect(clippy::disallowed_methods, reason = "`cargo xtask kill` says how often")]
fn times() -> usize {
    std::env::var("REKINDLE_KILLS").map_or(25, |times| times.parse().unwrap())
}

#[test]
fn runs_killed_at_random_instants_lose_nothing() {
    let world = World::new();
    let tally = Torment::new(&world, [40, 1], &NOISY).run(Cut::Kill, times(), 1);
    println!("killed: {tally:?}");
    // Otherwise the instants were not what they are to be.
    assert!(tally.before_steps > 0 && tally.before_steps < tally.cuts, "{tally:?}");
}

#[test]
fn packed_runs_killed_at_random_instants_lose_nothing() {
    let world = World::new();
    let settings = [&NOISY[..], &["data.packing=\"bfd\""]].concat();
    let tally = Torment::new(&world, [40, 2], &settings).run(Cut::Kill, times() / 2, 2);
    println!("killed: {tally:?}");
}

#[test]
fn runs_terminated_at_random_instants_save_what_they_have_done() {
    let world = World::new();
    let tally = Torment::new(&world, [40, 0], &NOISY).run(Cut::Terminate, times() / 2, 3);
    println!("terminated: {tally:?}");
    assert!(tally.before_steps < tally.cuts, "{tally:?}");
}
