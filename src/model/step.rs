//! How a step is to be started beyond its program and its amounts: how its ranks find each other, where they go, what
//! the end of one means for the others.
//!
//! A list of single options, so that later builds can append to it; what was not said is not in the list.

use super::bounded;
use super::cpu_set::CpuSet;
use super::distribution::Distribution;
use super::programs::Programs;
use super::refusal::Code;
use super::spawn::Spawned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the ranks of a step find each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mpi {
    /// By whatever the program asks for: PMI-1, PMI-2 and, where its library is found, PMIx.
    #[default]
    Auto,
    /// By PMI-1 alone.
    Pmi1,
    /// By PMI-2, with PMI-1 on the same socket.
    Pmi2,
    /// By PMIx alone.
    Pmix,
    /// Not at all.
    None,
}

impl Mpi {
    /// Every word, as `--mpi` takes it.
    pub const WORDS: [(&'static str, Mpi); 5] = [
        ("auto", Mpi::Auto),
        ("pmi1", Mpi::Pmi1),
        ("pmi2", Mpi::Pmi2),
        ("pmix", Mpi::Pmix),
        ("none", Mpi::None),
    ];

    /// Reads a word; the versions of PMIx that Slurm tells apart are one to us, since the library is asked.
    ///
    /// # Errors
    /// The words there are.
    pub fn parse(text: &str) -> Result<Mpi, String> {
        let word = text.to_ascii_lowercase();
        let plain = match word.strip_prefix("pmix_v") {
            Some(number) if number.parse::<u8>().is_ok() => "pmix",
            _ => word.as_str(),
        };
        let known = Self::WORDS.iter().find(|(known, _)| *known == plain);
        known.map(|(_, mpi)| *mpi).ok_or_else(|| {
            let words: Vec<&str> = Self::WORDS.iter().map(|(known, _)| *known).collect();
            format!("`{text}`: write one of {}", words.join(", "))
        })
    }

    /// Whether PMI-1 and PMI-2 are answered.
    #[must_use]
    pub fn serves_pmi(self) -> bool {
        matches!(self, Mpi::Auto | Mpi::Pmi1 | Mpi::Pmi2)
    }

    /// Whether PMIx is answered.
    #[must_use]
    pub fn serves_pmix(self) -> bool {
        matches!(self, Mpi::Auto | Mpi::Pmix)
    }
}

impl fmt::Display for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, mpi)| mpi == self);
        f.write_str(word.map_or("auto", |(word, _)| word))
    }
}

/// One thing that was said of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepOption {
    /// How its ranks find each other.
    Mpi(Mpi),
    /// Whether one task that ends badly ends the step.
    KillOnBadExit(bool),
    /// Seconds after the end of the first task at which the others are ended; 0 = never.
    Wait(u32),
    /// It is what a remote shell would start: one task on this node of the job, with all that the job has there.
    RemoteShell(String),
    /// Which rank goes to which node.
    Distribution(Distribution),
    /// On these nodes of the job.
    NodeList(#[serde(deserialize_with = "bounded::list")] Vec<String>),
    /// On none of these.
    Exclude(#[serde(deserialize_with = "bounded::list")] Vec<String>),
    /// At most so many tasks on a node, and as many where their sum is not said.
    TasksPerNode(u32),
    /// On nodes of the job from this one on.
    Relative(u32),
    /// A program for each rank.
    Programs(Programs),
    /// Standard output of its tasks.
    Output(Stream),
    /// Standard error of its tasks; not said: as standard output.
    Error(Stream),
    /// Standard input of its tasks.
    Input(Stream),
    /// It shares cpus with other steps of its job.
    Overlap,
    /// Its cpus on nodes of the job, by the node's place; on a node that is not named, all that the job has there. Decided
    /// by the cluster.
    Cpus(#[serde(deserialize_with = "bounded::list")] Vec<(u32, CpuSet)>),
    /// A rank of another step asked for it. To builds of [`crate::wire::hello::VERSION_SPAWN`] or later.
    Spawned(Box<Spawned>),
}

/// Where one of the standard streams of tasks leads, in place of the step's client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Nowhere.
    Nothing,
    /// To the client after all, where another stream leads elsewhere.
    Client,
    /// To the client for this rank, nowhere for all others.
    Rank(u32),
    /// To a file that each task opens on its node.
    File {
        /// Its name, perhaps with patterns.
        pattern: String,
        /// At its end instead of from its beginning.
        append: bool,
    },
}

/// The code by which the client of a step hears that there is room for it, but not now.
pub const BUSY: Code = Code::Conflict;
/// Most bytes that may be said of a step.
pub const OPTIONS_BYTES_MAX: usize = 512 * 1024;

/// All that was said of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepOptions {
    #[serde(deserialize_with = "bounded::few")]
    said: Vec<StepOption>,
}

impl StepOptions {
    /// Says one more thing; the last of a kind counts.
    pub fn say(&mut self, option: StepOption) {
        let kind = std::mem::discriminant(&option);
        self.said
            .retain(|other| std::mem::discriminant(other) != kind);
        self.said.push(option);
    }

    /// Takes back which cpus it has.
    pub fn forget_cpus(&mut self) {
        self.said
            .retain(|option| !matches!(option, StepOption::Cpus(_)));
    }

    /// What builds know of it that know how ranks find each other, but not where they go; `None` = without the rest it
    /// would be another step. Cpus of its own, and what led to the number of tasks on each node, may be left out.
    #[must_use]
    pub fn of_peers(&self) -> Option<StepOptions> {
        let mut known = StepOptions::default();
        for option in &self.said {
            match option {
                StepOption::Mpi(_)
                | StepOption::KillOnBadExit(_)
                | StepOption::Wait(_)
                | StepOption::RemoteShell(_) => known.say(option.clone()),
                StepOption::NodeList(_)
                | StepOption::Exclude(_)
                | StepOption::TasksPerNode(_)
                | StepOption::Relative(_)
                | StepOption::Overlap
                | StepOption::Cpus(_)
                | StepOption::Distribution(Distribution::Block) => {}
                StepOption::Distribution(_)
                | StepOption::Programs(_)
                | StepOption::Output(_)
                | StepOption::Error(_)
                | StepOption::Input(_)
                | StepOption::Spawned(_) => return None,
            }
        }
        Some(known)
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Whether something was said for which ranks must be served even where there is but one.
    #[must_use]
    pub fn speaks_of_ends(&self) -> bool {
        self.said.iter().any(|option| {
            matches!(
                option,
                StepOption::Mpi(_) | StepOption::KillOnBadExit(_) | StepOption::Wait(_)
            )
        })
    }

    /// What one kind of option says.
    fn find<'a, T>(&'a self, of: impl Fn(&'a StepOption) -> Option<T>) -> Option<T> {
        self.said.iter().find_map(of)
    }

    /// How its ranks find each other.
    #[must_use]
    pub fn mpi(&self) -> Mpi {
        let said = self.find(|option| match option {
            StepOption::Mpi(mpi) => Some(*mpi),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// Whether one task that ends badly ends the step; `None` = only where that leaves the others waiting for it.
    #[must_use]
    pub fn kill_on_bad_exit(&self) -> Option<bool> {
        self.find(|option| match option {
            StepOption::KillOnBadExit(kill) => Some(*kill),
            _ => None,
        })
    }

    /// Seconds that the others have after the first task's end; `None` = for ever.
    #[must_use]
    pub fn wait_s(&self) -> Option<u32> {
        let said = self.find(|option| match option {
            StepOption::Wait(seconds) => Some(*seconds),
            _ => None,
        });
        said.filter(|seconds| *seconds > 0)
    }

    /// The node on which it is what a remote shell would start.
    #[must_use]
    pub fn remote_shell(&self) -> Option<&str> {
        self.said.iter().find_map(|option| match option {
            StepOption::RemoteShell(node) => Some(node.as_str()),
            _ => None,
        })
    }
    /// Which rank goes to which node, where that was said.
    #[must_use]
    pub fn distribution(&self) -> Option<&Distribution> {
        self.find(|option| match option {
            StepOption::Distribution(distribution) => Some(distribution),
            _ => None,
        })
    }

    /// The nodes that it must have.
    #[must_use]
    pub fn node_list(&self) -> &[String] {
        let said = self.find(|option| match option {
            StepOption::NodeList(names) => Some(names.as_slice()),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// The nodes that it must not have.
    #[must_use]
    pub fn excluded(&self) -> &[String] {
        let said = self.find(|option| match option {
            StepOption::Exclude(names) => Some(names.as_slice()),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// Tasks on each node.
    #[must_use]
    pub fn tasks_per_node(&self) -> Option<u32> {
        self.find(|option| match option {
            StepOption::TasksPerNode(tasks) => Some(*tasks),
            _ => None,
        })
    }

    /// How many of the job's nodes are left out at the beginning.
    #[must_use]
    pub fn relative(&self) -> Option<u32> {
        self.find(|option| match option {
            StepOption::Relative(first) => Some(*first),
            _ => None,
        })
    }

    /// A program for each rank.
    #[must_use]
    pub fn programs(&self) -> Option<&Programs> {
        self.find(|option| match option {
            StepOption::Programs(programs) => Some(programs),
            _ => None,
        })
    }

    /// Where standard output of its tasks goes; `None` = to its client.
    #[must_use]
    pub fn output(&self) -> Option<&Stream> {
        self.find(|option| match option {
            StepOption::Output(stream) => Some(stream),
            _ => None,
        })
    }

    /// Where standard error of its tasks goes; `None` = to its client.
    #[must_use]
    pub fn error(&self) -> Option<&Stream> {
        self.find(|option| match option {
            StepOption::Error(stream) => Some(stream),
            _ => None,
        })
    }

    /// Where standard input of its tasks comes from; `None` = from its client.
    #[must_use]
    pub fn input(&self) -> Option<&Stream> {
        self.find(|option| match option {
            StepOption::Input(stream) => Some(stream),
            _ => None,
        })
    }

    /// Whether it shares cpus with other steps. What a launcher starts on other nodes does: it stands for all of the job.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        self.said.contains(&StepOption::Overlap) || self.remote_shell().is_some()
    }

    /// Who asked for it, where that was a rank of another step, and for what.
    #[must_use]
    pub fn spawned(&self) -> Option<&Spawned> {
        self.find(|option| match option {
            StepOption::Spawned(spawned) => Some(&**spawned),
            _ => None,
        })
    }

    /// Its cpus on the node with this place; `None` = all that the job has there.
    #[must_use]
    pub fn cpus_on(&self, place: u32) -> Option<&CpuSet> {
        let all = self.find(|option| match option {
            StepOption::Cpus(cpus) => Some(cpus),
            _ => None,
        })?;
        let here = all.iter().find(|(at, _)| *at == place);
        here.map(|(_, cpus)| cpus)
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = |names: &[String]| names.iter().map(|name| name.len() + 24).sum::<usize>();
        let weights = self.said.iter().map(|option| match option {
            StepOption::Distribution(distribution) => distribution.weight(),
            StepOption::NodeList(list) | StepOption::Exclude(list) => names(list),
            StepOption::Programs(programs) => programs.weight(),
            StepOption::Output(stream) | StepOption::Error(stream) | StepOption::Input(stream) => {
                match stream {
                    Stream::File { pattern, .. } => pattern.len() + 24,
                    Stream::Nothing | Stream::Client | Stream::Rank(_) => 8,
                }
            }
            StepOption::Cpus(cpus) => cpus.len() * 64,
            StepOption::Spawned(spawned) => spawned.request.weight(),
            _ => 8,
        });
        weights.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;
    use crate::model::spawn::{SpawnCommand, SpawnRequest};

    #[test]
    fn the_last_of_a_kind_counts() {
        let mut options = StepOptions::default();
        assert_eq!(options.mpi(), Mpi::Auto);
        options.say(StepOption::Mpi(Mpi::Pmix));
        options.say(StepOption::KillOnBadExit(true));
        options.say(StepOption::Mpi(Mpi::None));
        assert_eq!(options.mpi(), Mpi::None);
        assert_eq!(options.kill_on_bad_exit(), Some(true));
        assert_eq!(options.wait_s(), None);
        options.say(StepOption::Wait(0));
        assert_eq!(options.wait_s(), None);
    }

    #[test]
    fn options_keep_their_places_on_the_wire() {
        let file = |pattern: &str| Stream::File {
            pattern: pattern.to_owned(),
            append: true,
        };
        let all = [
            StepOption::Mpi(Mpi::Pmix),
            StepOption::KillOnBadExit(true),
            StepOption::Wait(9),
            StepOption::RemoteShell("n".to_owned()),
            StepOption::Distribution(Distribution::Plane(4)),
            StepOption::NodeList(vec!["n1".to_owned()]),
            StepOption::Exclude(Vec::new()),
            StepOption::TasksPerNode(2),
            StepOption::Relative(1),
            StepOption::Programs(Programs::parse("0 a").unwrap()),
            StepOption::Output(Stream::Nothing),
            StepOption::Error(Stream::Rank(7)),
            StepOption::Input(file("i")),
            StepOption::Overlap,
            StepOption::Cpus(vec![(0, CpuSet::from_iter([0_u32, 1]))]),
            StepOption::Spawned(Box::new(Spawned {
                parent: StepId(1),
                rank: 2,
                request: SpawnRequest {
                    commands: vec![SpawnCommand {
                        ranks: 3,
                        arguments: vec!["a".to_owned()],
                        directory: None,
                        hosts: Vec::new(),
                        environment: Vec::new(),
                    }],
                    pairs: vec![(b"k".to_vec(), b"v".to_vec())],
                },
            })),
        ];
        let bytes: Vec<Vec<u8>> = all
            .iter()
            .map(|option| postcard::to_stdvec(option).unwrap())
            .collect();
        let wanted: [&[u8]; 16] = [
            &[0, 3],
            &[1, 1],
            &[2, 9],
            &[3, 1, b'n'],
            &[4, 2, 4],
            &[5, 1, 2, b'n', b'1'],
            &[6, 0],
            &[7, 2],
            &[8, 1],
            &[9, 1, 1, 1, 0, 1, 1, 1, b'a'],
            &[10, 0],
            &[11, 2, 7],
            &[12, 3, 1, b'i', 1],
            &[13],
            &[14, 1, 0, 1, 3],
            &[15, 1, 2, 1, 3, 1, 1, b'a', 0, 0, 0, 1, 1, b'k', 1, b'v'],
        ];
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn the_words_are_those_of_slurm_and_our_own() {
        for (word, mpi) in Mpi::WORDS {
            assert_eq!(Mpi::parse(word), Ok(mpi));
            assert_eq!(mpi.to_string(), word);
        }
        assert_eq!(Mpi::parse("PMIx_v4"), Ok(Mpi::Pmix));
        assert!(Mpi::parse("pmix_vx").is_err());
        assert!(Mpi::parse("openmpi").unwrap_err().contains("auto, pmi1"));
    }
}
