//! `hpc nodes`: the machines of the cluster.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::output::table::{Table, elastic, left, right};
use super::output::{self, json, words};
use crate::model::rules::Noun;
use crate::wire::client::{Request, ToClient};
use crate::wire::view::{LinkView, NodeView, RuleView};
use clap::Args;

/// Show the nodes: what they have and what of it is free
///
/// Examples:
///   hpc nodes
///   hpc nodes --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Nodes {
    /// One JSON array of node objects
    #[arg(long)]
    json: bool,
}

impl Verb for Nodes {
    fn run(self, target: &Target) -> Outcome {
        let nodes = all(target)?;
        if self.json {
            let links = links(target)?;
            let said = said(target)?;
            let mut array = json::Array::new(output::stdout());
            nodes
                .iter()
                .try_for_each(|node| array.push(&json::Node::new(node, &links, &said)))?;
            array.end()?;
        } else {
            table(&nodes, &said(target)?).print()?;
        }
        Ok(exit::DONE)
    }
}

/// Every node.
pub(super) fn all(target: &Target) -> Outcome<Vec<NodeView>> {
    match target.ask(&Request::Nodes)? {
        ToClient::Nodes(nodes) => Ok(nodes),
        other => Err(unexpected(&other)),
    }
}

/// How every node is reached.
pub(super) fn links(target: &Target) -> Outcome<Vec<LinkView>> {
    match target.ask(&Request::Links) {
        Ok(ToClient::Links(links)) => Ok(links),
        Ok(other) => Err(unexpected(&other)),
        // A controller of the release before does not know the question.
        Err(Failure::Lost(_)) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// What is said of nodes.
pub(super) fn said(target: &Target) -> Outcome<Vec<RuleView>> {
    let noun = Noun::Node;
    match target.ask(&Request::Rules { noun: Some(noun) }) {
        Ok(ToClient::Rules(views)) => Ok(views),
        // A controller of the release before does not know the question.
        Ok(_) | Err(Failure::Lost(_)) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// What is said of a node under this key, if anything is.
pub(super) fn setting<'v>(node: &NodeView, said: &'v [RuleView], key: &str) -> Option<&'v str> {
    let view = said.iter().find(|view| view.name == node.name)?;
    let found = view.settings.iter().find(|(known, _)| known == key);
    let value = found.map(|(_, value)| value.as_str());
    value.filter(|value| *value != "none")
}

/// The features of a node: what is said, and the kinds of its GPUs.
pub(super) fn features<'v>(node: &'v NodeView, said: &'v [RuleView]) -> Vec<&'v str> {
    let list = setting(node, said, "features");
    let mut features: Vec<&str> = list.into_iter().flat_map(|list| list.split(',')).collect();
    for gpu in &node.gpus {
        if !features.contains(&gpu.kind.as_str()) {
            features.push(&gpu.kind);
        }
    }
    features
}

/// Why a node is as it is; of one that is well whether it fails now and then.
fn reason(node: &NodeView, said: &[RuleView]) -> String {
    if let Some(reason) = &node.reason {
        return reason.clone();
    }
    let failures = setting(node, said, "failures");
    failures.map_or_else(
        || "-".to_owned(),
        |count| format!("flaky: lost {count} times of late"),
    )
}

/// The table of `hpc nodes`; a star after the state marks a node that does not answer.
pub(super) fn table(nodes: &[NodeView], said: &[RuleView]) -> Table {
    let mut table = Table::new(&[
        elastic("NODE", 8),
        left("STATE"),
        right("CPUS FREE/ALL"),
        right("MEMORY FREE/ALL"),
        right("GPUS FREE/ALL"),
        right("JOBS"),
        elastic("REASON", 8),
    ]);
    for node in nodes {
        let gpus_free = node.gpus.iter().filter(|gpu| gpu.free).count();
        table
            .add(&node.name)
            .add(&format!(
                "{}{}",
                node.state,
                if node.responding { "" } else { "*" }
            ))
            .add(&format!("{}/{}", node.cpus_free, node.cpus))
            .add(&format!(
                "{}/{}",
                words::memory(node.memory_free_mib),
                words::memory(node.memory_mib)
            ))
            .add(&format!("{gpus_free}/{}", node.gpus.len()))
            .add(&node.jobs.len().to_string())
            .add(&reason(node, said));
    }
    table
}
