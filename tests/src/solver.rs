//! A JavaScript engine that evaluates challenge programs, as a page does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

/// The script that the engine runs.
const SCRIPT: &str = include_str!("../js/solver.js");

/// One engine, kept for the life of the test process; it ends when its input does.
struct Engine {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a page at `origin` gets from calling `program`.
///
/// # Panics
/// If there is no `node`, or the program fails.
#[must_use]
pub fn solve(program: &str, origin: &str) -> Value {
    static ENGINE: OnceLock<Mutex<Engine>> = OnceLock::new();
    let mut engine = ENGINE.get_or_init(|| Mutex::new(Engine::start())).lock().unwrap_or_else(PoisonError::into_inner);
    let answer = engine.ask(&json!({ "program": program, "origin": origin }));
    match answer.get("ok") {
        Some(value) => value.clone(),
        None => panic!("the program failed: {answer}"),
    }
}

impl Engine {
    fn start() -> Self {
        let mut child = Command::new("node")
            .args(["-e", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`node` (18 or newer) is on the PATH; tests/run installs it");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { _child: child, input, output }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").expect("the engine listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the engine answers");
        serde_json::from_str(&line).expect("the engine answers in JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_its_page_and_the_keys() {
        let program = "function(keys){var k=keys().keys;return {origin:location.origin,domain:document.domain,n:k.length};}";
        let expected = json!({ "origin": "http://localhost:3000", "domain": "localhost", "n": 2 });
        assert_eq!(solve(program, "http://localhost:3000"), expected);
    }
}
