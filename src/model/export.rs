//! The `--export` option: which of the submitter's environment a job sees, and what is set besides.
//!
//! The variables of a surrounding job never pass (`is_job_variable`); the job's own are the launcher's to set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::mpirun;
use super::text::excerpt;

/// The longest option that is looked at, in bytes: as much as one argument of a Linux program.
pub const MAX_TEXT_BYTES: usize = 128 << 10;
/// The most names and assignments one option may have.
pub const MAX_ITEMS: usize = 10_000;

/// What a usable shell needs, passed where the submitter has it even if little else is.
const LOGIN_VARIABLES: [&str; 10] = [
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "TERM", "TZ", "MAIL",
];

/// What follows `SLURM_` or `HPC_` in variables that describe a job; a `*` stands for any rest.
const JOB_STEMS: [&str; 47] = [
    "CREDENTIAL",
    "JOB*",
    "STEP*",
    "ARRAY_*",
    "TASK*",
    "HET_*",
    "NODEID",
    "NODELIST",
    "NODE_ALIASES",
    "NNODES",
    "NPROCS",
    "NTASKS*",
    "PROCID",
    "LOCALID",
    "GTIDS",
    "CPUS_*",
    "CPU_*",
    "MEM_*",
    "GPU*",
    "TRES_*",
    "THREADS_PER_CORE",
    "RESTART_COUNT",
    "SUBMIT_*",
    "LAUNCH_*",
    "SRUN_*",
    "TOPOLOGY_*",
    "DISTRIBUTION",
    "DIST_*",
    "UMASK",
    "PRIO_PROCESS",
    "EXPORT_ENV",
    "CLUSTER_NAME",
    "WORKING_CLUSTER",
    "SCRIPT_CONTEXT",
    "MPI_TYPE",
    "OVERCOMMIT",
    "OVERSUBSCRIBE",
    "HINT",
    "CONSTRAINT",
    "CORE_SPEC",
    "RESERVATION",
    "NETWORK",
    "PROFILE",
    "SHARDS_*",
    "LOCAL_*",
    "PACK_*",
    "GET_USER_ENV",
];

/// Why a text is not an export option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Nothing at all, or nothing between two commas.
    #[error(
        "export list \"{text}\" has an empty entry: write ALL, NONE, NIL or names and NAME=value joined by commas"
    )]
    EmptyItem {
        /// The beginning of the offending text.
        text: String,
    },
    /// A word that stands alone is joined with others.
    #[error(
        "export word {word} is joined with others: write it alone, or ALL,NAME=value to add to everything"
    )]
    NotAlone {
        /// The offending word.
        word: &'static str,
    },
    /// No name a variable can have.
    #[error(
        "\"{name}\" is not the name of a variable: leave out blanks, quotes, commas and control characters"
    )]
    BadName {
        /// The offending name.
        name: String,
    },
    /// A quote that does not close, or closes before the entry ends.
    #[error(
        "export entry \"{item}\" has a quote that does not close at its end: quote the whole value, as in A='x,y'"
    )]
    UnmatchedQuote {
        /// The beginning of the offending entry.
        item: String,
    },
    /// A zero byte, which no environment can hold.
    #[error("export list \"{text}\" holds a zero byte: leave it out")]
    ZeroByte {
        /// The beginning of the offending text.
        text: String,
    },
    /// More than is looked at.
    #[error(
        "export list of {bytes} bytes is longer than {MAX_TEXT_BYTES} or has more than {MAX_ITEMS} entries: shorten it"
    )]
    TooLong {
        /// The length that was given.
        bytes: usize,
    },
}

/// Which of the submitter's environment a job sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportSpec {
    /// All of it.
    #[default]
    All,
    /// A usable login environment and no more.
    None,
    /// Nothing.
    Nil,
    /// Named variables and new values, on top of all of it or of a usable login environment.
    List {
        /// Whether everything else passes too.
        all: bool,
        /// Variables that pass as they are.
        names: Vec<String>,
        /// Variables that are set; of a name set twice the last value counts.
        assignments: Vec<(String, String)>,
    },
}

impl ExportSpec {
    /// Reads `ALL`, `NONE`, `NIL` or a comma list of names and `NAME=value`, which `ALL` may open.
    ///
    /// A value that begins with a quote runs to the same quote, so that it may hold commas; the quote is
    /// written twice to be part of it. Quotes elsewhere in a value are plain characters.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(ExportError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(ExportError::ZeroByte {
                text: excerpt(text),
            });
        }
        let items = split_items(text)?;
        if let [Item::Name(word)] = items.as_slice() {
            match word.to_ascii_uppercase().as_str() {
                "ALL" => return Ok(Self::All),
                "NONE" => return Ok(Self::None),
                "NIL" => return Ok(Self::Nil),
                _ => {}
            }
        }
        Self::collect(items)
    }

    fn collect(items: Vec<Item>) -> Result<Self, ExportError> {
        let mut all = false;
        let mut names: Vec<String> = Vec::new();
        let mut known = BTreeSet::new();
        let mut assignments: Vec<(String, String)> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for item in items {
            match item {
                Item::Name(word) => match word.to_ascii_uppercase().as_str() {
                    "ALL" => all = true,
                    "NONE" => return Err(ExportError::NotAlone { word: "NONE" }),
                    "NIL" => return Err(ExportError::NotAlone { word: "NIL" }),
                    _ if known.insert(word.clone()) => names.push(word),
                    _ => {}
                },
                Item::Assignment(name, value) => match places.get(&name) {
                    Some(&place) => assignments[place].1 = value,
                    None => {
                        places.insert(name.clone(), assignments.len());
                        assignments.push((name, value));
                    }
                },
            }
        }
        if all && names.is_empty() && assignments.is_empty() {
            return Ok(Self::All);
        }
        Ok(Self::List {
            all,
            names,
            assignments,
        })
    }

    /// The environment a job starts from, out of the one it was submitted in.
    pub fn apply(&self, environment: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (all, names, assignments): (bool, &[String], &[(String, String)]) = match self {
            Self::Nil => return Vec::new(),
            Self::All => (true, &[], &[]),
            Self::None => (false, &[], &[]),
            Self::List {
                all,
                names,
                assignments,
            } => (*all, names, assignments),
        };
        let login = LOGIN_VARIABLES.iter().map(|name| name.as_bytes());
        let passing: BTreeSet<&[u8]> = login.chain(names.iter().map(String::as_bytes)).collect();
        let replaced: BTreeSet<&[u8]> = assignments
            .iter()
            .map(|(name, _)| name.as_bytes())
            .collect();
        let mut kept = environment;
        kept.retain(|(name, _)| {
            let wanted = all || passing.contains(name.as_slice());
            wanted && !is_job_variable(name) && !replaced.contains(name.as_slice())
        });
        kept.extend(
            assignments
                .iter()
                .map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())),
        );
        kept
    }
}

/// Whether a variable describes the job, step or rank it was seen in, and so must not reach another job.
///
/// Variables that steer the client, such as `SLURM_CONF`, `SLURM_TIME_FORMAT` or `HPC_SOCKET`, are none.
pub fn is_job_variable(name: &[u8]) -> bool {
    if name.starts_with(b"SLURMD_") || name.starts_with(b"PMIX_SERVER_") {
        return true;
    }
    // Those of the rank that submits would mislead an MPI program in the new job.
    if mpirun::tells_a_rank(name) {
        return true;
    }
    let Some(stem) = name
        .strip_prefix(b"SLURM_")
        .or_else(|| name.strip_prefix(b"HPC_"))
    else {
        return false;
    };
    JOB_STEMS.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => stem.starts_with(beginning.as_bytes()),
        None => stem == known.as_bytes(),
    })
}

/// One entry of a list.
enum Item {
    Name(String),
    Assignment(String, String),
}

/// Splits a list at the commas that no quote covers.
fn split_items(text: &str) -> Result<Vec<Item>, ExportError> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        if items.len() == MAX_ITEMS {
            return Err(ExportError::TooLong { bytes: text.len() });
        }
        rest = rest.trim_start();
        let (item, behind) = split_item(rest).ok_or_else(|| ExportError::UnmatchedQuote {
            item: excerpt(rest),
        })?;
        items.push(parse_item(item).ok_or_else(|| ExportError::EmptyItem {
            text: excerpt(text),
        })?);
        if let Some(Item::Name(name) | Item::Assignment(name, _)) = items.last() {
            check_name(name)?;
        }
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(items),
        }
    }
}

/// An entry's name and, behind its equals sign, its value, both with their quotes removed.
type RawItem = (String, Option<String>);

/// Takes one entry off the front; the second part is what follows its comma. None if a quote does not close.
fn split_item(text: &str) -> Option<(RawItem, Option<&str>)> {
    if text.starts_with(['\'', '"']) {
        let (whole, behind) = take_quoted(text)?;
        let item = match whole.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (whole, None),
        };
        return Some((item, after_comma(behind)?));
    }
    let name_end = text.find([',', '=']).unwrap_or(text.len());
    let name = text[..name_end].trim_end().to_string();
    let Some(value) = text[name_end..].strip_prefix('=') else {
        return Some(((name, None), after_comma(&text[name_end..])?));
    };
    if value.starts_with(['\'', '"']) {
        let (value, behind) = take_quoted(value)?;
        return Some(((name, Some(value)), after_comma(behind)?));
    }
    let value_end = value.find(',').unwrap_or(value.len());
    Some((
        (name, Some(value[..value_end].to_string())),
        after_comma(&value[value_end..])?,
    ))
}

/// What follows the comma that has to come next, if the text goes on at all.
fn after_comma(text: &str) -> Option<Option<&str>> {
    if text.trim_end().is_empty() {
        Some(None)
    } else {
        text.strip_prefix(',').map(Some)
    }
}

/// Takes a quoted text off the front and returns it without its quotes, and what follows it.
fn take_quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next()?;
    let mut content = String::new();
    let mut rest = &text[1..];
    loop {
        let end = rest.find(quote)?;
        content.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(quote) {
            Some(behind) => {
                content.push(quote);
                rest = behind;
            }
            None => return Some((content, rest)),
        }
    }
}

/// None where the entry is empty.
fn parse_item((name, value): RawItem) -> Option<Item> {
    match value {
        Some(value) => Some(Item::Assignment(name, value)),
        None if name.is_empty() => None,
        None => Some(Item::Name(name)),
    }
}

fn check_name(name: &str) -> Result<(), ExportError> {
    let forbidden = |character: char| {
        character.is_control() || character.is_whitespace() || "'\",=".contains(character)
    };
    if name.is_empty() || name.contains(forbidden) {
        return Err(ExportError::BadName {
            name: excerpt(name),
        });
    }
    Ok(())
}

impl fmt::Display for ExportSpec {
    /// What `parse` reads back, as it is put into `SLURM_EXPORT_ENV`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => formatter.write_str("ALL"),
            Self::None => formatter.write_str("NONE"),
            Self::Nil => formatter.write_str("NIL"),
            Self::List {
                all,
                names,
                assignments,
            } => {
                let mut items: Vec<String> = Vec::new();
                items.extend(all.then(|| "ALL".to_string()));
                items.extend(names.iter().cloned());
                items.extend(
                    assignments
                        .iter()
                        .map(|(name, value)| format!("{name}={}", quote(value))),
                );
                formatter.write_str(&items.join(","))
            }
        }
    }
}

/// Quotes a value where it would not be read back as it is.
fn quote(value: &str) -> String {
    let plain = !value.contains(',') && !value.starts_with(['\'', '"']);
    if plain {
        value.to_string()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(all: bool, names: &[&str], assignments: &[(&str, &str)]) -> ExportSpec {
        ExportSpec::List {
            all,
            names: names.iter().map(ToString::to_string).collect(),
            assignments: assignments
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        }
    }

    #[test]
    fn reads_the_option() {
        let table = [
            ("ALL", ExportSpec::All),
            ("all", ExportSpec::All),
            ("NONE", ExportSpec::None),
            ("NIL", ExportSpec::Nil),
            ("A", list(false, &["A"], &[])),
            ("A,B=val", list(false, &["A"], &[("B", "val")])),
            ("ALL,A=b", list(true, &[], &[("A", "b")])),
            ("ALL, A=b c, D", list(true, &["D"], &[("A", "b c")])),
            (
                "A='x,y',B=\"p,q\"",
                list(false, &[], &[("A", "x,y"), ("B", "p,q")]),
            ),
            ("'A=x,y',B", list(false, &["B"], &[("A", "x,y")])),
            ("A='it''s, so'", list(false, &[], &[("A", "it's, so")])),
            (
                "A=it's,B={\"k\":1}",
                list(false, &[], &[("A", "it's"), ("B", "{\"k\":1}")]),
            ),
            ("A=,B=''", list(false, &[], &[("A", ""), ("B", "")])),
            ("A=x=y", list(false, &[], &[("A", "x=y")])),
            ("A=1,A=2", list(false, &[], &[("A", "2")])),
            ("A,A", list(false, &["A"], &[])),
            (
                "BASH_FUNC_module%%",
                list(false, &["BASH_FUNC_module%%"], &[]),
            ),
        ];
        for (text, spec) in table {
            assert_eq!(ExportSpec::parse(text), Ok(spec), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let table = [
            ("", "empty entry"),
            ("A,", "empty entry"),
            (",A", "empty entry"),
            ("NONE,A", "NONE is joined"),
            ("A,NIL", "NIL is joined"),
            ("=x", "not the name"),
            ("A B", "not the name"),
            ("'A,B'", "not the name"),
            ("A='x", "quote"),
            ("A='x'y", "quote"),
            ("A=a\0b", "zero byte"),
        ];
        for (text, words) in table {
            let error = ExportSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(ExportSpec::parse(&"A,".repeat(MAX_TEXT_BYTES)).is_err());
        assert!(ExportSpec::parse(&("A,".repeat(MAX_ITEMS) + "A")).is_err());
    }

    fn applied(text: &str) -> String {
        let submitted = [
            "PATH=/bin",
            "A=1",
            "FOO=2",
            "SLURM_JOB_ID=7",
            "HPC_SOCKET=s",
            "BASH_FUNC_m%%=() {\n}",
            "\u{e9}=x",
        ];
        let environment = submitted.iter().filter_map(|pair| pair.split_once('='));
        let environment = environment
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let kept = ExportSpec::parse(text).unwrap().apply(environment);
        let names = kept.iter().map(|(name, value)| match value.as_slice() {
            b"changed" => format!("{}!", String::from_utf8_lossy(name)),
            _ => String::from_utf8_lossy(name).into_owned(),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn selects_and_sets() {
        let table = [
            ("ALL", "PATH A FOO HPC_SOCKET BASH_FUNC_m%% é"),
            ("NONE", "PATH"),
            ("NIL", ""),
            ("FOO,MISSING", "PATH FOO"),
            ("BASH_FUNC_m%%,NEW=changed", "PATH BASH_FUNC_m%% NEW!"),
            (
                "ALL,A=changed,PATH=changed",
                "FOO HPC_SOCKET BASH_FUNC_m%% é A! PATH!",
            ),
            ("SLURM_JOB_ID", "PATH"),
        ];
        for (text, names) in table {
            assert_eq!(applied(text), names, "{text}");
        }
    }

    #[test]
    fn knows_the_variables_of_a_job() {
        for name in [
            "SLURM_JOB_ID",
            "SLURM_JOBID",
            "SLURM_STEPID",
            "SLURM_ARRAY_TASK_ID",
            "HPC_JOB_ID",
            "HPC_CREDENTIAL",
            "SLURM_PROCID",
            "SLURM_TASKS_PER_NODE",
            "SLURM_NTASKS",
            "SLURMD_NODENAME",
            "PMI_RANK",
            "PMIX_SERVER_URI41",
            "HPC_NODELIST",
        ] {
            assert!(is_job_variable(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "PATH",
            "SLURM_CONF",
            "SLURM_TIME_FORMAT",
            "HPC_SOCKET",
            "HPC_CONTROLLER",
            "HPC_STATE_DIR",
            "SBATCH_PARTITION",
            "PMIX_MCA_gds",
            "MY_SLURM_JOB_ID",
            "SLURM_NODEIDX",
        ] {
            assert!(!is_job_variable(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(all: bool, names in prop::collection::btree_set("[B-Z_]{1,4}", 0..4),
            assignments in prop::collection::btree_map("[B-Z_%]{1,4}", "[^\\x00]{0,8}|[a,'\" =]{0,6}", 1..4)) {
            prop_assume!(names.iter().all(|name| !["NIL", "NONE"].contains(&name.as_str())));
            let spec = ExportSpec::List { all, names: names.into_iter().collect(), assignments: assignments.into_iter().collect() };
            prop_assert_eq!(ExportSpec::parse(&spec.to_string()), Ok(spec));
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[A=,'\" é]{0,30}", name in any::<Vec<u8>>()) {
            for text in [text, hostile] {
                if let Ok(spec) = ExportSpec::parse(&text) {
                    spec.apply(vec![(name.clone(), text.into_bytes())]);
                }
            }
        }
    }
}
