//! Targets that are made from their address alone: files, globs, programs of the host, queries.

use heph_common::query::Query;
use heph_common::{Address, nearest};

use crate::definition::{Action, CachePolicy, Definition, Transitive};
use crate::problem::Problem;
use crate::tree::{escape_list, pattern::Pattern, split_list};

/// Packages of these targets, their names and what they are for.
const KNOWN: [(&str, &str, &str); 4] = [
    ("@heph/fs", "file", "//@heph/fs:file@f=PATH"),
    ("@heph/fs", "glob", "//@heph/fs:glob@p=PATTERN"),
    ("@heph/query", "query", "//@heph/query:query@expr=QUERY"),
    ("@heph/introspect", "outputs", "//@heph/introspect:outputs"),
];
/// Package of the programs of the host.
const PROGRAMS: &str = "@heph/bin";

/// The definition of a target whose package begins with `@`; `None` for those of other packages.
pub(super) fn generated(address: &Address) -> Option<Result<Definition, Problem>> {
    address.is_provided().then(|| define(address))
}

fn define(address: &Address) -> Result<Definition, Problem> {
    let (driver, action) = match (address.package.as_str(), address.name.as_str()) {
        ("@heph/fs", "file") => ("fs", file(address)?),
        ("@heph/fs", "glob") => ("fs", glob(address)?),
        (PROGRAMS, _) => ("hostbin", program(address)?),
        ("@heph/query", "query") => ("query", query(address)?),
        ("@heph/introspect", "outputs") => {
            arguments(address, &[])?;
            ("introspect", Action::OwnOutputs)
        }
        _ => return Err(unknown(address)),
    };
    if let Some(output) = &address.output {
        return Err(Problem::new(format!(
            "{} has no output groups, so '|{output}' selects nothing",
            address.without_output()
        )));
    }
    Ok(Definition {
        address: address.clone(),
        place: None,
        driver: driver.to_owned(),
        labels: Vec::new(),
        description: None,
        dependencies: Vec::new(),
        action,
        transitive: Transitive::default(),
        approval: None,
        timeout: None,
        cache: CachePolicy::default(),
        retries: 0,
        exclusive: false,
        slots: 1,
    })
}

fn unknown(address: &Address) -> Problem {
    let problem = Problem::new(format!("there is no target {}", address.without_output()));
    let packages = KNOWN.iter().map(|(package, ..)| *package).chain([PROGRAMS]);
    if let Some((package, name, form)) = KNOWN.iter().find(|(package, ..)| *package == address.package) {
        let names = KNOWN
            .iter()
            .filter(|(of, ..)| of == package)
            .map(|(_, name, _)| *name);
        let name = nearest(&address.name, names).unwrap_or(name);
        let form = KNOWN
            .iter()
            .find(|(of, named, _)| of == package && *named == name)
            .map_or(*form, |(.., form)| *form);
        return problem.hint(format!("did you mean {form}?"));
    }
    match nearest(&address.package, packages) {
        Some(package) => problem.hint(format!("did you mean //{package}?")),
        None => problem.hint("packages that begin with '@' are those of providers: //@heph/fs, //@heph/bin, //@heph/query, //@heph/introspect"),
    }
}

/// The values of the arguments that a target has; others are refused.
fn arguments<'a, const N: usize>(
    address: &'a Address,
    known: &[&'static str; N],
) -> Result<[Option<&'a str>; N], Problem> {
    if let Some(unknown) = address.args.keys().find(|key| !known.contains(&key.as_str())) {
        let problem = Problem::new(format!(
            "{} has no argument '{unknown}'",
            address.without_output()
        ));
        return Err(
            match (nearest(unknown, known.iter().copied()), known.is_empty()) {
                (Some(nearest), _) => problem.hint(format!("did you mean '{nearest}'?")),
                (None, true) => problem.hint("it takes none"),
                (None, false) => problem.hint(format!("it takes {}", known.join(", "))),
            },
        );
    }
    Ok(known.map(|key| {
        address
            .args
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }))
}

fn missing(address: &Address, argument: &str, form: &str) -> Problem {
    Problem::new(format!(
        "{} needs the argument '{argument}'",
        address.without_output()
    ))
    .hint(format!("write {form}"))
}

fn file(address: &Address) -> Result<Action, Problem> {
    let [path] = arguments(address, &["f"])?;
    let path = path.ok_or_else(|| missing(address, "f", "//@heph/fs:file@f=PATH"))?;
    let resolved =
        crate::build_file::path::resolve("", path).map_err(|wrong| of_workspace(address, &wrong))?;
    match resolved == path {
        true => Ok(Action::File { path: resolved }),
        false => Err(Problem::new(format!(
            "the path of {} is not in its shortest form",
            address.without_output()
        ))
        .hint(format!("write f={resolved}"))),
    }
}

fn of_workspace(address: &Address, wrong: &str) -> Problem {
    Problem::new(format!(
        "{}: {}",
        address.without_output(),
        wrong.replace("the package", "the workspace root")
    ))
}

fn glob(address: &Address) -> Result<Action, Problem> {
    let [patterns, exclude] = arguments(address, &["p", "e"])?;
    let patterns = split_list(patterns.ok_or_else(|| missing(address, "p", "//@heph/fs:glob@p=PATTERN"))?);
    let exclude = split_list(exclude.unwrap_or_default());
    for pattern in patterns.iter().chain(&exclude) {
        Pattern::new(pattern).map_err(|error| of_workspace(address, &error.to_string()))?;
    }
    // Joined again they are what stands in the address, so that equal globs have equal addresses.
    debug_assert_eq!(split_list(&escape_list(&patterns)).len(), patterns.len());
    Ok(Action::Glob { patterns, exclude })
}

fn program(address: &Address) -> Result<Action, Problem> {
    arguments(address, &[])?;
    let name = &address.name;
    match name.contains('/') {
        true => Err(Problem::new(format!("'{name}' is not the name of a program"))
            .hint("programs are looked up on PATH: write //@heph/bin:gcc")),
        false => Ok(Action::HostProgram { name: name.clone() }),
    }
}

fn query(address: &Address) -> Result<Action, Problem> {
    let [expression] = arguments(address, &["expr"])?;
    let expression = expression.ok_or_else(|| missing(address, "expr", "//@heph/query:query@expr=QUERY"))?;
    let query = Query::parse(expression, "").map_err(|error| {
        let mut problem = of_workspace(address, &error.to_string());
        problem.hint = error.hint;
        problem
    })?;
    Ok(Action::Query {
        expression: query.to_string(),
    })
}
