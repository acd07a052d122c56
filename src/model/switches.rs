//! Where a node's cable goes, and how few switches a job asks for.
//!
//! A switch is named by its path from the top, `core/rack1`; that of a node is its lowest one. Nodes of which nothing is
//! said lie under one switch without a name.

use super::rules::{Noun, Rules};
use super::time::{format_duration, parse_time_limit};
use std::fmt;

/// Most names in a path.
const DEPTH_MAX: usize = 4;
/// How long a job waits for few switches where it does not say; seconds. As Slurm has it.
pub const WAIT_S: u32 = 300;

/// Reads a path; nothing or `none` is the switch without a name.
///
/// # Errors
/// What would be right.
pub fn parse_path(text: &str) -> Result<Option<String>, String> {
    if matches!(text, "" | "none") {
        return Ok(None);
    }
    let names: Vec<&str> = text.split('/').collect();
    let is_name = |name: &&str| Rules::check_name(Noun::Node, name).is_ok();
    if names.len() > DEPTH_MAX || !names.iter().all(is_name) {
        return Err(format!(
            "write 1 to {DEPTH_MAX} names from the top, such as rack1 or core/rack1, each of 1 to 64 letters, digits, \
             '-', '_', '.' and '@'"
        ));
    }
    Ok(Some(text.to_owned()))
}

/// At most so many lowest switches, and for how long to wait for that: then any will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchWish {
    /// How many.
    pub most: u32,
    /// So long from when the job may start; seconds.
    pub wait_s: u32,
}

impl SwitchWish {
    /// Reads `--switches`: `1`, `2@30`, `1@2:00:00`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (most, wait) = match text.split_once('@') {
            Some((most, wait)) => (most, Some(wait)),
            None => (text, None),
        };
        let most = match most.parse::<u32>() {
            Ok(most @ 1..) => most,
            _ => {
                let shown = super::text::excerpt(text);
                return Err(format!("`{shown}`: write N or N@TIME, N from 1"));
            }
        };
        let wait_s = match wait {
            None => WAIT_S,
            // For a limit 0 means that there is none.
            Some("0") => 0,
            Some(wait) => match parse_time_limit(wait) {
                Ok(Some(wait_s)) => wait_s,
                Ok(None) => {
                    return Err("no job waits for ever: write a time, such as 1@2:00:00".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            },
        };
        Ok(SwitchWish { most, wait_s })
    }

    /// How long it waits; milliseconds.
    #[must_use]
    pub fn wait_ms(self) -> i64 {
        i64::from(self.wait_s) * 1000
    }

    /// So many, in words.
    #[must_use]
    pub fn counted(self) -> String {
        match self.most {
            1 => "1 switch".to_owned(),
            most => format!("{most} switches"),
        }
    }
}

impl fmt::Display for SwitchWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wait_s {
            0 => write!(f, "{}@0", self.most),
            wait_s => write!(f, "{}@{}", self.most, format_duration(u64::from(wait_s))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_are_short_lists_of_names() {
        for (text, path) in [
            ("rack1", Some("rack1")),
            ("a/b/c/d", Some("a/b/c/d")),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(parse_path(text).unwrap().as_deref(), path);
        }
        for text in ["/", "a/", "/a", "a//b", "a b", "a/b/c/d/e", "-a", "a/none"] {
            let error = parse_path(text).unwrap_err();
            assert!(error.contains("1 to 4 names"), "{text}: {error}");
        }
    }

    #[test]
    fn a_wish_says_how_many_and_for_how_long() {
        for (text, most, wait_s) in [
            ("1", 1, 300),
            ("2@30", 2, 1800),
            ("3@1:30:00", 3, 5400),
            ("1@0", 1, 0),
        ] {
            let wish = SwitchWish { most, wait_s };
            assert_eq!(SwitchWish::parse(text).unwrap(), wish, "{text}");
        }
        for (text, said) in [
            ("0", "N from 1"),
            ("", "N from 1"),
            ("-1", "N from 1"),
            ("two", "N from 1"),
            ("1@UNLIMITED", "for ever"),
            ("1@soon", "soon"),
        ] {
            let error = SwitchWish::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_it_is_written(most in 1u32.., wait_s in any::<u32>()) {
            let wish = SwitchWish { most, wait_s };
            prop_assert_eq!(SwitchWish::parse(&wish.to_string()), Ok(wish));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (SwitchWish::parse(&text), parse_path(&text));
        }
    }
}
