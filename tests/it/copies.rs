//! `hpc cp` and `hpc run --bcast` between machines that share no file system.

use crate::lab::{Host, Lab};
use crate::support::{Answer, PATIENCE, kill_and_wait, wait_until};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

/// A cluster of all these machines, each with two cpus.
fn cluster(hosts: &[Host]) {
    let machine = ["--memory", "64G", "--cpus", "2"];
    hosts[0].ok(&[&["up", "--detach"], &machine[..]].concat());
    for host in &hosts[1..] {
        let line = hosts[0].ok(&["invite", "--parsable"]);
        host.ok(&[&["join", "--detach"], &machine[..], &[line.trim()]].concat());
    }
    wait_until("all respond", PATIENCE, || {
        hosts[0].responding().len() == hosts.len()
    });
}

fn is_there(host: &Host, path: &str) -> bool {
    host.path(path).exists()
}

/// Whether anything half done is left in a directory.
fn leftovers(host: &Host, directory: &str) -> Vec<String> {
    let names = fs::read_dir(host.path(directory)).unwrap();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".hpc-cp") || name.starts_with("hpc-bcast"))
        .collect()
}

fn refused(answer: &Answer, said: &str) {
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains(said), "{answer:?}");
}

#[test]
fn files_go_to_machines_and_come_back_as_they_were() {
    let Some(lab) = Lab::new("files_go_to_machines_and_come_back_as_they_were") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    let [head, full, drained] = &hosts[..] else {
        unreachable!()
    };
    cluster(&hosts);
    // One machine has no cpu left, another takes no work: files come and go all the same.
    let busy = head.submit(&["-w", "ws2", "-c", "2", "-o", "none", "--wrap", "sleep 300"]);
    head.wait_for_state(busy, "RUNNING");
    let waiting = head.submit(&["-w", "ws2", "-c", "2", "-o", "none", "--wrap", "true"]);
    head.ok(&["node", "drain", "ws3"]);

    head.call(&["mkdir", "-p", "/tmp/in/deep/empty", "/tmp/back"]);
    head.write("/tmp/in/deep/a file", "one");
    fs::set_permissions(
        head.path("/tmp/in/deep/a file"),
        fs::Permissions::from_mode(0o750),
    )
    .unwrap();
    head.call(&["ln", "-s", "a file", "/tmp/in/deep/link"]);
    head.call(&["touch", "-d", "2001-02-03T04:05:06", "/tmp/in/deep/a file"]);
    head.call(&["sh", "-c", "head -c 3000000 /dev/urandom > /tmp/in/data"]);
    head.call(&["touch", "/tmp/in/.hidden", "/tmp/in/-r"]);

    // One file: into a directory, under a new name, over an old one, to several machines.
    head.ok(&["cp", "/tmp/in/data", "ws2:/tmp"]);
    head.ok(&["cp", "/tmp/in/data", "ws2:/tmp/other"]);
    full.write("/tmp/old", "old");
    head.ok(&["cp", "/tmp/in/data", "ws[2-3]:/tmp/old"]);
    let sent = fs::read(head.path("/tmp/in/data")).unwrap();
    for (host, path) in [
        (full, "/tmp/data"),
        (full, "/tmp/other"),
        (full, "/tmp/old"),
        (drained, "/tmp/old"),
    ] {
        assert!(fs::read(host.path(path)).unwrap() == sent, "{path}");
    }
    // A tree there, and back again.
    head.ok(&["cp", "-r", "/tmp/in", "ws[2-3]:/tmp/tree"]);
    head.ok(&["cp", "-r", "ws3:/tmp/tree", "/tmp/back/tree"]);
    let listing = |directory: &str| {
        let words = [
            "sh",
            "-c",
            "cd \"$0\" && find . -printf '%P %M %l\\n' | sort && stat -c %Y 'deep/a file' && cat data",
            directory,
        ];
        let answer = head.call(&words);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out
    };
    assert_eq!(listing("/tmp/in"), listing("/tmp/back/tree"));
    // Merged with what is there already.
    drained.write("/tmp/tree/deep/more", "more");
    head.write("/tmp/in/deep/a file", "two");
    head.ok(&["cp", "-r", "/tmp/in/deep", "ws3:/tmp/tree/"]);
    assert_eq!(drained.read("/tmp/tree/deep/a file"), "two");
    assert_eq!(drained.read("/tmp/tree/deep/more"), "more");
    // Again, with a link to a directory, which stays one.
    head.call(&["ln", "-s", "empty", "/tmp/in/deep/to-empty"]);
    for _ in 0..2 {
        head.ok(&["cp", "-r", "/tmp/in/deep", "ws3:/tmp/tree/"]);
        head.ok(&["cp", "-r", "ws3:/tmp/tree/deep", "/tmp/back/"]);
    }
    let link = fs::read_link(head.path("/tmp/back/deep/to-empty")).unwrap();
    assert_eq!(link, std::path::Path::new("empty"));
    // Patterns, from several machines, from one to another, and below the home where the path is relative.
    head.ok(&["cp", "ws[2-3]:/tmp/o[lx]d*", "/tmp/back"]);
    for name in ["ws2", "ws3"] {
        let came = fs::read(head.path(&format!("/tmp/back/{name}/old"))).unwrap();
        assert!(came == sent, "{name}");
    }
    head.ok(&["cp", "ws2:/tmp/other", "ws3:/tmp/from-ws2"]);
    assert!(fs::read(drained.path("/tmp/from-ws2")).unwrap() == sent);
    head.ok(&["cp", "/tmp/in/deep/a file", "ws2:name"]);
    head.ok(&["cp", "ws2:name", "/tmp/back/name"]);
    assert_eq!(head.read("/tmp/back/name"), "two");

    let hpc = |words: &[&str]| head.run(&[&["cp"], words].concat());
    refused(
        &hpc(&["/tmp/in", "ws2:/tmp"]),
        "/tmp/in is a directory: say -r",
    );
    refused(
        &hpc(&["ws2:/tmp/tree", "/tmp"]),
        "/tmp/tree is a directory: say -r",
    );
    refused(&hpc(&["ws2:/none/*", "/tmp"]), "there is no /none/*");
    refused(&hpc(&["/none", "ws2:/tmp"]), "there is no /none");
    refused(
        &hpc(&["/tmp/in/data", "ws2:/none/x"]),
        "there is no directory /none/",
    );
    refused(
        &hpc(&["ws2:/tmp/data", "/none/x"]),
        "there is no directory /none",
    );
    refused(
        &hpc(&["/tmp/in/data", "ws9:/tmp"]),
        "node `ws9` does not exist",
    );
    refused(&hpc(&["/tmp/in/data", "ws2:/tmp/tree/deep/link/x"]), "link");
    refused(
        &hpc(&["/tmp/in/data", &format!("@{waiting}:/tmp")]),
        "has no nodes",
    );
    // What is no file is not made one, nor replaced by one.
    for host in [head, full] {
        host.call(&["mkfifo", "/tmp/pipe"]);
    }
    full.call(&["mkfifo", "/tmp/tree/deep/pipe"]);
    let special = "/tmp/pipe is no regular file";
    refused(&hpc(&["/tmp/in/data", "ws2:/tmp/pipe"]), special);
    refused(&hpc(&["ws2:/tmp/data", "/tmp/pipe"]), special);
    for host in [head, full] {
        let kind = fs::metadata(host.path("/tmp/pipe")).unwrap().file_type();
        assert!(kind.is_fifo(), "{}", host.name());
    }
    let neither = "pipe is neither file nor directory";
    refused(&hpc(&["ws2:/tmp/pipe", "/tmp/x"]), neither);
    refused(&hpc(&["-r", "ws2:/tmp/tree", "/tmp/x"]), neither);
    refused(
        &hpc(&["ws2:/proc/version", "/tmp/x"]),
        "/proc/version does not say how long it is",
    );
    assert!(!is_there(head, "/tmp/x"));
    assert_eq!(hpc(&["/tmp/in/data", "/tmp/x"]).code, 2);
    assert_eq!(hpc(&["/tmp/in/data", "@:/tmp/x"]).code, 2);
    for host in &hosts {
        for directory in ["/tmp", "/tmp/back", "/tmp/tree"] {
            if is_there(host, directory) {
                assert_eq!(leftovers(host, directory), [""; 0], "{}", host.name());
            }
        }
    }
    // The nodes of a job, from outside and from within.
    head.ok(&["cp", "/tmp/in/data", &format!("@{busy}:/tmp/by-job")]);
    assert!(fs::read(full.path("/tmp/by-job")).unwrap() == sent);
    head.ok(&["cancel", &busy.to_string(), &waiting.to_string()]);
    let script = "echo result > /tmp/result && hpc cp /tmp/result ws1:/tmp/back/result && hpc cp ws1:/tmp/in/data @:/tmp/mine";
    let words = [
        "submit", "-w", "ws2", "-D", "/tmp", "-o", "log", "--wait", "--wrap", script,
    ];
    let answer = head.run(&words);
    assert_eq!(answer.code, 0, "{answer:?} {:?}", full.read("/tmp/log"));
    assert_eq!(head.read("/tmp/back/result"), "result\n");
    full.ok(&["down", "--yes"]);
    refused(
        &hpc(&["/tmp/in/data", "ws[2-3]:/tmp"]),
        "node ws2 does not answer",
    );
    refused(
        &hpc(&["ws2:/tmp/data", "/tmp/x"]),
        "node ws2 does not answer",
    );
    assert!(fs::read(full.path("/tmp/mine")).unwrap() == sent);
}

#[test]
fn a_copy_that_breaks_off_changes_nothing() {
    let Some(lab) = Lab::new("a_copy_that_breaks_off_changes_nothing") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    let [head, other] = &hosts[..] else {
        unreachable!()
    };
    cluster(&hosts);
    other.write("/tmp/there", "old");
    head.write("/tmp/back", "old");
    for host in &hosts {
        let made = host.call(&["truncate", "-s", "64G", "/tmp/huge"]);
        assert_eq!(made.code, 0, "{made:?}");
    }
    for (words, to) in [
        (["/tmp/huge", "ws2:/tmp/there"], other),
        (["ws2:/tmp/huge", "/tmp/back"], head),
    ] {
        let mut client = head.hpc(&[&["cp"], &words[..]].concat()).spawn().unwrap();
        wait_until("it is under way", PATIENCE, || {
            leftovers(to, "/tmp").iter().any(|stage| {
                let files = fs::read_dir(to.path(&format!("/tmp/{stage}")));
                files.is_ok_and(|mut files| files.next().is_some())
            })
        });
        // Killed, it can tidy up nothing here: what is on the node goes all the same.
        if to.name() == "ws2" {
            kill_and_wait(Host::inner(&client));
            wait_until("nothing is left of it", PATIENCE, || {
                leftovers(to, "/tmp").is_empty()
            });
        } else {
            let inner = nix::unistd::Pid::from_raw(Host::inner(&client));
            nix::sys::signal::kill(inner, nix::sys::signal::Signal::SIGINT).unwrap();
            assert!(!client.wait().unwrap().success());
            assert_eq!(leftovers(to, "/tmp"), [""; 0]);
        }
        let _ = client.wait();
    }
    assert_eq!(other.read("/tmp/there"), "old");
    assert_eq!(head.read("/tmp/back"), "old");
    wait_until("no job is left", PATIENCE, || {
        head.json(&["queue"]).as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn a_program_goes_to_all_nodes_of_its_run() {
    let Some(lab) = Lab::new("a_program_goes_to_all_nodes_of_its_run") else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2", "ws3"]);
    let head = &hosts[0];
    cluster(&hosts);
    head.write(
        "/tmp/program",
        "#!/bin/sh\nread word\necho $word $SLURMD_NODENAME $SLURM_PROCID \"$@\"\nexit 5\n",
    );
    fs::set_permissions(head.path("/tmp/program"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |words: &[&str]| {
        let options = ["run", "-D", "/tmp", "-N", "3", "-n", "4"];
        let answer = head.run_with(&[&options, words].concat(), b"hello\n");
        let mut lines: Vec<&str> = answer.out.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            (answer.code, lines.join("\n").as_str()),
            (
                5,
                "hello ws1 0 a b\nhello ws1 1 a b\nhello ws2 2 a b\nhello ws3 3 a b"
            ),
            "{answer:?}"
        );
    };
    run(&["--bcast", "./program", "a", "b"]);
    for host in &hosts {
        assert_eq!(leftovers(host, "/tmp"), [""; 0], "{}", host.name());
    }
    run(&["--bcast=/tmp/kept", "/tmp/program", "a", "b"]);
    for host in &hosts {
        assert!(is_there(host, "/tmp/kept"), "{}", host.name());
    }
    // Within an allocation, and with a place that only some have: nothing runs, and nothing is left.
    let alloc = [
        "alloc", "-w", "ws[1-2]", "-n", "2", "-D", "/tmp", "hpc", "run",
    ];
    let answer = head.run_with(
        &[&alloc[..], &["--bcast", "./program", "x"]].concat(),
        b"hello\n",
    );
    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.out.contains("hello ws2 1 x"), "{answer:?}");
    head.call(&["mkdir", "/tmp/only-here"]);
    let words = [
        "run",
        "-D",
        "/tmp",
        "-N",
        "2",
        "--bcast=/tmp/only-here/p",
        "./program",
    ];
    refused(&head.run(&words), "there is no directory /tmp/only-here/");
    refused(
        &head.run(&["run", "-D", "/tmp", "--bcast=/tmp/only-here", "./program"]),
        "/tmp/only-here is a directory: end it with a slash",
    );
    refused(
        &head.run(&["run", "--bcast", "./none"]),
        "./none is no program",
    );
    for host in &hosts {
        assert_eq!(leftovers(host, "/tmp"), [""; 0], "{}", host.name());
    }
    wait_until("no job is left", PATIENCE, || {
        head.json(&["queue"]).as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
fn needs_root_what_is_copied_belongs_to_whose_account_it_is() {
    let test = "needs_root_what_is_copied_belongs_to_whose_account_it_is";
    let Some(lab) = Lab::with_users(test) else {
        return;
    };
    let hosts = lab.hosts(&["ws1", "ws2"]);
    for (host, uid) in hosts.iter().zip([2001, 3001]) {
        host.write(
            "/etc/passwd",
            &format!("root:x:0:0:root:/root:/bin/sh\nalice:x:{uid}:{uid}::/tmp/alice:/bin/sh\n"),
        );
        host.write("/etc/group", "root:x:0:\n");
        host.call(&["mkdir", "-m", "700", "/tmp/alice", "/tmp/of-root"]);
        host.call(&["chown", &uid.to_string(), "/tmp/alice"]);
    }
    cluster(&hosts);
    let person = hosts[0].seen_by(2001, 2001);
    hosts[0].write("/tmp/alice/file", "mine");
    hosts[0].call(&["chown", "2001:2001", "/tmp/alice/file"]);
    person.ok(&["cp", "/tmp/alice/file", "ws2:"]);
    let owner = hosts[1].call(&["stat", "-c", "%u %U", "/tmp/alice/file"]);
    assert_eq!(owner.out, "3001 alice\n", "{owner:?}");
    person.ok(&["cp", "ws2:file", "/tmp/alice/back"]);
    let owner = hosts[0].call(&["stat", "-c", "%u", "/tmp/alice/back"]);
    assert_eq!(owner.out, "2001\n", "{owner:?}");
    for words in [
        ["cp", "/tmp/alice/file", "ws2:/tmp/of-root/x"],
        ["cp", "ws2:/etc/shadow", "/tmp/alice/shadow"],
        ["cp", "ws2:/tmp/of-root/none", "/tmp/alice/none"],
    ] {
        let answer = person.run(&words);
        assert_eq!(answer.code, 1, "{answer:?}");
    }
    assert!(!is_there(&hosts[0], "/tmp/alice/shadow"));
}
