//! `fvm qmp`

use super::Context;
use crate::{
    args::one_vm,
    exit::{CommandResult, Exit, wrong_usage},
};
use fvm_vmm::api::{ApiError, QmpAnswer, QmpCommand, VmNumber, routes};

/// Arguments of `fvm qmp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For root only, since it goes past everything that fvm checks. What fvm does not know of, it cannot undo.

Examples:
  sudo fvm qmp 42 query-status
  sudo fvm qmp 42 '{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info pci\"}}'")]
pub(crate) struct Qmp {
    /// The VM
    #[arg(value_name = "NUM", value_parser = one_vm)]
    vm: VmNumber,
    /// A command's name, or a whole command as JSON
    #[arg(value_name = "COMMAND")]
    command: String,
}

impl Qmp {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let command = read(&self.command)?;
        let what = format!("asking the QEMU of VM {}", self.vm);
        context.out.busy(&what);
        let mut tell = |event| context.out.event(&event);
        let answer = context
            .client
            .post(&routes::qmp(self.vm), &command, &mut tell)
            .await;
        context.out.settled();
        let answer: QmpAnswer = answer?;
        context.out.report(&answer);
        Ok(Exit::DONE)
    }
}

fn read(text: &str) -> Result<QmpCommand, ApiError> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text)
            .map_err(|error| wrong_usage(format!("the command is not one of QMP's: {error}")));
    }
    Ok(QmpCommand {
        execute: text.to_owned(),
        arguments: serde_json::Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_name_or_json() {
        assert_eq!(read("query-status").unwrap().execute, "query-status");
        let whole = read(r#" {"execute": "stop", "arguments": {"a": 1}}"#).unwrap();
        assert_eq!((whole.execute.as_str(), whole.arguments.len()), ("stop", 1));
        assert!(read(r#"{"run": "stop"}"#).is_err());
        assert!(read("{").is_err());
    }
}
