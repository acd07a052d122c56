//! `hpc node`: one machine, and draining, resuming and removing it.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::output::{self, json, words};
use super::selection::change;
use crate::model::hostlist;
use crate::model::refusal::Code;
use crate::wire::client::{NodeChange, Request};
use crate::wire::view::NodeView;
use clap::{Args, Subcommand};
use std::fmt::Write as _;

/// Show one node; drain, resume or remove it
///
/// Examples:
///   hpc node ws1
///   hpc node drain ws1 --reason "new disk"
///   hpc node resume ws[1-4]
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(super) struct Node {
    #[command(subcommand)]
    act: Option<Act>,
    /// The node's name
    #[arg(value_name = "NAME", required = true)]
    name: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Start nothing new there; what runs goes on
    Drain {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
        /// Why, for people
        #[arg(long, short, default_value = "drained by hand", value_name = "TEXT")]
        reason: String,
    },
    /// Start work there again
    Resume {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
    },
    /// Forget a node that is down and holds no jobs
    Remove {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
    },
}

impl Verb for Node {
    fn run(self, target: &Target) -> Outcome {
        match self.act {
            Some(Act::Drain { nodes, reason }) => {
                each(target, &nodes, &NodeChange::Drain { reason })
            }
            Some(Act::Resume { nodes }) => each(target, &nodes, &NodeChange::Resume),
            Some(Act::Remove { nodes }) => each(target, &nodes, &NodeChange::Remove),
            None => show(target, &self.name.unwrap_or_default(), self.json),
        }
    }
}

fn each(target: &Target, nodes: &str, act: &NodeChange) -> Outcome {
    let names = hostlist::parse(nodes).map_err(|error| Failure::Usage(error.to_string()))?;
    for name in names {
        change(
            target,
            &Request::Node {
                name,
                change: act.clone(),
            },
        )?;
    }
    Ok(exit::DONE)
}

fn show(target: &Target, name: &str, as_json: bool) -> Outcome {
    let nodes = super::nodes::all(target)?;
    let Some(node) = nodes.iter().find(|node| node.name == name) else {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let hint = format!("the nodes are {}", hostlist::fold(&known));
        return Err(Failure::refused(
            Code::UnknownNode,
            format!("there is no node {name}"),
            hint,
        ));
    };
    if as_json {
        json::object(&mut output::stdout(), &json::Node::from(node))?;
    } else {
        output::text(&describe(node))?;
    }
    Ok(exit::DONE)
}

/// A node in lines of `Word: value`.
pub(super) fn describe(node: &NodeView) -> String {
    let mut text = String::new();
    let mut line = |word: &str, value: String| {
        if !value.is_empty() {
            // Writing to a text cannot fail.
            let value = output::clean(&value);
            let _ = writeln!(text, "{:<14}{value}", format!("{word}:"));
        }
    };
    line("Node", node.name.clone());
    line(
        "State",
        format!(
            "{}{}",
            node.state,
            if node.responding {
                ""
            } else {
                ", does not answer"
            }
        ),
    );
    line("Reason", node.reason.clone().unwrap_or_default());
    line(
        "Cpus",
        format!(
            "{} in {} NUMA nodes, {} free",
            node.cpus, node.numa_nodes, node.cpus_free
        ),
    );
    line(
        "Memory",
        format!(
            "{}, {} free",
            words::memory(node.memory_mib),
            words::memory(node.memory_free_mib)
        ),
    );
    for gpu in &node.gpus {
        let state = if gpu.free { "free" } else { "in use" };
        line(
            "GPU",
            format!(
                "{} {} {}, {state}, {}",
                gpu.index,
                gpu.kind,
                words::memory(gpu.memory_mib),
                gpu.uuid
            ),
        );
    }
    line("Jobs", node.jobs.join(" "));
    line(
        "Worker",
        format!("version {}, as uid {}", node.version, node.uid),
    );
    for remark in &node.remarks {
        line("Note", remark.clone());
    }
    text
}
