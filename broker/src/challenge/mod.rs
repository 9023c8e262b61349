//! The one-time program that a browser runs to become verified.
