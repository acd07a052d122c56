//! How people name jobs: `12`, one array task `12_7`, some of an array `12_[1-3,7]`, and lists of these.
//!
//! Whether such a job exists, and what its own id is, the controller knows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::array::{ArrayError, ArraySpec, MAX_INDEX};
use super::text::{excerpt, number, split_outside_brackets};

/// The longest list of jobs that is looked at, in bytes.
pub const MAX_LIST_BYTES: usize = 1 << 20;
/// The most jobs one list may name.
pub const MAX_SELECTORS: usize = 65_536;
/// The most array indices that all brackets of one list may name together.
pub const MAX_LIST_INDICES: u32 = 8_000_000;

/// Why a text does not name a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobRefError {
    /// Neither a job id nor the id of an array task.
    #[error(
        "\"{text}\" is not a job id: write a number above 0, such as 12, or an array task, such as 12_7"
    )]
    NotAJob {
        /// The offending text.
        text: String,
    },
    /// A task index above what any array has.
    #[error("array task \"{text}\" has an index above {MAX_INDEX}: use an index the array has")]
    IndexTooLarge {
        /// The offending text.
        text: String,
    },
    /// The brackets behind a job id do not hold array indices.
    #[error("\"{text}\" does not name array tasks: write 12_[1-3,7]")]
    BadIndices {
        /// The offending text.
        text: String,
        /// What is wrong inside the brackets.
        #[source]
        source: ArrayError,
    },
    /// A throttle where only indices make sense.
    #[error("\"{text}\" has a throttle: name the tasks alone, as in 12_[1-3,7]")]
    Throttle {
        /// The offending text.
        text: String,
    },
    /// The list is too long to look at.
    #[error(
        "list of jobs of {bytes} bytes names more than {MAX_SELECTORS} jobs or {MAX_LIST_BYTES} bytes: split it"
    )]
    ListTooLong {
        /// The length that was given.
        bytes: usize,
    },
}

/// One job, or one task of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The job's id; for an array the id of the whole.
    pub job: u32,
    /// The task's index within the array.
    pub index: Option<u32>,
}

impl JobRef {
    /// Reads `N` or `N_i`.
    pub fn parse(text: &str) -> Result<Self, JobRefError> {
        let not_a_job = || JobRefError::NotAJob {
            text: excerpt(text),
        };
        let (job, index) = match text.split_once('_') {
            Some((job, index)) => (job, Some(number::<u32>(index).ok_or_else(not_a_job)?)),
            None => (text, None),
        };
        let job = number(job).filter(|&job| job > 0).ok_or_else(not_a_job)?;
        if index.is_some_and(|index| index > MAX_INDEX) {
            return Err(JobRefError::IndexTooLarge {
                text: excerpt(text),
            });
        }
        Ok(Self { job, index })
    }
}

impl fmt::Display for JobRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(formatter, "{}_{index}", self.job),
            None => write!(formatter, "{}", self.job),
        }
    }
}

/// One job, or some tasks of an array, as an operand of a command names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSelector {
    /// The job's id; for an array the id of the whole.
    pub job: u32,
    /// The tasks that are meant; none means the whole job. It never has a throttle.
    pub indices: Option<ArraySpec>,
}

impl JobSelector {
    fn parse_within(text: &str, budget: &mut u32) -> Result<Self, JobRefError> {
        let (job, indices) = match text.split_once('_') {
            Some((job, indices)) => (job, Some(indices)),
            None => (text, None),
        };
        let job = JobRef::parse(job)
            .map_err(|_| JobRefError::NotAJob {
                text: excerpt(text),
            })?
            .job;
        let Some(indices) = indices else {
            return Ok(Self { job, indices: None });
        };
        let list = match indices
            .strip_prefix('[')
            .and_then(|indices| indices.strip_suffix(']'))
        {
            Some(list) => list,
            None => {
                JobRef::parse(text)?;
                indices
            }
        };
        let indices = ArraySpec::parse_within(list, MAX_INDEX, budget).map_err(|source| {
            JobRefError::BadIndices {
                text: excerpt(text),
                source,
            }
        })?;
        if indices.throttle.is_some() {
            return Err(JobRefError::Throttle {
                text: excerpt(text),
            });
        }
        Ok(Self {
            job,
            indices: Some(indices),
        })
    }
}

impl fmt::Display for JobSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.indices {
            None => write!(formatter, "{}", self.job),
            Some(indices) if indices.count() == 1 => write!(formatter, "{}_{indices}", self.job),
            Some(indices) => write!(formatter, "{}_[{indices}]", self.job),
        }
    }
}

/// Reads a comma list of `N`, `N_i` and `N_[list]`; it names at least one job.
pub fn parse_list(text: &str) -> Result<Vec<JobSelector>, JobRefError> {
    let too_long = || JobRefError::ListTooLong { bytes: text.len() };
    if text.len() > MAX_LIST_BYTES {
        return Err(too_long());
    }
    let mut budget = MAX_LIST_INDICES;
    let mut selectors = Vec::new();
    for part in split_outside_brackets(text.trim()) {
        if selectors.len() == MAX_SELECTORS {
            return Err(too_long());
        }
        selectors.push(JobSelector::parse_within(part.trim(), &mut budget)?);
    }
    Ok(selectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_one_job() {
        assert_eq!(
            JobRef::parse("12"),
            Ok(JobRef {
                job: 12,
                index: None
            })
        );
        assert_eq!(
            JobRef::parse("12_0"),
            Ok(JobRef {
                job: 12,
                index: Some(0)
            })
        );
        for text in [
            "",
            "0",
            "-1",
            "a",
            "12_",
            "_1",
            "12_x",
            "12.0",
            "1_2_3",
            "12_[1]",
            " 12",
            "4294967296",
            "12_4000001",
        ] {
            assert!(JobRef::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_lists() {
        let table = [
            ("12", "12"),
            ("12,13_7", "12,13_7"),
            ("12_[1-3,7],13", "12_[1-3,7],13"),
            ("12_[7]", "12_7"),
            ("12, 13\n", "12,13"),
            ("1_[0-8:2]", "1_[0-8:2]"),
        ];
        for (text, shown) in table {
            let selectors: Vec<String> = parse_list(text)
                .unwrap()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(selectors.join(","), shown, "{text}");
        }
        for text in [
            "", ",", "12,", "12_[", "12_[]", "12_[1", "12_1-3", "12_[1%2]", "12_7%2", "0_[1]",
            "12_[a]", "12]", "a_[1]", "12.1",
        ] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn long_lists_cost_a_bounded_amount() {
        assert!(matches!(
            parse_list(&"1,".repeat(MAX_LIST_BYTES)),
            Err(JobRefError::ListTooLong { .. })
        ));
        assert!(matches!(
            parse_list(&("1,".repeat(MAX_SELECTORS) + "1")),
            Err(JobRefError::ListTooLong { .. })
        ));
        let heavy = vec!["1_[0-4000000:3,1-4000000:3]"; 1000].join(",");
        assert!(matches!(
            parse_list(&heavy),
            Err(JobRefError::BadIndices { .. })
        ));
    }

    proptest! {
        #[test]
        fn round_trips(job in 1_u32.., index in prop::option::of(0..=MAX_INDEX)) {
            let job = JobRef { job, index };
            prop_assert_eq!(JobRef::parse(&job.to_string()), Ok(job));
            let selectors = parse_list(&job.to_string()).unwrap();
            prop_assert_eq!(selectors[0].to_string(), job.to_string());
            prop_assert_eq!(selectors[0].indices.as_ref().map(ArraySpec::min), index);
        }

        #[test]
        fn never_panics(text in any::<String>(), hostile in "[0-9,_\\[\\]%:-]{0,30}") {
            for text in [text, hostile] {
                let _ = JobRef::parse(&text);
                let _ = parse_list(&text);
            }
        }
    }
}
