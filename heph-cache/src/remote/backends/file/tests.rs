use std::os::unix::fs::{PermissionsExt, symlink};

use heph_common::Digest;

use super::*;

fn directory(path: &Path) -> Directory {
    Directory::new(path, &Access::with(&[]))
}

fn blob(bytes: &[u8]) -> Object {
    Object::Blob {
        scope: "main".to_owned(),
        digest: Digest::of(bytes),
        compressed: false,
    }
}

fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[tokio::test]
async fn an_object_is_one_readable_file_and_nothing_else_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("not/yet/there");
    let cache = directory(&root);
    let object = blob(b"x");
    assert_eq!(cache.get(&object, 10).await.unwrap(), None);
    assert_eq!(cache.exist(std::slice::from_ref(&object)).await.unwrap(), [false]);
    cache.delete(&object).await.unwrap();
    cache.probe().await.unwrap();
    assert!(!root.exists(), "reading creates nothing");

    let put = |mode| cache.put(&object, Bytes::from_static(b"x"), mode);
    assert_eq!(put(PutMode::IfAbsent).await.unwrap(), Put::Written);
    assert_eq!(put(PutMode::IfAbsent).await.unwrap(), Put::Existed);
    assert_eq!(put(PutMode::Replace).await.unwrap(), Put::Written);
    let files = files(&root);
    assert_eq!(files, [root.join(object.path())]);
    let mode = std::fs::metadata(root.join(object.path()))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o733, 0o600, "{mode:o}");
}

#[tokio::test]
async fn links_below_the_directory_are_not_followed() {
    let temporary = tempfile::tempdir().unwrap();
    let outside = temporary.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let root = temporary.path().join("cache");
    let cache = directory(&root);
    let object = blob(b"x");
    let place = root.join(object.path());
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    symlink(outside.join("secret"), &place).unwrap();
    let error = cache.get(&object, 100).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Invalid, "{error}");
    // A write replaces the link and leaves what it named alone.
    cache
        .put(&object, Bytes::from_static(b"x"), PutMode::Replace)
        .await
        .unwrap();
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(cache.get(&object, 100).await.unwrap().unwrap(), "x");

    // A directory that is a link is no way out either.
    std::fs::remove_dir_all(root.join("v1")).unwrap();
    symlink(&outside, root.join("v1")).unwrap();
    assert!(
        cache
            .put(&object, Bytes::from_static(b"x"), PutMode::Replace)
            .await
            .is_err()
    );
    assert_eq!(files(&outside).len(), 1);
}

#[tokio::test]
async fn a_failed_upload_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let cache = directory(temporary.path());
    let source = temporary.path().join("source");
    std::fs::write(&source, "short").unwrap();
    let object = blob(b"y");
    let error = cache
        .put_file(&object, File::open(&source).unwrap(), 6)
        .await
        .unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::Invalid);
    assert_eq!(files(temporary.path()), [source]);
}
