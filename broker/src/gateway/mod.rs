//! The socket: handshake, Connection actor, limits, dialects, routes.
