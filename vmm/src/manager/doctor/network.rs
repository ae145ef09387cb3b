//! What stands between guests and the outside: forwarding, and others' firewalls.

use super::from_error;
use crate::{api::Finding, manager::error::failed};
use fvm_netd::{dns::DNS_PORT, net, seed::SEED_PORT};
use nix::unistd::geteuid;
use std::{fs, path::Path};

pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = vec![ip_forward(root)];
    // Reading rules takes a privilege that a user's own look does not have.
    if geteuid().is_root() {
        findings.extend(match net::warnings() {
            Ok(warnings) if warnings.is_empty() => vec![Finding::ok(
                "firewall",
                "nothing on this host is in the way of guests",
            )],
            Ok(warnings) => warnings
                .iter()
                .map(|warning| foreign(root, warning))
                .collect(),
            Err(error) => vec![from_error(
                "firewall",
                &failed("reading this host's rules", &error),
            )],
        });
    }
    findings
}

fn ip_forward(root: &Path) -> Finding {
    const WHAT: &str = "net.ipv4.ip_forward";
    match fs::read_to_string(root.join("proc/sys/net/ipv4/ip_forward")) {
        Ok(text) if text.trim() == "1" => Finding::ok(WHAT, "on"),
        Ok(_) if root.join("sys/class/net/fvm0").exists() => {
            Finding::error(WHAT, "off: guests do not get out of this host")
                .fix("sudo sysctl net.ipv4.ip_forward=1")
        }
        Ok(_) => Finding::ok(WHAT, "off; `fvm init` turns it on"),
        Err(error) => Finding::warning(WHAT, format!("cannot be read: {error}")),
    }
}

fn foreign(root: &Path, warning: &net::Warning) -> Finding {
    let finding = Finding::warning("firewall", warning.to_string());
    match warning {
        net::Warning::BridgeCallsIptables => {
            finding.fix("sudo sysctl net.bridge.bridge-nf-call-iptables=0")
        }
        net::Warning::InputPolicyDrop { chain } => finding.fix(let_in(root, chain)),
        net::Warning::ForwardPolicyDrop { chain } => finding.fix(mend_drop(root, chain)),
    }
}

/// What lets guests' questions to DNS and those of cloud-init into the host.
fn let_in(root: &Path, chain: &str) -> String {
    let ufw = fs::read_to_string(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    if ufw.lines().any(|line| line.trim() == "ENABLED=yes") {
        return format!(
            "sudo ufw allow in on fvm0 to any port {DNS_PORT}; sudo ufw allow in on fvm0 to any port {SEED_PORT} proto tcp"
        );
    }
    format!(
        "sudo nft insert rule {chain} iifname fvm0 udp dport {DNS_PORT} accept; \
         sudo nft insert rule {chain} iifname fvm0 tcp dport '{{ {DNS_PORT}, {SEED_PORT} }}' accept"
    )
}

/// What lets guests' packets through a chain of this name.
fn mend_drop(root: &Path, chain: &str) -> String {
    if root.join("sys/class/net/docker0").exists() && chain == "ip filter FORWARD" {
        return "sudo iptables -I DOCKER-USER -i fvm0 -j ACCEPT; sudo iptables -I DOCKER-USER -o fvm0 -j ACCEPT"
            .into();
    }
    if chain.contains(" firewalld ") {
        return "sudo firewall-cmd --permanent --zone=trusted --add-interface=fvm0 && sudo firewall-cmd --reload"
            .into();
    }
    format!(
        "sudo nft insert rule {chain} iifname fvm0 accept; sudo nft insert rule {chain} oifname fvm0 accept"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Level;

    #[test]
    fn forwarding_matters_once_there_is_a_network() {
        let root = tempfile::tempdir().unwrap();
        let ipv4 = root.path().join("proc/sys/net/ipv4");
        fs::create_dir_all(&ipv4).unwrap();
        fs::write(ipv4.join("ip_forward"), "0\n").unwrap();
        assert_eq!(ip_forward(root.path()).level, Level::Ok);
        fs::create_dir_all(root.path().join("sys/class/net/fvm0")).unwrap();
        assert_eq!(ip_forward(root.path()).level, Level::Error);
        fs::write(ipv4.join("ip_forward"), "1\n").unwrap();
        assert_eq!(ip_forward(root.path()).level, Level::Ok);
    }

    #[test]
    fn each_firewall_is_mended_its_own_way() {
        let root = tempfile::tempdir().unwrap();
        let docker = "ip filter FORWARD";
        assert!(
            mend_drop(root.path(), docker).starts_with("sudo nft insert rule ip filter FORWARD")
        );
        fs::create_dir_all(root.path().join("sys/class/net/docker0")).unwrap();
        assert!(mend_drop(root.path(), docker).contains("DOCKER-USER"));
        assert!(mend_drop(root.path(), "inet firewalld filter_FORWARD").contains("firewall-cmd"));

        let input = "ip filter INPUT";
        assert!(let_in(root.path(), input).starts_with("sudo nft insert rule ip filter INPUT"));
        fs::create_dir_all(root.path().join("etc/ufw")).unwrap();
        let conf = root.path().join("etc/ufw/ufw.conf");
        fs::write(&conf, "# ufw\nENABLED=no\n").unwrap();
        assert!(let_in(root.path(), input).starts_with("sudo nft"));
        fs::write(&conf, "# ufw\nENABLED=yes\n").unwrap();
        assert!(let_in(root.path(), input).starts_with("sudo ufw allow"));
    }
}
