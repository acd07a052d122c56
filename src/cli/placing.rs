//! What `hpc run` reads before its ranks can be placed: the list of hosts of `--distribution=arbitrary`, the file of
//! `--multi-prog`; and how it shows where they are (`--verbose`).

use super::connection::Target;
use super::draft::Draft;
use super::exit::{Failure, Outcome, plain};
use crate::model::distribution::{Distribution, HostRanks};
use crate::model::hostlist;
use crate::model::ids::StepId;
use crate::model::index_set::IndexSet;
use crate::model::programs::{PROGRAMS_BYTES_MAX, Programs};
use crate::model::step::StepOption;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::{StepNodeView, StepPlaceView};
use std::env;
use std::fs::File;
use std::io::Read;

/// The variable that names the file of hosts.
const HOST_FILE: &str = "SLURM_HOSTFILE";
/// Most bytes of such a file.
const HOST_FILE_MAX: usize = 4 * 1024 * 1024;

/// The text of a file of at most so many bytes.
fn read(path: &str, most: usize) -> Result<String, String> {
    let file = File::open(path).map_err(|error| plain(&error))?;
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| plain(&error))?;
    if bytes.len() > most {
        return Err(format!("it has more than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// Hosts in a file: a line each, which may be a list; what follows `#` is for people.
fn hosts_in(text: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let names = hostlist::parse(line).map_err(|error| format!("line {number}: {error}"))?;
        hosts.extend(names);
    }
    Ok(hosts)
}

impl Draft {
    /// Finds the hosts of `--distribution=arbitrary`: in the file that SLURM_HOSTFILE names, or in `--nodelist`. How many
    /// ranks they are.
    pub(super) fn list_hosts(&mut self) -> Outcome<Option<u32>> {
        // As srun has it: a file of hosts is meant where nothing else is said.
        let unsaid = self.step.distribution().is_none() && self.request.nodelist.is_empty();
        let listed = unsaid && env::var_os(HOST_FILE).is_some_and(|name| !name.is_empty());
        if !listed && !matches!(self.step.distribution(), Some(Distribution::Arbitrary(_))) {
            return Ok(None);
        }
        let mut hosts = match env::var(HOST_FILE) {
            Ok(path) => {
                let text = read(&path, HOST_FILE_MAX).and_then(|text| hosts_in(&text));
                text.map_err(|error| Failure::Usage(format!("{HOST_FILE}={path}: {error}")))?
            }
            Err(_) => std::mem::take(&mut self.request.nodelist),
        };
        if hosts.is_empty() {
            return Err(Failure::Usage(format!(
                "--distribution=arbitrary needs hosts: name a file with one for each rank in {HOST_FILE}, or list them by --nodelist"
            )));
        }
        self.request.nodelist.clear();
        if let Some(ntasks) = self.request.ntasks {
            let ntasks = usize::try_from(ntasks).unwrap_or(usize::MAX);
            if ntasks > hosts.len() {
                return Err(Failure::Usage(format!(
                    "{ntasks} tasks are asked for and {} hosts listed: list a host for each",
                    hosts.len()
                )));
            }
            hosts.truncate(ntasks);
        }
        let list = HostRanks::of(&hosts).map_err(Failure::Usage)?;
        let ranks = list.len();
        self.step
            .say(StepOption::Distribution(Distribution::Arbitrary(list)));
        Ok(Some(ranks))
    }

    /// For a job of its own: the nodes that are listed, each with room for as many ranks as the fullest has.
    pub(super) fn room_for_hosts(&mut self) {
        if let Some(Distribution::Arbitrary(list)) = self.step.distribution() {
            let nodes = u32::try_from(list.names().len()).unwrap_or(u32::MAX);
            self.request.nodelist = list.names().to_vec();
            self.request.nodes_min = nodes;
            self.request.nodes_max = Some(nodes);
            self.request.ntasks_per_node = Some(list.most_on_one());
            self.request.ntasks = None;
        }
    }

    /// Reads the file of `--multi-prog`, which stands in place of a program. `ntasks` where it is known.
    pub(super) fn read_programs(&mut self, words: &[String], ntasks: Option<u32>) -> Outcome<()> {
        if !self.multi_prog {
            return Ok(());
        }
        let [path] = words else {
            return Err(Failure::Usage(
                "--multi-prog takes one word, the file that names the programs".into(),
            ));
        };
        let place = std::path::Path::new(&self.directory()?).join(path);
        let programs = read(&place.to_string_lossy(), PROGRAMS_BYTES_MAX)
            .and_then(|text| Programs::parse(&text))
            .and_then(|programs| {
                ntasks.map_or(Ok(()), |ntasks| programs.check(ntasks))?;
                Ok(programs)
            });
        let programs =
            programs.map_err(|error| Failure::Usage(format!("--multi-prog {path}: {error}")))?;
        self.step.say(StepOption::Programs(programs));
        Ok(())
    }
}

/// Where the running steps of a job are; nothing where that cannot be told, as by a controller of an earlier build.
pub(super) fn places(target: &Target, job: u32) -> Vec<StepPlaceView> {
    match target.ask(&Request::StepPlaces { job }) {
        Ok(ToClient::StepPlaces(places)) => places,
        _ => Vec::new(),
    }
}

/// The steps that have cpus of a job, in words; `None` where that cannot be told.
pub(super) fn holders(target: &Target, job: u32) -> Option<String> {
    let places = places(target, job);
    let steps: IndexSet = places.iter().map(|place| place.step.0).collect();
    match steps.len() {
        0 => None,
        1 => Some(format!("step {steps} of job {job}")),
        _ => Some(format!("steps {steps} of job {job}")),
    }
}

/// One node of a step: its ranks and its cpus.
pub(super) fn node_line(node: &StepNodeView) -> String {
    let word = if node.ranks.len() == 1 {
        "rank"
    } else {
        "ranks"
    };
    format!("{}: {word} {}, cpus {}", node.node, node.ranks, node.cpus)
}

/// Says on standard error where a step's ranks are.
pub(super) fn show(target: &Target, job: u32, step: StepId) {
    let places = places(target, job);
    for place in places.iter().filter(|place| place.step == step) {
        for node in &place.nodes {
            eprintln!(
                "hpc run: step {job}.{step} ({}) on {}",
                place.distribution,
                node_line(node)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_files_are_lines_of_hosts() {
        let hosts = hosts_in("n2\n# the rest\n n1 \nn[2-3] # twice\n\n").unwrap();
        assert_eq!(hosts, ["n2", "n1", "n2", "n3"]);
        assert!(hosts_in("n1\nn[3-").unwrap_err().starts_with("line 2: "));
    }
}
