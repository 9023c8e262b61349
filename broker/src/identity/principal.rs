use serde_json::{Map, Value};

/// Whom a verified token names.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// `sub`.
    pub subject: String,
    /// The user's name as the issuer writes it (`cognito:username` or `username`), else the subject.
    pub username: String,
    /// Configured name of the issuer; `pool` for the node's own.
    pub issuer: String,
    /// Seconds since the Unix epoch.
    pub issued_at: u64,
    /// Seconds since the Unix epoch.
    pub expires_at: u64,
    /// All claims.
    pub claims: Map<String, Value>,
}

impl Principal {
    /// Has this claim this value, or, where it is a list, this member?
    #[must_use]
    pub fn has_claim(&self, name: &str, value: &str) -> bool {
        let is = |claim: &Value| match claim {
            Value::String(text) => text == value,
            Value::Bool(flag) => value == if *flag { "true" } else { "false" },
            Value::Number(number) => number.to_string().as_str() == value,
            _ => false,
        };
        match self.claims.get(name) {
            Some(Value::Array(members)) => members.iter().any(is),
            Some(claim) => is(claim),
            None => false,
        }
    }
}
