use serde::{Deserialize, Serialize};

use super::units::{Millis, Seconds};

/// The WebSocket endpoint: its path, who may open a socket, and what bounds one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Path of the endpoint.
    pub path: String,
    /// Origins that may open a socket and call HTTP endpoints, compared byte by byte: scheme, host and port.
    pub allowed_origins: Vec<String>,
    /// Names by which clients reach this node, as `URL.host` writes them: lower case, without the scheme's own port. Empty: a
    /// handshake's `Host` is believed. With several, `Host` must be one of them; a single one stands for any `Host`, for nodes
    /// behind a proxy that does not pass it on. A challenge's answer is bound to the host that its client dialed.
    pub hosts: Vec<String>,
    /// Also allow the origins under which this node serves its own page (its listen address; `localhost` on loopback).
    pub allow_own_origin: bool,
    /// A handshake without `Origin`: programs send none, browsers always do.
    pub missing_origin: OriginPolicy,
    /// A handshake with `Origin: null`: sandboxed frames, local files.
    pub null_origin: OriginPolicy,
    /// Query parameter whose value is a channel that the connection is subscribed to when it opens.
    pub subscribe_parameter: Option<String>,
    /// Token at the handshake.
    pub token: TokenAtHandshake,
    /// Bounds.
    pub limits: LimitSettings,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            path: "/ws".to_owned(),
            allowed_origins: Vec::new(),
            hosts: Vec::new(),
            allow_own_origin: true,
            missing_origin: OriginPolicy::Refuse,
            null_origin: OriginPolicy::Refuse,
            subscribe_parameter: None,
            token: TokenAtHandshake::default(),
            limits: LimitSettings::default(),
        }
    }
}

/// What to do with a special `Origin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginPolicy {
    /// Let it in.
    Allow,
    /// Answer 403.
    Refuse,
}

/// Where a handshake carries its token, and whether it must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenAtHandshake {
    /// Refuse a handshake without a token with 401. A token that is there is verified either way.
    pub required: bool,
    /// Take it from `Authorization: Bearer`.
    pub from_authorization: bool,
    /// Take it from this query parameter. For clients that cannot set headers; proxies log URLs.
    pub from_query: Option<String>,
    /// Take it from `Sec-WebSocket-Protocol`, as an entry with this prefix; the entry is never echoed.
    /// Written empty: not from there. TOML has no other word for it.
    #[serde(deserialize_with = "super::units::empty_is_none")]
    pub from_subprotocol_prefix: Option<String>,
    /// A socket ends when its token expires, unless it was refreshed over the socket.
    pub expiry_ends_connection: bool,
}

impl Default for TokenAtHandshake {
    fn default() -> Self {
        Self {
            required: false,
            from_authorization: true,
            from_query: None,
            from_subprotocol_prefix: Some("countersign.token.".to_owned()),
            expiry_ends_connection: true,
        }
    }
}

/// Bounds of one socket and of all sockets of a node. What passes one is refused or closed, and counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Open sockets per node; more are refused with 503.
    pub connections_max: usize,
    /// Open sockets per client address, an IPv6 address counting as its /64; more are refused with 429. 0: no bound.
    pub connections_per_address_max: usize,
    /// Open sockets per principal (subject and issuer) on this node; more are refused with 429. 0: no bound.
    pub connections_per_principal_max: usize,
    /// Handshakes under way (their tokens being verified); more are refused with 503.
    pub handshakes_in_flight_max: usize,
    /// Payload bytes of one frame; announced more closes with 1009 before a byte is buffered.
    pub frame_max_bytes: usize,
    /// Payload bytes of one message over all its fragments; more closes with 1009.
    pub message_max_bytes: usize,
    /// Both of the above until the connection is verified, where a challenge is required.
    pub unverified_message_max_bytes: usize,
    /// Control frames per second; more closes with 4429. 0: no bound.
    pub control_frames_per_second: u32,
    /// Messages per second, with a burst of as many; more closes with 4429. 0: no bound.
    pub messages_per_second: u32,
    /// Subscriptions of one connection; more are refused with an error reply.
    pub subscriptions_max: usize,
    /// Bytes queued towards one client; more closes with 4429.
    pub outbound_queue_max_bytes: usize,
    /// Bytes of publications queued towards one worker thread; more refuses the publication.
    pub hub_queue_max_bytes: usize,
    /// A queue that yields nothing for this long is a dead client: it is cut.
    pub write_stall_timeout_ms: Millis,
    /// A frame or fragmented message that stays incomplete for this long closes with 1008.
    pub message_assembly_timeout_ms: Millis,
    /// Server pings go out at this interval, spread by jitter. 0: none.
    pub ping_interval_seconds: Seconds,
    /// No frame within this after a ping: the client is dead and is cut.
    pub pong_timeout_seconds: Seconds,
    /// No message from the client for this long closes with 1001. Pongs do not count. 0: no bound.
    pub idle_timeout_seconds: Seconds,
    /// A close that the client does not answer in this time is cut.
    pub close_timeout_ms: Millis,
    /// Oldest age of a connection, plus up to a tenth of jitter; then it closes with 1012. 0: no bound.
    pub connection_age_max_seconds: Seconds,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections_max: 100_000,
            connections_per_address_max: 0,
            connections_per_principal_max: 0,
            handshakes_in_flight_max: 1_024,
            frame_max_bytes: 65_536,
            message_max_bytes: 131_072,
            unverified_message_max_bytes: 16_384,
            control_frames_per_second: 20,
            messages_per_second: 100,
            subscriptions_max: 128,
            outbound_queue_max_bytes: 1_048_576,
            hub_queue_max_bytes: 67_108_864,
            write_stall_timeout_ms: Millis(10_000),
            message_assembly_timeout_ms: Millis(10_000),
            ping_interval_seconds: Seconds(25),
            pong_timeout_seconds: Seconds(10),
            idle_timeout_seconds: Seconds(0),
            close_timeout_ms: Millis(2_000),
            connection_age_max_seconds: Seconds(0),
        }
    }
}
