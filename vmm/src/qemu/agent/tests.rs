//! What a guest may say, honest or not.

use super::*;
use std::io::{BufRead, BufReader};
use std::thread;

const LIMIT: Duration = Duration::from_secs(10);
/// For what is never answered: as long as a loaded machine may take for what is.
const SHORT: Duration = Duration::from_millis(300);

/// A guest that sends `before`, answers the synchronisation, and then each line with the next of `answers`.
fn guest(before: &'static [u8], answers: Vec<Vec<u8>>) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    thread::spawn(move || {
        let mut reader = BufReader::new(theirs.try_clone().expect("clone"));
        let mut theirs = theirs;
        let mut line = Vec::new();
        let _ = reader.read_until(b'\n', &mut line);
        assert_eq!(
            line[0], DELIMITER,
            "what the agent was sent before is not ended"
        );
        let command: Value = serde_json::from_slice(&line[1..]).expect("a command");
        let _ = theirs.write_all(before);
        let _ = theirs.write_all(&[DELIMITER]);
        let _ = writeln!(theirs, "{}", json!({"return": command["arguments"]["id"]}));
        for answer in answers {
            line.clear();
            if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return;
            }
            let _ = theirs.write_all(&answer);
        }
        // Silent, but there, until we leave.
        let _ = io::copy(&mut reader, &mut io::sink());
    });
    ours
}

fn agent(answers: &[&str]) -> Agent {
    let answers = answers
        .iter()
        .map(|answer| format!("{answer}\n").into_bytes())
        .collect();
    Agent::synchronise(guest(b"", answers), LIMIT).expect("an agent")
}

#[test]
fn what_an_earlier_client_left_is_read_past() {
    let left = b"{\"return\":{}}\n\xff{\"return\":1}\n\xff\xffnonsense\n{\"ret";
    let answer = b"{\"new\":[1],\"return\":{}}\n".to_vec();
    let mut agent = Agent::synchronise(guest(left, vec![answer]), LIMIT).expect("an agent");
    agent.ping(LIMIT).expect("an answer");
}

#[test]
fn each_command_has_its_answer() {
    let mut agent = agent(&[
        r#"{"return":2}"#,
        r#"{"return":"frozen"}"#,
        r#"{"return":2}"#,
        r#"{"return":{"paths":[{"path":"/","trimmed":4096,"minimum":0},{"path":"/x","error":"no\nway"}],"new":1}}"#,
        r#"{"return":1700000000000000000}"#,
        r#"{"return":{}}"#,
        r#"{"return":[{"name":"lo"},{"name":"eth0","hardware-address":"52:54:00:00:00:2a","statistics":{},
            "ip-addresses":[{"ip-address":"192.168.22.42","prefix":24,"ip-address-type":"ipv4"}]}]}"#
            .replace('\n', " ").as_str(),
    ]);
    assert_eq!(agent.freeze(LIMIT).expect("a count"), 2);
    assert_eq!(
        agent.freeze_state(LIMIT).expect("a state"),
        FreezeState::Frozen
    );
    assert_eq!(agent.thaw(LIMIT).expect("a count"), 2);
    let trimmed = agent.trim(LIMIT).expect("a list");
    assert_eq!(trimmed[0].result, Ok(4096));
    assert_eq!(trimmed[1].result, Err("no\u{fffd}way".to_owned()));
    assert_eq!(
        agent.time(LIMIT).expect("a time"),
        1_700_000_000_000_000_000
    );
    agent
        .set_time(std::time::UNIX_EPOCH + Duration::from_secs(1), LIMIT)
        .expect("set");
    let cards = agent.interfaces(LIMIT).expect("a list");
    assert_eq!(cards[0].addresses, Vec::<String>::new());
    assert_eq!(cards[1].addresses, ["192.168.22.42"]);
}

#[test]
fn a_program_is_asked_for_until_it_has_ended() {
    let mut agent = agent(&[
        r#"{"return":{"pid":7}}"#,
        r#"{"return":{"exited":false}}"#,
        r#"{"return":{"exited":true,"exitcode":3,"out-data":"Zm9v","err-data":"b2g="}}"#,
        r#"{"return":{"exited":true,"signal":9,"err-truncated":true}}"#,
        r#"{"return":{"exited":true,"exitcode":0,"out-data":"Z m"}}"#,
    ]);
    let arguments = ["-c".to_owned(), "exit 3".to_owned()];
    let pid = agent.exec("/bin/sh", &arguments, LIMIT).expect("a pid");
    assert_eq!(agent.exec_status(pid, LIMIT).expect("a state"), None);
    let expected = Exec {
        status: Some(3),
        signal: None,
        output: b"foo".to_vec(),
        errors: b"oh".to_vec(),
        truncated: false,
    };
    let ended = agent.exec_status(pid, LIMIT).expect("an end");
    assert_eq!(ended, Some(expected));
    let killed = agent.exec_status(pid, LIMIT).expect("an end").expect("one");
    assert_eq!((killed.status, killed.signal), (None, Some(9)));
    assert!(killed.truncated && killed.output.is_empty());
    agent.exec_status(pid, LIMIT).expect_err("no base64");
}

#[test]
fn hostile_answers_are_errors_and_nothing_worse() {
    let deep = format!("{{\"return\":{}", "[".repeat(100_000));
    let bell = "{\"error\":{\"desc\":\"\\u001b[2J\\u0007\"}}";
    for answer in [
        "",
        "[]",
        "3",
        "{}",
        "{\"error\":3}",
        "{\"return\":",
        &deep,
        "\u{ff}",
    ] {
        let error = agent(&[answer]).freeze(LIMIT).expect_err(answer);
        assert!(matches!(error, AgentError::Malformed { .. }), "{error}");
    }
    for answer in ["{\"return\":{}}", "{\"return\":-1}", "{\"return\":\"1\"}"] {
        let error = agent(&[answer]).freeze(LIMIT).expect_err(answer);
        assert!(matches!(error, AgentError::Malformed { .. }), "{error}");
    }
    let error = agent(&[bell]).freeze(LIMIT).expect_err("refused");
    assert!(matches!(error, AgentError::Refused { .. }), "{error}");
    assert!(
        !error.to_string().chars().any(char::is_control),
        "{error:?}"
    );
}

#[test]
fn a_line_without_end_and_a_flood_have_one() {
    let endless = vec![b'x'; MAX_LINE + (64 << 10)];
    let mut agent = Agent::synchronise(guest(b"", vec![endless]), LIMIT).expect("an agent");
    let error = agent.ping(LIMIT).expect_err("no end");
    assert!(matches!(error, AgentError::Malformed { .. }), "{error}");

    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    let flood = thread::spawn(move || while theirs.write_all(&[b'x'; 4096]).is_ok() {});
    let error = Agent::synchronise(ours, LIMIT).expect_err("nothing but noise");
    assert!(matches!(error, AgentError::Malformed { .. }), "{error}");
    flood.join().expect("it has seen that nobody listens");
}

#[test]
fn silence_and_an_end_are_told_apart() {
    let (ours, _theirs) = UnixStream::pair().expect("a pair");
    let error = Agent::synchronise(ours, SHORT).expect_err("nobody there");
    assert!(matches!(error, AgentError::Timeout { .. }), "{error}");
    let error = agent(&[]).ping(SHORT).expect_err("it has fallen silent");
    assert!(matches!(error, AgentError::Timeout { .. }), "{error}");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(theirs);
    let error = Agent::synchronise(ours, LIMIT).expect_err("gone");
    assert!(matches!(error, AgentError::Closed { .. }), "{error}");
}
