//! Writes as arguments of a script, and the fields of an entry read back.

use std::str::FromStr;

use countersign_node_proto::{ChannelName, ConnectionId, Generation, NodeId};
use redis::{Cmd, Value};

use crate::config::Mode;
use crate::registry::{Entry, RegistryUnavailable, Write};

/// Adds a write to a call of `apply.lua`.
pub(super) fn add_write(call: &mut Cmd, write: &Write) {
    match write {
        Write::Register(entry) => add_entry(call, entry),
        Write::Verify(id, generation, mode) => {
            head(call, "verify", *id, *generation, 1);
            call.arg(mode.name());
        }
        Write::Lapse(id, generation) => {
            head(call, "lapse", *id, *generation, 1);
            call.arg(Mode::default().name());
        }
        Write::Refresh(id, generation, expires_at) => {
            head(call, "refresh", *id, *generation, 1);
            call.arg(number_or_empty(*expires_at));
        }
        Write::Subscribe(id, generation, channel) => {
            head(call, "subscribe", *id, *generation, 1);
            call.arg(channel.as_str());
        }
        Write::Unsubscribe(id, generation, channel) => {
            head(call, "unsubscribe", *id, *generation, 1);
            call.arg(channel.as_str());
        }
        Write::Remove(id, generation) => head(call, "remove", *id, *generation, 0),
    }
}

/// Adds the removal of an entry that the node does not have, whatever its generation.
pub(super) fn add_disown(call: &mut Cmd, id: ConnectionId, node: NodeId) {
    head(call, "disown", id, Generation(0), 1);
    call.arg(node.encode());
}

fn add_entry(call: &mut Cmd, entry: &Entry) {
    head(call, "register", entry.id, entry.generation, 9 + entry.subscriptions.len());
    call.arg(entry.node.encode())
        .arg(u8::from(entry.verified))
        .arg(entry.connected_at_ms)
        .arg(entry.last_active_ms)
        .arg(number_or_empty(entry.expires_at))
        .arg(text_or_empty(entry.principal.as_deref()))
        .arg(text_or_empty(entry.origin.as_deref()))
        .arg(text_or_empty(entry.issuer.as_deref()))
        .arg(entry.mode.name());
    for channel in &entry.subscriptions {
        call.arg(channel.as_str());
    }
}

fn head(call: &mut Cmd, kind: &str, id: ConnectionId, generation: Generation, arguments: usize) {
    call.arg(kind).arg(id.encode()).arg(generation.0).arg(arguments);
}

fn number_or_empty(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// An empty text and none are two things.
fn text_or_empty(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!("={text}"))
}

/// Reads the fields of an entry; none if there are none.
///
/// # Errors
/// If they are not what [`add_entry`] writes: another program wrote there, and nobody may be let in on it.
pub(super) fn read_entry(id: ConnectionId, value: Value) -> Result<Option<Entry>, RegistryUnavailable> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(value).map_err(|_| spoiled(id))?;
    if fields.is_empty() {
        return Ok(None);
    }
    let field = |wanted: &str| fields.chunks_exact(2).find(|pair| pair[0] == wanted.as_bytes()).map(|pair| pair[1].as_slice());
    let text = |wanted: &str| field(wanted).map(|text| String::from_utf8(text.to_vec())).transpose().map_err(|_| spoiled(id));
    let channels = fields.chunks_exact(2).filter_map(|pair| pair[0].strip_prefix(b"+"));
    Ok(Some(Entry {
        id,
        node: parsed(id, field("n"))?,
        generation: Generation(parsed(id, field("g"))?),
        principal: text("p")?,
        issuer: text("i")?,
        origin: text("o")?,
        verified: field("v") == Some(b"1"),
        mode: mode(id, field("m"))?,
        connected_at_ms: parsed(id, field("c"))?,
        last_active_ms: parsed(id, field("a"))?,
        expires_at: field("x").map(|expires_at| parsed(id, Some(expires_at))).transpose()?,
        subscriptions: channels.map(|channel| channel_name(id, channel)).collect::<Result<_, _>>()?,
    }))
}

fn parsed<T: FromStr>(id: ConnectionId, field: Option<&[u8]>) -> Result<T, RegistryUnavailable> {
    let text = field.and_then(|field| std::str::from_utf8(field).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(|| spoiled(id))
}

/// Entries of older nodes have none. One that this version does not know asks for more than any that it does.
fn mode(id: ConnectionId, field: Option<&[u8]>) -> Result<Mode, RegistryUnavailable> {
    let Some(field) = field else { return Ok(Mode::Bearer) };
    std::str::from_utf8(field).ok().and_then(Mode::parse).ok_or_else(|| spoiled(id))
}

fn channel_name(id: ConnectionId, name: &[u8]) -> Result<ChannelName, RegistryUnavailable> {
    std::str::from_utf8(name).ok().and_then(|name| ChannelName::new(name).ok()).ok_or_else(|| spoiled(id))
}

fn spoiled(id: ConnectionId) -> RegistryUnavailable {
    RegistryUnavailable(format!("the entry of {id:?} is not as it was written"))
}
