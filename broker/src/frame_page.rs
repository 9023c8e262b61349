//! The frame of the challenge form `frame` under `/challenge/`: its document, and the door at which that fetches its program.
//!
//! A page embeds the document, hands it the challenge and gets a MAC back. Only listed pages can embed it, it answers nobody
//! but its parent, and the origin that it binds is the one that the browser names, not one that the page claims. It can
//! reach this node and nothing else, and evaluates bytecode in its own interpreter.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_node_proto::{NodeId, ProgramQuestion, Question, Reply};
use tokio::sync::Semaphore;

use crate::challenge::{HeldPrograms, ProgramHandle};
use crate::cluster::Asker;
use crate::edge::{OriginList, refuse};

/// Questions to other nodes that wait for an answer. Anybody can make a handle up, and proofs of calls need room too.
const ASKING_MAX: usize = 256;
/// Its script, built from `broker/web/frame/`.
const SCRIPT: &str = include_str!("../web/frame/dist/frame.js");

/// The document and the door.
#[derive(Clone)]
pub struct FramePage {
    html: web::Bytes,
    policy: HeaderValue,
    programs: Programs,
}

/// Where programs are: here, or on the node that a handle names.
#[derive(Clone)]
pub struct Programs {
    node: NodeId,
    held: Arc<HeldPrograms>,
    asker: Arc<Asker>,
    asking: Arc<Semaphore>,
}

impl FramePage {
    /// The frame for pages of these origins.
    #[must_use]
    pub fn new(origins: &OriginList, programs: Programs) -> Self {
        let html = format!("<!doctype html><meta charset=utf-8><title>Countersign</title><script>{SCRIPT}</script>");
        Self { html: html.into(), policy: policy(origins), programs }
    }

    /// Serves both.
    pub fn configure(&self, app: &mut web::ServiceConfig) {
        let (page, programs) = (self.clone(), self.programs.clone());
        app.route("/challenge/frame", web::get().to(move || std::future::ready(page.document())));
        let program = move |request: HttpRequest, handle: web::Path<String>| {
            let programs = programs.clone();
            async move { programs.answer(&request, &handle).await }
        };
        app.route("/challenge/program/{handle}", web::get().to(program));
    }

    fn document(&self) -> HttpResponse {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            // Pages that isolate themselves (`Cross-Origin-Embedder-Policy`) may embed it too; who may is in the policy.
            (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
            (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
            // The list of origins is in it.
            (header::CACHE_CONTROL, "no-cache"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        let mut response = HttpResponse::Ok();
        for (name, value) in headers {
            response.insert_header((name, HeaderValue::from_static(value)));
        }
        response.insert_header((header::CONTENT_SECURITY_POLICY, self.policy.clone())).body(self.html.clone())
    }
}

impl Programs {
    /// What this node holds, and whom to ask for the rest.
    #[must_use]
    pub fn new(node: NodeId, held: Arc<HeldPrograms>, asker: Arc<Asker>) -> Self {
        Self { node, held, asker, asking: Arc::new(Semaphore::new(ASKING_MAX)) }
    }

    /// A program, once.
    async fn answer(&self, request: &HttpRequest, handle: &str) -> HttpResponse {
        // Before the handle is looked at: whoever may not have a program must not spend it either.
        if !comes_from_frame(request.headers()) {
            return refuse(StatusCode::FORBIDDEN, "cross_site", "programs are for the frame of this node");
        }
        let Some(handle) = ProgramHandle::parse(handle) else { return gone() };
        let taken = if handle.node() == self.node { Some(self.held.take(&handle)) } else { self.ask(&handle).await };
        match taken {
            Some(Some(text)) => program(text),
            Some(None) => gone(),
            None => refuse(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the node of this program does not answer"),
        }
    }

    /// What the node that holds it says; nothing if it says nothing, or too much is asked already.
    async fn ask(&self, handle: &ProgramHandle) -> Option<Option<String>> {
        let _room = self.asking.try_acquire().ok()?;
        let question = Question::Program(ProgramQuestion { handle: handle.encode() });
        match self.asker.ask(handle.node(), question).await {
            Ok(Reply::Program(taken)) => Some(taken),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(node = ?handle.node(), %error, "program was not fetched from another node");
                None
            }
        }
    }
}

/// Nobody is told whether there ever was a program.
fn gone() -> HttpResponse {
    refuse(StatusCode::NOT_FOUND, "no_program", "the program was fetched, its time is over, or there was none")
}

fn program(text: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; charset=us-ascii"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .body(text)
}

/// Is it a request of the frame, as far as the browser tells? There is no CORS here: another origin could not read the answer
/// anyway, but it could use up the handle.
fn comes_from_frame(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site");
    match (sites.next(), sites.next()) {
        (None, _) => true,
        (Some(site), None) => site.as_bytes() == b"same-origin",
        (Some(_), Some(_)) => false,
    }
}

/// What the document may do: run its own script, ask this node, be embedded by listed pages.
fn policy(origins: &OriginList) -> HeaderValue {
    let hash = STANDARD.encode(digest(&SHA256, SCRIPT.as_bytes()));
    let listed: Vec<&str> = origins.listed().iter().map(|origin| origin.as_str()).collect();
    let ancestors = if listed.is_empty() { "'none'".to_owned() } else { listed.join(" ") };
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{hash}'; connect-src 'self'; frame-ancestors {ancestors}; base-uri 'none'; \
         form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    // Origins are printable ASCII; without a policy nobody may embed it.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::App;
    use actix_web::test::{TestRequest, call_service, init_service, read_body};

    use super::*;
    use crate::cluster::LocalBus;
    use crate::config::OriginPolicy;
    use crate::edge::Origin;
    use crate::telemetry::Metrics;

    fn page(origins: &[&str]) -> FramePage {
        let origins = origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect();
        let node = NodeId::from_bytes([7; 8]);
        let asker = Asker::new(LocalBus::single(node), Duration::from_secs(1), Arc::new(Metrics::new()));
        let programs = Programs::new(node, Arc::default(), asker);
        FramePage::new(&OriginList::new(origins, OriginPolicy::Allow, OriginPolicy::Allow), programs)
    }

    #[actix_web::test]
    async fn exactly_the_listed_origins_may_embed_the_document() {
        for (origins, ancestors) in [
            (
                ["https://a.example", "http://localhost:3000"].as_slice(),
                "frame-ancestors https://a.example http://localhost:3000;",
            ),
            (&[], "frame-ancestors 'none';"),
        ] {
            let page = page(origins);
            let app = init_service(App::new().configure(|app| page.configure(app))).await;
            let response = call_service(&app, TestRequest::get().uri("/challenge/frame").to_request()).await;
            let policy = response.headers().get("content-security-policy").unwrap().to_str().unwrap().to_owned();
            assert!(policy.contains(ancestors) && policy.starts_with("default-src 'none'; "), "{policy}");
            let html = String::from_utf8(read_body(response).await.to_vec()).unwrap();
            let script = html.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
            let hash = STANDARD.encode(digest(&SHA256, script.as_bytes()));
            assert!(policy.contains(&format!("script-src 'sha256-{hash}';")), "the policy lets this script run and no other");
        }
    }

    #[actix_web::test]
    async fn a_program_is_given_once_and_to_the_frame_alone() {
        let page = page(&["https://a.example"]);
        let app = init_service(App::new().configure(|app| page.configure(app))).await;
        let held = page.programs.held.hold(ProgramHandle::draw(page.programs.node).unwrap(), "AQ".to_owned());
        let path = format!("/challenge/program/{}", held.handle().encode());
        let get = |sites: &[&str]| {
            let request = TestRequest::get().uri(&path);
            sites.iter().fold(request, |request, site| request.append_header(("sec-fetch-site", *site))).to_request()
        };
        for sites in [["cross-site"].as_slice(), &["same-site"], &["none"], &["same-origin", "same-origin"], &[""]] {
            assert_eq!(call_service(&app, get(sites)).await.status(), StatusCode::FORBIDDEN, "{sites:?}");
        }
        let response = call_service(&app, get(&["same-origin"])).await;
        assert_eq!(response.headers().get("cache-control").unwrap(), "no-store");
        assert!(response.headers().get("access-control-allow-origin").is_none());
        assert_eq!(read_body(response).await, "AQ");
        assert_eq!(call_service(&app, get(&["same-origin"])).await.status(), StatusCode::NOT_FOUND);
    }

    #[actix_web::test]
    async fn what_is_no_handle_of_a_pending_challenge_has_no_program() {
        let page = page(&["https://a.example"]);
        let app = init_service(App::new().configure(|app| page.configure(app))).await;
        let over = page.programs.held.hold(ProgramHandle::draw(page.programs.node).unwrap(), "AQ".to_owned()).handle();
        for handle in [over.encode().as_str(), "x", "%20", &"A".repeat(31), &"A".repeat(10_000)] {
            let request = TestRequest::get().uri(&format!("/challenge/program/{handle}")).to_request();
            assert_eq!(call_service(&app, request).await.status(), StatusCode::NOT_FOUND);
        }
    }

    #[test]
    fn the_script_evaluates_nothing_and_ends_where_its_element_does() {
        assert!(SCRIPT.is_ascii());
        for word in ["</script", "<!--", "eval(", "Function(", "innerHTML", "document.", "XMLHttpRequest", "localStorage"] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
    }
}
