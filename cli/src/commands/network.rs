//! `fvm net create`, `list`, `show`, `delete`: networks beside the default one.

use super::Context;
use crate::exit::{CommandResult, Exit};
use fvm_vmm::api::{CreateNetwork, NetList, NetReport, NetworkMode, NetworkName, routes};
use hyper::Method;

/// Arguments of `fvm net create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Templates name it in <interface type='network'> by <source network='NAME'/>; VM 42 has the address .42 on it, too. It \
stays over reboots. Everybody may use it; root makes and deletes it.

Examples:
  sudo fvm net create lab
  sudo fvm net create db --subnet 10.5.0.0/24 --mode isolated
  sudo fvm net create lan --mode bridge --bridge br0")]
pub(super) struct Create {
    /// The name that the network will have
    #[arg(value_name = "NAME")]
    name: NetworkName,
    /// Its subnet; without it, one of 10.64.0.0 to 10.127.0.0 that is free
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// Where guests get to: out behind the host's address, out and in by their own, to each other and the host only, or a
    /// bridge of the host's own, where others give addresses
    #[arg(long, value_name = "nat|route|isolated|bridge", default_value_t)]
    mode: NetworkMode,
    /// The host's bridge, for --mode bridge
    #[arg(long, value_name = "BRIDGE")]
    bridge: Option<String>,
    /// Keep guests from each other: they reach the host and what is beyond it
    #[arg(long)]
    isolate_guests: bool,
}

/// Arguments of `fvm net list`.
#[derive(Debug, clap::Args)]
pub(super) struct List {}

/// Arguments of `fvm net show` and `fvm net delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The network
    #[arg(value_name = "NAME")]
    name: NetworkName,
}

impl Create {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let request = CreateNetwork {
            mode: self.mode,
            subnet: self.subnet,
            bridge: self.bridge,
            isolate_guests: self.isolate_guests,
        };
        let path = routes::network(&self.name);
        let mut tell = |event| context.out.event(&event);
        let made: NetReport = context.client.post(&path, &request, &mut tell).await?;
        let at = made.subnet.as_ref().unwrap_or(&made.bridge);
        let text = format!("created network {}: {}, {at}", made.name, made.mode);
        context.out.summary(&made, &text);
        Ok(Exit::DONE)
    }
}

impl List {
    pub(super) async fn run(self, context: &Context<'_>) -> CommandResult {
        let list: NetList = context.client.get(routes::NETWORKS).await?;
        context.out.report(&list);
        Ok(Exit::DONE)
    }
}

impl Named {
    pub(super) async fn show(self, context: &Context<'_>) -> CommandResult {
        let network: NetReport = context.client.get(&routes::network(&self.name)).await?;
        context.out.report(&network);
        Ok(Exit::DONE)
    }

    pub(super) async fn delete(self, context: &Context<'_>) -> CommandResult {
        let path = routes::network(&self.name);
        let mut tell = |event| context.out.event(&event);
        let deleted: NetReport = context
            .client
            .command(Method::DELETE, &path, &mut tell)
            .await?;
        let text = format!("deleted network {}", deleted.name);
        context.out.summary(&deleted, &text);
        Ok(Exit::DONE)
    }
}
