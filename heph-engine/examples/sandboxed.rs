//! Runs a shell command in a sandbox, without any target: `sandboxed strict|standard HOME COMMAND`.
//!
//! Exits with the command's exit code, or with 125. Doubles as the supervisor (`sandboxed supervise`), also for tests.

use std::process::ExitCode;

use heph_engine::executor::{Control, Executor, ExecutorOptions, supervise};
use heph_proto::content::Content as Held;
use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::tool::Program;
use heph_proto::{Command, Plan, SandboxMode, Tool};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mode, home, command) = match words.as_slice() {
        ["supervise"] => supervise(),
        ["strict", home, command] => (SandboxMode::Strict, home, command),
        ["standard", home, command] => (SandboxMode::Standard, home, command),
        _ => {
            eprintln!("usage: sandboxed strict|standard HOME COMMAND");
            return ExitCode::from(125);
        }
    };
    match run(mode, home, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(125)
        }
    }
}

fn run(mode: SandboxMode, home: &str, command: &str) -> Result<u8, Box<dyn std::error::Error>> {
    let executor = Executor::new(ExecutorOptions {
        home: home.into(),
        supervisor: vec![std::env::current_exe()?.into(), "supervise".into()],
        jobs: 1,
        ..ExecutorOptions::default()
    });
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        program: Some(Program::Host(format!("/bin/{name}"))),
    };
    let plan = Plan {
        address: "//:command".to_owned(),
        sandbox_id: "command".to_owned(),
        action: Some(Action::Command(Command {
            argv: ["sh", "-c", command].map(str::to_owned).to_vec(),
            script: None,
        })),
        base: vec![tool("sh")],
        base_digest: "sh".to_owned(),
        extra_path: vec!["/usr/bin".to_owned()],
        sandbox: mode.into(),
        ..Plan::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(executor.execute(plan, Control::default()));
    match report.log.and_then(|log| log.content) {
        Some(Held::Inline(bytes)) => print!("{}", String::from_utf8_lossy(&bytes)),
        Some(Held::File(path)) => print!("{}", std::fs::read_to_string(path)?),
        None => {}
    }
    match report.outcome {
        Some(Outcome::Completed(_)) => Ok(0),
        Some(Outcome::Failed(failed)) => {
            eprintln!("{}\n{}", failed.log_tail.join("\n"), failed.message);
            Ok(failed
                .exit_code
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(125))
        }
        other => Err(format!("{other:?}").into()),
    }
}
