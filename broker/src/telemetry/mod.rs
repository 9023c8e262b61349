//! What a node tells its operator: metrics, logs, health.

mod family;
mod health;
mod logging;
mod metrics;

pub use family::{Counters, Gauges, Histograms, Label};
pub use health::{Condition, Health, HealthReport, Readiness, configure};
pub use logging::{LoggingError, init_logging};
pub use metrics::{
    AgainCause, AuthOutcome, BusDrop, BusGap, ConnectionStateLabel, CutReason, DecisionOutcome, DecisionSource, Direction,
    HandshakeOutcome, IssuerKind, LimitHit, Metrics, ProbeOutcome, RedisCall, RedisLinkLabel, RedisOutcome, TokenOutcome,
    VerdictLabel,
};
