//! Each driver does what its table says.

use std::io::{Read, Write};
use std::net::TcpListener;

use heph_tests::Environment;

/// Builds one target and gives one of its outputs.
fn output(env: &Environment, address: &str, path: &str) -> String {
    env.heph(["run", "--copy-out", "copied", address]).run().success();
    env.read(&format!("copied/{path}"))
}

#[test]
fn exec_runs_an_argv_without_a_shell() {
    let env = Environment::new();
    env.write("in.txt", "a\n");
    env.write("BUILD", "target(name='t', driver='exec', deps=file('in.txt'), run=['cp', 'in.txt', 'out $HOME;.txt'], out='out $HOME;.txt')\n");
    assert_eq!(output(&env, "//:t", "out $HOME;.txt"), "a\n");
}

#[test]
fn bash_stops_at_the_first_error_of_a_pipe_or_an_unset_variable() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='lines', driver='bash', run=['x=(a b)', 'echo ${#x[@]} > $OUT'], out='out')\n\
         target(name='pipe', driver='bash', run='false | true')\n\
         target(name='unset', driver='bash', run='echo $NOBODY')\n\
         target(name='early', driver='bash', run=['false', 'true'])\n",
    );
    assert_eq!(output(&env, "//:lines", "out"), "2\n");
    let build = env.try_build("//...");
    assert_eq!(build.failed(), ["//:early", "//:pipe", "//:unset"]);
}

#[test]
fn sh_stops_at_errors_and_unset_variables() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='good', driver='sh', run='false | true; echo well > $OUT', out='out')\n\
         target(name='early', driver='sh', run=['false', 'true'])\n\
         target(name='unset', driver='sh', run='echo $NOBODY')\n",
    );
    assert_eq!(output(&env, "//:good", "out"), "well\n");
    assert_eq!(env.try_build("//...").failed(), ["//:early", "//:unset"]);
}

#[test]
fn a_script_longer_than_an_argument_may_be_runs_all_the_same() {
    let env = Environment::new();
    let line = format!("x={}\n", "y".repeat(1000));
    let script = format!("{}echo ${{#x}} > $OUT\n", line.repeat(300));
    env.write(
        "BUILD",
        format!("target(name='t', driver='bash', run='''{script}''', out='out')\n"),
    );
    assert_eq!(output(&env, "//:t", "out"), "1000\n");
}

#[test]
fn group_gives_outputs_another_place() {
    let env = Environment::new();
    env.write("p/a.txt", "a");
    env.write("p/b.md", "b");
    env.write("p/c.txt", "c");
    env.write(
        "p/BUILD",
        "target(name='all', driver='group', deps=glob('*.*'))\n\
         target(name='txt', driver='group', deps=glob('*.*'), include='p/*.txt', exclude=['p/c.txt'])\n\
         target(name='moved', driver='group', deps=file('a.txt'), strip_prefix='p', prefix='q/r')\n\
         target(name='renamed', driver='group', deps=[file('a.txt'), file('b.md')], rename={'p/a.txt': 'z.txt'})\n\
         target(name='one', driver='group', deps=file('a.txt'), rename='only.txt')\n",
    );
    let list = |address: &str| {
        let run = env.heph(["inspect", "outputs", "--json", address]).run();
        let outputs = run.success().json()["targets"][0]["outputs"].clone();
        outputs
            .as_array()
            .unwrap()
            .iter()
            .map(|of| of["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    env.build("//p/...");
    assert_eq!(list("//p:txt"), ["p/a.txt"]);
    assert_eq!(list("//p:moved"), ["q/r/a.txt"]);
    assert!(
        list("//p:renamed").contains(&"z.txt".to_owned())
            || list("//p:renamed").contains(&"p/z.txt".to_owned())
    );
    assert_eq!(list("//p:one").len(), 1);
    assert!(list("//p:all").contains(&"p/b.md".to_owned()));
}

#[test]
fn group_refuses_an_empty_match_and_colliding_paths() {
    let env = Environment::new();
    env.write("a.txt", "a");
    env.write("b.txt", "b");
    env.write(
        "BUILD",
        "target(name='t', driver='group', deps=file('a.txt'), include='*.md')\n",
    );
    env.heph(["run", "//:t"]).run().exits(1).says("//:t");
    env.write(
        "BUILD",
        "target(name='t', driver='group', deps=glob('*.txt'), rename={'a.txt': 'b.txt'})\n",
    );
    env.heph(["run", "//:t"]).run().exits(1).says("b.txt");
}

#[test]
fn textfile_writes_a_text() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='textfile', text='häph\\n', out='d/t.txt')\n\
         target(name='x', driver='textfile', text='#!/bin/sh\\necho run > $1\\n', out='x', executable=True)\n\
         target(name='use', driver='sh', tools=':x', run='x $OUT', out='out')\n",
    );
    assert_eq!(output(&env, "//:t", "d/t.txt"), "häph\n");
    assert_eq!(output(&env, "//:use", "out"), "run\n");
}

#[test]
fn fs_gives_files_and_globs_of_the_workspace() {
    let env = Environment::new();
    env.write("p/a.txt", "a\n");
    env.write("p/b.txt", "b\n");
    env.write("p/q/c.txt", "c\n");
    env.write("p/x.md", "x\n");
    env.write(
        "BUILD",
        "target(name='f', driver='sh', deps='//@heph/fs:file@f=p/a.txt', run='echo $SRC > $OUT', out='f')\n\
         target(name='g', driver='sh', deps='//@heph/fs:glob@e=\"p/b.txt\",p=\"p/**/*.txt\"', run='echo $SRC > $OUT', out='g')\n",
    );
    assert_eq!(output(&env, "//:f", "f"), "p/a.txt\n");
    assert_eq!(output(&env, "//:g", "g"), "p/a.txt p/q/c.txt\n");
}

#[test]
fn hostbin_gives_a_program_of_the_machine() {
    let mut env = Environment::new();
    let program = env.write_outside("programs/greet", "#!/bin/sh\necho moin\n");
    env.prepend_path(program.parent().unwrap().to_owned());
    env.write("BUILD", "target(name='t', driver='sh', tools={'g': '//@heph/bin:greet'}, run='greet > $OUT; $TOOL_G >> $OUT', out='out')\n");
    assert_eq!(output(&env, "//:t", "out"), "moin\nmoin\n");
}

#[test]
fn a_program_that_the_machine_does_not_have_is_an_error_with_its_name() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', tools='//@heph/bin:no-such-program', run='true')\n",
    );
    env.heph(["run", "//:t"]).run().exits(1).says("no-such-program");
}

/// Answers every request with one body until the test ends; gives its URL and counts nothing.
fn serve(body: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/file", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(body);
        }
    });
    url
}

#[test]
fn http_fetch_downloads_a_file_whose_digest_is_known() {
    let env = Environment::new();
    let url = serve(b"hello\n");
    let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    env.write(
        "BUILD",
        format!("target(name='t', driver='http_fetch', url='{url}', sha256='{sha256}', out='got')\n"),
    );
    assert_eq!(output(&env, "//:t", "got"), "hello\n");
    env.write(
        "BUILD",
        format!("target(name='t', driver='http_fetch', url='{url}', out='got')\n"),
    );
    env.heph(["run", "//:t"]).run().says(sha256);
    let wrong = "0".repeat(64);
    env.write(
        "BUILD",
        format!("target(name='t', driver='http_fetch', url='{url}', sha256='{wrong}', out='got')\n"),
    );
    env.heph(["run", "//:t"]).run().exits(1).says(sha256).says(&wrong);
}
