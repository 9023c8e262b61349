//! RFC 6455 frames as a client writes and reads them (section 5.2).

/// Text.
pub(crate) const OPCODE_TEXT: u8 = 1;
/// Close.
pub(crate) const OPCODE_CLOSE: u8 = 8;
/// Ping.
pub(crate) const OPCODE_PING: u8 = 9;
/// Pong.
pub(crate) const OPCODE_PONG: u8 = 10;

/// Longest header that a server sends: two bytes and 64 bits of length.
const HEADER_MAX: usize = 10;

/// Bit that announces a masking key.
const MASKED: u8 = 0x80;

/// Writes masked frames. Keys are cheap here: they must differ, not withstand an attacker.
pub(crate) struct Masker {
    state: u32,
}

impl Masker {
    /// A masker with its own sequence of keys.
    pub(crate) const fn new(seed: u32) -> Self {
        Self { state: seed | 1 }
    }

    /// Appends one final frame to `out`.
    pub(crate) fn write(&mut self, opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let key = self.state.to_be_bytes();
        push_header(opcode, payload.len(), MASKED, out);
        out.extend_from_slice(&key);
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

/// One unmasked text frame, as a server sends it.
pub(crate) fn server_text_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + HEADER_MAX);
    push_header(OPCODE_TEXT, payload.len(), 0, &mut out);
    out.extend_from_slice(payload);
    out
}

fn push_header(opcode: u8, payload_len: usize, mask_bit: u8, out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    if let Some(short) = u8::try_from(payload_len).ok().filter(|len| *len < 126) {
        out.push(mask_bit | short);
    } else if let Ok(medium) = u16::try_from(payload_len) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}

/// A frame that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Its opcode.
    pub opcode: u8,
    /// Its payload; empty for a data frame whose payload was only counted.
    pub payload: &'a [u8],
}

/// Cuts a server's byte stream into frames, wherever reads split it.
///
/// The payload of data frames is kept only while the caller wants it: at load a frame costs its header and a subtraction.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: [u8; HEADER_MAX],
    header_have: u8,
    /// Bytes of the current payload that are still to come.
    payload_left: u64,
    in_payload: bool,
    kept: Vec<u8>,
}

impl FrameReader {
    /// Reads `bytes`, keeping the payload of data frames if `keep`, and hands every complete frame to `sink`.
    ///
    /// Control frames are kept always: a ping has to be answered with its payload.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], keep: bool, mut sink: impl FnMut(Frame<'_>)) {
        loop {
            if self.in_payload {
                bytes = self.take_payload(bytes, keep);
                if self.payload_left > 0 {
                    return;
                }
                sink(Frame { opcode: self.opcode(), payload: &self.kept });
                self.kept.clear();
                self.in_payload = false;
                self.header_have = 0;
            }
            let Some(rest) = self.take_header(bytes) else { return };
            bytes = rest;
        }
    }

    /// Gives the memory of kept payloads back.
    pub(crate) fn release(&mut self) {
        self.kept = Vec::new();
    }

    const fn opcode(&self) -> u8 {
        self.header[0] & 0x0F
    }

    fn take_payload<'a>(&mut self, bytes: &'a [u8], keep: bool) -> &'a [u8] {
        let here = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (payload, rest) = bytes.split_at(here);
        self.payload_left -= here as u64;
        if keep || self.opcode() >= OPCODE_CLOSE {
            self.kept.extend_from_slice(payload);
        }
        rest
    }

    /// The bytes behind the header, once it is complete.
    fn take_header<'a>(&mut self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        while usize::from(self.header_have) < self.header_len() {
            let (first, rest) = bytes.split_first()?;
            self.header[usize::from(self.header_have)] = *first;
            self.header_have += 1;
            bytes = rest;
        }
        self.payload_left = self.announced_len();
        self.in_payload = true;
        Some(bytes)
    }

    /// Bytes of the header, as far as those read tell. A server never masks.
    const fn header_len(&self) -> usize {
        match (self.header_have, self.header[1]) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    fn announced_len(&self) -> u64 {
        let long = &self.header[2..];
        match self.header[1] {
            126 => u64::from(u16::from_be_bytes([long[0], long[1]])),
            127 => long.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every frame of `bytes`, read in pieces of `step`.
    fn read(bytes: &[u8], step: usize, keep: bool) -> Vec<(u8, Vec<u8>)> {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(step) {
            reader.feed(piece, keep, |frame| frames.push((frame.opcode, frame.payload.to_vec())));
        }
        frames
    }

    #[test]
    fn frames_survive_any_split() {
        let payloads = [vec![], vec![b'a'; 125], vec![b'b'; 126], vec![b'c'; 70_000]];
        let stream: Vec<u8> = payloads.iter().flat_map(|payload| server_text_frame(payload)).collect();
        for step in [1, 2, 3, 7, 128, 65_536, stream.len()] {
            let expected: Vec<_> = payloads.iter().map(|payload| (OPCODE_TEXT, payload.clone())).collect();
            assert_eq!(read(&stream, step, true), expected, "in pieces of {step}");
        }
    }

    #[test]
    fn data_is_counted_and_control_frames_are_kept() {
        let mut stream = server_text_frame(b"counted");
        stream.extend_from_slice(&[0x89, 2, b'h', b'i']);
        assert_eq!(read(&stream, 1, false), [(OPCODE_TEXT, vec![]), (OPCODE_PING, b"hi".to_vec())]);
    }

    #[test]
    fn masked_frame_unmasks_to_its_payload() {
        for len in [0, 5, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0]).collect();
            let mut out = Vec::new();
            Masker::new(7).write(OPCODE_TEXT, &payload, &mut out);
            let (head, masked) = out.split_at(out.len() - payload.len());
            let key = &head[head.len() - 4..];
            let plain: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(plain, payload);
            assert_eq!(head[1] & MASKED, MASKED);
        }
    }

    #[test]
    fn keys_differ_between_frames() {
        let (mut masker, mut first, mut second) = (Masker::new(1), Vec::new(), Vec::new());
        masker.write(OPCODE_PONG, b"", &mut first);
        masker.write(OPCODE_PONG, b"", &mut second);
        assert_ne!(first, second);
    }
}
