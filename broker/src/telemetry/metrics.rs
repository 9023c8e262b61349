use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder};

use super::family::{CounterGrid, Counters, Gauges, Histograms, enlist};
use super::labels::{
    AgainCause, AskOutcome, AuthOutcome, BusDrop, BusGap, ConnectionStateLabel, CutReason, DecisionOutcome, DecisionSource,
    Direction, ForeignCall, HandshakeOutcome, IssuerKind, LimitHit, ModeLabel, ProbeOutcome, RedisCall, RedisLinkLabel,
    RedisOutcome, TokenOutcome, VerdictLabel,
};

/// Every metric of a node, each handle resolved once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Open connections by state.
    pub connections: Gauges<ConnectionStateLabel>,
    /// Handshakes by outcome.
    pub handshakes: Counters<HandshakeOutcome>,
    /// Challenges by verdict.
    pub challenge_verdicts: Counters<VerdictLabel>,
    /// Challenges of connections that were verified already.
    pub challenges_again: Counters<AgainCause>,
    /// From challenge sent to answer received.
    pub challenge_seconds: Histogram,
    /// Challenges waiting for an answer.
    pub challenges_pending: IntGauge,
    /// Decisions by outcome.
    pub decisions: Counters<DecisionOutcome>,
    /// Decisions by source.
    pub decision_sources: Counters<DecisionSource>,
    /// Decisions on connections by what the call had to show, and outcome.
    pub mode_decisions: CounterGrid<ModeLabel, DecisionOutcome>,
    /// Time of a decision by source.
    pub decision_seconds: Histograms<DecisionSource>,
    /// Tickets minted.
    pub tickets_minted: IntCounter,
    /// Proofs refused because their counter was used before.
    pub proof_replays: IntCounter,
    /// Questions to other nodes by outcome.
    pub asks: Counters<AskOutcome>,
    /// From a question to its answer.
    pub ask_seconds: Histogram,
    /// Calls allowed in the name of other nodes' connections, where owners count calls, by what became of the count.
    pub foreign_calls: Counters<ForeignCall>,
    /// Cache hits.
    pub cache_hits: IntCounter,
    /// Cache misses.
    pub cache_misses: IntCounter,
    /// Entries that left the cache for want of room.
    pub cache_evictions: IntCounter,
    /// Entries dropped by a pushed invalidation.
    pub cache_invalidations: IntCounter,
    /// Entries in the cache.
    pub cache_size: IntGauge,
    /// Messages by direction.
    pub messages: Counters<Direction>,
    /// Payload bytes by direction.
    pub message_bytes: Counters<Direction>,
    /// Publications accepted.
    pub publications: IntCounter,
    /// Publications queued towards a worker that its shard did not deliver: it panicked, or its thread ended.
    pub hub_deliveries_lost: IntCounter,
    /// Live subscriptions.
    pub subscriptions: IntGauge,
    /// Bytes queued towards a client when the socket takes them.
    pub outbound_queue_bytes: Histogram,
    /// Connections closed as slow consumers.
    pub slow_consumers: IntCounter,
    /// Connections cut by reason.
    pub cuts: Counters<CutReason>,
    /// Limits hit.
    pub limits: Counters<LimitHit>,
    /// Close codes sent, by the node's own table.
    pub closes: Counters<crate::close::CloseLabel>,
    /// Token verifications by outcome.
    pub tokens: Counters<TokenOutcome>,
    /// Token verifications by kind of issuer.
    pub token_issuers: Counters<IssuerKind>,
    /// Sign-ins, refreshes and revocations by outcome.
    pub auth: Counters<AuthOutcome>,
    /// Time of one password hash, queueing included.
    pub password_hash_seconds: Histogram,
    /// Calls of Redis by outcome.
    pub redis_calls: Counters<RedisOutcome>,
    /// Time of a call of Redis by what it asked.
    pub redis_seconds: Histograms<RedisCall>,
    /// Links to Redis that are up.
    pub redis_up: Gauges<RedisLinkLabel>,
    /// Links to Redis that were made, the first ones included.
    pub redis_connects: Counters<RedisLinkLabel>,
    /// Times at which messages of other nodes may have been lost.
    pub bus_gaps: Counters<BusGap>,
    /// Messages of other nodes that were not handed on.
    pub bus_drops: Counters<BusDrop>,
    /// Probes of the bus.
    pub bus_probes: Counters<ProbeOutcome>,
    /// From a probe sent to the same probe heard.
    pub bus_lag_seconds: Histogram,
    /// Channels that this node hears.
    pub bus_channels: IntGauge,
    /// Nodes that were heard within their lease, this one included.
    pub cluster_nodes: IntGauge,
    /// Seconds since the lease was last confirmed.
    pub lease_age: Gauge,
    /// Entries of dead nodes that this node took out.
    pub registry_reaped: IntCounter,
    /// Entries that the registry had lost and this node wrote again.
    pub registry_restored: IntCounter,
    /// Actors that the supervisor started again.
    pub supervisor_restarts: IntCounter,
    /// Connections whose actor panicked.
    pub connection_panics: IntCounter,
    /// 1 while draining.
    pub draining: IntGauge,
    /// Connections still to be closed by a drain.
    pub drain_remaining: IntGauge,
}

/// Upper bounds in seconds for what takes microseconds to milliseconds.
const FAST_SECONDS: &[f64] = &[0.000_001, 0.000_005, 0.000_02, 0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.25, 1.0];
/// Upper bounds in seconds for what crosses a network within a data centre.
const NETWORK_SECONDS: &[f64] = &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Upper bounds in seconds for what a client or a password hash takes.
const SLOW_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds in bytes of an outbound queue.
const QUEUE_BYTES: &[f64] = &[128.0, 512.0, 2_048.0, 8_192.0, 32_768.0, 131_072.0, 524_288.0, 1_048_576.0];

impl Metrics {
    /// A fresh set with a registry of its own, so that two nodes can live in one process.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let counter = |name: &str, help: &str| enlist(r, IntCounter::with_opts(Opts::new(name, help)));
        let gauge = |name: &str, help: &str| enlist(r, IntGauge::with_opts(Opts::new(name, help)));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            enlist(r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let build = gauge_with_build(r);
        build.set(1);
        Self {
            connections: Gauges::register(r, "countersign_connections", "Open connections by state."),
            handshakes: Counters::register(r, "countersign_handshakes_total", "WebSocket handshakes by outcome."),
            challenge_verdicts: Counters::register(r, "countersign_challenge_verdicts_total", "Challenges by verdict."),
            challenges_again: Counters::register(
                r,
                "countersign_challenges_again_total",
                "Challenges of connections that were verified already, by cause.",
            ),
            challenge_seconds: histogram(
                "countersign_challenge_seconds",
                "From challenge sent to answer received.",
                SLOW_SECONDS,
            ),
            challenges_pending: gauge("countersign_challenges_pending", "Challenges waiting for an answer."),
            decisions: Counters::register(r, "countersign_decisions_total", "Authorizer decisions by outcome."),
            decision_sources: Counters::register(r, "countersign_decision_sources_total", "Authorizer decisions by source."),
            mode_decisions: CounterGrid::register(
                r,
                "countersign_mode_decisions_total",
                "Decisions on connections by what the call had to show, and outcome.",
            ),
            tickets_minted: counter("countersign_tickets_minted_total", "Tickets minted for verified connections."),
            proof_replays: counter("countersign_proof_replays_total", "Proofs refused because they were used before."),
            asks: Counters::register(r, "countersign_asks_total", "Questions to other nodes by outcome."),
            ask_seconds: histogram(
                "countersign_ask_seconds",
                "From a question to another node to its answer.",
                NETWORK_SECONDS,
            ),
            foreign_calls: Counters::register(
                r,
                "countersign_foreign_calls_total",
                "Calls allowed in the name of other nodes' connections, where owners count calls, by what became of the count.",
            ),
            decision_seconds: Histograms::register(
                r,
                "countersign_decision_seconds",
                "Time of a decision by source.",
                FAST_SECONDS,
            ),
            cache_hits: counter("countersign_decision_cache_hits_total", "Decision cache hits."),
            cache_misses: counter("countersign_decision_cache_misses_total", "Decision cache misses."),
            cache_evictions: counter(
                "countersign_decision_cache_evictions_total",
                "Cached decisions evicted for want of room.",
            ),
            cache_invalidations: counter(
                "countersign_decision_cache_invalidations_total",
                "Cached decisions dropped by a pushed invalidation.",
            ),
            cache_size: gauge("countersign_decision_cache_entries", "Entries in the decision cache."),
            messages: Counters::register(r, "countersign_messages_total", "Messages by direction."),
            message_bytes: Counters::register(r, "countersign_message_bytes_total", "Payload bytes by direction."),
            publications: counter("countersign_publications_total", "Publications accepted."),
            hub_deliveries_lost: counter(
                "countersign_hub_deliveries_lost_total",
                "Publications queued towards a worker thread that were not delivered there.",
            ),
            subscriptions: gauge("countersign_subscriptions", "Live subscriptions."),
            outbound_queue_bytes: histogram(
                "countersign_outbound_queue_bytes",
                "Bytes queued towards a client when its socket takes them.",
                QUEUE_BYTES,
            ),
            slow_consumers: counter("countersign_slow_consumers_total", "Connections closed as slow consumers."),
            cuts: Counters::register(r, "countersign_connection_cuts_total", "Connections cut without a closing handshake."),
            limits: Counters::register(r, "countersign_limit_hits_total", "Limits hit."),
            closes: Counters::register(r, "countersign_closes_total", "Close codes sent."),
            tokens: Counters::register(r, "countersign_token_verifications_total", "Token verifications by outcome."),
            token_issuers: Counters::register(
                r,
                "countersign_token_verifications_by_issuer_total",
                "Token verifications by kind of issuer.",
            ),
            auth: Counters::register(r, "countersign_auth_requests_total", "Sign-ins, refreshes and revocations by outcome."),
            password_hash_seconds: histogram(
                "countersign_password_hash_seconds",
                "Time of one password hash, queueing included.",
                SLOW_SECONDS,
            ),
            redis_calls: Counters::register(r, "countersign_redis_calls_total", "Calls of Redis by outcome."),
            redis_seconds: Histograms::register(
                r,
                "countersign_redis_call_seconds",
                "Time of an answered call of Redis by what it asked.",
                NETWORK_SECONDS,
            ),
            redis_up: Gauges::register(r, "countersign_redis_link_up", "Links to Redis that are up."),
            redis_connects: Counters::register(r, "countersign_redis_connects_total", "Links to Redis that were made."),
            bus_gaps: Counters::register(
                r,
                "countersign_bus_gaps_total",
                "Times when messages of other nodes may have been lost.",
            ),
            bus_drops: Counters::register(r, "countersign_bus_drops_total", "Messages of other nodes that were not handed on."),
            bus_probes: Counters::register(r, "countersign_bus_probes_total", "Probes of the bus by outcome."),
            bus_lag_seconds: histogram(
                "countersign_bus_lag_seconds",
                "From a message published to the same message heard, by probes.",
                NETWORK_SECONDS,
            ),
            bus_channels: gauge("countersign_bus_channels", "Channels that this node hears on the bus."),
            cluster_nodes: gauge("countersign_cluster_nodes", "Nodes heard within their lease, this one included."),
            lease_age: enlist(r, Gauge::new("countersign_lease_age_seconds", "Time since the lease was last confirmed.")),
            registry_reaped: counter("countersign_registry_reaped_total", "Entries of dead nodes that this node took out."),
            registry_restored: counter(
                "countersign_registry_restored_total",
                "Entries that the registry had lost and this node wrote again.",
            ),
            supervisor_restarts: counter("countersign_supervisor_restarts_total", "Actors started again by the supervisor."),
            connection_panics: counter("countersign_connection_panics_total", "Connections whose actor panicked."),
            draining: gauge("countersign_draining", "1 while the node drains."),
            drain_remaining: gauge("countersign_drain_remaining", "Connections still to be closed by the drain."),
            registry,
        }
    }

    /// The scrape, in Prometheus text format 0.0.4.
    ///
    /// # Errors
    /// If a collector fails, which none of ours does.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        // Process metrics belong to the process, not to one of perhaps two nodes in it.
        families.extend(process_families());
        TextEncoder::new().encode_to_string(&families)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Build facts as labels of a constant gauge.
fn gauge_with_build(registry: &Registry) -> IntGauge {
    let options =
        Opts::new("countersign_build_info", "Version of the running binary.").const_label("version", env!("CARGO_PKG_VERSION"));
    enlist(registry, IntGauge::with_opts(options))
}

/// CPU seconds, resident memory, open files, start time.
fn process_families() -> Vec<prometheus::proto::MetricFamily> {
    use prometheus::core::Collector as _;
    prometheus::process_collector::ProcessCollector::for_self().collect()
}
