//! What a job waits for: `afterok:12:13_7,singleton`, all of it or any of it.
//!
//! Which terms hold at the moment is the controller's core's matter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::job_ref::{JobRef, JobRefError};
use super::text::{excerpt, number};

/// The longest dependency that is looked at, in bytes.
pub const MAX_TEXT_BYTES: usize = 512 << 10;
/// The most jobs one job may wait for.
pub const MAX_TERMS: usize = 10_000;

/// Why a text is not a dependency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// The word before the colon is none we know.
    #[error(
        "dependency type \"{kind}\" is unknown: use after, afterok, afternotok, afterany, aftercorr or singleton, as in afterok:12"
    )]
    UnknownKind {
        /// The offending word.
        kind: String,
    },
    /// A type of Slurm's that this cluster does not have.
    #[error(
        "dependency type \"{kind}\" is not supported: use after, afterok, afternotok, afterany, aftercorr or singleton"
    )]
    UnsupportedKind {
        /// The offending word.
        kind: String,
    },
    /// A type that needs job ids has none.
    #[error("dependency \"{term}\" names no job: add the id, as in afterok:12")]
    MissingJob {
        /// The offending term.
        term: String,
    },
    /// `singleton` with a job id.
    #[error(
        "dependency \"{term}\" names a job: write singleton alone, it means every job of the same name and user"
    )]
    SingletonWithJob {
        /// The offending term.
        term: String,
    },
    /// A job id that is none.
    #[error("dependency \"{term}\" does not name a job")]
    BadJob {
        /// The offending term.
        term: String,
        /// What is wrong with the id.
        #[source]
        source: JobRefError,
    },
    /// A delay that is not a number of minutes, or where none can be.
    #[error(
        "dependency \"{term}\" has a delay that does not fit: only after takes one, in minutes, as in after:12+30"
    )]
    BadDelay {
        /// The offending term.
        term: String,
    },
    /// Both ways of joining in one dependency.
    #[error(
        "dependency \"{text}\" mixes ',' and '?': join terms with ',' to need all or with '?' to need any"
    )]
    MixedSeparators {
        /// The offending text.
        text: String,
    },
    /// More than is looked at.
    #[error(
        "dependency of {bytes} bytes is longer than {MAX_TEXT_BYTES} or names more than {MAX_TERMS} jobs: name fewer"
    )]
    TooLong {
        /// The length that was given.
        bytes: usize,
    },
}

/// What has to have happened to the job that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DependencyKind {
    /// It has started or was cancelled.
    After,
    /// It ended with exit code 0.
    AfterOk,
    /// It ended in any other way.
    AfterNotOk,
    /// It ended.
    AfterAny,
    /// The task of the same index of that array ended with exit code 0.
    AfterCorr,
    /// Every earlier job of the same name and user ended.
    Singleton,
}

impl DependencyKind {
    const ALL: [Self; 6] = [
        Self::After,
        Self::AfterOk,
        Self::AfterNotOk,
        Self::AfterAny,
        Self::AfterCorr,
        Self::Singleton,
    ];

    /// The word users write for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::AfterOk => "afterok",
            Self::AfterNotOk => "afternotok",
            Self::AfterAny => "afterany",
            Self::AfterCorr => "aftercorr",
            Self::Singleton => "singleton",
        }
    }

    fn parse(word: &str) -> Result<Self, DependencyError> {
        if let Some(kind) = Self::ALL
            .into_iter()
            .find(|kind| kind.word().eq_ignore_ascii_case(word))
        {
            return Ok(kind);
        }
        let kind = excerpt(word);
        match word.to_ascii_lowercase().as_str() {
            "afterburstbuffer" | "expand" => Err(DependencyError::UnsupportedKind { kind }),
            _ => Err(DependencyError::UnknownKind { kind }),
        }
    }
}

/// One thing to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Term {
    /// What has to have happened.
    pub kind: DependencyKind,
    /// To which job; none for `Singleton` alone.
    pub job: Option<JobRef>,
    /// How many minutes ago it has to have happened; 0 but for `After`.
    pub delay_min: u32,
}

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind.word())?;
        if let Some(job) = self.job {
            write!(formatter, ":{job}")?;
        }
        if self.delay_min > 0 {
            write!(formatter, "+{}", self.delay_min)?;
        }
        Ok(())
    }
}

/// Everything a job waits for; it travels and is stored as its text, so that it has passed the parser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dependency {
    /// Whether one term is enough; otherwise all are needed.
    pub any: bool,
    /// One per job named, never empty.
    pub terms: Vec<Term>,
}

impl Dependency {
    /// Reads `type:id[:id...]` joined by `,` or by `?`.
    pub fn parse(text: &str) -> Result<Self, DependencyError> {
        let text = text.trim();
        let too_long = || DependencyError::TooLong { bytes: text.len() };
        if text.len() > MAX_TEXT_BYTES {
            return Err(too_long());
        }
        let any = text.contains('?');
        if any && text.contains(',') {
            return Err(DependencyError::MixedSeparators {
                text: excerpt(text),
            });
        }
        let mut terms = Vec::new();
        for group in text.split([',', '?']) {
            parse_group(group, &mut terms)?;
            if terms.len() > MAX_TERMS {
                return Err(too_long());
            }
        }
        Ok(Self { any, terms })
    }
}

/// Reads one type with its ids, and adds a term for each.
fn parse_group(group: &str, terms: &mut Vec<Term>) -> Result<(), DependencyError> {
    let (word, ids) = match group.split_once(':') {
        Some((word, ids)) => (word, Some(ids)),
        None => (group, None),
    };
    let kind = DependencyKind::parse(word)?;
    let term = || excerpt(group);
    match (kind, ids) {
        (DependencyKind::Singleton, None) => terms.push(Term {
            kind,
            job: None,
            delay_min: 0,
        }),
        (DependencyKind::Singleton, Some(_)) => {
            return Err(DependencyError::SingletonWithJob { term: term() });
        }
        (_, None | Some("")) => return Err(DependencyError::MissingJob { term: term() }),
        (_, Some(ids)) => {
            for id in ids.split(':') {
                terms.push(parse_term(kind, id).map_err(|fault| fault.with_term(term()))?);
            }
        }
    }
    Ok(())
}

/// What is wrong with one id, before the term itself is put into the error.
enum Fault {
    Job(JobRefError),
    Delay,
}

impl Fault {
    fn with_term(self, term: String) -> DependencyError {
        match self {
            Self::Job(source) => DependencyError::BadJob { term, source },
            Self::Delay => DependencyError::BadDelay { term },
        }
    }
}

fn parse_term(kind: DependencyKind, id: &str) -> Result<Term, Fault> {
    let (id, delay_min) = match id.split_once('+') {
        Some((id, delay)) if kind == DependencyKind::After => {
            (id, number(delay).ok_or(Fault::Delay)?)
        }
        Some(_) => return Err(Fault::Delay),
        None => (id, 0),
    };
    let job = JobRef::parse(id).map_err(Fault::Job)?;
    Ok(Term {
        kind,
        job: Some(job),
        delay_min,
    })
}

impl fmt::Display for Dependency {
    /// One type per job, joined as it was written: `afterok:12,afterok:13`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.any { "?" } else { "," };
        let terms: Vec<String> = self.terms.iter().map(Term::to_string).collect();
        formatter.write_str(&terms.join(separator))
    }
}

impl TryFrom<String> for Dependency {
    type Error = DependencyError;

    fn try_from(text: String) -> Result<Self, DependencyError> {
        Self::parse(&text)
    }
}

impl From<Dependency> for String {
    fn from(dependency: Dependency) -> Self {
        dependency.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_grammar() {
        let table = [
            ("afterok:12", "afterok:12"),
            ("afterok:12:13_7", "afterok:12,afterok:13_7"),
            ("afterok:1,afterany:2", "afterok:1,afterany:2"),
            (
                "afterok:1:2?AfterNotOk:3",
                "afterok:1?afterok:2?afternotok:3",
            ),
            ("after:5+30:6", "after:5+30,after:6"),
            ("after:5+0", "after:5"),
            ("aftercorr:9,singleton", "aftercorr:9,singleton"),
            (" singleton ", "singleton"),
        ];
        for (text, shown) in table {
            assert_eq!(
                Dependency::parse(text).unwrap().to_string(),
                shown,
                "{text}"
            );
        }
        assert!(Dependency::parse("afterok:1?afterok:2").unwrap().any);
        assert!(!Dependency::parse("afterok:1:2").unwrap().any);
    }

    #[test]
    fn says_what_is_wrong() {
        let table = [
            ("", "unknown"),
            ("12", "unknown"),
            ("afterok", "names no job"),
            ("afterok:", "names no job"),
            ("afterok:x", "does not name a job"),
            ("afterok:1:", "does not name a job"),
            ("afterok:1,", "unknown"),
            ("singleton:1", "write singleton alone"),
            ("afterok:1+5", "only after takes one"),
            ("after:1+", "only after takes one"),
            ("after:1+x", "only after takes one"),
            ("afterok:1,afterok:2?afterok:3", "mixes"),
            ("afterburstbuffer:1", "not supported"),
            ("expand:1", "not supported"),
        ];
        for (text, words) in table {
            let error = Dependency::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Dependency::parse(&format!("afterok{}", ":1".repeat(MAX_TERMS))).is_ok());
        assert!(Dependency::parse(&format!("afterok{}", ":1".repeat(MAX_TERMS + 1))).is_err());
    }

    #[test]
    fn the_longest_dependency_still_travels() {
        let ids = ":4294967295_4000000+4294967295".repeat(MAX_TERMS);
        let dependency = Dependency::parse(&format!("after{ids}")).unwrap();
        assert_eq!(Dependency::parse(&dependency.to_string()), Ok(dependency));
    }

    fn term() -> impl Strategy<Value = Term> {
        (
            0_usize..6,
            1_u32..,
            prop::option::of(0_u32..=4_000_000),
            any::<u32>(),
        )
            .prop_map(|(kind, job, index, delay)| {
                let kind = DependencyKind::ALL[kind];
                let job = (kind != DependencyKind::Singleton).then_some(JobRef { job, index });
                Term {
                    kind,
                    job,
                    delay_min: if kind == DependencyKind::After {
                        delay
                    } else {
                        0
                    },
                }
            })
    }

    proptest! {
        #[test]
        fn round_trips(terms in prop::collection::vec(term(), 1..6), any in any::<bool>()) {
            let dependency = Dependency { any: any && terms.len() > 1, terms };
            prop_assert_eq!(Dependency::parse(&dependency.to_string()), Ok(dependency.clone()));
            let stored = postcard::to_stdvec(&dependency).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Dependency>(&stored), Ok(dependency));
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "(after|afterok|singleton)?[0-9,?:+_]{0,20}") {
            let _ = Dependency::parse(&text);
            let _ = Dependency::parse(&hostile);
        }
    }
}
