use crate::challenge::Transcript;

/// Reads the bytes of a [`Transcript`] back, field by field, in the order in which they were laid.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    tag: u8,
}

impl<'a> Fields<'a> {
    /// Begins with the label; nothing if the bytes begin with another.
    pub(super) fn of(bytes: &'a [u8], label: &str) -> Option<Self> {
        let mut fields = Self { rest: bytes, tag: 0 };
        (fields.next()? == label.as_bytes()).then_some(fields)
    }

    /// The next field; nothing if there is none, or if it has another's tag.
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_first_chunk::<{ Transcript::HEAD_BYTES }>()?;
        let [tag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if tag != self.tag || rest.len() < length {
            return None;
        }
        let (field, rest) = rest.split_at(length);
        (self.rest, self.tag) = (rest, self.tag.wrapping_add(1));
        Some(field)
    }

    /// The next field, of exactly so many bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.next()?.try_into().ok()
    }

    /// The next field as text; an empty one is an absent one.
    pub(super) fn text(&mut self) -> Option<Option<&'a str>> {
        let text = std::str::from_utf8(self.next()?).ok()?;
        Some((!text.is_empty()).then_some(text))
    }

    /// Was that all?
    pub(super) fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_laid_is_read_and_nothing_else() {
        let bytes = Transcript::new("l").field(b"abc").optional(None).field(&[7; 8]).finish();
        let mut fields = Fields::of(&bytes, "l").unwrap();
        assert_eq!(fields.next(), Some(b"abc".as_slice()));
        assert_eq!(fields.text(), Some(None));
        assert_eq!(fields.array(), Some([7_u8; 8]));
        assert_eq!(fields.end(), Some(()));
        assert!(Fields::of(&bytes, "m").is_none());
        let mut longer = bytes.clone();
        longer.push(0);
        let mut fields = Fields::of(&longer, "l").unwrap();
        assert!(fields.next().is_some() && fields.next().is_some() && fields.array::<8>().is_some());
        assert_eq!(fields.end(), None);
        let mut reordered = bytes;
        reordered[6] = 2;
        assert_eq!(Fields::of(&reordered, "l").unwrap().next(), None, "another tag");
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            if let Some(mut fields) = Fields::of(&bytes, "") {
                while fields.next().is_some() {}
            }
        }
    }
}
