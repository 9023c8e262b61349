//! Names in Redis: keys of the registry and channels of the bus.

use crate::{ChannelName, ConnectionId, NodeId, slot_of};

/// Why a text cannot be the prefix of all names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a prefix has 1 to 64 characters: letters, digits, `-`, `_`, `.` and `:`")]
pub struct PrefixError;

/// The names under which one cluster keeps and says everything.
///
/// All keys of the registry share the hash tag `{prefix}` and so one slot of a Redis Cluster: a write touches an entry and
/// its indexes, and only keys of one slot can be changed by one script. Channels carry no tag, so that their load spreads.
///
/// | Key | Type | Holds |
/// |---|---|---|
/// | `{p}:entry:<id>` | hash | one connection; a subscription is a field `+<channel>` |
/// | `{p}:lease:<node>` | string with an expiry | the node lives |
/// | `{p}:nodes` | set | every node that may have something here |
/// | `{p}:node:<node>` | set | ids of the node's connections; its size is the counter |
/// | `{p}:principal:<principal>` | sorted set, all of score 0 | `<id><node>` of the principal's connections |
/// | `{p}:channel:<channel>` | sorted set, all of score 0 | `<id><node>` of the channel's connections |
/// | `{p}:fence:<node>` | string with an expiry | which link of the node may write |
/// | `{p}:tickets` | hash | the keys of tickets: name, and since when and with which secret |
/// | `{p}:pool:…` | | users, refresh tokens, lock-outs and revocations, where the pool is kept here |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
    root: String,
}

/// What a channel of the bus is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// To every node.
    Broadcast,
    /// To one node.
    Node(NodeId),
    /// To the nodes that have subscribers.
    Channel(ChannelName),
    /// To this node itself, by way of a certain server of a Redis Cluster: the number makes a name that is kept there.
    Echo(NodeId, u16),
}

impl Layout {
    /// Longest prefix in bytes.
    pub const PREFIX_LEN_MAX: usize = 64;

    /// The names that begin with `prefix`.
    ///
    /// # Errors
    /// [`PrefixError`]; braces would break the hash tag, and glob characters the rules of an ACL.
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if prefix.is_empty() || prefix.len() > Self::PREFIX_LEN_MAX || !prefix.chars().all(allowed) {
            return Err(PrefixError);
        }
        Ok(Self { prefix: prefix.to_owned(), root: format!("{{{prefix}}}:") })
    }

    /// What every key begins with, hash tag included. Scripts make their keys from it.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The entry of a connection.
    #[must_use]
    pub fn entry(&self, id: ConnectionId) -> String {
        format!("{}entry:{id}", self.root)
    }

    /// The lease of a node.
    #[must_use]
    pub fn lease(&self, node: NodeId) -> String {
        format!("{}lease:{node}", self.root)
    }

    /// Every node that may have something in the registry.
    #[must_use]
    pub fn nodes(&self) -> String {
        format!("{}nodes", self.root)
    }

    /// The connections of a node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> String {
        format!("{}node:{node}", self.root)
    }

    /// The connections of a principal.
    #[must_use]
    pub fn principal(&self, principal: &str) -> String {
        format!("{}principal:{principal}", self.root)
    }

    /// The connections subscribed to a channel.
    #[must_use]
    pub fn channel(&self, channel: &ChannelName) -> String {
        format!("{}channel:{channel}", self.root)
    }

    /// Which link of a node may write.
    #[must_use]
    pub fn fence(&self, node: NodeId) -> String {
        format!("{}fence:{node}", self.root)
    }

    /// The keys of tickets.
    #[must_use]
    pub fn tickets(&self) -> String {
        format!("{}tickets", self.root)
    }

    /// What every key of the user pool begins with. Scripts make their keys from it.
    #[must_use]
    pub fn pool(&self) -> String {
        format!("{}pool:", self.root)
    }

    /// A member of the indexes by principal and channel: the node is there so that a page needs no entry to tell the living.
    #[must_use]
    pub fn member(id: ConnectionId, node: NodeId) -> String {
        format!("{id}{node}")
    }

    /// Just above every member of this connection: `~` sorts above the alphabet of identifiers.
    #[must_use]
    pub fn above(id: ConnectionId) -> String {
        format!("({id}~")
    }

    /// The connection that a member names.
    #[must_use]
    pub fn connection_of(member: &[u8]) -> Option<ConnectionId> {
        ConnectionId::parse(member.get(..ConnectionId::TEXT_LEN)?).ok()
    }

    /// The slot of all keys.
    #[must_use]
    pub fn slot(&self) -> u16 {
        slot_of(self.root.as_bytes())
    }

    /// The name of a topic on the bus.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> String {
        match topic {
            Topic::Broadcast => format!("{}/all", self.prefix),
            Topic::Node(node) => format!("{}/node/{node}", self.prefix),
            Topic::Channel(channel) => format!("{}/channel/{channel}", self.prefix),
            Topic::Echo(node, number) => format!("{}/echo/{node}/{number}", self.prefix),
        }
    }

    /// The topic that a name on the bus stands for; none if it is not ours.
    #[must_use]
    pub fn topic_of(&self, name: &str) -> Option<Topic> {
        let rest = name.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        match rest.split_once('/') {
            None if rest == "all" => Some(Topic::Broadcast),
            Some(("node", node)) => node.parse().ok().map(Topic::Node),
            Some(("channel", channel)) => ChannelName::new(channel).ok().map(Topic::Channel),
            Some(("echo", rest)) => {
                let (node, number) = rest.split_once('/')?;
                Some(Topic::Echo(node.parse().ok()?, number.parse().ok()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new("countersign").unwrap()
    }

    #[test]
    fn keys_stand_together_and_topics_do_not() {
        let (layout, id, node) = (layout(), ConnectionId::from_bytes([0; 16]), NodeId::from_bytes([0; 8]));
        assert_eq!(layout.entry(id), "{countersign}:entry:AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(layout.lease(node), "{countersign}:lease:AAAAAAAAAAA");
        assert_eq!(layout.nodes(), "{countersign}:nodes");
        assert_eq!(layout.node(node), "{countersign}:node:AAAAAAAAAAA");
        assert_eq!(layout.fence(node), "{countersign}:fence:AAAAAAAAAAA");
        assert_eq!(layout.tickets(), "{countersign}:tickets");
        assert_eq!(layout.pool(), "{countersign}:pool:");
        assert_eq!(layout.principal("a{b}"), "{countersign}:principal:a{b}");
        assert_eq!(layout.channel(&ChannelName::new("c").unwrap()), "{countersign}:channel:c");
        assert_eq!(layout.topic(&Topic::Broadcast), "countersign/all");
    }

    #[test]
    fn topics_are_read_back() {
        let layout = layout();
        let channel = |name: &str| Topic::Channel(ChannelName::new(name).unwrap());
        let node = NodeId::from_bytes([9; 8]);
        let own = [Topic::Broadcast, Topic::Node(node), Topic::Echo(node, 65_535)];
        for topic in own.into_iter().chain([channel("a/b"), channel("all"), channel("{x}")]) {
            assert_eq!(layout.topic_of(&layout.topic(&topic)), Some(topic));
        }
        for foreign in [
            "",
            "countersign",
            "countersign/",
            "countersign/al",
            "other/all",
            "countersign/node/x",
            "countersign/channel/",
            "countersign/echo/x/1",
        ] {
            assert_eq!(layout.topic_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_page_begins_above_all_members_of_one_connection() {
        let (id, next) = (ConnectionId::from_bytes([5; 16]), ConnectionId::from_bytes([6; 16]));
        let above = Layout::above(id);
        for node in [[0; 8], [0xff; 8]].map(NodeId::from_bytes) {
            assert!(Layout::member(id, node).as_str() < &above[1..]);
            assert!(Layout::member(next, node).as_str() > &above[1..]);
            assert_eq!(Layout::connection_of(Layout::member(id, node).as_bytes()), Some(id));
        }
        assert_eq!(Layout::connection_of(b"short"), None);
    }

    #[test]
    fn prefixes_cannot_break_tags_or_patterns() {
        assert!(Layout::new("prod:eu-1_a.b").is_ok());
        for wrong in ["", "a{b", "a*", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert_eq!(Layout::new(wrong), Err(PrefixError), "{wrong}");
        }
    }
}
