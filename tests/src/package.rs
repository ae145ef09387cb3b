//! fvm's own .deb, from this checkout: what it depends on, and making it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::cache::{Entry, Recipe};
use crate::command;
use crate::paths;
use crate::progress::Step;

/// Which build of fvm a lab host gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// What people get.
    Release,
    /// The same, with a daemon that a test can have killed between two steps of an operation.
    FaultPoints,
}

/// The cargo profile of what lab hosts run: as what people get, but quick to build again.
const PROFILE: &str = "lab";

const PROGRAMS: [&str; 3] = ["fvm", "fvmd", "fvm-netd"];

/// The packages that fvm's package depends on, by name, without versions.
pub(crate) fn depends() -> Result<Vec<String>> {
    let path = paths::workspace()?.join("packaging/deb/control");
    let control =
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    names_in_depends(&control).with_context(|| format!("{} has no line Depends:", path.display()))
}

fn names_in_depends(control: &str) -> Option<Vec<String>> {
    let line = control
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))?;
    Some(
        line.split(',')
            .filter_map(|item| item.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
    )
}

/// Builds fvm and returns an entry with its package as `fvm.deb`.
pub(crate) fn get(build: Build) -> Result<Entry> {
    let root = paths::workspace()?;
    let binaries = binaries(&root, build)?;
    let mut recipe = Recipe::new("package");
    for program in PROGRAMS {
        recipe = recipe.with_file(&binaries.join(program))?;
    }
    let mut files = BTreeSet::new();
    for part in ["packaging", "templates"] {
        files_below(&root.join(part), &mut files)?;
    }
    for document in ["Cargo.toml", "README.md", "CHANGELOG.md"] {
        files.insert(root.join(document));
    }
    for file in files {
        let name = file
            .strip_prefix(&root)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        recipe = recipe.with("path", name).with_file(&file)?;
    }
    recipe.entry("package: fvm.deb", |directory| {
        command::output(
            Command::new("packaging/deb/build.sh")
                .current_dir(&root)
                .arg(&binaries)
                .arg(directory.join("fvm.deb")),
        )?;
        Ok(())
    })
}

/// Builds fvm and returns its programs by name.
pub(crate) fn programs(build: Build) -> Result<Vec<(&'static str, PathBuf)>> {
    let binaries = binaries(&paths::workspace()?, build)?;
    Ok(PROGRAMS
        .iter()
        .map(|&name| (name, binaries.join(name)))
        .collect())
}

/// Runs cargo, which shows its own progress, and returns where the three programs lie.
///
/// Once for each build in a process: all its lab hosts run the same programs, whatever is edited meanwhile.
fn binaries(root: &Path, build: Build) -> Result<PathBuf> {
    static BUILT: Mutex<Vec<(Build, PathBuf)>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, binaries)) = built.iter().find(|(done, _)| *done == build) {
        return Ok(binaries.clone());
    }
    let binaries = cargo_build(root, build)?;
    built.push((build, binaries.clone()));
    Ok(binaries)
}

fn cargo_build(root: &Path, build: Build) -> Result<PathBuf> {
    let target = cargo_target(root)?;
    let step = Step::begin("build", "building fvm (some minutes the first time)");
    // The whole workspace, as the tests themselves are built: with fewer packages cargo would choose other
    // features of what they share, and build all of that once more.
    cargo(root, &["--workspace", "--bins"])?;
    let plain = target.join(PROFILE);
    let binaries = match build {
        Build::Release => plain,
        Build::FaultPoints => {
            cargo(
                root,
                &[
                    "--workspace",
                    "--features",
                    "fvm-vmm/fault-points",
                    "--bin",
                    "fvmd-faults",
                ],
            )?;
            let mixed = target.join(PROFILE).join("fault-points");
            fs::create_dir_all(&mixed).with_context(|| format!("making {}", mixed.display()))?;
            for (from, to) in [
                ("fvm", "fvm"),
                ("fvmd-faults", "fvmd"),
                ("fvm-netd", "fvm-netd"),
            ] {
                fs::copy(plain.join(from), mixed.join(to))
                    .with_context(|| format!("copying {from}"))?;
            }
            mixed
        }
    };
    step.done();
    Ok(binaries)
}

/// Builds an integration test of this workspace by name, to be run on a lab host; returns the program.
pub fn test_program(name: &str) -> Result<PathBuf> {
    let root = paths::workspace()?;
    // Features of the whole workspace, for the same reason as above.
    let messages = command::output(cargo_command(&root).args([
        "test",
        "--profile",
        PROFILE,
        "--locked",
        "--workspace",
        "--no-run",
        "--message-format=json",
        "--test",
        name,
    ]))?;
    String::from_utf8_lossy(&messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo built no test program {name}"))
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = cargo_command(root)
        .args(["build", "--profile", PROFILE, "--locked"])
        .args(arguments)
        .stdin(Stdio::null())
        // Standard output is for the results of whoever calls.
        .stdout(std::io::stderr())
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    Ok(())
}

fn cargo_target(root: &Path) -> Result<PathBuf> {
    let metadata = command::output(cargo_command(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--locked",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata).context("reading cargo's metadata")?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .context("cargo's metadata names no target directory")
}

fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // Set for the crate whose test or binary this is; the crates to build must not see them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            command.env_remove(name);
        }
    }
    command
}

fn files_below(directory: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for item in
        fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?
    {
        let path = item
            .with_context(|| format!("listing {}", directory.display()))?
            .path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::names_in_depends;

    #[test]
    fn versions_and_alternatives_are_left_out() {
        let control = "Package: x\nDepends: libc6 (>= @GLIBC@), a | b, c\nSection: admin\n";
        assert_eq!(names_in_depends(control).unwrap(), ["libc6", "a", "c"]);
        assert_eq!(names_in_depends("Package: x\n"), None);
    }
}
