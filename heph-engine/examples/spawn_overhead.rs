//! What running a small command in a sandbox costs in CPU time, beyond spawning it.
//!
//! `cargo run --release -p heph-engine --example spawn_overhead [commands] [rounds] [mode]` runs the same command bare (one
//! `posix_spawn` after the other), in standard and in strict mode, interleaved, and prints the medians of the rounds.
//! Work that the kernel does later for nobody in particular (freeing of namespaces) is not in these figures; the second
//! column, the machine's busy time, has it, and everything else that runs on the machine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use heph_engine::executor::{Control, Executor, ExecutorOptions, supervise};
use heph_proto::input::Source;
use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::tool::Program;
use heph_proto::{EntryKind, Input, OutputSpec, Plan, SandboxMode, Tool};

const SCRIPT: &str = "cat a b | cksum > out";

type AnyError = Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "supervise") {
        supervise();
    }
    let number = |at: usize, default: usize| {
        arguments
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (commands, rounds) = (number(1, 300), number(2, 5));
    let directory = std::env::temp_dir().join(format!("heph-overhead-{}", std::process::id()));
    let result = measure(&directory, commands, rounds, arguments.get(3).map(String::as_str));
    std::fs::remove_dir_all(&directory)?;
    result
}

fn measure(directory: &Path, commands: usize, rounds: usize, only: Option<&str>) -> Result<(), AnyError> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("a"), [b'x'; 64])?;
    std::fs::write(directory.join("b"), "1234567 64\n")?;
    let mut figures: Vec<(&str, Vec<Sample>)> = vec![
        ("bare", Vec::new()),
        ("standard", Vec::new()),
        ("strict", Vec::new()),
    ];
    figures.retain(|(name, _)| only.is_none_or(|only| only == *name));
    for _ in 0..rounds {
        for (name, samples) in &mut figures {
            samples.push(match *name {
                "bare" => sample(commands, || bare(directory, commands))?,
                "standard" => sample(commands, || sandboxed(directory, commands, SandboxMode::Standard))?,
                _ => sample(commands, || sandboxed(directory, commands, SandboxMode::Strict))?,
            });
        }
    }
    println!("us a command    own CPU   machine      wall");
    let mut base = None;
    for (name, samples) in &figures {
        let [cpu, machine, wall] = [0, 1, 2].map(|column| median(samples, column));
        let base = *base.get_or_insert(cpu);
        println!(
            "{name:12} {cpu:10.0} {machine:9.0} {wall:9.0}   {:+.0}",
            cpu - base
        );
    }
    Ok(())
}

/// Microseconds a command: CPU of this process and its children, of the machine, and wall.
type Sample = [f64; 3];

fn sample(commands: usize, work: impl FnOnce() -> Result<(), AnyError>) -> Result<Sample, AnyError> {
    let before = (own_cpu()?, machine_cpu()?, Instant::now());
    work()?;
    let after = (own_cpu()?, machine_cpu()?);
    let wall = before.2.elapsed().as_micros() as f64;
    let count = commands as f64;
    Ok([
        (after.0 - before.0) / count,
        (after.1 - before.1) / count,
        wall / count,
    ])
}

fn median(samples: &[Sample], column: usize) -> f64 {
    let mut values: Vec<f64> = samples
        .iter()
        .filter_map(|sample| sample.get(column).copied())
        .collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU time of this process and of its children that were waited for, in microseconds.
fn own_cpu() -> Result<f64, AnyError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: f64 = fields
        .get(11..15)
        .unwrap_or_default()
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks * 10_000.0)
}

/// Busy time of all cores, in microseconds.
fn machine_cpu() -> Result<f64, AnyError> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    let idle: f64 = fields.get(3..5).unwrap_or_default().iter().sum();
    let total: f64 = fields.get(..8).unwrap_or_default().iter().sum();
    Ok((total - idle) * 10_000.0)
}

fn bare(directory: &Path, commands: usize) -> Result<(), AnyError> {
    for _ in 0..commands {
        let status = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            // What programs do about their locale is not the sandbox's.
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .status()?;
        assert!(status.success());
    }
    Ok(())
}

fn sandboxed(directory: &Path, commands: usize, mode: SandboxMode) -> Result<(), AnyError> {
    let options = ExecutorOptions {
        home: directory.join("home"),
        supervisor: vec![std::env::current_exe()?.into(), "supervise".into()],
        jobs: 2,
        ..ExecutorOptions::default()
    };
    let executor = std::sync::Arc::new(Executor::new(options));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for number in 0..commands {
            while running.len() >= 2 {
                check(running.join_next().await)?;
            }
            let executor = std::sync::Arc::clone(&executor);
            let plan = plan(directory, number, mode);
            running.spawn(async move { executor.execute(plan, Control::default()).await });
        }
        while let Some(report) = running.join_next().await {
            check(Some(report))?;
        }
        Ok::<(), AnyError>(())
    })?;
    executor.shutdown();
    Ok(())
}

fn check(report: Option<Result<heph_proto::Report, tokio::task::JoinError>>) -> Result<(), AnyError> {
    match report {
        Some(report) => match report?.outcome {
            Some(Outcome::Completed(_)) | None => Ok(()),
            other => Err(format!("{other:?}").into()),
        },
        None => Ok(()),
    }
}

fn plan(directory: &Path, number: usize, mode: SandboxMode) -> Plan {
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        program: Some(Program::Host(format!("/usr/bin/{name}"))),
    };
    let input = |name: &str, bytes: Vec<u8>, source: Source| Input {
        path: format!("p/{name}"),
        kind: EntryKind::File.into(),
        digest: bytes::Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes()),
        size: bytes.len() as u64,
        source: Some(source),
        read_only: false,
    };
    let source = directory.join("a").to_string_lossy().into_owned();
    let text = b"1234567 64\n".to_vec();
    Plan {
        address: format!("//p:t{number}"),
        package: "p".to_owned(),
        sandbox_id: format!("{number:016x}"),
        action: Some(Action::Command(heph_proto::Command {
            argv: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
            script: None,
        })),
        inputs: vec![
            input("a", vec![b'x'; 64], Source::SourceFile(source)),
            input("b", text.clone(), Source::Inline(text.into())),
        ],
        outputs: vec![OutputSpec {
            path: "p/out".to_owned(),
            ..OutputSpec::default()
        }],
        base: ["sh", "cat", "cksum"].map(tool).to_vec(),
        base_digest: "0".repeat(64),
        sandbox: mode.into(),
        ..Plan::default()
    }
}
