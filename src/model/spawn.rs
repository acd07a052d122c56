//! Processes that a running step asks for (MPI_Comm_spawn, MPI_Comm_spawn_multiple): they become a step of the same job,
//! whose ranks run these commands one after another.

use super::bounded;
use super::ids::StepId;
use serde::{Deserialize, Serialize};

/// Most commands of one request.
pub const COMMANDS_MAX: usize = 256;
/// Most bytes of one request.
pub const BYTES_MAX: usize = 256 * 1024;
/// Most spawned ranks for each cpu of the job: they share what it has, and more than this only stand in each other's way.
pub const CROWD_MAX: u32 = 64;

/// One program of a request, and how many ranks run it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpawnCommand {
    /// Ranks.
    pub ranks: u32,
    /// Argument vector, the program first.
    #[serde(deserialize_with = "bounded::list")]
    pub arguments: Vec<String>,
    /// Working directory; `None` = that of who asks.
    pub directory: Option<String>,
    /// Nodes that were named for it.
    #[serde(deserialize_with = "bounded::few")]
    pub hosts: Vec<String>,
    /// Variables that its ranks have besides those of who asks.
    #[serde(deserialize_with = "bounded::few")]
    pub environment: Vec<(String, String)>,
}

/// A name and a value that every new rank finds in its key space from its beginning.
pub type SpawnPair = (Vec<u8>, Vec<u8>);

/// What a rank asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpawnRequest {
    /// In the order of ranks.
    #[serde(deserialize_with = "bounded::few")]
    pub commands: Vec<SpawnCommand>,
    /// Where the new ranks find the old ones, and the like.
    #[serde(deserialize_with = "bounded::few")]
    pub pairs: Vec<SpawnPair>,
}

/// That a step was asked for by a rank of another one, and what is to run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// The other step.
    pub parent: StepId,
    /// Its rank.
    pub rank: u32,
    /// What it asked for.
    pub request: SpawnRequest,
}

impl SpawnRequest {
    /// Ranks of all commands together.
    #[must_use]
    pub fn size(&self) -> u32 {
        let ranks = self.commands.iter().map(|command| command.ranks);
        ranks.fold(0, u32::saturating_add)
    }

    /// The command of a rank and its number.
    #[must_use]
    pub fn command_of(&self, rank: u32) -> Option<(u32, &SpawnCommand)> {
        let mut end = 0_u32;
        (0_u32..).zip(&self.commands).find(|(_, command)| {
            end = end.saturating_add(command.ranks);
            rank < end
        })
    }

    /// The nodes that were named, in their order, each once.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for host in self.commands.iter().flat_map(|command| &command.hosts) {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// What its programs are called, for people.
    #[must_use]
    pub fn programs(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for command in &self.commands {
            let name = command.arguments.first().map_or("", String::as_str);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let commands = self.commands.iter().map(|command| {
            let words = command.arguments.iter().chain(&command.hosts);
            let directory = command.directory.as_ref().map_or(0, String::len);
            let variables = command.environment.iter();
            let variables = variables.map(|(name, value)| name.len() + value.len() + 48);
            words.map(|word| word.len() + 24).sum::<usize>()
                + variables.sum::<usize>()
                + directory
                + 64
        });
        let pairs = self.pairs.iter();
        let pairs = pairs.map(|(key, value)| key.len() + value.len() + 48);
        commands.chain(pairs).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_run_the_commands_one_after_another() {
        let command = |ranks, program: &str| SpawnCommand {
            ranks,
            arguments: vec![program.to_owned()],
            ..SpawnCommand::default()
        };
        let request = SpawnRequest {
            commands: vec![command(2, "a"), command(0, "b"), command(1, "a")],
            pairs: Vec::new(),
        };
        assert_eq!(request.size(), 3);
        assert_eq!(request.programs(), "a, b");
        let number = |rank| request.command_of(rank).map(|(number, _)| number);
        assert_eq!([0, 1, 2, 3].map(number), [Some(0), Some(0), Some(2), None]);
    }
}
