//! One measurement, and pairs of them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rusage::{self, Usage};

/// Time and use of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From start to end.
    pub wall: Duration,
    /// What it used, with its children.
    pub usage: Usage,
}

/// Runs a command, which must succeed.
#[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
pub fn run(command: &mut Command) -> Sample {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr
            .as_mut()
            .map(|stderr| std::io::Read::read_to_string(stderr, &mut text));
        text
    });
    let usage = rusage::wait(&child);
    let wall = start.elapsed();
    let text = reader.join().unwrap_or_default();
    assert!(usage.code == 0, "{command:?} ended with {}: {text}", usage.code);
    Sample { wall, usage }
}

/// As [`run`], for commands that are many and small: what they say goes nowhere.
#[expect(clippy::zombie_processes, reason = "wait4 reaps it")]
pub fn run_quiet(command: &mut Command) -> Sample {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = Instant::now();
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let usage = rusage::wait(&child);
    assert!(usage.code == 0, "{command:?} ended with {}", usage.code);
    Sample {
        wall: start.elapsed(),
        usage,
    }
}

/// One side of a comparison: its name and how to take a sample.
pub type Side<'a> = (&'a str, Box<dyn FnMut() -> Sample + 'a>);

/// Samples of one side.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// In their order.
    pub samples: Vec<Sample>,
}

impl Series {
    /// Least wall time in milliseconds.
    pub fn least_wall_ms(&self) -> f64 {
        self.samples
            .iter()
            .map(|sample| ms(sample.wall))
            .fold(f64::INFINITY, f64::min)
    }

    /// Median wall time in milliseconds.
    pub fn median_wall_ms(&self) -> f64 {
        median(self.samples.iter().map(|sample| ms(sample.wall)).collect())
    }

    /// Median of processor time in milliseconds.
    pub fn median_cpu_ms(&self) -> f64 {
        median(self.samples.iter().map(|sample| ms(sample.usage.cpu)).collect())
    }

    /// Largest peak of memory in MB.
    pub fn peak_memory_mb(&self) -> f64 {
        self.samples
            .iter()
            .map(|sample| sample.usage.peak_memory)
            .max()
            .unwrap_or(0) as f64
            / 1e6
    }

    /// One line for people.
    pub fn line(&self) -> String {
        format!(
            "wall {:8.1} ms median {:8.1} ms least, cpu {:8.1} ms, peak {:6.1} MB",
            self.median_wall_ms(),
            self.least_wall_ms(),
            self.median_cpu_ms(),
            self.peak_memory_mb()
        )
    }
}

/// Runs the sides in turn: a, b, c, a, b, c, …; the first round of each is a warm-up that does not count.
pub fn interleave(pairs: usize, sides: &mut [Side<'_>]) -> Vec<Series> {
    let mut series = vec![Series::default(); sides.len()];
    for round in 0..=pairs {
        for ((_, side), series) in sides.iter_mut().zip(&mut series) {
            let sample = side();
            if round > 0 {
                series.samples.push(sample);
            }
        }
    }
    for ((name, _), series) in sides.iter().zip(&series) {
        println!("  {name:<16} {}", series.line());
    }
    series
}

/// Median of the ratios of samples that were taken next to each other.
pub fn ratio(ours: &Series, theirs: &Series, of: impl Fn(&Sample) -> Duration) -> f64 {
    median(
        ours.samples
            .iter()
            .zip(&theirs.samples)
            .map(|(a, b)| ms(of(a)) / ms(of(b)))
            .collect(),
    )
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
