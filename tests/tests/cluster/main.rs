//! Many nodes behave as one, and lose neither a socket nor a promise when one of them, Redis, or the way between them is lost.
//!
//! A binary of its own: these tests promise times, and must not run beside those that open ten thousand sockets. Each module
//! holds one promise: any node serves any connection ([`any_node`]) and has it challenged again ([`again`]), sockets that went leave nothing behind ([`churn`]), namesakes
//! of two issuers are kept apart ([`issuers`]), what is closed is denied everywhere ([`revocation`]), a killed node is forgotten
//! ([`node_loss`]), Redis may go and come back in any state ([`redis_loss`]), or be replaced by its replica ([`failover`]), the slots
//! of a Redis Cluster may move ([`slots`]), one node may lose its way to it ([`partition`]), a slow one delays nobody
//! ([`slow_redis`]), a node needs no right that it is not given ([`least_privilege`]), a ticket is good everywhere and a
//! proof once ([`tickets`]), one command starts it all
//! ([`local_cluster`]), nodes of a later version may join ([`two_versions`]), and a user that ends does so on all of them
//! ([`users`]).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "tests say what they measured")]

mod again;
mod any_node;
mod churn;
mod failover;
mod issuers;
mod least_privilege;
mod local_cluster;
mod node_loss;
mod partition;
mod redis_loss;
mod revocation;
mod slots;
mod slow_redis;
mod tickets;
mod two_versions;
mod users;
