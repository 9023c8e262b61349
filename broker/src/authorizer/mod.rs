//! Whether a REST call comes from a live, verified connection.
