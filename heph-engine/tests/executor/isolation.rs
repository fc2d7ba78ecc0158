//! Strict mode: what a command sees, and what it does not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use heph_proto::input::Source;
use heph_proto::{FailureKind, SandboxMode};

use crate::support::{Bench, completed, failed, host_tool, inline, log, output, outputs};

/// A bench whose strict mode works.
fn strict(test: &str) -> Option<Bench> {
    let bench = Bench::new();
    bench.is_strict(test).then_some(bench)
}

/// What a script prints in strict mode.
#[track_caller]
fn prints(bench: &Bench, script: &str) -> String {
    let report = bench.run(bench.plan(SandboxMode::Strict, script));
    completed(&report);
    log(&report)
}

#[test]
fn undeclared_reads_fail_and_the_hint_names_the_key() {
    let Some(bench) = strict("undeclared_reads_fail_and_the_hint_names_the_key") else {
        return;
    };
    bench.source("pkg/secret.txt", "secret");
    bench.source("other/secret.txt", "secret");
    let cases = [
        ("cat secret.txt", "deps = [file(\"secret.txt\")]"),
        (
            "cat ../other/secret.txt",
            "deps = [\"//@heph/fs:file@f=other/secret.txt\"]",
        ),
        (
            "cat $WORKSPACE_ROOT/pkg/secret.txt",
            "deps = [file(\"secret.txt\")]",
        ),
        (
            &format!("cat {}/pkg/secret.txt", bench.root.display()),
            "deps = [file(\"secret.txt\")]",
        ),
    ];
    for (script, key) in cases {
        let report = bench.run(bench.plan(SandboxMode::Strict, script));
        let failed = failed(&report);
        assert_eq!(failed.kind(), FailureKind::Command);
        assert_eq!(failed.exit_code, Some(1));
        assert!(failed.hint.ends_with(key), "{script}: {}", failed.hint);
        assert!(
            failed.log_tail[0].contains("No such file or directory"),
            "{failed:?}"
        );
    }
}

#[test]
fn the_file_system_has_the_system_and_the_sandbox_only() {
    let Some(bench) = strict("the_file_system_has_the_system_and_the_sandbox_only") else {
        return;
    };
    let top = prints(&bench, "ls /");
    for entry in top.lines() {
        let known = "bin dev etc heph heph-base lib lib32 lib64 libx32 proc run sbin sys tmp usr var nix";
        assert!(known.split(' ').any(|name| name == entry), "{entry} is visible");
    }
    assert_eq!(
        prints(&bench, "ls /run /sys; ls -A /var /tmp /dev/shm"),
        "/run:\n\n/sys:\n/dev/shm:\n\n/tmp:\n\n/var:\ntmp\n"
    );
    let devices = "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(
        prints(&bench, "ls /dev")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        devices
    );
    assert_eq!(
        prints(
            &bench,
            "head -c 3 /dev/zero | od -An -tx1; head -c 4 /dev/urandom | wc -c"
        ),
        " 00 00 00\n4\n"
    );
    assert_eq!(prints(&bench, "ls /heph"), "home\nlist\ntmp\nws\n");
}

#[test]
fn the_system_cannot_be_written() {
    let Some(bench) = strict("the_system_cannot_be_written") else {
        return;
    };
    for path in [
        "/usr/x",
        "/etc/x",
        "/x",
        "/dev/x",
        "/heph-base/x",
        "/bin/x",
        "/etc/passwd",
        "/var/x",
        "/run/x",
    ] {
        let script = format!("if (echo x >> {path}) 2>/dev/null; then echo written; fi");
        assert_eq!(prints(&bench, &script), "", "{path}");
    }
    assert!(!Path::new("/usr/x").exists());
    // Root may read it on the machine, and has no other number in the kernel here.
    assert_eq!(prints(&bench, "cat /etc/shadow 2>/dev/null | wc -c"), "0\n");
}

#[test]
fn temporary_places_are_private_and_begin_empty() {
    let Some(bench) = strict("temporary_places_are_private_and_begin_empty") else {
        return;
    };
    let script = "ls -A /tmp /var/tmp /dev/shm $TMPDIR $HOME; echo x > /tmp/x; echo y > /dev/shm/y; cat $TMPDIR/x; stat -c %a /dev/shm";
    for _ in 0..2 {
        assert_eq!(
            prints(&bench, script),
            "/dev/shm:\n\n/heph/home:\n\n/heph/tmp:\n\n/tmp:\n\n/var/tmp:\nx\n1777\n"
        );
    }
}

#[test]
fn processes_of_the_machine_are_not_seen() {
    let Some(bench) = strict("processes_of_the_machine_are_not_seen") else {
        return;
    };
    // Process 1 cannot be killed from inside.
    let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; kill -9 1; echo alive";
    let text = prints(&bench, script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0].trim(), "heph supervise");
    assert!(lines[1].starts_with("sh -euc"), "{lines:?}");
    assert_eq!(lines[2], "alive");
}

#[test]
fn the_user_is_the_same_everywhere_and_has_no_rights() {
    let Some(bench) = strict("the_user_is_the_same_everywhere_and_has_no_rights") else {
        return;
    };
    assert_eq!(
        prints(&bench, "id -u; id -g; id -un; hostname; uname -n"),
        "1000\n1000\nheph\nheph\nheph\n"
    );
    let status = prints(
        &bench,
        "grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs' /proc/self/status",
    );
    for line in status.lines() {
        let value = line.split_whitespace().last().unwrap();
        let expected = if line.starts_with("NoNewPrivs") {
            "1"
        } else {
            "0000000000000000"
        };
        assert_eq!(value, expected, "{line}");
    }
    for script in [
        "mount -t tmpfs x /tmp",
        "umount /proc",
        "hostname other",
        "chown 0 /heph/ws",
    ] {
        let mut plan = bench.plan(SandboxMode::Strict, script);
        plan.extra_path = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .map(str::to_owned)
            .to_vec();
        failed(&bench.run(plan));
    }
}

#[test]
fn the_network_is_loopback_only_unless_declared() {
    let Some(bench) = strict("the_network_is_loopback_only_unless_declared") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3");
    let bash = |script: &str, network| {
        let script = format!("bash -c '{script}'");
        let mut plan = bench.plan(SandboxMode::Strict, &script);
        plan.network = network;
        plan
    };
    let report = bench.run(bash(&connect, false));
    assert!(
        failed(&report).log_tail.join(" ").contains("Connection refused"),
        "{report:?}"
    );
    assert_eq!(prints(&bench, "cut -s -d: -f1 /proc/net/dev | tr -d ' '"), "lo\n");

    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n"));
    let report = bench.run(bash(&connect, true));
    assert_eq!(log(&report), "hello\n");
    server.join().unwrap().unwrap();
}

#[test]
fn loopback_works_and_leaves_nothing_for_the_next_command() {
    let Some(bench) = strict("loopback_works_and_leaves_nothing_for_the_next_command") else {
        return;
    };
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        eprintln!("SKIPPED: loopback_works_and_leaves_nothing_for_the_next_command: no python3");
        return;
    }
    let script = "import socket\n\
        s=socket.socket(); s.bind(('127.0.0.1', 4567)); s.listen()\n\
        c=socket.create_connection(('127.0.0.1', 4567)); a,_=s.accept(); a.send(b'x'); print(c.recv(1)); a.close(); c.close()\n\
        u=socket.socket(socket.AF_UNIX); u.bind('\\0heph-test'); print(open('/proc/net/sockstat').read().split('tw ')[1].split()[0])";
    // Without a namespace of its own the second would find the address in TIME_WAIT.
    for _ in 0..3 {
        let mut plan = bench.plan(SandboxMode::Strict, "python3 -c \"$CODE\"");
        plan.environment = vec![crate::support::variable("CODE", script)];
        plan.tools = vec![host_tool("python3", python)];
        let report = bench.run(plan);
        assert_eq!(log(&report), "b'x'\n1\n");
    }
}

#[test]
fn shared_memory_of_system_v_does_not_outlive_its_command() {
    let Some(bench) = strict("shared_memory_of_system_v_does_not_outlive_its_command") else {
        return;
    };
    let mut plan = bench.plan(
        SandboxMode::Strict,
        "ipcmk -M 4096 >/dev/null; wc -l < /proc/sysvipc/shm",
    );
    plan.extra_path = vec!["/usr/bin".to_owned()];
    for _ in 0..2 {
        assert_eq!(log(&bench.run(plan.clone())), "2\n");
    }
}

#[test]
fn the_place_of_the_sandbox_is_not_in_what_compilers_write() {
    let Some(bench) = strict("the_place_of_the_sandbox_is_not_in_what_compilers_write") else {
        return;
    };
    if !Path::new("/usr/bin/gcc").exists() {
        eprintln!("SKIPPED: the_place_of_the_sandbox_is_not_in_what_compilers_write: no gcc");
        return;
    }
    let mut objects = Vec::new();
    for id in ["first", "second"] {
        let mut plan = bench.plan(SandboxMode::Strict, "gcc -g -c main.c -o main.o");
        plan.sandbox_id = id.to_owned();
        plan.inputs = vec![inline(
            "pkg/main.c",
            "#include <stdio.h>\nint main(void) { puts(__FILE__); }\n",
        )];
        plan.tools = ["gcc", "as", "ld"]
            .map(|name| host_tool(name, &Path::new("/usr/bin").join(name)))
            .to_vec();
        plan.outputs = vec![output("pkg/main.o")];
        let report = bench.run(plan);
        let object = completed(&report).outputs[0].content.clone().unwrap();
        let Some(heph_proto::content::Content::Inline(bytes)) = object.content else {
            panic!("a small object is inline");
        };
        let home = bench.home.to_str().unwrap().as_bytes();
        assert!(!bytes.windows(home.len()).any(|window| window == home));
        objects.push(bytes);
    }
    assert_eq!(objects[0], objects[1]);
}

#[test]
fn visible_paths_are_shown_read_only_with_the_links_that_lead_there() {
    let Some(bench) = strict("visible_paths_are_shown_read_only_with_the_links_that_lead_there") else {
        return;
    };
    // /tmp is private: what is visible of the machine's is shown in it.
    let outside = env!("CARGO_TARGET_TMPDIR");
    let is_private = ["/tmp", "/var/tmp"]
        .iter()
        .any(|private| Path::new(outside).starts_with(private));
    for (parent, siblings) in [
        (outside, if is_private { "current\n" } else { "current\nv2\n" }),
        ("/var/tmp", "current\n"),
        ("/tmp", "current\n"),
    ] {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let tools = directory.path();
        std::fs::create_dir_all(tools.join("v2/bin")).unwrap();
        std::fs::write(tools.join("v2/bin/data"), "from the tool\n").unwrap();
        std::fs::write(tools.join("other"), "").unwrap();
        std::os::unix::fs::symlink("v2", tools.join("current")).unwrap();
        let visible = tools.join("current/bin");
        let mut plan = bench.plan(
            SandboxMode::Strict,
            "cat $P/data; (echo x > $P/data) 2>/dev/null || echo read-only; ls $P/../..",
        );
        plan.visible = vec![visible.to_str().unwrap().to_owned()];
        plan.environment = vec![crate::support::variable("P", visible.to_str().unwrap())];
        let report = bench.run(plan);
        assert_eq!(log(&report), format!("from the tool\nread-only\n{siblings}"));
    }

    let mut plan = bench.plan(SandboxMode::Strict, "true");
    plan.visible = vec!["/nowhere/at/all".to_owned()];
    let report = bench.run(plan);
    assert_eq!(failed(&report).kind(), FailureKind::Staging);
    assert!(
        failed(&report).message.contains("/nowhere/at/all"),
        "{}",
        failed(&report).message
    );
}

#[test]
fn homes_and_workspaces_below_system_directories_are_hidden() {
    let test = "homes_and_workspaces_below_system_directories_are_hidden";
    let Ok(directory) = tempfile::tempdir_in("/usr/local") else {
        eprintln!("SKIPPED: {test}: /usr/local cannot be written");
        return;
    };
    let bench = Bench::at(directory.path());
    if !bench.is_strict(test) {
        return;
    }
    bench.source("pkg/secret.txt", "secret");
    let script = format!(
        "ls -A {} {}; cat {}/pkg/secret.txt",
        bench.root.display(),
        bench.home.display(),
        bench.root.display()
    );
    let report = bench.run(bench.plan(SandboxMode::Strict, &script));
    let log = failed(&report).log_tail.join("\n");
    assert!(!log.contains("sandbox") && log.contains("No such file"), "{log}");
    assert!(
        !failed(&report).log_tail.iter().any(|line| line == "pkg"),
        "{log}"
    );
}

#[test]
fn read_only_inputs_are_shown_without_a_copy() {
    let Some(bench) = strict("read_only_inputs_are_shown_without_a_copy") else {
        return;
    };
    let blob = bench.root.parent().unwrap().join("blob");
    let text = "x".repeat(1_000_000);
    std::fs::write(&blob, &text).unwrap();
    let mut input = inline("pkg/large", &text);
    input.source = Some(Source::BlobFile(blob.to_str().unwrap().to_owned()));
    input.read_only = true;
    let mut plan = bench.plan(
        SandboxMode::Strict,
        "wc -c < large; (echo y >> large) 2>/dev/null || echo no; (rm -f large) 2>/dev/null || echo no; stat -c %i large > inode",
    );
    plan.inputs = vec![input];
    plan.outputs = vec![output("pkg/inode")];
    let report = bench.run(plan);
    assert_eq!(log(&report), "1000000\nno\nno\n");
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&blob).unwrap());
    assert_eq!(outputs(&report)[0].2, format!("{inode}\n"));
    assert_eq!(std::fs::read_to_string(&blob).unwrap(), text);
}

#[test]
fn strict_mode_that_is_demanded_is_not_replaced() {
    // A supervisor whose namespaces cannot be made: the limit of them is used up.
    let bench = Bench::new();
    let probe = bench.block_on(bench.executor.probe());
    if probe.mode == SandboxMode::Strict {
        let report = bench.run(bench.plan(SandboxMode::Unspecified, "true"));
        assert_eq!(report.sandbox(), SandboxMode::Strict);
        return;
    }
    let report = bench.run(bench.plan(SandboxMode::Strict, "true"));
    assert_eq!(failed(&report).kind(), FailureKind::Staging);
    assert!(failed(&report).message.contains(&probe.obstacle.unwrap()));
    let report = bench.run(bench.plan(SandboxMode::Unspecified, "true"));
    assert_eq!(report.sandbox(), SandboxMode::Standard);
}

#[test]
fn everybody_gets_strict_mode_not_only_root() {
    let test = "everybody_gets_strict_mode_not_only_root";
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: not root, so all other tests show it");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sandboxed");
    std::fs::copy(crate::support::sandboxed(), &program).unwrap();
    for path in [directory.path(), &program] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let home = directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    let mut command = std::process::Command::new(&program);
    std::os::unix::process::CommandExt::uid(&mut command, 65534);
    std::os::unix::process::CommandExt::gid(&mut command, 65534);
    let mut child = command
        .args([
            "strict".as_ref(),
            home.as_os_str(),
            "id -u; hostname; ls -A /tmp; touch /usr/x 2>/dev/null || echo no".as_ref(),
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    if status.code() == Some(125) {
        eprintln!("SKIPPED: {test}: unprivileged user namespaces do not work here");
        return;
    }
    assert_eq!(text, "1000\nheph\nno\n");
}
