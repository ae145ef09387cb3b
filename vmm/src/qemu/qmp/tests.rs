//! What QEMU may say, honest or not.

use super::*;
use std::io::{BufRead, BufReader};
use std::thread;

const LIMIT: Duration = Duration::from_secs(10);
const GREETING: &str =
    r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":2,"major":7},"new":1},"capabilities":[]}}"#;

/// A peer that greets, then answers each line that comes with the next of `answers`.
///
/// `ID` in an answer stands for the id of the command; the peer closes when they are used up.
fn peer(answers: Vec<String>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    thread::spawn(move || {
        let mut lines = BufReader::new(theirs.try_clone().expect("clone")).lines();
        let mut theirs = theirs;
        let _ = writeln!(theirs, "{GREETING}");
        for answer in answers {
            let Some(Ok(line)) = lines.next() else { return };
            let command: Value = serde_json::from_str(&line).expect("a command");
            let _ = writeln!(
                theirs,
                "{}",
                answer.replace("ID", &command["id"].to_string())
            );
        }
    });
    ours
}

fn client(answers: &[&str]) -> Client {
    let ready = [r#"{"return":{},"id":ID}"#].iter().chain(answers);
    let answers = ready.map(|answer| (*answer).to_owned()).collect();
    Client::handshake(peer(answers), LIMIT).expect("a greeting")
}

#[test]
fn events_between_are_kept_and_unknown_fields_passed_over() {
    let mut client = client(&[
        "{\"event\":\"NEVER_HEARD_OF\",\"x\":1}\n{\"event\":\"STOP\",\"data\":{\"a\":[1]}}\n\
         {\"return\":{},\"id\":0}\n{\"return\":{\"status\":\"paused\",\"running\":false,\"n\":1},\"id\":ID}",
    ]);
    assert_eq!(client.version(), Version { major: 7, minor: 2 });
    let status = client.status(LIMIT).expect("a status");
    assert_eq!((status.state.as_str(), status.running), ("paused", false));
    let first = client.next_event(LIMIT).expect("alive").expect("an event");
    assert_eq!(first.name, "NEVER_HEARD_OF");
    let second = client.next_event(LIMIT).expect("alive").expect("an event");
    assert_eq!(second.data, json!({"a": [1]}));
    assert!(matches!(
        client.next_event(LIMIT),
        Err(QmpError::Closed { .. })
    ));
}

#[test]
fn a_refusal_is_told_in_bounded_printable_words() {
    let long = "x".repeat(5000);
    let answer =
        format!(r#"{{"error":{{"class":"GenericError","desc":"\u001b[31m{long}"}},"id":ID}}"#);
    match client(&[&answer]).cont(LIMIT) {
        Err(QmpError::Refused { description, .. }) => {
            assert!(description.starts_with('\u{fffd}'));
            assert_eq!(description.chars().count(), MAX_WORDS);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn silence_rubbish_and_endless_lines_end() {
    let short = Duration::from_millis(50);
    let (silent, _kept) = UnixStream::pair().expect("a pair");
    assert!(matches!(
        Client::handshake(silent, short),
        Err(QmpError::Timeout { .. })
    ));

    assert!(matches!(
        client(&["[1]"]).stop(LIMIT),
        Err(QmpError::Malformed { .. })
    ));
    assert!(matches!(
        client(&["rubbish"]).stop(LIMIT),
        Err(QmpError::Malformed { .. })
    ));

    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    thread::spawn(move || while theirs.write_all(&[b' '; 1 << 16]).is_ok() {});
    assert!(matches!(
        Client::handshake(ours, LIMIT),
        Err(QmpError::Malformed { .. })
    ));
}

#[test]
fn quitting_before_the_answer_is_no_error() {
    assert!(client(&[]).quit(LIMIT).is_ok());
}

#[test]
fn connecting_where_nobody_listens_names_the_path() {
    let error = Client::connect(Path::new("/nowhere/qmp"), LIMIT).expect_err("nobody");
    assert!(error.to_string().contains("/nowhere/qmp"));
}

#[test]
fn a_flood_of_events_does_not_outlast_the_wait() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    thread::spawn(move || {
        let mut lines = BufReader::new(theirs.try_clone().expect("clone")).lines();
        let mut theirs = theirs;
        let _ = writeln!(theirs, "{GREETING}");
        let _ = lines.next();
        let _ = writeln!(theirs, r#"{{"return":{{}},"id":1}}"#);
        let flood = r#"{"event":"X"}"#.to_owned() + "\n";
        while theirs.write_all(flood.repeat(1000).as_bytes()).is_ok() {}
    });
    let mut client = Client::handshake(ours, LIMIT).expect("a greeting");
    let answer = client.cont(Duration::from_millis(200));
    assert!(matches!(answer, Err(QmpError::Timeout { .. })));
    assert!(client.events.len() <= MAX_EVENTS);
}

#[test]
fn a_disk_grows_only_if_it_has_to() {
    let nodes = r#"{"return":[{"node-name":"disk-sdb","image":{"virtual-size":1}},{"x":1},
        {"node-name":"disk-sda","image":{"virtual-size":4096}}],"id":ID}"#
        .replace('\n', "");
    let mut client = client(&[
        &nodes,
        &nodes,
        r#"{"return":{},"id":ID}"#,
        &nodes,
        r#"{"return":5,"id":ID}"#,
    ]);
    client
        .grow_disk("disk-sda", 4096, LIMIT)
        .expect("nothing to do");
    client
        .grow_disk("disk-sda", 8192, LIMIT)
        .expect("a larger disk");
    for nothing_known in ["disk-sdc", "disk-sda"] {
        let error = client.grow_disk(nothing_known, 8192, LIMIT);
        assert!(
            matches!(error, Err(QmpError::Malformed { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn only_a_port_that_qemu_calls_open_is() {
    let devices = r#"{"return":[{"label":"charchannel1","frontend-open":true},
        {"label":"charchannel0","frontend-open":OPEN},3],"id":ID}"#
        .replace('\n', "");
    let answers = ["true", "false", "\"true\""].map(|open| devices.replace("OPEN", open));
    let mut client = client(&answers.each_ref().map(String::as_str));
    for expected in [true, false, false] {
        assert_eq!(
            client
                .is_port_open("charchannel0", LIMIT)
                .expect("an answer"),
            expected
        );
    }
}

#[test]
fn keys_and_pictures_are_asked_for_in_qemus_words() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let peer = thread::spawn(move || {
        let lines = BufReader::new(theirs.try_clone().expect("clone")).lines();
        writeln!(theirs, "{GREETING}").expect("written");
        lines
            .map_while(Result::ok)
            .map(|line| {
                let command: Value = serde_json::from_str(&line).expect("a command");
                writeln!(theirs, r#"{{"return":{{}},"id":{}}}"#, command["id"]).expect("written");
                command
            })
            .collect::<Vec<_>>()
    });
    let mut client = Client::handshake(ours, LIMIT).expect("a greeting");
    client
        .send_key(&["ctrl", "alt", "delete"], LIMIT)
        .expect("pressed");
    client
        .screendump(Path::new("/run/x.png"), LIMIT)
        .expect("taken");
    drop(client);
    let asked = peer.join().expect("no panic");
    assert_eq!(asked[1]["execute"], "send-key");
    let keys = json!([
        {"type": "qcode", "data": "ctrl"},
        {"type": "qcode", "data": "alt"},
        {"type": "qcode", "data": "delete"},
    ]);
    assert_eq!(asked[1]["arguments"]["keys"], keys);
    assert_eq!(asked[2]["execute"], "screendump");
    assert_eq!(
        asked[2]["arguments"],
        json!({"filename": "/run/x.png", "format": "png"})
    );
}
