//! What BUILD files may call, for people.

/// A function or value that BUILD files know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, as in `heph.fs.glob`.
    pub name: &'static str,
    /// How it is called.
    pub signature: &'static str,
    /// What it gives, in a few words.
    pub description: &'static str,
}

const fn function(name: &'static str, signature: &'static str, description: &'static str) -> Function {
    Function {
        name,
        signature,
        description,
    }
}

/// All of them that Starlark itself does not have, sorted by name.
pub const FUNCTIONS: [Function; 19] = [
    function("fail", "fail(*values)", "stops the evaluation with an error"),
    function("file", "file(path)", "address of one file of the workspace"),
    function("get_pkg", "get_pkg()", "path of the package that is evaluated"),
    function(
        "glob",
        "glob(pattern, exclude=[])",
        "address of the files that match, sorted",
    ),
    function(
        "heph.core.arch",
        "heph.core.arch",
        "architecture of this machine: amd64, arm64",
    ),
    function(
        "heph.core.num_cpu",
        "heph.core.num_cpu",
        "number of processors of this machine",
    ),
    function(
        "heph.core.os",
        "heph.core.os",
        "operating system of this machine: linux, darwin",
    ),
    function(
        "heph.core.packages",
        "heph.core.packages(pattern=\"//...\")",
        "paths of the packages that match, sorted",
    ),
    function(
        "heph.core.pkg",
        "heph.core.pkg()",
        "path of the package that is evaluated",
    ),
    function("heph.fs.base", "heph.fs.base(path)", "last segment of a path"),
    function(
        "heph.fs.dir",
        "heph.fs.dir(path)",
        "a path without its last segment",
    ),
    function(
        "heph.fs.glob",
        "heph.fs.glob(pattern, exclude=[])",
        "paths of the files that match, relative to the package, sorted",
    ),
    function("heph.fs.join", "heph.fs.join(*paths)", "paths joined and cleaned"),
    function(
        "heph.fs.parent",
        "heph.fs.parent(path)",
        "the package above a package",
    ),
    function(
        "print",
        "print(*values)",
        "shows values when the package is evaluated",
    ),
    function(
        "provider_state",
        "provider_state(provider, **settings)",
        "settings for a provider in this package and below",
    ),
    function(
        "query",
        "query(expression)",
        "address of every target that the query selects",
    ),
    function("struct", "struct(**fields)", "a value with fields"),
    function(
        "target",
        "target(name, driver=None, **config)",
        "registers a target and gives its address",
    ),
];
