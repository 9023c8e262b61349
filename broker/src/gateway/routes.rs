use std::collections::HashMap;

use countersign_node_proto::ChannelName;

use super::template::Template;
use crate::config::{Builtin, Fault, Key, PublishRoute, RouteSettings, RouteTable};

/// What an action does.
#[derive(Debug)]
pub enum Route {
    /// What the node does by itself.
    Builtin(Builtin),
    /// Answers the sender.
    Reply(Template),
    /// Publishes on a channel.
    Publish(PublishTemplates),
    /// Sends the message back as it came.
    Echo,
}

/// A publication as the configuration describes it.
#[derive(Debug)]
pub struct PublishTemplates {
    /// The channel's name.
    pub channel: Template,
    /// The text that subscribers get.
    pub text: Template,
    /// The sender does not get it.
    pub exclude_sender: bool,
}

/// The `routes` table, compiled.
#[derive(Debug)]
pub struct Routes {
    exact: HashMap<Box<str>, Route>,
    default: Option<Route>,
    connect: Option<Route>,
    disconnect: Option<Route>,
}

/// The built-ins under the names that they have where no table is configured.
const BUILTINS: [(&str, Builtin); 6] = [
    ("ping", Builtin::Ping),
    ("subscribe", Builtin::Subscribe),
    ("unsubscribe", Builtin::Unsubscribe),
    ("publish", Builtin::Publish),
    ("answer", Builtin::Answer),
    ("refresh", Builtin::Refresh),
];

impl Routes {
    /// Compiles the configured table; an empty one has the built-ins under their own names.
    ///
    /// `message_max_bytes` bounds what templates render.
    ///
    /// # Errors
    /// Every fault of every route, each with the place of its setting.
    pub fn compile(table: &RouteTable, message_max_bytes: usize) -> Result<Self, Vec<Fault>> {
        let mut routes = Self { exact: HashMap::new(), default: None, connect: None, disconnect: None };
        if table.is_empty() {
            routes.exact.extend(BUILTINS.map(|(name, builtin)| (name.into(), Route::Builtin(builtin))));
            return Ok(routes);
        }
        let mut faults = Vec::new();
        for (key, settings) in table {
            match route(key, settings, message_max_bytes) {
                Ok(route) => routes.place(key, route, &mut faults),
                Err(mut found) => faults.append(&mut found),
            }
        }
        if faults.is_empty() { Ok(routes) } else { Err(faults) }
    }

    /// What this action does: its own route, else `$default`, else nothing. None: the message has no action.
    ///
    /// A client that names a special key gets `$default` like any other that is not in the table.
    #[must_use]
    pub fn resolve(&self, action: Option<&str>) -> Option<&Route> {
        action.and_then(|action| self.exact(action)).or(self.default.as_ref())
    }

    /// The route of exactly this action.
    #[must_use]
    pub fn exact(&self, action: &str) -> Option<&Route> {
        self.exact.get(action)
    }

    /// What a message without a route of its own does: `$default`.
    #[must_use]
    pub fn default_route(&self) -> Option<&Route> {
        self.default.as_ref()
    }

    /// What a new connection does: `$connect`, a reply or a publication.
    #[must_use]
    pub fn connect(&self) -> Option<&Route> {
        self.connect.as_ref()
    }

    /// What an ended connection does: `$disconnect`, a publication.
    #[must_use]
    pub fn disconnect(&self) -> Option<&Route> {
        self.disconnect.as_ref()
    }

    /// Puts a compiled route where its key says.
    fn place(&mut self, key: &str, route: Route, faults: &mut Vec<Fault>) {
        let fault = |message: &str, remedy: &str| Fault::new(at(key), message, remedy);
        match (key, &route) {
            ("$connect", Route::Reply(_) | Route::Publish(_)) => self.connect = Some(route),
            ("$connect", _) => faults.push(fault("a connection that opens has sent nothing", "give it `reply` or `publish`")),
            ("$disconnect", Route::Publish(_)) => self.disconnect = Some(route),
            ("$disconnect", _) => faults.push(fault("a connection that ended can be told nothing", "give it `publish`")),
            ("$default", _) => self.default = Some(route),
            _ if key.starts_with('$') => {
                faults.push(fault("it is no special route", "write an action's name, `$connect`, `$disconnect` or `$default`"));
            }
            _ => {
                self.exact.insert(key.into(), route);
            }
        }
    }
}

/// The place of a route.
fn at(key: &str) -> Key {
    Key::from("routes").name(key)
}

/// What to do about a template.
const TEMPLATE_REMEDY: &str = "values stand in `{{ }}`: `message`, `body` and `connection`";

/// Compiles one route.
fn route(key: &str, settings: &RouteSettings, message_max_bytes: usize) -> Result<Route, Vec<Fault>> {
    match settings {
        RouteSettings { builtin: Some(builtin), reply: None, publish: None, echo: None } => Ok(Route::Builtin(*builtin)),
        RouteSettings { builtin: None, reply: Some(source), publish: None, echo: None } => {
            let fault = |message: String| vec![Fault::new(at(key).name("reply"), message, TEMPLATE_REMEDY)];
            Template::text(source, message_max_bytes).map(Route::Reply).map_err(fault)
        }
        RouteSettings { builtin: None, reply: None, publish: Some(settings), echo: None } => {
            publish(&at(key).name("publish"), settings, message_max_bytes).map(Route::Publish)
        }
        RouteSettings { builtin: None, reply: None, publish: None, echo: Some(true) } => Ok(Route::Echo),
        RouteSettings { builtin: None, reply: None, publish: None, echo: Some(false) } => {
            Err(vec![Fault::new(at(key).name("echo"), "`false` says nothing", "write `true`, or remove the route")])
        }
        _ => {
            let message = "a route does exactly one thing";
            Err(vec![Fault::new(at(key), message, "set one of `builtin`, `reply`, `publish` and `echo`")])
        }
    }
}

/// Compiles the templates of a publication.
fn publish(at: &Key, settings: &PublishRoute, message_max_bytes: usize) -> Result<PublishTemplates, Vec<Fault>> {
    let fault = |member: &str, message: String| Fault::new(at.clone().name(member), message, TEMPLATE_REMEDY);
    let channel = Template::name(&settings.channel, ChannelName::LEN_MAX).and_then(|template| match template.fixed() {
        Some(name) => ChannelName::new(name).map(|_| template).map_err(|fault| fault.to_string()),
        None => Ok(template),
    });
    let text = Template::text(&settings.template, message_max_bytes);
    match (channel, text) {
        (Ok(channel), Ok(text)) => Ok(PublishTemplates { channel, text, exclude_sender: settings.exclude_sender }),
        (channel, text) => {
            let channel = channel.err().map(|message| fault("channel", message));
            let text = text.err().map(|message| fault("template", message));
            Err(channel.into_iter().chain(text).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(toml: &str) -> RouteTable {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn an_empty_table_has_the_builtins_under_their_own_names() {
        let routes = Routes::compile(&RouteTable::new(), 1_000).unwrap();
        assert!(matches!(routes.resolve(Some("subscribe")), Some(Route::Builtin(Builtin::Subscribe))));
        assert!(matches!(routes.resolve(Some("answer")), Some(Route::Builtin(Builtin::Answer))));
        assert!(routes.resolve(Some("Subscribe")).is_none());
        assert!(routes.resolve(None).is_none());
    }

    #[test]
    fn actions_match_exactly_and_never_reach_a_special_key() {
        let routes = Routes::compile(
            &table(
                r#"
                PING.reply = "pong"
                "$connect".reply = "welcome"
                "$default".echo = true
                "#,
            ),
            1_000,
        )
        .unwrap();
        assert!(matches!(routes.resolve(Some("PING")), Some(Route::Reply(_))));
        for other in [Some("ping"), Some(""), Some("$connect"), Some("$disconnect"), Some("$default"), None] {
            assert!(matches!(routes.resolve(other), Some(Route::Echo)), "{other:?}");
        }
        assert!(routes.connect().is_some());
        assert!(routes.disconnect().is_none());
    }

    #[test]
    fn every_fault_is_reported_with_its_place() {
        let faults = Routes::compile(
            &table(
                r#"
                "$connect".echo = true
                "$disconnect".reply = "bye"
                "$other".echo = true
                both = { reply = "a", echo = true }
                none = {}
                off.echo = false
                open.reply = "{{ message"
                shout.publish = { channel = "a b", template = "{% x %}" }
                "#,
            ),
            1_000,
        )
        .unwrap_err();
        let mut places: Vec<String> = faults.iter().map(|fault| fault.key.to_string()).collect();
        places.sort_unstable();
        assert_eq!(
            places,
            [
                r#"routes."$connect""#,
                r#"routes."$disconnect""#,
                r#"routes."$other""#,
                "routes.both",
                "routes.none",
                "routes.off.echo",
                "routes.open.reply",
                "routes.shout.publish.channel",
                "routes.shout.publish.template",
            ]
        );
    }
}
