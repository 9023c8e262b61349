use countersign_node_proto::ConnectionId;

/// Bytes of the longest origin that a program reads.
pub const ORIGIN_MAX: usize = 512;

/// What a program can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tape {
    /// 8 words of the node's randomness.
    ServerNonce,
    /// 8 words of the client's, or none.
    ClientNonce,
    /// 4 words.
    Connection,
    /// 8 words: SHA-256 of the key that the page holds, or none.
    Thumbprint,
    /// One word for each UTF-16 unit of the page's origin.
    Origin,
    /// 8 words: SHA-256 of the part of a file that the challenge asks for. Only programs of such challenges read it.
    File,
}

impl Tape {
    /// Every tape, in the order of their codes.
    pub const ALL: &'static [Self] =
        &[Self::ServerNonce, Self::ClientNonce, Self::Connection, Self::Thumbprint, Self::Origin, Self::File];
    /// Those that every challenge has.
    pub const ALWAYS: &'static [Self] =
        &[Self::ServerNonce, Self::ClientNonce, Self::Connection, Self::Thumbprint, Self::Origin];

    /// Its number in the byte form of a program.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::ServerNonce => 0,
            Self::ClientNonce => 1,
            Self::Connection => 2,
            Self::Thumbprint => 3,
            Self::Origin => 4,
            Self::File => 5,
        }
    }

    /// The tape of a number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The tapes of one challenge. Bytes are read as big-endian words; what is absent is an empty tape.
#[derive(Clone, Copy)]
pub struct Tapes<'a> {
    /// 32 fresh bytes of the node's.
    pub server_nonce: &'a [u8; 32],
    /// 32 bytes of the client's, where its protocol carries them.
    pub client_nonce: Option<&'a [u8; 32]>,
    /// The socket that is challenged.
    pub connection: &'a ConnectionId,
    /// SHA-256 of the page's public key: absent until keys are bound to challenges.
    pub thumbprint: Option<&'a [u8; 32]>,
    /// Of the page. ASCII, at most [`ORIGIN_MAX`] bytes.
    pub origin: &'a str,
    /// SHA-256 of the part of a file, where the challenge asks for one.
    pub file: Option<&'a [u8; 32]>,
}

impl Tapes<'_> {
    /// The words of a tape.
    pub(super) fn words(&self, tape: Tape) -> Words<'_> {
        match tape {
            Tape::ServerNonce => Words::of(self.server_nonce),
            Tape::ClientNonce => self.client_nonce.map_or(Words::EMPTY, |nonce| Words::of(nonce)),
            Tape::Connection => Words::of(self.connection.as_bytes()),
            Tape::Thumbprint => self.thumbprint.map_or(Words::EMPTY, |thumbprint| Words::of(thumbprint)),
            Tape::File => self.file.map_or(Words::EMPTY, |digest| Words::of(digest)),
            Tape::Origin => Words { words: &[], units: self.origin.as_bytes() },
        }
    }

    /// How many words a tape has.
    #[must_use]
    pub fn len(&self, tape: Tape) -> usize {
        self.words(tape).len()
    }

    /// Can the origin be read the same way on both sides?
    pub(super) fn origin_is_legal(&self) -> bool {
        self.origin.is_ascii() && self.origin.len() <= ORIGIN_MAX
    }
}

/// The words of one tape. Of its two halves one is always empty.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    /// Big-endian words.
    words: &'a [[u8; 4]],
    /// ASCII units.
    units: &'a [u8],
}

impl<'a> Words<'a> {
    const EMPTY: Self = Words { words: &[], units: &[] };

    fn of(bytes: &'a [u8]) -> Self {
        Words { words: bytes.as_chunks::<4>().0, units: &[] }
    }
}

impl Iterator for Words<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        if let Some((first, rest)) = self.words.split_first() {
            self.words = rest;
            return Some(i32::from_be_bytes(*first));
        }
        let (first, rest) = self.units.split_first()?;
        self.units = rest;
        Some(i32::from(*first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.words.len() + self.units.len();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Words<'_> {}
