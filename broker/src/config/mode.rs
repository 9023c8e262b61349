use serde::{Deserialize, Serialize};

/// What a REST call must show of its connection, the weakest first: a floor is raised by the greater of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The connection id alone: whoever holds it may use it until the socket closes.
    #[default]
    Bearer,
    /// A ticket, which the socket was given seconds ago.
    Ticket,
    /// A ticket, and a signature over this call by the key that the page holds.
    Proof,
}

impl Mode {
    /// Every mode, the weakest first.
    pub const ALL: &'static [Self] = &[Self::Bearer, Self::Ticket, Self::Proof];

    /// Its name in configuration and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Ticket => "ticket",
            Self::Proof => "proof",
        }
    }

    /// The mode of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_configuration_and_order_is_by_strength() {
        for mode in Mode::ALL {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
            assert_eq!(Mode::parse(mode.name()), Some(*mode));
        }
        assert!(Mode::Bearer < Mode::Ticket && Mode::Ticket < Mode::Proof);
        assert_eq!(Mode::parse("Ticket"), None);
    }
}
