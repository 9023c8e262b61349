//! Where a Redis Cluster keeps a name.

/// How many slots there are.
pub const SLOTS: u16 = 16_384;

/// The slot of a key or of a sharded channel: that of the text between the first `{` and the next `}`, if there is any.
///
/// Range: 0..[`SLOTS`]. Source: Redis Cluster specification, key distribution model.
#[must_use]
pub fn slot_of(name: &[u8]) -> u16 {
    crc16(tag_of(name)) % SLOTS
}

fn tag_of(name: &[u8]) -> &[u8] {
    let Some(open) = name.iter().position(|byte| *byte == b'{') else { return name };
    let rest = &name[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => name,
        Some(close) => &rest[..close],
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_redis_puts_them() {
        // As `CLUSTER KEYSLOT` answers.
        for (name, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("", 0),
            ("{countersign}:nodes", slot_of(b"countersign")),
            ("a{foo}b{bar}", 12_182),
            ("foo{}", slot_of_whole("foo{}")),
            ("foo{bar", slot_of_whole("foo{bar")),
            ("{{bar}}", slot_of_whole("{bar")),
        ] {
            assert_eq!(slot_of(name.as_bytes()), slot, "{name}");
        }
    }

    fn slot_of_whole(name: &str) -> u16 {
        crc16(name.as_bytes()) % SLOTS
    }
}
