use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The `routes` table: what a client's `action` does.
///
/// Keys are matched exactly against the message's `action`; `$connect`, `$disconnect` and `$default` are special.
pub type RouteTable = BTreeMap<String, RouteSettings>;

/// One route: exactly one of its members is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteSettings {
    /// Do what the node does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<Builtin>,
    /// Answer the sender with this template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Publish on a channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishRoute>,
    /// Send the message back as it came, text or binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
}

/// Publishes what a template makes of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRoute {
    /// Template of the channel's name.
    pub channel: String,
    /// Template of the text that subscribers get.
    pub template: String,
    /// The sender does not get its own publication.
    #[serde(default)]
    pub exclude_sender: bool,
}

/// What the node does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Builtin {
    /// Answers with a pong.
    Ping,
    /// Subscribes the sender to `channel`.
    Subscribe,
    /// Ends the sender's subscription to `channel`.
    Unsubscribe,
    /// Publishes `data` on `channel`.
    Publish,
    /// Judges the answer to the challenge.
    Answer,
    /// Replaces the connection's token by `token`.
    Refresh,
}

/// Who may subscribe to and publish on the channels that a pattern matches. The first rule that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelRule {
    /// Literal text with `*` for any run of characters without `:` and `**` for any run at all.
    /// `{subject}` stands for the subject of the connection's token, `{issuer}` for the name of its issuer, within which alone a
    /// subject is unique.
    pub pattern: String,
    /// Who may subscribe. Unset: nobody.
    #[serde(default)]
    pub subscribe: Option<Requirement>,
    /// Who may publish from a socket. Unset: nobody.
    #[serde(default)]
    pub publish: Option<Requirement>,
}

/// The state that an act requires of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Any open connection.
    Anyone,
    /// One that presented a valid token.
    Authenticated,
    /// One that answered its challenge.
    Verified,
    /// Both of the above.
    AuthenticatedAndVerified,
    /// One whose token has this claim with this value (or, for a list, with this member).
    Claim {
        /// Name of the claim.
        name: String,
        /// Its value as text.
        value: String,
    },
}
