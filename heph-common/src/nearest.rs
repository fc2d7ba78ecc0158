//! "Did you mean": the nearest of several known words.

/// The candidate that `word` was most likely meant to be, or `None` when all are too far away.
///
/// A third of the letters may be wrong, swapped, missing or too many. Case does not count. Of equally near
/// candidates the first is returned.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let longer = length.max(candidate.chars().count());
        let limit = longer.div_ceil(3).min(longer.saturating_sub(1));
        if candidate.is_empty() || length.abs_diff(candidate.chars().count()) > limit {
            continue;
        }
        let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_recognised() {
        let keys = ["plugins", "homeDir", "fs", "memCache", "cache", "caches", "fuse"];
        assert_eq!(nearest("plugin", keys), Some("plugins"));
        assert_eq!(nearest("homedir", keys), Some("homeDir"));
        assert_eq!(nearest("chaches", keys), Some("caches"));
        assert_eq!(nearest("cach", keys), Some("cache"));
        assert_eq!(nearest("fsu", keys), Some("fs"));
    }

    #[test]
    fn other_words_are_not() {
        assert_eq!(nearest("telemetry", ["lock", "cache"]), None);
        assert_eq!(nearest("x", ["a", "b"]), None);
        assert_eq!(nearest("", ["a", ""]), None);
        assert_eq!(nearest("a", []), None);
    }
}
