//! Text of others on its way to a terminal.

use std::borrow::Cow;

/// The text without anything that a terminal would obey or a reader be misled by.
///
/// Console lines, DHCP options, ssh banners and error messages can hold what a guest wrote; printed as they
/// are, they could move the cursor, change the title or hide what they say.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() && !is_format(c);
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| match c {
        '\t' => ' ',
        c if harmless(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    });
    Cow::Owned(shown.collect())
}

/// Characters that reorder or hide others without being seen.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn ordinary_text_is_left_alone() {
        assert_eq!(plain("42  läuft – ok"), "42  läuft – ok");
    }

    #[test]
    fn nothing_of_a_guest_reaches_the_terminal_as_a_command() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(
            plain("a\r\nb\u{9b}c\u{202e}d\te"),
            "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}d e"
        );
    }
}
