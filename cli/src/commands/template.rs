//! `fvm template`: looking at templates and at what fvm makes of them, and publishing them. A file is sent by content.

use super::Context;
use crate::{
    exit::{CommandResult, Exit},
    template,
};
use fvm_vmm::api::{
    ApiError, LookAtTemplate, PublishTemplate, PublishedTemplate, QemuVersion, TemplateArguments,
    TemplateCheck, TemplateExplanation, TemplateList, TemplateText, routes,
};
use hyper::Method;
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// Arguments of `fvm template`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A template that fvm would refuse is refused here with the same words: the place, the line, and what may stand \
there. Only publish and unpublish change anything, and they are root's: who can use fvm then finds the template by \
its name. A VM keeps the template that it was made with, whatever is published later.

Examples:
  fvm template check ./my-domain.xml
  fvm template args ./my-domain.xml --qemu 7.2
  fvm template explain linux
  fvm template show linux > my-domain.xml
  sudo fvm template publish web ./my-domain.xml")]
pub(crate) struct Template {
    #[command(subcommand)]
    command: TemplateCommand,
}

/// What can be done with templates.
#[derive(Debug, clap::Subcommand)]
enum TemplateCommand {
    /// List the templates that everybody finds by name
    List(ListTemplates),
    /// Print such a template
    Show(NamedTemplate),
    /// Let everybody find a template by a name (root)
    Publish(Publish),
    /// Take a published template back (root)
    Unpublish(NamedTemplate),
    /// Say whether VMs can be made of a template, and what they would be
    Check(Look),
    /// Print the arguments that QEMU would get, one a line
    Args(Look),
    /// Print each line of a template with the arguments that it became
    Explain(Look),
}

/// Arguments of `fvm template list`.
#[derive(Debug, clap::Args)]
struct ListTemplates {}

/// Arguments of `fvm template show` and `unpublish`.
#[derive(Debug, clap::Args)]
struct NamedTemplate {
    /// The template (see `fvm template list`)
    #[arg(value_parser = name)]
    name: String,
}

/// Arguments of `fvm template publish`.
#[derive(Debug, clap::Args)]
struct Publish {
    /// The name that it will have; what root published under it before is replaced
    #[arg(value_parser = name)]
    name: String,
    /// A domain XML file
    file: PathBuf,
}

/// Arguments of `fvm template check`, `args` and `explain`.
#[derive(Debug, clap::Args)]
struct Look {
    /// A domain XML file, or the name of a template (see `fvm template list`)
    #[arg(value_name = "FILE|NAME")]
    template: String,
    /// For this QEMU (7.2, 10.0) instead of the host's
    #[arg(long, value_name = "VERSION")]
    qemu: Option<QemuVersion>,
}

impl Template {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        match self.command {
            TemplateCommand::List(ListTemplates {}) => {
                let list: TemplateList = context.client.get(routes::TEMPLATES).await?;
                context.out.report(&list);
            }
            TemplateCommand::Publish(Publish { name, file }) => {
                let xml = template::file(file)?;
                let mut tell = |event| context.out.event(&event);
                let path = routes::published_template(&name);
                let request = PublishTemplate { xml };
                let done: PublishedTemplate =
                    context.client.post(&path, &request, &mut tell).await?;
                let replaced = match done.replaced {
                    true => ", in the place of the one before",
                    false => "",
                };
                let text = format!("published template {}{replaced}", done.name);
                context.out.summary(&done, &text);
            }
            TemplateCommand::Unpublish(NamedTemplate { name }) => {
                let path = routes::published_template(&name);
                let mut tell = |event| context.out.event(&event);
                let done: PublishedTemplate = context
                    .client
                    .command(Method::DELETE, &path, &mut tell)
                    .await?;
                let text = format!("template {} is not published any more", done.name);
                context.out.summary(&done, &text);
            }
            TemplateCommand::Show(NamedTemplate { name }) => {
                let text: TemplateText = context.client.get(&routes::template(&name)).await?;
                context.out.report(&text);
            }
            TemplateCommand::Check(look) => {
                let check: TemplateCheck = look.at(context, routes::CHECK_TEMPLATE).await?;
                context.out.report(&check);
            }
            TemplateCommand::Args(look) => {
                let path = routes::TEMPLATE_ARGUMENTS;
                let arguments: TemplateArguments = look.at(context, path).await?;
                context.out.report(&arguments);
            }
            TemplateCommand::Explain(look) => {
                let path = routes::EXPLAIN_TEMPLATE;
                let explanation: TemplateExplanation = look.at(context, path).await?;
                context.out.report(&explanation);
            }
        }
        Ok(Exit::DONE)
    }
}

impl Look {
    async fn at<R: DeserializeOwned>(
        self,
        context: &Context<'_>,
        path: &str,
    ) -> Result<R, ApiError> {
        let request = LookAtTemplate {
            template: template::content(self.template)?,
            qemu: self.qemu,
        };
        let mut tell = |event| context.out.event(&event);
        Ok(context.client.post(path, &request, &mut tell).await?)
    }
}

/// A name that can stand in a path of the API.
fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("a template's name has letters, digits, - and _ only".to_owned());
    }
    Ok(text.to_owned())
}
