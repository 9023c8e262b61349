//! Many nodes behave as one, and lose neither a socket nor a promise when one of them, Redis, or the way between them is lost.
//!
//! A binary of its own: these tests promise times, and must not run beside those that open ten thousand sockets. Each module
mod failover;
mod issuers;
mod least_privilege;
mod local_cluster;
mod node_loss;
mod partition;
mod redis_loss;
mod revocation;
mod slow_redis;
mod two_versions;
mod users;
