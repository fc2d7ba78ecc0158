use heph_proto::{Execution, RunRecord, Summary};

use super::*;
use crate::history::record::identify;

const ALL: u32 = 10_000;

fn everything() -> HistoryRequest {
    HistoryRequest {
        listed: ALL,
        ..HistoryRequest::default()
    }
}

/// A run that began so many milliseconds ago.
fn run(root: &str, ago: u64, executions: &[(&str, u64)]) -> RunRecord {
    let executions = executions.iter().map(|(address, wall_us)| Execution {
        address: (*address).to_owned(),
        wall_us: *wall_us,
        ..Execution::default()
    });
    let mut record = RunRecord {
        root: root.to_owned(),
        started_unix_ms: clock::unix_ms() - ago,
        duration_us: 10,
        saved_us: 5,
        executions: executions.collect(),
        summary: Some(Summary {
            total: 4,
            local: 3,
            executed: 1,
            ..Summary::default()
        }),
        ..RunRecord::default()
    };
    identify(&mut record);
    record
}

fn leave(directory: &Path, record: &RunRecord) {
    spool::leave(directory, record).unwrap();
}

fn ask(directory: &Path, request: &HistoryRequest) -> HistoryReply {
    let reply = answer(directory, request);
    assert_eq!(reply.failure, "");
    reply
}

fn count(directory: &Path) -> u64 {
    ask(directory, &everything()).totals.unwrap().runs
}

#[test]
fn what_is_in_the_spool_is_taken_in_once_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let kept = run("/w", 5, &[("//:a", 7)]);
    leave(home.path(), &kept);
    leave(home.path(), &run("/w", 9, &[]));
    assert_eq!(count(home.path()), 2);
    assert!(spool::read(home.path()).unwrap().is_empty());
    // As if a keeper had been killed before it removed it.
    leave(home.path(), &kept);
    assert_eq!(count(home.path()), 2);
}

#[test]
fn sums_are_those_of_the_runs_asked_for() {
    let home = tempfile::tempdir().unwrap();
    leave(home.path(), &run("/w", 1, &[("//:slow", 900), ("//:often", 1)]));
    leave(home.path(), &run("/w", 2, &[("//:often", 1)]));
    leave(home.path(), &run("/other", 3, &[("//:often", 1)]));
    leave(home.path(), &run("/w", 3_600_000, &[("//:long-ago", 1)]));
    let reply = ask(
        home.path(),
        &HistoryRequest {
            root: "/w".into(),
            since_unix_ms: clock::unix_ms() - 60_000,
            listed: 1,
            ..HistoryRequest::default()
        },
    );
    let totals = reply.totals.unwrap();
    assert_eq!((totals.runs, totals.saved_us, totals.duration_us), (2, 10, 20));
    assert_eq!(totals.targets.unwrap().local, 6);
    assert_eq!(reply.runs.len(), 1);
    let names = |targets: &[heph_proto::TargetTotals]| {
        let names = targets.iter().map(|target| target.address.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&reply.slowest), ["//:slow"]);
    assert_eq!(names(&reply.most_often), ["//:often"]);
}

#[test]
fn the_last_execution_is_the_latest_or_unknown() {
    let home = tempfile::tempdir().unwrap();
    let latest = run("/w", 1, &[("//:a", 3)]);
    leave(home.path(), &latest);
    leave(home.path(), &run("/w", 9, &[("//:a", 1), ("//:b", 1)]));
    let last = |address: &str| {
        let request = HistoryRequest {
            root: "/w".into(),
            address: address.into(),
            ..HistoryRequest::default()
        };
        ask(home.path(), &request).last_execution
    };
    let found = last("//:a").unwrap();
    assert_eq!(found.run.unwrap().id, latest.id);
    assert_eq!(found.execution.unwrap().wall_us, 3);
    assert!(last("//:b").is_some());
    assert_eq!(last("//:c"), None);
    let unlisted = RunRecord {
        more_executions: 1,
        ..run("/w", 0, &[])
    };
    leave(home.path(), &unlisted);
    assert_eq!(last("//:b"), None, "it may have been executed in the latest run");
}

#[test]
fn no_more_than_so_many_runs_of_so_many_days_are_kept() {
    let home = tempfile::tempdir().unwrap();
    for batch in 0..3 {
        for number in 0..500 {
            leave(home.path(), &run("/w", batch * 1000 + number, &[]));
        }
        count(home.path());
    }
    assert_eq!(count(home.path()), MOST_RUNS as u64);
    let home = tempfile::tempdir().unwrap();
    leave(home.path(), &run("/w", LONGEST.as_millis() as u64 + 60_000, &[]));
    leave(home.path(), &run("/w", 1, &[]));
    assert_eq!(count(home.path()), 1);
}

/// A history with some runs, whose database is then spoiled; asked again, with one new run.
fn spoiled(spoil: impl Fn(&Path)) -> (tempfile::TempDir, HistoryReply) {
    let home = tempfile::tempdir().unwrap();
    for number in 0..50 {
        leave(home.path(), &run("/w", number, &[("//:a", 1)]));
    }
    count(home.path());
    spoil(&home.path().join("db"));
    leave(home.path(), &run("/w", 0, &[]));
    let reply = ask(home.path(), &everything());
    (home, reply)
}

fn is_begun_anew((home, reply): (tempfile::TempDir, HistoryReply)) {
    assert_eq!(
        reply.totals.unwrap().runs,
        1,
        "the run that came after the damage"
    );
    assert_eq!(reply.problems.len(), 1, "{:?}", reply.problems);
    assert!(home.path().join("db.damaged").exists());
    assert!(ask(home.path(), &everything()).problems.is_empty());
}

#[test]
fn a_database_that_is_something_else_is_set_aside() {
    is_begun_anew(spoiled(|database| {
        fs::remove_dir_all(database).unwrap();
        fs::write(database, "not a directory").unwrap();
    }));
    is_begun_anew(spoiled(|database| {
        fs::remove_file(database.join("db")).unwrap();
        fs::create_dir(database.join("db")).unwrap();
    }));
    is_begun_anew(spoiled(|database| {
        fs::write(database.join("conf"), "version: 99.1\nsegment_size: 1\n").unwrap();
    }));
}

#[test]
fn a_cut_or_flipped_database_answers() {
    for part in 0..8 {
        let (_home, reply) = spoiled(|database| {
            let path = database.join("db");
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() * part / 8;
            match part % 2 {
                0 => bytes.truncate(at),
                _ => bytes
                    .iter_mut()
                    .skip(at)
                    .take(4096)
                    .for_each(|byte| *byte = !*byte),
            }
            fs::write(&path, bytes).unwrap();
        });
        // Where nothing of use was hit, all is there.
        assert!(reply.totals.unwrap().runs >= 1, "part {part}");
    }
}

#[test]
fn what_ends_its_keepers_is_set_aside() {
    let home = tempfile::tempdir().unwrap();
    leave(home.path(), &run("/w", 1, &[]));
    assert_eq!(count(home.path()), 1);
    for deaths in 1..=DEATHS {
        fs::write(home.path().join("attempts"), ".".repeat(deaths)).unwrap();
        let reply = ask(home.path(), &everything());
        assert_eq!(reply.problems.is_empty(), deaths < DEATHS);
        assert_eq!(reply.totals.unwrap().runs, u64::from(deaths < DEATHS));
    }
}
