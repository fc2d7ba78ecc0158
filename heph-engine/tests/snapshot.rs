//! A damaged snapshot is refused, or what it says can be used without harm: a short run of the fuzz target `snapshot`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

#[path = "../../fuzz/workspace/src/damage.rs"]
mod damage;

use std::cell::Cell;

use proptest::prelude::*;

#[test]
fn a_damaged_snapshot_under_a_right_checksum_does_no_harm() {
    let saved = damage::Saved::new();
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let edits = proptest::collection::vec(any::<u8>(), 4..16);
    let checked = runner.run(&edits, |edits| {
        let met = if saved.load_damaged(&edits) {
            &taken
        } else {
            &refused
        };
        met.set(met.get() + 1);
        Ok(())
    });
    assert_eq!(checked, Ok(()));
    assert!(
        taken.get() > 0 && refused.get() > 0,
        "{taken:?} were taken, {refused:?} refused"
    );
}
