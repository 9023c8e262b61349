use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What a program computes: registers 0 to 7 at its end.
///
/// They are the expected answer, so `Debug` does not show them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lanes([i32; 8]);

impl Lanes {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Wraps eight values.
    #[must_use]
    pub const fn new(values: [i32; 8]) -> Self {
        Self(values)
    }

    /// The eight values.
    #[must_use]
    pub const fn values(&self) -> &[i32; 8] {
        &self.0
    }

    /// Big-endian, 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (word, lane) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *word = lane.to_be_bytes();
        }
        bytes
    }

    /// [`Lanes::to_bytes`] as 64 lower-case hexadecimal digits: the `key` of the function's result.
    #[must_use]
    pub fn to_key(&self) -> String {
        let digit = |value: u8| char::from(HEX[usize::from(value & 15)]);
        self.to_bytes().iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
    }

    /// Reads [`Lanes::to_key`]; any other text, upper case included, is none.
    #[must_use]
    pub fn from_key(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut values = [0; 8];
        for (lane, digits) in values.iter_mut().zip(digits.as_chunks::<8>().0) {
            let word = digits.iter().try_fold(0_u32, |word, digit| Some(word << 4 | nibble(*digit)?))?;
            *lane = word.cast_signed();
        }
        Some(Self(values))
    }

    /// Equality in a time that does not tell where the difference lies.
    #[must_use]
    pub fn matches(&self, claimed: &Self) -> bool {
        verify_slices_are_equal(&self.to_bytes(), &claimed.to_bytes()).is_ok()
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lanes(…)")
    }
}

/// The value of a lower-case digit.
fn nibble(digit: u8) -> Option<u32> {
    HEX.iter().position(|known| *known == digit).map(|value| value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn key_round_trips(values: [i32; 8]) {
            let lanes = Lanes::new(values);
            prop_assert_eq!(Lanes::from_key(&lanes.to_key()).map(|lanes| *lanes.values()), Some(values));
        }

        #[test]
        fn reading_a_key_never_panics(text in ".{0,70}") {
            if let Some(lanes) = Lanes::from_key(&text) {
                prop_assert_eq!(lanes.to_key(), text);
            }
        }
    }

    #[test]
    fn key_is_big_endian_lower_case_and_of_one_length() {
        let key = Lanes::new([1, -1, i32::MIN, i32::MAX, 0, 0xab, 16, 31]).to_key();
        assert_eq!(key, "00000001ffffffff800000007fffffff00000000000000ab000000100000001f");
        assert!(Lanes::from_key(&key.to_uppercase()).is_none());
        assert!(Lanes::from_key(&key[1..]).is_none());
        assert!(Lanes::from_key(&format!("{key}0")).is_none());
        assert_eq!(format!("{:?}", Lanes::new([7; 8])), "Lanes(…)");
    }
}
