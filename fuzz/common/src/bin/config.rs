//! Configuration files: every text is answered, with places that lie in it.
#![no_main]

use heph_common::config::{self, Base};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let base = Base {
        root: Some("/ws".into()),
        home: Some("/home/ada".into()),
    };
    match config::parse(".hephconfig", text, base) {
        Ok(loaded) => {
            assert!(loaded.config.caches.values().all(|cache| cache.uri.is_some()));
            assert!(!loaded.origins.is_empty());
        }
        Err(errors) => {
            assert!(!errors.problems.is_empty());
            assert!(!errors.to_string().is_empty());
            for place in errors
                .problems
                .iter()
                .filter_map(|problem| problem.place.as_ref())
            {
                assert!(place.line >= 1 && place.column >= 1 && place.length >= 1);
                assert!(place.line as usize <= text.lines().count().max(1), "{place:?}");
            }
        }
    }
});
