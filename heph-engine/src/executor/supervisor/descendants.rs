//! Finding processes by descent. Allocates nothing: keepers use it.

use std::ffi::{CStr, c_int};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};

/// How deep a request to end is passed on; deeper ones are found when their parents are gone.
const DEPTH: u32 = 8;

/// Calls `visit` for each child of this process.
pub(super) fn for_each_child(visit: &mut dyn FnMut(Pid)) {
    for_each_listed(c"/proc/thread-self/children", visit);
}

/// Sends a signal to the children of this process and to what they started.
///
/// For SIGKILL the children are enough: theirs become children of this process, a subreaper, and their turn comes.
pub(super) fn signal_tree(signal: c_int) {
    for_each_child(&mut |child| signal_below(child, signal, DEPTH));
}

fn signal_below(pid: Pid, signal: c_int, depth: u32) {
    let Some(signal_kind) = Signal::from_named_raw(signal) else {
        return;
    };
    if signal_kind != Signal::KILL && depth > 0 {
        let mut buffer = [0; 64];
        if let Some(path) = children_path(pid, &mut buffer) {
            for_each_listed(path, &mut |child| signal_below(child, signal, depth - 1));
        }
    }
    let _ = rustix::process::kill_process(pid, signal_kind);
}

/// `/proc/<pid>/task/<pid>/children`: the children of the first thread, which are all in most programs.
fn children_path(pid: Pid, buffer: &mut [u8; 64]) -> Option<&CStr> {
    let mut digits = [0; 12];
    let mut number = pid.as_raw_nonzero().get();
    let mut start = digits.len();
    while number > 0 && start > 0 {
        start -= 1;
        *digits.get_mut(start)? = b'0' + u8::try_from(number % 10).ok()?;
        number /= 10;
    }
    let digits = digits.get(start..)?;
    let mut length = 0;
    for part in [b"/proc/".as_slice(), digits, b"/task/", digits, b"/children\0"] {
        buffer.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    CStr::from_bytes_with_nul(buffer.get(..length)?).ok()
}

fn for_each_listed(path: &CStr, visit: &mut dyn FnMut(Pid)) {
    let Ok(file) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    let mut number: i32 = 0;
    let mut buffer = [0; 1024];
    loop {
        let bytes = match rustix::io::read(&file, &mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
        };
        for byte in bytes {
            if byte.is_ascii_digit() {
                number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
            } else if let Some(pid) = Pid::from_raw(std::mem::take(&mut number)) {
                visit(pid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_process() {
        let mut buffer = [0; 64];
        let pid = Pid::from_raw(4_194_304).unwrap();
        let path = children_path(pid, &mut buffer).unwrap();
        assert_eq!(path, c"/proc/4194304/task/4194304/children");
    }
}
