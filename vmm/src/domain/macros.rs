//! The macros of a template: `VM_NAME`, `VM_NUMBER` and the others, in text and attribute values.
//!
//! They are replaced after the XML was read, so a value can never become markup, and in one pass,
//! so what a value contains is never expanded again.

/// The values that a template's macros stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macros {
    pairs: Vec<(String, String)>,
}

impl Macros {
    /// The macros of one VM; `network` is the bridge or network its interfaces join.
    pub fn new(
        vm_name: &str,
        volume_group: &str,
        network: &str,
        number: u32,
        image_name: &str,
    ) -> Self {
        let pairs = [
            ("VM_NAME", vm_name.to_owned()),
            ("THINPOOL_VG", volume_group.to_owned()),
            ("LIBVIRT_NETWORK", network.to_owned()),
            ("VM_NUMBER", number.to_string()),
            ("VM_HEX_NUMBER", format!("{number:02x}")),
            ("IMAGE_NAME", image_name.to_owned()),
        ];
        Self {
            pairs: pairs.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// Adds a macro, which is tried after those before it; an empty name is never found.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.pairs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces every macro in `text`.
    ///
    /// At each place the macros are tried in their order; what was put in is not looked at again.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        'next: while let Some(first) = rest.chars().next() {
            for (name, value) in &self.pairs {
                if !name.is_empty()
                    && let Some(after) = rest.strip_prefix(name.as_str())
                {
                    out.push_str(value);
                    rest = after;
                    continue 'next;
                }
            }
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros() -> Macros {
        Macros::new("fastvm-deb-42", "vg0", "fvm0", 42, "deb")
    }

    #[test]
    fn every_macro_is_replaced() {
        let text =
            "/dev/THINPOOL_VG/VM_NAME on LIBVIRT_NETWORK: VM_NUMBER VM_HEX_NUMBER IMAGE_NAME";
        assert_eq!(
            macros().expand(text),
            "/dev/vg0/fastvm-deb-42 on fvm0: 42 2a deb"
        );
    }

    #[test]
    fn a_small_number_has_two_hex_digits() {
        let macros = Macros::new("a", "b", "c", 7, "d");
        assert_eq!(
            macros.expand("52:54:00:00:00:VM_HEX_NUMBER"),
            "52:54:00:00:00:07"
        );
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        let macros = Macros::new("IMAGE_NAME", "THINPOOL_VG", "n", 1, "VM_NAME");
        assert_eq!(
            macros.expand("VM_NAME THINPOOL_VG IMAGE_NAME"),
            "IMAGE_NAME THINPOOL_VG VM_NAME"
        );
    }

    #[test]
    fn own_macros_come_last_and_text_without_macros_is_kept() {
        let macros = macros().with("VM_NAME_X", "never").with("SITE", "lab");
        assert_eq!(macros.expand("VM_NAME_X SITE é"), "fastvm-deb-42_X lab é");
    }
}
