//! Compares `heph run` with turbo and with a bare loop of the same commands. See docs/benchmarks.md.
//!
//! Options: `--pairs N` (7), `--targets N` (1000), `--large N` (10000, 0 to leave it out), `--peer DIR` (where turbo is),
//! `--only cold|null|large|changed|clients`.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a benchmark that cannot measure ends"
)]

mod measure;
mod rusage;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::Command;

use heph_tests::{Environment, heph_program, repository};
use measure::{Sample, Series, Side, interleave, ms, ratio};
use workspace::Shape;

/// What commands find in their environment on every side: programs that set up a locale take 0.3 ms longer than ones that need not.
const COMMAND_ENVIRONMENT: [(&str, &str); 2] = [("LANG", "C.UTF-8"), ("TZ", "UTC")];

struct Options {
    pairs: usize,
    targets: usize,
    large: usize,
    peer: Option<PathBuf>,
    only: Option<String>,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            pairs: 7,
            targets: 1000,
            large: 10_000,
            peer: None,
            only: None,
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || {
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("{name} needs a number, not {value}"))
            };
            match name.as_str() {
                "--pairs" => options.pairs = number(),
                "--targets" => options.targets = number(),
                "--large" => options.large = number(),
                "--peer" => {
                    options.peer = Some(PathBuf::from(value)).filter(|peer| peer.join("turbo").is_file())
                }
                "--only" => options.only = Some(value),
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() {
    let options = Options::read();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load before: {}", load.trim());
    if options.peer.is_none() {
        println!("turbo is not there: heph is measured alone");
    }
    let shape = Shape::of(options.targets);
    if options.wants("cold") {
        cold(&options, shape);
    }
    if options.wants("null") {
        null(&options, shape);
    }
    if options.wants("large") && options.large > 0 {
        large(&options, shape, Shape::of(options.large));
    }
    if options.wants("changed") && options.large > 0 {
        changed(&options, Shape::of(options.large));
    }
    if options.wants("clients") {
        clients(&options, shape);
    }
}

/// heph in one isolation, with a home and a workspace of its own.
struct Heph(Environment);

impl Heph {
    fn new(shape: Shape, isolation: &str) -> Self {
        let environment = Environment::bare();
        workspace::write_heph(&environment.root(), shape, isolation);
        Self(environment)
    }

    fn run(&self) -> Sample {
        let mut command = Command::new(heph_program());
        command
            .args(["run", "-q", "//..."])
            .current_dir(self.0.root())
            .env_clear()
            .envs(self.0.variables());
        measure::run(&mut command)
    }

    fn run_cold(&self) -> Sample {
        put_aside(&self.0, &self.0.home());
        self.run()
    }

    /// As [`Heph::run_cold`], with a daemon that has just been started.
    fn run_cold_with_daemon(&self) -> Sample {
        self.stop();
        put_aside(&self.0, &self.0.home());
        self.call(&["daemon", "start"]);
        self.run()
    }

    /// With a daemon, which is started by the first run and stopped by [`Heph::stop`].
    fn with_daemon(mut self) -> Self {
        self.0.set("HEPH_DAEMON", "require");
        self
    }

    fn call(&self, arguments: &[&str]) -> String {
        let output = Command::new(heph_program())
            .args(arguments)
            .current_dir(self.0.root())
            .env_clear()
            .envs(self.0.variables())
            .output()
            .expect("heph runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Milliseconds of processor time that the daemon has taken, in steps of ten.
    fn daemon_cpu_ms(&self) -> f64 {
        let status: serde_json::Value =
            serde_json::from_str(&self.call(&["daemon", "status", "--json"])).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", status["daemons"][0]["pid"]));
        let stat = stat.unwrap_or_default();
        let ticks = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let ticks: f64 = ticks
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        ticks * 10.0
    }

    fn stop(&self) {
        self.call(&["daemon", "stop"]);
    }
}

/// Moves what an earlier run made out of the way: removing it just before a run would slow that down (ext4 looks at numbers of files
/// that were just removed whenever a file is made).
fn put_aside(environment: &Environment, path: &Path) {
    let aside = (0..)
        .map(|number| environment.beside(&format!("aside-{number}")))
        .find(|aside| !aside.exists());
    if let Some(aside) = aside {
        let _ = std::fs::rename(path, aside);
    }
}

/// turbo, without its daemon and without npm's own start for each task.
struct Turbo {
    environment: Environment,
    path: String,
}

impl Turbo {
    fn new(shape: Shape, peer: &Path) -> Self {
        let environment = Environment::bare();
        workspace::write_turbo(&environment.root(), shape);
        let path = format!(
            "{}:{}:/usr/local/bin:/usr/bin:/bin",
            repository().join("benches").display(),
            peer.display()
        );
        Self { environment, path }
    }

    fn run(&self) -> Sample {
        let mut command = Command::new("turbo");
        command
            .args(["run", "build", "--output-logs=none", "--ui=stream"])
            .current_dir(self.environment.root());
        command
            .env_clear()
            .envs(self.environment.variables())
            .env("PATH", &self.path)
            .envs(COMMAND_ENVIRONMENT);
        command
            .env("TURBO_TELEMETRY_DISABLED", "1")
            .env("DO_NOT_TRACK", "1");
        measure::run(&mut command)
    }

    fn run_cold(&self) -> Sample {
        for made in [".turbo", "node_modules/.cache"] {
            put_aside(&self.environment, &self.environment.path(made));
        }
        self.run()
    }
}

/// The commands alone, one after the other; in one process, so that nothing but spawning and the commands counts.
struct Bare {
    environment: Environment,
    commands: Vec<(String, String)>,
}

impl Bare {
    fn new(shape: Shape) -> Self {
        let environment = Environment::bare();
        let commands = workspace::write_bare(&environment.root(), shape);
        Self {
            environment,
            commands,
        }
    }

    fn run(&self) -> Sample {
        let mut sum = Sample::default();
        for (directory, text) in &self.commands {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-eu", "-c", text])
                .current_dir(self.environment.path(directory))
                .env_clear();
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
            command.envs(COMMAND_ENVIRONMENT);
            let one = measure::run_quiet(&mut command);
            sum.wall += one.wall;
            sum.usage.cpu += one.usage.cpu;
        }
        sum
    }
}

/// Everything is built with nothing stored.
fn cold(options: &Options, shape: Shape) {
    println!("cold, {} targets:", shape.targets);
    let (standard, warm, strict, bare) = (
        Heph::new(shape, "standard"),
        Heph::new(shape, "standard").with_daemon(),
        Heph::new(shape, "strict"),
        Bare::new(shape),
    );
    let turbo = options.peer.as_deref().map(|peer| Turbo::new(shape, peer));
    let mut sides: Vec<Side<'_>> = vec![
        ("heph standard", Box::new(|| standard.run_cold())),
        ("heph with daemon", Box::new(|| warm.run_cold_with_daemon())),
        ("heph strict", Box::new(|| strict.run_cold())),
        ("bare commands", Box::new(|| bare.run())),
    ];
    if let Some(turbo) = &turbo {
        sides.push(("turbo", Box::new(|| turbo.run_cold())));
    }
    let series = interleave(options.pairs.div_ceil(2), &mut sides);
    warm.stop();
    let [standard, warm, strict, bare, turbo @ ..] = series.as_slice() else {
        unreachable!("four sides at least")
    };
    println!(
        "  daemon / in-process: {:.2} of its wall time",
        ratio(warm, standard, |sample| sample.wall)
    );
    for (name, side) in [("standard", standard), ("strict", strict)] {
        println!(
            "  {name}: {:.2} ms of cpu a target beyond its command",
            beyond(side, bare, shape)
        );
    }
    if let [turbo] = turbo {
        println!(
            "  turbo: {:.2} ms of cpu a target beyond its command",
            beyond(turbo, bare, shape)
        );
        println!(
            "  heph standard / turbo: {:.2} of its cpu",
            ratio(standard, turbo, |sample| sample.usage.cpu)
        );
    }
}

fn beyond(side: &Series, bare: &Series, shape: Shape) -> f64 {
    (side.median_cpu_ms() - bare.median_cpu_ms()) / shape.targets as f64
}

/// Nothing has changed.
fn null(options: &Options, shape: Shape) {
    println!("nothing changed, {} targets:", shape.targets);
    let (heph, warm) = (
        Heph::new(shape, "standard"),
        Heph::new(shape, "standard").with_daemon(),
    );
    let turbo = options.peer.as_deref().map(|peer| Turbo::new(shape, peer));
    // What was stored is looked for, and watched, in the first runs.
    for _ in 0..3 {
        warm.run();
    }
    let before = warm.daemon_cpu_ms();
    let mut runs = 0_u32;
    let mut sides: Vec<Side<'_>> = vec![
        ("heph in-process", Box::new(|| heph.run())),
        (
            "heph with daemon",
            Box::new(|| {
                runs += 1;
                warm.run()
            }),
        ),
    ];
    if let Some(turbo) = &turbo {
        sides.push(("turbo", Box::new(|| turbo.run())));
    }
    let series = interleave(options.pairs, &mut sides);
    drop(sides);
    println!(
        "  the daemon's own share: {:.1} ms of cpu a run",
        (warm.daemon_cpu_ms() - before) / f64::from(runs)
    );
    warm.stop();
    let [heph, warm, turbo @ ..] = series.as_slice() else {
        unreachable!("two sides at least")
    };
    let wall = |sample: &Sample| sample.wall;
    println!(
        "  daemon / in-process: {:.2} of its wall time",
        ratio(warm, heph, wall)
    );
    for turbo in turbo {
        println!(
            "  in-process / turbo: {:.2} of its wall time",
            ratio(heph, turbo, wall)
        );
        println!(
            "  daemon / turbo: {:.2} of its wall time",
            ratio(warm, turbo, wall)
        );
        println!(
            "  in-process / turbo: {:.2} of its cpu",
            ratio(heph, turbo, |sample| sample.usage.cpu)
        );
    }
}

/// One target of the last layer has changed, with a daemon.
fn changed(options: &Options, shape: Shape) {
    println!("one of {} targets changed, with daemon:", shape.targets);
    let (heph, bare) = (
        Heph::new(shape, "standard").with_daemon(),
        Bare::new(Shape::of(20)),
    );
    for _ in 0..3 {
        heph.run();
    }
    let input = heph
        .0
        .path(&format!("pkgs/{}/in.txt", workspace::name(shape.targets - 1)));
    let mut edits = 0_u32;
    let mut sides: Vec<Side<'_>> = vec![
        (
            "one changed",
            Box::new(|| {
                edits += 1;
                std::fs::write(&input, format!("edit {edits}\n")).expect("write an input");
                heph.run()
            }),
        ),
        ("null", Box::new(|| heph.run())),
        ("20 bare commands", Box::new(|| bare.run())),
    ];
    interleave(options.pairs, &mut sides);
    drop(sides);
    heph.stop();
}

/// How cost grows with the graph.
fn large(options: &Options, small: Shape, large: Shape) {
    println!("{} targets next to {}:", large.targets, small.targets);
    let (few, many) = (Heph::new(small, "standard"), Heph::new(large, "standard"));
    few.run();
    let first = many.run();
    println!(
        "  cold: wall {:.0} ms, cpu {:.0} ms, peak {:.0} MB",
        ms(first.wall),
        ms(first.usage.cpu),
        first.usage.peak_memory as f64 / 1e6
    );
    let mut sides: Vec<Side<'_>> = vec![
        ("null, many", Box::new(|| many.run())),
        ("null, few", Box::new(|| few.run())),
    ];
    let series = interleave(options.pairs, &mut sides);
    if let [many, few] = series.as_slice() {
        println!(
            "  many / few: {:.2} of the wall time",
            ratio(many, few, |sample| sample.wall)
        );
    }
}

/// Many small commands at once, none of which finds a daemon.
fn clients(options: &Options, shape: Shape) {
    const CLIENTS: usize = 200;
    println!("{CLIENTS} clients at once, without a daemon before:");
    let heph = Heph::new(shape, "standard").with_daemon();
    let query = || {
        let mut command = Command::new(heph_program());
        command
            .args(["query", "//pkgs/p00003/..."])
            .current_dir(heph.0.root())
            .env_clear()
            .envs(heph.0.variables());
        measure::run(&mut command)
    };
    let alone = Series {
        samples: (0..options.pairs.max(3)).map(|_| query()).collect(),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = alone.median_cpu_ms() * CLIENTS as f64 / cores as f64;
    println!(
        "  one client: {:.1} ms of cpu; {CLIENTS} of them on {cores} cores: {share:.0} ms",
        alone.median_cpu_ms()
    );
    for _ in 0..options.pairs.div_ceil(2) {
        heph.stop();
        let longest = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(query)).collect();
            let waits = clients
                .into_iter()
                .map(|client| client.join().map_or(f64::NAN, |sample| ms(sample.wall)));
            waits.fold(0.0, f64::max)
        });
        println!(
            "  the longest wait: {longest:.0} ms, {:.0} ms beyond that",
            longest - share
        );
    }
    heph.stop();
}
