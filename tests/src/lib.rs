//! The harness of the end-to-end suite: nodes, clients and a browser, each real.
//!
//! - [`node`] starts the `countersign` binary on free ports with a data folder of its own, and ends it.
//! - [`cluster`] starts several of them with a Redis and a balancer, breaks parts of it, and checks what was promised.
//! - [`http`], [`socket`] and [`raw`] are three clients: requests, messages, and single bytes of frames.
//! - [`solver`] evaluates challenge programs in a JavaScript engine, [`binding`] makes answers of them; [`browser`] drives a headless Chromium.
//! - [`adversary`] attacks as attackers do, and counts; [`differential`] compares challenge programs across JavaScript engines.
//! - [`redis`] starts a Redis of the test's own, and kills it.
//! - [`tickets`] shows what pages are pushed, and signs calls; [`tokens`] is an issuer of the tests' own; [`metrics`] reads a scrape; [`poll`] waits for conditions, never for time; [`busy`] tells what a busy machine added to one.
//!
//! But for those two, which need the program's format, nothing here knows the code of a node: what the suite shows is what any
//! client sees.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure of the harness is the failure of the test that uses it")]
#![allow(clippy::print_stderr, reason = "what a test tells the person who reads its failure")]

pub mod adversary;
pub mod binding;
pub mod browser;
pub mod busy;
pub mod cluster;
pub mod differential;
pub mod http;
pub mod metrics;
pub mod node;
pub mod pages;
pub mod poll;
pub mod port;
pub mod raw;
pub mod socket;
pub mod solver;
pub mod tickets;
pub mod tokens;

pub use node::{Node, Plan};
pub use poll::{eventually, eventually_ok, within};
