//! The network as a whole, read back from the kernel.

use fvm_netd::names::Nic;
use fvm_netd::net::{
    self, Change, Conflict, Error, RemoveOptions, TapOptions, Warning, ensure_network,
    remove_network,
};

use crate::lab::{Lab, ip, ip_json, link_names, ruleset, run};

fn ip_forward() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
        .unwrap()
        .trim()
        .to_owned()
}

fn set_ip_forward(value: &str) {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
}

#[test]
fn is_made_once_and_taken_away_without_a_trace() {
    let Some(lab) = Lab::bare("is_made_once_and_taken_away_without_a_trace", &[]) else {
        return;
    };
    set_ip_forward("0");
    let before = (
        link_names(),
        ruleset(),
        ip_json(&["route", "show", "table", "all"]),
    );

    let report = ensure_network(&lab.network).unwrap();
    let changes: Vec<String> = report.changes.iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "nftables table bridge fvm made",
            "nftables table inet fvm made",
            "bridge fvm0 made",
            "address 192.168.22.1/24 added to fvm0",
            "IPv4 forwarding turned on (net.ipv4.ip_forward)",
        ]
    );
    assert_eq!(ip_forward(), "1");
    let bridge = &ip_json(&["link", "show", "dev", "fvm0"])[0];
    let data = &bridge["linkinfo"]["info_data"];
    assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
    assert_eq!(
        (&data["stp_state"], &data["forward_delay"]),
        (&0.into(), &0.into())
    );
    assert_eq!(bridge["address"], lab.network.mac.to_string());
    assert!(bridge["flags"].as_array().unwrap().contains(&"UP".into()));
    let address = &ip_json(&["address", "show", "dev", "fvm0"])[0]["addr_info"];
    assert_eq!(
        address.as_array().unwrap().len(),
        1,
        "no IPv6 address of its own: {address}"
    );
    assert_eq!(address[0]["local"], "192.168.22.1");
    assert_eq!(address[0]["prefixlen"], 24);
    assert_eq!(address[0]["broadcast"], "192.168.22.255");

    for _ in 0..2 {
        assert_eq!(ensure_network(&lab.network).unwrap().changes, []);
    }

    let report = remove_network(
        &lab.network.bridge,
        RemoveOptions {
            disable_ip_forward: true,
        },
    );
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!(report.changes.len(), 4);
    assert_eq!(
        (
            link_names(),
            ruleset(),
            ip_json(&["route", "show", "table", "all"])
        ),
        before
    );
    assert_eq!(ip_forward(), "0");
    let again = remove_network(
        &lab.network.bridge,
        RemoveOptions {
            disable_ip_forward: true,
        },
    );
    assert!(
        again.changes.is_empty() && again.failures.is_empty(),
        "{again:?}"
    );
}

#[test]
fn forwarding_that_was_on_stays_on() {
    let Some(lab) = Lab::bare("forwarding_that_was_on_stays_on", &[]) else {
        return;
    };
    set_ip_forward("1");
    let report = ensure_network(&lab.network).unwrap();
    assert!(!report.changes.contains(&Change::IpForwardEnabled));
    remove_network(&lab.network.bridge, RemoveOptions::default());
    assert_eq!(ip_forward(), "1");
}

#[test]
fn what_differs_is_repaired_and_nothing_else() {
    let Some(lab) = Lab::new("what_differs_is_repaired_and_nothing_else", &[]) else {
        return;
    };
    net::admit(&[lab.admission(42)]).unwrap();
    let rules = ruleset();

    run("nft", &["flush", "chain", "bridge", "fvm", "from_guest"]);
    let updated = |table: &str| Change::FirewallUpdated {
        table: table.to_owned(),
    };
    assert_eq!(
        ensure_network(&lab.network).unwrap().changes,
        [updated("bridge fvm")]
    );
    assert_eq!(
        net::admitted().unwrap(),
        [lab.admission(42)],
        "VMs stay admitted"
    );

    run(
        "nft",
        &["add", "rule", "inet", "fvm", "forward-fvm0", "accept"],
    );
    assert_eq!(
        ensure_network(&lab.network).unwrap().changes,
        [updated("inet fvm")]
    );
    assert_eq!(ruleset(), rules);

    ip(&["link", "set", "fvm0", "down"]);
    ip(&["address", "add", "192.168.22.99/24", "dev", "fvm0"]);
    let changes = ensure_network(&lab.network).unwrap().changes;
    assert_eq!(
        changes.iter().map(Change::to_string).collect::<Vec<_>>(),
        [
            "bridge fvm0 configured",
            "address 192.168.22.99/24 removed from fvm0"
        ]
    );
    assert_eq!(ensure_network(&lab.network).unwrap().changes, []);
}

#[test]
fn what_is_others_stays() {
    let Some(lab) = Lab::bare("what_is_others_stays", &[]) else {
        return;
    };
    ip(&["link", "add", "br-other", "type", "bridge"]);
    ip(&[
        "link",
        "add",
        "fvmother",
        "type",
        "veth",
        "peer",
        "name",
        "fvmother-p",
    ]);
    run("nft", &["add", "table", "inet", "other"]);
    run(
        "nft",
        &[
            "add",
            "chain",
            "inet",
            "other",
            "forwarding",
            "{ type filter hook forward priority 0; policy drop; }",
        ],
    );
    run("nft", &["add", "table", "ip", "fvm"]);
    let before = (link_names(), ruleset());

    let report = ensure_network(&lab.network).unwrap();
    let dropping = Warning::ForwardPolicyDrop {
        chain: "inet other forwarding".to_owned(),
    };
    assert!(report.warnings.contains(&dropping), "{:?}", report.warnings);
    let report = remove_network(&lab.network.bridge, RemoveOptions::default());
    assert!(report.failures.is_empty());
    assert_eq!((link_names(), ruleset()), before);
}

#[test]
fn two_networks_share_the_tables() {
    let Some(lab) = Lab::new("two_networks_share_the_tables", &[]) else {
        return;
    };
    let first_rules = ruleset();
    let mut second = lab.network.clone();
    second.bridge = "fvmb-two".to_owned();
    second.subnet = "10.9.0.0/16".parse().unwrap();
    second.gateway = "10.9.0.1".parse().unwrap();
    let changes = ensure_network(&second).unwrap().changes;
    assert!(
        changes.contains(&Change::FirewallUpdated {
            table: "inet fvm".to_owned()
        }),
        "{changes:?}"
    );
    assert_eq!(ensure_network(&lab.network).unwrap().changes, []);
    assert_eq!(ensure_network(&second).unwrap().changes, []);
    remove_network(&second.bridge, RemoveOptions::default());
    assert_eq!(ruleset(), first_rules);
    assert_eq!(link_names(), ["fvm0"]);
}

fn conflicts_of(lab: &Lab) -> Vec<Conflict> {
    let before = (link_names(), ruleset());
    let error = ensure_network(&lab.network).unwrap_err();
    assert_eq!((link_names(), ruleset()), before, "nothing was changed");
    match error {
        Error::Conflicts { conflicts, .. } => conflicts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_overlap_is_refused_by_name() {
    let Some(lab) = Lab::bare("an_overlap_is_refused_by_name", &[]) else {
        return;
    };
    ip(&["link", "add", "lan0", "type", "bridge"]);
    ip(&["link", "set", "lan0", "up"]);
    ip(&["address", "add", "172.20.0.1/24", "dev", "lan0"]);
    ip(&["route", "add", "default", "dev", "lan0"]);
    ip(&["route", "add", "128.0.0.0/1", "dev", "lan0"]);
    net::check_conflicts(&lab.network).expect("a default route is in nobody's way");

    ip(&["address", "add", "192.168.22.77/28", "dev", "lan0"]);
    let found = conflicts_of(&lab);
    let address = "192.168.22.77".parse().unwrap();
    assert!(
        found.contains(&Conflict::Address {
            address,
            prefix: 28,
            link: "lan0".to_owned()
        }),
        "{found:?}"
    );
    ip(&["address", "flush", "dev", "lan0"]);
    net::check_conflicts(&lab.network).unwrap();

    ip(&["address", "add", "172.20.0.1/24", "dev", "lan0"]);
    ip(&[
        "route",
        "add",
        "192.168.0.0/16",
        "via",
        "172.20.0.9",
        "table",
        "77",
    ]);
    let route = Conflict::Route {
        destination: "192.168.0.0".parse().unwrap(),
        prefix: 16,
        link: Some("lan0".to_owned()),
    };
    assert_eq!(conflicts_of(&lab), [route]);
}

#[test]
fn a_link_of_another_kind_with_our_name_is_refused() {
    let Some(lab) = Lab::bare("a_link_of_another_kind_with_our_name_is_refused", &[]) else {
        return;
    };
    ip(&[
        "link", "add", "fvm0", "type", "veth", "peer", "name", "other",
    ]);
    assert_eq!(
        conflicts_of(&lab),
        [Conflict::Link {
            name: "fvm0".to_owned()
        }]
    );
    let report = remove_network(&lab.network.bridge, RemoveOptions::default());
    assert!(
        matches!(report.failures[..], [Error::WrongKind { .. }]),
        "{report:?}"
    );
    assert_eq!(link_names(), ["fvm0", "other"]);
}

#[test]
fn an_unusable_network_is_refused() {
    let Some(lab) = Lab::bare("an_unusable_network_is_refused", &[]) else {
        return;
    };
    for bridge in ["", "fvm*", "a b", "0123456789abcdef", "fvm\"0"] {
        let network = net::Network {
            bridge: bridge.to_owned(),
            ..lab.network.clone()
        };
        assert!(
            matches!(ensure_network(&network), Err(Error::LinkName { .. })),
            "{bridge}"
        );
    }
    for gateway in ["192.168.22.0", "192.168.22.255", "10.0.0.1"] {
        let network = net::Network {
            gateway: gateway.parse().unwrap(),
            ..lab.network.clone()
        };
        assert!(
            matches!(ensure_network(&network), Err(Error::Gateway { .. })),
            "{gateway}"
        );
    }
    assert_eq!(link_names(), [""; 0]);
}

#[test]
fn the_bridge_keeps_its_address_when_ports_come_and_go() {
    let Some(lab) = Lab::new("the_bridge_keeps_its_address_when_ports_come_and_go", &[]) else {
        return;
    };
    let mac = || ip_json(&["link", "show", "dev", "fvm0"])[0]["address"].clone();
    let before = mac();
    for vm in 20..24 {
        let guest = lab.tap_guest(vm);
        assert_eq!(mac(), before);
        guest.end();
        assert_eq!(mac(), before);
    }
    let options = TapOptions::default();
    let second = net::create_tap(Nic::new(42, 1).unwrap(), "fvm0", options).unwrap();
    assert_eq!(link_names(), ["fvm0", "fvm42.1"]);
    drop(second);
}

#[test]
fn rules_of_others_for_bridged_frames_are_reported() {
    let Some(lab) = Lab::bare("rules_of_others_for_bridged_frames_are_reported", &[]) else {
        return;
    };
    let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let warned = || {
        ensure_network(&lab.network)
            .unwrap()
            .warnings
            .contains(&Warning::BridgeCallsIptables)
    };
    if std::path::Path::new(setting).exists() {
        for (value, warns) in [("0", false), ("1", true)] {
            std::fs::write(setting, value).unwrap();
            assert_eq!(warned(), warns);
            assert_eq!(
                std::fs::read_to_string(setting).unwrap().trim(),
                value,
                "it is left as it is"
            );
        }
    } else {
        assert!(!warned());
        assert!(
            !std::path::Path::new(setting).exists(),
            "br_netfilter is not loaded by us"
        );
    }
}
