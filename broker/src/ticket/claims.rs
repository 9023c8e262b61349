use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_node_proto::{ConnectionId, Generation, NodeId};

use super::fields::Fields;
use super::keys::{KeyRing, Kid, TicketKey};
use crate::challenge::Transcript;
use crate::config::Mode;

/// Longest text of a ticket that is looked at, in characters. Longer ones are not minted: proxies bound a header to about
/// twice this.
pub const TEXT_LEN_MAX: usize = 4_096;
/// How far the clocks of two nodes may be apart, in milliseconds.
pub const SKEW_MS: u64 = 2_000;
/// The shortest and the longest life of a ticket that can be configured, in milliseconds.
pub const TTL_MS_MIN: u64 = 5_000;
/// See [`TTL_MS_MIN`].
pub const TTL_MS_MAX: u64 = 60_000;

const LABEL: &str = "countersign/ticket/v1";
/// Bytes of the tag behind the body.
const TAG_BYTES: usize = 32;
/// Bytes of the longest body with its tag.
const BYTES_MAX: usize = TEXT_LEN_MAX / 4 * 3;

/// What a ticket says of its connection, as of when it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The connection.
    pub connection: ConnectionId,
    /// The node that owns its socket, and issued the ticket.
    pub owner: NodeId,
    /// Which life of the connection's entry this is.
    pub generation: Generation,
    /// The challenge that was answered last.
    pub epoch: u32,
    /// The handshake's origin, if one was sent.
    pub origin: Option<String>,
    /// SHA-256 of the page's key.
    pub thumbprint: [u8; 32],
    /// The least that calls in the connection's name must show.
    pub mode: Mode,
    /// The token's subject, if one was presented.
    pub subject: Option<String>,
    /// Its issuer, as it is configured.
    pub issuer: Option<String>,
    /// Milliseconds since the Unix epoch, by the owner's clock.
    pub issued_at_ms: u64,
    /// Likewise; from then on it is worth nothing, but for [`SKEW_MS`].
    pub expires_at_ms: u64,
}

/// Why a text is no ticket that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket of ours at all.
    #[error("ticket is malformed")]
    Malformed,
    /// Of a key that this node does not have: very old, forged, or of a node that this one lost touch with.
    #[error("ticket is of a key that is not known")]
    UnknownKey,
    /// Its tag is not the key's.
    #[error("ticket was not issued by this cluster")]
    Forged,
    /// Issued in the future, beyond the skew of clocks.
    #[error("ticket is not valid yet")]
    Early,
    /// Its time is over.
    #[error("ticket expired")]
    Expired,
}

impl Claims {
    /// The text of a ticket that says this: canonical base64url of body and tag. Nothing if it would be too long for a header.
    #[must_use]
    pub fn mint(&self, key: &TicketKey) -> Option<String> {
        let mut bytes = self.body(key.kid());
        let tag = key.tag(&bytes);
        bytes.extend_from_slice(&tag);
        (bytes.len() <= BYTES_MAX).then(|| URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Checks a ticket by its text, the cluster's keys and a clock (milliseconds since the Unix epoch). Asks nobody.
    ///
    /// The tag is compared in constant time, and nothing behind it is read before it is right.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn check(text: &[u8], keys: &KeyRing, now_ms: u64) -> Result<Self, TicketError> {
        if text.len() > TEXT_LEN_MAX {
            return Err(TicketError::Malformed);
        }
        let mut bytes = [0; BYTES_MAX];
        // The engine refuses padding, whitespace and trailing bits: one ticket has one text.
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| TicketError::Malformed)?;
        let (body, tag) = bytes[..length].split_last_chunk::<TAG_BYTES>().ok_or(TicketError::Malformed)?;
        let mut fields = Fields::of(body, LABEL).ok_or(TicketError::Malformed)?;
        let kid = fields.array().map(Kid::from_bytes).ok_or(TicketError::Malformed)?;
        let key = keys.find(kid).ok_or(TicketError::UnknownKey)?;
        if !key.is_tag_of(body, tag) {
            return Err(TicketError::Forged);
        }
        let claims = Self::read(fields).ok_or(TicketError::Malformed)?;
        if claims.issued_at_ms > now_ms.saturating_add(SKEW_MS) {
            return Err(TicketError::Early);
        }
        if claims.expires_at_ms.saturating_add(SKEW_MS) <= now_ms {
            return Err(TicketError::Expired);
        }
        Ok(claims)
    }

    /// The key that a ticket names, whether or not it was minted with it.
    #[must_use]
    pub fn kid_of(text: &[u8]) -> Option<Kid> {
        let mut bytes = [0; BYTES_MAX];
        let length =
            text.get(..TEXT_LEN_MAX.min(text.len())).and_then(|text| URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok())?;
        Fields::of(&bytes[..length], LABEL)?.array().map(Kid::from_bytes)
    }

    /// What the tag is made over.
    fn body(&self, kid: Kid) -> Vec<u8> {
        Transcript::new(LABEL)
            .field(kid.as_bytes())
            .field(self.connection.as_bytes())
            .field(self.owner.as_bytes())
            .field(&self.generation.0.to_be_bytes())
            .field(&self.epoch.to_be_bytes())
            .optional(self.origin.as_deref().map(str::as_bytes))
            .field(&self.thumbprint)
            .field(self.mode.name().as_bytes())
            .optional(self.subject.as_deref().map(str::as_bytes))
            .optional(self.issuer.as_deref().map(str::as_bytes))
            .field(&self.issued_at_ms.to_be_bytes())
            .field(&self.expires_at_ms.to_be_bytes())
            .finish()
    }

    /// Reads what follows the key's name.
    fn read(mut fields: Fields<'_>) -> Option<Self> {
        let claims = Self {
            connection: ConnectionId::from_bytes(fields.array()?),
            owner: NodeId::from_bytes(fields.array()?),
            generation: Generation(u64::from_be_bytes(fields.array()?)),
            epoch: u32::from_be_bytes(fields.array()?),
            origin: fields.text()?.map(str::to_owned),
            thumbprint: fields.array()?,
            mode: Mode::parse(fields.text()??)?,
            subject: fields.text()?.map(str::to_owned),
            issuer: fields.text()?.map(str::to_owned),
            issued_at_ms: u64::from_be_bytes(fields.array()?),
            expires_at_ms: u64::from_be_bytes(fields.array()?),
        };
        fields.end()?;
        Some(claims)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    pub(crate) fn claims() -> Claims {
        Claims {
            connection: ConnectionId::from_bytes([1; 16]),
            owner: NodeId::from_bytes([2; 8]),
            generation: Generation(3),
            epoch: 4,
            origin: Some("https://app.example".to_owned()),
            thumbprint: [5; 32],
            mode: Mode::Proof,
            subject: Some("ada".to_owned()),
            issuer: Some("pool".to_owned()),
            issued_at_ms: NOW,
            expires_at_ms: NOW + 15_000,
        }
    }

    fn keys() -> KeyRing {
        KeyRing::single(TicketKey::from_parts(Kid::from_bytes([9; 8]), &[8; 32]))
    }

    fn mint(claims: &Claims) -> String {
        claims.mint(keys().minting().unwrap()).unwrap()
    }

    #[test]
    fn a_ticket_says_what_it_was_minted_for() {
        let bare = Claims { origin: None, subject: None, issuer: None, mode: Mode::Bearer, epoch: 0, ..claims() };
        for claims in [claims(), bare] {
            assert_eq!(Claims::check(mint(&claims).as_bytes(), &keys(), NOW), Ok(claims));
        }
    }

    #[test]
    fn any_flipped_bit_and_any_other_length_is_refused() {
        let text = mint(&claims());
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let checked = Claims::check(URL_SAFE_NO_PAD.encode(&flipped).as_bytes(), &keys(), NOW);
            assert!(checked.is_err(), "bit {bit} of the bytes");
        }
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone().into_bytes();
                flipped[place] ^= 1 << bit;
                assert!(Claims::check(&flipped, &keys(), NOW).is_err(), "bit {bit} of character {place}");
            }
            assert!(Claims::check(&text.as_bytes()[..place], &keys(), NOW).is_err(), "cut at {place}");
        }
        for longer in [format!("{text}A"), format!("{text}="), format!("{text} "), text.repeat(2), "A".repeat(10_000)] {
            assert!(Claims::check(longer.as_bytes(), &keys(), NOW).is_err());
        }
    }

    #[test]
    fn times_are_checked_with_two_seconds_of_skew() {
        let check = |now| Claims::check(mint(&claims()).as_bytes(), &keys(), now).map(drop);
        assert_eq!(check(NOW - SKEW_MS - 1), Err(TicketError::Early));
        assert_eq!(check(NOW - SKEW_MS), Ok(()));
        assert_eq!(check(NOW + 15_000 + SKEW_MS - 1), Ok(()));
        assert_eq!(check(NOW + 15_000 + SKEW_MS), Err(TicketError::Expired));
        assert_eq!(check(u64::MAX), Err(TicketError::Expired));
    }

    #[test]
    fn a_tag_of_another_key_does_not_count_whatever_name_it_bears() {
        let (ours, text) = (keys(), mint(&claims()));
        let same_name = KeyRing::single(TicketKey::from_parts(Kid::from_bytes([9; 8]), &[7; 32]));
        assert_eq!(Claims::check(text.as_bytes(), &same_name, NOW), Err(TicketError::Forged));
        let other_name = KeyRing::single(TicketKey::from_parts(Kid::from_bytes([1; 8]), &[8; 32]));
        assert_eq!(Claims::check(text.as_bytes(), &other_name, NOW), Err(TicketError::UnknownKey));
        assert_eq!(Claims::kid_of(text.as_bytes()), Some(ours.minting().unwrap().kid()));
    }

    #[test]
    fn what_does_not_fit_a_header_is_not_minted() {
        let long = Claims { subject: Some("a".repeat(BYTES_MAX)), ..claims() };
        assert_eq!(long.mint(keys().minting().unwrap()), None);
    }

    proptest! {
        #[test]
        fn checking_never_panics_and_takes_only_what_was_minted(text in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Claims::check(&text, &keys(), NOW).is_err());
            let _ = Claims::kid_of(&text);
        }
    }
}
