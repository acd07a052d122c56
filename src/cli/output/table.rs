//! Aligned tables. On a terminal a table fits the window: elastic columns are cut with `…`, and nothing
//! wraps. On a pipe nothing is cut.
//!
//! Cells live in one text with marks, since a queue may have ten thousand rows.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use unicode_width::UnicodeWidthStr;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Column {
    /// Its head.
    pub(in crate::cli) title: &'static str,
    /// Numbers stand to the right.
    pub(in crate::cli) right: bool,
    /// May be cut down to this many characters when the window is narrow; 0 = never cut.
    pub(in crate::cli) least: usize,
}

/// A column of words.
pub(in crate::cli) const fn left(title: &'static str) -> Column {
    Column {
        title,
        right: false,
        least: 0,
    }
}

/// A column of numbers.
pub(in crate::cli) const fn right(title: &'static str) -> Column {
    Column {
        title,
        right: true,
        least: 0,
    }
}

/// A column of words that may be cut.
pub(in crate::cli) const fn elastic(title: &'static str, least: usize) -> Column {
    Column {
        title,
        right: false,
        least,
    }
}

/// A table being filled.
pub(in crate::cli) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    text: String,
    /// Where each cell ends in `text`, and its width on screen.
    cells: Vec<(usize, usize)>,
    /// A first part has been printed, head and all.
    begun: bool,
}

/// Rows that are gathered to find out how wide columns are; what follows is printed in the same columns.
const GATHERED_MAX: usize = 50_000;

/// Columns of the terminal that is written to, if it is one.
pub(in crate::cli) fn window() -> Option<usize> {
    let size = || terminal_size::terminal_size().map(|(width, _)| width.0.into());
    io::stdout().is_terminal().then(size).flatten()
}

impl Table {
    /// An empty one.
    pub(in crate::cli) fn new(columns: &[Column]) -> Self {
        Table {
            widths: columns.iter().map(|column| column.title.len()).collect(),
            columns: columns.to_vec(),
            text: String::new(),
            cells: Vec::new(),
            begun: false,
        }
    }

    /// Adds the next cell of the present row; `write` appends its text.
    pub(in crate::cli) fn cell(&mut self, write: impl FnOnce(&mut String)) -> &mut Self {
        let start = self.text.len();
        write(&mut self.text);
        if let Cow::Owned(clean) = super::clean(&self.text[start..]) {
            self.text.truncate(start);
            self.text.push_str(&clean);
        }
        let added = &self.text[start..];
        // Most cells are; the general way looks every character up.
        let width = if added.is_ascii() {
            added.len()
        } else {
            added.width()
        };
        let column = self.cells.len() % self.columns.len();
        self.widths[column] = self.widths[column].max(width);
        self.cells.push((self.text.len(), width));
        self
    }

    /// Adds a cell with this text.
    pub(in crate::cli) fn add(&mut self, text: &str) -> &mut Self {
        self.cell(|cell| cell.push_str(text))
    }

    /// Adds a cell with this number.
    pub(in crate::cli) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        let number = number.into();
        self.cell(|cell| {
            use std::fmt::Write;
            // Writing to a text cannot fail.
            let _ = write!(cell, "{number}");
        })
    }

    /// Prints what is there when it is much, so that a listing of millions of rows needs no room for them.
    pub(in crate::cli) fn print_if_long(&mut self) -> io::Result<()> {
        if self.cells.len() < GATHERED_MAX * self.columns.len() {
            return Ok(());
        }
        self.print()?;
        self.begun = true;
        self.text.clear();
        self.cells.clear();
        Ok(())
    }

    /// Prints it to standard output.
    pub(in crate::cli) fn print(&self) -> io::Result<()> {
        let mut out = super::stdout();
        self.write(&mut out, window())?;
        out.flush()
    }

    /// Writes it, fitted to a window of so many characters.
    pub(in crate::cli) fn write(
        &self,
        out: &mut impl Write,
        window: Option<usize>,
    ) -> io::Result<()> {
        let widths = self.fitted(window);
        let mut line = String::new();
        let titles = self
            .columns
            .iter()
            .map(|column| (column.title, column.title.len()));
        if !self.begun {
            self.line(&mut line, &widths, titles);
            out.write_all(line.as_bytes())?;
        }
        let mut start = 0;
        for row in self.cells.chunks(self.columns.len()) {
            line.clear();
            let cells = row.iter().map(|&(end, width)| {
                let cell = &self.text[start..end];
                start = end;
                (cell, width)
            });
            self.line(&mut line, &widths, cells);
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn line<'a>(
        &self,
        line: &mut String,
        widths: &[usize],
        cells: impl Iterator<Item = (&'a str, usize)>,
    ) {
        for (position, ((cell, width), column)) in cells.zip(&self.columns).enumerate() {
            if position > 0 {
                line.push_str("  ");
            }
            let room = widths[position];
            let blanks = room.saturating_sub(width);
            if column.right {
                line.extend(std::iter::repeat_n(' ', blanks));
            }
            if width > room {
                push_cut(line, cell, room);
            } else {
                line.push_str(cell);
            }
            if !column.right {
                line.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        line.truncate(line.trim_end_matches(' ').len());
        line.push('\n');
    }

    /// Widths of the columns: as needed, or less for elastic ones until the table fits.
    fn fitted(&self, window: Option<usize>) -> Vec<usize> {
        let mut widths = self.widths.clone();
        let Some(window) = window else { return widths };
        let gaps = 2 * widths.len().saturating_sub(1);
        loop {
            if widths.iter().sum::<usize>() + gaps <= window {
                return widths;
            }
            // The widest elastic column gives first.
            let widest = (0..widths.len())
                .filter(|&column| {
                    self.columns[column].least > 0 && widths[column] > self.columns[column].least
                })
                .max_by_key(|&column| widths[column]);
            match widest {
                Some(column) => widths[column] -= 1,
                None => return widths,
            }
        }
    }
}

fn push_cut(line: &mut String, cell: &str, room: usize) {
    let mut used = 1;
    for character in cell.chars() {
        let width = unicode_width::UnicodeWidthChar::width(character).unwrap_or(0);
        if used + width > room {
            break;
        }
        used += width;
        line.push(character);
    }
    line.push('…');
    line.extend(std::iter::repeat_n(' ', room - used));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(window: Option<usize>) -> String {
        let mut table = Table::new(&[right("JOB"), elastic("NAME", 5), left("STATE")]);
        table.number(7u32).add("a-very-long-name").add("RUNNING");
        table.add("12_[0-9]").add("días").add("PENDING");
        let mut out = Vec::new();
        table.write(&mut out, window).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_nothing_is_cut_on_a_pipe() {
        let expected = "     JOB  NAME              STATE\n       7  a-very-long-name  RUNNING\n12_[0-9]  días              PENDING\n";
        assert_eq!(drawn(None), expected);
        assert_eq!(drawn(Some(35)), expected);
    }

    #[test]
    fn a_narrow_window_cuts_elastic_columns_alone() {
        let expected =
            "     JOB  NAME     STATE\n       7  a-very…  RUNNING\n12_[0-9]  días     PENDING\n";
        assert_eq!(drawn(Some(26)), expected);
        assert!(drawn(Some(1)).contains("a-ve…"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(&[left("NAME")]);
        table.add("\u{1b}[2Jx").add("é\u{9b}\u{7f}");
        let mut out = Vec::new();
        table.write(&mut out, None).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME\n?[2Jx\né??\n");
    }
}
