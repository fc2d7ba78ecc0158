//! The functions of the query language.

/// A function, by the name it has in a query.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Function {
    /// `label(x)`
    Label,
    /// `addr(a)`
    Addr,
    /// `package(p)`
    Package,
    /// `package_prefix(p)`
    PackagePrefix,
    /// `tree_output(path)`
    TreeOutput,
    /// `deps(e)`
    Deps,
    /// `rdeps(e)`
    Rdeps,
    /// `changed(ref)`
    Changed,
}

impl Function {
    /// All functions, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Label,
        Self::Addr,
        Self::Package,
        Self::PackagePrefix,
        Self::TreeOutput,
        Self::Deps,
        Self::Rdeps,
        Self::Changed,
    ];

    /// The name as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Addr => "addr",
            Self::Package => "package",
            Self::PackagePrefix => "package_prefix",
            Self::TreeOutput => "tree_output",
            Self::Deps => "deps",
            Self::Rdeps => "rdeps",
            Self::Changed => "changed",
        }
    }

    /// What the argument is, for messages.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::Label => "a label",
            Self::Addr => "an address",
            Self::Package | Self::PackagePrefix => "a package",
            Self::TreeOutput => "a path",
            Self::Deps | Self::Rdeps => "a query",
            Self::Changed => "a git ref",
        }
    }

    /// The function of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }
}
