//! Command lines as machines: options taken apart so that two can be compared.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a command line says of the machine that a guest sees.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// Devices by id, or by driver if they have none.
    pub(crate) devices: BTreeMap<String, Map<String, Value>>,
    /// Block nodes by name.
    pub(crate) nodes: BTreeMap<String, Map<String, Value>>,
    /// Objects by id.
    pub(crate) objects: BTreeMap<String, Map<String, Value>>,
    /// `-global` settings, and other options that come several times, whole.
    pub(crate) globals: BTreeSet<String>,
    /// Lists of `key=value`, by option; a word without key has the empty key.
    pub(crate) lists: BTreeMap<String, BTreeMap<String, String>>,
}

/// Takes arguments apart; `next` of an option is its value if it does not begin with a dash.
pub(crate) fn parse(arguments: impl IntoIterator<Item = (String, String)>) -> Options {
    let mut options = Options::default();
    for (option, value) in arguments {
        match option.as_str() {
            "-device" => {
                let device = object(&value);
                let name = |key: &str| device.get(key).and_then(Value::as_str).map(str::to_owned);
                let id = name("id").or_else(|| name("driver")).unwrap_or_default();
                assert!(
                    options.devices.insert(id.clone(), device).is_none(),
                    "{id} twice"
                );
            }
            "-blockdev" => {
                let node = object(&value);
                let name = node["node-name"].as_str().unwrap_or_default().to_owned();
                options.nodes.insert(name, node);
            }
            "-object" => {
                let object = object(&value);
                let id = object["id"].as_str().unwrap_or_default().to_owned();
                options.objects.insert(id, object);
            }
            "-global" => {
                options.globals.insert(value);
            }
            "-numa" | "-smbios" => {
                options.globals.insert(format!("{option} {value}"));
            }
            "-chardev" | "-mon" | "-netdev" | "-add-fd" | "-audiodev" => {}
            _ => {
                options.lists.insert(option, list(&value));
            }
        }
    }
    options
}

/// Pairs each option with its value.
pub(crate) fn pairs(arguments: &[String]) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for argument in arguments {
        match pairs.last_mut() {
            Some((_, value)) if value.is_empty() && !argument.starts_with('-') => {
                value.clone_from(argument);
            }
            _ => pairs.push((argument.clone(), String::new())),
        }
    }
    pairs
}

/// JSON, or the older form of a device.
fn object(text: &str) -> Map<String, Value> {
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return object;
    }
    let pairs = list(text).into_iter().map(|(key, value)| {
        let key = if key.is_empty() {
            "driver".to_owned()
        } else {
            key
        };
        (key, Value::String(value))
    });
    pairs.collect()
}

fn list(text: &str) -> BTreeMap<String, String> {
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (String::new(), part.to_owned()),
    };
    text.split(',').map(pair).collect()
}
