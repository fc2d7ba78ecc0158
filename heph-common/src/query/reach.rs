//! Which packages a query can have targets in, so that no others need be loaded.

use super::{Pattern, Query};
use crate::package::is_below;

/// How many targets of a part of the workspace a query selects, as far as their addresses tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reach {
    /// None.
    Nothing,
    /// Perhaps some; the targets have to be looked at.
    Some,
    /// All.
    All,
}

impl Reach {
    fn all_if(condition: bool) -> Self {
        if condition { Self::All } else { Self::Nothing }
    }

    fn some_if(condition: bool) -> Self {
        if condition { Self::Some } else { Self::Nothing }
    }
}

impl Query {
    /// What the query selects of the targets of one package.
    pub fn reach_in(&self, package: &str) -> Reach {
        self.reach(&|pattern| match pattern {
            Pattern::Target(_) => Reach::some_if(pattern.matches_package(package)),
            Pattern::Package(_) | Pattern::Below(_) => Reach::all_if(pattern.matches_package(package)),
        })
    }

    /// What the query selects of the targets of one package and of all below it.
    pub fn reach_below(&self, package: &str) -> Reach {
        self.reach(&|pattern| match pattern {
            Pattern::Below(top) if is_below(package, top) => Reach::All,
            _ => Reach::some_if(pattern.matches_below(package)),
        })
    }

    fn reach(&self, of: &impl Fn(&Pattern) -> Reach) -> Reach {
        match self {
            Self::Pattern(pattern) => of(pattern),
            Self::Addr(address) => of(&Pattern::Target(address.clone())),
            Self::Package(package) => of(&Pattern::Package(package.clone())),
            Self::PackagePrefix(package) => of(&Pattern::Below(package.clone())),
            Self::Label(_) | Self::TreeOutput(_) | Self::Deps(_) | Self::Rdeps(_) | Self::Changed(_) => {
                Reach::Some
            }
            Self::Not(inner) => match inner.reach(of) {
                Reach::Nothing => Reach::All,
                Reach::Some => Reach::Some,
                Reach::All => Reach::Nothing,
            },
            Self::And(all) => all
                .iter()
                .map(|query| query.reach(of))
                .min()
                .unwrap_or(Reach::All),
            Self::Or(all) => all
                .iter()
                .map(|query| query.reach(of))
                .max()
                .unwrap_or(Reach::Nothing),
        }
    }
}
