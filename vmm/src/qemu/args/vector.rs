//! Options as QEMU reads them: `-name key=value,key=value`, or JSON.

use super::JsonObject;
use crate::domain::ElementId;
use std::collections::{BTreeMap, BTreeSet};

/// One option of a command line, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The option: `-device`.
    pub option: String,
    /// Its value, of options that have one.
    pub value: Option<String>,
    /// The elements of the template that it says; none for what every VM gets.
    pub origins: BTreeSet<ElementId>,
}

impl Argument {
    /// Adds elements that this argument says.
    pub(super) fn because(&mut self, of: impl IntoIterator<Item = ElementId>) -> &mut Self {
        self.origins.extend(of);
        self
    }
}

/// A command line that knows where each part of it comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The options, in their order.
    pub arguments: Vec<Argument>,
    /// What is said of elements that need no option.
    pub remarks: BTreeMap<ElementId, &'static str>,
}

impl CommandLine {
    /// The arguments for QEMU, without its own name.
    pub fn into_vector(self) -> Vec<String> {
        let words = |argument: Argument| std::iter::once(argument.option).chain(argument.value);
        self.arguments.into_iter().flat_map(words).collect()
    }

    fn push(&mut self, option: &str, value: Option<String>) -> &mut Argument {
        self.arguments.push(Argument {
            option: option.to_owned(),
            value,
            origins: BTreeSet::new(),
        });
        let last = self.arguments.len() - 1;
        &mut self.arguments[last]
    }

    /// An option without a value.
    pub(super) fn flag(&mut self, option: &str) -> &mut Argument {
        self.push(option, None)
    }

    /// An option with a value that QEMU does not split.
    pub(super) fn value(&mut self, option: &str, value: impl Into<String>) -> &mut Argument {
        self.push(option, Some(value.into()))
    }

    /// An option with a list of `key=value`.
    pub(super) fn list(&mut self, option: &str, list: List) -> &mut Argument {
        self.value(option, list.0)
    }

    /// An option with a JSON object.
    pub(super) fn json(&mut self, option: &str, object: JsonObject) -> &mut Argument {
        self.value(option, serde_json::Value::Object(object).to_string())
    }

    /// Says why elements have no option.
    pub(super) fn remark(&mut self, of: Vec<ElementId>, text: &'static str) {
        self.remarks.extend(of.into_iter().map(|id| (id, text)));
    }
}

/// A list of `key=value`, in which a comma in a value is doubled so that it stays in it.
#[derive(Debug, Default)]
pub(super) struct List(String);

impl List {
    /// A list that begins with a word without key.
    pub(super) fn starting(word: &str) -> Self {
        Self(word.replace(',', ",,"))
    }

    /// Adds a pair.
    pub(super) fn with(mut self, key: &str, value: impl ToString) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(key);
        self.0.push('=');
        self.0.push_str(&value.to_string().replace(',', ",,"));
        self
    }

    /// Adds a pair if there is a value.
    pub(super) fn with_some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_cannot_begin_another_pair() {
        let list = List::starting("a,b=c")
            .with("key", "x,y=z")
            .with_some("none", None::<u8>);
        assert_eq!(list.0, "a,,b=c,key=x,,y=z");
    }
}
