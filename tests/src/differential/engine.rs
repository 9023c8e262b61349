//! JavaScript engines behind one call.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::corpus::Case;
use super::page::Chromium;
use super::{Form, Mutant};

/// The interpreter as pages load it.
const INTERPRETER: &str = include_str!("../../../broker/web/sdk/dist/modules/vm.js");
/// What runs cases in any engine.
const RUNNER: &str = include_str!("../../js/differential.js");
/// What feeds it in Node.js.
const NODE: &str = include_str!("../../js/differential_node.js");

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// V8 in Node.js, as a process fed by lines.
    Node,
    /// V8 in a headless Chromium, in a page.
    Chromium,
    /// QuickJS in this process: an engine of other authors, without a just-in-time compiler.
    QuickJs,
}

/// Something that runs cases.
pub trait Engine {
    /// A JSON array of cases becomes a JSON array of [`Both`].
    fn run(&mut self, cases: &str) -> String;
}

/// What the engine says of one case in both forms.
#[derive(Debug, Deserialize)]
pub struct Both {
    /// Of the printed function.
    pub source: Ran,
    /// Of the bytecode.
    pub vm: Ran,
}

/// What the engine says of one form of a case.
#[derive(Debug, Deserialize)]
pub struct Ran {
    /// Anything that a mutant may make of them.
    #[serde(default)]
    lanes: Vec<Value>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    origin: String,
    error: Option<String>,
}

impl Ran {
    /// Is this exactly what the reference computed? Lanes are all that an interpreter gives.
    #[must_use]
    pub fn agrees(&self, case: &Case, form: Form) -> bool {
        let lanes: Vec<Option<i64>> = self.lanes.iter().map(Value::as_i64).collect();
        let expected: Vec<Option<i64>> = case.lanes.values().iter().map(|lane| Some(i64::from(*lane))).collect();
        let whole = form == Form::Vm || (self.key == case.lanes.to_key() && self.origin == case.origin);
        self.error.is_none() && lanes == expected && whole
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Chromium, Self::QuickJs];

    /// Starts it, with a mistake in the interpreter or with none.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start(self, mutant: Option<Mutant>) -> Box<dyn Engine> {
        let script = script(mutant);
        match self {
            Self::Node => Box::new(NodeJs::start(&script)),
            Self::Chromium => Box::new(Chromium::start(&script)),
            Self::QuickJs => Box::new(QuickJs::start(script)),
        }
    }
}

/// The interpreter and the runner as one classic script, which every engine takes.
fn script(mutant: Option<Mutant>) -> String {
    let interpreter = mutant.map_or_else(|| INTERPRETER.to_owned(), |mutant| mutant.compiled(INTERPRETER));
    format!("{}\n{RUNNER}", interpreter.replace("\nexport ", "\n"))
}

/// Node.js, which reads a line and writes a line.
struct NodeJs {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl NodeJs {
    fn start(script: &str) -> Self {
        let mut process = Command::new("node")
            .args(["-e", &format!("{script}\n{NODE}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`node` (18 or newer) is on the PATH; tests/run installs it");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { input: process.stdin.take(), process, output }
    }
}

impl Engine for NodeJs {
    fn run(&mut self, cases: &str) -> String {
        let input = self.input.as_mut().expect("it is kept until the end");
        // It reads a line to its end before it writes one, so neither side waits on a full pipe.
        writeln!(input, "{cases}").expect("the engine listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the engine answers");
        line
    }
}

impl Drop for NodeJs {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// An interpreter within this process; it needs the C compiler that the node needs too, and nothing installed.
struct QuickJs {
    context: rquickjs::Context,
}

impl QuickJs {
    fn start(script: String) -> Self {
        let runtime = rquickjs::Runtime::new().expect("an engine");
        let context = rquickjs::Context::full(&runtime).expect("a realm");
        context.with(|realm| realm.eval::<(), _>(script)).expect("the runner is a script");
        Self { context }
    }
}

impl Engine for QuickJs {
    fn run(&mut self, cases: &str) -> String {
        self.context.with(|realm| {
            let run: rquickjs::Function = realm.eval("runCases").expect("the runner is there");
            run.call((cases,)).expect("it catches what a case throws")
        })
    }
}
