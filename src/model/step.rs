//! How a step is to be started beyond its program and its amounts: how its ranks find each other, where they go, what
//! the end of one means for the others.
//!
//! A list of single options, so that later builds can append to it; what was not said is not in the list.

use super::bounded;
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
}

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

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// How its ranks find each other.
    #[must_use]
    pub fn mpi(&self) -> Mpi {
        let said = self.said.iter().find_map(|option| match option {
            StepOption::Mpi(mpi) => Some(*mpi),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// Whether one task that ends badly ends the step; `None` = only where that leaves the others waiting for it.
    #[must_use]
    pub fn kill_on_bad_exit(&self) -> Option<bool> {
        self.said.iter().find_map(|option| match option {
            StepOption::KillOnBadExit(kill) => Some(*kill),
            _ => None,
        })
    }

    /// Seconds that the others have after the first task's end; `None` = for ever.
    #[must_use]
    pub fn wait_s(&self) -> Option<u32> {
        let said = self.said.iter().find_map(|option| match option {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
