//! What MPI libraries said to a server, played to ours: each hears the same again.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../../tests/golden/pmi/", $name, ".txt")),
        )
    };
}

/// What MPI libraries said to a server and heard from it, in the order of time. `0> ` is what rank 0 said, `0< ` what it
/// heard, `0.` its end; `#` begins remarks, of which the second has the facts.
const RECORDED: [(&str, &str); 12] = [
    recorded!("mpich-4-one-node"),
    recorded!("mpich-4-two-nodes"),
    recorded!("mpich-4-no-mapping"),
    recorded!("mpich-4-abort"),
    recorded!("mpich-5-one-node"),
    recorded!("mpich-5-two-nodes"),
    recorded!("mpich-5-spawn"),
    recorded!("intel-2021-one-node"),
    recorded!("intel-2021-cyclic"),
    recorded!("intel-2021-names"),
    recorded!("slurm-libpmi2"),
    recorded!("slurm-libpmi2-abort"),
];

/// The servers of a step on all its nodes, with what lies between them.
struct Step {
    nodes: Vec<PmiServer>,
    /// Node and local number of each rank.
    places: Vec<(usize, u32)>,
    /// What each rank has heard.
    heard: Vec<Vec<u8>>,
    parts: Vec<Option<(u32, Vec<u8>)>>,
    names: BTreeMap<String, String>,
    /// What else happened.
    log: Vec<String>,
}

impl Step {
    fn new(facts: &PmiFacts, node_of_rank: &[usize]) -> Self {
        let node_count = node_of_rank.iter().max().unwrap() + 1;
        let mut ranks = vec![Vec::new(); node_count];
        let mut places = Vec::new();
        for (rank, node) in (0..).zip(node_of_rank) {
            places.push((*node, u32::try_from(ranks[*node].len()).unwrap()));
            ranks[*node].push(rank);
        }
        let server = |ranks: Vec<u32>| {
            PmiServer::new(PmiFacts {
                ranks,
                ..facts.clone()
            })
        };
        Self {
            nodes: ranks.into_iter().map(server).collect(),
            heard: vec![Vec::new(); places.len()],
            places,
            parts: vec![None; node_count],
            names: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn says(&mut self, rank: usize, bytes: &[u8]) {
        let (node, local) = self.places[rank];
        let mut out = Vec::new();
        self.nodes[node].receive(local, bytes, &mut out);
        self.carry_out(node, out);
    }

    fn closes(&mut self, rank: usize) {
        let (node, local) = self.places[rank];
        let mut out = Vec::new();
        self.nodes[node].closed(local, &mut out);
        self.carry_out(node, out);
    }

    fn carry_out(&mut self, node: usize, acts: Vec<PmiAct>) {
        for act in acts {
            match act {
                PmiAct::Answer { local, bytes } => {
                    let rank = self.places.iter().position(|place| *place == (node, local));
                    self.heard[rank.unwrap()].extend(bytes);
                }
                PmiAct::Fence { epoch, fresh } => {
                    self.parts[node] = Some((epoch, fresh));
                    if self.parts.iter().all(Option::is_some) {
                        let parts = self.parts.iter_mut().map(|part| part.take().unwrap());
                        let (epochs, parts): (Vec<u32>, Vec<Vec<u8>>) = parts.unzip();
                        assert!(epochs.iter().all(|one| *one == epoch));
                        for node in 0..self.nodes.len() {
                            let mut out = Vec::new();
                            self.nodes[node].fenced(epoch, &parts, &mut out);
                            self.carry_out(node, out);
                        }
                    }
                }
                PmiAct::Name { ask, request } => {
                    let answer = match request {
                        NameRequest::Publish { service, port } => {
                            self.names.insert(service, port);
                            NameAnswer::Done
                        }
                        NameRequest::Unpublish { service } => {
                            self.names.remove(&service);
                            NameAnswer::Done
                        }
                        NameRequest::Lookup { service } => match self.names.get(&service) {
                            Some(port) => NameAnswer::Found(port.clone()),
                            None => NameAnswer::NotFound,
                        },
                    };
                    let mut out = Vec::new();
                    self.nodes[node].named(ask, answer, &mut out);
                    self.carry_out(node, out);
                }
                PmiAct::Spawn { ask, .. } => {
                    let mut out = Vec::new();
                    self.nodes[node].spawned(ask, Err("spawning is not supported"), &mut out);
                    self.carry_out(node, out);
                }
                PmiAct::Initialised { .. } | PmiAct::Finalised { .. } => {}
                other => self.log.push(shown(&other)),
            }
        }
    }
}

struct Recording<'a> {
    facts: PmiFacts,
    /// Rank, and what happened.
    events: Vec<(usize, Event<'a>)>,
}

enum Event<'a> {
    Said(&'a str),
    Heard(&'a str),
    Closed,
}

impl<'a> Recording<'a> {
    fn parse(text: &'a str) -> Self {
        let facts = text.lines().nth(1).unwrap();
        let fact = |name: &str| {
            let words = facts.split_whitespace();
            let found = words.filter_map(|word| word.split_once('='));
            let mut found = found.filter(|(key, _)| *key == name);
            found.next().unwrap().1
        };
        let mapping = Some(fact("mapping")).filter(|mapping| *mapping != "none");
        let facts = PmiFacts {
            kvs_name: fact("kvs_name").to_owned(),
            size: fact("size").parse().unwrap(),
            universe: fact("universe").parse().unwrap(),
            mapping: mapping.map(str::to_owned),
            ..PmiFacts::default()
        };
        let events = text.lines().filter(|line| !line.starts_with('#'));
        let events = events.map(|line| {
            let end = line.find(['>', '<', '.']).unwrap();
            let (rank, rest) = line.split_at(end);
            let event = match rest.split_at(1) {
                (">", said) => Event::Said(&said[1..]),
                ("<", heard) => Event::Heard(&heard[1..]),
                _ => Event::Closed,
            };
            (rank.parse().unwrap(), event)
        });
        Self {
            facts,
            events: events.collect(),
        }
    }

    /// A line has its end again, a frame needs none.
    fn bytes(text: &str) -> Vec<u8> {
        let is_frame = text.as_bytes()[..6]
            .iter()
            .all(|byte| b" 0123456789".contains(byte));
        let end = if is_frame { "" } else { "\n" };
        format!("{text}{end}").into_bytes()
    }

    /// Plays it to servers on these nodes, in pieces of so many bytes.
    fn play(&self, node_of_rank: &[usize], piece: usize) -> Step {
        let mut step = Step::new(&self.facts, node_of_rank);
        for (rank, event) in &self.events {
            match event {
                Event::Said(text) => {
                    for piece in Self::bytes(text).chunks(piece) {
                        step.says(*rank, piece);
                    }
                }
                Event::Heard(_) => {}
                Event::Closed => step.closes(*rank),
            }
        }
        step
    }

    fn heard(&self, rank: usize) -> Vec<u8> {
        let heard = self.events.iter().filter_map(|(of, event)| match event {
            Event::Heard(text) if *of == rank => Some(Self::bytes(text)),
            _ => None,
        });
        heard.flatten().collect()
    }
}

#[test]
fn recorded_conversations_are_answered_as_they_were() {
    for (name, text) in RECORDED {
        let recording = Recording::parse(text);
        let size = recording.facts.size as usize;
        let one_node = vec![0; size];
        let each_its_own: Vec<usize> = (0..size).collect();
        let in_turn: Vec<usize> = (0..size).map(|rank| rank % 2).collect();
        // Node attributes are those of one node, so that conversation makes sense on one alone.
        let placements = match name {
            "slurm-libpmi2" | "slurm-libpmi2-abort" => vec![one_node],
            _ => vec![one_node, each_its_own, in_turn],
        };
        for node_of_rank in placements {
            for piece in [1, 7, usize::MAX] {
                let step = recording.play(&node_of_rank, piece);
                for rank in 0..size {
                    let heard = String::from_utf8_lossy(&step.heard[rank]).into_owned();
                    let was = String::from_utf8_lossy(&recording.heard(rank)).into_owned();
                    assert_eq!(heard, was, "{name}, rank {rank}, on {node_of_rank:?}");
                }
                let log: Vec<&str> = step.log.iter().map(String::as_str).collect();
                let expected: &[&str] = match name {
                    // Those that are killed vanish, too.
                    "mpich-4-abort" => &["1 abort 7 \n"],
                    "slurm-libpmi2-abort" => &["1 abort 1 because; I say so\n"],
                    _ => &[],
                };
                let kept = log.iter().filter(|line| line.contains("abort"));
                let local_names = node_of_rank.iter().all(|node| *node == 0);
                if local_names {
                    assert_eq!(kept.copied().collect::<Vec<_>>(), expected, "{name}");
                }
                assert!(
                    !log.iter().any(|line| line.contains("broken")),
                    "{name}: {log:?}"
                );
            }
        }
    }
}
