//! The Rust evaluator against a real JavaScript engine: the same programs, printed as text and as bytecode for the SDK's
//! interpreter, the same lanes.
//!
//! Constants are biased to the edges of 32-bit arithmetic. That the comparison can fail is shown by mutants of the printed
//! text and of the interpreter, each a mistake that an author could well make.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test says what broke by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::challenge::{Constants, Disguise, Lanes, PageOrigin, Shape, Tapes, evaluate, generate, print};
use countersign_node_proto::ConnectionId;
use serde::{Deserialize, Serialize};

const PROGRAMS: u64 = 100_000;
const MUTATED: u64 = 2_000;
const BATCH: u64 = 1_000;
const ORIGINS: [&str; 5] = [
    "https://app.example",
    "http://localhost:3000",
    "https://xn--bcher-kva.example:8443",
    "http://[::1]:8080",
    "https://a.very.long.name.of.a.host.that.goes.on.for.a.while.before.it.ends.example:65535",
];
/// Words of the tapes, besides random ones.
const EDGES: [u32; 7] = [0, 1, u32::MAX, 0x8000_0000, 0x7fff_ffff, 31, 32];
/// Mistakes of a printer: text and what it is replaced with.
const MUTANTS: [(&str, &str); 5] = [
    // Rounds past 2^53.
    ("Math.imul(", "(function(a,b){return a*b})("),
    // Rounds past 2^53 even where the result is made an integer again.
    ("Math.imul(", "(function(a,b){return(a*b)|0})("),
    // Keeps the sign.
    (">>>", ">>"),
    // Does not wrap.
    (")|0;", ");"),
    // Counts something else.
    ("===", "!=="),
];

/// Mistakes of an interpreter, in the compiled text of the SDK's.
const INTERPRETER_MUTANTS: [(&str, &str); 6] = [
    ("Math.imul(", "((a, b) => a * b)("),
    ("Math.imul(", "((a, b) => (a * b) | 0)("),
    (">>>", ">>"),
    // Neither `SELECT` nor `EQ` as it should be.
    ("!== 0 ? x : y", "=== 0 ? x : y"),
    // The words of a tape the wrong way round.
    ("getInt32(4 * word, false)", "getInt32(4 * word, true)"),
    // A fold that forgets the length.
    (" ^ tape.length", ""),
];

/// One case: what the engine gets, and what the reference computes.
#[derive(Serialize)]
struct Case {
    source: String,
    bytecode: String,
    /// Base64url.
    server: String,
    client: Option<String>,
    connection: String,
    thumbprint: Option<String>,
    origin: &'static str,
    #[serde(skip)]
    lanes: Lanes,
}

/// What the engine says of one case in both forms.
#[derive(Debug, Deserialize)]
struct Both {
    source: Ran,
    vm: Ran,
}

/// What the engine says of one form of a case.
#[derive(Debug, Deserialize)]
struct Ran {
    /// Anything that a mutant may make of them.
    #[serde(default)]
    lanes: Vec<serde_json::Value>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    origin: String,
    error: Option<String>,
}

impl Ran {
    /// Is this exactly what the reference computed?
    fn agrees(&self, case: &Case) -> bool {
        self.lanes_agree(case) && self.key == case.lanes.to_key() && self.origin == case.origin
    }

    /// Are the lanes those of the reference? They are all that an interpreter gives.
    fn lanes_agree(&self, case: &Case) -> bool {
        let lanes: Vec<Option<i64>> = self.lanes.iter().map(serde_json::Value::as_i64).collect();
        let expected: Vec<Option<i64>> = case.lanes.values().iter().map(|lane| Some(i64::from(*lane))).collect();
        self.error.is_none() && lanes == expected
    }
}

/// One engine process, fed by lines; a thread of its own reads the results, so that neither side waits on a full pipe.
struct Engine {
    process: Child,
    input: Option<ChildStdin>,
    results: Receiver<Vec<Both>>,
}

impl Engine {
    /// An engine with the interpreter as it is, or with a mistake in it.
    fn start(mutant: Option<(&str, &str)>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/js/challenge_eval.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .args(mutant.into_iter().flat_map(|(text, mistake)| [text.to_owned(), mistake.to_owned()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is needed for this test: install Node.js 20 or newer");
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, results) = sync_channel(8);
        std::thread::spawn(move || {
            for line in output.lines() {
                let ran = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(ran).is_err() {
                    break;
                }
            }
        });
        let input = process.stdin.take();
        Self { process, input, results }
    }

    fn send(&mut self, cases: &[Case]) {
        let mut line = serde_json::to_vec(cases).unwrap();
        line.push(b'\n');
        self.input.as_mut().unwrap().write_all(&line).unwrap();
    }

    /// Runs every batch, one ahead of its results, and hands each case to `judge` with what became of it.
    fn run(mut self, batches: impl Iterator<Item = Vec<Case>>, mut judge: impl FnMut(&Case, &Both)) {
        let mut ahead: Option<Vec<Case>> = None;
        let mut settle = |engine: &Self, cases: Vec<Case>| {
            let ran = engine.results.recv().expect("the engine ended early");
            assert_eq!(ran.len(), cases.len());
            cases.iter().zip(&ran).for_each(|(case, ran)| judge(case, ran));
        };
        for cases in batches {
            self.send(&cases);
            if let Some(before) = ahead.replace(cases) {
                settle(&self, before);
            }
        }
        if let Some(last) = ahead {
            settle(&self, last);
        }
        drop(self.input.take());
        assert!(self.process.wait().unwrap().success());
    }
}

/// A small generator for what surrounds the programs; SplitMix64.
struct Stream(u64);

impl Stream {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Words, half of them from the edges.
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for word in bytes.chunks_mut(4) {
            let drawn = self.next();
            let edge = EDGES[(drawn >> 8) as usize % EDGES.len()];
            let value = if drawn & 1 == 0 { edge } else { (drawn >> 32) as u32 };
            word.copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }
}

/// The case of a number: the same one in every run.
fn case(number: u64) -> Case {
    let mut stream = Stream(number);
    let operations = match number % 16 {
        0 => 128,
        1..4 => 64,
        _ => 32 + (stream.next() % 24) as usize,
    };
    // The seed is spread evenly; the tapes are not.
    let mut seed = [0; 32];
    seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&stream.next().to_be_bytes()));
    let program = generate(&seed, Shape::new(operations, Constants::Edges).unwrap()).unwrap();
    let origin = ORIGINS[(stream.next() % ORIGINS.len() as u64) as usize];
    let page = PageOrigin::of_handshake(Some(origin)).unwrap();
    let (server, client, thumbprint) = (stream.bytes(), stream.bytes(), stream.bytes());
    let connection = ConnectionId::from_bytes(stream.bytes());
    let tapes = Tapes {
        server_nonce: &server,
        client_nonce: (!number.is_multiple_of(3)).then_some(&client),
        connection: &connection,
        thumbprint: number.is_multiple_of(5).then_some(&thumbprint),
        origin,
    };
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Case {
        source: print(&program, &tapes, &page),
        bytecode: text(&Disguise::draw(&seed).encode(&program)),
        server: text(&server),
        client: tapes.client_nonce.map(|nonce| text(nonce)),
        connection: text(connection.as_bytes()),
        thumbprint: tapes.thumbprint.map(|thumbprint| text(thumbprint)),
        origin,
        lanes: evaluate(&program, &tapes).unwrap(),
    }
}

fn batches(count: u64) -> impl Iterator<Item = Vec<Case>> {
    (0..count / BATCH).map(|batch| (batch * BATCH..(batch + 1) * BATCH).map(case).collect())
}

#[test]
fn javascript_and_rust_compute_the_same_lanes() {
    let started = Instant::now();
    let (mut compared, mut mismatches) = (0_u64, 0_u64);
    Engine::start(None).run(batches(PROGRAMS), |case, ran| {
        compared += 1;
        if !ran.source.agrees(case) || !ran.vm.lanes_agree(case) {
            mismatches += 1;
            println!("mismatch: {ran:?}, expected {:?}\n{}", case.lanes.values(), case.source);
        }
    });
    println!("{compared} programs in both forms, {mismatches} mismatches, {:?}", started.elapsed());
    assert_eq!((compared, mismatches), (PROGRAMS, 0));
}

#[test]
fn mutants_of_the_printer_are_caught() {
    for (text, mistake) in MUTANTS {
        let mutated = batches(MUTATED).map(|mut cases| {
            cases.iter_mut().for_each(|case| case.source = case.source.replace(text, mistake));
            cases
        });
        let mut caught = 0;
        Engine::start(None).run(mutated, |case, ran| caught += u64::from(!ran.source.agrees(case)));
        println!("`{text}` as `{mistake}`: caught by {caught} of {MUTATED} programs");
        assert!(caught > MUTATED / 20, "`{text}` as `{mistake}` caught by {caught} of {MUTATED} only");
    }
}

#[test]
fn mutants_of_the_interpreter_are_caught() {
    for (text, mistake) in INTERPRETER_MUTANTS {
        let mut caught = 0;
        Engine::start(Some((text, mistake))).run(batches(MUTATED), |case, ran| caught += u64::from(!ran.vm.lanes_agree(case)));
        println!("`{text}` as `{mistake}`: caught by {caught} of {MUTATED} programs");
        assert!(caught > MUTATED / 20, "`{text}` as `{mistake}` caught by {caught} of {MUTATED} only");
    }
}
