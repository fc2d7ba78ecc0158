use super::*;

const MAIN: &str = "int answer(void); int main(void) { return answer(); }";

fn library(machine: &Machine, path: &str, answer: u32) {
    fs::create_dir_all(machine.path(path).parent().unwrap()).unwrap();
    let name = machine
        .path(path)
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let new = format!("{path}.new");
    let soname = format!("-Wl,-soname,{name}");
    machine.cc(
        &format!("int answer(void) {{ return {answer}; }}"),
        ["-shared", "-fPIC", &soname, "-o", &new],
    );
    fs::rename(machine.path(&new), machine.path(path)).unwrap();
}

#[test]
fn a_changed_library_makes_another_tool() {
    let machine = Machine::new();
    library(&machine, "prefix/lib/libanswer.so.1", 1);
    fs::create_dir_all(machine.path("prefix/bin")).unwrap();
    let lib = machine.path("prefix/lib/libanswer.so.1");
    let run_path = "-Wl,-rpath,$ORIGIN/../early:$ORIGIN/../lib";
    machine.cc(
        MAIN,
        [
            lib.to_str().unwrap(),
            run_path,
            "-Wl,--enable-new-dtags",
            "-o",
            "prefix/bin/tool",
        ],
    );
    let finder = machine.finder(&["prefix/bin"]);
    let first = settled(&finder, "tool");
    assert!(first.files.iter().any(|watched| watched.path == lib));

    library(&machine, "prefix/lib/libanswer.so.1", 2);
    assert!(!ToolFinder::unchanged(&first));
    let second = finder.find("tool", Some(&first)).unwrap();
    assert_ne!(second.digest, first.digest);

    // One that is found earlier; then one that does not fit and is passed over.
    let second = settled(&finder, "tool");
    library(&machine, "prefix/early/libanswer.so.1", 1);
    assert_eq!(finder.find("tool", Some(&second)).unwrap().digest, first.digest);
    let third = settled(&finder, "tool");
    machine.write("prefix/early/libanswer.so.1", "no library");
    assert_eq!(finder.find("tool", Some(&third)).unwrap().digest, second.digest);

    // None at all; it comes back.
    fs::remove_file(&lib).unwrap();
    let lost = settled(&finder, "tool");
    assert_ne!(lost.digest, second.digest);
    library(&machine, "prefix/lib/libanswer.so.1", 2);
    assert_eq!(finder.find("tool", Some(&lost)).unwrap().digest, second.digest);
}

#[test]
fn better_libraries_for_some_cpus_count() {
    let machine = Machine::new();
    library(&machine, "lib/libanswer.so.1", 1);
    let run_path = format!("-Wl,-rpath,{}", machine.path("lib").display());
    machine.cc(MAIN, ["lib/libanswer.so.1", &run_path, "-o", "tool"]);
    let finder = machine.finder(&[""]);
    let first = settled(&finder, "tool");
    library(&machine, "lib/glibc-hwcaps/x86-64-v3/libanswer.so.1", 3);
    assert_ne!(finder.find("tool", Some(&first)).unwrap().digest, first.digest);
}

/// DT_RPATH is inherited by libraries, DT_RUNPATH is not.
#[test]
fn libraries_of_libraries_are_followed() {
    let machine = Machine::new();
    library(&machine, "lib/libanswer.so", 1);
    let middle = "int answer(void); int middle(void) { return answer(); }";
    let link = [
        "-shared",
        "-fPIC",
        "-Wl,-soname,libmiddle.so",
        "lib/libanswer.so",
        "-o",
        "lib/libmiddle.so",
    ];
    machine.cc(middle, link);
    let main = "int middle(void); int main(void) { return middle(); }";
    let run_path = format!("-Wl,-rpath,{}", machine.path("lib").display());
    for (tags, name) in [
        ("--disable-new-dtags", "inherits"),
        ("--enable-new-dtags", "alone"),
    ] {
        let tags = format!("-Wl,{tags}");
        let link = [
            "lib/libmiddle.so",
            "-Wl,--allow-shlib-undefined",
            &run_path,
            &tags,
            "-o",
            name,
        ];
        machine.cc(main, link);
    }
    let found = |name: &str| {
        let contents = Contents::default();
        let mut evidence = Evidence::new(&contents);
        let libraries = libraries_of(&mut evidence, &machine.path(name)).unwrap();
        libraries
            .into_iter()
            .any(|(_, path)| path == machine.path("lib/libanswer.so"))
    };
    assert!(found("inherits"));
    assert!(!found("alone"));
}

/// The loader itself is the judge.
#[test]
fn libraries_are_those_that_the_loader_gives() {
    let mut programs: Vec<PathBuf> = base_set(None)
        .programs
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    programs.extend(["/usr/bin/cc", "/usr/bin/git", "/usr/bin/perl", "/usr/bin/python3"].map(PathBuf::from));
    let contents = Contents::default();
    let mut compared = 0;
    for program in programs {
        let mut evidence = Evidence::new(&contents);
        let mut ours: Vec<PathBuf> = libraries_of(&mut evidence, &program)
            .unwrap()
            .into_iter()
            .map(|(_, path)| path)
            .collect();
        let Some(loader) = ours.first().cloned() else {
            continue;
        };
        let output = Command::new(&loader)
            .arg("--list")
            .arg(&program)
            .env_clear()
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut theirs: Vec<PathBuf> = text
            .lines()
            .filter_map(|line| line.trim().split_once(" (0x").map(|(line, _)| line))
            .map(|line| line.split_once(" => ").map_or(line, |(_, path)| path))
            .filter(|path| path.starts_with('/'))
            .map(|path| fs::canonicalize(path).unwrap())
            .chain([fs::canonicalize(&loader).unwrap()])
            .collect();
        for paths in [&mut ours, &mut theirs] {
            paths.sort();
            paths.dedup();
        }
        assert_eq!(ours, theirs, "{}", program.display());
        compared += 1;
    }
    assert!(compared > 20);
}
