//! Differences between files, for people.

use similar::TextDiff;

/// Lines around a change.
const CONTEXT: usize = 3;

/// The lines of a unified diff between what is there and what should be.
pub(super) fn of(path: &str, old: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Vec<String> {
    let (from, to) = match (&old, &new) {
        (None, _) => ("/dev/null".to_owned(), format!("b/{path}")),
        (_, None) => (format!("a/{path}"), "/dev/null".to_owned()),
        _ => (format!("a/{path}"), format!("b/{path}")),
    };
    let texts = (
        String::from_utf8(old.unwrap_or_default()),
        String::from_utf8(new.unwrap_or_default()),
    );
    let (Ok(old), Ok(new)) = texts else {
        return vec![format!("binary files {from} and {to} differ")];
    };
    if old == new {
        return vec![format!("the modes of {from} and {to} differ")];
    }
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&from, &to)
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_like_a_patch() {
        let diff = of(
            "a.txt",
            Some(b"one\ntwo\nthree\n".to_vec()),
            Some(b"one\n2\nthree\n".to_vec()),
        );
        let expected = [
            "--- a/a.txt",
            "+++ b/a.txt",
            "@@ -1,3 +1,3 @@",
            " one",
            "-two",
            "+2",
            " three",
        ];
        assert_eq!(diff, expected);
    }

    #[test]
    fn new_and_binary_files_are_told_apart() {
        let diff = of("a.txt", None, Some(b"one\n".to_vec()));
        assert_eq!(diff, ["--- /dev/null", "+++ b/a.txt", "@@ -0,0 +1 @@", "+one"]);
        let diff = of("a", Some(vec![0xff]), Some(vec![0xfe]));
        assert_eq!(diff, ["binary files a/a and b/a differ"]);
    }
}
