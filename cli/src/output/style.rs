//! Colour, where the terminal has it and the user wants it.

use std::{env, io::IsTerminal};

/// What a piece of text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Of little weight.
    Dim,
    /// Nothing special.
    Plain,
}

/// True if a stream is a terminal that can do more than print one line after the other.
pub(crate) fn is_capable(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Whether a stream gets colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    colour: bool,
}

impl Palette {
    /// For a stream: colour on terminals that can, unless `NO_COLOR` is set.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: is_capable(stream) && !unwanted,
        }
    }

    /// The text in its tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
impl Palette {
    pub(crate) const COLOURLESS: Self = Self { colour: false };
    pub(crate) const COLOURFUL: Self = Self { colour: true };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_only_where_there_is_some() {
        assert_eq!(Palette::COLOURLESS.paint(Tone::Bad, "x"), "x");
        assert_eq!(
            Palette::COLOURFUL.paint(Tone::Bad, "x"),
            "\u{1b}[31mx\u{1b}[0m"
        );
        assert_eq!(Palette::COLOURFUL.paint(Tone::Plain, "x"), "x");
    }

    #[test]
    fn a_file_gets_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Palette::of(&file), Palette::COLOURLESS);
    }
}
