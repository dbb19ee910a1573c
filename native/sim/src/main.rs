//! `mooseng-sim SEED` replays one seed and tells its story; `mooseng-sim FIRST..END` runs many; `mooseng-sim --minutes N`
//! as many as the time gives, from a seed of the clock's.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: mooseng-sim SEED | FIRST..END | --minutes N";
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--minutes", minutes] => match minutes.parse::<u64>() {
            Ok(minutes) => {
                let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) << 20;
                let end = Instant::now() + Duration::from_secs(60 * minutes);
                many(first.., || Instant::now() < end)
            }
            Err(_) => complain(usage),
        },
        [range] => match (range.split_once(".."), range.parse::<u64>()) {
            (Some((first, end)), _) => match (first.parse::<u64>(), end.parse::<u64>()) {
                (Ok(first), Ok(end)) => many(first..end, || true),
                _ => complain(usage),
            },
            (None, Ok(seed)) => one(seed),
            (None, Err(_)) => complain(usage),
        },
        _ => complain(usage),
    }
}

fn complain(sentence: &str) -> ExitCode {
    eprintln!("{sentence}");
    ExitCode::from(2)
}

fn one(seed: u64) -> ExitCode {
    let report = sim::run(seed, true);
    for line in &report.story {
        println!("{line}");
    }
    println!("seed {seed}: {} steps, {} operations, trace {:016x}", report.steps, report.operations, report.trace);
    match report.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: impl Iterator<Item = u64>, more: impl Fn() -> bool) -> ExitCode {
    let (mut runs, mut operations, mut failed) = (0u64, 0u64, 0u64);
    for seed in seeds.take_while(|_| more()) {
        let report = sim::run(seed, false);
        (runs, operations) = (runs + 1, operations + report.operations);
        if let Some(failure) = report.failure {
            failed += 1;
            println!(
                "seed {seed}: {}\n  replay: cargo run --release -p mooseng-sim -- {seed}",
                failure.lines().next().unwrap_or("")
            );
        }
    }
    println!("{runs} seeds, {operations} operations, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
