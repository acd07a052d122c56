//! Verbs with one answer, backup, and what is generated.

use crate::fake::{Fake, bare};
use hpc::model::job::JobState;
use hpc::model::limits::LimitKind;
use hpc::model::rules::{Act, Noun};
use hpc::wire::client::{JobChange, NodeChange, Request, ToClient};
use hpc::wire::worker::SignalTarget;
use std::fs;

fn done() -> Fake {
    Fake::answering(ToClient::Done {
        count: 1,
        notes: vec![],
    })
}

#[test]
fn each_verb_asks_for_what_it_says() {
    let fake = done();
    for line in [
        "cancel 12 13_4 14_[1-3]",
        "cancel --me -t pd",
        "cancel --signal USR1 --batch 12",
        "signal -f term 12",
        "hold 12",
        "release 12",
        "requeue --hold 12",
        "suspend 12",
        "resume 12",
        "update 12 time=+1 nice=3",
        "node drain n1 --reason disk",
        "node resume n1",
        "node remove n1",
    ] {
        assert_eq!(
            fake.run(&line.split(' ').collect::<Vec<_>>()).ok(),
            "",
            "{line}"
        );
    }
    let seen = fake.seen();
    assert!(
        matches!(&seen[0], Request::Cancel { filter } if filter.jobs.len() == 3 && filter.jobs[2].indices.is_some())
    );
    assert!(
        matches!(&seen[1], Request::Cancel { filter } if filter.users.len() == 1 && filter.states == [JobState::Pending])
    );
    assert!(matches!(
        &seen[2],
        Request::Signal {
            signal: 10,
            to: SignalTarget::Batch,
            ..
        }
    ));
    assert!(matches!(
        &seen[3],
        Request::Signal {
            signal: 15,
            to: SignalTarget::All,
            ..
        }
    ));
    assert!(matches!(&seen[4], Request::Hold(_)) && matches!(&seen[5], Request::Release(_)));
    assert!(matches!(&seen[6], Request::Requeue { hold: true, .. }));
    assert!(
        matches!(&seen[7], Request::Suspend { stop: true, .. })
            && matches!(&seen[8], Request::Suspend { stop: false, .. })
    );
    assert!(
        matches!(&seen[9], Request::Update { changes, .. } if *changes == [JobChange::TimeLimitBy(60), JobChange::Nice(3)])
    );
    assert!(
        matches!(&seen[10], Request::Node { name, change: NodeChange::Drain { reason } } if name == "n1" && reason == "disk")
    );
    assert!(
        matches!(&seen[12], Request::Node { name, change: NodeChange::Remove } if name == "n1")
    );
    assert_eq!(seen.len(), 13);
}

#[test]
fn a_change_of_a_rule_is_asked_as_it_is_typed() {
    let fake = done();
    let lines = [
        (Noun::Partition, Act::Set, "partition set batch max-time=2d"),
        (Noun::Account, Act::Add, "account add optics parent=physics"),
        (Noun::User, Act::Set, "user set ann account=physics qos="),
        (Noun::Qos, Act::Remove, "qos remove urgent"),
    ];
    for (_, _, line) in lines {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(fake.run(&words).ok(), "", "{line}");
    }
    for ((noun, act, line), seen) in lines.into_iter().zip(fake.seen()) {
        let Request::ChangeRule(change) = seen else {
            panic!("{line}: {seen:?}");
        };
        assert_eq!((change.noun, change.act), (noun, act));
        assert_eq!(change.to_string(), line);
    }
    for line in [
        "qos set normal",
        "qos set normal fast",
        "qos add a =1",
        "qos add",
    ] {
        let ran = fake.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line}: {}", ran.err);
    }
    assert_eq!(fake.seen().len(), 4, "nothing was asked");
}

#[test]
fn notes_about_jobs_left_alone_go_to_standard_error() {
    let fake = Fake::answering(ToClient::Done {
        count: 0,
        notes: vec!["job 9 has ended".into()],
    });
    let ran = fake.run(&["hold", "9"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "job 9 has ended\n")
    );
}

#[test]
fn a_filter_that_finds_nothing_says_so() {
    let fake = Fake::answering(ToClient::Done {
        count: 0,
        notes: vec![],
    });
    for (line, said) in [
        ("cancel -u nosuchuser", "hpc cancel: no job matches\n"),
        ("release -p nope", "hpc release: no job matches\n"),
        ("resume --me 12", "hpc resume: no job matches\n"),
        ("hold 12", ""),
    ] {
        let ran = fake.run(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(
            (ran.code, ran.out.as_str(), ran.err.as_str()),
            (0, "", said),
            "{line}"
        );
    }
}

#[test]
fn a_backup_is_whole_or_not_there() {
    let fake = Fake::new(|_, talk| {
        talk.say(&ToClient::Data {
            offset: 0,
            bytes: b"first ".to_vec(),
        });
        talk.say(&ToClient::Data {
            offset: 6,
            bytes: b"second".to_vec(),
        });
        let error = (talk.number > 0).then(|| "disk failed".to_owned());
        talk.say(&ToClient::DataEnd { error });
    });
    assert_eq!(fake.run(&["backup", "copy.redb"]).ok(), "");
    assert_eq!(
        fs::read(fake.dir().join("copy.redb")).unwrap(),
        b"first second"
    );
    let again = fake.run(&["backup", "copy.redb"]);
    assert_eq!(again.code, 1);
    assert!(
        again
            .err
            .contains("copy.redb exists and is not overwritten"),
        "{}",
        again.err
    );
    let failed = fake.run(&["backup", "other.redb"]);
    assert_eq!(
        (failed.code, failed.err.as_str()),
        (1, "hpc backup: error: disk failed\n")
    );
    assert!(
        !fake.dir().join("other.redb").exists() && !fake.dir().join("other.redb.partial").exists()
    );
}

#[test]
fn completions_manual_and_help_come_from_the_definitions() {
    let text = |line: &str| {
        let output = bare(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&format!("completions {shell}"));
        assert!(
            script.contains("partition") && script.contains("submit"),
            "{shell}"
        );
    }
    assert!(text("version").starts_with("hpc "));
    assert!(text("man").contains(".TH hpc 1"));
    let dir = tempfile::tempdir().unwrap();
    text(&format!("man {}", dir.path().display()));
    let page = fs::read_to_string(dir.path().join("hpc-submit.1")).unwrap();
    assert!(page.contains("ntasks"), "{page}");
    assert!(
        page.contains(".SH EXAMPLES\n") && !page.contains("EXTRA") && !page.contains("submit \""),
        "{page}"
    );
    let page = fs::read_to_string(dir.path().join("hpc.1")).unwrap();
    assert!(
        page.contains("hpc \\- A cluster manager") && !page.contains("cluster is meant"),
        "{page}"
    );
    assert!(dir.path().join("hpc-node-drain.1").exists());
    for verb in ["drain", "resume", "remove", "set"] {
        assert!(text(&format!("node {verb} --help")).contains("Examples:\n  hpc node"));
    }
    for noun in Noun::ALL.into_iter().filter(|noun| *noun != Noun::Node) {
        let command = noun.command();
        for verb in ["list", "show", "add", "set", "remove"] {
            let help = text(&format!("{command} {verb} --help"));
            let example = format!("Examples:\n  hpc {command} {verb}");
            assert!(help.contains(&example), "{help}");
        }
        let help = text(&format!("{command} set --help"));
        let kinds = LimitKind::ALL.map(LimitKind::word);
        let kinds = kinds.iter().filter(|_| noun.has_limits());
        for key in noun.keys().iter().chain(kinds) {
            assert!(help.contains(&format!("\n  {key} ")), "{key}:\n{help}");
        }
    }
    let overview = text("--help");
    for verb in overview
        .lines()
        .filter(|line| line.starts_with("  ") && !line.contains("&&"))
    {
        let verb = verb.split_whitespace().next().unwrap();
        let help = text(&format!("{verb} --help"));
        assert!(help.contains("Example"), "{verb} has no example:\n{help}");
    }
    assert!(!overview.contains("controller  ") && !overview.contains("shepherd"));
}
