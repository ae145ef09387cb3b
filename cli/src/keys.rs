//! The user's files about ssh: the key that `fvm keydist` makes, its default password, and what is known of VMs' host keys.

use std::{
    env, fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// The key of fast-vm's users, which they keep.
const FAST_VM_KEY: &str = ".fast-vm/id_fastvm";
/// The key of everybody else.
const KEY: &str = ".config/fvm/id_fvm";
/// Where the default password is, in the user's directory, else in the system's.
const PASSWORD: &str = ".config/fvm/keydist-password";
const SYSTEM_PASSWORD: &str = "/etc/fvm/keydist-password";

fn home() -> Option<PathBuf> {
    env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

/// The private key that VMs get the public half of: fast-vm's where there is one.
pub(crate) fn keydist_key() -> Option<PathBuf> {
    let home = home()?;
    let fast_vm = home.join(FAST_VM_KEY);
    Some(if fast_vm.is_file() {
        fast_vm
    } else {
        home.join(KEY)
    })
}

/// The same, if it is there.
pub(crate) fn made_by_keydist() -> Option<PathBuf> {
    keydist_key().filter(|key| key.is_file())
}

/// The password to try first, if one is configured: by the environment (fvm's name or fast-vm's), the user's file or the
/// system's.
pub(crate) fn default_password() -> Option<String> {
    for name in ["FVM_KEYDIST_PASSWORD", "FASTVM_KEYDIST_PASSWORD"] {
        if let Ok(password) = env::var(name)
            && !password.is_empty()
        {
            return Some(password);
        }
    }
    let user = home().map(|home| home.join(PASSWORD));
    let files = user.into_iter().chain([PathBuf::from(SYSTEM_PASSWORD)]);
    files
        .filter_map(|file| fs::read_to_string(file).ok())
        .filter_map(|text| text.lines().next().map(str::to_owned))
        .find(|line| !line.is_empty())
}

/// The user's file of known hosts.
#[derive(Debug)]
pub(crate) struct KnownHosts(PathBuf);

impl KnownHosts {
    /// Where it is, or would be.
    pub(crate) fn of_user() -> Option<Self> {
        let path = home()?.join(".ssh/known_hosts");
        // A link to it stays one.
        Some(Self(fs::canonicalize(&path).unwrap_or(path)))
    }

    /// True if there is one.
    pub(crate) fn exists(&self) -> bool {
        self.0.is_file()
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Forgets what is known of these addresses, and learns these lines instead.
    pub(crate) fn replace(&self, addresses: &[Ipv4Addr], lines: &str) -> io::Result<()> {
        let before = match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let after = replaced(&before, addresses, lines);
        if after == before {
            return Ok(());
        }
        let directory = self.0.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            fs::create_dir_all(directory)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        }
        // Whole or as it was, whatever happens; readable by its owner alone, as ssh makes it.
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(after.as_bytes())?;
        file.persist(&self.0)?;
        Ok(())
    }
}

/// The text of the file without the lines about these addresses, and with these lines at its end.
fn replaced(text: &str, addresses: &[Ipv4Addr], lines: &str) -> String {
    let names: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    let about = |line: &str| {
        // A marked line (`@revoked …`) is somebody's decision, and stays.
        let hosts = line.split_whitespace().next().unwrap_or_default();
        hosts
            .split(',')
            .all(|host| names.iter().any(|name| name == host))
            && !hosts.is_empty()
    };
    let mut kept: String = text
        .split_inclusive('\n')
        .filter(|line| !about(line))
        .collect();
    if !lines.is_empty() && !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    kept + lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_about_the_vm_go() {
        let text = "\
# mine
192.168.22.42 ssh-ed25519 AAAA old
192.168.22.4 ssh-ed25519 AAAA another
@revoked 192.168.22.42 ssh-rsa AAAA
example.org,192.168.22.42 ssh-rsa AAAA

192.168.22.142 ssh-rsa AAAA";
        let address = Ipv4Addr::new(192, 168, 22, 42);
        assert_eq!(
            replaced(text, &[address], "192.168.22.42 ssh-ed25519 AAAA new\n"),
            "\
# mine
192.168.22.4 ssh-ed25519 AAAA another
@revoked 192.168.22.42 ssh-rsa AAAA
example.org,192.168.22.42 ssh-rsa AAAA

192.168.22.142 ssh-rsa AAAA
192.168.22.42 ssh-ed25519 AAAA new
"
        );
        assert_eq!(replaced("", &[address], ""), "");
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_a_link_to_it_followed() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = KnownHosts(dir.path().join("ssh/known_hosts"));
        assert!(!hosts.exists());
        let address = Ipv4Addr::new(192, 168, 22, 42);
        hosts.replace(&[address], "").unwrap();
        assert!(!hosts.exists());
        hosts.replace(&[address], "192.168.22.42 a b\n").unwrap();
        hosts.replace(&[address], "192.168.22.42 c d\n").unwrap();
        assert_eq!(
            fs::read_to_string(hosts.path()).unwrap(),
            "192.168.22.42 c d\n"
        );
        let mode = fs::metadata(hosts.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        hosts.replace(&[address], "").unwrap();
        assert_eq!(fs::read_to_string(hosts.path()).unwrap(), "");
    }
}
