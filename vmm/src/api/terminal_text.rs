//! What a guest has printed, as text without what a terminal would obey.

/// Terminal text without its control: escape sequences go whole, other control characters too.
pub fn without_control(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => match rest.peek() {
                // Control sequences (ECMA-48, 5.4) end with a byte from 0x40 to 0x7e.
                Some('[') => {
                    rest.next();
                    while rest
                        .next()
                        .is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c))
                    {}
                }
                _ => {
                    rest.next();
                }
            },
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_wrote_cannot_touch_the_terminal() {
        let text = without_control(b"\x1b[2J\x1b[1;31mred\x1b[0m\r\na\x07b\x1bc\xff\n");
        assert_eq!(text, "red\nab\u{fffd}\n");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
