//! `daemon` and `uploads`: what outlives a run.

use std::time::Duration;

use super::layer::section;
use crate::ByteSize;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

section! {
    /// `daemon`: the resident process. Acts per home.
    Daemon from DaemonLayer {
        /// `idleTimeout`: it exits after so long without clients and with an empty queue.
        #[serde(with = "crate::duration::text")]
        idle_timeout: Duration = "idleTimeout", Duration::from_secs(3 * HOUR);
        /// `warmTimeout`: what is warm is dropped after so long without work.
        #[serde(with = "crate::duration::text")]
        warm_timeout: Duration = "warmTimeout", Duration::from_secs(10 * MINUTE);
        /// `maxMemoryBytes`: above it, warm state is dropped, oldest workspace first.
        max_memory: ByteSize = "maxMemoryBytes", ByteSize::gib(2);
    }
}

section! {
    /// `uploads`: the queue to the remote caches. Acts per home.
    Uploads from UploadsLayer {
        /// `drainTimeout`: how long a run without a daemon waits for its uploads.
        #[serde(with = "crate::duration::text")]
        drain_timeout: Duration = "drainTimeout", Duration::from_secs(5 * MINUTE);
        /// `maxAge`: an upload is given up after so long.
        #[serde(with = "crate::duration::text")]
        max_age: Duration = "maxAge", Duration::from_secs(7 * DAY);
        /// `maxInFlightBytes`: bytes that are under way at once.
        max_in_flight: ByteSize = "maxInFlightBytes", ByteSize::mib(256);
    }
}
