//! What the PMI servers of 4,096 ranks on 64 nodes cost, all in one thread and without sockets between them: init, a put, a
//! fence, eight gets, finalize.

use hpc::steps::pmi::{PmiAct, PmiFacts, PmiServer, process_mapping};
use std::time::{Duration, Instant};

const NAME: &str = "job7.0.1";
/// Sizes of the growth, and last the one that counts.
const NODES: [u32; 3] = [16, 32, 64];
const RANKS_EACH: u32 = 64;
const ROUNDS: usize = 3;
/// What the transport of MPICH 4 puts for a rank, about.
const VALUE_BYTES: usize = 400;
const GETS: u32 = 8;

/// Three rounds of each size in turn: the best of each, for the machine does other things as well.
pub(super) fn measure() {
    let mut best = NODES.map(|_| [Duration::MAX; 3]);
    for _ in 0..ROUNDS {
        for (nodes, best) in NODES.into_iter().zip(&mut best) {
            for (took, best) in round(nodes).into_iter().zip(best) {
                *best = took.min(*best);
            }
        }
    }
    println!(
        "servers of all nodes one after another in one thread, without sockets (wanted: 4096 ranks under 1 s)"
    );
    for (nodes, [put, fence, get]) in NODES.into_iter().zip(best) {
        let (all, ranks) = (put + fence + get, nodes * RANKS_EACH);
        println!(
            "  {ranks:4} ranks on {nodes:2} nodes {all:9.1?}; for each node: init and put {:.2?}, fence {:.2?}, {GETS} gets of each rank {:.2?}",
            put / nodes,
            fence / nodes,
            get / nodes,
        );
    }
}

/// How long the phases took: up to the fence, the fence, the gets.
fn round(count: u32) -> [Duration; 3] {
    let began = Instant::now();
    let size = count * RANKS_EACH;
    let mut nodes = nodes(size);
    let parts = put(&mut nodes);
    let put = began.elapsed();
    fence(&mut nodes, &parts);
    let fenced = began.elapsed();
    get(&mut nodes, size);
    let got = began.elapsed();
    [put, fenced.saturating_sub(put), got.saturating_sub(fenced)]
}

fn nodes(size: u32) -> Vec<PmiServer> {
    let placed: Vec<u32> = (0..size).map(|rank| rank / RANKS_EACH).collect();
    let mapping = process_mapping(&placed);
    let server = |node| {
        PmiServer::new(PmiFacts {
            kvs_name: NAME.to_owned(),
            size,
            ranks: (node * RANKS_EACH..(node + 1) * RANKS_EACH).collect(),
            app_numbers: Vec::new(),
            universe: size,
            mapping: mapping.clone(),
            spawner: None,
            pairs: Vec::new(),
        })
    };
    (0..size / RANKS_EACH).map(server).collect()
}

/// All ranks up to the fence; the parts of the nodes.
fn put(nodes: &mut [PmiServer]) -> Vec<Vec<u8>> {
    let value = "A".repeat(VALUE_BYTES);
    let mut parts = Vec::new();
    for (node, server) in (0..).zip(nodes) {
        let mut out = Vec::new();
        for local in 0..RANKS_EACH {
            let rank = node * RANKS_EACH + local;
            for line in [
                "cmd=init pmi_version=1 pmi_subversion=1\n",
                "cmd=get_maxes\n",
                "cmd=get_appnum\n",
                "cmd=get_my_kvsname\n",
                &format!("cmd=get kvsname={NAME} key=PMI_process_mapping\n"),
                &format!("cmd=put kvsname={NAME} key=-allgather-1-{rank} value={value}\n"),
                "cmd=barrier_in\n",
            ] {
                server.receive(local, line.as_bytes(), &mut out);
            }
        }
        let Some(PmiAct::Fence { fresh, .. }) = out.pop() else {
            panic!("a fence follows when all have entered");
        };
        parts.push(fresh);
    }
    parts
}

fn fence(nodes: &mut [PmiServer], parts: &[Vec<u8>]) {
    for server in nodes {
        let mut out = Vec::new();
        server.fenced(0, parts, &mut out);
        assert_eq!(out.len(), RANKS_EACH as usize);
    }
}

fn get(nodes: &mut [PmiServer], size: u32) {
    for server in nodes {
        let mut out = Vec::new();
        for local in 0..RANKS_EACH {
            for peer in 0..GETS {
                let rank = (local * 997 + peer * 611) % size;
                let line = format!("cmd=get kvsname={NAME} key=-allgather-1-{rank}\n");
                server.receive(local, line.as_bytes(), &mut out);
            }
            server.receive(local, b"cmd=finalize\n", &mut out);
        }
        let found = out.iter().filter(|act| match act {
            PmiAct::Answer { bytes, .. } => bytes.len() > VALUE_BYTES,
            _ => false,
        });
        assert_eq!(found.count(), (RANKS_EACH * GETS) as usize);
    }
}
