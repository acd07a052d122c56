//! How the places of a copy are written: `PATH` here, `NODES:PATH` there.

use crate::cli::exit::{Failure, Outcome};
use crate::model::hostlist;
use std::path::PathBuf;

/// Which nodes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Nodes {
    /// By name.
    Named(Vec<String>),
    /// Those of a job; of the one around us when it is not named.
    OfJob(Option<String>),
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Here.
    Here(PathBuf),
    /// On nodes.
    There(Nodes, String),
}

impl Place {
    /// Reads one, as scp does: what stands before the first colon is a node if it has no slash.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let wrong = |why: String| Failure::Usage(format!("\"{text}\": {why}"));
        let Some((nodes, path)) = text
            .split_once(':')
            .filter(|(nodes, _)| !nodes.contains('/'))
        else {
            if text.is_empty() {
                return Err(wrong("a place has a path".into()));
            }
            return Ok(Place::Here(text.into()));
        };
        if nodes.is_empty() {
            let why = "write NODE:PATH, and ./ before a file here whose name begins with a colon";
            return Err(wrong(why.into()));
        }
        let nodes = match nodes.strip_prefix('@') {
            Some("") => Nodes::OfJob(None),
            Some(job) => Nodes::OfJob(Some(job.to_owned())),
            None => Nodes::Named(hostlist::parse(nodes).map_err(|error| wrong(error.to_string()))?),
        };
        Ok(Place::There(nodes, path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str], path: &str) -> Place {
        let names = names.iter().map(ToString::to_string).collect();
        Place::There(Nodes::Named(names), path.to_owned())
    }

    #[test]
    fn places_are_told_apart_as_scp_does() {
        let parse = |text: &str| Place::parse(text).unwrap();
        assert_eq!(parse("n1:/tmp/x"), named(&["n1"], "/tmp/x"));
        assert_eq!(parse("n[1-2]:"), named(&["n1", "n2"], ""));
        assert_eq!(parse("a:b:c"), named(&["a"], "b:c"));
        assert_eq!(parse("@:x"), Place::There(Nodes::OfJob(None), "x".into()));
        assert_eq!(
            parse("@12_3:x"),
            Place::There(Nodes::OfJob(Some("12_3".into())), "x".into())
        );
        for here in ["x", "./a:b", "/tmp/a:b", "."] {
            assert_eq!(parse(here), Place::Here(here.into()));
        }
        for wrong in ["", ":x", "n[1-:x"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
