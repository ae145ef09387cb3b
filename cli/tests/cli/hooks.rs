//! Hooks: when they are run, what they are told, and what follows from their failing.

use crate::{
    daemon::{Answer, Daemon, json, lines, whole},
    fixtures::{batch, new_host, success, vm},
    run::Ran,
};
use fvm_vmm::api::{
    Action, Hook, HookKind, HostReport, NetworkReport, ProfileReport, REPORT_VERSION, VmList,
    VmOutcome, VmReport, VmState, routes::DISK_PROTOCOL,
};
use hyper::{Request, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use std::fs;
use tokio::io::AsyncReadExt;

fn made() -> VmReport {
    VmReport {
        profile: Some("web".to_owned()),
        ..vm(42, VmState::Stopped)
    }
}

/// A daemon that makes, lends and deletes VM 42, whose profile has both hooks.
async fn answer(request: Request<Incoming>) -> Answer {
    let outcome = VmOutcome {
        report: Some(made()),
        ..success(42)
    };
    match request.uri().path() {
        "/v1/vms/create" => lines(&[], Ok(batch(Action::Create, vec![outcome]))),
        "/v1/vms/delete" => lines(&[], Ok(batch(Action::Delete, vec![outcome]))),
        "/v1/vms" => json(&VmList {
            version: REPORT_VERSION,
            vms: vec![made()],
        }),
        "/v1/host" => json(&HostReport {
            network: Some(NetworkReport {
                name: "fvm0".to_owned(),
                subnet: "127.0.22.0/24".to_owned(),
                gateway: [127, 0, 22, 1].into(),
                first_number: 20,
                last_number: 220,
                dns_trouble: None,
            }),
            ..new_host()
        }),
        "/v1/profiles/web" => json(&ProfileReport {
            version: REPORT_VERSION,
            name: "web".parse().unwrap(),
            image: "debian".parse().unwrap(),
            template: None,
            memory_mib: None,
            cpus: None,
            hooks: [HookKind::Create, HookKind::Delete]
                .map(|when| Hook {
                    when,
                    script: format!("echo the profile has {when}d $VM_NAME\n"),
                })
                .into(),
            owner_uid: 0,
        }),
        "/v1/vms/42/disk" => {
            assert_eq!(request.headers()[header::UPGRADE], DISK_PROTOCOL);
            tokio::spawn(async move {
                let mut loan = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                let mut said = Vec::new();
                loan.read_to_end(&mut said).await.unwrap();
                assert_eq!(said, b"");
            });
            let mut answer = whole(StatusCode::SWITCHING_PROTOCOLS, "");
            let headers = answer.headers_mut();
            headers.insert(header::CONNECTION, "Upgrade".parse().unwrap());
            headers.insert(header::UPGRADE, DISK_PROTOCOL.parse().unwrap());
            answer
        }
        other => panic!("nobody asks for {other}"),
    }
}

fn run(script: &str, command: &[&str]) -> (Ran, Vec<String>) {
    let daemon = Daemon::new(answer);
    let hook = daemon.dir().join("hook.sh");
    fs::write(&hook, script).unwrap();
    let mut fvm = daemon.fvm(command);
    if !script.is_empty() {
        fvm.arg("--hook").arg(&hook);
    }
    let ran = Ran::of(fvm);
    (ran, daemon.requests())
}

#[test]
fn a_create_hook_is_told_of_its_vm_and_has_its_disk_meanwhile() {
    let script = "\
        echo \"$VM_NAME $VM_NUMBER=$VM_HEX_NUMBER $vm_number $IMAGE_NAME $image_name $VM_MAC\"
        echo \"/dev/$THINPOOL_VG/$VM_NAME $VM_PREFIX $LIBVIRT_NETWORK $SUBNET_NUMBER\"
        virsh --connect qemu:///system domstate $VM_NAME
        virsh -c qemu:///system list --all --name
        virsh list --all | tail -n 1
        virsh domstate nobody; echo $?";
    let (ran, requests) = run(script, &["create", "debian", "42"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.stdout, "42  created  fvm-debian-42  127.0.22.42\n");
    assert_eq!(
        ran.stderr,
        "\
fvm-debian-42 42=2a 42 debian debian 52:54:00:00:00:2a
/dev/fvm/fvm-debian-42 fvm- fvm0 22
shut off
fvm-debian-42
 -    fvm-debian-42                  shut off
error: failed to get domain 'nobody'
3
"
    );
    assert_eq!(
        requests[..3],
        ["POST /v1/vms/create", "GET /v1/host", "GET /v1/vms/42/disk"]
    );
}

#[test]
fn a_failing_create_hook_undoes_the_create_and_shows_its_output() {
    let (ran, requests) = run("echo it cannot be; exit 3", &["create", "debian", "42"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("it cannot be\nerror: "), "{ran:?}");
    assert!(ran.stderr.contains("hook.sh ended with exit status: 3"));
    assert!(ran.stderr.contains("hint: nothing was created"), "{ran:?}");
    assert_eq!(requests.last().unwrap(), "POST /v1/vms/delete");
}

#[test]
fn a_profiles_hooks_are_run_unless_told_otherwise() {
    let (ran, _) = run("", &["create", "web", "42"]);
    assert_eq!(ran.stderr, "the profile has created fvm-debian-42\n");
    let (ran, _) = run("", &["delete", "42"]);
    assert_eq!(ran.stderr, "the profile has deleted fvm-debian-42\n");
    assert_eq!(ran.stdout, "42  deleted\n");
    for command in [["create", "web", "42"], ["delete", "42", "43"]] {
        let command = [&command[..], &["--no-hooks"]].concat();
        let (ran, requests) = run("", &command);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
        assert_eq!(requests.len(), 1, "{requests:?}");
    }
}

#[test]
fn an_images_hook_is_a_file_of_the_user() {
    let daemon = Daemon::new(answer);
    let hooks = daemon.dir().join(".config/fvm/hooks/debian");
    fs::create_dir_all(&hooks).unwrap();
    fs::write(hooks.join("create"), "echo the image was here").unwrap();
    let mut fvm = daemon.fvm(&["create", "debian", "42"]);
    fvm.env("HOME", daemon.dir());
    // The profile's comes before it.
    assert_eq!(
        Ran::of(fvm).stderr,
        "the profile has created fvm-debian-42\n"
    );
    let daemon = Daemon::new(|request| async {
        if request.uri().path() == "/v1/vms/create" {
            let mut made = success(42);
            made.report = Some(vm(42, VmState::Stopped));
            return lines(&[], Ok(batch(Action::Create, vec![made])));
        }
        answer(request).await
    });
    let hooks = daemon.dir().join(".config/fvm/hooks/debian");
    fs::create_dir_all(&hooks).unwrap();
    fs::write(hooks.join("create"), "echo the image was here").unwrap();
    let mut fvm = daemon.fvm(&["create", "debian", "42"]);
    fvm.env("HOME", daemon.dir());
    assert_eq!(Ran::of(fvm).stderr, "the image was here\n");
}

#[test]
fn a_failing_delete_hook_is_told_though_it_is_too_late() {
    let (ran, requests) = run("exit 1", &["delete", "42"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("VM 42 is deleted, but "), "{ran:?}");
    assert_eq!(requests, ["POST /v1/vms/delete", "GET /v1/host"]);
}

#[test]
fn a_hook_that_is_not_there_changes_nothing() {
    for command in [["create", "debian", "42"], ["delete", "42", "43"]] {
        let command = [&command[..], &["--hook", "/nowhere/hook.sh"]].concat();
        let (ran, requests) = run("", &command);
        assert_eq!(ran.status, 3, "{ran:?}");
        assert!(requests.is_empty(), "{requests:?}");
    }
}
