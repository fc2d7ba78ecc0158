//! Queries and the words of a command line: every text is answered, and what is accepted prints to the same query.
#![no_main]

use heph_common::{Query, selector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words: Vec<&str> = text.split('\n').collect();
    for result in [
        Query::parse(text, "cmd/server"),
        selector::from_words(&words, "cmd/server"),
    ] {
        match result {
            Ok(query) => {
                let printed = query.to_string();
                assert_eq!(Query::parse(&printed, "").as_ref(), Ok(&query), "{printed:?}");
                let _ = (query.reach_in("cmd"), query.reach_below("cmd"));
            }
            Err(error) => {
                assert!(error.offset <= error.text.len() && error.text.is_char_boundary(error.offset));
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
