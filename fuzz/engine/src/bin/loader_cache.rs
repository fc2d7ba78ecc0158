//! `/etc/ld.so.cache`: whatever the bytes, every path that is found lies in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "only the parser is used")]
#[path = "../../../../heph-engine/src/tool/loader_cache.rs"]
mod loader_cache;

fuzz_target!(|bytes: &[u8]| {
    let cache = loader_cache::LoaderCache::parse(bytes);
    for library in cache.find("libc.so.6") {
        let path = library.path.as_bytes();
        assert!(path.is_empty() || bytes.windows(path.len()).any(|window| window == path));
    }
});
