//! Elements back to text.

use super::origin::ElementId;
use super::xml::Element;
use quick_xml::escape::escape;

/// Writes an element and all in it, an element a line, two spaces a level.
pub(crate) fn write(element: &Element) -> String {
    let mut out = String::new();
    write_at(element, 0, &mut out);
    out
}

/// The start tag of an element with its text; the end tag too if there is nothing else in it.
pub(crate) fn head(element: &Element) -> String {
    let mut out = format!("<{}", element.name);
    for (name, value) in &element.attributes {
        out.push_str(&format!(" {name}='{}'", escape(value.as_str())));
    }
    let text = element.text.trim();
    match (element.children.is_empty(), text.is_empty()) {
        (true, true) => out.push_str("/>"),
        (true, false) => out.push_str(&format!(">{}</{}>", escape(text), element.name)),
        (false, _) => out.push_str(&format!(">{}", escape(text))),
    }
    out
}

fn write_at(element: &Element, level: usize, out: &mut String) {
    let indent = "  ".repeat(level);
    out.push_str(&format!("{indent}{}\n", head(element)));
    if !element.children.is_empty() {
        for child in &element.children {
            write_at(child, level + 1, out);
        }
        out.push_str(&format!("{indent}</{}>\n", element.name));
    }
}

impl Element {
    /// An element without attributes, for what completion adds.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attributes: Vec::new(),
            children: Vec::new(),
            text: String::new(),
            line: 0,
            id: ElementId(u32::MAX),
        }
    }

    /// The same with an attribute.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an attribute.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        match self.attributes.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    /// An attribute's value.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let (_, value) = self.attributes.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The first child of this name, added at the end if there is none.
    pub(crate) fn child_mut(&mut self, name: &str) -> &mut Element {
        let found = self.children.iter().position(|child| child.name == name);
        let position = found.unwrap_or_else(|| {
            self.children.push(Element::new(name));
            self.children.len() - 1
        });
        &mut self.children[position]
    }

    /// Puts a child in the place of all of its name, or at the end.
    pub(crate) fn replace_child(&mut self, child: Element) {
        let position = self.children.iter().position(|old| old.name == child.name);
        self.children.retain(|old| old.name != child.name);
        let position = position
            .unwrap_or(self.children.len())
            .min(self.children.len());
        self.children.insert(position, child);
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::parse;
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let text = "<a b='&lt;&apos;&amp;'><c/><d e='1'>x &amp; y</d><f><g/></f></a>";
        let element = parse(text).expect("good");
        let written = write(&element);
        let again = parse(&written).expect("good");
        assert_eq!(write(&again), written);
        assert_eq!(again.attributes, element.attributes);
        assert_eq!(again.children[1].text, "x & y");
    }
}
