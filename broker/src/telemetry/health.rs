use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use serde::Serialize;

use super::Metrics;

/// Is a node alive, and is it ready for traffic?
///
/// Alive is who answers at all. Ready is who does not drain and whose conditions all hold: each component that traffic needs
/// names a condition and says what became of it. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    draining: bool,
    /// By name; none: it holds, a text: why it does not.
    conditions: BTreeMap<&'static str, Option<Cow<'static, str>>>,
}

/// The handle with which a component says how it is. Clones mean the same condition.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    health: Health,
}

/// The body of `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// The verdict.
    pub status: Readiness,
    /// Every condition by name: `ok`, or why it does not hold.
    pub checks: BTreeMap<&'static str, Cow<'static, str>>,
}

/// Should a balancer send traffic here?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Yes.
    Ready,
    /// No.
    Unready,
}

impl Health {
    /// No conditions, not draining: ready. The node names the condition of its own start first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names a condition, which does not hold until its component says so.
    ///
    /// A component that is started again names its condition again: it starts from "starting" then.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        self.state().conditions.insert(name, Some(Cow::Borrowed("starting")));
        Condition { name, health: self.clone() }
    }

    /// Unready from now on, whatever the conditions say.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// How things stand.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let state = self.state();
        let ok = Cow::Borrowed("ok");
        let told = state.conditions.iter().map(|(name, fault)| (*name, fault.clone().unwrap_or_else(|| ok.clone())));
        let mut checks: BTreeMap<_, _> = told.collect();
        checks.insert("drain", if state.draining { Cow::Borrowed("draining") } else { ok });
        let ready = !state.draining && state.conditions.values().all(Option::is_none);
        HealthReport { status: if ready { Readiness::Ready } else { Readiness::Unready }, checks }
    }

    /// Every change is one assignment, so that a poisoned lock guards nothing half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// It holds.
    pub fn ok(&self) {
        self.health.state().conditions.insert(self.name, None);
    }

    /// It does not hold. The reason is for operators: lower case, no full stop, no secret.
    pub fn failed(&self, reason: impl Into<Cow<'static, str>>) {
        self.health.state().conditions.insert(self.name, Some(reason.into()));
    }
}

/// Adds `/health/live`, `/health/ready` and `/metrics`; wants `Data<Health>` and `Data<Metrics>`.
pub fn configure(services: &mut ServiceConfig) {
    services
        .service(web::resource("/health/live").get(live).head(live))
        .service(web::resource("/health/ready").get(ready).head(ready))
        .service(web::resource("/metrics").get(metrics).head(metrics));
}

async fn live() -> impl Responder {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(serde_json::json!({ "status": "live" }))
}

async fn ready(health: Data<Health>) -> impl Responder {
    let report = health.report();
    let mut response = match report.status {
        Readiness::Ready => HttpResponse::Ok(),
        Readiness::Unready => HttpResponse::ServiceUnavailable(),
    };
    response.insert_header((CACHE_CONTROL, "no-store")).json(report)
}

/// Source: the Prometheus text exposition format, version 0.0.4.
async fn metrics(metrics: Data<Metrics>) -> impl Responder {
    match metrics.render() {
        Ok(text) => HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4")).body(text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            crate::edge::refuse(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", "metrics cannot be rendered")
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn ready_is_who_does_not_drain_and_whose_conditions_all_hold() {
        let health = Health::new();
        assert_eq!(health.report().status, Readiness::Ready);
        let (registry, listener) = (health.condition("registry"), health.condition("listener"));
        listener.ok();
        assert_eq!(health.report().status, Readiness::Unready);
        registry.clone().ok();
        assert_eq!(health.report().status, Readiness::Ready);
        registry.failed(format!("no answer for {} s", 5));
        let report = health.report();
        assert_eq!((report.status, &*report.checks["registry"]), (Readiness::Unready, "no answer for 5 s"));
        registry.ok();
        health.drain();
        assert_eq!(health.report().status, Readiness::Unready);
    }

    #[actix_web::test]
    async fn the_endpoints_answer_balancers_and_scrapers() {
        let health = Health::new();
        let registry = health.condition("registry");
        let app = App::new().app_data(Data::new(health.clone())).app_data(Data::new(Metrics::new())).configure(configure);
        let app = init_service(app).await;
        let get = async |path: &str| {
            let response = call_service(&app, TestRequest::get().uri(path).to_request()).await;
            (response.status(), read_body(response).await)
        };
        let unready = get("/health/ready").await;
        assert_eq!(unready.0, StatusCode::SERVICE_UNAVAILABLE);
        let expected = json!({ "status": "unready", "checks": { "drain": "ok", "registry": "starting" } });
        assert_eq!(serde_json::from_slice::<Value>(&unready.1).unwrap(), expected);
        registry.ok();
        assert_eq!(get("/health/ready").await.0, StatusCode::OK);
        health.drain();
        assert_eq!(get("/health/ready").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/health/live").await.0, StatusCode::OK);

        let response = call_service(&app, TestRequest::get().uri("/metrics").to_request()).await;
        assert_eq!(response.headers().get(CONTENT_TYPE).unwrap(), "text/plain; version=0.0.4");
        let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        assert!(text.contains("countersign_build_info") && text.contains("process_cpu_seconds_total"));
        let head = call_service(&app, TestRequest::default().method("HEAD".parse().unwrap()).uri("/health/live").to_request());
        assert_eq!(head.await.status(), StatusCode::OK);
        let post = call_service(&app, TestRequest::post().uri("/metrics").to_request()).await;
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
