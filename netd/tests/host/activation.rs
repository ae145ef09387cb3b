//! Started by a service manager, with the control socket passed by descriptor (sd_listen_fds(3)).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fvm_netd::control::Client;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::lab::SOON;

/// A listening socket of this type.
fn listener(path: &Path, kind: SockType) -> OwnedFd {
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &UnixAddr::new(path).unwrap(),
    )
    .unwrap();
    listen(&fd, Backlog::new(8).unwrap()).unwrap();
    fd
}

/// The program with this socket as its descriptor 3, as the service manager passes it.
fn activated(socket: Stdio) -> Command {
    let mut command = Command::new("sh");
    let run = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\"";
    command.args(["-c", run, env!("CARGO_BIN_EXE_fvm-netd")]);
    command
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn connections_wait_for_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("netd.sock");
    let socket = listener(&path, SockType::SeqPacket);
    // The client is there first, as fvmd is when it starts fvm-netd by connecting to it.
    let connecting = {
        let path = path.clone();
        std::thread::spawn(move || Client::connect(&path, SOON))
    };
    let mut process = activated(socket.try_clone().unwrap().into())
        .spawn()
        .unwrap();
    let client = connecting.join().unwrap().unwrap();
    assert_eq!(client.hello().ports, 0);
    process.kill().unwrap();
    process.wait().unwrap();
    // The socket outlives it: the next one serves whoever connected in between.
    let connecting = std::thread::spawn(move || Client::connect(&path, SOON));
    let mut process = activated(socket.into()).spawn().unwrap();
    connecting.join().unwrap().unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_socket_of_another_type_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let socket = listener(&dir.path().join("netd.sock"), SockType::Stream);
    let text = complaint(&activated(socket.into()).output().unwrap());
    assert!(text.contains("SOCK_SEQPACKET"), "{text}");
}

#[test]
fn without_a_socket_it_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_fvm-netd"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = complaint(&output);
    assert!(
        text.contains("fvm-netd.socket") && text.contains("--listen"),
        "{text}"
    );
}
