//! What a user may have meant: options with the same beginning, and words that are nearly the one typed.

use clap::{Arg, Command};

/// Says of a shortened option that several begin so; none where that is not what is wrong.
pub(super) fn ambiguous(command: &Command, typed: &str) -> Option<String> {
    let beginning = typed.strip_prefix("--")?.split('=').next()?;
    let longs = command.get_arguments().filter_map(Arg::get_long);
    let mut meant: Vec<String> = longs
        .filter(|long| long.starts_with(beginning))
        .map(|long| format!("--{long}"))
        .collect();
    meant.sort_unstable();
    let last = meant.pop().filter(|_| !meant.is_empty())?;
    Some(format!(
        "option '--{beginning}' is ambiguous: it may be {} or {last}",
        meant.join(", ")
    ))
}

/// The option of a command that is nearly the one typed; those that would be refused are none.
pub(super) fn option(command: &Command, typed: &str) -> Option<String> {
    let typed = typed.strip_prefix("--")?.split('=').next()?;
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    nearest(typed, shown.filter_map(Arg::get_long)).map(|long| format!("--{long}"))
}

/// The word that differs least from the one typed, if it differs by a slip or two.
pub(super) fn nearest<'a>(
    typed: &str,
    words: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = if typed.chars().count() < 6 { 1 } else { 2 };
    words
        .into_iter()
        .map(|word| (slips(typed, word), word))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// Letters to insert, leave out, change or swap with their neighbour to get from one word to the other.
fn slips(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for row in 1..=one.len() {
        let mut here = vec![row];
        for column in 1..=other.len() {
            let same = one[row - 1] == other[column - 1];
            let mut least = (above[column] + 1)
                .min(here[column - 1] + 1)
                .min(above[column - 1] + usize::from(!same));
            let swapped = row > 1
                && column > 1
                && one[row - 1] == other[column - 2]
                && one[row - 2] == other[column - 1];
            if swapped {
                least = least.min(before[column - 2] + 1);
            }
            here.push(least);
        }
        before = std::mem::replace(&mut above, here);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_words_are_offered() {
        let verbs = ["submit", "logs", "queue", "nodes", "node"];
        for (typed, meant) in [
            ("sumbit", Some("submit")),
            ("log", Some("logs")),
            ("quue", Some("queue")),
            ("nodess", Some("nodes")),
            ("bogus", None),
            ("nosuch", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, verbs), meant, "{typed}");
        }
    }

    #[test]
    fn beginnings_of_several_options_are_ambiguous() {
        let command = ["cpus-per-task", "cpus-per-gpu", "export"]
            .into_iter()
            .fold(Command::new("x"), |command, long| {
                command.arg(Arg::new(long).long(long))
            });
        assert_eq!(
            ambiguous(&command, "--cpus=2").as_deref(),
            Some("option '--cpus' is ambiguous: it may be --cpus-per-gpu or --cpus-per-task")
        );
        assert_eq!(ambiguous(&command, "--exp"), None);
        assert_eq!(ambiguous(&command, "-c"), None);
    }
}
