//! Between a shepherd and the process that serves PMIx to the ranks of one step on one node (`hpc pmix-server`).
//!
//! The two share one connected stream socket, [`HELPER_FD`] in the helper, and are of one build: the shepherd starts its
//! own program. A helper is given [`ToPmix::Start`], says [`FromPmix::Ready`] or [`FromPmix::Failed`], and serves until
//! [`ToPmix::Stop`] or the end of the stream. It writes without caring whether there is room, so a shepherd must never
//! wait for it to read. The helper runs as the step's user, and a library of the machine's speaks with whatever that
//! user starts: nothing from it is to be believed beyond its own step.
//!
//! What one side asks carries a number that it chose, and the answer repeats it. Numbers of the two sides are apart.
//! Bytes of ranks are the library's own and are not looked into by anybody else.

use crate::model::bounded;
use crate::model::spawn::SpawnRequest;
use serde::{Deserialize, Serialize};

/// The descriptor on which a helper finds its shepherd.
pub const HELPER_FD: i32 = 3;
/// Where it finds the socket at which ranks knock, if it is given one; those of visitors follow ([`PmixStart::visitors`]).
pub const DOOR_FD: i32 = 4;
/// What the namespace of a step's servers has after the step's own.
pub const SERVER_SUFFIX: &str = ".server";
/// Variables by which ranks find their server, for all versions of its library since 3: the nearest to its own counts.
const PLACES: [&str; 5] = [
    "PMIX_SERVER_URI2",
    "PMIX_SERVER_URI21",
    "PMIX_SERVER_URI3",
    "PMIX_SERVER_URI4",
    "PMIX_SERVER_URI41",
];

/// The most bytes of one answer: what all nodes brought to a fence. With room for what is around them in a frame.
pub const BYTES_MAX: usize = super::codec::FRAME_MAX - 1024 * 1024;
/// The most bytes of one published value.
pub const NAME_BYTES_MAX: usize = 64 * 1024;
/// The most bytes that a rank has put for those of other namespaces.
pub const BRING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes that a rank says to people at once.
pub const LOG_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a namespace; the library has room for so many bytes.
pub const NSPACE_MAX: usize = 255;

/// Longest name of a node.
pub const NAME_MAX: usize = 255;

/// Longest name of a group. Open MPI makes them of a tag of the program's, at most 256 bytes, and a process.
pub const GROUP_MAX: usize = 1_024;

/// What a call may end with besides success, in the library's numbers.
pub mod status {
    /// Something failed.
    pub const ERROR: i32 = -1;
    /// A process was aborted.
    pub const PROCESS_ABORTED: i32 = -7;
    /// It took longer than the caller wanted to wait.
    pub const TIMEOUT: i32 = -24;
    /// The call makes no sense.
    pub const BAD_PARAMETER: i32 = -27;
    /// Too much of something.
    pub const OUT_OF_RESOURCE: i32 = -29;
    /// Nothing of that name.
    pub const NOT_FOUND: i32 = -46;
    /// Not offered here.
    pub const NOT_SUPPORTED: i32 = -47;
    /// The key is published already.
    pub const DUPLICATE_KEY: i32 = -53;
}

/// Bytes that are passed on as they are.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Blob(#[serde(with = "super::bytes")] pub Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

/// Bytes, or one of the [`status`] numbers.
pub type Outcome = Result<Blob, i32>;

/// Shepherd to helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPmix {
    /// Serve this; said once, and first.
    Start(Box<PmixStart>),
    /// How a [`FromPmix::Fence`] ended: what all nodes brought, one after another in any order.
    Fenced {
        /// The helper's number.
        ask: u64,
        /// The bytes of all nodes, this one's included.
        outcome: Outcome,
    },
    /// Another node wants what a rank here has put; answered by [`FromPmix::ModexFound`], once the rank has put it.
    ModexWanted {
        /// The shepherd's number.
        ask: u64,
        /// A rank of this node.
        rank: u32,
    },
    /// How a [`FromPmix::Modex`] ended.
    Modexed {
        /// The helper's number.
        ask: u64,
        /// What the other node's helper found.
        outcome: Outcome,
    },
    /// How a [`FromPmix::Name`] ended.
    Named {
        /// The helper's number.
        ask: u64,
        /// For a lookup what was found, otherwise nothing; or a [`status`].
        answer: Result<Names, i32>,
    },
    /// A rank of the step, of any node, ended as it should not: the ranks here are told, as far as they listen.
    RankGone {
        /// Which.
        rank: u32,
    },
    /// All ranks here have been reaped: clean up and go.
    Stop,
    /// How a [`FromPmix::Group`] ended.
    Grouped {
        /// The helper's number.
        ask: u64,
        /// The number that the group has for all of its members, if any of them wanted one.
        context: Option<u64>,
        /// The bytes of all nodes, this one's included.
        outcome: Outcome,
    },
    /// How a [`FromPmix::Spawn`] ended.
    Spawned {
        /// The helper's number.
        ask: u64,
        /// The namespace of the new ranks.
        answer: Result<String, i32>,
    },
}

/// Helper to shepherd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromPmix {
    /// Ranks may be started now, and not before, unless they were started with a promise.
    Ready {
        /// What the library says of itself.
        version: String,
        /// What each local rank needs in its environment, in the order of [`PmixNode::ranks`]; nothing where they run.
        #[serde(deserialize_with = "bounded::list")]
        environments: Vec<Variables>,
    },
    /// It cannot serve, in one sentence for people; the helper ends.
    Failed {
        /// What was searched and what would help.
        text: String,
    },
    /// All participants of this node are in. When several run, each list of participants has its own order: the first
    /// of two with the same purpose and the same ranks is the first on every node.
    Fence {
        /// For the answer.
        ask: u64,
        /// What for; gathered apart for each.
        purpose: Purpose,
        /// All ranks of the step take part; `ranks` is empty then.
        everyone: bool,
        /// Who takes part, of all nodes, in ascending order.
        #[serde(deserialize_with = "bounded::list")]
        ranks: Vec<u32>,
        /// What this node brings.
        bytes: Blob,
        /// The caller gives up after so long; seconds.
        timeout_s: Option<u32>,
    },
    /// A rank here wants what a rank of another node has put, outside of any fence.
    Modex {
        /// For the answer.
        ask: u64,
        /// Whose.
        rank: u32,
        /// The caller gives up after so long; seconds.
        timeout_s: Option<u32>,
    },
    /// The answer to [`ToPmix::ModexWanted`].
    ModexFound {
        /// The shepherd's number.
        ask: u64,
        /// What the rank has put.
        outcome: Outcome,
    },
    /// A rank has introduced itself: from now on an end without [`FromPmix::Finalised`] is a failure.
    Connected {
        /// Which.
        rank: u32,
    },
    /// A rank has said that it is done. Written before the rank is let go on: once its end was seen, reading what is there
    /// tells for certain whether it had said so. The same goes for [`FromPmix::Abort`].
    Finalised {
        /// Which.
        rank: u32,
    },
    /// A rank ends the step.
    Abort {
        /// Who.
        rank: u32,
        /// The code that it gives.
        status: i32,
        /// Its words, if any.
        text: String,
    },
    /// A rank's library has words for people, which belong into the rank's output. Open MPI 5 says this way why it aborts.
    Log {
        /// Whose.
        rank: u32,
        /// For standard error, not output.
        error: bool,
        /// The words, with the ends of their lines.
        text: String,
    },
    /// Names that jobs publish for each other.
    Name {
        /// For the answer.
        ask: u64,
        /// Who asks.
        rank: u32,
        /// What.
        request: NameRequest,
    },
    /// The members of a group that are on this node have all asked for it, or for its end.
    Group {
        /// For the answer.
        ask: u64,
        /// Its name, of at most [`GROUP_MAX`] bytes. Of one name there is one group at a time.
        name: String,
        /// It ends.
        ends: bool,
        /// All ranks of the step are members; `ranks` is empty then.
        everyone: bool,
        /// The members, of all nodes, in ascending order.
        #[serde(deserialize_with = "bounded::list")]
        ranks: Vec<u32>,
        /// A number for the group that no other group of the step ever has, where one is wanted. Each node names its own,
        /// and that of the group's first node counts.
        context: Option<u64>,
        /// What this node brings.
        bytes: Blob,
        /// The caller gives up after so long; seconds.
        timeout_s: Option<u32>,
    },
    /// A rank asks for further processes.
    Spawn {
        /// For the answer.
        ask: u64,
        /// Which.
        rank: u32,
        /// What is to run.
        request: Box<SpawnRequest>,
    },
}

/// What a fence is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// To meet, and mostly to exchange bytes.
    Fence,
    /// Ranks become connected: a failure of one concerns the others.
    Connect,
    /// They no longer are.
    Disconnect,
}

/// What a rank needs in its environment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Variables {
    /// Names and values.
    #[serde(deserialize_with = "bounded::few")]
    pub pairs: Vec<(String, String)>,
}

/// Publish, look up, take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameRequest {
    /// Values under names, none of which may be taken.
    Publish {
        /// The values.
        #[serde(deserialize_with = "bounded::few")]
        entries: Vec<NameEntry>,
        /// For whom, in the library's numbers: 2 this node, 3 the step, 4 and 5 everybody.
        range: Option<u8>,
        /// For how long, in the library's numbers: 0 until taken back, 1 until read, 2 the rank, 3 the step, 4 the job.
        persistence: Option<u8>,
    },
    /// All of these names.
    Lookup {
        /// The names.
        #[serde(deserialize_with = "bounded::few")]
        keys: Vec<String>,
        /// As for publishing.
        range: Option<u8>,
        /// Wait until they are there.
        wait: bool,
        /// But not longer; seconds.
        timeout_s: Option<u32>,
    },
    /// No longer; no names = all that this rank has published.
    Unpublish {
        /// The names.
        #[serde(deserialize_with = "bounded::few")]
        keys: Vec<String>,
        /// As for publishing.
        range: Option<u8>,
    },
    /// Ranks of several namespaces meet; those of this node are in. Answered once all of them are. This and what follows are
    /// between builds of [`super::hello::VERSION_SPAWN`] or later.
    Meet {
        /// What for.
        purpose: Purpose,
        /// All of them, in order of namespaces.
        #[serde(deserialize_with = "bounded::few")]
        members: Vec<MeetMembers>,
        /// So many of this namespace are on this node.
        here: u32,
        /// So many are on all nodes.
        all: u32,
    },
    /// What this rank has put is there for those of other namespaces.
    Bring {
        /// The bytes, or why there are none.
        outcome: Outcome,
    },
    /// What a rank of another namespace has put; waits for that where its namespace has been met.
    Fetch {
        /// Its namespace.
        nspace: String,
        /// Its rank.
        rank: u32,
    },
}

impl NameRequest {
    /// Whether builds of [`super::hello::VERSION_SPAWN`] or later alone know it.
    #[must_use]
    pub fn is_between_namespaces(&self) -> bool {
        matches!(
            self,
            NameRequest::Meet { .. } | NameRequest::Bring { .. } | NameRequest::Fetch { .. }
        )
    }
}

/// Those of one namespace that meet others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeetMembers {
    /// The namespace.
    pub nspace: String,
    /// Its ranks in ascending order; none = all.
    #[serde(deserialize_with = "bounded::list")]
    pub ranks: Vec<u32>,
}

/// A value under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEntry {
    /// The name.
    pub key: String,
    /// The library's number of the value's type.
    pub kind: u16,
    /// The value: a text without its end, bytes, or a number as it lies in memory.
    pub value: Blob,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// In the order that was asked for.
    #[serde(deserialize_with = "bounded::few")]
    pub found: Vec<NameFound>,
}

/// A published value, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameFound {
    /// The publisher's namespace.
    pub nspace: String,
    /// The publisher's rank.
    pub rank: u32,
    /// What was published.
    pub entry: NameEntry,
}

/// A step, as the helper of one node must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PmixStart {
    /// Names the step and its attempt, as no other is ever named.
    pub nspace: String,
    /// For the library's sockets and the ranks' session files: private to the step's user, who owns it, and empty. It
    /// should be short: socket paths have to fit into 107 bytes.
    pub directory: String,
    /// Where the library may be, files or their directories, before the usual places are searched. A program stands for
    /// where it looks for its own libraries.
    #[serde(deserialize_with = "bounded::few")]
    pub libraries: Vec<String>,
    /// No other place is looked at: the job has named the library.
    pub only_these: bool,
    /// Which of `nodes` this is.
    pub node_index: u32,
    /// All nodes of the step. Ranks are numbered from 0 over all of them, and each is on one node.
    #[serde(deserialize_with = "bounded::list")]
    pub nodes: Vec<PmixNode>,
    /// The ranks' user.
    pub uid: u32,
    /// The ranks' group.
    pub gid: u32,
    /// By rank, to which of the step's programs it belongs; empty = there is one program.
    #[serde(deserialize_with = "bounded::list")]
    pub app_numbers: Vec<u32>,
    /// How many ranks the allocation has room for.
    pub universe: u32,
    /// By local rank, the cpus that it is bound to, as `0-3,8`; empty or `None` = not bound.
    #[serde(deserialize_with = "bounded::list")]
    pub cpusets: Vec<Option<String>>,
    /// Ranks have been started already with what [`PmixStart::promise`] says: the helper has a door's socket as
    /// [`DOOR_FD`], and after it those of so many who have come.
    pub visitors: Option<u32>,
    /// Namespace and rank of who has asked for this step, if a rank of another step has.
    pub parent: Option<(String, u32)>,
}

/// What ranks are told of a server that is started only once one of them asks for it: where it will be and who, which is
/// ours to choose, and how to speak with it, which all versions of its library understand. What a rank is to find in
/// files of the server's is left out, so that it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    nspace: String,
    node_index: u32,
    node: Option<String>,
}

impl Promise {
    /// For a door at which nobody will serve anybody, under this name.
    #[must_use]
    pub fn of_nobody(nspace: String) -> Promise {
        Promise {
            nspace,
            node_index: 0,
            node: None,
        }
    }

    /// What ranks are to call the step.
    #[must_use]
    pub fn nspace(&self) -> &str {
        &self.nspace
    }

    /// The variables, but for the rank's own, where the server is to be at this port.
    #[must_use]
    pub fn variables(&self, port: u16) -> Vec<(String, String)> {
        let place = format!("{};tcp4://127.0.0.1:{port}", self.server());
        let places = PLACES.map(|name| (name, place.as_str()));
        let all = places.into_iter().chain(self.others());
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Who the server is.
    fn server(&self) -> String {
        format!("{}{SERVER_SUFFIX}.{}", self.nspace, self.node_index)
    }

    fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        let node = self.node.iter();
        let node = node.map(|node| ("PMIX_HOSTNAME", node.as_str()));
        let fixed = [
            ("PMIX_NAMESPACE", self.nspace.as_str()),
            ("PMIX_SECURITY_MODE", "native"),
            ("PMIX_BFROP_BUFFER_TYPE", "PMIX_BFROP_BUFFER_NON_DESC"),
            ("PMIX_GDS_MODULE", "hash"),
        ];
        fixed.into_iter().chain(node)
    }

    /// Where the library really is that would have ranks told this: what it listens at.
    ///
    /// # Errors
    /// What ranks were told otherwise, as a sentence's end for people.
    pub fn kept_at(&self, told: &[(String, String)]) -> Result<std::net::SocketAddr, String> {
        let value = |name: &str| {
            let mut found = told.iter().filter(|(known, _)| known == name);
            found.next().map(|(_, value)| value.as_str())
        };
        for (name, promised) in self.others() {
            // Some are lists of what it can do.
            let fits = |value: &str| value.split(',').any(|one| one == promised);
            if let Some(other) = value(name).filter(|value| !fits(value)) {
                return Err(format!("{name}={other} and not {promised}"));
            }
        }
        let mut places = PLACES.iter().filter_map(|name| value(name));
        let place = places.next().unwrap_or_default();
        let (server, place) = place.split_once(';').unwrap_or_default();
        let address = place.rsplit_once("//").and_then(|(_, at)| at.parse().ok());
        address
            .filter(|_| server == self.server())
            .ok_or_else(|| format!("a server {server} at {place:?}"))
    }
}

/// A node of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PmixNode {
    /// Its name here, which is best the host's own.
    pub name: String,
    /// Other names that it is known by, the host's own among them.
    #[serde(deserialize_with = "bounded::few")]
    pub aliases: Vec<String>,
    /// Its ranks in ascending order.
    #[serde(deserialize_with = "bounded::list")]
    pub ranks: Vec<u32>,
}

impl PmixStart {
    /// What ranks here can be told before the helper has been started.
    #[must_use]
    pub fn promise(&self) -> Promise {
        let index = usize::try_from(self.node_index).unwrap_or(usize::MAX);
        let node = self.nodes.get(index).map(|node| node.name.clone());
        Promise {
            nspace: self.nspace.clone(),
            node_index: self.node_index,
            node,
        }
    }

    /// How many ranks the step has; what does not fit counts as too many for [`PmixStart::check`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.iter().map(|node| node.ranks.len()).sum()
    }

    /// The ranks of this node.
    #[must_use]
    pub fn local(&self) -> &[u32] {
        let index = usize::try_from(self.node_index).unwrap_or(usize::MAX);
        self.nodes.get(index).map_or(&[], |node| &node.ranks)
    }

    /// Whether all of it fits together.
    ///
    /// # Errors
    /// The first thing that does not, as a fragment for people.
    pub fn check(&self) -> Result<(), String> {
        if self.nspace.is_empty() || self.nspace.len() > NSPACE_MAX || self.nspace.contains('\0') {
            return Err(format!(
                "a namespace has 1 to {NSPACE_MAX} bytes, not {}",
                self.nspace.len()
            ));
        }
        let size = self.size();
        if size == 0 || size > bounded::ITEMS_MAX {
            return Err(format!(
                "a step has 1 to {} ranks, not {size}",
                bounded::ITEMS_MAX
            ));
        }
        let mut seen = vec![false; size];
        for (index, node) in self.nodes.iter().enumerate() {
            let names = std::iter::once(&node.name).chain(&node.aliases);
            if !names.into_iter().all(|name| is_plain(name)) {
                return Err(format!("node {index} has a name that no node can have"));
            }
            if !node.ranks.is_sorted() {
                return Err(format!("the ranks of node {index} are not in order"));
            }
            for &rank in &node.ranks {
                let place = usize::try_from(rank).ok().and_then(|at| seen.get_mut(at));
                match place {
                    Some(taken) if !*taken => *taken = true,
                    _ => return Err(format!("rank {rank} is there twice, or one is missing")),
                }
            }
        }
        if self.local().is_empty() {
            return Err("this node has no rank".to_owned());
        }
        if !self.app_numbers.is_empty() && self.app_numbers.len() != size {
            return Err("not every rank has its program".to_owned());
        }
        if !self.cpusets.is_empty() && self.cpusets.len() != self.local().len() {
            return Err("not every local rank has its cpus".to_owned());
        }
        Ok(())
    }
}

/// Names are put into lists by commas and semicolons.
fn is_plain(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.contains(|letter: char| matches!(letter, ',' | ';') || letter <= ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::{self, FRAME_MAX};

    fn two_nodes() -> PmixStart {
        let node = |name: &str, ranks: &[u32]| PmixNode {
            name: name.to_owned(),
            aliases: Vec::new(),
            ranks: ranks.to_vec(),
        };
        PmixStart {
            nspace: "hpc-7.0.1".to_owned(),
            directory: "/tmp/x".to_owned(),
            libraries: Vec::new(),
            only_these: false,
            node_index: 1,
            nodes: vec![node("ws1", &[0, 2]), node("ws2", &[1, 3])],
            uid: 1000,
            gid: 1000,
            app_numbers: vec![0, 0, 1, 1],
            universe: 8,
            cpusets: vec![Some("0-3".to_owned()), None],
            visitors: None,
            parent: None,
        }
    }

    #[test]
    fn what_a_library_wants_is_what_ranks_were_told_or_it_is_said_what_is_not() {
        let promise = two_nodes().promise();
        let told = promise.variables(4_711);
        assert!(told.contains(&("PMIX_HOSTNAME".to_owned(), "ws2".to_owned())));
        let at = |port: u16| Ok(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(promise.kept_at(&told), at(4_711));
        let but = |name: &str, value: &str| {
            let mut told = told.clone();
            told.retain(|(known, _)| known != name);
            told.push((name.to_owned(), value.to_owned()));
            promise.kept_at(&told)
        };
        assert_eq!(but("PMIX_GDS_MODULE", "ds21,hash"), at(4_711));
        assert_eq!(but("PMIX_VERSION", "5.0.11"), at(4_711));
        for (name, value) in [
            ("PMIX_GDS_MODULE", "ds21,ds12"),
            ("PMIX_NAMESPACE", "another"),
            ("PMIX_BFROP_BUFFER_TYPE", "PMIX_BFROP_BUFFER_FULLY_DESC"),
            ("PMIX_SERVER_URI2", "another.1;tcp4://127.0.0.1:4711"),
            ("PMIX_SERVER_URI2", "hpc-7.0.1.server.1;usock:/tmp/x"),
        ] {
            assert!(but(name, value).is_err(), "{name}={value}");
        }
        assert!(promise.kept_at(&[]).is_err());
    }

    #[test]
    fn a_step_fits_together_or_says_what_does_not() {
        let good = two_nodes();
        assert_eq!(good.check(), Ok(()));
        assert_eq!((good.size(), good.local()), (4, &[1, 3][..]));
        type Break = fn(&mut PmixStart);
        let broken: [(&str, Break); 9] = [
            ("namespace", |start| start.nspace = "x".repeat(256)),
            ("1 to 65536 ranks", |start| start.nodes.clear()),
            ("that no node can have", |start| {
                start.nodes[0].name = "a,b".into();
            }),
            ("that no node can have", |start| {
                start.nodes[0].aliases.push("a b".into());
            }),
            ("not in order", |start| start.nodes[0].ranks = vec![2, 0]),
            ("rank 1 is there twice", |start| {
                start.nodes[0].ranks = vec![0, 1];
            }),
            ("rank 9 is there twice", |start| {
                start.nodes[0].ranks = vec![0, 9];
            }),
            ("has no rank", |start| start.node_index = 2),
            ("its program", |start| {
                start.app_numbers.pop();
            }),
        ];
        for (words, change) in broken {
            let mut start = two_nodes();
            change(&mut start);
            let why = start.check().unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn the_largest_answer_fits_into_a_frame() {
        let outcome = Ok(Blob(vec![0; BYTES_MAX]));
        let frame = codec::encode(&ToPmix::Fenced {
            ask: u64::MAX,
            outcome,
        });
        assert!(frame.len() <= FRAME_MAX);
        let fence = FromPmix::Fence {
            ask: u64::MAX,
            purpose: Purpose::Fence,
            everyone: false,
            ranks: (0..65_536).collect(),
            bytes: Blob(vec![0; BYTES_MAX]),
            timeout_s: Some(u32::MAX),
        };
        assert!(codec::encode(&fence).len() <= FRAME_MAX);
    }
}
