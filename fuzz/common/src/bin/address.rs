//! Addresses: the parser answers every text, and what it accepts prints to something that parses to the same.
#![no_main]

use heph_common::Address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for result in [Address::parse(text), Address::parse_relative(text, "cmd/server")] {
        match result {
            Ok(address) => {
                let printed = address.to_string();
                assert_eq!(Address::parse(&printed).as_ref(), Ok(&address), "{printed:?}");
            }
            Err(error) => {
                assert!(error.offset <= text.len() && text.is_char_boundary(error.offset));
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
