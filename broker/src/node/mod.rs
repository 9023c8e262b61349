//! The supervision tree: starts, watches and drains everything else.
