//! Daemons of older builds, which a new one takes the place of.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use heph_common::{Build, Home};
use heph_proto::StopRequest;
use tokio::time::timeout;

use crate::connect::{CONNECT_LIMIT, Link, connect};
use crate::endpoint::Endpoint;
use crate::lock::Lock;

/// What a daemon left behind is kept for its log for so long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a build remembers is kept for so long after its last use.
const STATE_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Asks the daemons of older builds, of the same home and mount namespace, to finish the runs they have and go. A release that a
/// workspace is pinned to has its own succession, and stays beside others.
pub async fn older(endpoint: &Endpoint, build: &Build, pinned: Option<&str>) {
    for other in endpoint.others() {
        // Nobody there, or nobody who can be asked.
        let Ok(Link { mut client, hello }) = connect(&other).await else {
            continue;
        };
        if hello.built_unix_ms >= build.built_unix_ms || hello.pinned != pinned.unwrap_or_default() {
            continue;
        }
        let request = StopRequest {
            cancel: false,
            reason: format!("heph {} takes its place", build.name),
        };
        tracing::info!("asking heph {}, process {}, to retire", hello.build, hello.pid);
        match timeout(CONNECT_LIMIT, client.stop(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::warn!("heph {} does not retire: {}", hello.build, status.message()),
            Err(_) => tracing::warn!("heph {} does not answer", hello.build),
        }
    }
}

/// Removes what other daemons left behind, when nobody is there and the log is old. Reads and writes files.
pub fn sweep(endpoint: &Endpoint) {
    for other in endpoint.neighbours() {
        let is_old = || {
            let written = fs::metadata(other.log_file())
                .and_then(|log| log.modified())
                .ok()?;
            Some(SystemTime::now().duration_since(written).ok()? > KEPT)
        };
        if is_old() != Some(true) {
            continue;
        }
        // Who holds the lock is the daemon: nobody else becomes it meanwhile.
        if let Ok(Some(_lock)) = Lock::try_take(&other.lock_file()) {
            let _ = fs::remove_dir_all(other.directory());
            // Succeeds when no other mount namespace has anything there.
            let _ = other.directory().parent().map(fs::remove_dir);
        }
    }
}

/// Removes what builds remember (snapshots, history) that were not used for long. Every run of a build writes there.
pub fn sweep_states(endpoint: &Endpoint) {
    let states = Home::at(endpoint.home()).state_dir();
    for entry in fs::read_dir(states).into_iter().flatten().flatten() {
        let is_other = entry.file_name() != endpoint.build();
        if is_other && last_change(&entry.path()).is_some_and(|age| age > STATE_KEPT) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// How long ago anything directly in a directory, or in one directly below, came or went or was written.
fn last_change(directory: &Path) -> Option<Duration> {
    let below = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let age = |path: &Path| {
        let modified = fs::symlink_metadata(path).and_then(|file| file.modified()).ok()?;
        // A time to come is as good as now.
        Some(SystemTime::now().duration_since(modified).unwrap_or_default())
    };
    below.filter_map(|path| age(&path)).chain(age(directory)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_behind(home: &Path, build: &str, age: Duration) -> Endpoint {
        let place = Endpoint::new(home, build);
        place.create().unwrap();
        let log = fs::File::create(place.log_file()).unwrap();
        log.set_modified(SystemTime::now() - age).unwrap();
        place
    }

    #[test]
    fn only_what_is_old_and_nobodys_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let own = left_behind(home.path(), "own", KEPT * 2);
        let old = left_behind(home.path(), "old", KEPT * 2);
        let young = left_behind(home.path(), "young", KEPT / 2);
        let alive = left_behind(home.path(), "alive", KEPT * 2);
        let _lock = Lock::try_take(&alive.lock_file()).unwrap().unwrap();
        sweep(&own);
        let is_there = [&own, &old, &young, &alive].map(|place| place.directory().exists());
        assert_eq!(is_there, [true, false, true, true]);
        assert!(!old.directory().parent().unwrap().exists());
    }

    #[test]
    fn what_builds_remember_that_nobody_uses_any_more_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let own = Endpoint::new(home.path(), "own");
        let state = |build: &str, age: Duration| {
            let directory = Home::at(home.path()).state_dir().join(build);
            fs::create_dir_all(directory.join("spool")).unwrap();
            for path in [directory.join("spool"), directory.clone()] {
                let opened = fs::File::open(path).unwrap();
                opened.set_modified(SystemTime::now() - age).unwrap();
            }
            directory
        };
        let old = STATE_KEPT * 2;
        let states = [
            state("own", old),
            state("old", old),
            state("young", STATE_KEPT / 2),
        ];
        let used = state("used", old);
        fs::write(used.join("spool/run"), "").unwrap();
        sweep_states(&own);
        assert_eq!(states.map(|state| state.exists()), [true, false, true]);
        assert!(used.exists());
    }
}
