//! What the library is told of a step: the whole of it, on every node, so that no rank has to ask another node for
//! what was known from the start.

use crate::sys::pmix::{Info, Process, Value};
use crate::wire::pmix::{PmixStart, SERVER_SUFFIX};
use std::path::{Path, PathBuf};

/// Host names for the node map, in the order of [`processes_by_node`].
pub(super) fn node_names(start: &PmixStart) -> String {
    join(&start.nodes, ",", |node| node.name.clone())
}

/// Ranks for the process map.
pub(super) fn processes_by_node(start: &PmixStart) -> String {
    join(&start.nodes, ";", |node| ranks(&node.ranks))
}

fn ranks(ranks: &[u32]) -> String {
    join(ranks, ",", ToString::to_string)
}

fn join<T>(items: &[T], between: &str, show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().map(show).collect();
    shown.join(between)
}

/// A directory of all ranks here, and one for each of them.
pub(super) fn session_directory(start: &PmixStart) -> PathBuf {
    Path::new(&start.directory).join("step")
}

/// Of one rank.
pub(super) fn rank_directory(start: &PmixStart, rank: u32) -> PathBuf {
    session_directory(start).join(rank.to_string())
}

/// For starting the server.
pub(super) fn server(start: &PmixStart) -> Vec<Info> {
    vec![
        Info::text("pmix.srvr.tmpdir", &start.directory),
        Info::text("pmix.sys.tmpdir", &start.directory),
        Info::text(
            "pmix.srv.nspace",
            format!("{}{SERVER_SUFFIX}", start.nspace),
        ),
        Info::new("pmix.srv.rank", Value::Rank(start.node_index)),
        Info::text("pmix.hname", own_name(start)),
    ]
}

fn own_name(start: &PmixStart) -> &str {
    let index = usize::try_from(start.node_index).unwrap_or(usize::MAX);
    start.nodes.get(index).map_or("", |node| &node.name)
}

/// For registering the step. The maps are the library's own form of the two lists above.
pub(super) fn step(start: &PmixStart, node_map: Value, process_map: Value) -> Vec<Info> {
    let number = |key, value: usize| Info::new(key, Value::Number32(small(value)));
    let size = start.size();
    let local = start.local();
    let apps = start.app_numbers.iter().max().map_or(1, |last| last + 1);
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut infos = vec![
        // The maps first: some versions build on them what follows.
        Info::new("pmix.nmap", node_map),
        Info::new("pmix.pmap", process_map),
        Info::text("pmix.jobid", &start.nspace),
        Info::new(
            "pmix.univ.size",
            Value::Number32(start.universe.max(small(size))),
        ),
        number("pmix.job.size", size),
        number("pmix.max.size", size),
        number("pmix.local.size", local.len()),
        number("pmix.node.size", local.len()),
        number("pmix.num.nodes", start.nodes.len()),
        Info::new("pmix.nodeid", Value::Number32(start.node_index)),
        Info::text("pmix.lpeers", ranks(local)),
        Info::new("pmix.job.napps", Value::Number32(apps)),
        Info::text("pmix.tmpdir", &start.directory),
        Info::text("pmix.nsdir", path(session_directory(start))),
        Info::new("pmix.tdir.rmclean", Value::Flag(true)),
    ];
    if let Some(&first) = local.first() {
        infos.push(Info::new("pmix.lldr", Value::Rank(first)));
    }
    if let Some((nspace, rank)) = &start.parent {
        let parent = Process {
            nspace: nspace.clone(),
            rank: *rank,
        };
        infos.push(Info::new("pmix.spawned", Value::Flag(true)));
        infos.push(Info::new("pmix.parent", Value::Process(parent)));
    }
    if apps == 1 {
        infos.push(number("pmix.app.size", size));
    } else {
        infos.extend((0..apps).map(|app| one_app(start, app)));
    }
    for (index, node) in start.nodes.iter().enumerate() {
        if !node.aliases.is_empty() {
            infos.push(Info::new(
                "pmix.node.arr",
                Value::Infos(vec![
                    number("pmix.nodeid", index),
                    Info::text("pmix.hname", &node.name),
                    Info::text("pmix.alias", node.aliases.join(",")),
                ]),
            ));
        }
    }
    infos.extend(every_rank(start));
    infos
}

/// A block for one of several programs.
fn one_app(start: &PmixStart, app: u32) -> Info {
    let mut ranks = (0..).zip(&start.app_numbers).filter(|&(_, &of)| of == app);
    let first = ranks.next().map_or(0, |(rank, _)| rank);
    Info::new(
        "pmix.app.arr",
        Value::Infos(vec![
            Info::new("pmix.appnum", Value::Number32(app)),
            Info::new("pmix.app.size", Value::Number32(small(1 + ranks.count()))),
            Info::new("pmix.aldr", Value::Rank(first)),
        ]),
    )
}

/// A block for each rank of the step.
fn every_rank(start: &PmixStart) -> Vec<Info> {
    let mut of_app = std::collections::BTreeMap::new();
    let size = small(start.size());
    // Ranks within each program, by the order of all ranks.
    let mut app_rank = vec![0; start.size()];
    for (rank, place) in (0..size).zip(&mut app_rank) {
        let next: &mut u32 = of_app.entry(app_of(start, rank)).or_default();
        *place = *next;
        *next += 1;
    }
    let mut blocks = Vec::with_capacity(start.size());
    for (node_index, node) in start.nodes.iter().enumerate() {
        let is_here = small(node_index) == start.node_index;
        for (local_rank, &rank) in node.ranks.iter().enumerate() {
            let at = usize::try_from(rank).unwrap_or(usize::MAX);
            let mut block = vec![
                // First, by the library's rule.
                Info::new("pmix.rank", Value::Rank(rank)),
                Info::new("pmix.lrank", Value::Number16(tiny(local_rank))),
                Info::new("pmix.nrank", Value::Number16(tiny(local_rank))),
                Info::new("pmix.nodeid", Value::Number32(small(node_index))),
                Info::text("pmix.hname", &node.name),
                Info::new("pmix.appnum", Value::Number32(app_of(start, rank))),
                Info::new("pmix.grank", Value::Rank(rank)),
                Info::new(
                    "pmix.apprank",
                    Value::Rank(app_rank.get(at).copied().unwrap_or(0)),
                ),
            ];
            if is_here {
                let directory = rank_directory(start, rank);
                block.push(Info::text("pmix.pdir", directory.to_string_lossy()));
                if let Some(Some(cpus)) = start.cpusets.get(local_rank) {
                    block.push(Info::text("pmix.cpuset", format!("hwloc:{cpus}")));
                }
            }
            blocks.push(Info::new("pmix.pdata", Value::Infos(block)));
        }
    }
    blocks
}

fn app_of(start: &PmixStart, rank: u32) -> u32 {
    let at = usize::try_from(rank).unwrap_or(usize::MAX);
    start.app_numbers.get(at).copied().unwrap_or(0)
}

/// Counts of nodes and ranks, which `PmixStart::check` has found to be small.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn tiny(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pmix::PmixNode;

    fn start() -> PmixStart {
        let node = |name: &str, aliases: &[&str], ranks: &[u32]| PmixNode {
            name: name.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            ranks: ranks.to_vec(),
        };
        PmixStart {
            nspace: "hpc-7.0.1".to_owned(),
            directory: "/tmp/x".to_owned(),
            libraries: Vec::new(),
            only_these: false,
            node_index: 1,
            nodes: vec![node("ws1", &[], &[0, 2]), node("ws2", &["b", "c"], &[1, 3])],
            uid: 1000,
            gid: 1000,
            app_numbers: vec![0, 0, 1, 1],
            universe: 8,
            cpusets: vec![Some("0-3".to_owned()), None],
            visitors: None,
            parent: None,
        }
    }

    fn find<'a>(infos: &'a [Info], key: &str) -> &'a Value {
        let mut found = infos.iter().filter(|info| info.key == key);
        let value = &found.next().unwrap_or_else(|| panic!("{key}")).value;
        assert!(found.next().is_none(), "{key} is there twice");
        value
    }

    #[test]
    fn the_library_hears_of_every_rank_where_it_is() {
        let start = start();
        assert_eq!(node_names(&start), "ws1,ws2");
        assert_eq!(processes_by_node(&start), "0,2;1,3");
        let map = Value::Text("m".to_owned());
        let infos = step(&start, map.clone(), map);
        for (key, expected) in [
            ("pmix.job.size", Value::Number32(4)),
            ("pmix.univ.size", Value::Number32(8)),
            ("pmix.local.size", Value::Number32(2)),
            ("pmix.lpeers", Value::Text("1,3".to_owned())),
            ("pmix.lldr", Value::Rank(1)),
            ("pmix.job.napps", Value::Number32(2)),
            ("pmix.nodeid", Value::Number32(1)),
        ] {
            assert_eq!(*find(&infos, key), expected, "{key}");
        }
        let Value::Infos(aliases) = find(&infos, "pmix.node.arr") else {
            panic!("a block")
        };
        assert_eq!(*find(aliases, "pmix.alias"), Value::Text("b,c".to_owned()));
        let blocks: Vec<&Vec<Info>> = infos
            .iter()
            .filter_map(|info| match &info.value {
                Value::Infos(block) if info.key == "pmix.pdata" => Some(block),
                _ => None,
            })
            .collect();
        assert_eq!(blocks.len(), 4);
        assert!(blocks.iter().all(|block| block[0].key == "pmix.rank"));
        // Rank 3: the second of ws2 and of its program, bound to nothing.
        let last = blocks[3];
        assert_eq!(*find(last, "pmix.rank"), Value::Rank(3));
        assert_eq!(*find(last, "pmix.lrank"), Value::Number16(1));
        assert_eq!(*find(last, "pmix.apprank"), Value::Rank(1));
        assert_eq!(*find(last, "pmix.appnum"), Value::Number32(1));
        assert_eq!(
            *find(last, "pmix.pdir"),
            Value::Text("/tmp/x/step/3".to_owned())
        );
        assert!(last.iter().all(|info| info.key != "pmix.cpuset"));
        let cpus = Value::Text("hwloc:0-3".to_owned());
        assert_eq!(*find(blocks[2], "pmix.cpuset"), cpus);
    }
}
