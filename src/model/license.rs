//! A pool of licences: as many jobs run with one as there are.

/// Licences of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct License {
    /// The name.
    pub name: String,
    /// How many there are.
    pub count: u32,
}

impl License {
    /// None yet.
    #[must_use]
    pub fn named(name: &str) -> Self {
        License {
            name: name.to_owned(),
            count: 0,
        }
    }
}

/// What is said of a node beside what it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRule {
    /// The node's name.
    pub name: String,
    /// Words that jobs may ask for with `--constraint`.
    pub features: Vec<String>,
    /// Where its cable goes: the path of a switch.
    pub switch: Option<String>,
}

impl NodeRule {
    /// One of which nothing is said.
    #[must_use]
    pub fn named(name: &str) -> Self {
        NodeRule {
            name: name.to_owned(),
            features: Vec::new(),
            switch: None,
        }
    }
}
