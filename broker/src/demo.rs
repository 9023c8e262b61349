//! The page that shows the whole flow under `/`.
//!
//! It is for trials: it is served only where the settings say so. It uses the SDK, so that its policy is as strict as any
//! page's can be: no `eval`, no worker, no sink of the DOM that takes text.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};

use crate::config::Settings;

/// The page.
const PAGE: &str = include_str!("../web/demo/index.html");
/// Its script.
const SCRIPT: &str = include_str!("../web/demo/demo.js");
/// Its style.
const STYLE: &str = include_str!("../web/demo/demo.css");

/// What the page may do: its own files and its own node.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The page, made for one node's settings.
#[derive(Debug, Clone)]
pub struct DemoPage {
    html: web::Bytes,
}

impl DemoPage {
    /// Fills in where the gateway is and which header carries a connection id.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let html = PAGE
            .replace("@gateway@", &escape(&settings.gateway.path))
            .replace("@header@", &escape(&settings.authorizer.header));
        Self { html: html.into() }
    }

    /// Serves the page and its files.
    pub fn configure(&self, app: &mut web::ServiceConfig) {
        let html = self.html.clone();
        app.route("/", web::get().to(move || serve("text/html; charset=utf-8", html.clone())))
            .route("/demo/app.js", web::get().to(|| serve("text/javascript; charset=utf-8", SCRIPT)))
            .route("/demo/app.css", web::get().to(|| serve("text/css; charset=utf-8", STYLE)));
    }
}

/// One file, with the headers that all of them carry.
async fn serve(kind: &'static str, body: impl Into<web::Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(kind)))
        .insert_header((header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .insert_header((header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .body(body.into())
}

/// Text as the value of a quoted attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_configured_path_and_header_and_nothing_breaks_out() {
        let mut settings = Settings::default();
        settings.gateway.path = "/socket\"><script>".to_owned();
        settings.authorizer.header = "X-Connection".to_owned();
        let page = String::from_utf8(DemoPage::new(&settings).html.to_vec()).unwrap();
        assert!(page.contains(r#"data-gateway="/socket&quot;&gt;&lt;script&gt;""#));
        assert!(page.contains(r#"data-header="X-Connection""#));
        assert!(!page.contains('@'));
    }

    #[actix_web::test]
    async fn every_file_is_served_under_its_policy() {
        let page = DemoPage::new(&Settings::default());
        let app = actix_web::test::init_service(actix_web::App::new().configure(|app| page.configure(app))).await;
        for path in ["/", "/demo/app.js", "/demo/app.css"] {
            let request = actix_web::test::TestRequest::get().uri(path).to_request();
            let response = actix_web::test::call_service(&app, request).await;
            assert!(response.status().is_success(), "{path}");
            assert_eq!(response.headers().get("content-security-policy").unwrap(), POLICY);
        }
    }
}
