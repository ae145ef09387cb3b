//! Where in a template something was said.
//!
//! Every element has a number, which its [`Origin`] carries into the model and from there to the
//! arguments for QEMU; so what became of a line is known, not guessed from how it looks.

use super::error::TemplateError;
use super::xml::{self, Element};

/// An element of a template, by its number in the document: the root is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId(pub u32);

/// The path of what another element says about the same thing.
pub const SAID_ELSEWHERE: &str = "+";

/// The element that a part of the model was read from, with all that is in it.
///
/// What completion adds has the origins of the elements that asked for it, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Paths from the element (`""` itself, `driver`, `target/model`), in document order.
    parts: Vec<(String, ElementId)>,
}

impl Origin {
    /// The element and everything in it.
    pub(crate) fn of(element: &Element) -> Self {
        fn walk(element: &Element, path: &str, parts: &mut Vec<(String, ElementId)>) {
            parts.push((path.to_owned(), element.id));
            for child in &element.children {
                let path = match path {
                    "" => child.name.clone(),
                    path => format!("{path}/{}", child.name),
                };
                walk(child, &path, parts);
            }
        }
        let mut parts = Vec::new();
        walk(element, "", &mut parts);
        Self { parts }
    }

    /// Adds what another element says about the same thing.
    pub(crate) fn add(&mut self, other: impl IntoIterator<Item = ElementId>) {
        let parts = other.into_iter().map(|id| (SAID_ELSEWHERE.to_owned(), id));
        self.parts.extend(parts);
    }

    /// The same with what another element says.
    pub(crate) fn with(mut self, other: impl IntoIterator<Item = ElementId>) -> Self {
        self.add(other);
        self
    }

    /// The element with everything in it.
    pub fn all(&self) -> Vec<ElementId> {
        self.parts.iter().map(|(_, id)| *id).collect()
    }

    /// The parts at these paths with everything in them.
    pub fn within(&self, paths: &[&str]) -> Vec<ElementId> {
        self.matching(|part| paths.iter().any(|path| is_within(part, path)))
    }

    /// The elements at these paths, without what is in them.
    pub fn at(&self, paths: &[&str]) -> Vec<ElementId> {
        self.matching(|part| paths.contains(&part))
    }

    /// Everything but the parts at these paths and what is in them.
    pub fn without(&self, paths: &[&str]) -> Vec<ElementId> {
        self.matching(|part| !paths.iter().any(|path| is_within(part, path)))
    }

    fn matching(&self, wanted: impl Fn(&str) -> bool) -> Vec<ElementId> {
        let parts = self.parts.iter().filter(|(part, _)| wanted(part));
        parts.map(|(_, id)| *id).collect()
    }
}

fn is_within(part: &str, path: &str) -> bool {
    let rest = part.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An element of a template as its author sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateElement {
    /// Its path, as in [`TemplateError::path`].
    pub path: String,
    /// The line of its start tag, counted from one.
    pub line: u32,
    /// How many elements it is in.
    pub depth: usize,
    /// Its start tag with the text in it, before macros.
    pub text: String,
}

/// The elements of a template; each one's position is its [`ElementId`].
pub fn elements(template: &str) -> Result<Vec<TemplateElement>, TemplateError> {
    Ok(elements_of(&xml::parse(template)?))
}

/// The same of a template that has been parsed.
pub(crate) fn elements_of(root: &Element) -> Vec<TemplateElement> {
    fn walk(element: &Element, path: String, depth: usize, all: &mut Vec<TemplateElement>) {
        all.push(TemplateElement {
            line: element.line,
            depth,
            text: super::write::head(element),
            path: path.clone(),
        });
        for child in &element.children {
            walk(child, element.path_of(&path, child), depth + 1, all);
        }
    }
    let mut all = Vec::new();
    walk(root, format!("/{}", root.name), 0, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "<a>\n<b><c/></b>\n<b x='1'>t</b>\n<bc/></a>";

    #[test]
    fn parts_are_chosen_by_whole_names() {
        let origin = Origin::of(&xml::parse(TEXT).expect("well-formed"));
        let ids = |numbers: &[u32]| numbers.iter().map(|n| ElementId(*n)).collect::<Vec<_>>();
        assert_eq!(origin.all(), ids(&[0, 1, 2, 3, 4]));
        assert_eq!(origin.within(&["b"]), ids(&[1, 2, 3]));
        assert_eq!(origin.within(&["b/c", "bc"]), ids(&[2, 4]));
        assert_eq!(origin.at(&["b", ""]), ids(&[0, 1, 3]));
        assert_eq!(origin.without(&["b"]), ids(&[0, 4]));
    }

    #[test]
    fn an_element_is_found_by_its_number() {
        let all = elements(TEXT).expect("well-formed");
        let told: Vec<_> = all.iter().map(|e| (e.path.as_str(), e.line)).collect();
        let expected = [
            ("/a", 1),
            ("/a/b[1]", 2),
            ("/a/b[1]/c", 2),
            ("/a/b[2]", 3),
            ("/a/bc", 4),
        ];
        assert_eq!(told, expected);
        assert_eq!((all[3].text.as_str(), all[3].depth), ("<b x='1'>t</b>", 1));
        assert_eq!(all[1].text, "<b>");
    }
}
