use std::rc::Rc;
use std::sync::Arc;

use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpResponse};

use super::supervisor::{RestartPolicy, Supervised, supervise};
use crate::authorizer::AuthorizeEndpoint;
use crate::config::Settings;
use crate::demo::DemoPage;
use crate::edge::{Cors, refuse};
use crate::frame_page::FramePage;
use crate::gateway::{self, Gateway, Watchdog, WatchdogSettings, Worker};
use crate::hub::HubShard;
use crate::identity::Identity;
use crate::management::Management;
use crate::sdk;
use crate::telemetry::{self, Health, Metrics};

/// What both applications are made of; cloned into every worker thread.
#[derive(Clone)]
pub(super) struct AppParts {
    pub(super) settings: Arc<Settings>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) identity: Arc<Identity>,
    pub(super) authorize: Arc<AuthorizeEndpoint>,
    pub(super) management: Arc<Management>,
    /// The frame of the challenge, where a form needs it.
    pub(super) frame: Option<FramePage>,
    pub(super) cors: Cors,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
}

impl AppParts {
    /// Sockets, sign-in, decisions, protected resources. Called once on each worker thread, whose sockets it founds.
    pub(super) fn public(&self) -> App<impl AppFactory + use<>> {
        let (worker, hub_shard) = self.worker();
        let parts = self.clone();
        App::new()
            // The application owns the thread's hub shard: they end together.
            .app_data(hub_shard)
            .app_data(Data::new(self.cors.clone()))
            .app_data(PayloadConfig::new(self.settings.server.request_body_max_bytes))
            .configure(move |config| {
                gateway::configure(worker, config);
                parts.identity.configure(config);
                parts.authorize.configure(config);
                parts.authorize.configure_protected(config, &parts.settings.protected, &parts.gateway.hosts);
                if parts.settings.management.on_public_listener {
                    parts.management.configure(config);
                }
                sdk::configure(config);
                if let Some(frame) = &parts.frame {
                    frame.configure(config);
                }
                if parts.settings.server.demo_page {
                    DemoPage::new(&parts.settings).configure(config);
                }
            })
            .default_service(web::to(nothing_here))
    }

    /// Decisions, metrics, health, the server API.
    pub(super) fn admin(&self) -> App<impl AppFactory + use<>> {
        let parts = self.clone();
        App::new()
            .app_data(Data::new(self.cors.clone()))
            .app_data(PayloadConfig::new(self.settings.server.request_body_max_bytes))
            .app_data(Data::new(self.health.clone()))
            .app_data(Data::from(Arc::clone(&self.metrics)))
            .configure(move |config| {
                parts.authorize.configure(config);
                parts.management.configure(config);
                telemetry::configure(config);
                let index = index(&parts.settings.authorizer.path);
                config.service(web::resource("/").get(move || std::future::ready(HttpResponse::Ok().json(&index))));
            })
            .default_service(web::to(nothing_here))
    }

    /// What the sockets of this thread share, with its supervised hub shard.
    fn worker(&self) -> (Rc<Worker>, Supervised<HubShard>) {
        let shard = self.gateway.hub.attach();
        let condition = self.health.condition("hub");
        condition.ok();
        let lost = move |_| condition.failed("a hub shard ended too often");
        let actor = shard.clone();
        let supervised =
            supervise("hub shard", RestartPolicy::default(), Arc::clone(&self.metrics), lost, move || actor.actor());
        let limits = &self.settings.gateway.limits;
        let watchdog = Watchdog::start(WatchdogSettings::from(limits), Arc::clone(&self.metrics));
        (Rc::new(Worker { gateway: Arc::clone(&self.gateway), shard, watchdog }), supervised)
    }
}

/// What an application is, in short.
pub(super) trait AppFactory:
    ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = actix_web::Error, InitError = ()>
{
}

impl<T> AppFactory for T where
    T: ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = actix_web::Error, InitError = ()>
{
}

/// What the administrative listener has, for who opens it in a browser.
fn index(authorize: &str) -> serde_json::Value {
    serde_json::json!({
        "health": ["/health/live", "/health/ready"],
        "metrics": "/metrics",
        "authorize": authorize,
        "api": ["/api/v1/publish", "/api/v1/disconnect"],
    })
}

/// The answer on paths that are nobody's.
async fn nothing_here() -> HttpResponse {
    refuse(StatusCode::NOT_FOUND, "not_found", "nothing is served under this path")
}
