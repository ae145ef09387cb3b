//! `fvm create`

use super::Context;
use crate::{args::Vms, exit::CommandResult, quantity::Mebibytes, template};
use fvm_vmm::api::{CreateVms, ImageName, routes};

/// Arguments of `fvm create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each VM is a writable snapshot of the image and takes no space until it writes. Several VMs are made \
all, or none.

The base VM is not a snapshot: it changes the image itself, which nobody else can use meanwhile. `fvm \
delete base` ends that, and the image stays as it is then.

Examples:
  fvm create debian 42
  fvm create debian 50-59 --memory 1G --cpus 2
  fvm create debian 43 --template ./my-domain.xml
  fvm create web 44                     by a profile (see `fvm profile`)
  fvm create debian base                a VM on the image itself, to change it")]
pub(crate) struct Create {
    /// The image to make them of (see `fvm image list`), or a profile (see `fvm profile list`)
    image: ImageName,
    #[command(flatten)]
    vms: Vms,
    /// A shipped template (see `fvm status`) or a domain XML file, instead of the image's
    #[arg(short, long, value_name = "NAME|FILE")]
    template: Option<String>,
    /// Memory instead of the template's: MiB, or with a unit (512M, 4G)
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<Mebibytes>,
    /// Virtual processors instead of the template's
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
}

impl Create {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CreateVms {
            image: self.image,
            vms: self.vms.union()?,
            template: template::to_send(self.template)?,
            memory_mib: self.memory.map(|memory| memory.0),
            cpus: self.cpus,
        };
        let what = format!("creating {} from {}", request.vms, request.image);
        context.whole_batch(routes::CREATE, &request, &what).await
    }
}
