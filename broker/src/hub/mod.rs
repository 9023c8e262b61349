//! Local subscriptions and fan-out.
