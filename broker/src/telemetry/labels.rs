//! The values that labels of metrics can have, one list each: what is counted is bounded by them.

use crate::label;

label! {
    /// State of a connection, as the gauge counts it.
    pub enum ConnectionStateLabel as "state" {
        /// Open, not yet challenged.
        Accepted => "accepted",
        /// Challenge sent.
        Challenged => "challenged",
        /// Challenge answered.
        Verified => "verified",
        /// A further challenge failed, and the socket stayed open.
        Lapsed => "lapsed",
    }
}

label! {
    /// How a handshake ended.
    pub enum HandshakeOutcome as "outcome" {
        /// 101.
        Accepted => "accepted",
        /// 400: not a WebSocket handshake.
        Malformed => "malformed",
        /// 403: origin not on the list.
        OriginRefused => "origin_refused",
        /// 421: none of the names by which clients reach this node.
        HostRefused => "host_refused",
        /// 401: token asked for and absent.
        TokenMissing => "token_missing",
        /// 401: token does not verify.
        TokenInvalid => "token_invalid",
        /// 429: quota of an address or principal, or too many failed challenges.
        QuotaExceeded => "quota_exceeded",
        /// 503: node full, draining or unable to judge.
        Unavailable => "unavailable",
    }
}

label! {
    /// How a challenge ended.
    pub enum VerdictLabel as "verdict" {
        /// Right, in time.
        Verified => "verified",
        /// Wrong result, id, epoch or shape.
        WrongAnswer => "wrong_answer",
        /// The result was right, and not signed by the page's key.
        BadSignature => "bad_signature",
        /// Claimed an origin other than the handshake's.
        OriginMismatch => "origin_mismatch",
        /// Not in time.
        Late => "late",
        /// The socket closed first.
        Abandoned => "abandoned",
        /// The node could not judge.
        Internal => "internal",
    }
}

label! {
    /// Why a verified connection was challenged again.
    pub enum AgainCause as "cause" {
        /// It sent many messages.
        Messages => "messages",
        /// Many calls were made in its name.
        Calls => "calls",
        /// It is time.
        Time => "time",
        /// A server asked for it.
        Server => "server",
    }
}

label! {
    /// What a decision said.
    pub enum DecisionOutcome as "outcome" {
        /// 200.
        Allow => "allow",
        /// 401.
        Deny => "deny",
        /// 403.
        Forbid => "forbid",
        /// 503.
        Unknown => "unknown",
    }
}

label! {
    /// Where a decision came from.
    pub enum DecisionSource as "source" {
        /// The request alone: header absent or malformed, token only.
        Request => "request",
        /// Live state of a connection that this node owns.
        Owner => "owner",
        /// The cache.
        Cache => "cache",
        /// The registry.
        Registry => "registry",
        /// A ticket of another node's connection: nobody was asked.
        Ticket => "ticket",
        /// The node that owns the connection, asked over the bus.
        Peer => "peer",
    }
}

label! {
    /// What a call had to show of its connection.
    pub enum ModeLabel as "mode" {
        /// The id alone.
        Bearer => "bearer",
        /// A ticket.
        Ticket => "ticket",
        /// A ticket and a signature.
        Proof => "proof",
    }
}

label! {
    /// What became of a question to another node.
    pub enum AskOutcome as "outcome" {
        /// Answered.
        Answered => "answered",
        /// It did not leave.
        Unsent => "unsent",
        /// No answer in time.
        TimedOut => "timed_out",
        /// Too many were waiting already.
        Overloaded => "overloaded",
        /// The other node is not there, or was not heard lately: it was not asked.
        Unheard => "unheard",
        /// The other node does not know such questions.
        NotUnderstood => "not_understood",
    }
}

label! {
    /// What became of calls that were allowed in the name of other nodes' connections, where their owners count calls.
    pub enum ForeignCall as "outcome" {
        /// Their owner was told.
        Told => "told",
        /// The owner could not be told.
        Unsent => "unsent",
        /// Calls of more connections than are counted at a time.
        Dropped => "dropped",
    }
}

label! {
    /// Which way.
    pub enum Direction as "direction" {
        /// From clients.
        In => "in",
        /// To clients.
        Out => "out",
    }
}

label! {
    /// How a token verification ended.
    pub enum TokenOutcome as "outcome" {
        /// Valid.
        Valid => "valid",
        /// Not a token, or above the size limit.
        Malformed => "malformed",
        /// No such issuer, key or algorithm.
        UnknownKey => "unknown_key",
        /// Signature does not verify.
        BadSignature => "bad_signature",
        /// Expired.
        Expired => "expired",
        /// Not valid yet.
        Immature => "immature",
        /// Wrong audience, use or other claim.
        WrongClaims => "wrong_claims",
        /// Revoked.
        Revoked => "revoked",
        /// The issuer's keys cannot be had.
        Unavailable => "unavailable",
    }
}

label! {
    /// The kind of issuer; names of configured issuers are a closed set too, but known only at start-up.
    pub enum IssuerKind as "issuer" {
        /// The node's own pool.
        Pool => "pool",
        /// A configured issuer.
        External => "external",
        /// None that is known.
        Unknown => "unknown",
    }
}

label! {
    /// How a sign-in, refresh or revocation ended.
    pub enum AuthOutcome as "outcome" {
        /// Done.
        Ok => "ok",
        /// Body malformed or a field missing.
        BadRequest => "bad_request",
        /// Credentials or token refused, for any reason.
        Refused => "refused",
        /// Password must be changed first.
        ChangeRequired => "change_required",
        /// Too many attempts.
        Throttled => "throttled",
        /// Hash queue full, or store away.
        Unavailable => "unavailable",
        /// A rotated refresh token came again: its family ended.
        ReuseDetected => "reuse_detected",
    }
}

label! {
    /// Why a connection was cut without, or after, a closing handshake.
    pub enum CutReason as "reason" {
        /// Nothing yielded while bytes were queued.
        WriteStall => "write_stall",
        /// No pong.
        PongTimeout => "pong_timeout",
        /// Close frame not answered.
        CloseTimeout => "close_timeout",
        /// End of the drain's grace.
        Drain => "drain",
    }
}

label! {
    /// What a limit did.
    pub enum LimitHit as "limit" {
        /// Frame or message too large.
        MessageSize => "message_size",
        /// Too many control frames.
        ControlRate => "control_rate",
        /// Too many messages.
        MessageRate => "message_rate",
        /// Too many subscriptions.
        Subscriptions => "subscriptions",
        /// Too many bytes queued outbound: slow consumer.
        OutboundQueue => "outbound_queue",
        /// Too many bytes queued towards a worker.
        HubQueue => "hub_queue",
        /// Incomplete message.
        MessageAssembly => "message_assembly",
        /// Challenges pending on the node.
        PendingChallenges => "pending_challenges",
        /// Challenges pending of one network.
        PendingPerNetwork => "pending_per_network",
        /// Challenges pending of one origin.
        PendingPerOrigin => "pending_per_origin",
        /// Failed challenges of one network.
        FailuresPerNetwork => "failures_per_network",
        /// Failed challenges of one origin.
        FailuresPerOrigin => "failures_per_origin",
    }
}

label! {
    /// What a node asks of Redis.
    pub enum RedisCall as "call" {
        /// Writes of the registry, in a batch.
        Apply => "apply",
        /// One entry.
        Find => "find",
        /// A page of connections.
        List => "list",
        /// How many connections there are.
        Count => "count",
        /// The node's lease.
        Lease => "lease",
        /// A node's entries taken out.
        Forget => "forget",
        /// A look for what dead nodes left, and for what is missing of this one.
        Audit => "audit",
        /// Messages to other nodes, in a batch.
        Publish => "publish",
        /// Channels heard from now on, or no more.
        Subscribe => "subscribe",
        /// Users, refresh tokens, lock-outs, revocations.
        Users => "users",
        /// The keys of tickets.
        Keys => "keys",
        /// Is it there?
        Ping => "ping",
    }
}

label! {
    /// How a call of Redis ended.
    pub enum RedisOutcome as "outcome" {
        /// Answered.
        Ok => "ok",
        /// Answered with an error.
        Refused => "refused",
        /// Not answered in time.
        TimedOut => "timed_out",
        /// The link broke meanwhile.
        Broken => "broken",
        /// There was no link.
        Disconnected => "disconnected",
        /// Too many calls waited already.
        Overloaded => "overloaded",
    }
}

label! {
    /// A node's links to Redis.
    pub enum RedisLinkLabel as "link" {
        /// Commands out.
        Commands => "commands",
        /// Messages in.
        Subscription => "subscription",
        /// Messages out, one for each master of a Redis Cluster.
        Shards => "shards",
        /// Those of the user pool.
        Users => "users",
    }
}

label! {
    /// Why messages of other nodes may have been lost.
    pub enum BusGap as "cause" {
        /// The link was away.
        Disconnected => "disconnected",
        /// A number is missing.
        Sequence => "sequence",
        /// More came in than was taken.
        Overflow => "overflow",
        /// A message could not be read.
        Unreadable => "unreadable",
        /// A newer node told in words of its own what to forget.
        NewerVersion => "newer_version",
    }
}

label! {
    /// Why a message of another node was not handed on.
    pub enum BusDrop as "reason" {
        /// More came in than was taken.
        Overflow => "overflow",
        /// It could not be read.
        Unreadable => "unreadable",
        /// It is of a kind that this version does not know.
        UnknownKind => "unknown_kind",
    }
}

label! {
    /// What became of a probe.
    pub enum ProbeOutcome as "outcome" {
        /// Heard again: the link is proven.
        Heard => "heard",
        /// It did not leave.
        Unsent => "unsent",
        /// It left and was not heard: the link is built anew.
        Deaf => "deaf",
    }
}
