//! What a node tells its operator: metrics, logs, health.

mod family;
mod metrics;

pub use family::{Counters, Gauges, Histograms, Label};
pub use metrics::{
    AuthOutcome, ConnectionStateLabel, CutReason, DecisionOutcome, DecisionSource, Direction, HandshakeOutcome, IssuerKind,
    LimitHit, Metrics, TokenOutcome, VerdictLabel,
};
