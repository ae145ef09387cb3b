//! Completion as bash does it, with the script that the package ships; and the shipped manual pages.

use crate::{
    daemon::{Answer, Daemon, json, refusal},
    fixtures::{image, new_host, vm},
    run::{Ran, run},
};
use fvm_vmm::api::{
    ApiError, ErrorKind, HostReport, ImageList, NetworkReport, ProfileList, REPORT_VERSION, VmList,
    VmState,
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn daemon() -> Daemon {
    Daemon::new(|request| std::future::ready(answer(request.uri().path())))
}

fn answer(path: &str) -> Answer {
    let version = REPORT_VERSION;
    match path {
        "/v1/vms" => json(&VmList {
            version,
            vms: vec![
                vm(40, VmState::Running),
                vm(42, VmState::Stopped),
                vm(43, VmState::Running),
            ],
        }),
        "/v1/images" => json(&ImageList {
            version,
            images: vec![image("debian"), image("fedora")],
        }),
        "/v1/profiles" => json(&ProfileList {
            version,
            profiles: Vec::new(),
        }),
        "/v1/host" => json(&HostReport {
            network: Some(NetworkReport {
                name: "fvm0".into(),
                subnet: "192.168.22.0/24".into(),
                gateway: [192, 168, 22, 1].into(),
                first_number: 40,
                last_number: 45,
                dns_trouble: None,
            }),
            ..new_host()
        }),
        _ => refusal(&ApiError::new(ErrorKind::NotFound, "no such path")),
    }
}

/// What a package ships, in a folder of the test.
fn shipped(dir: &Path) -> PathBuf {
    let share = dir.join("share");
    let ran = run(
        &dir.join("none.sock"),
        &["generate", &share.to_string_lossy()],
    );
    assert_eq!(ran.status, 0, "{ran:?}");
    share
}

/// What bash offers for these words, the last of which is being typed.
fn offered(socket: &Path, script: &Path, words: &[&str]) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_fvm")).parent().unwrap();
    let mut command = Command::new("bash");
    command
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", program.to_string_lossy()),
        )
        .env("FVM_SOCKET", socket)
        .args([
            "-c",
            r#"source "$0"; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
               _clap_complete_fvm fvm "${!#}"
               printf '%s\n' "${COMPREPLY[@]}""#,
        ])
        .arg(script)
        .args(words)
        .stdin(Stdio::null());
    let ran = Ran::of(command);
    assert_eq!(ran.status, 0, "{ran:?}");
    ran.stdout.lines().map(|line| line.trim().into()).collect()
}

#[test]
fn bash_offers_images_and_numbers_by_state() {
    let daemon = daemon();
    let script = shipped(daemon.dir()).join("bash-completion/completions/fvm");
    let offered = |words: &[&str]| offered(&daemon.socket(), &script, words);
    assert_eq!(offered(&["fvm", "stop", "4"]), ["40", "43"]);
    assert_eq!(offered(&["fvm", "start", ""])[..1], ["42"]);
    assert_eq!(
        offered(&["fvm", "delete", "40,4"]),
        ["40,40", "40,42", "40,43"]
    );
    assert_eq!(offered(&["fvm", "create", "d"]), ["debian"]);
    assert_eq!(
        offered(&["fvm", "create", "debian", "4"]),
        ["41", "44", "45"]
    );
    assert_eq!(offered(&["fvm", "image", "remove", "f"]), ["fedora"]);
    assert_eq!(offered(&["fvm", "resiz"]), ["resize"]);
}

#[test]
fn without_a_daemon_nothing_is_offered_and_nothing_said() {
    let dir = tempfile::tempdir().unwrap();
    let script = shipped(dir.path()).join("bash-completion/completions/fvm");
    let nobody = dir.path().join("none.sock");
    assert_eq!(offered(&nobody, &script, &["fvm", "stop", "4"]), [""]);
    assert_eq!(offered(&nobody, &script, &["fvm", "resiz"]), ["resize"]);
}

#[test]
fn the_package_gets_a_page_for_each_command_and_a_script_for_each_shell() {
    let dir = tempfile::tempdir().unwrap();
    let share = shipped(dir.path());
    for file in [
        "man/man1/fvm.1",
        "man/man1/fvm-image-list.1",
        "bash-completion/completions/fvm",
        "zsh/vendor-completions/_fvm",
        "fish/vendor_completions.d/fvm.fish",
    ] {
        let text = std::fs::read_to_string(share.join(file)).unwrap();
        assert!(text.contains("fvm"), "{file}");
    }
    let zsh = std::fs::read_to_string(share.join("zsh/vendor-completions/_fvm")).unwrap();
    assert!(zsh.starts_with("#compdef fvm"), "{zsh}");
}
