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

/// Gives back what is free.
pub(crate) fn trim() {
    // SAFETY: may be called by any thread at any time.
    unsafe { mi_collect(true) };
}
