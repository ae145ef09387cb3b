//! `--user-data` and `--ssh-key`: files whose content is sent for cloud-init.

use fvm_vmm::api::{ApiError, ErrorKind, MAX_SSH_KEYS_BYTES, MAX_USER_DATA_BYTES};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The user data of a file, if one is named.
pub(crate) fn user_data(file: Option<&Path>) -> Result<Option<String>, ApiError> {
    file.map(|path| read(path, "the user data", MAX_USER_DATA_BYTES))
        .transpose()
}

/// The public keys of files, without empty lines and comments.
pub(crate) fn keys(files: &[PathBuf]) -> Result<Vec<String>, ApiError> {
    let mut keys = Vec::new();
    for path in files {
        let text = read(path, "the SSH key", MAX_SSH_KEYS_BYTES)?;
        if text.contains("PRIVATE KEY-----") {
            let what = format!("{} is a private key: it stays yours alone", path.display());
            return Err(ApiError::new(ErrorKind::Usage, what)
                .hint(format!("give the public one, {}.pub", path.display())));
        }
        let lines = text.lines().map(str::trim);
        let before = keys.len();
        keys.extend(
            lines
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
        if keys.len() == before {
            let what = format!("there is no key in {}", path.display());
            return Err(ApiError::new(ErrorKind::Usage, what));
        }
    }
    Ok(keys)
}

fn read(path: &Path, what: &str, max: usize) -> Result<String, ApiError> {
    let named = format!("{what} {}", path.display());
    let mut content = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(max as u64 + 1).read_to_end(&mut content));
    let usage = |message| Err(ApiError::new(ErrorKind::Usage, message));
    match read {
        Err(error) => {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Failed,
            };
            Err(ApiError::new(kind, format!("cannot read {named}")).detail(error.to_string()))
        }
        Ok(_) if content.len() > max => usage(format!("{named} is longer than {} KiB", max / 1024)),
        Ok(_) => {
            String::from_utf8(content).or_else(|_| usage(format!("{named} is not UTF-8 text")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_public_key_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let told = |content: &[u8]| {
            let path = dir.path().join("id");
            std::fs::write(&path, content).unwrap();
            keys(&[path]).unwrap_err()
        };
        let private = told(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n");
        assert!(private.message.contains("private key"), "{private:?}");
        assert!(private.hint.unwrap().ends_with("id.pub"));
        assert!(told(b"# none\n\n").message.contains("no key in"));
        assert!(told(&[0xff, 0xfe]).message.contains("not UTF-8"));
        assert!(told(&[b'a'; 9000]).message.contains("longer than 8 KiB"));
        let nowhere = user_data(Some(&dir.path().join("none"))).unwrap_err();
        assert_eq!(nowhere.kind, ErrorKind::NotFound);
    }
}
