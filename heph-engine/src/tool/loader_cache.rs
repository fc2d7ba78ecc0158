//! `/etc/ld.so.cache`: where the loader finds the libraries of the system directories.
//!
//! Source: glibc, `sysdeps/generic/dl-cache.h`, format 1.1 (since 2.2), also behind the older `ld.so-1.7.0` header.

use std::collections::HashMap;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_ENTRY: usize = 12;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Paths of libraries by name, in the loader's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoaderCache {
    paths: HashMap<String, Vec<CachedLibrary>>,
}

/// One library of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedLibrary {
    /// Absolute path.
    pub path: String,
    /// Whether only some CPUs use it (`glibc-hwcaps`).
    pub special: bool,
}

impl LoaderCache {
    /// Reads a cache; what is cut or not understood is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut cache = Self::default();
        let Some(bytes) = current_format(bytes) else {
            return cache;
        };
        let number = |at: usize| -> Option<usize> {
            let field: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(field)).ok()
        };
        let text = |at: usize| -> Option<String> {
            let rest = bytes.get(at..)?;
            let end = rest.iter().position(|byte| *byte == 0)?;
            String::from_utf8(rest.get(..end)?.to_vec()).ok()
        };
        let count = number(MAGIC.len()).unwrap_or_default();
        for index in 0..count {
            let at = HEADER.saturating_add(index.saturating_mul(ENTRY));
            let (Some(name), Some(path), Some(hardware)) =
                (number(at + 4), number(at + 8), bytes.get(at + 16..at + 24))
            else {
                break;
            };
            if let (Some(name), Some(path)) = (text(name), text(path)) {
                let special = hardware.iter().any(|byte| *byte != 0);
                cache
                    .paths
                    .entry(name)
                    .or_default()
                    .push(CachedLibrary { path, special });
            }
        }
        cache
    }

    /// The libraries of this name.
    pub fn find(&self, name: &str) -> &[CachedLibrary] {
        self.paths.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

fn current_format(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.starts_with(MAGIC) {
        return Some(bytes);
    }
    if !bytes.starts_with(OLD_MAGIC) {
        return None;
    }
    let count: [u8; 4] = bytes.get(12..16)?.try_into().ok()?;
    let end = usize::try_from(u32::from_le_bytes(count))
        .ok()?
        .checked_mul(OLD_ENTRY)?
        .checked_add(16)?;
    let rest = bytes.get(end.checked_next_multiple_of(8)?..)?;
    rest.starts_with(MAGIC).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.resize(HEADER, 0);
        let mut strings = Vec::new();
        let base = HEADER + entries.len() * ENTRY;
        for (name, path, hardware) in entries {
            bytes.extend(3u32.to_le_bytes());
            for text in [name, path] {
                bytes.extend(((base + strings.len()) as u32).to_le_bytes());
                strings.extend(text.as_bytes());
                strings.push(0);
            }
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(hardware.to_le_bytes());
        }
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn libraries_are_found_in_order() {
        let bytes = cache(&[
            ("libz.so.1", "/lib/glibc-hwcaps/x86-64-v3/libz.so.1", 1 << 62),
            ("libz.so.1", "/lib/libz.so.1", 0),
            ("libc.so.6", "/lib/libc.so.6", 0),
        ]);
        let found = LoaderCache::parse(&bytes);
        let special: Vec<bool> = found
            .find("libz.so.1")
            .iter()
            .map(|library| library.special)
            .collect();
        assert_eq!(special, [true, false]);
        assert_eq!(found.find("libc.so.6").first().unwrap().path, "/lib/libc.so.6");
        assert!(found.find("libm.so.6").is_empty());

        let mut old = b"ld.so-1.7.0\0".to_vec();
        old.extend(1u32.to_le_bytes());
        old.resize(16 + OLD_ENTRY, 0);
        old.resize(old.len().next_multiple_of(8), 0);
        old.extend(&bytes);
        assert_eq!(LoaderCache::parse(&old), found);
    }

    #[test]
    fn a_cut_cache_gives_what_is_left() {
        let bytes = cache(&[
            ("libz.so.1", "/lib/libz.so.1", 0),
            ("libc.so.6", "/lib/libc.so.6", 0),
        ]);
        for end in 0..bytes.len() {
            let found = LoaderCache::parse(&bytes[..end]);
            assert!(found.find("libz.so.1").len() <= 1);
        }
        let mut endless = bytes;
        endless[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        LoaderCache::parse(&endless);
    }
}
