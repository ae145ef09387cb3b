//! Files of fvm's that are there whole or not at all.

use super::error::{Result, file};
use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Puts a file with this text at `path`, in the place of one that is there.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| file("writing", path, &error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    let draft = draft(path);
    fs::write(&draft, text).map_err(failed)?;
    File::open(&draft)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
}

fn draft(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deeper/a.xml");
        for text in ["one", "another, longer one", ""] {
            write(&path, text).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
        }
        let parent = path.parent().expect("a parent");
        assert_eq!(fs::read_dir(parent).expect("a directory").count(), 1);
    }
}
