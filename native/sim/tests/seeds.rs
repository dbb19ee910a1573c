//! Many seeds, none of which may find anything; and that a seed is a replay.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of a run, from `MOOSENG_SIM_SEEDS` ("FIRST..END").
fn seeds() -> std::ops::Range<u64> {
    let wanted = std::env::var("MOOSENG_SIM_SEEDS").unwrap_or_else(|_| "0..2000".into());
    let (first, end) = wanted.split_once("..").expect("MOOSENG_SIM_SEEDS is FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn no_seed_finds_a_history_that_the_contract_forbids() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let found: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut found = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return found;
                }
                if let Some(failure) = sim::run(seed, false).failure {
                    let first = failure.lines().next().unwrap_or_default();
                    found.push(format!("{first}\n  replay: cargo run --release -p mooseng-sim -- {seed}"));
                }
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a run panicked")).collect()
    });
    assert!(found.is_empty(), "{} seeds found something:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [3, 16, 70] {
        let (first, second) = (sim::run(seed, false), sim::run(seed, true));
        assert_eq!((first.trace, first.steps, first.operations), (second.trace, second.steps, second.operations));
    }
    assert_ne!(sim::run(1, false).trace, sim::run(2, false).trace);
}
