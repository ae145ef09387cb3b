//! Options as QEMU reads them: `-name key=value,key=value`, or JSON.

use super::JsonObject;

/// The arguments so far.
#[derive(Debug, Default)]
pub(super) struct Vector(Vec<String>);

impl Vector {
    /// An option without a value.
    pub(super) fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    /// An option with a value that QEMU does not split.
    pub(super) fn value(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    /// An option with a list of `key=value`.
    pub(super) fn list(&mut self, option: &str, list: List) {
        self.value(option, list.0);
    }

    /// An option with a JSON object.
    pub(super) fn json(&mut self, option: &str, object: JsonObject) {
        self.value(option, serde_json::Value::Object(object).to_string());
    }

    pub(super) fn into_arguments(self) -> Vec<String> {
        self.0
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
