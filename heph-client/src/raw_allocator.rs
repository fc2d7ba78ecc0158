//! The allocator of the program, and how it gives memory back.
#![expect(unsafe_code, reason = "its settings have no safe wrapper")]

use libmimalloc_sys::{mi_collect, mi_option_set};

/// The system's grows the heaps of threads a page at a time, which is a good part of a short run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`: the options are numbered in the order in which they stand there.
const PURGE_DELAY: std::ffi::c_int = 15;

/// Milliseconds after which free memory goes back to the system. The usual ten keep a tenth more at the peak of a large build.
const SOON: std::ffi::c_long = 1;

/// For the beginning of the program.
pub(crate) fn configure() {
    // SAFETY: sets a number that is read when memory is freed; any thread may do it at any time.
    unsafe { mi_option_set(PURGE_DELAY, SOON) };
}

/// For a process that stays: memory of which little is in use goes back in small pieces.
#[cfg(target_os = "linux")]
pub(crate) fn stay_small() {
    // The allocator asks for huge pages: 2 MiB stay for what a few bytes of them hold. Where this is refused, it is so.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// For a process that stays.
#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_small() {}

/// Gives back what is free.
pub(crate) fn trim() {
    // SAFETY: may be called by any thread at any time.
    unsafe { mi_collect(true) };
    // SQLite has the allocator of the C library.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
