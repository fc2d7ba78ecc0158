use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// Describes the machine, once more until nothing was changed a moment ago.
fn settled(inputs: &[String]) -> Platform {
    loop {
        let platform = platform(inputs, None).unwrap();
        if all_unchanged(&platform.files) {
            return platform;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn system(inputs: &[String], known: &Platform) -> Digest {
    platform(inputs, Some(known)).unwrap().system
}

#[test]
fn this_machine_has_a_name_a_release_and_a_libc() {
    let first = settled(&[]);
    assert_eq!(
        first.name,
        format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
    );
    assert_eq!(platform(&[], Some(&first)).unwrap(), first);
    let watched = |part: &str| {
        first
            .files
            .iter()
            .any(|file| file.path.to_string_lossy().contains(part))
    };
    assert!(watched("os-release"));
    assert!(watched("/libc.") || watched("/ld-musl"));
    let bytes = postcard::to_stdvec(&first).unwrap();
    assert_eq!(postcard::from_bytes::<Platform>(&bytes).unwrap(), first);
}

#[test]
fn system_inputs_count() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("sdk/deep")).unwrap();
    fs::write(path("sdk/VERSION"), "1").unwrap();
    let literal = [path("sdk/VERSION").display().to_string()];
    let glob = [path("sdk/*").display().to_string()];
    let deep = [path("**/*.h").display().to_string()];
    let (mut one, mut many, mut all) = (settled(&literal), settled(&glob), settled(&deep));
    assert_ne!(one.system, settled(&[]).system);

    fs::write(path("sdk/VERSION"), "2").unwrap();
    assert_ne!(system(&literal, &one), one.system);
    assert_ne!(system(&glob, &many), many.system);
    assert_eq!(system(&deep, &all), all.system);

    (one, many, all) = (settled(&literal), settled(&glob), settled(&deep));
    fs::write(path("sdk/deep/a.h"), "").unwrap();
    assert_eq!(system(&literal, &one), one.system);
    assert_eq!(system(&glob, &many), many.system);
    assert_ne!(system(&deep, &all), all.system);

    fs::remove_file(path("sdk/VERSION")).unwrap();
    assert_ne!(system(&literal, &one), one.system);
    assert_ne!(system(&glob, &many), many.system);
}

#[test]
fn wrong_system_inputs_are_errors() {
    let message = |glob: &str| {
        let problem = platform(&[glob.to_owned()], None).unwrap_err();
        format!("{}; {}", problem.message, problem.hint.unwrap_or_default())
    };
    insta::assert_snapshot!(message("sdk/VERSION"), @"sandbox.systemInputs: 'sdk/VERSION' is not an absolute path; name files outside the workspace, such as /opt/sdk/VERSION");
    insta::assert_snapshot!(message("/opt/[a"), @"sandbox.systemInputs: error parsing glob '/opt/[a': unclosed character class; missing ']'; ");
    // A directory is no file; it counts as being there.
    platform(&[Path::new("/usr").display().to_string()], None).unwrap();
}

const CPU: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\ncpu MHz\t\t: 2100.0\n\
    flags\t\t: fpu sse avx2\nbugs\t\t: spectre\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n\
    model\t\t: 85\ncpu MHz\t\t: 900.0\nflags\t\t: avx2 fpu sse\n";

#[test]
fn another_cpu_is_another_native() {
    let cpu = CpuInfo::parse(CPU);
    assert_eq!(cpu.processors.len(), 1);
    let same = CpuInfo::parse(&CPU.replace("2100.0", "3000.0").replace("spectre", ""));
    assert_eq!(native_cpu(&same), native_cpu(&cpu));
    for (from, to) in [
        ("avx2", "avx512f"),
        ("85", "86"),
        ("GenuineIntel", "AuthenticAMD"),
    ] {
        assert_ne!(
            native_cpu(&CpuInfo::parse(&CPU.replace(from, to))),
            native_cpu(&cpu),
            "{to}"
        );
    }
    let caches = CpuInfo {
        caches: vec!["32K".to_owned()],
        ..cpu.clone()
    };
    assert_ne!(native_cpu(&caches), native_cpu(&cpu));
    let mixed = CpuInfo::parse("CPU part : 0xd05\n\nCPU part : 0xd41\n");
    assert_eq!(
        native_cpu(&mixed),
        native_cpu(&CpuInfo::parse("CPU part : 0xd41\n\nCPU part : 0xd05\n"))
    );
    assert!(!CpuInfo::read().processors.is_empty());
}

#[test]
fn native_is_found_wherever_it_is_asked_for() {
    for texts in [
        &["gcc", "-O2", "-march=native"][..],
        &["clang -mcpu=native -c a.c"],
        &["-mtune=\"native\""],
        &["rustc", "-C", "target-cpu=native"],
        &["-Ctarget-cpu=native"],
        &["make CFLAGS='-O3 -march=native'"],
        &["gcc -march=$CPU a.c", "native"],
        &["icx", "-xHost"],
    ] {
        assert!(mentions_native(texts.iter().copied()), "{texts:?}");
    }
    for texts in [
        &["gcc", "-march=x86-64-v3"][..],
        &["javac", "-h", "native"],
        &["-march=x86-64", "libnative_loader", "natively"],
        &[],
    ] {
        assert!(!mentions_native(texts.iter().copied()), "{texts:?}");
    }
}
