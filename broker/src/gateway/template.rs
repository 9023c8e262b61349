use std::io;

use countersign_node_proto::ConnectionId;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context};

/// Instructions that one rendering may take: far more than a reply needs, far less than a client could make a loop cost.
const FUEL: u64 = 50_000;
/// The one template of an environment.
const NAME: &str = "template";

/// Why a template did not render.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text would pass its limit.
    #[error("rendered text is too large")]
    TooLarge,
    /// The template asked for something that this message does not have, or ran out of fuel.
    #[error("template failed: {0}")]
    Failed(String),
}

/// What a template may speak of: the message, and the connection that sent it.
///
/// `message` is the message as JSON, or none where it is no JSON; `body` is its raw text; `connection` has `id`, `origin`,
/// `subject`, `username` and `verified`.
#[derive(Debug, Clone)]
pub struct Scope(Value);

impl Scope {
    /// The scope of one message.
    #[must_use]
    pub fn new(
        body: &str,
        id: ConnectionId,
        origin: Option<&str>,
        principal: Option<&crate::identity::Principal>,
        verified: bool,
    ) -> Self {
        let message: Option<Value> = serde_json::from_str(body).ok();
        let connection = context! {
            id => id.encode(),
            origin => origin,
            subject => principal.map(|principal| principal.subject.as_str()),
            issuer => principal.map(|principal| principal.issuer.as_str()),
            username => principal.map(|principal| principal.username.as_str()),
            verified => verified,
        };
        Self(context! { message => message, body => body, connection => connection })
    }
}

/// A template, compiled once at start.
///
/// A template of *text* writes every value as JSON, so `{"value":{{ message.message }}}` is valid JSON whatever the client
/// sent; what is not there is `null`, at any depth. (`|safe` writes a value as it stands.)
/// A template of a *name* writes values as they are, and what is not there is an error: a channel's name must never come
/// out shorter than it was meant.
#[derive(Debug)]
pub struct Template {
    kind: Kind,
    len_max: usize,
}

/// A template without a placeholder is rendered once, at start.
#[derive(Debug)]
enum Kind {
    Fixed(String),
    Compiled(Box<Environment<'static>>),
}

impl Template {
    /// A template of a text frame.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub fn text(source: &str, len_max: usize) -> Result<Self, String> {
        Self::compile(source, len_max, AutoEscape::Json, UndefinedBehavior::Chainable)
    }

    /// A template of a name.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub fn name(source: &str, len_max: usize) -> Result<Self, String> {
        Self::compile(source, len_max, AutoEscape::None, UndefinedBehavior::Strict)
    }

    /// Compiles, and renders what never changes.
    fn compile(source: &str, len_max: usize, escape: AutoEscape, undefined: UndefinedBehavior) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, source.to_owned()).map_err(|fault| describe(&fault))?;
        // The trial must get past what is not there; only then is that what the kind of template says.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        refuse_unknown_names(&environment)?;
        environment.set_undefined_behavior(undefined);
        let template = Self { kind: Kind::Compiled(Box::new(environment)), len_max };
        if ["{{", "{%", "{#"].iter().any(|opening| source.contains(opening)) {
            return Ok(template);
        }
        let fixed = template.render_value(Value::UNDEFINED).map_err(|fault| fault.to_string())?;
        Ok(Self { kind: Kind::Fixed(fixed), len_max })
    }

    /// The fixed text, where nothing in the template depends on the message.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.kind {
            Kind::Fixed(text) => Some(text),
            Kind::Compiled(_) => None,
        }
    }

    /// Renders. The text is at most `len_max` bytes long, and the work is bounded too.
    ///
    /// # Errors
    /// [`TemplateError`]; nothing of the text is kept.
    pub fn render(&self, scope: &Scope) -> Result<String, TemplateError> {
        self.render_value(scope.0.clone())
    }

    /// Renders over a root value.
    fn render_value(&self, root: Value) -> Result<String, TemplateError> {
        let environment = match &self.kind {
            Kind::Fixed(text) => return Ok(text.clone()),
            Kind::Compiled(environment) => environment,
        };
        let template = environment.get_template(NAME).map_err(|fault| TemplateError::Failed(describe(&fault)))?;
        let mut text = Bounded { bytes: Vec::new(), len_max: self.len_max, passed: false };
        let rendered = template.render_captured_to(root, &mut text).map(drop);
        match rendered {
            _ if text.passed => Err(TemplateError::TooLarge),
            Err(fault) => Err(TemplateError::Failed(describe(&fault))),
            Ok(()) => String::from_utf8(text.bytes).map_err(|_| TemplateError::Failed("text is not UTF-8".to_owned())),
        }
    }
}

/// Filters, tests and functions are looked up only when a rendering meets them, so one over nothing is tried at start.
fn refuse_unknown_names(environment: &Environment<'_>) -> Result<(), String> {
    let trial = environment.get_template(NAME).and_then(|template| template.render(context! {}));
    match trial {
        Err(fault)
            if matches!(fault.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction) =>
        {
            Err(describe(&fault))
        }
        // Whatever else fails over nothing may hold over a message.
        _ => Ok(()),
    }
}

/// A fault on one line, without the name that every template has.
fn describe(fault: &minijinja::Error) -> String {
    let detail = fault.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let line = fault.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    format!("{}{detail}{line}", fault.kind())
}

/// Takes bytes up to a limit and no further.
struct Bounded {
    bytes: Vec<u8>,
    len_max: usize,
    passed: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.len_max {
            self.passed = true;
            return Err(io::Error::other("rendered text is too large"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn scope(body: &str) -> Scope {
        Scope::new(body, ConnectionId::from_bytes([0; 16]), Some("https://app.example"), None, true)
    }

    fn check(template: &str, body: &str, expected: &str) {
        assert_eq!(Template::text(template, 1_000).unwrap().render(&scope(body)).as_deref(), Ok(expected), "{template}");
    }

    #[test]
    fn values_are_written_as_json() {
        check(r#"{"value":{{ message.message }}}"#, r#"{"message":"a\"b"}"#, r#"{"value":"a\"b"}"#);
        check(r#"{"value":{{ message.n }}}"#, r#"{"n":[1,2.5,true,null,{"k":-1}]}"#, r#"{"value":[1,2.5,true,null,{"k":-1}]}"#);
        check("{{ body }}", "no json", r#""no json""#);
        check("{{ body|safe }}", "no json", "no json");
        check("[{{ connection.origin }},{{ connection.verified }}]", "", r#"["https://app.example",true]"#);
        check("{{ connection.id }}", "", r#""AAAAAAAAAAAAAAAAAAAAAA""#);
    }

    #[test]
    fn what_is_not_there_is_null_at_any_depth() {
        check("[{{ message.a.b.c }},{{ nothing }},{{ connection.subject }}]", "{}", "[null,null,null]");
        check("[{{ message.a }},{{ message }}]", "no json", "[null,null]");
        check(r#"{{ message.a|default("x") }}"#, "{}", r#""x""#);
    }

    #[test]
    fn a_text_without_placeholders_is_rendered_at_start() {
        let template = Template::text(r#"{"action":"PING","value":{"a":"PONG"}}"#, 100).unwrap();
        assert_eq!(template.fixed(), Some(r#"{"action":"PING","value":{"a":"PONG"}}"#));
        assert!(Template::text("too long", 3).is_err());
    }

    #[test]
    fn a_name_is_written_plainly_and_never_with_a_hole() {
        let template = Template::name("room:{{ message.room }}", 255).unwrap();
        assert_eq!(template.render(&scope(r#"{"room":"blue"}"#)).as_deref(), Ok("room:blue"));
        assert_eq!(template.render(&scope(r#"{"room":7}"#)).as_deref(), Ok("room:7"));
        for body in ["{}", "no json", "[]", "5"] {
            assert!(matches!(template.render(&scope(body)), Err(TemplateError::Failed(_))), "{body}");
        }
    }

    #[test]
    fn faults_are_found_at_start() {
        let fault = Template::text("{\"value\":\n{{ message. }}}", 100).unwrap_err();
        assert!(fault.contains("line 2"), "{fault}");
        for source in ["{% for %}", "{{ 1|nosuch }}", "{{ 1 is nosuch }}", "{{ nosuch() }}"] {
            assert!(Template::text(source, 100).is_err(), "{source}");
        }
        assert!(Template::name("{{ message.room|nosuch }}", 100).is_err());
    }

    #[test]
    fn output_and_work_are_bounded() {
        let echo = Template::text("{% for x in message.list %}{{ message.big }}{% endfor %}", 10_000).unwrap();
        let body = json!({"list": vec![0; 2_000], "big": "x".repeat(1_000)}).to_string();
        assert_eq!(echo.render(&scope(&body)), Err(TemplateError::TooLarge));
        let body = json!({"list": vec![0; 60_000], "big": ""}).to_string();
        let idle =
            Template::text("{% for x in message.list %}{% for y in message.list %}{% endfor %}{% endfor %}", 10).unwrap();
        assert!(matches!(idle.render(&scope(&body)), Err(TemplateError::Failed(_))));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_the_frame_stays_json_and_says_the_same(value in any_json()) {
            let template = Template::text(r#"{"value":{{ message.message }}}"#, 1_000_000).unwrap();
            let text = template.render(&scope(&json!({"message": value}).to_string())).unwrap();
            let back: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, json!({"value": value}));
        }

        #[test]
        fn arbitrary_bodies_never_break_a_frame(body in ".{0,200}") {
            let template = Template::text(r#"[{{ message.a }},{{ message[0] }},{{ body }}]"#, 1_000_000).unwrap();
            let text = template.render(&scope(&body)).unwrap();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
