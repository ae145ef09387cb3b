//! `fvm exec`, with an `ssh` of the test's own.

use crate::{
    afar::with_ssh,
    daemon::{Daemon, json},
    fixtures::vm,
    run::Ran,
};
use fvm_vmm::api::{REPORT_VERSION, VmList, VmState};

/// What the command does in each VM: 42 answers last, 43 fails, 44 cannot be reached.
const GUESTS: &str = r#"
case "$*" in *BatchMode=yes*) ;; *) exit 9 ;; esac
here=$(dirname "$0")
while [ "$1" != -- ]; do shift; done
address=$2
shift 2
case $address in
*.42) while [ ! -e "$here/others-are-done" ]; do sleep 0.01; done; echo "ran $*"; echo twice ;;
*.43) echo half; echo 'it broke' >&2; touch "$here/others-are-done"; exit 3 ;;
*.44) echo 'no route to host' >&2; exit 255 ;;
esac
"#;

fn run(arguments: &[&str]) -> Ran {
    let list = VmList {
        version: REPORT_VERSION,
        vms: vec![
            vm(42, VmState::Running),
            vm(43, VmState::Running),
            vm(44, VmState::Running),
            vm(45, VmState::Stopped),
        ],
    };
    let daemon = Daemon::always(move || json(&list));
    let mut command = daemon.fvm(arguments);
    command.env("PATH", with_ssh(daemon.dir(), GUESTS));
    Ran::of(command)
}

#[test]
fn it_runs_at_the_same_time_and_is_shown_by_number() {
    let ran = run(&["exec", "42-43", "--", "uname", "-a"]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert_eq!(ran.stdout, "42: ran uname -a\n42: twice\n43: half\n");
    assert_eq!(
        ran.stderr,
        "43: it broke\nerror: 43: the command ended with exit status 3\n"
    );
}

#[test]
fn the_exit_status_is_the_worst() {
    for (vms, status, words) in [
        ("43,44", 255, "fvm ssh 44"),
        ("43,45", 4, "VM 45 is not running"),
        ("46,43", 3, "no VM 46"),
    ] {
        let ran = run(&["exec", vms, "--", "true"]);
        assert_eq!(ran.status, status, "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
        // The others ran all the same.
        assert!(ran.stdout.contains("43: half"), "{ran:?}");
    }
    assert_eq!(run(&["exec", "43"]).status, 2);
}

#[test]
fn json_has_the_streams_apart() {
    let ran = run(&["exec", "43,45", "--json", "--", "true"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["outcomes"][0]["status"], 3);
    assert_eq!(report["outcomes"][0]["stdout"], "half\n");
    assert_eq!(report["outcomes"][0]["stderr"], "it broke\n");
    assert_eq!(report["outcomes"][1]["vm"], 45);
    assert_eq!(report["outcomes"][1]["error"]["kind"], "refused");
    assert_eq!((ran.status, ran.stderr.as_str()), (4, ""));
}
