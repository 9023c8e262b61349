//! What a node tells its operator: metrics, logs, health.

mod family;
mod health;
mod labels;
mod logging;
mod metrics;

pub use family::{CounterGrid, Counters, Gauges, Histograms, Label};
pub use health::{Condition, Health, HealthReport, Readiness, configure};
pub use labels::{
    AgainCause, AskOutcome, AuthOutcome, BusDrop, BusGap, ConnectionStateLabel, CutReason, DecisionOutcome, DecisionSource,
    Direction, ForeignCall, HandshakeOutcome, IssuerKind, LimitHit, ModeLabel, ProbeOutcome, RedisCall, RedisLinkLabel,
    RedisOutcome, TokenOutcome, VerdictLabel,
};
pub use logging::{LoggingError, init_logging};
pub use metrics::Metrics;
