//! Random edits: what an incremental build gives equals what a clean one gives.
//!
//! `SEEDS` says how many sequences of edits are tried, `FIRST` with which one to begin.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

mod support;

use std::collections::BTreeMap;

use heph_proto::Start;
use support::Ran;
use support::random::{Random, edit, workspace};

fn told(ran: &Ran) -> (i32, BTreeMap<String, Vec<u8>>, Vec<String>, Vec<String>) {
    let mut failures: Vec<String> = ran
        .failures
        .iter()
        .map(|(a, f)| format!("{a}: {}", f.message))
        .collect();
    failures.sort();
    let problems = ran
        .finished
        .error
        .iter()
        .flat_map(|e| &e.problems)
        .map(|p| format!("{} {}", p.place, p.message))
        .collect::<std::collections::BTreeSet<_>>();
    (
        ran.finished.exit_code,
        ran.outputs.clone(),
        failures,
        problems.into_iter().collect(),
    )
}

#[test]
fn incremental_equals_clean() {
    let seeds: u64 = std::env::var("SEEDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(2);
    let first: u64 = std::env::var("FIRST")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    for seed in first..first + seeds {
        let wide = seed % 2 == 0;
        let mut random = Random(seed.wrapping_mul(0x9E3779B97F4A7C15) + 1);
        let bench = workspace(&mut random);
        let warm = bench.engine_at(&bench.root().parent().unwrap().join("warm"));
        let mut log = Vec::new();
        for step in 0..6 {
            let query = if wide {
                "//..."
            } else {
                *random.of(&[&"//...", &"//:t0", &"//p:t0", &"//s:t0 || //p/q:t1", &"//p/..."])
            };
            let start = Start {
                want_outputs: true,
                ..bench.start(query)
            };
            let clean = bench.engine_at(&bench.root().parent().unwrap().join(format!("clean{step}")));
            let expected = told(&bench.run_in(&clean, &start));
            let cold = told(&bench.run_start(&start));
            assert_eq!(
                cold,
                expected,
                "seed {seed} step {step} {query} cold\n{}",
                log.join("\n")
            );
            let hot = told(&bench.run_in(&warm, &start));
            assert_eq!(
                hot,
                expected,
                "seed {seed} step {step} {query} warm\n{}",
                log.join("\n")
            );
            let again = bench.run_in(&warm, &start);
            assert!(
                again.executed.is_empty() || !again.failures.is_empty(),
                "seed {seed} step {step}: {again:?}"
            );
            for _ in 0..=random.below(2) {
                log.push(format!("{step}: {}", edit(&mut random, &bench)));
            }
            // In half of the cases the times of all files prove something.
            if random.below(2) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
        }
    }
}
