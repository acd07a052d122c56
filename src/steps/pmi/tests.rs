//! Conversations with the server: written ones here, recorded and random ones in files of their own.

mod random;
mod recorded;

use super::*;
use std::fmt::Write;

const NAME: &str = "job7.0.1";

fn facts(ranks: &[u32], size: u32) -> PmiFacts {
    PmiFacts {
        kvs_name: NAME.to_owned(),
        size,
        ranks: ranks.to_vec(),
        app_numbers: vec![0; ranks.len()],
        universe: 8,
        mapping: Some("(vector,(0,2,2))".to_owned()),
        ..PmiFacts::default()
    }
}

/// A server under test. What it does is written down, one act a line.
struct Node {
    server: PmiServer,
    acts: Vec<PmiAct>,
}

impl Node {
    fn new(ranks: &[u32], size: u32) -> Self {
        Self {
            server: PmiServer::new(facts(ranks, size)),
            acts: Vec::new(),
        }
    }

    /// Lines of a rank; what follows from them.
    fn says(&mut self, local: u32, text: &str) -> String {
        self.server.receive(local, text.as_bytes(), &mut self.acts);
        self.told()
    }

    fn frame(&mut self, local: u32, text: &str) -> String {
        self.says(local, &framed(text))
    }

    fn init(&mut self, local: u32) {
        let told = self.says(local, "cmd=init pmi_version=1 pmi_subversion=1\n");
        assert!(told.ends_with(&format!("{local} initialised\n")), "{told}");
    }

    fn init_frames(&mut self, local: u32) {
        let told = self.says(local, "cmd=init pmi_version=2 pmi_subversion=0\n");
        assert!(
            told.contains("pmi_version=2 pmi_subversion=0 rc=0"),
            "{told}"
        );
    }

    /// The fence that was given out last comes back from all nodes.
    fn fenced(&mut self, epoch: u32, parts: &[Vec<u8>]) -> String {
        self.server.fenced(epoch, parts, &mut self.acts);
        self.told()
    }

    fn closes(&mut self, local: u32) -> String {
        self.server.closed(local, &mut self.acts);
        self.told()
    }

    fn named(&mut self, ask: u64, answer: NameAnswer) -> String {
        self.server.named(ask, answer, &mut self.acts);
        self.told()
    }

    fn told(&mut self) -> String {
        let acts = std::mem::take(&mut self.acts);
        acts.iter().map(shown).collect()
    }
}

fn framed(text: &str) -> String {
    format!("{:<6}{text}", text.len())
}

fn shown(act: &PmiAct) -> String {
    match act {
        PmiAct::Answer { local, bytes } => {
            let text = String::from_utf8_lossy(bytes);
            format!("{local}< {}\n", text.trim())
        }
        PmiAct::Fence { epoch, fresh } => {
            let mut text = format!("fence {epoch}");
            for pair in pairs(fresh) {
                let (key, value) = pair.unwrap();
                write!(text, " {}={}", key.escape_ascii(), value.escape_ascii()).unwrap();
            }
            text + "\n"
        }
        PmiAct::Name { ask, request } => format!("name {ask} {request:?}\n"),
        PmiAct::Spawn {
            ask,
            local,
            request,
        } => {
            let SpawnRequest { commands, pairs } = &**request;
            let mut text = format!("{local} spawn {ask}");
            for one in commands {
                let (words, hosts) = (one.arguments.join(" "), one.hosts.join("+"));
                let directory = one.directory.as_deref().unwrap_or_default();
                write!(text, " [{}*{words}|{directory}|{hosts}]", one.ranks).unwrap();
            }
            for (key, value) in pairs {
                write!(text, " {}={}", key.escape_ascii(), value.escape_ascii()).unwrap();
            }
            text + "\n"
        }
        PmiAct::Initialised { local } => format!("{local} initialised\n"),
        PmiAct::Finalised { local } => format!("{local} finalised\n"),
        PmiAct::Abort { local, code, text } => format!("{local} abort {code} {text}\n"),
        PmiAct::Broken { local, text } => format!("{local} broken: {text}\n"),
        PmiAct::Vanished { local } => format!("{local} vanished\n"),
    }
}

#[test]
fn a_rank_alone_is_told_all_it_asks_for() {
    let mut facts = facts(&[5], 6);
    facts.app_numbers = vec![2];
    let mut node = Node {
        server: PmiServer::new(facts),
        acts: Vec::new(),
    };
    for (line, answer) in [
        (
            "cmd=init pmi_version=1 pmi_subversion=2",
            "0< cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n0 initialised\n",
        ),
        (
            "cmd=get_maxes",
            "0< cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=1024 rc=0\n",
        ),
        ("cmd=get_appnum", "0< cmd=appnum appnum=2 rc=0\n"),
        (
            "cmd=get_universe_size",
            "0< cmd=universe_size size=8 rc=0\n",
        ),
        (
            "cmd=get_my_kvsname",
            "0< cmd=my_kvsname kvsname=job7.0.1 rc=0\n",
        ),
        (
            "cmd=get kvsname=job7.0.1 key=PMI_process_mapping",
            "0< cmd=get_result rc=0 msg=success value=(vector,(0,2,2))\n",
        ),
        (
            "cmd=get kvsname=job7.0.1 key=PMI_hwloc_xmlfile",
            "0< cmd=get_result rc=-1 msg=key_not_found value=unknown\n",
        ),
        (
            "cmd=get kvsname=other key=PMI_process_mapping",
            "0< cmd=get_result rc=-1 msg=key_not_found value=unknown\n",
        ),
        (
            "cmd=put kvsname=other key=a value=b",
            "0< cmd=put_result rc=-1 msg=no_such_key_space\n",
        ),
        (
            "cmd=put kvsname=job7.0.1 key=a value=b c=d",
            "0< cmd=put_result rc=0 msg=success\n",
        ),
        (
            "cmd=get kvsname=job7.0.1 key=a",
            "0< cmd=get_result rc=0 msg=success value=b c=d\n",
        ),
        ("cmd=dance", "0< cmd=dance_result rc=-1 msg=not_supported\n"),
        ("cmd=barrier_in", "fence 0 a=b c=d\n"),
    ] {
        assert_eq!(node.says(0, &format!("{line}\n")), answer);
    }
    assert_eq!(node.fenced(0, &[Vec::new()]), "0< cmd=barrier_out rc=0\n");
    assert!(node.server.is_initialised(0) && !node.server.is_finalised(0));
    assert_eq!(
        node.says(0, "cmd=finalize\n"),
        "0< cmd=finalize_ack rc=0\n0 finalised\n"
    );
    assert!(node.server.is_finalised(0));
    assert_eq!(node.closes(0), "");
    assert!(node.server.is_initialised(0) && node.server.is_finalised(0));
}

#[test]
fn what_one_node_puts_the_other_gets_after_the_fence() {
    let (mut one, mut two) = (Node::new(&[0, 1], 3), Node::new(&[2], 3));
    one.init(0);
    one.init(1);
    two.init(0);
    one.says(0, "cmd=put kvsname=job7.0.1 key=a value=1\n");
    two.says(0, "cmd=put kvsname=job7.0.1 key=b value=2\n");
    let missed = "0< cmd=get_result rc=-1 msg=key_not_found value=unknown\n";
    assert_eq!(two.says(0, "cmd=get kvsname=job7.0.1 key=a\n"), missed);
    assert_eq!(one.says(1, "cmd=barrier_in\n"), "");
    assert_eq!(two.says(0, "cmd=barrier_in\n"), "fence 0 b=2\n");
    assert_eq!(one.says(0, "cmd=barrier_in\n"), "fence 0 a=1\n");
    let parts = [b"\x01\x01\x00a1".to_vec(), b"\x01\x01\x00b2".to_vec()];
    assert_eq!(one.fenced(1, &parts), "", "not the fence waited for");
    assert_eq!(
        one.fenced(0, &parts),
        "0< cmd=barrier_out rc=0\n1< cmd=barrier_out rc=0\n"
    );
    assert_eq!(one.fenced(0, &parts), "", "it is over");
    assert_eq!(two.fenced(0, &parts), "0< cmd=barrier_out rc=0\n");
    let found = |value| format!("0< cmd=get_result rc=0 msg=success value={value}\n");
    assert_eq!(two.says(0, "cmd=get kvsname=job7.0.1 key=a\n"), found("1"));
    assert_eq!(one.says(0, "cmd=get kvsname=job7.0.1 key=b\n"), found("2"));
    assert_eq!(two.says(0, "cmd=barrier_in\n"), "fence 1\n");
}

#[test]
fn nodes_agree_on_a_key_that_two_of_them_have_put() {
    let mut nodes = [Node::new(&[0], 2), Node::new(&[1], 2)];
    let mut parts = Vec::new();
    for (value, node) in nodes.iter_mut().enumerate() {
        node.init(0);
        node.says(
            0,
            &format!("cmd=put kvsname=job7.0.1 key=k value={value}\n"),
        );
        let mut out = Vec::new();
        node.server.receive(0, b"cmd=barrier_in\n", &mut out);
        let [PmiAct::Fence { fresh, .. }] = out.as_slice() else {
            panic!("{out:?}");
        };
        parts.push(fresh.clone());
    }
    for node in &mut nodes {
        node.fenced(0, &parts);
        let got = node.says(0, "cmd=get kvsname=job7.0.1 key=k\n");
        assert!(got.ends_with("value=1\n"), "{got}");
    }
}

#[test]
fn frames_are_answered_by_frames() {
    let mut node = Node::new(&[3, 4], 8);
    node.init_frames(0);
    for (frame, answer) in [
        (
            "cmd=fullinit;pmirank=3;threaded=FALSE;",
            "cmd=fullinit-response;rc=0;pmi-version=2;pmi-subversion=0;rank=3;size=8;appnum=0;debugged=FALSE;pmiverbose=FALSE;",
        ),
        (
            "cmd=job-getid;",
            "cmd=job-getid-response;rc=0;jobid=job7.0.1;",
        ),
        (
            "cmd=info-getjobattr;key=PMI_process_mapping;",
            "cmd=info-getjobattr-response;rc=0;found=TRUE;flag=TRUE;value=(vector,(0,2,2));",
        ),
        (
            "cmd=info-getjobattr;key=universeSize;",
            "cmd=info-getjobattr-response;rc=0;found=TRUE;flag=TRUE;value=8;",
        ),
        (
            "cmd=info-getjobattr;key=other;",
            "cmd=info-getjobattr-response;rc=0;found=FALSE;flag=FALSE;",
        ),
        (
            "cmd=kvs-put;thrid=0x1;key=k;value=a;;b;",
            "cmd=kvs-put-response;thrid=0x1;rc=0;",
        ),
        (
            "cmd=kvs-get;jobid=job7.0.1;srcid=-1;key=k;",
            "cmd=kvs-get-response;rc=0;found=TRUE;flag=TRUE;value=a;;b;",
        ),
        (
            "cmd=kvs-get;jobid=other;srcid=-1;key=k;",
            "cmd=kvs-get-response;rc=0;found=FALSE;flag=FALSE;",
        ),
        (
            "cmd=kvs-put;key=k;value=two\nlines;",
            "cmd=kvs-put-response;rc=1;errmsg=a line end or a zero byte within a pair;",
        ),
        (
            "cmd=spawn;ncmds=1;subcmd=a;",
            "cmd=spawn-response;rc=1;errmsg=it asks for no process;",
        ),
        (
            "cmd=job-connect;jobid=x;",
            "cmd=job-connect-response;rc=1;errmsg=not supported;",
        ),
    ] {
        let answer = format!("0< {:>6}{answer}", answer.len());
        let told = node.frame(0, frame);
        assert_eq!(
            told.trim().replace("0< ", ""),
            answer.replace("0< ", "").trim()
        );
    }
}

#[test]
fn a_step_may_speak_both_dialects() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(0);
    node.init_frames(1);
    node.frame(1, "cmd=kvs-put;key=k;value=x;;y;");
    assert_eq!(node.frame(1, "cmd=kvs-fence;thrid=9;"), "");
    assert_eq!(node.says(0, "cmd=barrier_in\n"), "fence 0 k=x;y\n");
    assert_eq!(
        node.fenced(0, &[]),
        "0< cmd=barrier_out rc=0\n1< 36cmd=kvs-fence-response;thrid=9;rc=0;\n"
    );
    assert_eq!(
        node.says(0, "cmd=get kvsname=job7.0.1 key=k\n"),
        "0< cmd=get_result rc=0 msg=success value=x;y\n"
    );
}

#[test]
fn a_node_attribute_is_waited_for() {
    let mut node = Node::new(&[0, 1, 2], 3);
    (0..3).for_each(|local| node.init_frames(local));
    let miss = "1< 58cmd=info-getnodeattr-response;rc=0;found=FALSE;flag=FALSE;\n";
    assert_eq!(node.frame(1, "cmd=info-getnodeattr;key=k;"), miss);
    assert_eq!(
        node.frame(1, "cmd=info-getnodeattr;key=k;wait=TRUE;thrid=a;"),
        ""
    );
    assert_eq!(node.frame(2, "cmd=info-getnodeattr;key=k;wait=TRUE;"), "");
    // Another thread goes on meanwhile.
    assert!(node.frame(1, "cmd=job-getid;thrid=b;").contains("thrid=b"));
    node.closes(2);
    assert_eq!(
        node.frame(0, "cmd=info-putnodeattr;key=k;value=v;"),
        "0< 35cmd=info-putnodeattr-response;rc=0;\n\
         1< 72cmd=info-getnodeattr-response;thrid=a;rc=0;found=TRUE;flag=TRUE;value=v;\n"
    );
    assert!(
        node.frame(1, "cmd=info-getnodeattr;key=k;wait=TRUE;")
            .contains("value=v")
    );
}

#[test]
fn names_are_asked_of_others() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(0);
    node.init_frames(1);
    let ask = node.says(0, "cmd=publish_name service=s port=tag#0$x y$\n");
    assert_eq!(
        ask,
        "name 0 Publish { service: \"s\", port: \"tag#0$x y$\" }\n"
    );
    let ask = node.frame(1, "cmd=name-lookup;name=s;infokeycount=0;");
    assert_eq!(ask, "name 1 Lookup { service: \"s\" }\n");
    let told = node.named(1, NameAnswer::Found("p;q".to_owned()));
    assert_eq!(
        told,
        "1< 51cmd=name-lookup-response;rc=0;value=p;;q;port=p;;q;\n"
    );
    assert_eq!(
        node.named(0, NameAnswer::Done),
        "0< cmd=publish_result info=ok rc=0 msg=success\n"
    );
    assert_eq!(node.named(0, NameAnswer::Done), "", "already answered");
    node.says(0, "cmd=lookup_name service=t\n");
    assert_eq!(
        node.named(2, NameAnswer::NotFound),
        "0< cmd=lookup_result info=not_found rc=-1 msg=not_found\n"
    );
    node.says(0, "cmd=lookup_name service=t\n");
    assert_eq!(
        node.named(3, NameAnswer::Found("p".to_owned())),
        "0< cmd=lookup_result info=ok rc=0 msg=success port=p\n"
    );
    node.says(0, "cmd=unpublish_name service=t\n");
    node.closes(0);
    assert_eq!(node.named(4, NameAnswer::Done), "", "nobody listens");
}

#[test]
fn ranks_that_have_finalised_are_not_waited_for() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(0);
    node.init(1);
    assert_eq!(node.says(0, "cmd=barrier_in\n"), "");
    let told = node.says(1, "cmd=finalize\n");
    assert_eq!(told, "1< cmd=finalize_ack rc=0\n1 finalised\nfence 0\n");
    assert_eq!(
        node.says(1, "cmd=barrier_in\n"),
        "1< cmd=barrier_out rc=-1 msg=after_finalize\n"
    );
    assert_eq!(node.fenced(0, &[]), "0< cmd=barrier_out rc=0\n");
}

/// Two ranks here and one elsewhere, after the fences of a start.
fn started() -> Node {
    let mut node = Node::new(&[0, 1], 3);
    node.init(0);
    node.init(1);
    for epoch in 0..2 {
        node.says(0, "cmd=barrier_in\n");
        assert!(!node.server.is_held_up());
        node.says(1, "cmd=barrier_in\n");
        node.fenced(epoch, &[Vec::new(), Vec::new()]);
    }
    node
}

fn hurried(node: &mut Node) -> String {
    node.server.hurry(&mut node.acts);
    node.told()
}

#[test]
fn who_waits_for_others_at_the_end_may_be_let_go_and_the_fence_still_counts() {
    let mut node = started();
    node.says(0, "cmd=barrier_in\n");
    assert!(node.server.is_held_up());
    assert_eq!(hurried(&mut node), "0< cmd=barrier_out rc=0\n");
    assert!(!node.server.is_held_up());
    let told = node.says(0, "cmd=finalize\n");
    assert_eq!(told, "0< cmd=finalize_ack rc=0\n0 finalised\n");
    // The other rank here makes it whole, and is answered once all are in.
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "fence 2\n");
    assert_eq!(
        node.fenced(2, &[Vec::new(), Vec::new()]),
        "1< cmd=barrier_out rc=0\n"
    );
    // It alone takes part in the next.
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "fence 3\n");
}

#[test]
fn who_was_let_go_early_gets_what_it_asks_for_once_the_others_are_there() {
    let mut node = started();
    node.says(0, "cmd=barrier_in\n");
    hurried(&mut node);
    assert_eq!(node.says(0, "cmd=get kvsname=job7.0.1 key=b\n"), "");
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "fence 2\n");
    assert_eq!(hurried(&mut node), "1< cmd=barrier_out rc=0\n");
    // It runs ahead by a whole fence.
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "");
    let told = node.fenced(2, &[Vec::new(), b"\x01\x01\x00b2".to_vec()]);
    assert_eq!(told, "0< cmd=get_result rc=0 msg=success value=2\n");
    assert_eq!(node.says(0, "cmd=barrier_in\n"), "fence 3\n");
}

#[test]
fn who_brings_something_or_only_begins_is_not_let_go() {
    let mut node = started();
    node.says(0, "cmd=put kvsname=job7.0.1 key=a value=1\n");
    node.says(0, "cmd=barrier_in\n");
    assert_eq!(hurried(&mut node), "");
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "fence 2 a=1\n");
    assert_eq!(hurried(&mut node), "");
    let mut first = Node::new(&[0, 1], 3);
    first.init(0);
    first.says(0, "cmd=barrier_in\n");
    assert_eq!(hurried(&mut first), "");
}

#[test]
fn a_rank_may_begin_anew() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(1);
    node.init_frames(0);
    assert!(
        node.frame(0, "cmd=finalize;")
            .contains("finalize-response;rc=0;")
    );
    assert!(node.server.is_finalised(0));
    node.says(1, "cmd=barrier_in\n");
    node.init(0);
    assert!(!node.server.is_finalised(0));
    // The fence that went on without it is not the one it enters.
    assert_eq!(node.says(0, "cmd=barrier_in\n"), "");
    assert_eq!(node.fenced(0, &[]), "1< cmd=barrier_out rc=0\n");
    assert_eq!(node.says(1, "cmd=barrier_in\n"), "fence 1\n");
    assert_eq!(node.closes(0), "0 vanished\n");
}

#[test]
fn a_rank_that_is_silent_is_waited_for() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(0);
    assert_eq!(node.says(0, "cmd=barrier_in\n"), "");
    assert_eq!(node.closes(1), "", "it never spoke");
    assert!(!node.server.is_initialised(1));
}

#[test]
fn an_abort_ends_the_talk() {
    let mut node = Node::new(&[0, 1], 2);
    let told = node.says(0, "cmd=abort exitcode=7 message=no\tway\ncmd=get_maxes\n");
    assert_eq!(told, "0 abort 7 no way\n");
    assert_eq!(node.closes(0), "");
    node.init_frames(1);
    let told = node.frame(
        1,
        "cmd=abort;isworld=TRUE;exitcode=-1;msg=because;; I say so;",
    );
    assert_eq!(told, "1 abort -1 because; I say so\n");
}

/// Two commands as MPICH 5 asks for them, the second with what users may say of it.
const SPAWN: &str = "mcmd=spawn\nnprocs=2\nexecname=/bin/true\ntotspawns=2\nspawnssofar=1\nargcnt=0\npreput_num=1\n\
    preput_key_0=PORT\npreput_val_0=tag#0$x=y z$\ninfo_num=0\nendcmd\n\
    mcmd=spawn\nnprocs=1\nexecname=b\ntotspawns=2\nspawnssofar=2\narg1=one word\narg2=a=b\nargcnt=2\ninfo_num=3\n\
    info_key_0=wdir\ninfo_val_0=/some where\ninfo_key_1=host\ninfo_val_1=n1,n2\ninfo_key_2=soft\ninfo_val_2=1\nendcmd\n";

#[test]
fn a_spawn_is_passed_on_once_it_is_whole_and_answered_once_it_is_done() {
    let mut node = Node::new(&[0, 1], 2);
    node.init(0);
    node.init(1);
    let wanted =
        "0 spawn 0 [2*/bin/true||] [1*b one word a=b|/some where|n1+n2] PORT=tag#0$x=y z$\n";
    let (first, second) = SPAWN.split_at(SPAWN.find("mcmd=spawn\nnprocs=1").unwrap());
    assert_eq!(node.says(0, first), "");
    assert_eq!(node.says(0, second), wanted);
    assert_eq!(
        node.says(1, SPAWN),
        wanted.replace("0 spawn 0", "1 spawn 1")
    );
    // Meanwhile others are served.
    let mut answered = |ask, answer| {
        let mut acts = Vec::new();
        node.server.spawned(ask, answer, &mut acts);
        acts.iter().map(shown).collect::<String>()
    };
    let no = answered(1, Err("no room"));
    assert_eq!(no, "1< cmd=spawn_result rc=-1 msg=no_room\n");
    assert_eq!(answered(0, Ok("new")), "0< cmd=spawn_result rc=0\n");
    assert_eq!(answered(0, Ok("new")), "");
    assert!(node.says(0, "cmd=get_appnum\n").contains("appnum=0"));
}

#[test]
fn a_spawn_that_cannot_be_is_refused_with_a_reason() {
    let long = format!("info_val_0={}\n", "x".repeat(60_000));
    for (lines, why) in [
        ("nprocs=0\nexecname=a\n", "it_asks_for_no_process"),
        ("execname=a\n", "it_asks_for_no_process"),
        ("nprocs=1\n", "it_names_no_program"),
        ("nprocs=1\nexecname=\n", "it_names_no_program"),
        (
            "nprocs=1\nexecname=a\npreput_key_0=\n",
            "invalid_key_length",
        ),
        (
            &format!("nprocs=1\nexecname=a\n{}", long.repeat(5)),
            "too_much_is_said_of_it",
        ),
    ] {
        let mut node = Node::new(&[0], 1);
        node.init(0);
        let text = format!("mcmd=spawn\n{lines}totspawns=1\nspawnssofar=1\nendcmd\n");
        let refused = format!("0< cmd=spawn_result rc=-1 msg={why}\n");
        assert_eq!(node.says(0, &text), refused, "{lines:.60}");
        assert!(node.says(0, "cmd=get_appnum\n").contains("appnum=0"));
    }
    let mut node = Node::new(&[0], 1);
    node.init(0);
    node.says(0, "mcmd=spawn\n");
    node.server
        .receive(0, b"execname=\xff\nnprocs=1\nendcmd\n", &mut node.acts);
    assert!(node.told().contains("msg=a_word_of_it_is_no_UTF-8"));
}

#[test]
fn a_spawned_rank_knows_who_asked_for_it_and_what_was_put_for_it() {
    let mut facts = facts(&[0, 1], 2);
    facts.spawner = Some("parent".to_owned());
    facts.pairs = vec![(b"PORT".to_vec(), b"p 1".to_vec())];
    let mut node = Node {
        server: PmiServer::new(facts),
        acts: Vec::new(),
    };
    node.init(0);
    let get = format!("cmd=get kvsname={NAME} key=PORT\n");
    let got = "0< cmd=get_result rc=0 msg=success value=p 1\n";
    assert_eq!(node.says(0, &get), got);
    node.init_frames(1);
    let said = node.frame(1, "cmd=fullinit;pmirank=1;");
    assert!(said.contains(";spawner-jobid=parent;"), "{said}");
    let said = node.frame(1, "cmd=info-getjobattr;key=PORT;");
    assert!(
        said.contains("found=TRUE") && said.contains("value=p 1;"),
        "{said}"
    );
}

#[test]
fn a_spawn_in_frames_is_one_frame() {
    let mut node = Node::new(&[0], 1);
    node.init_frames(0);
    let said = node.frame(
        0,
        "cmd=spawn;thrid=7;ncmds=2;preputcount=1;ppkey0=PORT;ppval0=a;;b;subcmd=a;maxprocs=2;argc=1;argv0=x;infokeycount=0;\
         subcmd=b;maxprocs=1;argc=0;infokeycount=1;infokey0=wdir;infoval0=/d;",
    );
    assert_eq!(said, "0 spawn 0 [2*a x||] [1*b|/d|] PORT=a;b\n");
    let mut acts = Vec::new();
    node.server.spawned(0, Ok("new"), &mut acts);
    let answer = "cmd=spawn-response;thrid=7;rc=0;jobid=new;nerrs=0;";
    let length = answer.len();
    assert_eq!(shown(&acts[0]), format!("0< {length}{answer}\n"));
}

#[test]
fn nonsense_ends_a_rank_with_a_reason() {
    let long = "x".repeat(REQUEST_MAX + 1);
    for (text, why) in [
        ("cmd=get_maxes\n", "before init"),
        ("hello\n", "without a command"),
        ("cmd=init pmi_version=1\n\n", "without a command"),
        (&long, "a line of more than"),
        (&format!("{long}\n"), "a line of more than"),
        (
            "cmd=init pmi_version=2\nhello there",
            "no length of a frame",
        ),
        ("cmd=init pmi_version=2\n999999", "a frame of 999999 bytes"),
        ("cmd=init pmi_version=2\n     3cmd", "without a command"),
        (
            "cmd=init pmi_version=1\ncmd=barrier_in\ncmd=barrier_in\n",
            "a second fence",
        ),
        (
            "cmd=init pmi_version=1\ncmd=barrier_in\ncmd=finalize\n",
            "finalize within a fence",
        ),
        (
            "cmd=init pmi_version=1\ncmd=barrier_in\ncmd=init pmi_version=1\n",
            "init within a fence",
        ),
    ] {
        let mut node = Node::new(&[0, 1], 2);
        let told = node.says(0, text);
        let last = told.lines().last().unwrap();
        assert!(last.starts_with("0 broken: "), "{told}");
        assert!(last.contains(why), "{last}");
        assert!(last.len() < 200, "{last}");
        assert_eq!(node.says(0, "cmd=init pmi_version=1\n"), "");
        assert_eq!(node.closes(0), "");
    }
}

#[test]
fn an_unknown_version_is_refused_and_may_be_asked_for_again() {
    let mut node = Node::new(&[0], 1);
    let told = node.says(0, "cmd=init pmi_version=0 pmi_subversion=9\n");
    assert_eq!(
        told,
        "0< cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=-1\n"
    );
    assert!(!node.server.is_initialised(0));
    assert!(node.says(0, "cmd=init\n").contains("rc=-1"));
    let told = node.says(0, "cmd=init pmi_version=3 pmi_subversion=7\n");
    assert!(
        told.contains("pmi_version=2 pmi_subversion=0 rc=0"),
        "{told}"
    );
}

#[test]
fn a_value_that_is_too_long_is_refused() {
    let mut node = Node::new(&[0], 1);
    node.init(0);
    let put = |key: usize, value: usize| {
        let (key, value) = ("k".repeat(key), "v".repeat(value));
        format!("cmd=put kvsname={NAME} key={key} value={value}\n")
    };
    assert!(node.says(0, &put(KEY_MAX, VALUE_MAX)).contains("rc=0"));
    assert!(
        node.says(0, &put(KEY_MAX + 1, 1))
            .contains("rc=-1 msg=invalid_key_length")
    );
    assert!(
        node.says(0, &put(1, VALUE_MAX + 1))
            .contains("rc=-1 msg=invalid_value_length")
    );
}

#[test]
fn a_key_space_that_is_full_ends_the_step() {
    let mut node = Node::new(&[0], 1);
    node.init(0);
    let value = "v".repeat(VALUE_MAX);
    let puts: String = (0..4_200)
        .map(|key| format!("cmd=put kvsname={NAME} key={key} value={value}\n"))
        .collect();
    let told = node.says(0, &puts);
    let last = told.lines().last().unwrap();
    assert!(last.contains("broken: the key space is full"), "{last}");
}

#[test]
fn a_part_that_makes_no_sense_ends_the_step() {
    let mut node = Node::new(&[0, 1], 3);
    node.init(0);
    node.init(1);
    node.says(0, "cmd=barrier_in\n");
    node.says(1, "cmd=barrier_in\n");
    let told = node.fenced(0, &[Vec::new(), b"\x01".to_vec()]);
    assert_eq!(
        told,
        "0 broken: what node 1 of the step brought to a fence: a pair is cut short\n"
    );
}

#[test]
fn there_is_an_end_to_what_may_wait() {
    let mut node = Node::new(&[0], 1);
    node.init_frames(0);
    let ask = framed("cmd=info-getnodeattr;key=k;wait=TRUE;");
    let told = node.says(0, &ask.repeat(1_000));
    assert_eq!(told, "0 broken: more than 256 requests at once\n");
}

#[test]
fn ranks_that_are_none_are_ignored() {
    let mut node = Node::new(&[0], 1);
    assert_eq!(node.says(1, "cmd=init pmi_version=1\n"), "");
    assert_eq!(node.closes(1), "");
    assert!(!node.server.is_initialised(1) && !node.server.is_finalised(1));
}
