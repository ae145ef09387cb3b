//! Strict reading: every attribute, child and text of an element is taken, or the template is
//! refused with the path of what was left over.
//!
//! Elements are visited by closures ([`Node::child`], [`Node::each`]); when a closure returns, what
//! it did not take is an error whose hint lists what it had asked for. So nothing can be dropped
//! silently, and what fvm supports at a place never needs to be written down twice.

use super::error::{Result, TemplateError, Warning};
use super::origin::{ElementId, Origin};
use super::xml::Element;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::str::FromStr;

/// What reading finds out beside the model.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What fvm does in its own way.
    pub(crate) warnings: RefCell<Vec<Warning>>,
    /// Elements that change nothing in the guest.
    pub(crate) ignored: RefCell<BTreeSet<ElementId>>,
}

/// An element that is being taken apart.
pub(crate) struct Node<'x> {
    element: &'x Element,
    path: String,
    notes: &'x Notes,
    attributes_left: RefCell<BTreeSet<&'x str>>,
    children_left: RefCell<BTreeSet<&'x str>>,
    text_left: Cell<bool>,
    attributes_asked: RefCell<BTreeSet<String>>,
    children_asked: RefCell<BTreeSet<String>>,
}

/// Visits the root element, which must be called `name`.
pub(crate) fn visit_root<T>(
    root: &Element,
    name: &str,
    notes: &Notes,
    read: impl FnOnce(&Node<'_>) -> Result<T>,
) -> Result<T> {
    let node = Node::new(root, format!("/{}", root.name), notes);
    if root.name != name {
        return Err(node.refuse(format!("the outermost element must be `{name}`")));
    }
    node.finish(read)
}

impl<'x> Node<'x> {
    fn new(element: &'x Element, path: String, notes: &'x Notes) -> Self {
        Self {
            attributes_left: RefCell::new(
                element
                    .attributes
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect(),
            ),
            children_left: RefCell::new(
                element
                    .children
                    .iter()
                    .map(|child| child.name.as_str())
                    .collect(),
            ),
            text_left: Cell::new(!element.text.trim().is_empty()),
            attributes_asked: RefCell::default(),
            children_asked: RefCell::default(),
            element,
            path,
            notes,
        }
    }

    /// The element's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The line of the element's start tag.
    pub(crate) fn line(&self) -> u32 {
        self.element.line
    }

    /// The attribute `name`, which is thereby taken.
    pub(crate) fn attr(&self, name: &str) -> Option<Value<'x>> {
        self.attributes_asked.borrow_mut().insert(name.to_owned());
        let (key, text) = self
            .element
            .attributes
            .iter()
            .find(|(key, _)| key == name)?;
        self.attributes_left.borrow_mut().remove(key.as_str());
        Some(Value {
            text,
            path: format!("{}/@{name}", self.path),
            line: self.element.line,
        })
    }

    /// The attribute `name`, which must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Value<'x>> {
        self.attr(name)
            .ok_or_else(|| self.refuse(format!("the attribute `{name}` is missing")))
    }

    /// The text of the element without the white space around it, which is thereby taken.
    pub(crate) fn text(&self) -> Value<'x> {
        self.text_left.set(false);
        Value {
            text: self.element.text.trim(),
            path: self.path.clone(),
            line: self.element.line,
        }
    }

    /// Visits the child `name`, of which there may be only one.
    pub(crate) fn child<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Node<'x>) -> Result<T>,
    ) -> Result<Option<T>> {
        let found = self.take(name);
        if let Some(second) = found.get(1) {
            return Err(second.refuse("the element may be given only once"));
        }
        found
            .into_iter()
            .next()
            .map(|node| node.finish(read))
            .transpose()
    }

    /// Visits the child `name`, which must be there.
    pub(crate) fn need_child<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Node<'x>) -> Result<T>,
    ) -> Result<T> {
        self.child(name, read)?
            .ok_or_else(|| self.refuse(format!("the element `{name}` is missing")))
    }

    /// Visits every child `name` in order.
    pub(crate) fn each<T>(
        &self,
        name: &str,
        mut read: impl FnMut(&Node<'x>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.take(name)
            .into_iter()
            .map(|node| node.finish(&mut read))
            .collect()
    }

    /// The text of the child `name`, which may have no attributes.
    pub(crate) fn child_text(&self, name: &str) -> Result<Option<Value<'x>>> {
        self.child(name, |node| Ok(node.text()))
    }

    /// Whether the flag element `name` is there, empty.
    pub(crate) fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.child(name, |_| Ok(()))?.is_some())
    }

    /// Takes the attribute `name` without looking at it: it changes nothing in the guest.
    pub(crate) fn ignore_attr(&self, name: &str) {
        if let Some((key, _)) = self.element.attributes.iter().find(|(key, _)| key == name) {
            self.attributes_left.borrow_mut().remove(key.as_str());
        }
    }

    /// Takes every child `name` with all that is in it: it changes nothing in the guest.
    pub(crate) fn ignore_children(&self, name: &str) {
        self.children_left.borrow_mut().remove(name);
        let children = self.element.children.iter().filter(|c| c.name == name);
        let ids = children.flat_map(|child| Origin::of(child).all());
        self.notes.ignored.borrow_mut().extend(ids);
    }

    /// Where the element is in the template, with everything in it.
    pub(crate) fn origin(&self) -> Origin {
        Origin::of(self.element)
    }

    /// Takes the namespace declarations, which are attributes to XML's grammar alone.
    pub(crate) fn ignore_namespaces(&self) {
        self.attributes_left
            .borrow_mut()
            .retain(|name| *name != "xmlns" && !name.starts_with("xmlns:"));
    }

    /// Whether there is a child `name`, without taking it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.element.children.iter().any(|child| child.name == name)
    }

    /// An error about this element.
    pub(crate) fn refuse(&self, message: impl Into<String>) -> TemplateError {
        TemplateError {
            path: self.path.clone(),
            line: self.element.line,
            message: message.into(),
            hint: None,
        }
    }

    /// Notes that fvm acts in its own way here.
    pub(crate) fn warn(&self, message: impl Into<String>) {
        self.notes.warnings.borrow_mut().push(Warning {
            path: self.path.clone(),
            line: self.element.line,
            message: message.into(),
        });
    }

    fn take(&self, name: &str) -> Vec<Node<'x>> {
        self.children_asked.borrow_mut().insert(name.to_owned());
        self.children_left.borrow_mut().remove(name);
        self.element
            .children
            .iter()
            .filter(|child| child.name == name)
            .map(|child| self.enter(child))
            .collect()
    }

    fn enter(&self, child: &'x Element) -> Node<'x> {
        Node::new(child, self.child_path(child), self.notes)
    }

    fn child_path(&self, child: &Element) -> String {
        self.element.path_of(&self.path, child)
    }

    /// Reads the element and refuses what the reading left over.
    fn finish<T>(self, read: impl FnOnce(&Node<'x>) -> Result<T>) -> Result<T> {
        let value = read(&self)?;
        if let Some(name) = self.first_attribute_left() {
            return Err(TemplateError {
                path: format!("{}/@{name}", self.path),
                line: self.element.line,
                message: format!("fvm does not support the attribute `{name}` here"),
                hint: Some(supported("attributes", &self.attributes_asked.borrow())),
            });
        }
        if let Some(child) = self
            .element
            .children
            .iter()
            .find(|child| self.children_left.borrow().contains(child.name.as_str()))
        {
            return Err(TemplateError {
                path: self.child_path(child),
                line: child.line,
                message: format!("fvm does not support the element `{}` here", child.name),
                hint: Some(supported("elements", &self.children_asked.borrow())),
            });
        }
        if self.text_left.get() {
            let text: String = self.element.text.trim().chars().take(40).collect();
            return Err(self.refuse(format!("unexpected text {text:?}")));
        }
        Ok(value)
    }

    fn first_attribute_left(&self) -> Option<&'x str> {
        let left = self.attributes_left.borrow();
        self.element
            .attributes
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| left.contains(name))
    }
}

fn supported(what: &str, names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return format!("no {what} are supported here");
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    format!("supported {what} here: {}", names.join(", "))
}

/// The value of an attribute or the text of an element, knowing where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Value<'x> {
    text: &'x str,
    path: String,
    line: u32,
}

impl<'x> Value<'x> {
    /// The text as it is.
    pub(crate) fn str(&self) -> &'x str {
        self.text
    }

    /// An error about this value.
    pub(crate) fn refuse(&self, message: impl Into<String>) -> TemplateError {
        TemplateError {
            path: self.path.clone(),
            line: self.line,
            message: message.into(),
            hint: None,
        }
    }

    /// An error about this value that says what may stand there.
    pub(crate) fn refuse_with(
        &self,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> TemplateError {
        TemplateError {
            hint: Some(hint.into()),
            ..self.refuse(message)
        }
    }

    /// The text, which must not be empty.
    pub(crate) fn non_empty(&self) -> Result<String> {
        if self.text.is_empty() {
            return Err(self.refuse("the value is empty"));
        }
        Ok(self.text.to_owned())
    }

    /// A decimal number.
    pub(crate) fn number<T: FromStr>(&self) -> Result<T> {
        self.text
            .parse()
            .map_err(|_| self.refuse(format!("{:?} is not a number that fits here", self.text)))
    }

    /// A number, decimal or with `0x` before it, as addresses are written.
    pub(crate) fn address(&self, max: u32) -> Result<u32> {
        let parsed = match self
            .text
            .strip_prefix("0x")
            .or_else(|| self.text.strip_prefix("0X"))
        {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => self.text.parse(),
        };
        match parsed {
            Ok(number) if number <= max && !self.text.contains('+') => Ok(number),
            _ => Err(self.refuse(format!(
                "{:?} is not a number from 0 to {max:#x}",
                self.text
            ))),
        }
    }

    /// One of the given words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        choices
            .iter()
            .find(|(word, _)| *word == self.text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                self.refuse_with(
                    format!("fvm does not support the value {:?} here", self.text),
                    format!("supported values here: {}", words.join(", ")),
                )
            })
    }

    /// `yes` or `no`.
    pub(crate) fn yes_no(&self) -> Result<bool> {
        self.choice(&[("yes", true), ("no", false)])
    }

    /// `on` or `off`.
    pub(crate) fn on_off(&self) -> Result<bool> {
        self.choice(&[("on", true), ("off", false)])
    }

    /// A name of ours, which must be one of those that `expected` lists.
    pub(crate) fn expect(&self, expected: &str) -> Result<()> {
        self.choice(&[(expected, ())])
    }
}

/// An enumeration whose values are words of the XML.
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word with its value, as the XML spells it.
            pub const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            /// The word in the XML.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn read<T>(text: &str, read: impl FnOnce(&Node<'_>) -> Result<T>) -> Result<T> {
        let root = xml::parse(text).expect("well-formed");
        let notes = Notes::default();
        visit_root(&root, "a", &notes, read)
    }

    #[test]
    fn what_is_not_taken_is_refused_with_its_path_and_line() {
        let error = read("<a>\n<b/>\n<b x='1'\n y='2'/></a>", |node| {
            node.each("b", |b| Ok(b.attr("x").map(|x| x.str().to_owned())))
        })
        .expect_err("y was not taken");
        assert_eq!((error.path.as_str(), error.line), ("/a/b[2]/@y", 3));
        assert_eq!(error.hint.as_deref(), Some("supported attributes here: x"));

        let error = read("<a><b/><c/></a>", |node| node.flag("b")).expect_err("c was not taken");
        assert_eq!(error.path, "/a/c");
        assert_eq!(error.hint.as_deref(), Some("supported elements here: b"));

        let error = read("<a>text</a>", |_| Ok(())).expect_err("the text was not taken");
        assert!(error.message.contains("text"));
    }

    #[test]
    fn an_only_child_may_not_come_twice() {
        let error = read("<a><b/><b/></a>", |node| node.flag("b")).expect_err("two of them");
        assert_eq!(error.path, "/a/b[2]");
    }

    #[test]
    fn values_are_checked() {
        let text = "<a n='12' h='0x1f' w='on' e=''/>";
        read(text, |node| {
            assert_eq!(node.need("n")?.number::<u8>()?, 12);
            assert_eq!(node.need("h")?.address(0x1f)?, 0x1f);
            assert!(node.need("h")?.address(0x1e).is_err());
            assert!(node.need("w")?.on_off()?);
            assert!(node.need("w")?.yes_no().is_err());
            assert!(node.need("e")?.non_empty().is_err());
            assert!(node.need("gone").is_err());
            Ok(())
        })
        .expect("all taken");
    }
}
