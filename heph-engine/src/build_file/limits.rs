//! Bounds of evaluation: a BUILD file is a program, and a wrong one must end with an error.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::build_file::snippet;
use crate::problem::Problem;

/// Bytes of one file.
pub(super) const SOURCE_BYTES: usize = 8 << 20;
/// Levels of nesting of one statement.
const NESTING: usize = 1000;
/// Loop rounds and calls of one file; fewer in tests, which are compiled without optimisation, and for fuzzers.
pub(super) const TICKS: u64 = match (cfg!(test), cfg!(fuzzing)) {
    (_, true) => 10_000,
    (true, _) => 200_000,
    _ => 5_000_000,
};
/// Bytes that the values of a BUILD file may take.
pub(super) const HEAP_BYTES: usize = if cfg!(fuzzing) { 16 << 20 } else { 128 << 20 };
/// Bytes that the values of a loaded file may take. They are made immutable by descending into them, so this is also a bound of
/// their depth.
pub(super) const LOADED_HEAP_BYTES: usize = 24 << 20;
/// Calls within calls.
pub(super) const CALL_DEPTH: usize = 100;
/// Files that load each other in a row.
pub(super) const LOAD_DEPTH: usize = 64;
/// Elements of a range.
pub(super) const RANGE: i64 = 5_000_000;
/// Time for one file, for what takes long in single steps.
pub(super) const TIME: Duration = Duration::from_secs(60);
/// Lines that `print` may print per file.
pub(super) const PRINTED_LINES: usize = 1000;
/// Stack of threads that evaluate. It is reserved, not used: a parser that descends needs much only for what is deeply nested.
const STACK_BYTES: [usize; 4] = [1 << 30, 512 << 20, 64 << 20, 8 << 20];

thread_local! {
    static ON_LARGE_STACK: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `work` on a thread with a large stack; on this one if it has one.
pub(super) fn on_large_stack<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    if ON_LARGE_STACK.get() {
        return work();
    }
    // The work stays here until a thread has started that takes it.
    let work = std::sync::Mutex::new(Some(work));
    let marked = || {
        ON_LARGE_STACK.set(true);
        let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|work| work())
    };
    let result = std::thread::scope(|scope| {
        for bytes in STACK_BYTES {
            let thread = std::thread::Builder::new()
                .name("build-file".to_owned())
                .stack_size(bytes);
            if let Ok(thread) = thread.spawn_scoped(scope, marked) {
                return thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        }
        None
    });
    match result {
        Some(result) => result,
        // No thread could be started: this one has to do.
        None => match work.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(work) => work(),
            None => std::panic::resume_unwind(Box::new("the work of a thread was lost")),
        },
    }
}

/// When one evaluation has to be over.
pub(super) fn deadline() -> impl Fn() -> bool {
    let start = Instant::now();
    move || start.elapsed() > TIME
}

/// Refuses what would be parsed into a tree deeper than the stack: the parser, and all that walks the tree, descend.
///
/// The depth is estimated from above by the words and signs of a statement that no comma or line end separates.
pub(super) fn check_nesting(source: &str) -> Result<(), (Problem, usize)> {
    let bytes = source.as_bytes();
    // For each open bracket what was counted before it.
    let mut open: Vec<usize> = Vec::new();
    let (mut count, mut total, mut alternatives) = (0usize, 0usize, 0usize);
    let (mut at, mut line_start) = (0, true);
    while let Some(&byte) = bytes.get(at) {
        if line_start && open.is_empty() {
            let indent = bytes
                .get(at..)
                .unwrap_or_default()
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t'))
                .count();
            let rest = bytes.get(at + indent..).unwrap_or_default();
            line_start = false;
            // Each `elif` lies within the one before it.
            alternatives = match rest.starts_with(b"elif") || indent > 0 && alternatives > 0 {
                true => alternatives + usize::from(rest.starts_with(b"elif")),
                false => 0,
            };
            (count, total) = (indent + alternatives, 0);
            at += indent;
            continue;
        }
        if count + total > NESTING {
            let problem = Problem::new(format!(
                "this is nested too deeply: at most {NESTING} levels and operators in one expression"
            ))
            .hint("give parts of it a name");
            return Err((problem, at));
        }
        match byte {
            b'#' => {
                at += bytes
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .take_while(|b| **b != b'\n')
                    .count();
                continue;
            }
            b'"' | b'\'' => {
                count += 1;
                at = snippet::string_end(bytes, at);
                continue;
            }
            b'(' | b'[' | b'{' => {
                open.push(count);
                total += count + 1;
                count = 0;
            }
            b')' | b']' | b'}' => {
                if let Some(before) = open.pop() {
                    total = total.saturating_sub(before + 1);
                    count = before + 1;
                }
            }
            b',' => count = 0,
            b'\n' => line_start = true,
            b'\\' => at += 1,
            byte if byte.is_ascii_whitespace() => {}
            byte if byte == b'_' || byte.is_ascii_alphanumeric() => {
                count += 1;
                at += bytes
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .take_while(|b| **b == b'_' || b.is_ascii_alphanumeric())
                    .count();
                continue;
            }
            _ => count += 1,
        }
        at += 1;
    }
    Ok(())
}
