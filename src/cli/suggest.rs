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
        .map(|word| (strsim::osa_distance(typed, word), word))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
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
