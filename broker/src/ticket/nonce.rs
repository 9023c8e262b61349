use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::ConnectionId;

use super::keys::TicketKey;
use crate::challenge::Transcript;

/// A nonce is good in the window of the owner's clock in which it was made, and in the next.
pub const NONCE_WINDOW_MS: u64 = 10_000;

const LABEL: &str = "countersign/nonce/v1";

/// What a proof must contain: nobody can have signed it before the node made it. Nothing is kept of it: it is a MAC over
/// its connection and time, under the key of the ticket that it was pushed with.
#[derive(Debug, Clone, Copy)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// The nonce of a connection at a time (milliseconds since the Unix epoch, by the owner's clock).
    #[must_use]
    pub fn at(key: &TicketKey, connection: ConnectionId, epoch: u32, now_ms: u64) -> Self {
        Self::of_window(key, connection, epoch, now_ms / NONCE_WINDOW_MS)
    }

    /// Was this nonce made for the connection, now or in the window before? In constant time.
    #[must_use]
    pub fn is_good(nonce: &[u8; 32], key: &TicketKey, connection: ConnectionId, epoch: u32, now_ms: u64) -> bool {
        let window = now_ms / NONCE_WINDOW_MS;
        [Some(window), window.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|window| key.is_tag_of(&message(key, connection, epoch, window), nonce))
    }

    fn of_window(key: &TicketKey, connection: ConnectionId, epoch: u32, window: u64) -> Self {
        Self(key.tag(&message(key, connection, epoch, window)))
    }

    /// The bytes, as a proof signs them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it goes to the page: base64url without padding.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// What a nonce is a MAC over.
fn message(key: &TicketKey, connection: ConnectionId, epoch: u32, window: u64) -> Vec<u8> {
    Transcript::new(LABEL)
        .field(key.kid().as_bytes())
        .field(connection.as_bytes())
        .field(&epoch.to_be_bytes())
        .field(&window.to_be_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::super::keys::Kid;
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_connection_epoch_and_key_in_two_windows() {
        let key = |byte| TicketKey::from_parts(Kid::from_bytes([byte; 8]), &[byte; 32]);
        let id = |byte| ConnectionId::from_bytes([byte; 16]);
        let start = 170_000_000 * NONCE_WINDOW_MS;
        let nonce = Nonce::at(&key(1), id(1), 0, start);
        let good = |key: &TicketKey, id, epoch, now| Nonce::is_good(nonce.as_bytes(), key, id, epoch, now);
        for (now, expected) in [(0, true), (9_999, true), (10_000, true), (19_999, true), (20_000, false)] {
            assert_eq!(good(&key(1), id(1), 0, start + now), expected, "{now}");
        }
        assert!(!good(&key(1), id(1), 0, start - 1), "of the future");
        assert!(!good(&key(2), id(1), 0, start) && !good(&key(1), id(2), 0, start) && !good(&key(1), id(1), 1, start));
        for bit in 0..256 {
            let mut flipped = *nonce.as_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!Nonce::is_good(&flipped, &key(1), id(1), 0, start), "bit {bit}");
        }
        assert!(Nonce::is_good(nonce.as_bytes(), &key(1), id(1), 0, start));
        let _at_the_epoch = Nonce::is_good(nonce.as_bytes(), &key(1), id(1), 0, 0);
    }
}
