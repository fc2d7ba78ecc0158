//! What BUILD files may call.

use serde::Serialize;

use super::{Answer, VERSION, json};
use crate::build_file::FUNCTIONS;

/// Every function, sorted by name.
pub(super) fn functions() -> Answer {
    #[derive(Serialize)]
    struct Functions {
        version: u32,
        functions: Vec<Function>,
    }
    #[derive(Serialize)]
    struct Function {
        name: &'static str,
        signature: &'static str,
        description: &'static str,
    }
    let functions = FUNCTIONS.iter().map(|function| Function {
        name: function.name,
        signature: function.signature,
        description: function.description,
    });
    json(&Functions {
        version: VERSION,
        functions: functions.collect(),
    })
}
