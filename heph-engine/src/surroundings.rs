//! What every action depends on beside its own definition: the machine, the base set, the caller's environment.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use heph_common::Digest;
use heph_proto::SandboxMode;

use crate::definition::PassEnv;
use crate::platform::{CpuInfo, Platform, native_cpu};
use crate::tool::BaseSet;

/// The surroundings of one run.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Operating system, architecture and what of the system matters.
    pub platform: Arc<Platform>,
    /// The POSIX base set on every PATH.
    pub base: Arc<BaseSet>,
    /// `cacheEpoch` of the configuration.
    pub epoch: Option<String>,
    /// What `native` stands for, once somebody asked.
    pub native: OnceLock<Digest>,
    /// The caller's environment.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Isolation that the run asks for where a target does not.
    pub sandbox: SandboxMode,
    /// Prefixes of variables that hold credentials of caches, beside the well-known ones.
    pub credential_prefixes: Vec<String>,
}

/// Variables that `pass_env = "*"` leaves out: they belong to a session or are set by heph itself.
const SESSION: &[&str] = &[
    "COLORTERM",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "GPG_AGENT_INFO",
    "GPG_TTY",
    "HISTFILE",
    "HOME",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LINES",
    "LOGNAME",
    "LS_COLORS",
    "MAIL",
    "MAKEFLAGS",
    "MAKELEVEL",
    "OLDPWD",
    "PATH",
    "PPID",
    "PS1",
    "PWD",
    "SHELL",
    "SHLVL",
    "SSH_AGENT_PID",
    "SSH_AUTH_SOCK",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "STY",
    "TERM",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "TERM_SESSION_ID",
    "TMPDIR",
    "TMUX",
    "TMUX_PANE",
    "TZ",
    "USER",
    "WAYLAND_DISPLAY",
    "WINDOWID",
    "XAUTHORITY",
    "_",
];

/// Beginnings of variables that `pass_env = "*"` leaves out: sessions, heph's own, and every credential that `caches:` may use.
const PREFIXES: &[&str] = &[
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "GCS_",
    "GOOGLE_",
    "HEPH_",
    "MEMCACHED_",
    "REDISCLI_",
    "REDIS_",
    "SYSTEMD_",
    "VTE_",
    "XDG_",
];

impl Surroundings {
    /// Digest of what enters every key.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&heph_common::key::FORMAT.to_le_bytes());
        for text in [&self.platform.os, &self.platform.arch] {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        hasher
            .update(self.platform.system.as_bytes())
            .update(self.base.digest.as_bytes());
        if let Some(epoch) = &self.epoch {
            hasher.update(b"epoch").update(epoch.as_bytes());
        }
        hasher.finalize().into()
    }

    /// What `native` stands for on this machine, for commands that say it.
    ///
    /// The variable `HEPH_TEST_CPUINFO` names a file that is read in place of `/proc/cpuinfo`, for tests.
    pub fn native(&self) -> Digest {
        *self.native.get_or_init(|| {
            let pretended = self
                .environment
                .get("HEPH_TEST_CPUINFO")
                .and_then(|file| std::fs::read_to_string(file).ok());
            native_cpu(&pretended.map_or_else(CpuInfo::read, |text| CpuInfo::parse(&text)))
        })
    }

    /// The caller's values of these variables, sorted; `None` for one that is not set.
    pub fn passed<'a>(&'a self, pass: &'a PassEnv) -> Vec<(&'a str, Option<&'a str>)> {
        let mut values: Vec<(&str, Option<&str>)> = match pass {
            PassEnv::Names(names) => names
                .iter()
                .map(|name| (name.as_str(), self.environment.get(name).map(String::as_str)))
                .collect(),
            PassEnv::All => self
                .environment
                .iter()
                .filter(|(name, _)| !self.is_withheld(name))
                .map(|(name, value)| (name.as_str(), Some(value.as_str())))
                .collect(),
        };
        values.sort_unstable();
        values.dedup();
        values
    }

    fn is_withheld(&self, name: &str) -> bool {
        SESSION.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || self
                .credential_prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
    }
}
