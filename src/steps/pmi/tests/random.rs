//! Random conversations, right and wrong ones.

use super::*;
use proptest::prelude::*;

/// Something a client might say, right or wrong.
fn utterance() -> impl Strategy<Value = Vec<u8>> {
    let line = proptest::sample::select(vec![
        "cmd=init pmi_version=1 pmi_subversion=1\n",
        "cmd=init pmi_version=2 pmi_subversion=0\n",
        "cmd=get_maxes\n",
        "cmd=put kvsname=job7.0.1 key=a value=b;c\n",
        "cmd=get kvsname=job7.0.1 key=a\n",
        "cmd=barrier_in\n",
        "cmd=finalize\n",
        "mcmd=spawn\ntotspawns=1\nspawnssofar=1\nendcmd\n",
        "cmd=lookup_name service=s\n",
        "28    cmd=fullinit;threaded=FALSE;",
        "14    cmd=kvs-fence;",
        "24    cmd=kvs-get;jobid=;key=a",
        "28    cmd=kvs-put;key=a;value=;;b;",
        "37    cmd=info-getnodeattr;key=k;wait=TRUE;",
        "37    cmd=info-putnodeattr;key=k;value=vv;;",
        "13    cmd=finalize;",
    ]);
    prop_oneof![
        12 => line.prop_map(|line| line.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

/// Plays a conversation of two ranks, each utterance cut at the places given; fences come back at once.
fn played(said: &[(u32, Vec<u8>)], piece: usize) -> (Vec<PmiAct>, PmiServer) {
    let mut server = PmiServer::new(facts(&[0, 1], 2));
    let mut all = Vec::new();
    for (local, bytes) in said {
        // Cut the same bytes anyhow: acts are gathered until the whole is said.
        let mut out = Vec::new();
        for piece in bytes.chunks(piece) {
            server.receive(*local, piece, &mut out);
        }
        let mut at = 0;
        while let Some(act) = out.get(at).cloned() {
            match act {
                PmiAct::Fence { epoch, fresh } => server.fenced(epoch, &[fresh], &mut out),
                PmiAct::Name { ask, .. } => server.named(ask, NameAnswer::NotFound, &mut out),
                _ => {}
            }
            at += 1;
        }
        all.append(&mut out);
    }
    (all, server)
}

proptest! {
    #[test]
    fn any_cut_of_a_conversation_is_answered_the_same(
        said in proptest::collection::vec((0_u32..2, utterance()), 0..30),
        piece in 1_usize..20,
    ) {
        prop_assert_eq!(played(&said, piece).0, played(&said, usize::MAX).0);
    }

    #[test]
    fn any_bytes_are_survived_and_answered_in_measure(
        said in proptest::collection::vec((0_u32..3, utterance()), 0..60),
    ) {
        let (acts, mut server) = played(&said, usize::MAX);
        let answered: usize = acts.iter().map(|act| match act {
            PmiAct::Answer { bytes, .. } => bytes.len(),
            _ => 0,
        }).sum();
        // Each utterance holds few requests, and an answer is a value and some words.
        prop_assert!(answered <= said.len() * 4 * (2 * VALUE_MAX + 300));
        let mut out = Vec::new();
        for local in 0..2 {
            server.closed(local, &mut out);
            server.closed(local, &mut out);
        }
        prop_assert!(out.len() <= 2);
    }

    /// Ranks of two nodes meet in fences, each at its own pace, and are let go early now and then: all go through the same
    /// fences, and both nodes give each out once.
    #[test]
    fn who_is_let_go_early_still_meets_the_others(
        steps in proptest::collection::vec((0_usize..2, 0_u32..2, any::<bool>()), 1..200),
    ) {
        let mut nodes = [PmiServer::new(facts(&[0, 1], 4)), PmiServer::new(facts(&[2, 3], 4))];
        let mut given: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        let mut done = 0_usize;
        let mut waits = [[false; 2]; 2];
        let mut passed = [[0_usize; 2]; 2];
        for (node, server) in nodes.iter_mut().enumerate() {
            for local in 0..2 {
                let mut out = Vec::new();
                server.receive(local, b"cmd=init pmi_version=1 pmi_subversion=1\n", &mut out);
                prop_assert_eq!(out.len(), 2, "node {}", node);
            }
        }
        for (node, local, hurry) in steps {
            let mut out: [Vec<PmiAct>; 2] = [Vec::new(), Vec::new()];
            let rank = local as usize;
            if hurry {
                nodes[node].hurry(&mut out[node]);
            } else if !waits[node][rank] {
                waits[node][rank] = true;
                nodes[node].receive(local, b"cmd=barrier_in\n", &mut out[node]);
            }
            loop {
                for (node, acts) in out.iter_mut().enumerate() {
                    for act in acts.drain(..) {
                        match act {
                            PmiAct::Fence { epoch, .. } => given[node].push(epoch),
                            PmiAct::Answer { local, .. } => {
                                waits[node][local as usize] = false;
                                passed[node][local as usize] += 1;
                            }
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
                if given[0].len() <= done || given[1].len() <= done {
                    break;
                }
                let epoch = u32::try_from(done).unwrap();
                done += 1;
                for node in 0..2 {
                    nodes[node].fenced(epoch, &[Vec::new(), Vec::new()], &mut out[node]);
                }
            }
            for (node, given) in given.iter().enumerate() {
                prop_assert!(given.len() <= done + 1);
                prop_assert!(given.iter().copied().eq(0..u32::try_from(given.len()).unwrap()));
                // Nobody is ahead by more than the fence that it was let out of.
                prop_assert!(passed[node].iter().all(|passed| (done..=done + 1).contains(passed)));
            }
        }
    }
}
