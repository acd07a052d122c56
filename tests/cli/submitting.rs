//! Submission: where options come from, what reaches the controller, what is refused and how.

use crate::fake::{Fake, Ran, golden};
use hpc::model::job::{JobSpec, JobState, Launch, Surroundings};
use hpc::model::refusal::{Code, Refusal};
use hpc::model::resource::{GpuRequest, MemoryRequest};
use hpc::wire::client::{Request, ToClient};
use std::fs;
use std::io::Write;
use std::process::Stdio;

/// Gives every submission the number 42, and waiters its code 7.
fn cluster() -> Fake {
    Fake::new(|request, talk| match request {
        Request::Submit { dry_run: false, .. } => talk.say(&ToClient::Submitted { job: 42 }),
        Request::Submit { dry_run: true, .. } => {
            talk.say(&ToClient::WouldRun {
                text: "Job would start now on ws1".into(),
            });
        }
        Request::Wait(_) => talk.say(&ToClient::Ended {
            job: 42,
            state: JobState::Failed,
            code: 7,
        }),
        other => panic!("{other:?}"),
    })
}

/// The last submission, with a look-up of its bytes.
fn submitted(fake: &Fake) -> (JobSpec, impl Fn(hpc::model::ids::BlobId) -> Vec<u8>) {
    let last = fake
        .seen()
        .into_iter()
        .rev()
        .find_map(|request| match request {
            Request::Submit { spec, blobs, .. } => Some((*spec, blobs)),
            _ => None,
        });
    let (spec, blobs) = last.expect("something was submitted");
    (spec, move |id| {
        blobs
            .iter()
            .find(|(known, _)| *known == id)
            .expect("the bytes are there")
            .1
            .clone()
    })
}

fn with_stdin(fake: &Fake, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = fake
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Ran::from(child.wait_with_output().unwrap())
}

const SCRIPT: &str = "#!/bin/bash\n\n# a plain comment\n#SBATCH --job-name=from-directive -n 2\n#SBATCH --partition directive\n\
                      #HPC -t 10 --comment=\"a b\"\n ##SBATCH -n 99\necho $1\n#SBATCH -n 77\n";

#[test]
fn a_script_with_directives_variables_and_options() {
    let fake = cluster();
    fs::write(fake.dir().join("job.sh"), SCRIPT).unwrap();
    let mut command = fake.command(&[
        "submit",
        "-J",
        "from-line",
        "-c",
        "2",
        "-c",
        "3",
        "job.sh",
        "--epochs",
        "-n",
        "5",
    ]);
    command
        .env("SBATCH_JOB_NAME", "from-variable")
        .env("SBATCH_PARTITION", "variable")
        .env("HPC_QOS", "high");
    assert_eq!(
        Ran::from(command.output().unwrap()).ok(),
        "Submitted batch job 42\n"
    );
    let (spec, bytes) = submitted(&fake);
    assert_eq!(spec.name, "from-line");
    assert_eq!(spec.partition, "variable");
    assert_eq!(spec.qos, "high");
    assert_eq!(spec.request.ntasks, Some(2));
    assert_eq!(spec.request.cpus_per_task, Some(3));
    assert_eq!(spec.time_limit_s, Some(600));
    assert_eq!(spec.comment.as_deref(), Some("a b"));
    let Launch::Script { script, arguments } = &spec.launch else {
        panic!("{spec:?}")
    };
    assert_eq!(bytes(*script), SCRIPT.as_bytes());
    let arguments: Vec<String> = postcard::from_bytes(&bytes(*arguments)).unwrap();
    assert_eq!(arguments, ["--epochs", "-n", "5"]);
    assert_eq!(spec.work_dir, fake.dir().to_str().unwrap());
    assert_eq!(
        spec.command,
        format!("{}/job.sh --epochs -n 5", fake.dir().display())
    );
}

#[test]
fn every_option_in_one_golden_spec() {
    let fake = cluster();
    fs::create_dir(fake.dir().join("logs")).unwrap();
    let options = [
        "submit",
        "-J",
        "all",
        "-p",
        "batch",
        "-A",
        "lab",
        "-q",
        "high",
        "-t",
        "1-2:3:4",
        "-N",
        "2-4",
        "-n",
        "8",
        "-c",
        "3",
        "--ntasks-per-node=4",
        "--mem-per-cpu",
        "2G",
        "--gpus-per-node=a100:2",
        "-a",
        "0-15:4%2",
        "-d",
        "afterok:1:2_3",
        "--kill-on-invalid-dep=yes",
        "-D",
        "/",
        "-C",
        "a&b",
        "-x",
        "n[1-2]",
        "-w",
        "n[5-6],n9",
        "--exclusive",
        "--signal",
        "B:USR1@90",
        "--open-mode=append",
        "--requeue",
        "--comment",
        "-x",
        "-H",
        "-b",
        "2030-01-01T00:00:00Z",
        "--nice=-5",
        "--kill-wait",
        "5",
        "-otmp/%x-%j.out",
        "--error=/dev/null",
        "-i/dev/null",
        "--export=NONE",
        "--",
        "./prog",
        "-x",
        "--",
    ];
    // A begin time has no zone.
    let options = options.map(|word| {
        if word == "2030-01-01T00:00:00Z" {
            "2030-01-01T00:00:00"
        } else {
            word
        }
    });
    assert_eq!(fake.run(&options).ok(), "Submitted batch job 42\n");
    let (mut spec, bytes) = submitted(&fake);
    let Launch::Command { arguments } = &spec.launch else {
        panic!("{spec:?}")
    };
    assert_eq!(
        postcard::from_bytes::<Vec<String>>(&bytes(*arguments)).unwrap(),
        ["./prog", "-x", "--"]
    );
    let surroundings: Surroundings = postcard::from_bytes(&bytes(spec.surroundings)).unwrap();
    assert!(
        surroundings
            .environment
            .iter()
            .any(|(name, _)| name == b"PATH")
    );
    assert!(
        !surroundings
            .environment
            .iter()
            .any(|(name, _)| name == b"HPC_SOCKET")
    );
    // What differs between machines and runs.
    spec.submit_host = "HOST".into();
    spec.surroundings = hpc::model::ids::BlobId([0; 32]);
    golden("spec.txt", &format!("{spec:#?}\n"));
}

#[test]
fn spellings_of_getopt() {
    let fake = cluster();
    for (words, check) in [
        (
            vec!["-n4"],
            (|spec| spec.request.ntasks == Some(4)) as fn(&JobSpec) -> bool,
        ),
        (vec!["--cpus-per-t", "4"], |spec| {
            spec.request.cpus_per_task == Some(4)
        }),
        (vec!["--mem=0"], |spec| {
            spec.request.memory == MemoryRequest::PerNode(0)
        }),
        (vec!["--mem", "1G", "--mem=500M"], |spec| {
            spec.request.memory == MemoryRequest::PerNode(500)
        }),
        (
            vec!["-G2"],
            |spec| matches!(&spec.request.gpus, GpuRequest::Total(count) if count.count == 2),
        ),
        (
            vec!["--gres=gpu:a100:2"],
            |spec| matches!(&spec.request.gpus, GpuRequest::PerNode(count) if count.count == 2 && count.kind.as_deref() == Some("a100")),
        ),
        (vec!["--gres=none"], |spec| {
            spec.request.gpus == GpuRequest::None
        }),
        (vec!["-HQ"], |spec| spec.hold),
        (vec!["--requeue", "--no-requeue"], |spec| !spec.requeue),
        (vec!["--no-requeue", "--requeue"], |spec| spec.requeue),
        (vec!["--comment", "--partition"], |spec| {
            spec.comment.as_deref() == Some("--partition")
        }),
        (vec!["--nice"], |spec| spec.nice == 100),
        (vec!["-t", "0"], |spec| spec.time_limit_s.is_none()),
        (vec!["--mail-type=none"], |_| true),
        (vec!["--exclusive"], |spec| spec.request.exclusive),
        (vec!["-N", "2"], |spec| {
            (spec.request.nodes_min, spec.request.nodes_max) == (2, Some(2))
        }),
    ] {
        let line = [vec!["submit"], words.clone(), vec!["--", "true"]].concat();
        let ran = fake.run(&line);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        let (spec, _) = submitted(&fake);
        assert!(check(&spec), "{words:?}: {spec:?}");
    }
}

#[test]
fn sources_of_one_level_conflict_and_stronger_ones_replace() {
    let fake = cluster();
    let both = fake.run(&["submit", "--mem=1G", "--mem-per-cpu=1G", "--", "true"]);
    assert_eq!(both.code, 2);
    assert!(
        both.err
            .contains("--mem and --mem-per-cpu exclude one another"),
        "{}",
        both.err
    );
    let mut command = fake.command(&["submit", "--mem-per-cpu=1G", "--", "true"]);
    assert_eq!(
        command
            .env("SBATCH_MEM_PER_NODE", "4G")
            .status()
            .unwrap()
            .code(),
        Some(0)
    );
    assert_eq!(
        submitted(&fake).0.request.memory,
        MemoryRequest::PerCpu(1024)
    );
}

#[test]
fn inside_a_job_its_variables_are_neither_options_nor_inherited() {
    let fake = cluster();
    let mut command = fake.command(&["submit", "--", "true"]);
    command
        .env("HPC_JOB_ID", "7")
        .env("HPC_JOB_NAME", "outer")
        .env("SLURM_NTASKS", "8")
        .env("HPC_MEM_PER_NODE", "9G");
    assert_eq!(command.status().unwrap().code(), Some(0));
    let (spec, bytes) = submitted(&fake);
    assert_eq!(spec.name, "true");
    assert_eq!(spec.request.memory, MemoryRequest::Default);
    let surroundings: Surroundings = postcard::from_bytes(&bytes(spec.surroundings)).unwrap();
    let names: Vec<String> = surroundings
        .environment
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert!(
        !names.iter().any(
            |name| name.starts_with("SLURM_") && name != "SLURM_SUBMIT_DIR" || name == "HPC_JOB_ID"
        ),
        "{names:?}"
    );
    assert!(names.contains(&"HPC_SOCKET".to_owned()), "{names:?}");
}

#[test]
fn scripts_from_standard_input_and_wrap() {
    let fake = cluster();
    let ran = with_stdin(
        &fake,
        &["submit", "--parsable"],
        b"#!/bin/sh\n#SBATCH -J piped\ntrue\n",
    );
    assert_eq!(ran.ok(), "42\n");
    assert_eq!(submitted(&fake).0.name, "piped");
    assert_eq!(
        fake.run(&["submit", "--wrap=echo hi | cat"]).ok(),
        "Submitted batch job 42\n"
    );
    let (spec, bytes) = submitted(&fake);
    let Launch::Script { script, .. } = &spec.launch else {
        panic!("{spec:?}")
    };
    let script = String::from_utf8(bytes(*script)).unwrap();
    assert!(
        script.starts_with("#!/bin/sh\n") && script.ends_with("\necho hi | cat\n"),
        "{script}"
    );
    assert_eq!(fake.run(&["submit", "--wrap=true", "more"]).code, 2);
}

#[test]
fn waiting_returns_the_code_and_dry_runs_submit_nothing() {
    let fake = cluster();
    let ran = fake.run(&["submit", "-W", "--", "false"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (7, "Submitted batch job 42\n")
    );
    let mut command = fake.command(&["submit", "--", "false"]);
    assert_eq!(
        command.env("SBATCH_WAIT", "1").status().unwrap().code(),
        Some(7)
    );
    assert_eq!(
        fake.run(&["submit", "--dry-run", "--", "true"]).ok(),
        "Job would start now on ws1\n"
    );
    let ran = fake.run(&["submit", "--test-only", "--", "true"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "hpc submit: Job would start now on ws1\n")
    );
}

#[test]
fn mistakes_are_named_and_nothing_is_submitted() {
    let fake = cluster();
    fs::write(fake.dir().join("bad.sh"), "#!/bin/sh\n#SBATCH --nosuch=3\n").unwrap();
    fs::write(fake.dir().join("left.sh"), "#!/bin/sh\n#SBATCH -n 3 word\n").unwrap();
    fs::write(
        fake.dir().join("value.sh"),
        "#!/bin/sh\n\n#SBATCH -t soon\n",
    )
    .unwrap();
    fs::write(
        fake.dir().join("mail.sh"),
        "#!/bin/sh\n#SBATCH --mail-type=END\n",
    )
    .unwrap();
    fs::write(fake.dir().join("dos.sh"), "#!/bin/sh\r\ntrue\r\n").unwrap();
    fs::write(fake.dir().join("empty.sh"), "").unwrap();
    fs::write(fake.dir().join("plain.sh"), "true\n").unwrap();
    fs::write(fake.dir().join("wrap.sh"), "#!/bin/sh\n#SBATCH --wrap=x\n").unwrap();
    fs::write(fake.dir().join("programs.conf"), "0 a\n2 b\n").unwrap();
    fs::write(fake.dir().join("het.sh"), "#!/bin/sh\n#SBATCH hetjob\n").unwrap();
    fs::write(fake.dir().join("two.sh"), "#!/bin/sh\n#SBATCH --exp=NONE\n").unwrap();
    let lines: &[&[&str]] = &[
        &["submit", "--nosuch", "x.sh"],
        &["submit", "--job_name=x", "--", "true"],
        &["submit", "--mem-p=1G", "--", "true"],
        &["submit", "-t", "soon", "--", "true"],
        &["submit", "-n", "0", "--", "true"],
        &["submit", "-c", "-1", "--", "true"],
        &["submit", "-c", "99999999999", "--", "true"],
        &["submit", "-N", "4-2", "--", "true"],
        &["submit", "--mem=1.5G", "--", "true"],
        &["submit", "-a", "5-1", "--", "true"],
        &["submit", "-a", "4000001", "--", "true"],
        &["submit", "-d", "afterok", "--", "true"],
        &["submit", "--gres=fpga:1", "--", "true"],
        &["run", "--signal=B:USR1@5", "true"],
        &["submit", "--exclusive=user", "--", "true"],
        &["submit", "--output=%z.out", "--", "true"],
        &["submit", "--mail-type=END", "--", "true"],
        &["submit", "--netwo=ib", "--", "true"],
        &["submit", "--switches=0", "--", "true"],
        &["submit", "--switches=1@UNLIMITED", "--", "true"],
        &["submit", "--reserv=a b", "--", "true"],
        &["submit", "-L", "matlab:0", "--", "true"],
        &["submit", "-C", "[a|b]", "--", "true"],
        &["submit", "-C", "a&", "--", "true"],
        &["submit", "--hold=yes", "--", "true"],
        &["submit", "-o", "nowhere/%j.out", "--", "true"],
        &["submit", "-D", "/no/such/dir", "--", "true"],
        &["submit", "no-such-script"],
        &["submit", "."],
        &["submit", "true", "x y"],
        &["backup", "/nonexist/x"],
        &["submit", "bad.sh"],
        &["submit", "left.sh"],
        &["submit", "value.sh"],
        &["submit", "mail.sh"],
        &["submit", "wrap.sh"],
        &["submit", "het.sh"],
        &["submit", "two.sh"],
        &["submit", "--cpus", "2", "--", "true"],
        &["submit", "--licence=x", "--", "true"],
        &["run", "--mpi", "openmpi", "true"],
        &["run", "-X", "true"],
        &["run", "--kill-on-bad-exit=2", "true"],
        &["run", "--het-group=0", "true"],
        &["run", "-m", "block:cyclic", "true"],
        &["run", "-m", "plane", "true"],
        &["run", "-m", "arbitrary", "true"],
        &["run", "--relative=1", "true"],
        &["run", "--multi-prog", "no-such-file"],
        &["run", "-n", "3", "--multi-prog", "programs.conf"],
        &["run", "--multi-prog", "programs.conf", "-x"],
        &["run", "-o", "%z.out", "true"],
        &["submit", "-m", "cyclic", "--", "true"],
        &["run", "--requeue", "true"],
        &["node", "drain", "--reson", "x", "y"],
        &["bogus"],
        &["sumbit"],
        &["submit", "dos.sh"],
        &["submit", "empty.sh"],
        &["submit", "plain.sh"],
        &["submit", "--"],
        &["run"],
        &["run", "-a", "1-3", "true"],
        &["alloc", "-o", "x", "true"],
        &["cancel"],
        &["cancel", "abc"],
        &["queue", "-t", "XX"],
        &["update", "12", "color=red"],
        &["update", "12", "throttle=99999999999999"],
        &["history", "--limit", "abc"],
        &["job", "99999999999999999999"],
        &["up", "--cpus", "abc"],
        &["up", "--name", "a b"],
        &["worker", "--name", ""],
        &["node", ""],
        &["node", "drain", ""],
        &["node", "remove", " , "],
        &["signal", "NOSUCH", "12"],
        &["eff", "12"],
        &["nosuch"],
        &["queue", "--controller", "quic://there:7420"],
        &["queue", "--controller", "quic://there:x"],
        &["up", "--listen", "here:7420"],
        &["join", "10.0.0.5:7420"],
        &["login", "10.0.0.5:7420#wkr_abcdefgh"],
        &["invite", "--ttl", "soon"],
        &["invite", "--user", "alice"],
        &["invite", "--role", "user"],
    ];
    let mut text = String::new();
    for line in lines {
        let ran = fake.run(line);
        let err = ran.err.replace(fake.dir().to_str().unwrap(), "DIR");
        text.push_str(&format!(
            "$ hpc {}\n{err}{}[{}]\n\n",
            line.join(" "),
            ran.out,
            ran.code
        ));
    }
    golden("refusals.txt", &text);
    assert!(fake.seen().is_empty(), "{:?}", fake.seen());
}

#[test]
fn variables_of_refused_options_are_refused_by_name() {
    let fake = cluster();
    for (name, value, code) in [
        ("SBATCH_WCKEY", "maintenance", 2),
        ("SBATCH_CLUSTERS", "other", 2),
        ("SBATCH_GET_USER_ENV", "1", 2),
        ("SBATCH_WCKEY", "", 0),
    ] {
        let mut command = fake.command(&["submit", "--", "true"]);
        let ran = Ran::from(command.env(name, value).output().unwrap());
        assert_eq!(ran.code, code, "{ran:?}");
        let said = format!("hpc submit: error: {name} is not part of this version");
        assert_eq!(ran.err.starts_with(&said), code == 2, "{ran:?}");
    }
}

#[test]
fn the_version_where_slurms_fingers_look_for_it() {
    let fake = cluster();
    let version = fake.run(&["version"]).ok();
    for line in [["submit", "-V"], ["run", "--version"], ["alloc", "-V"]] {
        assert_eq!(fake.run(&line).ok(), version, "{line:?}");
    }
    assert_eq!(fake.run(&["--version"]).ok(), version);
}

#[test]
fn refusals_of_the_cluster_have_their_codes() {
    let refused = |code| {
        ToClient::Refused(Refusal::new(
            code,
            "partition x does not exist",
            "the partitions are batch",
        ))
    };
    let ran =
        Fake::answering(refused(Code::UnknownPartition)).run(&["submit", "-p", "x", "--", "true"]);
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.err,
        "hpc submit: error: partition x does not exist [HPC-E0005]\n  the partitions are batch\n"
    );
    assert_eq!(
        Fake::answering(refused(Code::NotPermitted))
            .run(&["cancel", "9"])
            .code,
        4
    );
    let nobody = crate::fake::bare(&["queue", "--state-dir", "/no/such/place"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(3));
}
