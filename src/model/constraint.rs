//! Features that nodes must have: `fast&(a100|h100)`, as Slurm writes them.
//!
//! `&` (or `,`) binds tighter than `|`; both may be grouped by parentheses. What Slurm writes in brackets (all nodes
//! alike) and counts (`fast*2`) are refused.

use std::fmt;

/// Longest expression; bytes.
const TEXT_MAX: usize = 1024;
/// Most parentheses within each other.
const DEPTH_MAX: usize = 16;

/// What a node must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// This feature.
    Feature(String),
    /// All of these.
    All(Vec<Constraint>),
    /// Any of these.
    Any(Vec<Constraint>),
}

/// Whether this can be the name of a feature.
#[must_use]
pub fn is_feature(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

impl Constraint {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("it has {} bytes, at most {TEXT_MAX}", text.len()));
        }
        let mut reader = Reader {
            rest: text,
            depth: 0,
        };
        let constraint = reader.any()?;
        match reader.peek() {
            None => Ok(constraint),
            Some(other) => Err(unexpected(other)),
        }
    }

    /// Whether a node with these features will do; letters of either case.
    pub fn is_met(&self, has: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Constraint::Feature(name) => has(name),
            Constraint::All(all) => all.iter().all(|one| one.is_met(has)),
            Constraint::Any(any) => any.iter().any(|one| one.is_met(has)),
        }
    }

    /// The features it names.
    pub fn features(&self) -> Vec<&str> {
        match self {
            Constraint::Feature(name) => vec![name],
            Constraint::All(list) | Constraint::Any(list) => {
                list.iter().flat_map(Constraint::features).collect()
            }
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, inside: bool) -> fmt::Result {
        let (list, sign, open) = match self {
            Constraint::Feature(name) => return f.write_str(name),
            Constraint::All(list) => (list, "&", false),
            Constraint::Any(list) => (list, "|", inside),
        };
        if open {
            f.write_str("(")?;
        }
        for (one, at) in list.iter().zip(0..) {
            if at > 0 {
                f.write_str(sign)?;
            }
            one.write(f, true)?;
        }
        if open {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

fn unexpected(sign: char) -> String {
    match sign {
        '[' | ']' => {
            "brackets (all nodes alike) are not supported: submit a job for each kind".to_owned()
        }
        '*' => "counts (fast*2) are not supported: submit a job for each kind".to_owned(),
        other => {
            format!("`{other}` is not expected there: write features, `&`, `|` and parentheses")
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn eat(&mut self, signs: &[char]) -> bool {
        let found = self.peek().is_some_and(|next| signs.contains(&next));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn any(&mut self) -> Result<Constraint, String> {
        let mut list = vec![self.all()?];
        while self.eat(&['|']) {
            list.push(self.all()?);
        }
        Ok(one_or(list, Constraint::Any))
    }

    fn all(&mut self) -> Result<Constraint, String> {
        let mut list = vec![self.one()?];
        while self.eat(&['&', ',']) {
            list.push(self.one()?);
        }
        Ok(one_or(list, Constraint::All))
    }

    fn one(&mut self) -> Result<Constraint, String> {
        if self.eat(&['(']) {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(format!(
                    "more than {DEPTH_MAX} parentheses within each other"
                ));
            }
            let inside = self.any()?;
            self.depth -= 1;
            return match self.eat(&[')']) {
                true => Ok(inside),
                false => Err("a parenthesis is not closed".to_owned()),
            };
        }
        let Some(next) = self.peek() else {
            return Err("a feature is missing at its end".to_owned());
        };
        let end = self
            .rest
            .find(|one: char| !is_feature(one.encode_utf8(&mut [0; 4])));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if !is_feature(name) {
            return Err(match name {
                "" => unexpected(next),
                name => format!("`{}` is no feature", super::text::excerpt(name)),
            });
        }
        self.rest = rest;
        Ok(Constraint::Feature(name.to_owned()))
    }
}

fn one_or(mut list: Vec<Constraint>, many: fn(Vec<Constraint>) -> Constraint) -> Constraint {
    match list.len() {
        1 => list.remove(0),
        _ => many(list),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn met(text: &str, features: &[&str]) -> bool {
        let has = |name: &str| features.contains(&name);
        Constraint::parse(text).unwrap().is_met(&has)
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert!(met("a", &["a", "b"]) && !met("c", &["a"]));
        assert!(met("a&b", &["a", "b"]) && !met("a,b", &["a"]));
        assert!(met("a|b&c", &["a"]) && !met("a|b&c", &["b"]));
        assert!(!met("(a|b)&c", &["a"]) && met(" ( a | b ) & c ", &["b", "c"]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("", "missing"),
            ("a&", "missing"),
            ("a b", "not expected"),
            ("[a|b]", "brackets"),
            ("a*2", "counts"),
            ("(a", "not closed"),
            ("a)", "not expected"),
            ("&a", "not expected"),
            ("ä", "not expected"),
        ] {
            let error = Constraint::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(
            Constraint::parse(&"(".repeat(100))
                .unwrap_err()
                .contains("16")
        );
        assert!(
            Constraint::parse(&"a".repeat(65))
                .unwrap_err()
                .contains("no feature")
        );
        assert!(
            Constraint::parse(&"a|".repeat(1000))
                .unwrap_err()
                .contains("1024")
        );
    }

    fn constraints() -> impl Strategy<Value = Constraint> {
        let leaf = "[a-c]".prop_map(Constraint::Feature);
        leaf.prop_recursive(4, 20, 3, |inner| {
            let list = prop::collection::vec(inner, 2..4);
            (list, any::<bool>()).prop_map(|(list, all)| match all {
                true => Constraint::All(list),
                false => Constraint::Any(list),
            })
        })
    }

    proptest! {
        #[test]
        fn it_says_what_it_was_read_from(constraint in constraints(), features in prop::collection::vec("[a-c]", 0..3)) {
            let again = Constraint::parse(&constraint.to_string()).unwrap();
            let has = |name: &str| features.iter().any(|known| known == name);
            prop_assert_eq!(again.is_met(&has), constraint.is_met(&has), "{}", constraint);
            prop_assert_eq!(again.to_string(), constraint.to_string());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            let _ = Constraint::parse(&text);
        }
    }
}
