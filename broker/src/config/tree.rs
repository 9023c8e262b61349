use std::collections::BTreeMap;

use toml::de::DeValue;
use toml::{Spanned, Value};

use super::fault::Place;
use super::key::{Key, Step};

/// A setting, or a table or array of them, that still knows who set it.
///
/// Array members keep their first index, so that a fault names the member as it was written after others were taken out.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A scalar, and for one from the environment also its text: `5` may have been meant as a string.
    Leaf {
        value: Value,
        text: Option<String>,
    },
    Table(BTreeMap<String, Node>),
    Array(Vec<(usize, Node)>),
}

/// How far a key leads into a tree.
pub(super) struct Trace {
    /// The key with the indices as they were written, its untraced end included.
    pub(super) written: Key,
    /// Steps that exist.
    pub(super) depth: usize,
    /// Who set the last of them.
    pub(super) place: Place,
}

impl Node {
    /// An empty table.
    pub(super) fn empty() -> Self {
        Self { place: Place::Default, kind: Kind::Table(BTreeMap::new()) }
    }

    /// A value that has one place as a whole.
    pub(super) fn new(value: Value, place: &Place) -> Self {
        Self::build(value, None, &|_| place.clone())
    }

    /// A value from the environment, which may also be meant as the text that it was written as.
    pub(super) fn from_environment(value: Value, text: &str, place: &Place) -> Self {
        let mut node = Self::new(value, place);
        if let Kind::Leaf { text: spelled, .. } = &mut node.kind {
            *spelled = Some(text.to_owned());
        }
        node
    }

    /// A value beside its spans in the source; `locate` makes places of byte offsets.
    pub(super) fn build(value: Value, spans: Option<&Spanned<DeValue<'_>>>, locate: &dyn Fn(Option<usize>) -> Place) -> Self {
        let place = locate(spans.map(|spanned| spanned.span().start));
        let inner = spans.map(Spanned::get_ref);
        let kind = match value {
            Value::Table(table) => {
                let spans = inner.and_then(DeValue::as_table);
                let child = |name: &str| spans.and_then(|table| table.get(name));
                Kind::Table(table.into_iter().map(|(k, v)| (k.clone(), Self::build(v, child(&k), locate))).collect())
            }
            Value::Array(members) => {
                let child = |index: usize| inner.and_then(DeValue::as_array).and_then(|array| array.get(index));
                let members = members.into_iter().enumerate();
                Kind::Array(members.map(|(index, v)| (index, Self::build(v, child(index), locate))).collect())
            }
            // No setting is a date, and serde would show it to a JSON body as a table.
            Value::Datetime(date) => Kind::Leaf { value: Value::String(date.to_string()), text: None },
            scalar => Kind::Leaf { value: scalar, text: None },
        };
        Self { place, kind }
    }

    /// The plain value.
    pub(super) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Leaf { value, .. } => value.clone(),
            Kind::Table(table) => Value::Table(table.iter().map(|(name, node)| (name.clone(), node.to_value())).collect()),
            Kind::Array(members) => Value::Array(members.iter().map(|(_, node)| node.to_value()).collect()),
        }
    }

    /// Lays another tree over this one: tables join, anything else is replaced.
    pub(super) fn overlay(&mut self, over: Self) {
        match (&mut self.kind, over) {
            (Kind::Table(below), Self { kind: Kind::Table(above), .. }) => {
                for (name, node) in above {
                    match below.get_mut(&name) {
                        Some(under) => under.overlay(node),
                        None => drop(below.insert(name, node)),
                    }
                }
            }
            (_, over) => *self = over,
        }
    }

    /// Sets a value under a path of names, making tables on the way.
    ///
    /// # Errors
    /// The place of the value that stands where a table is needed.
    pub(super) fn set(&mut self, path: &[Step], node: Self) -> Result<(), Place> {
        let Some((Step::Name(name), rest)) = path.split_first() else {
            self.overlay(node);
            return Ok(());
        };
        let place = self.place.clone();
        let Kind::Table(table) = &mut self.kind else { return Err(place) };
        let fresh = Self { place: node.place.clone(), kind: Kind::Table(BTreeMap::new()) };
        table.entry(name.clone()).or_insert(fresh).set(rest, node)
    }

    /// Follows a key, whose indices count the members that are still there, as far as it leads.
    pub(super) fn trace(&self, key: &Key) -> Trace {
        let mut node = self;
        let mut written = Key::default();
        for (depth, step) in key.steps().iter().enumerate() {
            let next = match (step, &node.kind) {
                (Step::Name(name), Kind::Table(table)) => table.get(name).map(|child| (child, written.clone().name(name))),
                (Step::Index(index), Kind::Array(members)) => {
                    members.get(*index).map(|(first, child)| (child, written.clone().index(*first)))
                }
                _ => None,
            };
            let Some((child, longer)) = next else {
                let written = key.steps()[depth..].iter().fold(written, |key, step| match step {
                    Step::Name(name) => key.name(name),
                    Step::Index(index) => key.index(*index),
                });
                return Trace { written, depth, place: node.place.clone() };
            };
            (node, written) = (child, longer);
        }
        Trace { written, depth: key.steps().len(), place: node.place.clone() }
    }

    /// Takes out what these steps lead to. False if that is nothing, or the root.
    pub(super) fn remove(&mut self, path: &[Step]) -> bool {
        match (path, &mut self.kind) {
            ([Step::Name(name)], Kind::Table(table)) => table.remove(name).is_some(),
            ([Step::Index(index)], Kind::Array(members)) if *index < members.len() => {
                members.remove(*index);
                true
            }
            ([Step::Name(name), rest @ ..], Kind::Table(table)) => table.get_mut(name).is_some_and(|node| node.remove(rest)),
            ([Step::Index(index), rest @ ..], Kind::Array(members)) => {
                members.get_mut(*index).is_some_and(|(_, node)| node.remove(rest))
            }
            _ => false,
        }
    }

    /// Takes a scalar from the environment as the text that it was written as. False if it is none, or already is text.
    pub(super) fn read_as_text(&mut self, path: &[Step]) -> bool {
        match (path, &mut self.kind) {
            ([], Kind::Leaf { value, text }) => match text.take() {
                Some(text) if !value.is_str() => {
                    *value = Value::String(text);
                    true
                }
                _ => false,
            },
            ([Step::Name(name), rest @ ..], Kind::Table(table)) => {
                table.get_mut(name).is_some_and(|node| node.read_as_text(rest))
            }
            _ => false,
        }
    }
}
