//! `--template`: the name of a shipped template, or a file whose content is sent.

use std::{fs::File, io::Read, path::PathBuf};

/// More than any real template has.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a template cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    /// It cannot be read.
    #[error("cannot read the template {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("the template {} is longer than {} KiB", path.display(), MAX_BYTES / 1024)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not text.
    #[error("the template {} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// What to send for `--template`: a name as it is, a file's content.
///
/// A file is what has a `/` in it or ends in `.xml`; a template's name can have neither.
pub(crate) fn to_send(argument: Option<String>) -> Result<Option<String>, TemplateError> {
    argument.map(content).transpose()
}

/// The same for a template that must be given.
pub(crate) fn content(argument: String) -> Result<String, TemplateError> {
    if !argument.contains('/') && !argument.ends_with(".xml") {
        return Ok(argument);
    }
    file(PathBuf::from(argument))
}

/// The content of a template's file.
pub(crate) fn file(path: PathBuf) -> Result<String, TemplateError> {
    let mut content = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut content));
    match read {
        Err(source) => Err(TemplateError::Read { path, source }),
        Ok(_) if content.len() as u64 > MAX_BYTES => Err(TemplateError::TooLong { path }),
        Ok(_) => match String::from_utf8(content) {
            Ok(text) => Ok(text),
            Err(_) => Err(TemplateError::NotText { path }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(argument: &str) -> Result<Option<String>, TemplateError> {
        to_send(Some(argument.to_owned()))
    }

    #[test]
    fn a_name_is_sent_as_it_is() {
        assert_eq!(sent("linux-uefi").unwrap().as_deref(), Some("linux-uefi"));
        assert_eq!(to_send(None).unwrap(), None);
    }

    #[test]
    fn a_file_is_sent_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.xml");
        std::fs::write(&path, "<domain/>").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(sent(path).unwrap().as_deref(), Some("<domain/>"));
    }

    #[test]
    fn what_is_no_text_of_bearable_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("a.xml"), [0xff, 0xfe]).unwrap();
        std::fs::write(path("b.xml"), vec![b' '; MAX_BYTES as usize + 1]).unwrap();
        assert!(matches!(
            sent(&path("a.xml")),
            Err(TemplateError::NotText { .. })
        ));
        assert!(matches!(
            sent(&path("b.xml")),
            Err(TemplateError::TooLong { .. })
        ));
        assert!(matches!(
            sent(&path("c.xml")),
            Err(TemplateError::Read { .. })
        ));
    }
}
