//! Which rank runs which program: the file of `--multi-prog`, a line for each program.
//!
//! ```text
//! # ranks   program and arguments
//! 0         ./master --of 4
//! 1-2,5     ./worker %t %o
//! *         sh -c 'echo the rest'
//! ```
//!
//! `%t` stands for the rank, `%o` for its place among the ranks of its line; `*` for all that no line names. Reading the
//! file and finding programs is for others.

use super::bounded;
use super::index_set::IndexSet;
use super::text::excerpt;
use serde::{Deserialize, Serialize};

/// Most bytes of such a file.
pub const PROGRAMS_BYTES_MAX: usize = 128 * 1024;
/// Highest rank that a line may name.
const RANK_MAX: u32 = 1_000_000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RankProgram {
    /// Its ranks; `None` = all that no other line names.
    ranks: Option<IndexSet>,
    /// Argument vector.
    #[serde(deserialize_with = "bounded::few")]
    arguments: Vec<String>,
}

/// The programs of a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Programs {
    #[serde(deserialize_with = "bounded::few")]
    lines: Vec<RankProgram>,
}

impl Programs {
    /// Reads a file.
    ///
    /// # Errors
    /// One sentence that names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > PROGRAMS_BYTES_MAX {
            return Err(format!(
                "it has {} bytes, the most is {PROGRAMS_BYTES_MAX}",
                text.len()
            ));
        }
        let mut programs = Programs::default();
        let mut named = IndexSet::new();
        for (number, line) in joined(text) {
            let at = |what: String| format!("line {number}: {what}");
            let words = words(&line).map_err(at)?;
            let Some((ranks, arguments)) = words.split_first() else {
                continue;
            };
            if arguments.is_empty() {
                return Err(at(format!("no program is named for ranks {ranks}")));
            }
            if arguments.len() > bounded::FEW_ITEMS_MAX {
                return Err(at(format!("more than {} words", bounded::FEW_ITEMS_MAX)));
            }
            if programs.lines.len() == bounded::FEW_ITEMS_MAX {
                return Err(at(format!("more than {} programs", bounded::FEW_ITEMS_MAX)));
            }
            let rest = programs.lines.iter().any(|line| line.ranks.is_none());
            let ranks = read_ranks(ranks).map_err(at)?;
            match &ranks {
                None if rest => return Err(at("`*` stands in two lines".to_owned())),
                None => {}
                Some(ranks) => {
                    let mut both = ranks.clone();
                    both.intersect(&named);
                    if let Some(rank) = both.first() {
                        return Err(at(format!("rank {rank} has a program already")));
                    }
                    named.union_with(ranks);
                }
            }
            let arguments = arguments.to_vec();
            programs.lines.push(RankProgram { ranks, arguments });
        }
        if programs.lines.is_empty() {
            return Err("it names no program".to_owned());
        }
        Ok(programs)
    }

    /// Whether each of so many ranks has a program, and no other rank has.
    ///
    /// # Errors
    /// One sentence that names a rank.
    pub fn check(&self, ntasks: u32) -> Result<(), String> {
        let named = self.named();
        if let Some(last) = named.last().filter(|last| *last >= ntasks) {
            return Err(format!(
                "a program is named for rank {last}, the step has ranks 0-{}",
                ntasks.saturating_sub(1)
            ));
        }
        let mut missing = IndexSet::from_range(0, ntasks);
        missing.subtract(&named);
        match missing.first() {
            Some(rank) if self.lines.iter().all(|line| line.ranks.is_some()) => {
                Err(format!("no program is named for rank {rank}"))
            }
            _ => Ok(()),
        }
    }

    fn named(&self) -> IndexSet {
        let mut named = IndexSet::new();
        for ranks in self.lines.iter().filter_map(|line| line.ranks.as_ref()) {
            named.union_with(ranks);
        }
        named
    }

    /// The number of the program that a rank runs: its line.
    #[must_use]
    pub fn number_of(&self, rank: u32) -> Option<u32> {
        let names = |line: &RankProgram| {
            line.ranks
                .as_ref()
                .is_some_and(|ranks| ranks.contains(rank))
        };
        let rest = |line: &RankProgram| line.ranks.is_none();
        let at = self.lines.iter().position(names);
        let at = at.or_else(|| self.lines.iter().position(rest))?;
        u32::try_from(at).ok()
    }

    /// What a rank runs.
    ///
    /// # Errors
    /// It has no program.
    pub fn of_rank(&self, rank: u32) -> Result<Vec<String>, String> {
        let line = self.number_of(rank);
        let line = line.and_then(|at| self.lines.get(at as usize));
        let line = line.ok_or_else(|| format!("no program is named for rank {rank}"))?;
        let before = |ranks: &IndexSet| ranks.iter().take_while(|other| *other < rank).count();
        let offset = match &line.ranks {
            Some(ranks) => before(ranks),
            None => (rank as usize).saturating_sub(before(&self.named())),
        };
        let fill = |word: &String| fill(word, rank, offset);
        Ok(line.arguments.iter().map(fill).collect())
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn weight(&self) -> usize {
        let lines = self.lines.iter().map(|line| {
            let runs = line.ranks.as_ref().map_or(0, |ranks| ranks.runs().len());
            let words = line.arguments.iter().map(|word| word.len() + 24);
            runs * 8 + words.sum::<usize>() + 48
        });
        lines.sum()
    }
}

/// Replaces `%t` and `%o`; any other percent sign stays as it is.
fn fill(word: &str, rank: u32, offset: usize) -> String {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((fixed, behind)) = rest.split_once('%') {
        filled.push_str(fixed);
        rest = if let Some(after) = behind.strip_prefix('t') {
            filled.push_str(&rank.to_string());
            after
        } else if let Some(after) = behind.strip_prefix('o') {
            filled.push_str(&offset.to_string());
            after
        } else {
            filled.push('%');
            behind
        };
    }
    filled.push_str(rest);
    filled
}

/// Lines with those that follow a backslash at their end, each by the number of its first.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) if !line.ends_with('\\') => (line, true),
            _ => (line, false),
        };
        match all.last_mut().filter(|_| open) {
            Some((_, begun)) => begun.push_str(line),
            None => all.push((number, line.to_owned())),
        }
        open = goes_on;
    }
    all
}

/// Words as a shell tells them apart: quotes, backslashes, and a comment to the end of the line.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('\''), _) => word.get_or_insert_default().push(character),
            (_, '\\') => {
                let next = characters.next();
                let next = next.ok_or("a backslash stands at the end of the file")?;
                let text = word.get_or_insert_default();
                // Between double quotes it is kept before all that it does not protect there.
                if quote.is_some() && !matches!(next, '"' | '\\') {
                    text.push('\\');
                }
                text.push(next);
            }
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '\0') => return Err("a zero byte stands in it".to_owned()),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Ranks as a line begins with them; `None` = the rest.
fn read_ranks(text: &str) -> Result<Option<IndexSet>, String> {
    if text == "*" {
        return Ok(None);
    }
    let wrong = || {
        format!(
            "\"{}\" are no ranks: write 3, 0-2, 1,4-6 or *",
            excerpt(text)
        )
    };
    let rank = |text: &str| match text.parse::<u32>() {
        Ok(rank) if rank <= RANK_MAX => Ok(rank),
        Ok(rank) => Err(format!("rank {rank} is beyond {RANK_MAX}")),
        Err(_) => Err(wrong()),
    };
    let mut ranks = IndexSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (rank(first)?, rank(last)?),
            None => (rank(part)?, rank(part)?),
        };
        if last < first {
            return Err(format!("\"{part}\" falls: write the smaller rank first"));
        }
        let mut both = IndexSet::from_range(first, last + 1);
        both.intersect(&ranks);
        if let Some(twice) = both.first() {
            return Err(format!("rank {twice} has a program already"));
        }
        ranks.insert_range(first, last + 1);
    }
    Ok(Some(ranks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What Slurm's manual shows, and then some.
    const FILE: &str = "# srun multiple program configuration file\n\
        4-6       hostname\n\
        1,7       echo task:%t\n\
        0,2-3     echo  offset:%o 'of %t' \"a \\\"b\\\" \\n\" 100%\\%\n\n\
        *         sh \\\n  -c   exit # the rest\n";

    #[test]
    fn each_rank_has_its_program() {
        let programs = Programs::parse(FILE).unwrap();
        assert_eq!(programs.check(10), Ok(()));
        let table: [(u32, u32, &[&str]); 6] = [
            (5, 0, &["hostname"]),
            (1, 1, &["echo", "task:1"]),
            (7, 1, &["echo", "task:7"]),
            (0, 2, &["echo", "offset:0", "of 0", "a \"b\" \\n", "100%%"]),
            (3, 2, &["echo", "offset:2", "of 3", "a \"b\" \\n", "100%%"]),
            (9, 3, &["sh", "-c", "exit"]),
        ];
        for (rank, number, words) in table {
            assert_eq!(programs.of_rank(rank).unwrap(), words, "{rank}");
            assert_eq!(programs.number_of(rank), Some(number), "{rank}");
        }
        let rest = Programs::parse("1,3 a\n* b %o").unwrap();
        assert_eq!(rest.of_rank(4).unwrap(), ["b", "2"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("", "it names no program"),
            ("# 0 true\n\n", "it names no program"),
            ("0", "line 1: no program is named for ranks 0"),
            ("0 a\n1 b\n0-3 c", "line 3: rank 0 has a program already"),
            ("1,1 a", "line 1: rank 1 has a program already"),
            ("* a\n* b", "line 2: `*` stands in two lines"),
            (
                "3-1 a",
                "line 1: \"3-1\" falls: write the smaller rank first",
            ),
            (
                "x a",
                "line 1: \"x\" are no ranks: write 3, 0-2, 1,4-6 or *",
            ),
            ("0 a \\\n 'b", "line 1: the quote ' is not closed"),
            ("9999999 a", "line 1: rank 9999999 is beyond 1000000"),
        ] {
            assert_eq!(Programs::parse(text).unwrap_err(), error, "{text}");
        }
        let programs = Programs::parse("0-1 a\n3 b").unwrap();
        assert_eq!(
            programs.check(4).unwrap_err(),
            "no program is named for rank 2"
        );
        assert_eq!(
            programs.check(3).unwrap_err(),
            "a program is named for rank 3, the step has ranks 0-2"
        );
        assert!(programs.of_rank(2).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[0-9*,\\-a%to '\"\\\\\n#]{0,60}", any in any::<String>()) {
            for text in [text, any] {
                if let Ok(programs) = Programs::parse(&text) {
                    for rank in 0..4 {
                        prop_assert_eq!(programs.of_rank(rank).is_ok(), programs.number_of(rank).is_some());
                    }
                }
            }
        }
    }
}
