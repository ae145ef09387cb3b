//! `fvm generate`: what a package ships beside the program, made from the program's own definition.

use super::Context;
use crate::{
    args::Args,
    complete,
    exit::{self, CommandResult, Exit},
};
use clap::CommandFactory;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Arguments of `fvm generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// Where to put them: `/usr/share` of what is being packaged
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

impl Generate {
    pub(super) async fn run(self, _: &Context<'_>) -> CommandResult {
        let share = &self.directory;
        manual(&share.join("man/man1")).map_err(|error| exit::of_file(share, &error))?;
        for (shell, file) in [
            ("bash", "bash-completion/completions/fvm"),
            ("zsh", "zsh/vendor-completions/_fvm"),
            ("fish", "fish/vendor_completions.d/fvm.fish"),
        ] {
            let path = share.join(file);
            completion(shell, &path).map_err(|error| exit::of_file(&path, &error))?;
        }
        Ok(Exit::DONE)
    }
}

fn completion(shell: &str, path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, complete::registration(shell)?)
}

/// A page for each command: `fvm-image-list.1`.
fn manual(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // `fvm help` and its like say nothing that the pages do not.
    let command = Args::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        fn pages(command: &clap::Command, name: &str, into: &mut Vec<String>) {
            into.push(format!("{name}.1"));
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                pages(sub, &format!("{name}-{}", sub.get_name()), into);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        manual(dir.path()).unwrap();
        let mut wanted = Vec::new();
        pages(&Args::command(), "fvm", &mut wanted);
        assert!(wanted.contains(&"fvm-image-list.1".to_owned()));
        for page in wanted {
            let text = fs::read_to_string(dir.path().join(&page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }
}
