//! What the PMI servers of 4,096 ranks on 64 nodes cost, all in one thread and without sockets between them: init, a put, a
//! fence, eight gets, finalize. `cargo bench --bench mpi_startup`.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures and prints"
)]

use hpc::steps::pmi::{PmiAct, PmiFacts, PmiServer, process_mapping};
use std::time::{Duration, Instant};

const NAME: &str = "job7.0.1";
const NODES: u32 = 64;
const RANKS_EACH: u32 = 64;
const SIZE: u32 = NODES * RANKS_EACH;
/// What the transport of MPICH 4 puts for a rank, about.
const VALUE_BYTES: usize = 400;
const GETS: u32 = 8;

fn main() {
    for _ in 0..3 {
        let began = Instant::now();
        let mut nodes = nodes();
        let parts = put(&mut nodes);
        let put = began.elapsed();
        fence(&mut nodes, &parts);
        let fenced = began.elapsed();
        get(&mut nodes);
        let got = began.elapsed();
        let of_a_node = |time: Duration| time / NODES;
        println!(
            "{SIZE} ranks on {NODES} nodes, for each node: init and put {:?}, fence {:?}, {GETS} gets of each rank {:?}",
            of_a_node(put),
            of_a_node(fenced.saturating_sub(put)),
            of_a_node(got.saturating_sub(fenced)),
        );
    }
}

fn nodes() -> Vec<PmiServer> {
    let placed: Vec<u32> = (0..SIZE).map(|rank| rank / RANKS_EACH).collect();
    let mapping = process_mapping(&placed);
    let server = |node| {
        PmiServer::new(PmiFacts {
            kvs_name: NAME.to_owned(),
            size: SIZE,
            ranks: (node * RANKS_EACH..(node + 1) * RANKS_EACH).collect(),
            app_numbers: Vec::new(),
            universe: SIZE,
            mapping: mapping.clone(),
        })
    };
    (0..NODES).map(server).collect()
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

fn get(nodes: &mut [PmiServer]) {
    for server in nodes {
        let mut out = Vec::new();
        for local in 0..RANKS_EACH {
            for peer in 0..GETS {
                let rank = (local * 997 + peer * 611) % SIZE;
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
