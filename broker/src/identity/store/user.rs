/// Whether a password opens a session or only the way to another password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordState {
    /// It stands.
    Permanent,
    /// It must be replaced before this time (milliseconds since the Unix epoch); afterwards it is worth nothing.
    TemporaryUntil(u64),
}

/// A user of the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name as it is compared: trimmed, lower case.
    pub name: String,
    /// The name as it was first written.
    pub username: String,
    /// `sub` in tokens: random, never reused.
    pub sub: String,
    /// For the `email` claim.
    pub email: Option<String>,
    /// Argon2id in PHC form. Never leaves this module but for the hasher.
    pub(in crate::identity) password: String,
    /// What the password is worth.
    pub password_state: PasswordState,
    /// May not sign in or refresh.
    pub disabled: bool,
    /// How often all tokens were revoked.
    pub generation: u64,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub updated_ms: u64,
}

/// What a user is created from.
pub(in crate::identity) struct NewUser<'a> {
    /// Normalised name.
    pub(in crate::identity) name: &'a str,
    /// Name as written.
    pub(in crate::identity) username: &'a str,
    /// For the `email` claim.
    pub(in crate::identity) email: Option<&'a str>,
    /// PHC string.
    pub(in crate::identity) password: &'a str,
    /// What the password is worth.
    pub(in crate::identity) state: PasswordState,
}
