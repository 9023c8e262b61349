//! A Countersign node.

pub mod authorizer;
pub mod backoff;
pub mod challenge;
pub mod cli;
pub mod close;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod edge;
pub mod frame_page;
pub mod gateway;
pub mod hub;
pub mod identity;
pub mod link;
pub mod management;
pub mod node;
pub mod page_key;
pub mod program_key;
pub mod quota;
pub mod registry;
pub mod sdk;
pub mod telemetry;
pub mod ticket;
