//! Programs of the host, known by their content.
//!
//! A [`ToolFinder`] finds a program on the caller's PATH and tells its identity: the digest of the program itself, of
//! the shared libraries that the loader gives it, of the interpreter of a script, and of the parts that a compiler
//! runs. Programs that only choose another one (rustup, pyenv, links of ccache) are looked through. Every place
//! that was looked at is [`Watched`], also those where nothing was found: while they are unchanged, so is the
//! identity.
//!
//! Paths are no part of an identity, only content is: the same tool in another place is the same tool.

mod base;
mod compiler;
pub mod elf;
mod evidence;
mod finder;
mod identity;
mod loader;
pub mod loader_cache;
mod place;
mod proxy;
mod question;
mod toolchain;

pub use base::{BASE_PROGRAMS, BaseSet, base_set};
pub use evidence::{Seen, Watched, all_unchanged};
pub use finder::{Tool, ToolError, ToolFinder};
pub use place::{SYSTEM_DIRECTORIES, is_system};

pub(crate) use evidence::{Contents, Evidence};
pub(crate) use loader::libraries_of;

#[cfg(test)]
mod tests;
