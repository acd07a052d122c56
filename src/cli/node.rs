//! `hpc node`: one machine, and draining, resuming and removing it.

use super::Verb;
use super::connection::Target;
use super::exit::{self, Failure, Outcome};
use super::output::{self, json, words};
use super::rule;
use super::selection::change;
use crate::model::hostlist;
use crate::model::refusal::Code;
use crate::model::rules::{Act as Change, Noun, RuleChange, Setting};
use crate::wire::client::{NodeChange, Request};
use crate::wire::view::{GpuView, LinkView, NodeView, RuleView};
use clap::{Args, Subcommand};
use std::fmt::Write as _;

/// Show one node; drain, resume or remove it
///
/// Examples:
///   hpc node ws1
///   hpc node drain ws1 --reason "new disk"
///   hpc node resume ws[1-4]
///   hpc node set ws[1-4] features=fast,infiniband switch=core/rack1
///   hpc node set ws3 failures=0
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
    ///
    /// Examples:
    ///   hpc node drain ws1 --reason "new disk"
    ///   hpc node drain ws[1-4]
    #[command(verbatim_doc_comment)]
    Drain {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
        /// Why, for people
        #[arg(long, short, default_value = "drained by hand", value_name = "TEXT")]
        reason: String,
    },
    /// Start work there again
    ///
    /// Examples:
    ///   hpc node resume ws[1-4]
    #[command(verbatim_doc_comment)]
    Resume {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
    },
    /// Say which features nodes have and which switch their cables go to, or forget that they failed
    ///
    /// Examples:
    ///   hpc node set ws[1-4] features=fast,infiniband
    ///   hpc node set ws[1-4] switch=core/rack1
    ///   hpc node set ws3 failures=0
    ///
    /// Keys:
    ///   features  words for --constraint: a list; kinds of GPU need not be said
    ///   switch    where its cable goes: rack1, or from the top core/rack1; none
    ///   failures  0 forgets how often it was lost of late, as after a repair
    ///
    /// A job over several nodes gets those that are close together, under as few switches as
    /// can be; --switches asks for few.
    ///
    /// Each time that a node is lost though nobody drained it is half forgotten after a week.
    /// Jobs that it would lose with more than 10 % within their time limits are kept off it as
    /// long as other nodes can hold them.
    #[command(verbatim_doc_comment)]
    Set {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
        /// features=LIST, switch=PATH, failures=0
        #[arg(value_name = "KEY=VALUE", required = true)]
        settings: Vec<String>,
    },
    /// Forget a node that is down and holds no jobs; its key is known no more
    ///
    /// With --force at once: its jobs end as NODE_FAIL, its connection is cut.
    ///
    /// Examples:
    ///   hpc node remove ws7
    ///   hpc node remove --force ws7
    #[command(verbatim_doc_comment)]
    Remove {
        /// Nodes: ws1, ws[1-4]
        #[arg(value_name = "NODES")]
        nodes: String,
        /// Also one that answers or holds jobs
        #[arg(long)]
        force: bool,
    },
}

impl Verb for Node {
    fn run(self, target: &Target) -> Outcome {
        match self.act {
            Some(Act::Drain { nodes, reason }) => {
                each(target, &nodes, &NodeChange::Drain { reason })
            }
            Some(Act::Set { nodes, settings }) => set(target, &nodes, &settings),
            Some(Act::Resume { nodes }) => each(target, &nodes, &NodeChange::Resume),
            Some(Act::Remove {
                nodes,
                force: false,
            }) => each(target, &nodes, &NodeChange::Remove),
            Some(Act::Remove { nodes, force: true }) => each(target, &nodes, &NodeChange::Expel),
            None => show(target, &self.name.unwrap_or_default(), self.json),
        }
    }
}

fn each(target: &Target, nodes: &str, act: &NodeChange) -> Outcome {
    let names = hostlist::parse(nodes).map_err(|error| Failure::Usage(error.to_string()))?;
    if names.is_empty() {
        return Err(no_name(nodes));
    }
    if names.len() > 1 {
        // All or none: what is misspelled is told before anything has changed.
        let known = super::nodes::all(target)?;
        if let Some(none) = names
            .iter()
            .find(|name| known.iter().all(|node| node.name != **name))
        {
            return Err(no_node(none, &known));
        }
    }
    for name in names {
        change(
            target,
            "node",
            &Request::Node {
                name,
                change: act.clone(),
            },
        )?;
    }
    Ok(exit::DONE)
}

/// Says something of nodes, known or not yet.
fn set(target: &Target, nodes: &str, settings: &[String]) -> Outcome {
    let names = hostlist::parse(nodes).map_err(|error| Failure::Usage(error.to_string()))?;
    if names.is_empty() {
        return Err(no_name(nodes));
    }
    let known = super::nodes::all(target)?;
    for name in &names {
        if known.iter().all(|node| node.name != *name) {
            eprintln!("hpc node: there is no node {name} yet; it will have this when it joins");
        }
    }
    let settings: Vec<Setting> = settings
        .iter()
        .map(|text| rule::setting(text))
        .collect::<Outcome<_>>()?;
    for name in names {
        let change_of = RuleChange {
            noun: Noun::Node,
            act: Change::Set,
            name,
            settings: settings.clone(),
        };
        change(target, "node", &Request::ChangeRule(change_of))?;
    }
    Ok(exit::DONE)
}

fn no_name(text: &str) -> Failure {
    Failure::Usage(format!(
        "\"{text}\" names no node: write a name such as ws1; `hpc nodes` shows them"
    ))
}

fn no_node(name: &str, there: &[NodeView]) -> Failure {
    let known: Vec<&str> = there.iter().map(|node| node.name.as_str()).collect();
    let hint = format!("the nodes are {}", hostlist::fold(&known));
    Failure::refused(Code::UnknownNode, format!("there is no node {name}"), hint)
}

fn show(target: &Target, name: &str, as_json: bool) -> Outcome {
    if name.trim().is_empty() {
        return Err(no_name(name));
    }
    let nodes = super::nodes::all(target)?;
    let Some(node) = nodes.iter().find(|node| node.name == name) else {
        return Err(no_node(name, &nodes));
    };
    let links = super::nodes::links(target)?;
    let said = super::nodes::said(target)?;
    if as_json {
        json::object(&mut output::stdout(), &json::Node::new(node, &links, &said))?;
    } else {
        let link = links.iter().find(|link| link.node == name);
        output::text(&describe(node, link, &said))?;
    }
    Ok(exit::DONE)
}

/// A node in lines of `Word: value`.
pub(super) fn describe(node: &NodeView, link: Option<&LinkView>, said: &[RuleView]) -> String {
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
            "{} in {}, {} free",
            node.cpus,
            words::counted(node.numa_nodes, "NUMA node"),
            node.cpus_free
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
        line("GPU", gpu_line(gpu));
    }
    line("Features", super::nodes::features(node, said).join(","));
    let switch = super::nodes::setting(node, said, "switch");
    line("Switch", switch.unwrap_or_default().to_owned());
    let failures = super::nodes::setting(node, said, "failures");
    line("Failures", failures.map(lost_of_late).unwrap_or_default());
    line("Jobs", node.jobs.join(" "));
    line(
        "Worker",
        format!("version {}, as uid {}", node.version, node.uid),
    );
    line("Reached", link.map(reached).unwrap_or_default());
    for remark in &node.remarks {
        line("Note", remark.clone());
    }
    text
}

/// How often a node was lost of late, in words.
fn lost_of_late(failures: &str) -> String {
    format!("lost {failures} times of late, each half forgotten after a week")
}

/// How a node is reached, in words.
fn reached(link: &LinkView) -> String {
    let mut text = match (link.path.as_str(), &link.address) {
        ("", _) => return "not now".to_owned(),
        ("unix", _) => "by the socket of its own machine".to_owned(),
        (path, address) => format!("over {path}, at {}", address.as_deref().unwrap_or("?")),
    };
    if let Some(until) = link.certificate_until {
        text.push_str(&format!(
            ", certificate until {}",
            words::local(Some(until))
        ));
    }
    text
}

/// A GPU in words; those of a declared one that nobody measured are left out.
fn gpu_line(gpu: &GpuView) -> String {
    let mut text = format!("{} {}", gpu.index, gpu.kind);
    if gpu.memory_mib > 0 {
        text.push(' ');
        text.push_str(&words::memory(gpu.memory_mib));
    }
    text.push_str(if gpu.free { ", free" } else { ", in use" });
    if !gpu.uuid.is_empty() {
        text.push_str(", ");
        text.push_str(&gpu.uuid);
    }
    text
}
