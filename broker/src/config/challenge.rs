use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Millis, Seconds};

/// The challenge that a connection must answer to become verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChallengeSettings {
    /// Challenge every connection. Off: no connection becomes verified.
    pub enabled: bool,
    /// How a client that did not ask for `countersign.v1` gets its challenge.
    pub carrier: Carrier,
    /// Forms of the program that native clients may get, the preferred first. Plain clients get `source`.
    pub forms: Vec<ChallengeForm>,
    /// Forms whose programs are signed for native clients: those that a page evaluates, or all.
    pub sign_programs: SignPrograms,
    /// Folder of the keys that sign programs; the nodes of a cluster share one. Unset: `program-keys` in the data folder.
    pub signing_keys_dir: Option<PathBuf>,
    /// How long the next of these keys must have been published before a rotation lets it sign.
    pub signing_key_publish_ahead_seconds: Seconds,
    /// A native client's `hello` must arrive within this.
    pub hello_timeout_ms: Millis,
    /// The answer must arrive within this of the challenge. Range: 2,000 to 30,000.
    pub answer_timeout_ms: Millis,
    /// What a wrong or late answer does.
    pub on_failure: OnFailure,
    /// Operations of one program. Range: 32 to 1,024.
    pub program_operations: usize,
    /// Challenges waiting for an answer, on this node; a handshake that would pass it is refused with 503.
    pub pending_max: usize,
    /// The same per network prefix: the /24 of an IPv4 address, the /64 of an IPv6 address. 0: no bound.
    pub pending_per_network_max: usize,
    /// The same per origin; above it half of what the node has left is kept for networks that leave next to nothing pending. 0: no bound.
    pub pending_per_origin_max: usize,
    /// Failed challenges (wrong, late, no `hello`) per network prefix and minute; then its handshakes are refused with 429 until the minute is
    /// over. Four whose client left before it answered count as one. 0: any number.
    pub failures_per_network_per_minute: u32,
    /// Failed challenges per origin and minute; then networks that failed themselves are borne a tenth of their own
    /// limit. 0: any number.
    pub failures_per_origin_per_minute: u32,
    /// Folder with files that pages ship; native clients then read a part of one of them for each program of form `vm`. Unset: none.
    pub files_dir: Option<PathBuf>,
    /// Path on the page's origin under which the folder is served: begins and ends with `/`.
    pub files_url_prefix: String,
    /// Origins whose pages have the files. Empty: all.
    pub files_origins: Vec<String>,
    /// Puzzles beside the program, while much is pending.
    pub work: WorkSettings,
    /// When a verified connection is challenged again.
    pub again: AgainSettings,
}

impl ChallengeSettings {
    /// Challenges of one origin that may pend in all, those of networks with little pending among them. 0: no bound.
    #[must_use]
    pub const fn origin_end(&self) -> usize {
        match self.pending_per_origin_max {
            0 => 0,
            max => max + self.pending_max.saturating_sub(max) / 2,
        }
    }
}

impl Default for ChallengeSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            carrier: Carrier::None,
            forms: vec![ChallengeForm::Vm, ChallengeForm::Source],
            sign_programs: SignPrograms::Source,
            signing_keys_dir: None,
            signing_key_publish_ahead_seconds: Seconds(86_400),
            hello_timeout_ms: Millis(5_000),
            answer_timeout_ms: Millis(10_000),
            on_failure: OnFailure::Close,
            program_operations: 128,
            pending_max: 20_000,
            pending_per_network_max: 2_000,
            pending_per_origin_max: 10_000,
            failures_per_network_per_minute: 300,
            failures_per_origin_per_minute: 3_000,
            files_dir: None,
            files_url_prefix: "/".to_owned(),
            files_origins: Vec::new(),
            work: WorkSettings::default(),
            again: AgainSettings::default(),
        }
    }
}

/// Puzzles that native clients solve beside the program, while much is pending: a rate limiter, no more. Native programs solve
/// them a hundred times as fast as pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkSettings {
    /// Ask for them.
    pub enabled: bool,
    /// Once this share of what may pend is taken, of the node, the network or the origin. 0: always.
    pub from_percent: u8,
    /// Leading zero bits of each puzzle from there on; each bit doubles the work. Range: 1 to 20.
    pub bits: u8,
    /// The same when all is taken; between, it rises in even steps.
    pub bits_max: u8,
    /// Puzzles of one challenge: the more, the more even the time. Range: 1 to 16.
    pub count: u8,
}

impl Default for WorkSettings {
    fn default() -> Self {
        Self { enabled: false, from_percent: 50, bits: 8, bits_max: 12, count: 8 }
    }
}

/// When a verified connection of a native client is challenged again. It stays verified until that challenge fails, which ends
/// it as `on_failure` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgainSettings {
    /// It sent more messages than this within a minute. 0: however many.
    pub messages_per_minute: u32,
    /// More calls than this were allowed in its name within a minute, by whichever nodes. 0: however many, and none is counted. The
    /// same on all nodes.
    pub calls_per_minute: u32,
    /// So long after it was last verified, drawn from the upper half. 0: never. Otherwise at least 60.
    pub every_seconds: Seconds,
}

impl Default for AgainSettings {
    fn default() -> Self {
        Self { messages_per_minute: 0, calls_per_minute: 0, every_seconds: Seconds(0) }
    }
}

impl ChallengeSettings {
    /// May a native client get a program in this form?
    #[must_use]
    pub fn offers(&self, form: ChallengeForm) -> bool {
        self.enabled && self.forms.contains(&form)
    }
}

/// The wire of the challenge for clients outside the native protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// They get none and stay unverified.
    None,
    /// `Echo: <connection id>`, then `{"token","func","index"}`, answered by `{"action":"OnMessage","msg","token"}`.
    EchoFunction,
}

/// How a program is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeForm {
    /// Bytecode for an interpreter that the page has: no `eval`.
    Vm,
    /// A printed function for the page to evaluate.
    Source,
    /// Bytecode that a frame of the node's own fetches and runs, so that the browser vouches for the page's origin.
    Frame,
}

impl ChallengeForm {
    /// Every form.
    pub const ALL: &'static [Self] = &[Self::Vm, Self::Source, Self::Frame];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Source => "source",
            Self::Frame => "frame",
        }
    }
}

/// Which programs are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignPrograms {
    /// Those that a page evaluates as JavaScript, and those that it never sees.
    Source,
    /// Bytecode for the page's own interpreter too.
    All,
}

impl SignPrograms {
    /// Must a program of this form be signed?
    #[must_use]
    pub fn covers(self, form: ChallengeForm) -> bool {
        self == Self::All || form != ChallengeForm::Vm
    }
}

/// The effect of a failed challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Close with 4403 (wrong) or 4408 (late).
    Close,
    /// Leave the socket open and unverified; there is no second attempt.
    StayUnverified,
}
