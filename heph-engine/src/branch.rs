//! Which branch is checked out.

use std::collections::BTreeMap;
use std::path::Path;

/// Variables in which CI services name the branch, where what is checked out is a commit only; that of a pull request first.
const VARIABLES: [&str; 8] = [
    "GITHUB_HEAD_REF",
    "GITHUB_REF_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_COMMIT_REF_NAME",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "CHANGE_BRANCH",
    "BRANCH_NAME",
];

/// The branch of the git repository that a directory is in, else what the CI service says.
pub fn branch(root: &Path, environment: &BTreeMap<String, String>) -> Option<String> {
    let said = || VARIABLES.iter().filter_map(|name| environment.get(*name));
    checked_out(root).or_else(|| said().find(|value| !value.is_empty()).cloned())
}

fn checked_out(root: &Path) -> Option<String> {
    let mark = root
        .ancestors()
        .map(|directory| directory.join(".git"))
        .find(|mark| mark.exists())?;
    let directory = match std::fs::read_to_string(&mark) {
        // A work tree or a submodule: the file says where the directory is.
        Ok(text) => mark.parent()?.join(text.trim().strip_prefix("gitdir: ")?),
        Err(_) => mark,
    };
    let head = std::fs::read_to_string(directory.join("HEAD")).ok()?;
    head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_is_that_of_the_repository_or_of_the_ci_service() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("inner");
        std::fs::create_dir_all(&root).unwrap();
        let mut environment = BTreeMap::from([("GITHUB_HEAD_REF".to_owned(), String::new())]);
        assert_eq!(branch(&root, &environment), None);
        environment.insert("CI_COMMIT_REF_NAME".to_owned(), "said".to_owned());
        let git = directory.path().join(".git");
        std::fs::create_dir(&git).unwrap();
        std::fs::write(git.join("HEAD"), "0123456789012345678901234567890123456789\n").unwrap();
        assert_eq!(branch(&root, &environment).as_deref(), Some("said"));
        std::fs::write(git.join("HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        assert_eq!(branch(&root, &environment).as_deref(), Some("feature/x"));
        let tree = directory.path().join("tree");
        std::fs::create_dir_all(directory.path().join("tree/.none")).unwrap();
        std::fs::write(tree.join(".git"), "gitdir: ../.git\n").unwrap();
        assert_eq!(branch(&tree, &BTreeMap::new()).as_deref(), Some("feature/x"));
    }
}
