//! The end-to-end suite: real clients against real nodes.
//!
//! Each module holds one promise: the wire below ([`rfc6455`]), the socket's life ([`gateway`]), what an answer is bound to
//! ([`binding`]), who vouches for programs ([`signed`]) and for pages ([`frame`]), what calls show of their connection
//! ([`tickets`]), the two systems whose clients must keep working ([`secured_socket`], [`domain_security`]) and whose faults
//! must not come back ([`known_faults`]), the answer to a proxy ([`authorizer`]), a real one ([`nginx`]), delivery ([`channels`]), the page
//! ([`demo_page`]), the client for pages ([`sdk`]), other sites ([`cross_site`]), content policies ([`csp_matrix`]), going away
//! ([`drain`]), many sockets at once ([`scale`]), many that mean ill ([`storms`]), who attacks and what he gets ([`adversary`]),
//! floods of challenges ([`floods`]), further challenges ([`again`]), puzzles ([`work`]), parts of files ([`files`]),
//! the command line ([`config_cli`]) and
//! what a scrape shows ([`metrics`]).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::print_stderr, reason = "tests say what they measured")]

mod adversary;
mod again;
mod authorizer;
mod binding;
mod channels;
mod config_cli;
mod cross_site;
mod csp_matrix;
mod demo_page;
mod domain_security;
mod drain;
mod files;
mod floods;
mod frame;
mod gateway;
mod handshake;
mod known_faults;
mod limits;
mod metrics;
mod nginx;
mod rfc6455;
mod scale;
mod sdk;
mod secured_socket;
mod signed;
mod storms;
mod tickets;
mod tls;
mod tokens;
mod work;
