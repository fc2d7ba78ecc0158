//! The shared libraries that the loader gives a program.
//!
//! Sources: ld.so(8) and glibc's `elf/dl-load.c` for the order of the search; musl's `ldso/dynlink.c` for its
//! programs. LD_LIBRARY_PATH and LD_PRELOAD have no say: no sandbox has them. Libraries that a program opens by
//! itself (`dlopen`) cannot be known.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ToolError;
use super::elf::Elf;
use super::evidence::{Evidence, Object};

/// A file that will be loaded with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Library {
    /// The name it was asked for by.
    pub(crate) name: String,
    /// Where it was found; `None` if nowhere.
    pub(crate) found: Option<Found>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// As the loader opens it.
    pub(crate) path: PathBuf,
    /// Without symlinks.
    pub(crate) resolved: PathBuf,
}

/// A loaded object, for its dependencies and search paths.
struct Loaded {
    elf: Arc<Elf>,
    /// Its directory, for `$ORIGIN`.
    origin: PathBuf,
    loader: Option<usize>,
}

/// Objects beyond this number are no program's.
const LIMIT: usize = 4096;

/// The loader and all libraries of the program at `resolved`, in the order in which they are loaded.
pub(crate) fn libraries(
    evidence: &mut Evidence<'_>,
    resolved: &Path,
    elf: &Arc<Elf>,
) -> Result<Vec<Library>, ToolError> {
    let mut search = Search::new(evidence, elf)?;
    let mut libraries = Vec::new();
    if let Some(interpreter) = &elf.interpreter {
        libraries.push(search.at(interpreter.clone(), Path::new(interpreter))?);
    }
    let origin = resolved.parent().unwrap_or(Path::new("/")).to_owned();
    let mut loaded = vec![Loaded {
        elf: elf.clone(),
        origin,
        loader: None,
    }];
    let mut names: HashSet<String> = HashSet::new();
    let mut queue: VecDeque<(usize, String)> = VecDeque::new();
    queue.extend(search.preloaded()?.into_iter().map(|name| (0, name)));
    queue.extend(elf.needed.iter().map(|name| (0, name.clone())));
    while let Some((asker, name)) = queue.pop_front() {
        if loaded.len() > LIMIT || search.is_loader(&name) || !names.insert(name.clone()) {
            continue;
        }
        let (library, variants) = search.find(&name, &loaded, asker)?;
        for library in variants.into_iter().chain([library]) {
            let object = match &library.found {
                Some(found) => search.elf(&found.resolved),
                None => None,
            };
            if let (Some(found), Some(elf)) = (&library.found, object) {
                let origin = found.path.parent().unwrap_or(Path::new("/")).to_owned();
                names.extend(elf.soname.clone());
                queue.extend(elf.needed.iter().map(|name| (loaded.len(), name.clone())));
                loaded.push(Loaded {
                    elf,
                    origin,
                    loader: Some(asker),
                });
            }
            if !libraries.contains(&library) {
                libraries.push(library);
            }
        }
    }
    Ok(libraries)
}

/// Names and resolved paths of what the program at `path` is loaded with; none for a script or a missing program.
pub(crate) fn libraries_of(
    evidence: &mut Evidence<'_>,
    path: &Path,
) -> Result<Vec<(String, PathBuf)>, ToolError> {
    let Some(resolved) = evidence.executable(path)? else {
        return Ok(Vec::new());
    };
    evidence.digest(&resolved)?;
    let Ok(Object::Elf(elf)) = evidence.contents.object(&resolved) else {
        return Ok(Vec::new());
    };
    let found = libraries(evidence, &resolved, &elf)?.into_iter();
    Ok(found
        .filter_map(|library| Some((library.name, library.found?.resolved)))
        .collect())
}

struct Search<'a, 'b> {
    evidence: &'a mut Evidence<'b>,
    elf: Arc<Elf>,
    musl: bool,
    defaults: Vec<PathBuf>,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(evidence: &'a mut Evidence<'b>, elf: &Arc<Elf>) -> Result<Self, ToolError> {
        let interpreter = elf.interpreter.as_deref().map(Path::new);
        let file_name = interpreter
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let musl = file_name.and_then(|name| name.strip_prefix("ld-musl-")?.strip_suffix(".so.1"));
        let defaults = match musl {
            Some(arch) => musl_directories(evidence, arch)?,
            None => default_directories(elf),
        };
        Ok(Self {
            musl: musl.is_some(),
            elf: elf.clone(),
            defaults,
            evidence,
        })
    }

    /// Names in `/etc/ld.so.preload`.
    fn preloaded(&mut self) -> Result<Vec<String>, ToolError> {
        if self.musl || self.elf.interpreter.is_none() {
            return Ok(Vec::new());
        }
        let text = self
            .evidence
            .text(Path::new("/etc/ld.so.preload"))?
            .unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let names = lines
            .flat_map(|line| line.split([' ', '\t', ':']))
            .filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// musl's loader is its libc, whatever name a program gives it.
    fn is_loader(&self, name: &str) -> bool {
        const OWN: [&str; 7] = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];
        let stem = name.strip_prefix("lib").and_then(|rest| rest.split('.').next());
        self.musl && stem.is_some_and(|stem| OWN.contains(&stem))
    }

    /// The library that `asker` gets for a name; and those that it gets on some CPUs instead.
    fn find(
        &mut self,
        name: &str,
        loaded: &[Loaded],
        asker: usize,
    ) -> Result<(Library, Vec<Library>), ToolError> {
        if name.contains('/') {
            let path = match loaded.get(asker) {
                Some(asker) => expand(name, &asker.origin).into_iter().next().unwrap_or_default(),
                None => PathBuf::from(name),
            };
            return Ok((self.at(name.to_owned(), &path)?, Vec::new()));
        }
        let mut variants = Vec::new();
        for directory in self.search_path(loaded, asker) {
            if let Some(library) = self.within(&directory, name, &mut variants)? {
                return Ok((library, variants));
            }
        }
        let no_default = loaded.get(asker).is_some_and(|asker| asker.elf.no_default);
        if !no_default && !self.musl {
            for cached in self.evidence.loader_cache()?.find(name) {
                let library = self.at(name.to_owned(), Path::new(&cached.path))?;
                match library.found.is_some() {
                    true if cached.special => variants.push(library),
                    true => return Ok((library, variants)),
                    false => {}
                }
            }
        }
        if !no_default {
            for directory in self.defaults.clone() {
                if let Some(library) = self.within(&directory, name, &mut variants)? {
                    return Ok((library, variants));
                }
            }
        }
        Ok((
            Library {
                name: name.to_owned(),
                found: None,
            },
            variants,
        ))
    }

    /// Directories of DT_RPATH and DT_RUNPATH in the order in which they are searched for `asker`.
    fn search_path(&self, loaded: &[Loaded], asker: usize) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        let Some(object) = loaded.get(asker) else {
            return directories;
        };
        let mut add = |object: &Loaded, paths: &[String]| {
            directories.extend(paths.iter().flat_map(|path| expand(path, &object.origin)));
        };
        if self.musl {
            let mut next = Some(object);
            while let Some(object) = next {
                add(object, object.elf.runpath.as_ref().unwrap_or(&object.elf.rpath));
                next = object.loader.and_then(|loader| loaded.get(loader));
            }
            return directories;
        }
        match &object.elf.runpath {
            Some(paths) => add(object, paths),
            None => {
                let mut next = Some(object);
                while let Some(object) = next {
                    add(object, &object.elf.rpath);
                    next = object.loader.and_then(|loader| loaded.get(loader));
                }
            }
        }
        directories
    }

    /// A library in one directory. What `glibc-hwcaps` has for better CPUs becomes a variant.
    fn within(
        &mut self,
        directory: &Path,
        name: &str,
        variants: &mut Vec<Library>,
    ) -> Result<Option<Library>, ToolError> {
        if !directory.is_absolute() {
            return Ok(None);
        }
        if !self.musl {
            let special = directory.join("glibc-hwcaps");
            for level in self.evidence.names(&special)?.unwrap_or_default() {
                let library = self.at(name.to_owned(), &special.join(level).join(name))?;
                variants.extend(library.found.is_some().then_some(library));
            }
        }
        let library = self.at(name.to_owned(), &directory.join(name))?;
        Ok(library.found.is_some().then_some(library))
    }

    /// The object at `path`, if there is one that fits the program.
    fn at(&mut self, name: String, path: &Path) -> Result<Library, ToolError> {
        // A relative name depends on where the program is started: nothing is known of it.
        if !path.is_absolute() {
            return Ok(Library { name, found: None });
        }
        let Some(resolved) = self.evidence.resolve(path)? else {
            return Ok(Library { name, found: None });
        };
        let fits = self.elf(&resolved).is_some_and(|elf| elf.kind == self.elf.kind);
        if !fits {
            self.evidence.passed(&resolved);
        }
        let found = fits.then(|| Found {
            path: path.to_owned(),
            resolved,
        });
        Ok(Library { name, found })
    }

    fn elf(&self, resolved: &Path) -> Option<Arc<Elf>> {
        match self.evidence.contents.object(resolved) {
            Ok(Object::Elf(elf)) => Some(elf),
            Ok(Object::Script(_) | Object::Other) | Err(_) => None,
        }
    }
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`; several results where the system decides.
fn expand(text: &str, origin: &Path) -> Vec<PathBuf> {
    let mut text = text.to_owned();
    for (name, value) in [
        ("ORIGIN", origin.to_string_lossy().as_ref()),
        ("PLATFORM", std::env::consts::ARCH),
    ] {
        text = text
            .replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value);
    }
    if !text.contains("$LIB") && !text.contains("${LIB}") {
        return vec![PathBuf::from(text)];
    }
    let multiarch = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let names = [multiarch.as_str(), "lib64", "lib"];
    names
        .map(|name| PathBuf::from(text.replace("${LIB}", name).replace("$LIB", name)))
        .into()
}

/// Where glibc looks when its cache has nothing: as the large distributions configure it.
fn default_directories(elf: &Elf) -> Vec<PathBuf> {
    let triple = match (elf.kind.machine, elf.kind.wide) {
        (62, true) => Some("x86_64-linux-gnu"),
        (62, false) => Some("x86_64-linux-gnux32"),
        (3, _) => Some("i386-linux-gnu"),
        (183, _) => Some("aarch64-linux-gnu"),
        (40, _) => Some("arm-linux-gnueabihf"),
        (243, _) => Some("riscv64-linux-gnu"),
        (22, _) => Some("s390x-linux-gnu"),
        (21, _) => Some("powerpc64le-linux-gnu"),
        _ => None,
    };
    let mut names: Vec<String> = Vec::new();
    names.extend(triple.map(|triple| format!("lib/{triple}")));
    if elf.kind.wide {
        names.push("lib64".to_owned());
    }
    names.push("lib".to_owned());
    let mut seen = BTreeSet::new();
    let directories = names
        .iter()
        .flat_map(|name| [format!("/{name}"), format!("/usr/{name}")]);
    directories
        .filter(|path| seen.insert(path.clone()))
        .map(PathBuf::from)
        .collect()
}

fn musl_directories(evidence: &mut Evidence<'_>, arch: &str) -> Result<Vec<PathBuf>, ToolError> {
    let configured = evidence.text(Path::new(&format!("/etc/ld-musl-{arch}.path")))?;
    let text = configured.unwrap_or_else(|| "/lib:/usr/local/lib:/usr/lib".to_owned());
    Ok(text
        .split([':', '\n'])
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
