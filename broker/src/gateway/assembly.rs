use actix_http::ws::{Item, Message};
use bytes::Bytes;

use crate::close::CloseReason;

/// Binary payloads up to this many bytes are copied: a small one would pin the whole read buffer that it was cut from.
const COPIED_MAX: usize = 8 * 1024;

/// What a frame came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembled {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Bytes),
    /// To be answered with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or a heartbeat that nobody asked for.
    Pong,
    /// The client closes, with this code if it sent one; to be echoed.
    Close(Option<u16>),
    /// A fragment: there is more to come.
    Incomplete,
}

/// Puts fragments together. Idle cost: one word.
///
/// The codec before it has refused what is out of order, and the frame guard has bounded the total; both are checked
/// again, since they are other people's invariants.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
enum Partial {
    Text(PartialText),
    Binary(Vec<u8>),
}

impl Assembler {
    /// Takes the next message of the codec. `message_max` bounds the payload bytes over all fragments.
    ///
    /// # Errors
    /// The reason to close with, the client's fault: [`CloseReason::InvalidText`] at the fragment that shows that the
    /// text is not UTF-8, [`CloseReason::TooLarge`], or [`CloseReason::Protocol`].
    pub fn accept(&mut self, message: Message, message_max: u64) -> Result<Assembled, CloseReason> {
        Ok(match message {
            Message::Text(text) => Assembled::Text(String::from(&*text)),
            Message::Binary(bytes) => Assembled::Binary(owned(bytes)),
            Message::Continuation(item) => return self.fragment(item, message_max),
            Message::Ping(payload) => Assembled::Ping(payload),
            Message::Pong(_) => Assembled::Pong,
            Message::Close(reason) => Assembled::Close(reason.map(|reason| reason.code.into())),
            Message::Nop => Assembled::Incomplete,
        })
    }

    /// Adds a fragment.
    fn fragment(&mut self, item: Item, message_max: u64) -> Result<Assembled, CloseReason> {
        let (first, bytes, last) = match item {
            Item::FirstText(bytes) => (Some(Partial::Text(PartialText::default())), bytes, false),
            Item::FirstBinary(bytes) => (Some(Partial::Binary(Vec::new())), bytes, false),
            Item::Continue(bytes) => (None, bytes, false),
            Item::Last(bytes) => (None, bytes, true),
        };
        match (first, &self.partial) {
            (Some(first), None) => self.partial = Some(Box::new(first)),
            (None, Some(_)) => {}
            _ => return Err(CloseReason::Protocol),
        }
        let Some(partial) = self.partial.as_mut() else { return Err(CloseReason::Protocol) };
        if (partial.len() + bytes.len()) as u64 > message_max {
            return Err(CloseReason::TooLarge);
        }
        partial.push(&bytes)?;
        if !last {
            return Ok(Assembled::Incomplete);
        }
        self.partial.take().map_or(Err(CloseReason::Protocol), |partial| partial.finish())
    }
}

impl Partial {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.whole.len() + text.tail.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CloseReason> {
        match self {
            Self::Text(text) => text.push(bytes).map_err(|NotUtf8| CloseReason::InvalidText),
            Self::Binary(all) => {
                all.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Assembled, CloseReason> {
        match self {
            Self::Text(text) if text.tail.is_empty() => Ok(Assembled::Text(text.whole)),
            Self::Text(_) => Err(CloseReason::InvalidText),
            Self::Binary(bytes) => Ok(Assembled::Binary(bytes.into())),
        }
    }
}

/// Text of which the last character may be incomplete.
#[derive(Debug, Default)]
struct PartialText {
    whole: String,
    /// At most three bytes that begin a character.
    tail: Vec<u8>,
}

/// What no byte that follows can make UTF-8.
#[derive(Debug, PartialEq, Eq)]
struct NotUtf8;

impl PartialText {
    /// Adds bytes; each is looked at once, but for the few of a character that a fragment's end cut through.
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), NotUtf8> {
        while let (false, Some((byte, rest))) = (self.tail.is_empty(), bytes.split_first()) {
            let mut begun = std::mem::take(&mut self.tail);
            begun.push(*byte);
            self.push_run(&begun)?;
            bytes = rest;
        }
        self.push_run(bytes)
    }

    /// Adds bytes behind a whole character.
    fn push_run(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let Some(chunk) = bytes.utf8_chunks().next() else { return Ok(()) };
        self.whole.push_str(chunk.valid());
        let rest = &bytes[chunk.valid().len()..];
        match std::str::from_utf8(rest) {
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Ok(_) | Err(_) => {
                self.tail.extend_from_slice(rest);
                Ok(())
            }
        }
    }
}

/// Bytes that pin no more memory than they need.
fn owned(bytes: Bytes) -> Bytes {
    if bytes.len() <= COPIED_MAX { Bytes::copy_from_slice(&bytes) } else { bytes }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{CloseCode, CloseReason as WireReason};
    use proptest::prelude::*;

    use super::*;

    /// Feeds a message in fragments.
    fn assemble(text: bool, fragments: &[&[u8]], message_max: u64) -> Result<Assembled, CloseReason> {
        let mut assembler = Assembler::default();
        let mut outcome = Ok(Assembled::Incomplete);
        for (index, fragment) in fragments.iter().enumerate() {
            let bytes = Bytes::copy_from_slice(fragment);
            let item = match (index, text) {
                (0, true) => Item::FirstText(bytes),
                (0, false) => Item::FirstBinary(bytes),
                (index, _) if index + 1 == fragments.len() => Item::Last(bytes),
                _ => Item::Continue(bytes),
            };
            assert_eq!(outcome, Ok(Assembled::Incomplete), "fragment {index}");
            outcome = assembler.accept(Message::Continuation(item), message_max);
        }
        outcome
    }

    #[test]
    fn fragments_become_one_message() {
        assert_eq!(assemble(true, &[b"gr\xC3", b"", b"\xBC\xC3\x9Fe"], 100), Ok(Assembled::Text("grüße".to_owned())));
        assert_eq!(assemble(false, &[b"\xFF", b"", b"\xFE"], 100), Ok(Assembled::Binary(Bytes::from_static(b"\xFF\xFE"))));
        assert_eq!(assemble(true, &[b"", b""], 0), Ok(Assembled::Text(String::new())));
    }

    #[test]
    fn text_that_is_not_utf8_fails_at_the_fragment_that_shows_it() {
        let fails = |fragments: &[&[u8]]| assert_eq!(assemble(true, fragments, 100), Err(CloseReason::InvalidText));
        fails(&[b"\xFF"]);
        fails(&[b"ok", b"\xC3\x28"]);
        fails(&[b"cut \xE2\x82", b"x"]);
        fails(&[b"surrogate \xED", b"\xA0"]);
        fails(&[b"above the last \xF4", b"\x90"]);
        fails(&[b"overlong \xC0"]);
        fails(&[b"unfinished ", b"\xE2\x82"]);
    }

    #[test]
    fn the_total_over_all_fragments_is_bounded() {
        assert!(assemble(false, &[b"12345", b"67890"], 10).is_ok());
        assert_eq!(assemble(false, &[b"12345", b"678901"], 10), Err(CloseReason::TooLarge));
        assert_eq!(assemble(true, &[b"12345678901"], 10), Err(CloseReason::TooLarge));
    }

    #[test]
    fn fragments_out_of_order_are_a_protocol_error() {
        let lone = Message::Continuation(Item::Last(Bytes::new()));
        assert_eq!(Assembler::default().accept(lone, 10), Err(CloseReason::Protocol));
        let mut assembler = Assembler::default();
        let first = || Message::Continuation(Item::FirstText(Bytes::new()));
        assert_eq!(assembler.accept(first(), 10), Ok(Assembled::Incomplete));
        assert_eq!(assembler.accept(first(), 10), Err(CloseReason::Protocol));
    }

    #[test]
    fn control_frames_pass_between_fragments() {
        let mut assembler = Assembler::default();
        let mut accept = |message| assembler.accept(message, 100);
        assert_eq!(accept(Message::Continuation(Item::FirstText("a".into()))), Ok(Assembled::Incomplete));
        assert_eq!(accept(Message::Ping("p".into())), Ok(Assembled::Ping("p".into())));
        assert_eq!(accept(Message::Pong("p".into())), Ok(Assembled::Pong));
        assert_eq!(accept(Message::Continuation(Item::Last("b".into()))), Ok(Assembled::Text("ab".to_owned())));
        let reason = WireReason { code: CloseCode::Other(4_242), description: None };
        assert_eq!(accept(Message::Close(Some(reason))), Ok(Assembled::Close(Some(4_242))));
        assert_eq!(accept(Message::Close(None)), Ok(Assembled::Close(None)));
    }

    #[test]
    fn a_small_binary_message_pins_no_large_buffer() {
        let buffer = Bytes::from(vec![0; 100_000]);
        let cut = Message::Binary(buffer.slice(..10));
        assert!(Assembler::default().accept(cut, 100_000).is_ok());
        let Ok(Assembled::Binary(kept)) = Assembler::default().accept(Message::Binary(buffer.slice(..10)), 100_000) else {
            panic!("not a binary message");
        };
        assert!(kept.is_unique() && buffer.is_unique());
    }

    proptest! {
        /// However it is cut, text is judged as `str::from_utf8` judges the whole.
        #[test]
        fn agrees_with_the_standard_library(
            parts in prop::collection::vec(prop_oneof![
                "\\PC{0,8}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..4)
            ], 0..8),
            cut_every in 1_usize..9,
        ) {
            let whole = parts.concat();
            let fragments: Vec<&[u8]> = whole.chunks(cut_every).collect();
            let mut text = PartialText::default();
            let valid = fragments.iter().all(|fragment| text.push(fragment).is_ok()) && text.tail.is_empty();
            prop_assert_eq!(valid, std::str::from_utf8(&whole).is_ok());
            if valid {
                prop_assert_eq!(text.whole.into_bytes(), whole);
            }
        }
    }
}
