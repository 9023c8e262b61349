use countersign_node_proto::{ChannelName, Payload, Publication};
use serde::Serialize;

use super::turn::Turn;
use super::{Effects, PublishError, SubscribeError};
use crate::gateway::native::{Data, Push, RequestId};
use crate::gateway::plain::{ActionFrame, Notice};
use crate::gateway::request::{ErrorCode, Failure, ReplyTo, Request, Token};
use crate::gateway::routes::{PublishTemplates, Route};
use crate::gateway::template::{Scope, TemplateError};
use crate::hub::Dialect;
use crate::telemetry::LimitHit;

/// A result without members.
#[derive(Serialize)]
struct Done {}

/// The result of a route that answers.
#[derive(Serialize)]
struct Answered<'a> {
    data: Data<'a>,
}

/// On whose behalf a route publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnBehalfOf {
    /// A client's message: the channel rules have a say.
    Client,
    /// The node's own, at `$connect` and `$disconnect`: the configuration has spoken.
    Node,
}

/// Why a route did not do what it says.
enum RouteFailure {
    /// The message or the rules are not such that it could.
    Refused(Failure),
    /// A template failed.
    Template(TemplateError),
}

impl<E: Effects> Turn<'_, E> {
    /// Does what the client asks of the node, and replies.
    pub(super) fn perform(&mut self, request: Request, to: ReplyTo) {
        let outcome = match request {
            Request::Hello { offered, hello } => return self.hello(offered, hello, &to),
            Request::Answer(answer) => return self.answer(answer, to),
            Request::Refresh { token } => return self.refresh(token, to),
            Request::Ping => Ok(()),
            Request::Subscribe(channel) => self.subscribe(&channel),
            Request::Unsubscribe(channel) => self.unsubscribe(&channel),
            Request::Publish { channel, data, exclude } => {
                self.publish(channel, Payload::Text(data), exclude, OnBehalfOf::Client)
            }
        };
        match outcome {
            Ok(()) => self.reply_done(&to),
            Err(failure) => self.fail_request(&to, failure),
        }
    }

    /// Subscribes, if rules, limits and hub let it.
    pub(super) fn subscribe(&mut self, channel: &ChannelName) -> Result<(), Failure> {
        if !self.config.rules.may_subscribe(channel, &self.state.standing()) {
            return Err(ErrorCode::Denied.into());
        }
        if self.state.subscriptions >= self.config.subscriptions_max {
            self.effects.limit_hit(LimitHit::Subscriptions);
            return Err(ErrorCode::Limit.because("too many subscriptions on this connection"));
        }
        match self.effects.subscribe(channel) {
            Ok(()) => {
                self.state.subscriptions += 1;
                Ok(())
            }
            Err(SubscribeError::Already) => Err(ErrorCode::AlreadySubscribed.into()),
            Err(SubscribeError::Overloaded) => Err(ErrorCode::Overloaded.into()),
        }
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&mut self, channel: &ChannelName) -> Result<(), Failure> {
        if !self.effects.unsubscribe(channel) {
            return Err(ErrorCode::NotSubscribed.into());
        }
        self.state.subscriptions = self.state.subscriptions.saturating_sub(1);
        Ok(())
    }

    /// Publishes, if rules and hub let it.
    fn publish(
        &mut self,
        channel: ChannelName,
        payload: Payload,
        exclude_sender: bool,
        behalf: OnBehalfOf,
    ) -> Result<(), Failure> {
        if behalf == OnBehalfOf::Client && !self.config.rules.may_publish(&channel, &self.state.standing()) {
            return Err(ErrorCode::Denied.into());
        }
        let exclude = exclude_sender.then_some(self.state.facts.id);
        match self.effects.publish(Publication { channel, payload, exclude }) {
            Ok(()) => Ok(()),
            Err(PublishError::Overloaded) => Err(ErrorCode::Overloaded.into()),
        }
    }

    /// Has a new token verified, one at a time. A connection that opened without one stays without: quotas and
    /// revocation know it as nobody's.
    fn refresh(&mut self, token: Token, to: ReplyTo) {
        if self.state.facts.principal.is_none() {
            self.fail_request(&to, ErrorCode::NotAvailable.because("this connection was opened without a token"));
        } else if self.state.refresh.is_some() {
            self.fail_request(&to, ErrorCode::Limit.because("another token is being verified"));
        } else {
            self.state.refresh = Some(to);
            self.effects.verify_token(token);
        }
    }

    /// A native client's action that only the table can know. `$default` is for plain clients: a native one is told.
    pub(super) fn native_route(&mut self, action: &str, text: &str, id: RequestId) {
        let to = ReplyTo::Native(id);
        let outcome = match self.config.routes.exact(action) {
            // The built-ins have their own names in this dialect.
            None | Some(Route::Builtin(_)) => return self.fail_request(&to, ErrorCode::UnknownAction.into()),
            Some(Route::Echo) => return self.reply(&to, &Answered { data: text.into() }),
            Some(Route::Reply(template)) => match template.render(&self.scope(text)) {
                Ok(answer) => return self.reply(&to, &Answered { data: answer.as_str().into() }),
                Err(error) => Err(RouteFailure::Template(error)),
            },
            Some(Route::Publish(templates)) => self.publish_route(templates, text, OnBehalfOf::Client),
        };
        match outcome {
            Ok(()) => self.reply_done(&to),
            Err(RouteFailure::Refused(failure)) => self.fail_request(&to, failure),
            Err(RouteFailure::Template(error)) => {
                self.effects.route_failed(action, &error);
                self.fail_request(&to, ErrorCode::Internal.because("the route failed on this message"));
            }
        }
    }

    /// An integration's route for a plain client. A publication has no reply, as with API Gateway.
    pub(super) fn plain_route(&mut self, key: &str, route: &Route, frame: &ActionFrame<'_>) {
        let outcome = match route {
            // Built-ins were taken before.
            Route::Builtin(_) => return,
            Route::Echo => return self.effects.send_text(frame.body.to_owned()),
            Route::Reply(template) => match template.render(&self.scope(frame.body)) {
                Ok(answer) => return self.effects.send_text(answer),
                Err(error) => Err(RouteFailure::Template(error)),
            },
            Route::Publish(templates) => self.publish_route(templates, frame.body, OnBehalfOf::Client),
        };
        match outcome {
            Ok(()) => {}
            Err(RouteFailure::Refused(failure)) => self.fail_request(&ReplyTo::Plain(frame.action.into()), failure),
            Err(RouteFailure::Template(error)) => {
                // Only routes of the table come here, and a client's key is logged as one of theirs or not at all.
                let known = if self.config.routes.exact(key).is_some() { key } else { "$default" };
                self.effects.route_failed(known, &error);
                self.notice(Notice::Internal);
            }
        }
    }

    /// `$connect`: a message to the client, or a publication.
    pub(super) fn connect_route(&mut self) {
        let outcome = match self.config.routes.connect() {
            Some(Route::Reply(template)) => match template.render(&self.scope("")) {
                Ok(text) => {
                    let frame = match self.state.facts.dialect {
                        Dialect::Native => Push::Message { data: text.as_str().into() }.encode(),
                        Dialect::Plain => text,
                    };
                    return self.effects.send_text(frame);
                }
                Err(error) => Err(RouteFailure::Template(error)),
            },
            Some(Route::Publish(templates)) => self.publish_route(templates, "", OnBehalfOf::Node),
            _ => return,
        };
        self.log_failure("$connect", outcome);
    }

    /// `$disconnect`: a publication.
    pub(super) fn disconnect_route(&mut self) {
        if let Some(Route::Publish(templates)) = self.config.routes.disconnect() {
            let outcome = self.publish_route(templates, "", OnBehalfOf::Node);
            self.log_failure("$disconnect", outcome);
        }
    }

    /// Publishes what a route's templates make of a message.
    fn publish_route(&mut self, templates: &PublishTemplates, body: &str, behalf: OnBehalfOf) -> Result<(), RouteFailure> {
        let scope = self.scope(body);
        let nameless = ErrorCode::BadRequest.because("the message does not name a channel");
        let channel = match templates.channel.render(&scope).map(|name| ChannelName::new(&name)) {
            Ok(Ok(channel)) => channel,
            Err(error) if behalf == OnBehalfOf::Node => return Err(RouteFailure::Template(error)),
            Ok(Err(_)) | Err(_) => return Err(RouteFailure::Refused(nameless)),
        };
        let text = templates.text.render(&scope).map_err(RouteFailure::Template)?;
        self.publish(channel, Payload::Text(text), templates.exclude_sender, behalf).map_err(RouteFailure::Refused)
    }

    /// What the templates of a message may speak of.
    fn scope(&self, body: &str) -> Scope {
        let facts = &self.state.facts;
        let standing = self.state.standing();
        Scope::new(body, facts.id, facts.origin.as_deref(), standing.principal, standing.verified)
    }

    /// Logs what nobody can be told.
    fn log_failure(&mut self, route: &str, outcome: Result<(), RouteFailure>) {
        match outcome {
            Ok(()) => {}
            Err(RouteFailure::Template(error)) => self.effects.route_failed(route, &error),
            Err(RouteFailure::Refused(failure)) => {
                self.effects.route_failed(route, &TemplateError::Failed(failure.message.to_owned()));
            }
        }
    }

    /// Replies that a request was done, with a result.
    pub(super) fn reply(&mut self, to: &ReplyTo, result: &impl Serialize) {
        self.effects.send_text(to.ok(result));
    }

    /// Replies that a request was done.
    pub(super) fn reply_done(&mut self, to: &ReplyTo) {
        self.reply(to, &Done {});
    }
}
