//! Processes made with `clone`: the one place of the executor where processes share memory.
//!
//! For each command the spawner clones a *keeper* that shares its memory (copying the page tables would cost more than
//! all else). The keeper makes the namespaces of strict mode, starts the command as `vfork` would, adopts everything
//! that the command leaves behind, ends it, and reports. In strict mode it is process 1 of the command's PID namespace.
//!
//! Invariant: code that runs in a keeper or in a child before `execve` allocates nothing, takes no lock, never panics
//! and calls nothing but system calls, since the spawner goes on running in the same memory.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::super::protocol::{Ended, How, Step};

/// Bytes of each of the two stacks of a command: the keeper's and the one used between clone and `execve`.
const STACK: usize = 128 * 1024;

/// Everything a keeper and its command need, made before they are.
pub(super) struct Script {
    pub(super) program: CString,
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: CString,
    /// What becomes descriptor 0, 1 and 2.
    pub(super) standard: [OwnedFd; 3],
    /// What becomes descriptor 3 and following.
    pub(super) kept: Vec<OwnedFd>,
    /// Whether descriptor 0 becomes the controlling terminal.
    pub(super) terminal: bool,
    /// Where the end is reported; `None` for a trial.
    pub(super) report: Option<RawFd>,
    pub(super) isolation: Option<Namespaces>,
}

/// What a keeper in strict mode enters and mounts.
pub(super) struct Namespaces {
    /// Mount namespace that is copied.
    pub(super) template: RawFd,
    /// Network namespace; `None` for the one of the machine.
    pub(super) network: Option<RawFd>,
    /// Directory that becomes the top inside.
    pub(super) top: CString,
    pub(super) read_only: Vec<ReadOnly>,
}

/// A file that is shown read-only.
pub(super) struct ReadOnly {
    source: CString,
    target: CString,
    /// Descriptor in the keeper between the two halves of its work.
    tree: AtomicI32,
}

impl ReadOnly {
    pub(super) fn new(source: CString, target: CString) -> Self {
        Self {
            source,
            target,
            tree: AtomicI32::new(-1),
        }
    }
}

/// A command under its keeper.
pub(super) struct Launched {
    /// The keeper.
    pub(super) pid: Pid,
    scene: Box<Scene>,
}

/// What keeper and spawner share while the keeper lives. Never moves.
struct Scene {
    script: Script,
    /// Pointers into `script`, each array ended by a null.
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    stacks: Stacks,
    reported: AtomicBool,
    failed_step: AtomicI32,
    failed_errno: AtomicI32,
    /// The spawner's own `/proc` in the keeper: the command's is read-only.
    proc: AtomicI32,
}

/// Memory for two stacks; used again by later commands.
pub(super) struct Stacks(*mut u8);

impl Stacks {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: a new private mapping, chosen by the kernel.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                2 * STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(last_error());
        }
        Ok(Self(memory.cast()))
    }

    /// Upper end of the keeper's stack.
    fn keeper(&self) -> *mut c_void {
        self.0.wrapping_add(STACK).cast()
    }

    /// Upper end of the stack that the command uses until `execve`.
    fn command(&self) -> *mut c_void {
        self.0.wrapping_add(2 * STACK).cast()
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and no process uses it: it is dropped only after its keeper was reaped.
        unsafe { libc::munmap(self.0.cast(), 2 * STACK) };
    }
}

/// Starts a keeper, which starts the command.
pub(super) fn launch(script: Script, stacks: Stacks) -> Result<Launched> {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let scene = Box::new(Scene {
        argv: pointers(&script.argv),
        environment: pointers(&script.environment),
        script,
        stacks,
        reported: AtomicBool::new(false),
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
        proc: AtomicI32::new(-1),
    });
    let flags = match scene.script.isolation {
        Some(_) => libc::CLONE_NEWPID | libc::CLONE_NEWIPC,
        None => 0,
    };
    let argument = ptr::from_ref::<Scene>(&scene).cast_mut().cast::<c_void>();
    // SAFETY: the stack is ours and large enough; `scene` lives until the keeper is reaped (see `Launched`); what runs
    // on it keeps the invariant of this module.
    let pid = unsafe {
        libc::clone(
            keeper_main,
            scene.stacks.keeper(),
            libc::CLONE_VM | libc::SIGCHLD | flags,
            argument,
        )
    };
    match Pid::from_raw(pid).filter(|_| pid > 0) {
        Some(pid) => Ok(Launched { pid, scene }),
        None => Err(last_error()),
    }
}

impl Launched {
    /// Whether the keeper sent its report.
    pub(super) fn reported(&self) -> bool {
        self.scene.reported.load(Ordering::Acquire)
    }

    /// What failed in a trial, or before the command was executed.
    pub(super) fn failure(&self) -> Option<(Step, Errno)> {
        self.scene.failure()
    }

    /// Gives the stacks back. Only for a keeper that was reaped.
    pub(super) fn into_stacks(self) -> Stacks {
        self.scene.stacks
    }
}

impl Scene {
    fn failure(&self) -> Option<(Step, Errno)> {
        let step = Step::from_number(self.failed_step.load(Ordering::Acquire))?;
        let errno = self.failed_errno.load(Ordering::Acquire);
        Some((step, Errno::from_raw_os_error(errno)))
    }

    fn fail(&self, step: Step, errno: Errno) {
        self.failed_errno.store(errno.raw_os_error(), Ordering::Release);
        self.failed_step.store(step as i32, Ordering::Release);
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Ends this process at once, without running anything of the memory that it shares.
fn leave(code: c_int) -> ! {
    // SAFETY: `_exit` runs no handlers.
    unsafe { libc::_exit(code) }
}

extern "C" fn keeper_main(argument: *mut c_void) -> c_int {
    // SAFETY: `launch` passes a `Scene` that outlives this process; it is only read, but for its atomics.
    let scene = unsafe { &*argument.cast::<Scene>() };
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let trial = scene.script.report.is_none();
    let ended = match keep(scene, trial) {
        Ok(ended) => ended,
        Err((step, errno)) => {
            scene.fail(step, errno);
            Ended::bare(How::NotStarted(step, errno))
        }
    };
    if let Some(socket) = scene.script.report {
        report(socket, &ended);
        scene.reported.store(true, Ordering::Release);
    }
    leave(0)
}

fn report(socket: RawFd, ended: &Ended) {
    let bytes = ended.encode();
    // SAFETY: the spawner keeps the socket open as long as this keeper lives.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = rustix::net::send(socket, &bytes, rustix::net::SendFlags::NOSIGNAL);
}

type Setup<T> = std::result::Result<T, (Step, Errno)>;

fn step<T>(step: Step, result: Result<T>) -> Setup<T> {
    result.map_err(|errno| (step, errno))
}

fn keep(scene: &Scene, trial: bool) -> Setup<Ended> {
    let flags = match &scene.script.isolation {
        Some(namespaces) => {
            isolate(scene, namespaces)?;
            libc::CLONE_NEWUSER
        }
        None => {
            let own = rustix::process::getpid();
            step(Step::Process, rustix::process::set_child_subreaper(Some(own)))?;
            0
        }
    };
    let start = microseconds();
    let argument = ptr::from_ref(scene).cast_mut().cast::<c_void>();
    let entry = if trial { trial_main } else { command_main };
    // SAFETY: as in `launch`; CLONE_VFORK keeps this process waiting until the child has left the shared memory.
    let command = unsafe {
        libc::clone(
            entry,
            scene.stacks.command(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD | flags,
            argument,
        )
    };
    if command <= 0 {
        return Err((Step::Command, last_error()));
    }
    let everyone = match scene.script.isolation {
        Some(_) => Everyone::Namespace,
        None => Everyone::Descendants,
    };
    let (status, killed) = wait_for(command, everyone)?;
    let wall_us = microseconds().saturating_sub(start);
    end_leftovers(everyone);
    if let Some(failure) = scene.failure() {
        return Err(failure);
    }
    let (cpu_us, memory_bytes) = usage();
    let how = if killed {
        How::Lost
    } else if libc::WIFSIGNALED(status) {
        How::Signaled(libc::WTERMSIG(status))
    } else {
        How::Exited(libc::WEXITSTATUS(status))
    };
    Ok(Ended {
        how,
        wall_us,
        cpu_us,
        memory_bytes,
    })
}

fn microseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec
        .cast_unsigned()
        .wrapping_mul(1_000_000)
        .wrapping_add(now.tv_nsec.cast_unsigned() / 1000)
}

fn usage() -> (u64, u64) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure; zeroes are a valid value of it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let micros = |time: libc::timeval| {
        (time.tv_sec.cast_unsigned())
            .wrapping_mul(1_000_000)
            .wrapping_add(time.tv_usec.cast_unsigned())
    };
    let cpu = micros(usage.ru_utime).wrapping_add(micros(usage.ru_stime));
    (cpu, usage.ru_maxrss.cast_unsigned().wrapping_mul(1024))
}

/// Whom a keeper answers for.
#[derive(Clone, Copy)]
enum Everyone {
    /// All processes of its PID namespace.
    Namespace,
    /// All its descendants; those whose parents died are its children.
    Descendants,
}

impl Everyone {
    fn signal(self, signal: c_int) {
        match self {
            // SAFETY: in a PID namespace of its own this reaches all processes of it but the caller.
            Self::Namespace => unsafe {
                libc::kill(-1, signal);
            },
            Self::Descendants => super::descendants::signal_tree(signal),
        }
    }
}

/// Waits until `command` has ended, reaps all others, and passes requests to end on.
///
/// Gives the wait status, and whether it was killed by request.
fn wait_for(command: libc::pid_t, everyone: Everyone) -> Setup<(c_int, bool)> {
    let signals = super::raw_system::signals();
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: plain system calls on local variables.
        let reaped = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if reaped == command {
            return Ok((status, killed));
        }
        if reaped < 0 {
            return Err((Step::Command, last_error()));
        }
        if reaped > 0 {
            continue;
        }
        // SAFETY: as above.
        match unsafe { libc::sigwaitinfo(&raw const signals, ptr::null_mut()) } {
            libc::SIGTERM => everyone.signal(libc::SIGTERM),
            libc::SIGUSR1 => {
                killed = true;
                everyone.signal(libc::SIGKILL);
            }
            _ => {}
        }
    }
}

/// Kills whatever the command left, until nothing is left.
fn end_leftovers(everyone: Everyone) {
    let mut options = libc::WNOHANG;
    loop {
        let mut status = 0;
        // SAFETY: plain system call on a local variable.
        match unsafe { libc::waitpid(-1, &raw mut status, options) } {
            0 => {
                everyone.signal(libc::SIGKILL);
                // A killed child has to be waited for; its children, if any, are ours then, and the next turn's.
                options = 0;
            }
            pid if pid < 0 => return,
            _ => options = libc::WNOHANG,
        }
    }
}

fn isolate(scene: &Scene, namespaces: &Namespaces) -> Setup<()> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cwd = rustix::fs::CWD;
    let top = step(Step::Show, rustix::mount::open_tree(cwd, &*namespaces.top, clone))?;
    // Sources are reachable only before the new root is entered, targets only after.
    for input in &namespaces.read_only {
        let tree = step(Step::Show, rustix::mount::open_tree(cwd, &*input.source, clone))?;
        step(Step::ReadOnly, super::raw_system::make_read_only(&tree))?;
        input.tree.store(tree.into_raw_fd(), Ordering::Relaxed);
    }
    step(
        Step::Copy,
        super::raw_system::enter(namespaces.template, libc::CLONE_NEWNS),
    )?;
    step(Step::Copy, super::raw_system::leave_shared(libc::CLONE_NEWNS))?;
    step(Step::Top, attach(&top, super::INSIDE_C))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = step(Step::Proc, rustix::fs::open(c"/proc", flags, Mode::empty()))?;
    scene.proc.store(proc.into_raw_fd(), Ordering::Relaxed);
    // Read-only, since to the kernel a user without any rights is still root when root builds, and root owns
    // /proc/sys and /proc/sysrq-trigger.
    let secure = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    step(
        Step::Proc,
        rustix::mount::mount(c"proc", c"/proc", c"proc", secure, None),
    )?;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    step(
        Step::Memory,
        rustix::mount::mount(c"tmpfs", c"/dev/shm", c"tmpfs", shared, Some(c"mode=1777")),
    )?;
    step(
        Step::Terminals,
        rustix::mount::mount(
            c"devpts",
            c"/dev/pts",
            c"devpts",
            MountFlags::NOSUID | MountFlags::NOEXEC,
            Some(c"newinstance,ptmxmode=0666,mode=0620"),
        ),
    )?;
    let temporary = step(
        Step::Temporary,
        rustix::mount::open_tree(cwd, super::INSIDE_TEMPORARY_C, clone),
    )?;
    step(Step::Temporary, attach(&temporary, c"/tmp"))?;
    for input in &namespaces.read_only {
        // SAFETY: opened above by this process, and closed nowhere.
        let tree = unsafe { BorrowedFd::borrow_raw(input.tree.load(Ordering::Relaxed)) };
        step(Step::ReadOnly, attach(tree, &input.target))?;
    }
    if let Some(network) = namespaces.network {
        step(
            Step::Network,
            super::raw_system::enter(network, libc::CLONE_NEWNET),
        )?;
    }
    Ok(())
}

fn attach(tree: impl AsFd, target: &CStr) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, c"", rustix::fs::CWD, target, flags)
}

extern "C" fn trial_main(argument: *mut c_void) -> c_int {
    // SAFETY: as in `keeper_main`.
    let scene = unsafe { &*argument.cast::<Scene>() };
    if let Err((step, errno)) = map_users(scene) {
        scene.fail(step, errno);
    }
    leave(0)
}

extern "C" fn command_main(argument: *mut c_void) -> c_int {
    // SAFETY: as in `keeper_main`.
    let scene = unsafe { &*argument.cast::<Scene>() };
    if let Err((step, errno)) = become_command(scene) {
        scene.fail(step, errno);
    }
    leave(127)
}

/// Gives the command's own user namespace its one user and group.
fn map_users(scene: &Scene) -> Setup<()> {
    // SAFETY: opened by the keeper, and closed nowhere.
    let proc = unsafe { BorrowedFd::borrow_raw(scene.proc.load(Ordering::Relaxed)) };
    let write = |path: &CStr| -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(proc, path, flags, Mode::empty())?;
        rustix::io::write(&file, super::INNER_MAP.as_bytes()).map(drop)
    };
    step(Step::Users, write(c"self/gid_map"))?;
    step(Step::Users, write(c"self/uid_map"))
}

/// Never returns when all goes well.
fn become_command(scene: &Scene) -> Setup<()> {
    let script = &scene.script;
    if script.isolation.is_some() {
        map_users(scene)?;
        step(Step::Privileges, rustix::thread::set_no_new_privs(true))?;
    } else {
        let signal = Some(rustix::process::Signal::KILL);
        step(
            Step::Process,
            rustix::process::set_parent_process_death_signal(signal),
        )?;
    }
    let _ = rustix::process::setsid();
    let first_free = arrange_descriptors(script)?;
    if script.terminal {
        // SAFETY: descriptor 0 was put there by `arrange_descriptors`.
        let terminal = unsafe { BorrowedFd::borrow_raw(0) };
        step(Step::Terminal, rustix::process::ioctl_tiocsctty(terminal))?;
    }
    step(Step::Descriptors, super::raw_system::close_from(first_free))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    step(Step::Directory, rustix::process::chdir(&*script.directory))?;
    super::raw_system::unblock_signals();
    // SAFETY: null-terminated arrays of null-terminated strings that live as long as `scene`.
    unsafe {
        libc::execve(
            script.program.as_ptr(),
            scene.argv.as_ptr(),
            scene.environment.as_ptr(),
        );
    }
    Err((Step::Execute, last_error()))
}

/// Puts the descriptors of the command to 0, 1, 2, 3, …; gives the first number after them.
///
/// All sources have higher numbers than all targets: the spawner keeps the low ones occupied.
fn arrange_descriptors(script: &Script) -> Setup<RawFd> {
    let mut next = 0;
    for descriptor in script.standard.iter().chain(&script.kept) {
        // SAFETY: plain system call; the target numbers are not owned by anything in this process.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), next) } < 0 {
            return Err((Step::Descriptors, last_error()));
        }
        next += 1;
    }
    Ok(next)
}

/// A copy of this process as `fork` makes it, with namespaces of its own where flags ask for them; `None` in the copy.
///
/// Only for a process with one thread.
pub(super) fn fork(flags: c_int) -> Result<Option<Pid>> {
    let flags = libc::c_ulong::from((libc::SIGCHLD | flags).cast_unsigned());
    // SAFETY: without CLONE_VM and with no stack given this is `fork`; there is one thread, so the copy is whole.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match pid {
        0 => Ok(None),
        pid if pid < 0 => Err(last_error()),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(Some).ok_or(Errno::INVAL)
        }
    }
}

/// Runs `work` in a process that shares memory and descriptors with this one, in a network namespace of its own.
pub(super) fn in_new_network(work: fn(&mut NewNetwork)) -> Result<NewNetwork> {
    extern "C" fn main(argument: *mut c_void) -> c_int {
        // SAFETY: the parent waits (CLONE_VFORK) and does not touch it meanwhile.
        let (work, network) = unsafe { &mut *argument.cast::<(fn(&mut NewNetwork), NewNetwork)>() };
        work(network);
        leave(0)
    }
    let stacks = Stacks::new()?;
    let mut shared = (
        work,
        NewNetwork {
            namespace: None,
            counters: None,
            failed: None,
        },
    );
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_NEWNET | libc::SIGCHLD;
    let argument = (&raw mut shared).cast::<c_void>();
    // SAFETY: as in `keep`; `shared` outlives the child, which has ended when this returns.
    let pid = unsafe { libc::clone(main, stacks.command(), flags, argument) };
    if pid < 0 {
        return Err(last_error());
    }
    // SAFETY: reaps the child made above.
    unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
    Ok(shared.1)
}

/// What [`in_new_network`] brings back.
pub(super) struct NewNetwork {
    pub(super) namespace: Option<OwnedFd>,
    /// Open `/proc/…/net/dev` of it.
    pub(super) counters: Option<OwnedFd>,
    pub(super) failed: Option<Errno>,
}
