//! Real processes, started while the test harness runs threads of its own.
#![allow(clippy::print_stderr, reason = "a test that cannot run here says so")]

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::resource::Resource;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::*;

const NOBODY: u32 = 65534;

fn c(text: impl AsRef<OsStr>) -> CString {
    CString::new(text.as_ref().as_bytes()).unwrap()
}

fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

fn wait(spawned: &Spawned) -> i32 {
    match waitpid(Pid::from_raw(spawned.pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}

struct Shell {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Shell {
    fn new(script: &str) -> Self {
        Self {
            arguments: c_strings(["sh", "-c", script]).unwrap(),
            environment: c_strings(["PATH=/usr/bin:/bin", "MARK=here"]).unwrap(),
        }
    }

    /// Runs with stdout to a pipe, unless changed; gives what it wrote and its code.
    fn output<'a>(&'a self, change: impl FnOnce(&mut SpawnRequest<'a>)) -> (String, i32, Spawned) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut request = SpawnRequest::new(c"/bin/sh", &self.arguments, &self.environment);
        request.stderr = Stdio::SameAsStdout;
        change(&mut request);
        let mut request = SpawnRequest { ..request };
        if matches!(request.stdout, Stdio::Null) {
            request.stdout = Stdio::Inherit(writer.as_fd());
        }
        let spawned = spawn(&request).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let code = wait(&spawned);
        (text, code, spawned)
    }

    fn fails<'a>(&'a self, change: impl FnOnce(&mut SpawnRequest<'a>)) -> SpawnError {
        let mut request = SpawnRequest::new(c"/bin/sh", &self.arguments, &self.environment);
        change(&mut request);
        spawn(&request).unwrap_err()
    }
}

#[test]
fn runs_in_a_session_of_its_own_with_the_given_environment_only() {
    let shell = Shell::new("echo $MARK; env | wc -l; ps -o sid=,pgid= -p $$ | tr -s ' '; exit 7");
    let (text, code, spawned) = shell.output(|_| {});
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[0], "here");
    assert!(lines[1].parse::<u32>().unwrap() <= 5, "{text}");
    assert_eq!(lines[2], format!("{0} {0}", spawned.pid));
    assert_eq!(code, 7);
    assert!(!spawned.used_fallback_directory);
}

#[test]
fn a_process_finds_its_own_number_where_that_was_asked_for() {
    let shell = Shell::new("echo $$ $NUMBER $OTHER $MARK");
    let (text, _, spawned) = shell.output(|request| request.pid_variables = &["NUMBER", "OTHER"]);
    assert_eq!(text, format!("{0} {0} {0} here\n", spawned.pid));
}

#[test]
fn files_are_relative_to_the_directory_and_obey_the_umask() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = c(scratch.path());
    let run = |script: &str, usage| {
        let shell = Shell::new(script);
        let (_, code, _) = shell.output(|request| {
            request.directory = Some(&directory);
            request.umask = Some(0o027);
            request.stdout = Stdio::File {
                path: c"out",
                usage,
            };
        });
        assert_eq!(code, 0);
    };
    let read = || std::fs::read_to_string(scratch.path().join("out")).unwrap();
    run("echo one; echo err >&2", FileUse::Truncate);
    assert_eq!(read(), "one\nerr\n");
    run("echo two", FileUse::Append);
    assert_eq!(read(), "one\nerr\ntwo\n");
    run("echo three", FileUse::Truncate);
    assert_eq!(read(), "three\n");
    let mode = std::fs::metadata(scratch.path().join("out"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);

    let input = c(scratch.path().join("out"));
    let (text, ..) = Shell::new("cat").output(|request| {
        request.stdin = Stdio::File {
            path: &input,
            usage: FileUse::Read,
        };
    });
    assert_eq!(text, "three\n");
}

#[test]
fn a_missing_directory_fails_or_falls_back() {
    let shell = Shell::new("pwd");
    let error = shell.fails(|request| request.directory = Some(c"/no/such/place"));
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Directory, Errno::ENOENT)
    );
    assert_eq!(
        error.to_string(),
        "cannot enter the directory /no/such/place: No such file or directory"
    );
    let (text, _, spawned) = shell.output(|request| {
        request.directory = Some(c"/no/such/place");
        request.fallback_directory = Some(c"/tmp");
    });
    assert_eq!(text, "/tmp\n");
    assert!(spawned.used_fallback_directory);
}

#[test]
fn each_stage_reports_its_own_failure() {
    let shell = Shell::new("true");
    let file = |path| Stdio::File {
        path,
        usage: FileUse::Truncate,
    };
    let missing = c"/no/such/file";
    let error = shell.fails(|request| {
        request.stdin = Stdio::File {
            path: missing,
            usage: FileUse::Read,
        };
    });
    assert_eq!(error.stage, SpawnStage::Stdin);
    let error = shell.fails(|request| request.stdout = file(missing));
    assert_eq!(error.stage, SpawnStage::Stdout);
    assert_eq!(error.path, Some(PathBuf::from("/no/such/file")));
    assert!(error.hint.unwrap().contains("does its directory exist"));
    let error = shell.fails(|request| request.stderr = file(c"/tmp"));
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Stderr, Errno::EISDIR)
    );
    let error = shell.fails(|request| request.program = c"/no/such/program");
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Exec, Errno::ENOENT)
    );
    let error = shell.fails(|request| request.stdin = Stdio::SameAsStdout);
    assert_eq!(error.stage, SpawnStage::Stdin);
    let error = shell.fails(|request| request.arguments = &[]);
    assert_eq!(error.stage, SpawnStage::Exec);
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = shell.fails(|request| request.terminal = Some(null.as_fd()));
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Terminal, Errno::ENOTTY)
    );
    let groups = [null.as_fd()];
    let error = shell.fails(|request| request.cgroups = &groups);
    assert_eq!(error.stage, SpawnStage::Cgroup);
}

fn program_with(directory: &Path, name: &str, content: &str, mode: u32) -> CString {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    c(path)
}

#[test]
fn scripts_run_and_broken_ones_come_with_a_hint() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let shell = Shell::new("");
    let good = program_with(directory, "good", "#!/bin/sh\necho $#\n", 0o755);
    let (text, ..) = shell.output(|request| request.program = &good);
    assert_eq!(text, "2\n");
    for (name, content, mode, errno, hint) in [
        (
            "plain",
            "echo hello\n",
            0o755,
            Errno::ENOEXEC,
            "begins with #!",
        ),
        ("dos", "#!/bin/sh\r\necho\r\n", 0o755, Errno::ENOENT, "DOS"),
        (
            "gone",
            "#!/no/such/perl\n",
            0o755,
            Errno::ENOENT,
            "does not exist",
        ),
        ("mode", "#!/bin/sh\n", 0o644, Errno::EACCES, "executable"),
    ] {
        let path = program_with(directory, name, content, mode);
        let error = shell.fails(|request| request.program = &path);
        assert_eq!(
            (error.stage, error.errno),
            (SpawnStage::Exec, errno),
            "{name}"
        );
        assert!(error.to_string().contains(hint), "{name}: {error}");
    }
}

#[test]
fn a_named_pipe_does_not_hold_us() {
    let scratch = tempfile::tempdir().unwrap();
    let pipe = scratch.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = c(&pipe);
    let error = Shell::new("true").fails(|request| {
        request.stdout = Stdio::File {
            path: &path,
            usage: FileUse::Truncate,
        };
    });
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Stdout, Errno::ENXIO)
    );
}

#[test]
fn a_child_stopped_on_its_way_is_ended_by_its_timer() {
    // A thread stops every child of ours that it sees in the window before exec.
    let done = std::sync::atomic::AtomicBool::new(false);
    let own = nix::unistd::gettid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = format!("/proc/self/task/{own}/children");
            while !done.load(Relaxed) {
                let Ok(children) = std::fs::read_to_string(&path) else {
                    return;
                };
                for pid in children.split_whitespace() {
                    let pid = Pid::from_raw(pid.parse().unwrap());
                    // Its own session: the timer is armed, as it is before the child can belong to a user.
                    if nix::unistd::getsid(Some(pid)) == Ok(pid) {
                        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP);
                    }
                }
            }
        });
        let shell = Shell::new("exec sleep 100");
        let mut failure = None;
        for _ in 0..200 {
            let mut request = SpawnRequest::new(c"/bin/sh", &shell.arguments, &shell.environment);
            request.deadline_ms = 50;
            match spawn(&request) {
                Ok(spawned) => {
                    let pid = Pid::from_raw(spawned.pid);
                    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
                    wait(&spawned);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        done.store(true, Relaxed);
        match failure {
            Some(error) => assert_eq!(error.errno, Errno::ETIMEDOUT, "{error}"),
            None => eprintln!("SKIPPED: the window was never hit"),
        }
    });
}

#[test]
fn only_the_named_descriptors_stay_open() {
    let (reader, writer) = std::io::pipe().unwrap();
    // Leaks on purpose: not close-on-exec, as a careless library would.
    let leak: OwnedFd = reader.as_fd().try_clone_to_owned().unwrap();
    nix::fcntl::fcntl(
        &leak,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let open_in_child = |kept: &[KeptFd<'_>]| {
        let shell = Shell::new("echo; read line");
        let (input, hold) = std::io::pipe().unwrap();
        let (mut ready, output) = std::io::pipe().unwrap();
        let mut request = SpawnRequest::new(c"/bin/sh", &shell.arguments, &shell.environment);
        request.stdin = Stdio::Inherit(input.as_fd());
        request.stdout = Stdio::Inherit(output.as_fd());
        request.kept = kept;
        let spawned = spawn(&request).unwrap();
        ready.read_exact(&mut [0]).unwrap();
        let entries = std::fs::read_dir(format!("/proc/{}/fd", spawned.pid)).unwrap();
        let mut numbers: Vec<i32> = entries
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        numbers.sort_unstable();
        drop(hold);
        wait(&spawned);
        numbers
    };
    assert_eq!(open_in_child(&[]), [0, 1, 2]);
    let kept = [
        KeptFd {
            fd: reader.as_fd(),
            number: 90,
        },
        KeptFd {
            fd: writer.as_fd(),
            number: 3,
        },
    ];
    assert_eq!(open_in_child(&kept), [0, 1, 2, 3, 90]);
}

#[test]
fn descriptors_can_swap_places() {
    let scratch = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = scratch.path().join(name);
        let file = std::fs::File::create_new(&path).unwrap();
        (path, file)
    };
    let ((a_path, a), (b_path, b)) = (open("a"), open("b"));
    // Each is to take the other's number, and one of them is also the standard error.
    let kept = [
        KeptFd {
            fd: a.as_fd(),
            number: b.as_raw_fd(),
        },
        KeptFd {
            fd: b.as_fd(),
            number: a.as_raw_fd(),
        },
    ];
    let script = format!(
        "readlink /proc/$$/fd/{}; readlink /proc/$$/fd/{}; readlink /proc/$$/fd/2",
        a.as_raw_fd(),
        b.as_raw_fd()
    );
    let (text, ..) = Shell::new(&script).output(|request| {
        request.kept = &kept;
        request.stderr = Stdio::Inherit(b.as_fd());
    });
    let expected = [&b_path, &a_path, &b_path].map(|path| path.display().to_string());
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);

    let twice = [kept[0], kept[0]];
    let error = Shell::new("").fails(|request| request.kept = &twice);
    assert_eq!(error.stage, SpawnStage::Descriptors);
}

#[test]
fn signals_begin_at_their_defaults() {
    // The mask, the ignored and the caught set of a program whose parent blocks and ignores.
    let mut mask = nix::sys::signal::SigSet::empty();
    mask.add(nix::sys::signal::Signal::SIGTERM);
    mask.thread_block().unwrap();
    let arguments = c_strings(["cat", "/proc/self/status"]).unwrap();
    let shell = Shell::new("");
    let (text, ..) = shell.output(|request| {
        request.program = c"/bin/cat";
        request.arguments = &arguments;
    });
    mask.thread_unblock().unwrap();
    // Rust itself ignores SIGPIPE in this very process.
    for name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    let own = nix::sys::signal::SigSet::thread_get_mask().unwrap();
    assert!(!own.contains(nix::sys::signal::Signal::SIGINT));
}

#[test]
fn limits_and_cores_are_set() {
    let limits = [
        Limit {
            resource: Resource::RLIMIT_CORE,
            soft: 0,
            hard: 0,
        },
        // Fewer than are open here: set after the files were opened.
        Limit {
            resource: Resource::RLIMIT_NOFILE,
            soft: 4,
            hard: 64,
        },
    ];
    let mask = CpuMask::from_cpus([0]);
    let shell = Shell::new("ulimit -c; ulimit -Sn; ulimit -Hn; nproc");
    let (text, ..) = shell.output(|request| {
        request.limits = &limits;
        request.affinity = Some(&mask);
        request.stderr = Stdio::Null;
    });
    assert_eq!(text, "0\n4\n64\n1\n");
    let nowhere = CpuMask::from_cpus([4095]);
    let (_, code, _) = shell.output(|request| request.affinity = Some(&nowhere));
    assert_eq!(code, 0);
}

#[test]
fn a_terminal_becomes_the_controlling_one() {
    let (_master, slave) = crate::sys::terminal::open_terminal_pair().unwrap();
    let shell = Shell::new("echo fine > /dev/tty && ps -o tty= -p $$");
    let (text, code, _) = shell.output(|request| {
        request.terminal = Some(slave.as_fd());
    });
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("pts/"), "{text}");
}

#[test]
fn no_new_privs_and_death_with_the_parent() {
    let shell = Shell::new("grep NoNewPrivs /proc/$$/status");
    let (text, ..) = shell.output(|request| request.no_new_privs = true);
    assert_eq!(text, "NoNewPrivs:\t1\n");

    let spawned = std::thread::spawn(|| {
        let shell = Shell::new("exec sleep 100");
        let mut request = SpawnRequest::new(c"/bin/sh", &shell.arguments, &shell.environment);
        request.die_with_parent = true;
        spawn(&request).unwrap()
    })
    .join()
    .unwrap();
    assert_eq!(wait(&spawned), 137);
}

#[test]
fn becomes_the_user_needs_root() {
    if !is_root("becomes_the_user_needs_root") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let out = c(scratch.path().join("out"));
    let identity = Identity {
        uid: NOBODY,
        gid: NOBODY,
        groups: vec![4242, 100, NOBODY, 100],
    };
    let shell = Shell::new("id -u; id -ru; id -g; grep -E 'Groups|CapEff' /proc/$$/status");
    let (_, code, _) = shell.output(|request| {
        request.identity = Some(&identity);
        request.no_new_privs = true;
        request.die_with_parent = true;
        request.stdout = Stdio::File {
            path: &out,
            usage: FileUse::Truncate,
        };
    });
    assert_eq!(code, 0);
    let text = std::fs::read_to_string(scratch.path().join("out")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[..3], ["65534", "65534", "65534"]);
    assert_eq!(lines[3].replace('\t', " "), "Groups: 100 4242 65534");
    assert!(lines[4].ends_with("0000000000000000"), "{text}");
    // The file was made by the user, not by root.
    let data = std::fs::metadata(scratch.path().join("out")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&data), NOBODY);
    // And we are still who we were.
    assert!(nix::unistd::geteuid().is_root());

    // Where only root may write, the user's output is refused.
    std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::remove_file(scratch.path().join("out")).unwrap();
    let error = shell.fails(|request| {
        request.identity = Some(&identity);
        request.stdout = Stdio::File {
            path: &out,
            usage: FileUse::Truncate,
        };
    });
    assert_eq!(
        (error.stage, error.errno),
        (SpawnStage::Stdout, Errno::EACCES)
    );
    // -1 means "leave as it is" to the kernel: it must not leave us root.
    let nobody_at_all = Identity {
        uid: u32::MAX,
        gid: NOBODY,
        groups: vec![],
    };
    let error = shell.fails(|request| request.identity = Some(&nobody_at_all));
    assert_eq!(error.stage, SpawnStage::Identity);
}

#[test]
fn many_threads_spawn_while_others_allocate() {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut kept = Vec::new();
            while !done.load(Relaxed) {
                kept.push(vec![1_u8; 10_000]);
                kept.truncate(100);
            }
        });
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                scope.spawn(move || {
                    for round in 0..50 {
                        let code = (worker * 50 + round) % 200;
                        let shell = Shell::new(&format!("exit {code}"));
                        let (_, seen, _) = shell.output(|_| {});
                        assert_eq!(seen, code);
                        let error = shell.fails(|request| request.program = c"/none");
                        assert_eq!(error.errno, Errno::ENOENT);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    std::fs::create_dir_all(directory.join("bin/folder")).unwrap();
    program_with(directory, "bin/tool", "", 0o755);
    program_with(directory, "bin/data", "", 0o644);
    let find =
        |name: &str, path: &str| find_program(OsStr::new(name), Some(OsStr::new(path)), directory);
    let tool = directory.join("bin/tool");
    assert_eq!(find("tool", "/none:bin").unwrap(), tool);
    assert_eq!(find("bin/tool", "").unwrap(), tool);
    assert_eq!(find("tool", "/etc/passwd:bin").unwrap(), tool);
    assert_eq!(find("nothing", "bin").unwrap_err().errno, Errno::ENOENT);
    assert_eq!(find("data", "bin").unwrap_err().errno, Errno::EACCES);
    assert_eq!(find("folder", "bin").unwrap_err().errno, Errno::EISDIR);
    assert_eq!(find("", "bin").unwrap_err().errno, Errno::ENOENT);
    let found = find_program(OsStr::new("sh"), None, directory).unwrap();
    assert!(found.ends_with("sh"));
    let message = find("nothing", "bin").unwrap_err().to_string();
    assert_eq!(
        message,
        "cannot run nothing: No such file or directory (not found in PATH on this node)"
    );
}
