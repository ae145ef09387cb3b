//! Tables: columns as wide as their widest cell.

use super::{
    style::{Palette, Tone},
    text::plain,
};

/// One cell: text and its tone.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// The same in a tone.
    pub(crate) fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    /// The same at the right edge of its column, as numbers are.
    pub(crate) fn right(mut self) -> Self {
        self.right = true;
        self
    }
}

/// A cell with this text, made harmless.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell {
        text: plain(text.as_ref()).into_owned(),
        tone: Tone::Plain,
        right: false,
    }
}

/// A cell with a number.
pub(crate) fn number(value: impl ToString) -> Cell {
    cell(value.to_string()).right()
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new<const COLUMNS: usize>(names: [&str; COLUMNS]) -> Self {
        let heading = names.iter().map(|name| cell(name).tone(Tone::Dim));
        Self {
            rows: vec![heading.collect()],
        }
    }

    /// Rows without a heading.
    pub(crate) fn plain() -> Self {
        Self { rows: Vec::new() }
    }

    /// One more row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [Cell; COLUMNS]) {
        self.rows.push(cells.into());
    }

    /// The table as lines; nothing is padded at their ends.
    pub(crate) fn show(&self, palette: Palette) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| width(&cell.text)).max().unwrap_or(0)
            })
            .collect();
        // A heading stands over its numbers.
        let rights: Vec<bool> = (0..columns)
            .map(|column| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.any(|cell| cell.right)
            })
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            let mut gap = 0;
            for (cell, (&wide, &right)) in row.iter().zip(widths.iter().zip(&rights)) {
                let padding = wide - width(&cell.text);
                let (before, after) = if right { (padding, 0) } else { (0, padding) };
                if !cell.text.is_empty() {
                    line.extend(std::iter::repeat_n(' ', gap + before));
                    line.push_str(&palette.paint(cell.tone, &cell.text));
                    gap = 0;
                } else {
                    gap += before;
                }
                gap += after + 2;
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

/// Columns of a terminal that the text takes.
fn width(text: &str) -> usize {
    // Names, numbers and states are of single width; a wide letter shifts what follows, no more.
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["VM", "IMAGE", "CPUS", "OWNER"]);
        table.row([number(42), cell("debian"), number(2), cell("root")]);
        table.row([number(142), cell("a"), number(16), cell("")]);
        assert_eq!(
            table.show(Palette::COLOURLESS),
            " VM  IMAGE   CPUS  OWNER\n 42  debian     2  root\n142  a         16\n"
        );
    }

    #[test]
    fn cells_are_harmless() {
        let mut table = Table::plain();
        table.row([cell("a\u{1b}[2J\n"), cell("b")]);
        assert_eq!(table.show(Palette::COLOURLESS), "a\u{fffd}[2J\u{fffd}  b\n");
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let mut table = Table::plain();
        table.row([cell("ok").tone(Tone::Good), cell("b")]);
        table.row([cell("changed"), cell("b")]);
        assert_eq!(
            table.show(Palette::COLOURFUL),
            "\u{1b}[32mok\u{1b}[0m       b\nchanged  b\n"
        );
    }
}
