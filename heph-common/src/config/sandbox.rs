//! `sandbox`, `fuse` and `lock`: how targets are executed.

use super::layer::{choice, section};
use super::{Problems, Value, decode};

section! {
    /// `sandbox`: what a target may see.
    Sandbox from SandboxLayer {
        /// `mode`: how strictly; a target may set its own.
        mode: SandboxMode = "mode", SandboxMode::Auto;
        /// `systemInputs`: globs of files outside the workspace whose content is in every key.
        system_inputs: Vec<String> = "systemInputs", Vec::new(), check absolute_globs;
    }
}

choice! {
    /// `sandbox.mode`: how strictly a target is kept apart.
    SandboxMode {
        /// Strict where the kernel allows it, else standard.
        Auto = "auto",
        /// Own namespaces; an error where the kernel does not allow them.
        Strict = "strict",
        /// Own directories and environment, no namespaces.
        Standard = "standard",
        /// In the source tree.
        Off = "off",
    }
}

section! {
    /// `fuse`: whether inputs are presented by an overlay.
    Fuse from FuseLayer {
        /// `enabled`
        enabled: FuseMode = "enabled", FuseMode::Off;
    }
}

choice! {
    /// `fuse.enabled`: whether large inputs are presented by an overlay instead of being staged.
    FuseMode {
        /// Always staged.
        Off = "false",
        /// Presented by an overlay.
        On = "true",
        /// Decided for each target.
        Auto = "auto",
    }
}

section! {
    /// `lock`: how equal work of several processes is serialised.
    Lock from LockLayer {
        /// `backend`
        backend: LockBackend = "backend", LockBackend::Fs;
    }
}

choice! {
    /// `lock.backend`: who sees a lock.
    LockBackend {
        /// All processes that share the home.
        Fs = "fs",
        /// This process alone.
        Mem = "mem",
    }
}

fn absolute_globs(value: &Value, problems: &mut Problems) {
    decode::check_each(value, problems, |glob| {
        if !glob.starts_with('/') {
            return Err(format!(
                "'{glob}' is not absolute: files of the workspace are declared by targets"
            ));
        }
        match globset::Glob::new(glob) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("'{glob}' is not a glob: {}", error.kind())),
        }
    });
}
