use super::*;

/// A compiler that answers `-print-search-dirs` as GCC does.
fn fake_gcc(machine: &Machine, version: u32) {
    fs::create_dir_all(machine.path("gcc/bin")).unwrap();
    let install = machine.path("gcc/lib/gcc/machine/1");
    let parts = machine.path("gcc/libexec/gcc/machine/1");
    let source = format!(
        "#include <stdio.h>\nint main(void) {{ /* {version} */\n\
         puts(\"install: {0}/\\nprograms: ={1}/:{0}/\\nlibraries: =/lib/\"); return {version} * 0; }}",
        install.display(),
        parts.display()
    );
    machine.cc(&source, ["-o", "gcc/bin/gcc-1"]);
}

#[test]
fn the_parts_of_a_compiler_count() {
    let machine = Machine::new();
    fake_gcc(&machine, 1);
    machine.link("gcc/bin/cc", "gcc-1");
    machine.program("gcc/libexec/gcc/machine/1/cc1", "compiler 1");
    machine.write("gcc/lib/gcc/machine/1/include/stddef.h", "header 1");
    machine.program("system/as", "assembler 1");
    let linker = machine.program("system/ld", "linker 1");
    let finder = machine.finder(&["gcc/bin", "system"]);
    let brought = |tool: &Tool, name: &str| -> Option<PathBuf> {
        tool.brings
            .iter()
            .find(|(brought, _)| brought == name)
            .map(|(_, path)| path.clone())
    };

    let mut known = settled(&finder, "cc");
    assert_eq!(brought(&known, "ld"), Some(linker));
    assert_eq!(
        known.visible,
        [
            machine.path("gcc"),
            machine.path("system/as"),
            machine.path("system/ld")
        ]
    );
    let mut changed = |what: &str| {
        let next = finder.find("cc", Some(&known)).unwrap();
        assert_ne!(next.digest, known.digest, "{what}");
        known = settled(&finder, "cc");
        next
    };
    machine.program("gcc/libexec/gcc/machine/1/cc1", "compiler 2");
    changed("cc1");
    machine.write("gcc/lib/gcc/machine/1/include/stddef.h", "header 2");
    changed("a header");
    machine.write("gcc/lib/gcc/machine/1/specs", "specs");
    changed("new specs");
    machine.program("system/ld", "linker 2");
    changed("ld");
    // The compiler prefers what lies beside its parts.
    let own = machine.program("gcc/libexec/gcc/machine/1/as", "assembler 2");
    assert_eq!(brought(&changed("as"), "as"), Some(own));
    machine.program("gcc/libexec/gcc/machine/1/cc1plus", "compiler for C++");
    changed("cc1plus");
}

#[test]
fn a_program_that_only_has_a_compilers_name_is_one_file() {
    let machine = Machine::new();
    machine.cc("int main(void) { return 1; }", ["-o", "gcc"]);
    machine.program("cc", "#!/bin/sh\nexit 1\n");
    let finder = machine.finder(&[""]);
    assert!(finder.find("gcc", None).unwrap().brings.is_empty());
    assert!(finder.find("cc", None).unwrap().brings.is_empty());
}

#[test]
fn the_real_compiler_brings_what_it_runs() {
    let path: Vec<PathBuf> = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).to_vec();
    let finder = ToolFinder::new(&path, &BTreeMap::new(), None, Path::new("/nowhere"));
    let tool = finder.find("gcc", None).unwrap();
    let names: Vec<&str> = tool.brings.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"as") && names.contains(&"ld"), "{names:?}");
    let has = |name: &str| tool.files.iter().any(|watched| watched.path.ends_with(name));
    assert!(has("cc1") && has("collect2") && has("libgcc.a") && has("include/stddef.h"));
    assert!(tool.visible.is_empty());

    // It works from a link in a directory that has nothing else.
    let machine = Machine::new();
    machine.link("bin/gcc", &tool.resolved);
    for (name, path) in &tool.brings {
        machine.link(&format!("bin/{name}"), path);
    }
    let source = machine.write("a.c", "int main(void) { return 0; }");
    let status = Command::new(machine.path("bin/gcc"))
        .arg(source)
        .args(["-o", "a.out"])
        .current_dir(machine.directory.path())
        .env_clear()
        .env("PATH", machine.path("bin"))
        .status();
    assert!(status.unwrap().success());
    assert!(Command::new(machine.path("a.out")).status().unwrap().success());
}

#[test]
fn a_python_knows_its_packages() {
    let machine = Machine::new();
    machine.program("py/bin/python3", "the interpreter");
    let packages = "py/lib/python3.12/site-packages";
    machine.write(&format!("{packages}/numpy-1.0.dist-info/METADATA"), "");
    let finder = machine.finder(&["py/bin"]);
    let first = settled(&finder, "python3");
    assert_eq!(first.visible, [machine.path("py")]);

    machine.write(&format!("{packages}/__pycache__/x.pyc"), "");
    assert_eq!(finder.find("python3", Some(&first)).unwrap().digest, first.digest);
    let first = settled(&finder, "python3");
    fs::rename(
        machine.path(&format!("{packages}/numpy-1.0.dist-info")),
        machine.path(&format!("{packages}/numpy-1.1.dist-info")),
    )
    .unwrap();
    assert_ne!(finder.find("python3", Some(&first)).unwrap().digest, first.digest);
}

#[test]
fn cargo_brings_its_rustc_with_its_libraries() {
    let machine = Machine::new();
    machine.program("rust/bin/cargo", "cargo");
    let rustc = machine.program("rust/bin/rustc", "rustc");
    machine.write("rust/lib/rustlib/a-triple/lib/libcore.rlib", "core 1");
    machine.program("system/cc", "#!/bin/sh\n");
    let finder = machine.finder(&["rust/bin", "system"]);
    let first = settled(&finder, "cargo");
    assert_eq!(first.brings.first(), Some(&("rustc".to_owned(), rustc)));
    assert_eq!(
        first.brings.last(),
        Some(&("cc".to_owned(), machine.path("system/cc")))
    );
    machine.write("rust/lib/rustlib/a-triple/lib/libcore.rlib", "core 2");
    assert_ne!(finder.find("cargo", Some(&first)).unwrap().digest, first.digest);
}

#[test]
fn go_knows_its_tools() {
    let machine = Machine::new();
    machine.program("home/go/bin/go", "go");
    machine.write("home/go/VERSION", "go1.22.1");
    machine.program("home/go/pkg/tool/linux_amd64/compile", "compile 1");
    let finder = machine.finder(&["home/go/bin"]);
    let first = settled(&finder, "go");
    assert_eq!(first.visible, [machine.path("home/go")]);
    machine.program("home/go/pkg/tool/linux_amd64/compile", "compile 2");
    assert_ne!(finder.find("go", Some(&first)).unwrap().digest, first.digest);
}

#[test]
fn a_script_of_a_node_package_knows_its_version() {
    let machine = Machine::new();
    machine.program("node/lib/node_modules/npm/bin/npm-cli.js", "#!/bin/sh\n");
    machine.write("node/lib/node_modules/npm/package.json", "1");
    machine.link("node/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js");
    let finder = machine.finder(&["node/bin"]);
    let first = settled(&finder, "npm");
    machine.write("node/lib/node_modules/npm/package.json", "2");
    assert_ne!(finder.find("npm", Some(&first)).unwrap().digest, first.digest);
    assert_eq!(first.visible, [machine.path("node")]);
}
