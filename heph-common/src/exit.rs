//! The exit codes of `heph`, which scripts may rely on.

/// How a command of `heph` ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Everything was built, or there was nothing to say; also a query that selects nothing.
    Success = 0,
    /// A target failed, a selector matched nothing, or `--frozen` found a difference.
    Failure = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// heph itself failed; also `HEPH_DAEMON=require` without a daemon.
    Fault = 3,
    /// `heph exec` could not run its command; every other code there is the command's own.
    ExecFault = 125,
    /// Cancelled by the user.
    Cancelled = 130,
}

impl Exit {
    /// All codes, in rising order.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::Fault,
        Self::ExecFault,
        Self::Cancelled,
    ];

    /// The number that the process exits with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What the code means, as a fragment.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "all built, or a query that selects nothing",
            Self::Failure => "a target failed, nothing matched, or --frozen found a difference",
            Self::Usage => "wrong usage or configuration",
            Self::Fault => "heph itself failed",
            Self::ExecFault => "heph exec could not run its command",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_fixed() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 125, 130]);
    }
}
