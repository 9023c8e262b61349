/// Unambiguous bytes: a label and fields in a fixed order, each as tag (8 bits), length (32 bits, big-endian), bytes.
///
/// The label has tag 0, the fields 1, 2, and so on; a field that is absent has length 0. No two lists of fields give the
/// same bytes, which plain concatenation cannot promise.
#[derive(Debug, Clone)]
pub struct Transcript {
    bytes: Vec<u8>,
    tag: u8,
}

impl Transcript {
    /// Bytes before each field: its tag and its length.
    pub const HEAD_BYTES: usize = 5;

    /// Starts with the label, which names use and version.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self { bytes: Vec::with_capacity(192), tag: 0 }.field(label.as_bytes())
    }

    /// Appends the next field. Fields are few and short: ids, nonces, digests, one origin.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.bytes.push(self.tag);
        self.bytes.extend((bytes.len() as u32).to_be_bytes());
        self.bytes.extend(bytes);
        self.tag = self.tag.wrapping_add(1);
        self
    }

    /// Appends a field that may be absent.
    #[must_use]
    pub fn optional(self, bytes: Option<&[u8]>) -> Self {
        self.field(bytes.unwrap_or_default())
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_tag_length_bytes() {
        let bytes = Transcript::new("ab").field(b"c").optional(None).finish();
        assert_eq!(bytes, [0, 0, 0, 0, 2, b'a', b'b', 1, 0, 0, 0, 1, b'c', 2, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn different_fields_give_different_bytes(a: Vec<Vec<u8>>, b: Vec<Vec<u8>>) {
            let lay = |fields: &[Vec<u8>]| fields.iter().fold(Transcript::new("t"), |t, f| t.field(f)).finish();
            prop_assert_eq!(a == b, lay(&a) == lay(&b));
        }
    }
}
