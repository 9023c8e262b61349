//! The one table of close codes.

use crate::telemetry::Label as _;

/// The reasons for which a node ends a connection: the one table of close codes.
///
/// Source: RFC 6455, section 7.4, for codes below 4000; README holds the same table, and a test holds them equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client asked for it.
    Normal,
    /// Idle for too long.
    Idle,
    /// The node drains, or the connection reached its maximum age.
    Drain,
    /// A frame broke RFC 6455.
    Protocol,
    /// A kind of data that no route takes.
    Unsupported,
    /// Text that is not UTF-8.
    InvalidText,
    /// A message that stayed incomplete.
    Policy,
    /// Frame or message too large.
    TooLarge,
    /// The node is full.
    Capacity,
    /// A native client broke its protocol.
    BadRequest,
    /// Token invalid or expired.
    Token,
    /// Challenge failed.
    ChallengeFailed,
    /// Challenge not answered in time.
    ChallengeDeadline,
    /// A newer connection took this one's place.
    Superseded,
    /// Disconnected by an operator, or its user was revoked.
    Disconnected,
    /// Too many messages, or too slow a consumer.
    RateLimit,
    /// A fault of the node.
    Internal,
}

crate::label! {
    /// Close codes as a label.
    pub enum CloseLabel as "code" {
        /// 1000
        C1000 => "1000",
        /// 1001
        C1001 => "1001",
        /// 1002
        C1002 => "1002",
        /// 1003
        C1003 => "1003",
        /// 1007
        C1007 => "1007",
        /// 1008
        C1008 => "1008",
        /// 1009
        C1009 => "1009",
        /// 1012
        C1012 => "1012",
        /// 1013
        C1013 => "1013",
        /// 4400
        C4400 => "4400",
        /// 4401
        C4401 => "4401",
        /// 4403
        C4403 => "4403",
        /// 4408
        C4408 => "4408",
        /// 4409
        C4409 => "4409",
        /// 4410
        C4410 => "4410",
        /// 4429
        C4429 => "4429",
        /// 4500
        C4500 => "4500",
    }
}

/// One row of the table: what is sent, and what a client should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRow {
    /// The reason.
    pub reason: CloseReason,
    /// Its code on the wire.
    pub code: u16,
    /// Its text on the wire: at most 123 bytes (RFC 6455, section 5.5).
    pub text: &'static str,
    /// May a client reconnect unchanged, after a delay with jitter?
    pub reconnect: bool,
}

impl CloseReason {
    /// The whole table.
    pub const TABLE: &'static [CloseRow] = &[
        row(Self::Normal, 1000, "bye", false),
        row(Self::Idle, 1001, "idle for too long", true),
        row(Self::Protocol, 1002, "protocol error", false),
        row(Self::Unsupported, 1003, "this kind of message is not taken here", false),
        row(Self::InvalidText, 1007, "text is not UTF-8", false),
        row(Self::Policy, 1008, "message was not completed in time", false),
        row(Self::TooLarge, 1009, "message too large", false),
        row(Self::Drain, 1012, "node restarts, reconnect", true),
        row(Self::Capacity, 1013, "at capacity, try again later", true),
        row(Self::BadRequest, 4400, "bad request", false),
        row(Self::Token, 4401, "token invalid or expired", false),
        row(Self::ChallengeFailed, 4403, "challenge failed", false),
        row(Self::ChallengeDeadline, 4408, "challenge not answered in time", false),
        row(Self::Superseded, 4409, "superseded by a newer connection", false),
        row(Self::Disconnected, 4410, "disconnected by the server", false),
        row(Self::RateLimit, 4429, "rate limit or slow consumer", false),
        row(Self::Internal, 4500, "internal error, reconnect", true),
    ];

    /// The row of this reason.
    #[must_use]
    pub fn row(self) -> &'static CloseRow {
        Self::TABLE.iter().find(|row| row.reason == self).unwrap_or(&Self::TABLE[16])
    }

    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self.row().code
    }

    /// The label of this reason's code.
    #[must_use]
    pub fn label(self) -> CloseLabel {
        let code = self.code().to_string();
        CloseLabel::ALL.iter().copied().find(|label| label.name() == code).unwrap_or(CloseLabel::C4500)
    }
}

/// A row, written short.
const fn row(reason: CloseReason, code: u16, text: &'static str, reconnect: bool) -> CloseRow {
    CloseRow { reason, code, text, reconnect }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_legal_and_labelled() {
        let mut seen = std::collections::HashSet::new();
        for row in CloseReason::TABLE {
            assert!(seen.insert(row.code), "{} twice", row.code);
            assert!(row.text.len() <= 123);
            assert_eq!(row.reason.code(), row.code);
            assert_eq!(row.reason.label().name(), row.code.to_string());
        }
        assert_eq!(seen.len(), CloseLabel::ALL.len());
    }

    #[test]
    fn the_readme_holds_the_same_table() {
        let readme = include_str!("../../README.md");
        let (_, section) = readme.split_once("### Close codes").unwrap();
        let documented: Vec<&str> = section.lines().filter(|line| line.starts_with("| 1") || line.starts_with("| 4")).collect();
        let row = |row: &CloseRow| {
            let again = if row.reconnect { "yes, with jitter" } else { "no" };
            format!("| {} | {} | {again} |", row.code, row.text)
        };
        assert_eq!(documented, CloseReason::TABLE.iter().map(row).collect::<Vec<_>>());
    }
}
