//! Programs by number, with what they read and what the reference computes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::challenge::{
    Constants, Disguise, Instruction, Lanes, PageOrigin, Program, Shape, Tapes, evaluate, generate, print,
};
use countersign_node_proto::ConnectionId;
use serde::Serialize;

/// Origin and host name of the pages in which programs pretend to run.
const PAGES: [(&str, &str); 5] = [
    ("https://app.example", "app.example"),
    ("http://localhost:3000", "localhost"),
    ("https://xn--bcher-kva.example:8443", "xn--bcher-kva.example"),
    ("http://[::1]:8080", "[::1]"),
    (
        "https://a.very.long.name.of.a.host.that.goes.on.for.a.while.before.it.ends.example:65535",
        "a.very.long.name.of.a.host.that.goes.on.for.a.while.before.it.ends.example",
    ),
];
/// Words of the tapes, besides random ones.
const EDGES: [u32; 7] = [0, 1, u32::MAX, 0x8000_0000, 0x7fff_ffff, 31, 32];

/// A program and all that it reads.
#[derive(Debug, Clone)]
pub struct Scene {
    /// By which it can be made again.
    pub number: u64,
    /// The program.
    pub program: Program,
    seed: [u8; 32],
    server: [u8; 32],
    client: Option<[u8; 32]>,
    connection: ConnectionId,
    thumbprint: Option<[u8; 32]>,
    file: Option<[u8; 32]>,
    page: (&'static str, &'static str),
}

/// What an engine gets of a scene, and what it must make of it.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    /// Of the scene.
    #[serde(skip)]
    pub number: u64,
    /// The printed function.
    pub source: String,
    /// The bytecode, base64url as all bytes here.
    pub bytecode: String,
    server: String,
    client: Option<String>,
    connection: String,
    thumbprint: Option<String>,
    file: Option<String>,
    /// Of the page.
    pub origin: &'static str,
    hostname: &'static str,
    /// How often the engine runs it again, and must get the same.
    pub reruns: u32,
    /// What the reference computes.
    #[serde(skip)]
    pub lanes: Lanes,
}

impl Scene {
    /// The scene of a number: the same one in every run.
    ///
    /// # Panics
    /// If the generator breaks its own bounds.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let mut stream = Stream(number);
        let operations = match number % 16 {
            0 => 128,
            1..4 => 64,
            _ => 32 + (stream.next() % 24) as usize,
        };
        // The seed is spread evenly; the tapes are not.
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&stream.next().to_be_bytes()));
        let shape = Shape::new(operations, Constants::Edges).expect("a length within bounds");
        let reads_file = number % 4 == 1;
        let shape = if reads_file { shape.reading_file() } else { shape };
        let program = generate(&seed, shape).expect("a program within bounds");
        let page = PAGES[(stream.next() % PAGES.len() as u64) as usize];
        let (server, client, thumbprint) = (stream.bytes(), stream.bytes(), stream.bytes());
        let connection = ConnectionId::from_bytes(stream.bytes());
        Self {
            number,
            program,
            seed,
            server,
            client: (!number.is_multiple_of(3)).then_some(client),
            connection,
            thumbprint: number.is_multiple_of(5).then_some(thumbprint),
            file: reads_file.then(|| stream.bytes()),
            page,
        }
    }

    /// The same scene with other instructions; none if they are no program.
    #[must_use]
    pub fn with(&self, instructions: Vec<Instruction>) -> Option<Self> {
        Program::new(instructions).ok().map(|program| Self { program, ..self.clone() })
    }

    /// What the program reads.
    #[must_use]
    pub fn tapes(&self) -> Tapes<'_> {
        Tapes {
            server_nonce: &self.server,
            client_nonce: self.client.as_ref(),
            connection: &self.connection,
            thumbprint: self.thumbprint.as_ref(),
            origin: self.page.0,
            file: self.file.as_ref(),
        }
    }

    /// What an engine gets.
    ///
    /// # Panics
    /// If the reference refuses the program.
    #[must_use]
    pub fn case(&self) -> Case {
        let (origin, hostname) = self.page;
        let page = PageOrigin::of_handshake(Some(origin)).expect("an origin");
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let tapes = self.tapes();
        Case {
            number: self.number,
            source: print(&self.program, &tapes, &page),
            bytecode: text(&Disguise::draw(&self.seed).encode(&self.program)),
            server: text(&self.server),
            client: self.client.map(|nonce| text(&nonce)),
            connection: text(self.connection.as_bytes()),
            thumbprint: self.thumbprint.map(|thumbprint| text(&thumbprint)),
            file: self.file.map(|digest| text(&digest)),
            origin,
            hostname,
            reruns: 0,
            lanes: evaluate(&self.program, &tapes).expect("the reference runs it"),
        }
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
