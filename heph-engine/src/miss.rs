//! Why a target has to run: the parts of its key that differ from the nearest earlier one.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use heph_cache::{RecordedRevision, Store};
use heph_common::Digest;
use heph_common::key::KeyPart;

/// A part of a key that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What the part is called.
    pub label: String,
    /// What it was; `None` for a new part.
    pub before: Option<Digest>,
    /// What it is; `None` for a part that is gone.
    pub now: Option<Digest>,
}

/// What differs between the parts of an earlier key and those of the present one: in the order of the present ones, those
/// that are gone at the end. Empty also for the same parts in another order.
pub fn changes(earlier: &[KeyPart], now: &[KeyPart]) -> Vec<Change> {
    let mut left: HashMap<&str, VecDeque<Digest>> = HashMap::with_capacity(earlier.len());
    for part in earlier {
        left.entry(&part.label).or_default().push_back(part.digest);
    }
    let mut changes = Vec::new();
    for part in now {
        let before = left.get_mut(part.label.as_str()).and_then(VecDeque::pop_front);
        if before != Some(part.digest) {
            changes.push(Change {
                label: part.label.clone(),
                before,
                now: Some(part.digest),
            });
        }
    }
    // Of several parts with one label the first ones are taken for those that stayed.
    for part in earlier.iter().rev() {
        if let Some(before) = left.get_mut(part.label.as_str()).and_then(VecDeque::pop_back) {
            changes.push(Change {
                label: part.label.clone(),
                before: Some(before),
                now: None,
            });
        }
    }
    let gone = changes
        .iter()
        .position(|change| change.now.is_none())
        .unwrap_or(changes.len());
    if let Some(gone) = changes.get_mut(gone..) {
        gone.reverse();
    }
    changes
}

/// The earlier revision that differs least, the latest one of several, and how it differs; only changes that are told count.
pub fn nearest<'a>(
    revisions: &'a [RecordedRevision],
    now: &[KeyPart],
    is_told: impl Fn(&Change) -> bool,
) -> Option<(&'a RecordedRevision, Vec<Change>)> {
    let compared = revisions.iter().map(|revision| {
        let mut changes = changes(&revision.parts, now);
        changes.retain(&is_told);
        (revision, changes)
    });
    compared.min_by_key(|(revision, changes)| (changes.len(), std::cmp::Reverse(revision.time_unix_ms)))
}

/// In one line, why a target with this key has to run.
pub fn reason(store: &Store, root: &Path, address: &str, key: &Digest, parts: &[KeyPart]) -> String {
    let revisions = match store.revisions(&root.to_string_lossy(), address) {
        Ok(revisions) => revisions,
        Err(error) => return format!("its history cannot be read: {error}"),
    };
    if revisions.iter().any(|revision| revision.key == *key) {
        return "its result is no longer in the store".to_owned();
    }
    match nearest(&revisions, parts, |_| true) {
        None => "it was never built here".to_owned(),
        Some((_, changes)) if changes.is_empty() => "its inputs are in another order".to_owned(),
        Some((_, changes)) => describe(&changes),
    }
}

/// One line for people, with the first few parts.
fn describe(changes: &[Change]) -> String {
    const SHOWN: usize = 3;
    let list = |verb: &str, is_one: fn(&Change) -> bool| -> Option<String> {
        let labels: Vec<&str> = changes
            .iter()
            .filter(|change| is_one(change))
            .map(|change| change.label.as_str())
            .collect();
        let more = labels.len().saturating_sub(SHOWN);
        let rest = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let shown = labels.get(..SHOWN.min(labels.len())).unwrap_or_default();
        (!labels.is_empty()).then(|| format!("{verb}: {}{rest}", shown.join(", ")))
    };
    let parts = [
        list("changed", |change| {
            change.before.is_some() && change.now.is_some()
        }),
        list("new", |change| change.before.is_none()),
        list("gone", |change| change.now.is_none()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use heph_common::Digest;

    use super::*;

    fn parts(parts: &[(&str, &str)]) -> Vec<KeyPart> {
        let part = |(label, value): &(&str, &str)| KeyPart {
            label: (*label).to_owned(),
            digest: Digest::of(value.as_bytes()),
        };
        parts.iter().map(part).collect()
    }

    #[test]
    fn changes_name_what_is_another_new_and_gone() {
        let earlier = parts(&[("run", "a"), ("env A", "1"), ("input x.c", "1"), ("env B", "1")]);
        let now = parts(&[("run", "a"), ("input x.c", "2"), ("input y.c", "1")]);
        assert_eq!(
            describe(&changes(&earlier, &now)),
            "changed: input x.c; new: input y.c; gone: env A, env B"
        );
        assert!(changes(&now, &now).is_empty());
    }

    #[test]
    fn parts_of_one_label_are_compared_one_by_one() {
        let earlier = parts(&[("hash input a", "1"), ("hash input a", "2")]);
        let now = parts(&[("hash input a", "1")]);
        let gone = changes(&earlier, &now);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone.first().unwrap().before, Some(Digest::of(b"2")));
        assert_eq!(
            changes(&now, &earlier).first().unwrap().now,
            Some(Digest::of(b"2"))
        );
    }

    #[test]
    fn the_nearest_revision_has_the_fewest_changes_and_is_the_latest_of_those() {
        let revision = |key: &str, time_unix_ms, pairs: &[(&str, &str)]| RecordedRevision {
            key: Digest::of(key.as_bytes()),
            time_unix_ms,
            parts: parts(pairs),
        };
        let now = parts(&[("run", "a"), ("input x.c", "3")]);
        let revisions = [
            revision("far", 9, &[("run", "b"), ("input x.c", "2")]),
            revision("near", 1, &[("run", "a"), ("input x.c", "1")]),
            revision("nearer", 2, &[("run", "a"), ("input x.c", "2")]),
        ];
        let (found, changes) = nearest(&revisions, &now, |_| true).unwrap();
        assert_eq!((found.key, changes.len()), (Digest::of(b"nearer"), 1));
    }
}
