//! What a path, and a question about a call, ask a call to show.

use url::form_urlencoded;

use crate::config::{Mode, Require};

/// What a path asks for: two axes that do not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// A token, a connection, or both.
    pub require: Require,
    /// What must at least be shown of the connection, where one is asked for.
    pub mode: Mode,
}

impl Demand {
    /// What the parameters `require` and `mode` of a query ask for beyond this. Who asks for more than an id asks for a
    /// connection.
    #[must_use]
    pub fn raised_by(self, query: &str) -> Self {
        let require = required(self.require, query);
        let connection_too = require == Require::Token && raised_mode(Mode::Bearer, query) > Mode::Bearer;
        Self { require: if connection_too { Require::Both } else { require }, mode: raised_mode(self.mode, query) }
    }
}

/// The values of a parameter of a query, however its name is written and whatever stands between it and the others: a typing
/// error must not open a path. One without a value has the empty one.
fn values(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split(['&', ';']).flat_map(|pair| form_urlencoded::parse(pair.as_bytes()));
    let named = pairs.filter(|(other, _)| other.trim().eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.into_owned()).collect()
}

/// What the `mode` parameters of a query ask for beyond `floor`. A value that is not known asks for a proof.
#[must_use]
pub fn raised_mode(floor: Mode, query: &str) -> Mode {
    let asked = values(query, "mode");
    asked.iter().fold(floor, |mode, name| mode.max(Mode::parse(name).unwrap_or(Mode::Proof)))
}

/// The first `mode` parameter of a query whose value is not known, and so stands for a proof.
#[must_use]
pub fn unknown_mode(query: &str) -> Option<String> {
    values(query, "mode").into_iter().find(|name| Mode::parse(name).is_none())
}

/// What must be shown where both `floor` and `asked` hold. A query can raise what the settings ask for, never lower it.
#[must_use]
pub fn raised(floor: Require, asked: Require) -> Require {
    if floor == asked { floor } else { Require::Both }
}

/// What the `require` parameters of a query ask for beyond `floor`. A value that is not known asks for everything: a
/// proxy's typing error must not open a path.
#[must_use]
pub fn required(floor: Require, query: &str) -> Require {
    values(query, "require").iter().fold(floor, |require, value| match value.as_str() {
        "token" => raised(require, Require::Token),
        "verified" => raised(require, Require::Verified),
        _ => Require::Both,
    })
}

/// The first `require` parameter of a query whose value is not known, and so stands for everything.
#[must_use]
pub fn unknown_requirement(query: &str) -> Option<String> {
    values(query, "require").into_iter().find(|value| !matches!(value.as_str(), "token" | "verified" | "both"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_raises_what_is_required_and_never_lowers_it() {
        use Require::{Both, Token, Verified};
        for (floor, query, expected) in [
            (Verified, "", Verified),
            (Verified, "a=b&requires=token", Verified),
            (Verified, "require=verified", Verified),
            (Verified, "require=token", Both),
            (Token, "require=token", Token),
            (Token, "x=1&require=verified", Both),
            (Token, "require=both", Both),
            (Both, "require=token", Both),
            (Both, "require=verified", Both),
            (Verified, "require=verifed", Both),
            (Verified, "require=", Both),
            (Token, "require=token&require=verified", Both),
            (Token, "Require=both", Both),
            (Token, "%72equire=verified", Both),
            (Token, "a=b;require=both", Both),
            (Token, "require", Both),
            (Token, "requires=both", Token),
        ] {
            assert_eq!(required(floor, query), expected, "{floor:?} {query}");
        }
    }

    #[test]
    fn a_query_raises_the_mode_and_never_lowers_it() {
        use Mode::{Bearer, Proof, Ticket};
        for (floor, query, expected) in [
            (Bearer, "", Bearer),
            (Bearer, "modes=proof&a=mode=proof", Bearer),
            (Bearer, "mode=ticket", Ticket),
            (Ticket, "mode=bearer", Ticket),
            (Ticket, "x&mode=proof", Proof),
            (Proof, "mode=ticket", Proof),
            (Bearer, "mode=Proof", Proof),
            (Bearer, "mode=", Proof),
            (Bearer, "mode=none", Proof),
            (Bearer, "mode=bearer&mode=ticket", Ticket),
        ] {
            assert_eq!(raised_mode(floor, query), expected, "{floor:?} {query}");
        }
        let demand = Demand { require: Require::Verified, mode: Bearer }.raised_by("mode=proof&require=token");
        assert_eq!(demand, Demand { require: Require::Both, mode: Proof });
        assert_eq!(unknown_mode("mode=ticket&mode=prof").as_deref(), Some("prof"));
    }

    #[test]
    fn a_name_that_is_written_otherwise_asks_for_as_much() {
        for query in
            ["mode=proof", "Mode=proof", "mod%65=proof", "a=b;mode=proof", ";mode=proof", "+mode=proof", "mode", "mode=Proof"]
        {
            assert_eq!(raised_mode(Mode::Ticket, query), Mode::Proof, "{query}");
        }
        assert_eq!(raised_mode(Mode::Ticket, "a=mode&modes=proof&mode=bearer"), Mode::Ticket);
    }

    #[test]
    fn who_asks_for_more_than_an_id_asks_for_a_connection() {
        let token = Demand { require: Require::Token, mode: Mode::Ticket };
        for (query, require, mode) in [
            ("", Require::Token, Mode::Ticket),
            ("mode=bearer", Require::Token, Mode::Ticket),
            ("mode=ticket", Require::Both, Mode::Ticket),
            ("mode=proof", Require::Both, Mode::Proof),
        ] {
            assert_eq!(token.raised_by(query), Demand { require, mode }, "{query}");
        }
    }
}
