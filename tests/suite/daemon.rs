//! Finding the daemon, starting it, and going on without. How it lives and ends is in `daemon_life`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use heph_tests::{Environment, Mode, Run, heph_program, needs, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::set_thread_res_uid;

/// Some user that is nobody here.
const STRANGER: u32 = 12345;

/// A workspace with one target, and a daemon for whoever wants one.
pub(crate) fn workspace() -> Environment {
    let env = Environment::new().with_mode(Mode::Fresh);
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo t > $OUT', out='t')\n",
    );
    env
}

/// As a user has it who has set nothing.
fn auto(env: &Environment, arguments: &[&str]) -> Run {
    env.heph(arguments).with("HEPH_DAEMON", "auto").run()
}

/// The one daemon there is.
pub(crate) fn daemon(env: &Environment) -> Pid {
    let daemons = env.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    daemons[0]
}

pub(crate) fn kill(env: &Environment) -> Pid {
    let pid = daemon(env);
    kill_process(pid, Signal::KILL).unwrap();
    // Whoever used it may have started the next one by now.
    wait_until("the daemon is dead", || !env.daemons().contains(&pid));
    pid
}

/// Stops a process, and waits until none of its threads runs any more.
pub(crate) fn stop(pid: Pid) {
    kill_process(pid, Signal::STOP).unwrap();
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    wait_until("it is stopped", || {
        let is_stopped = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        fs::read_dir(&threads).unwrap().flatten().all(is_stopped)
    });
}

/// Directories of daemons, each with its log.
pub(crate) fn places(env: &Environment) -> Vec<PathBuf> {
    let children = |path: &Path| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let builds = children(&env.home().join("run")).collect::<Vec<_>>();
    let mut places: Vec<_> = builds.iter().flat_map(|build| children(build)).collect();
    places.retain(|place| place.join("log").is_file());
    places
}

fn place(env: &Environment) -> PathBuf {
    let mut places = places(env);
    assert_eq!(places.len(), 1, "{places:?}");
    places.remove(0)
}

fn socket(env: &Environment) -> PathBuf {
    PathBuf::from(fs::read_to_string(place(env).join("address")).unwrap().trim_end())
}

fn warnings(run: &Run) -> usize {
    run.err().matches("warning:").count()
}

/// It did what it was asked, without the daemon, and said so once.
#[track_caller]
fn went_on_alone(run: &Run) {
    run.success().says("working without the daemon");
    assert_eq!(warnings(run), 1, "{run}");
}

#[test]
fn two_hundred_clients_at_once_start_one_daemon() {
    let env = workspace();
    let clients: Vec<_> = (0..200).map(|_| env.heph(["query", "//:t"]).start()).collect();
    for client in clients {
        let run = client.wait();
        run.success();
        assert_eq!(run.out(), "//:t\n");
        assert_eq!(run.err(), "");
    }
    let log = fs::read_to_string(place(&env).join("log")).unwrap();
    assert_eq!(log.matches(" ready: ").count(), 1, "{log}");
    daemon(&env);
}

#[test]
fn a_killed_daemon_has_a_successor() {
    let env = workspace();
    env.build("//...");
    let first = kill(&env);
    assert!(socket(&env).exists(), "it had no time to remove its socket");
    assert!(env.build("//...").executed().is_empty());
    assert_ne!(daemon(&env), first);
}

#[test]
fn what_else_listens_on_its_socket_is_left_alone() {
    let env = workspace();
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
        b"no daemon at all",
    ] {
        env.heph(["daemon", "start"]).run().success();
        kill(&env);
        let socket = socket(&env);
        fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let foreign = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut heard = [0; 4];
                // Some only look whether anybody is there.
                let _ = stream.write_all(answer);
                if stream.read(&mut heard).is_ok() && &heard == b"end\n" {
                    return;
                }
            }
        });
        let run = auto(&env, &["run", "//..."]);
        went_on_alone(&run);
        run.says("is not the daemon\nhint: end it, or remove ");
        env.heph(["run", "//..."])
            .run()
            .exits(3)
            .says("is not the daemon");
        assert!(socket.exists());
        UnixStream::connect(&socket).unwrap().write_all(b"end\n").unwrap();
        foreign.join().unwrap();
        fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn a_daemon_that_hangs_costs_a_second_and_a_warning() {
    let env = workspace();
    env.heph(["daemon", "start"]).run().success();
    let pid = daemon(&env);
    stop(pid);
    let run = auto(&env, &["query", "//..."]);
    kill_process(pid, Signal::CONT).unwrap();
    went_on_alone(&run);
    run.says("did not answer within 1s");
    assert_eq!(run.out(), "//:t\n");
}

#[test]
fn a_server_of_another_user_is_refused() {
    let test = "a_server_of_another_user_is_refused";
    if !needs(test, "root", rustix::process::geteuid().is_root()) {
        return;
    }
    let env = workspace();
    env.heph(["daemon", "start"]).run().success();
    kill(&env);
    let socket = socket(&env);
    fs::remove_file(&socket).unwrap();
    let (ready, is_ready) = mpsc::channel();
    let at = socket.clone();
    let stranger = std::thread::spawn(move || {
        let listener = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&at).unwrap()).unwrap();
        // Who listens is who the other end sees; only this thread becomes somebody else.
        let user = rustix::process::Uid::from_raw(STRANGER);
        set_thread_res_uid(user, user, user).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        ready.send(()).unwrap();
        let mut stream = UnixStream::from(rustix::net::accept(&listener).unwrap());
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard
    });
    is_ready.recv().unwrap();
    let run = auto(&env, &["query", "//..."]);
    went_on_alone(&run);
    run.says("user 12345 is at the other end");
    assert_eq!(stranger.join().unwrap(), b"", "a stranger is told nothing");
}

#[test]
fn clients_of_another_user_are_refused() {
    let test = "clients_of_another_user_are_refused";
    let setpriv = program("setpriv");
    if !needs(
        test,
        "root and setpriv",
        rustix::process::geteuid().is_root() && setpriv.is_some(),
    ) {
        return;
    }
    let env = workspace();
    let own = env.beside("heph");
    fs::copy(heph_program(), &own).unwrap();
    chown_all(&env.beside(""), STRANGER);
    let user = format!("--reuid={STRANGER}");
    let as_stranger = ["/usr/bin/env", "setpriv", user.as_str(), "--clear-groups"];
    let run = env.heph(["query", "//..."]).by(own).within(&as_stranger).run();
    assert_eq!(run.success().out(), "//:t\n");
    // Root may enter every directory, and is another user all the same.
    let mut stream = UnixStream::connect(socket(&env)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut heard = Vec::new();
    // Closed, or closed with what was sent unread.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let _ = stream.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    let log = || fs::read_to_string(place(&env).join("log")).unwrap();
    wait_until("it is in the log", || {
        log().contains("a client was refused: user 0 is at the other end")
    });
}

fn chown_all(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            chown_all(&entry.path(), user);
        }
    }
}

#[test]
fn a_socket_directory_that_others_can_enter_is_refused_with_the_cure() {
    let mut env = workspace();
    let runtime = env.beside("runtime");
    fs::create_dir(&runtime).unwrap();
    env.set("XDG_RUNTIME_DIR", runtime.to_str().unwrap());
    env.heph(["daemon", "start"]).run().success();
    assert_eq!(socket(&env).parent().unwrap(), runtime.join("heph"));
    let place = place(&env);
    for directory in [runtime.join("heph"), place] {
        env.stop_daemons();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let run = auto(&env, &["query", "//..."]);
        went_on_alone(&run);
        let shown = directory.display();
        run.says(&format!(
            "the socket directory {shown} is open to other users (mode 755)\nhint: chmod 700 {shown}\n"
        ));
        env.heph(["query", "//..."])
            .run()
            .exits(3)
            .says(&format!("chmod 700 {shown}"));
        if rustix::process::geteuid().is_root() {
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&directory, Some(STRANGER), None).unwrap();
            let run = auto(&env, &["query", "//..."]);
            went_on_alone(&run);
            run.says(&format!("{shown} belongs to user {STRANGER}"));
            chown(&directory, Some(0), None).unwrap();
        }
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        env.heph(["query", "//..."]).run().success();
    }
}

#[test]
fn a_home_with_a_long_path_has_a_daemon_too() {
    let mut env = workspace();
    let home = env.beside(&"long".repeat(40));
    env.set("HEPH_HOME", home.to_str().unwrap());
    env.build("//...");
    daemon(&env);
}

#[test]
fn few_descriptors_are_enough() {
    let env = workspace();
    let few = ["/bin/sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"];
    let run = env
        .heph(["run", "//..."])
        .with("HEPH_DAEMON", "auto")
        .within(&few)
        .run();
    run.success();
    assert!(warnings(&run) <= 1, "{run}");
    for _ in 0..3 {
        env.heph(["query", "//..."]).within(&few).run().success();
    }
}

#[test]
fn each_mount_namespace_has_its_own_daemon_and_its_own_files() {
    let test = "each_mount_namespace_has_its_own_daemon_and_its_own_files";
    let mounts = rustix::process::geteuid().is_root() && program("unshare").is_some();
    if !needs(test, "mounting", mounts) {
        return;
    }
    let env = workspace();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=file('in'), run='cat in > $OUT', out='out')\n",
    );
    env.write("p/in", "outer\n");
    let cat = || env.heph(["run", "-q", "--cat-out", "//p:t"]);
    assert_eq!(cat().run().success().out(), "outer\n");
    let inside = "mount -t tmpfs tmpfs p && printf \"target(name='t', driver='sh', deps=file('in'), run='cat in > \\$OUT', out='out')\\n\" > p/BUILD && echo inner > p/in && exec \"$@\"";
    let run = cat()
        .within(&["/usr/bin/env", "unshare", "-m", "sh", "-c", inside, "sh"])
        .run();
    assert_eq!(run.success().out(), "inner\n");
    assert_eq!(cat().run().success().out(), "outer\n");
    assert_eq!(env.daemons().len(), 2);
    assert_eq!(places(&env).len(), 2);
}

#[test]
fn a_daemon_has_nothing_of_who_started_it() {
    let mut env = workspace();
    env.set("SECRET", "of the client");
    let script = "exec 7< /etc/passwd 8> held; \"$@\" | cat";
    let within = ["/bin/sh", "-c", script, "sh"];
    // The pipe would stay open if the daemon had it: cat, and the call, would not end.
    let run = env
        .heph(["query", "//..."])
        .within(&within)
        .limit(Duration::from_secs(60))
        .run();
    assert_eq!(run.success().out(), "//:t\n");
    let process = PathBuf::from(format!("/proc/{}", daemon(&env).as_raw_nonzero()));
    let link = |name: &str| fs::read_link(process.join(name)).unwrap();
    assert_eq!(link("cwd"), Path::new("/"));
    assert_eq!(link("fd/0"), Path::new("/dev/null"));
    assert_eq!(link("fd/1"), Path::new("/dev/null"));
    assert!(link("fd/2").ends_with("log"));
    for entry in fs::read_dir(process.join("fd")).unwrap().flatten() {
        let open = fs::read_link(entry.path()).unwrap_or_default();
        let name = open.to_string_lossy().into_owned();
        assert!(
            !name.contains("passwd") && !name.contains("held") && !name.starts_with("pipe:"),
            "{name}"
        );
    }
    let variables = String::from_utf8(fs::read(process.join("environ")).unwrap()).unwrap();
    let mut names: Vec<_> = variables
        .split('\0')
        .filter_map(|variable| Some(variable.split_once('=')?.0))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["HEPH_HOME", "HOME", "PATH", "TMPDIR"]);
    let stat = fs::read_to_string(process.join("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let pid = daemon(&env).as_raw_nonzero().to_string();
    assert_eq!(
        (fields[2], fields[3], fields[4]),
        (pid.as_str(), pid.as_str(), "0"),
        "group, session, terminal"
    );
    assert_eq!(fs::metadata(place(&env)).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn whether_there_is_a_daemon_is_the_users_choice() {
    let env = workspace();
    let query = || env.heph(["query", "//..."]).without("HEPH_DAEMON");
    let cases = [
        (query().with("HEPH_DAEMON", "off"), false),
        (query().with("CI", "true"), false),
        (query().with("CI", "1"), false),
        (query().with("HEPH_TARGET", "//:t"), false),
        (query().with("CI", "true").with("HEPH_DAEMON", "auto"), true),
        (query().with("CI", "false"), true),
        (query().with("CI", ""), true),
        (query(), true),
    ];
    for (number, (call, wanted)) in cases.into_iter().enumerate() {
        let run = call.run();
        assert_eq!(run.success().err(), "", "case {number}");
        assert_eq!(!env.daemons().is_empty(), wanted, "case {number}");
        env.stop_daemons();
    }
    insta::assert_snapshot!(query().with("HEPH_DAEMON", "yes").run().report(), @"
    exit 2
    --- stderr
    error: HEPH_DAEMON is 'yes'
    hint: set it to auto, require or off
    ");
}

#[test]
fn commands_that_need_no_daemon_start_none() {
    let env = workspace();
    for (arguments, code) in [
        (&["version"][..], 0),
        (&["daemon", "status"], 1),
        (&["daemon", "stop"], 0),
        (&["daemon", "log"], 1),
        (&["status"], 3),
        (&["init", "--help"], 0),
    ] {
        env.heph(arguments).run().exits(code);
        assert!(env.daemons().is_empty(), "{arguments:?}");
    }
    auto(&env, &["status"]).success();
    assert!(env.daemons().is_empty());
}

#[test]
fn what_requires_a_daemon_fails_without_one() {
    let mut env = workspace();
    env.set("HEPH_HOME", "/proc/heph-home");
    insta::assert_snapshot!(env.heph(["run", "//..."]).run().report(), @"
    exit 3
    --- stderr
    warning: cannot create /proc/heph-home: No such file or directory (os error 2); results are not kept
    hint: set HEPH_HOME to a directory that you can write to
    error: failed to reach the daemon: there is none for a home that cannot be written
    ");
}

#[test]
fn a_service_manager_is_told_when_it_is_ready() {
    let env = workspace();
    let at = env.beside("notify");
    let told = UnixDatagram::bind(&at).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let running = env
        .heph(["daemon", "run"])
        .with("NOTIFY_SOCKET", at.to_str().unwrap())
        .start();
    let mut heard = [0; 64];
    let mut hear = || {
        let length = told.recv(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    env.heph(["query", "//..."]).run().success();
    assert!(env.daemons().is_empty(), "no other one was started");
    running.signal(Signal::TERM);
    assert_eq!(hear(), "STOPPING=1");
    running.wait().success();
}

#[test]
fn a_socket_of_systemd_is_served() {
    let test = "a_socket_of_systemd_is_served";
    let Some(activate) = program("systemd-socket-activate") else {
        needs(test, "systemd-socket-activate", false);
        return;
    };
    let env = workspace();
    let socket = env.beside("run/heph.sock");
    fs::create_dir(socket.parent().unwrap()).unwrap();
    fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    let listen = format!("--listen={}", socket.display());
    let setenv = format!("--setenv=HEPH_HOME={}", env.home().display());
    let within = [
        activate.to_str().unwrap(),
        &listen,
        &setenv,
        "--setenv=PATH",
        "--setenv=HOME",
    ];
    let running = env.heph(["daemon", "run"]).within(&within).start();
    // The first connection starts it; from then on clients find it.
    let mut first = None;
    wait_until("systemd listens", || {
        first = UnixStream::connect(&socket).ok();
        first.is_some()
    });
    wait_until("the daemon is ready", || {
        env.heph(["daemon", "status"]).run().code == 0
    });
    drop(first);
    env.build("//...");
    let status = env.heph(["daemon", "status", "--json"]).run().json();
    assert_eq!(status["daemons"][0]["socket"], socket.to_str().unwrap());
    env.heph(["daemon", "stop"]).run().success();
    assert!(socket.exists(), "it is systemd's");
    running.wait().success();
}
