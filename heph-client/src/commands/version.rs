//! `heph version`

use heph_common::Exit;
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::render::json::VERSION;

/// Shows the version of heph.
#[derive(clap::Args, Debug)]
pub struct VersionArgs {}

pub(super) fn run(context: &Context, _: &VersionArgs) -> Result<Exit> {
    let heph = env!("CARGO_PKG_VERSION");
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let document = json!({"version": VERSION, "heph": heph, "build": build, "os": os, "arch": arch});
    context.show(&document, |_| format!("heph {heph} ({build}, {os}-{arch})\n"))?;
    Ok(Exit::Success)
}
