//! Streams: `hpc run`, `hpc alloc`, `hpc logs`, `hpc attach`, `hpc wait`, across restarts of the controller.

use crate::fake::{Fake, Ran, Talk, eventually};
use hpc::model::ids::StepId;
use hpc::model::job::{JobState, Launch};
use hpc::model::refusal::{Code, Refusal};
use hpc::wire::client::{FromClient, Request, STREAM_WINDOW, Selector, ToClient};
use hpc::wire::view::JobView;
use hpc::wire::worker::LogChunk;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

fn chunk(rank: u32, stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = LogChunk {
        rank,
        stream,
        length: u32::try_from(text.len()).unwrap(),
    }
    .encode()
    .to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn data(offset: usize, bytes: &[u8]) -> ToClient {
    ToClient::NodeData {
        node: 0,
        offset: offset as u64,
        bytes: bytes.to_vec(),
    }
}

fn started() -> ToClient {
    ToClient::Started {
        raw_job: 42,
        environment: vec![],
    }
}

fn ended(state: JobState, code: u8) -> ToClient {
    ToClient::Ended {
        job: 42,
        state,
        code,
    }
}

/// Queues job 42, and has `attach` serve its client.
fn runner(attach: impl Fn(u64, &mut Talk) + Send + Sync + 'static) -> Fake {
    Fake::new(move |request, talk| match request {
        Request::Submit { .. } => talk.say(&ToClient::Submitted { job: 42 }),
        Request::AttachNodes {
            job: 42,
            step: StepId(0),
            offsets,
            owner: true,
            follow: true,
        } => attach(offsets.first().copied().unwrap_or(0), talk),
        other => panic!("{other:?}"),
    })
}

fn start(fake: &Fake, arguments: &[&str]) -> Child {
    let mut command = fake.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, number: nix::sys::signal::Signal) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        number,
    )
    .unwrap();
}

#[test]
fn output_of_all_ranks_and_the_code_come_back() {
    let log = [
        chunk(0, 1, "hello\n"),
        chunk(1, 2, "oops\n"),
        chunk(11, 1, "last\n"),
    ]
    .concat();
    let whole = log.clone();
    let fake = runner(move |offset, talk| {
        assert_eq!(offset, 0);
        talk.say(&started());
        talk.say(&data(0, &whole[..7]));
        talk.say(&data(7, &whole[7..]));
        talk.say(&ToClient::DataEnd { error: None });
        talk.say(&ended(JobState::Failed, 7));
    });
    let ran = fake.run(&["run", "-n", "12", "./prog", "-x"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (7, "hello\nlast\n", "oops\n")
    );
    let labelled = fake.run(&["run", "-n", "12", "--label", "./prog"]);
    assert_eq!(
        (labelled.out.as_str(), labelled.err.as_str()),
        (" 0: hello\n11: last\n", " 1: oops\n")
    );
    let Request::Submit { spec, .. } = &fake.seen()[0] else {
        panic!()
    };
    assert!(
        matches!(spec.launch, Launch::Tasks { .. })
            && spec.request.ntasks == Some(12)
            && spec.name == "prog"
    );
}

#[test]
fn after_a_restart_output_goes_on_where_it_stopped() {
    let log = Arc::new(
        [
            chunk(0, 1, "one\n"),
            chunk(0, 1, "two\n"),
            chunk(0, 1, "three\n"),
        ]
        .concat(),
    );
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&offsets);
    let fake = runner(move |offset, talk| {
        let first = seen.lock().unwrap().is_empty();
        seen.lock().unwrap().push(offset);
        talk.say(&started());
        if first {
            // Within a header: the connection then breaks.
            talk.say(&data(0, &log[..20]));
            return;
        }
        // Some of it once more, as a relay may.
        let from = usize::try_from(offset).unwrap() - 3;
        talk.say(&data(from, &log[from..]));
        talk.say(&ToClient::DataEnd { error: None });
        talk.say(&ended(JobState::Completed, 0));
    });
    let ran = fake.run(&["run", "./prog"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\ntwo\nthree\n"));
    assert!(ran.err.contains("the controller went away"), "{}", ran.err);
    assert_eq!(*offsets.lock().unwrap(), [0, 20]);
}

#[test]
fn standard_input_is_said_again_until_taken() {
    let fake = runner(|_, talk| {
        talk.say(&started());
        let mut input = Vec::new();
        loop {
            let Some(FromClient::Stdin { offset, bytes, end }) = talk.hear() else {
                return;
            };
            if talk.number == 1 {
                // Two of its bytes were taken, then the controller dies.
                assert_eq!((offset, bytes.as_slice()), (0, b"abcdef".as_slice()));
                talk.say(&ToClient::StdinTaken {
                    offset: 2,
                    closed: false,
                });
                // Time for it to arrive before the break.
                std::thread::sleep(std::time::Duration::from_millis(100));
                return;
            }
            assert_eq!(offset, 2 + input.len() as u64);
            input.extend(bytes);
            if end {
                break;
            }
        }
        let echo = chunk(
            0,
            1,
            &format!("got {}\n", String::from_utf8(input).unwrap()),
        );
        talk.say(&data(0, &echo));
        talk.say(&ToClient::DataEnd { error: None });
        talk.say(&ended(JobState::Completed, 0));
    });
    let mut child = start(&fake, &["run", "-Q", "cat"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"abcdef").unwrap();
    eventually("the second connection", || fake.seen().len() >= 3);
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.out.as_str()), (0, "got cdef\n"));
}

#[test]
fn signals_are_passed_on_and_a_second_interrupt_ends_the_job() {
    use nix::sys::signal::Signal;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&heard);
    let fake = runner(move |_, talk| {
        talk.say(&started());
        talk.say(&data(0, &chunk(0, 1, "ready\n")));
        while let Some(message) = talk.hear() {
            let last = message == FromClient::Cancel;
            if !matches!(message, FromClient::Stdin { .. }) {
                record.lock().unwrap().push(message);
            }
            if last {
                break;
            }
        }
        talk.say(&ToClient::DataEnd { error: None });
        talk.say(&ended(JobState::Cancelled, 143));
    });
    let mut child = start(&fake, &["run", "sleep", "60"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(&child, Signal::SIGUSR1);
    signal(&child, Signal::SIGTERM);
    eventually("both signals", || heard.lock().unwrap().len() == 2);
    signal(&child, Signal::SIGINT);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut warning = String::new();
    err.read_line(&mut warning).unwrap();
    assert_eq!(
        warning,
        "hpc run: interrupt (one more within 1 s ends job 42)\n"
    );
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_by_key(|message| format!("{message:?}"));
    assert_eq!(
        heard,
        [
            FromClient::Cancel,
            FromClient::Signal(10),
            FromClient::Signal(15)
        ]
    );
}

#[test]
fn a_job_that_waits_says_so_and_an_interrupt_cancels_it() {
    let fake = runner(|_, talk| {
        while let Some(message) = talk.hear() {
            if message == FromClient::Cancel {
                break;
            }
        }
        talk.say(&ended(JobState::Cancelled, 143));
    });
    let mut child = start(&fake, &["run", "true"]);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert_eq!(line, "hpc run: job 42 queued and waiting for resources\n");
    signal(&child, nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hpc run: job 42 cancelled\n");
}

#[test]
fn a_cancelled_job_that_never_ran_is_no_error() {
    let fake = runner(|_, talk| {
        while let Some(message) = talk.hear() {
            if message == FromClient::Cancel {
                break;
            }
        }
        talk.say(&ToClient::Refused(Refusal::new(
            Code::WrongState,
            "job 42 ended CANCELLED without running",
            "there is nothing to attach to",
        )));
    });
    let mut child = start(&fake, &["run", "true"]);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    err.read_line(&mut text).unwrap();
    signal(&child, nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    err.read_to_string(&mut text).unwrap();
    assert!(
        text.ends_with("resources\nhpc run: job 42 cancelled\n"),
        "{text}"
    );
}

#[test]
fn inside_a_job_a_step_is_started() {
    let fake = Fake::new(|request, talk| match request {
        Request::StartStep(_) => talk.say(&ToClient::StepStarted { step: StepId(3) }),
        Request::AttachNodes {
            job: 42,
            step: StepId(3),
            owner: true,
            ..
        } => {
            talk.say(&started());
            talk.say(&data(0, &chunk(0, 1, "x\n")));
            talk.say(&ToClient::DataEnd { error: None });
            talk.say(&ended(JobState::Completed, 0));
        }
        other => panic!("{other:?}"),
    });
    let mut command = fake.command(&["run", "-n", "2", "./prog"]);
    command
        .env("SLURM_JOB_ID", "42")
        .env("SLURM_NTASKS", "8")
        .stdin(Stdio::null());
    assert_eq!(Ran::from(command.output().unwrap()).ok(), "x\n");
    let Request::StartStep(step) = &fake.seen()[0] else {
        panic!()
    };
    assert_eq!((step.raw_job, step.ntasks, step.nodes), (42, Some(2), None));
    assert_eq!(step.arguments, ["./prog"]);
    assert!(
        step.environment
            .iter()
            .any(|(name, value)| name == b"SLURM_NTASKS" && value == b"8")
    );
    let mut command = fake.command(&["run", "-p", "other", "./prog"]);
    let ran = Ran::from(command.env("SLURM_JOB_ID", "42").output().unwrap());
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("--partition cannot be set for a step"),
        "{}",
        ran.err
    );
}

#[test]
fn an_allocation_is_held_used_and_given_back() {
    let fake = Fake::new(|request, talk| match request {
        Request::Submit { .. } => talk.say(&ToClient::Submitted { job: 42 }),
        Request::HoldAllocation { job: 42 } => {
            let environment = vec![
                ("SLURM_JOB_ID".into(), "42".into()),
                ("HPC_NNODES".into(), "2".into()),
                ("HPC_JOB_NODELIST".into(), "n[1-2]".into()),
                ("HPC_TASKS_PER_NODE".into(), "1(x2)".into()),
            ];
            talk.say(&ToClient::Started {
                raw_job: 42,
                environment,
            });
            talk.hear();
        }
        Request::EndAllocation { job: 42, code: 5 } => talk.say(&ToClient::Done {
            count: 1,
            notes: vec![],
        }),
        other => panic!("{other:?}"),
    });
    let ran = fake.run(&[
        "alloc",
        "-N",
        "2",
        "sh",
        "-c",
        "echo $SLURM_JOB_ID $HPC_NNODES; exit 5",
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (5, "42 2\n"));
    assert_eq!(
        ran.err,
        "hpc alloc: Pending job allocation 42\nhpc alloc: Granted job allocation 42\nhpc alloc: Relinquishing job allocation 42\n"
    );
    assert!(matches!(
        fake.seen().last(),
        Some(Request::EndAllocation { .. })
    ));
}

/// Grants allocation 42 with this environment and takes it back.
fn granting() -> Fake {
    Fake::new(|request, talk| match request {
        Request::Submit { .. } => talk.say(&ToClient::Submitted { job: 42 }),
        Request::HoldAllocation { job: 42 } => {
            talk.say(&ToClient::Started {
                raw_job: 42,
                environment: vec![("SLURM_JOB_ID".into(), "42".into())],
            });
            talk.hear();
        }
        Request::EndAllocation { job: 42, .. } => talk.say(&ToClient::Done {
            count: 1,
            notes: vec![],
        }),
        other => panic!("{other:?}"),
    })
}

#[test]
fn what_ends_the_client_of_an_allocation_ends_its_command_first() {
    use nix::sys::signal::Signal;
    for (sent, script, shown) in [
        (
            Signal::SIGTERM,
            "trap 'echo told; kill $!; exit 3' TERM",
            "told\n",
        ),
        (
            Signal::SIGHUP,
            "trap 'echo hung up; kill $!; exit' HUP",
            "hung up\n",
        ),
    ] {
        let fake = granting();
        let script = format!("{script}; echo ready; read line; sleep 60 & wait $!");
        let mut child = start(&fake, &["alloc", "-Q", "sh", "-c", &script]);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        signal(&child, sent);
        line.clear();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, shown);
        let code = 128 + sent as i32;
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(
            matches!(fake.seen().last(), Some(Request::EndAllocation { code: given, .. }) if i32::from(*given) == code)
        );
    }
}

#[test]
fn the_command_of_an_allocation_starts_as_a_job_would() {
    let fake = granting();
    let missing = fake.run(&["alloc", "-Q", "./no-such-command"]);
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (
            127,
            "hpc alloc: cannot run ./no-such-command: no such file or directory\n"
        )
    );
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let place = place.to_str().unwrap();
    let script = "pwd; echo ${A-none} ${SECRET-none} ${SLURM_CPUS_PER_TASK-none} ${SLURM_MEM_PER_CPU-none} $SLURM_JOB_ID; echo $HPC_SOCKET";
    let shown = |export: &str| {
        let mut command = fake.command(&["alloc", "-Q", "-D", place, export, "sh", "-c", script]);
        command
            .env("SECRET", "s")
            .env("SLURM_JOB_ID", "7")
            .env("SLURM_CPUS_PER_TASK", "4")
            .env("SLURM_MEM_PER_CPU", "100");
        Ran::from(command.output().unwrap()).ok()
    };
    let socket = fake.dir().join("hpc.sock");
    let socket = socket.display();
    assert_eq!(
        shown("--export=A=1"),
        format!("{place}\n1 none none none 42\n{socket}\n")
    );
    assert_eq!(
        shown("--export=ALL"),
        format!("{place}\nnone s none none 42\n{socket}\n")
    );
}

#[test]
fn a_lost_allocation_ends_its_command() {
    let fake = Fake::new(|request, talk| match request {
        Request::Submit { .. } => talk.say(&ToClient::Submitted { job: 42 }),
        Request::HoldAllocation { .. } => {
            talk.say(&started());
            std::thread::sleep(std::time::Duration::from_millis(50));
            talk.say(&ended(JobState::Timeout, 143));
        }
        _ => talk.say(&ToClient::Done {
            count: 0,
            notes: vec![],
        }),
    });
    let ran = fake.run(&["alloc", "sleep", "60"]);
    assert_eq!(ran.code, 129);
    assert!(
        ran.err
            .contains("Job allocation 42 has been revoked: TIMEOUT"),
        "{}",
        ran.err
    );
}

#[test]
fn logs_keep_the_window_open_and_survive_a_restart() {
    const PIECE: usize = 100_000;
    let whole: Arc<Vec<u8>> = Arc::new(
        (0..30 * PIECE)
            .map(|byte| b'a' + u8::try_from(byte % 26).unwrap())
            .collect(),
    );
    let expected = String::from_utf8(whole.to_vec()).unwrap();
    let fake = Fake::new(move |request, talk| {
        let Request::Output {
            offset,
            follow: true,
            ..
        } = request
        else {
            panic!("{request:?}")
        };
        let mut sent = usize::try_from(offset).unwrap();
        let mut taken = offset;
        while sent < whole.len() {
            while (sent + PIECE) as u64 - taken > STREAM_WINDOW {
                match talk.hear() {
                    Some(FromClient::Taken { offset }) => taken = offset,
                    other => panic!("{other:?}"),
                }
            }
            let piece = &whole[sent..(sent + PIECE).min(whole.len())];
            talk.say(&ToClient::Data {
                offset: sent as u64,
                bytes: piece.to_vec(),
            });
            sent += PIECE;
            if talk.number == 0 && sent >= 20 * PIECE {
                return;
            }
        }
        talk.say(&ToClient::DataEnd { error: None });
    });
    assert!(fake.run(&["logs", "-f", "42"]).ok() == expected);
    assert_eq!(fake.seen().len(), 2);
}

#[test]
fn an_output_that_cannot_be_read_is_an_error() {
    let fake = Fake::answering(ToClient::DataEnd {
        error: Some("/x/slurm-9.out: no such file".into()),
    });
    let ran = fake.run(&["logs", "9"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "hpc logs: error: /x/slurm-9.out: no such file\n")
    );
}

#[test]
fn waiting_goes_on_after_a_restart_and_takes_the_highest_code() {
    let fake = Fake::new(|request, talk| {
        let Request::Wait(selectors) = request else {
            panic!("{request:?}")
        };
        assert_eq!(selectors.len(), 2);
        talk.say(&ToClient::Ended {
            job: 12,
            state: JobState::Failed,
            code: 9,
        });
        if talk.number > 0 {
            talk.say(&ToClient::Ended {
                job: 13,
                state: JobState::Completed,
                code: 0,
            });
        }
    });
    assert_eq!(fake.run(&["wait", "12", "13"]).code, 9);
    assert_eq!(fake.seen().len(), 2);
}

#[test]
fn a_step_is_watched_without_its_input() {
    let fake = Fake::new(|request, talk| match request {
        Request::AttachNodes {
            job: 42,
            step: StepId(1),
            owner: false,
            ..
        } => {
            talk.say(&started());
            talk.say(&data(0, &chunk(3, 1, "line")));
            talk.say(&ToClient::DataEnd { error: None });
            talk.say(&ended(JobState::Completed, 0));
        }
        Request::Job {
            selector: Selector { job: 43, .. },
        } => talk.say(&ToClient::Jobs {
            jobs: vec![],
            last: true,
        }),
        other => panic!("{other:?}"),
    });
    assert_eq!(fake.run(&["attach", "--label", "42.1"]).ok(), "3: line\n");
}

#[test]
fn the_step_of_an_element_is_found_by_its_own_number() {
    let fake = Fake::new(|request, talk| match request {
        Request::Job { .. } => {
            let element = JobView {
                array_task: Some(3),
                raw_id: 15,
                ..crate::looking::job(12, "sweep", "RUNNING")
            };
            talk.say(&ToClient::Jobs {
                jobs: vec![element],
                last: true,
            });
        }
        Request::AttachNodes { job: 15, .. } => {
            talk.say(&started());
            talk.say(&data(0, &chunk(0, 1, "line\n")));
            talk.say(&ToClient::DataEnd { error: None });
            talk.say(&ended(JobState::Completed, 0));
        }
        Request::Output { .. } => talk.say(&ToClient::DataEnd { error: None }),
        other => panic!("{other:?}"),
    });
    assert_eq!(fake.run(&["attach", "12_3.0"]).ok(), "line\n");
    assert_eq!(fake.run(&["attach", "12_3"]).ok(), "");
}

#[test]
fn a_separate_standard_error_is_mentioned() {
    let fake = Fake::new(|request, talk| match request {
        Request::Job { .. } => {
            let view = JobView {
                stderr_path: Some("/home/alice/err".into()),
                ..crate::looking::job(12, "x", "RUNNING")
            };
            talk.say(&ToClient::Jobs {
                jobs: vec![view],
                last: true,
            });
        }
        _ => talk.say(&ToClient::DataEnd { error: None }),
    });
    let ran = fake.run(&["attach", "12"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            0,
            "hpc attach: standard error goes to /home/alice/err; `hpc logs -f --stderr 12` shows it\n"
        )
    );
}

#[test]
fn what_cannot_be_watched_is_refused_in_words() {
    let fake = Fake::new(|request, talk| match request {
        Request::AttachNodes {
            step: StepId(99), ..
        } => {
            talk.say(&started());
            let error = "there is no file /s/worker/slots/42.0/step.99.log on this node";
            talk.say(&ToClient::NodeEnd {
                node: 0,
                name: "n1".into(),
                error: Some(error.into()),
            });
            talk.say(&ended(JobState::Completed, 0));
        }
        Request::Job { .. } => talk.say(&ToClient::Jobs {
            jobs: vec![],
            last: true,
        }),
        Request::Output { follow: false, .. } => talk.say(&ToClient::Refused(Refusal::new(
            Code::WrongState,
            "job 42 is an allocation: its shell's output went to its terminal",
            "name the job of a script or of `hpc run`",
        ))),
        other => panic!("{other:?}"),
    });
    for (operand, said) in [
        ("42.99", "job 42 has no step 99 ["),
        ("42.batch", "job 42 has no step batch ["),
        ("42", "job 42 is an allocation: "),
    ] {
        let ran = fake.run(&["attach", operand]);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
        assert!(
            ran.err.starts_with(&format!("hpc attach: error: {said}")),
            "{ran:?}"
        );
    }
}
