//! The browser SDK under `/sdk/`: its files, and a list of them with what pages need to pin them.
//!
//! What is served is what `broker/web/sdk/dist/` held when the node was built. Any page may load it, whatever its origin:
//! it is public text, and a page on another origin needs the permission to check an integrity hash.

use std::rc::Rc;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use aws_lc_rs::digest::{SHA384, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Where the files stand.
const FOLDER: &str = "/sdk";

/// Name, how a page loads it, and text.
const FILES: [(&str, Kind, &str); 6] = [
    ("countersign.js", Kind::Module, include_str!("../web/sdk/dist/countersign.js")),
    ("countersign.min.js", Kind::Module, include_str!("../web/sdk/dist/countersign.min.js")),
    ("countersign.global.js", Kind::Script, include_str!("../web/sdk/dist/countersign.global.js")),
    ("countersign.global.min.js", Kind::Script, include_str!("../web/sdk/dist/countersign.global.min.js")),
    ("frame.js", Kind::Module, include_str!("../web/sdk/dist/frame.js")),
    (SOURCE, Kind::Module, include_str!("../web/sdk/dist/source.js")),
];

/// The one that evaluates text: for pages that give it to the client.
const SOURCE: &str = "source.js";

/// How a page loads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// `<script type="module">`, or an import.
    Module,
    /// `<script>`, which puts `countersign` on the window.
    Script,
}

/// One file in the list.
#[derive(Debug, Serialize)]
struct Listed {
    path: String,
    kind: Kind,
    bytes: usize,
    /// For the attribute `integrity` of a script: SHA-384.
    integrity: String,
    #[serde(skip)]
    text: &'static str,
}

/// What `/sdk/` answers.
#[derive(Debug, Serialize)]
struct List<'a> {
    version: &'static str,
    files: &'a [Rc<Listed>],
}

/// Serves the list and the files.
pub fn configure(app: &mut web::ServiceConfig) {
    let files: Vec<Rc<Listed>> = FILES.into_iter().map(Listed::new).map(Rc::new).collect();
    let list = List { version: env!("CARGO_PKG_VERSION"), files: &files };
    let list = web::Bytes::from(serde_json::to_vec(&list).unwrap_or_default());
    for path in [FOLDER.to_owned(), format!("{FOLDER}/")] {
        let list = list.clone();
        app.route(&path, web::get().to(move || serve_list(list.clone())));
    }
    for file in files {
        let path = file.path.clone();
        app.route(&path, web::get().to(move |request: HttpRequest| serve(Rc::clone(&file), request)));
    }
}

impl Listed {
    fn new((name, kind, text): (&str, Kind, &'static str)) -> Self {
        let integrity = format!("sha384-{}", STANDARD.encode(digest(&SHA384, text.as_bytes())));
        Self { path: format!("{FOLDER}/{name}"), kind, bytes: text.len(), integrity, text }
    }
}

async fn serve_list(list: web::Bytes) -> HttpResponse {
    public(&mut HttpResponse::Ok()).insert_header(header::ContentType::json()).body(list)
}

/// One file, or 304 for who has it.
async fn serve(file: Rc<Listed>, request: HttpRequest) -> HttpResponse {
    let tag = format!("\"{}\"", file.integrity);
    let has = holds(request.headers(), &tag);
    let mut response = if has { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    public(&mut response).insert_header((header::ETAG, tag));
    if has {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, "text/javascript; charset=utf-8")).body(file.text)
}

/// Does the client hold this version already (RFC 9110, 13.1.2)?
fn holds(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    tags.flat_map(|tags| tags.split(',')).any(|held| held.trim().trim_start_matches("W/") == tag)
}

/// Headers of what everyone may read. A browser asks each time whether there is a newer one.
fn public(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in headers {
        response.insert_header((name, HeaderValue::from_static(value)));
    }
    response
}

#[cfg(test)]
mod tests {
    use actix_web::App;
    use actix_web::http::StatusCode;
    use actix_web::test::{TestRequest, call_and_read_body_json, call_service, init_service, read_body};

    use super::*;

    #[actix_web::test]
    async fn every_listed_file_is_served_with_the_integrity_that_the_list_says() {
        let app = init_service(App::new().configure(configure)).await;
        for path in ["/sdk", "/sdk/"] {
            let list: serde_json::Value = call_and_read_body_json(&app, TestRequest::get().uri(path).to_request()).await;
            let package: serde_json::Value = serde_json::from_str(include_str!("../web/sdk/package.json")).unwrap();
            assert_eq!(list["version"], package["version"]);
            assert_eq!(list["files"].as_array().unwrap().len(), FILES.len());
            for file in list["files"].as_array().unwrap() {
                let request = TestRequest::get().uri(file["path"].as_str().unwrap());
                let response = call_service(&app, request.to_request()).await;
                assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "*");
                assert_eq!(response.headers().get("content-type").unwrap(), "text/javascript; charset=utf-8");
                let text = read_body(response).await;
                assert_eq!(file["bytes"], text.len());
                let integrity = format!("sha384-{}", STANDARD.encode(digest(&SHA384, &text)));
                assert_eq!(file["integrity"], integrity);
            }
        }
    }

    #[actix_web::test]
    async fn who_has_a_file_does_not_get_it_again() {
        let app = init_service(App::new().configure(configure)).await;
        let get = || TestRequest::get().uri("/sdk/countersign.min.js");
        let response = call_service(&app, get().to_request()).await;
        let tag = response.headers().get("etag").unwrap().clone();
        for (held, status) in [(tag.to_str().unwrap(), StatusCode::NOT_MODIFIED), ("\"other\"", StatusCode::OK)] {
            let request = get().insert_header(("if-none-match", format!("\"x\", W/{held}"))).to_request();
            assert_eq!(call_service(&app, request).await.status(), status);
        }
    }

    #[test]
    fn bundles_are_small_and_evaluate_nothing() {
        for (name, _, text) in FILES {
            assert!(text.is_ascii(), "{name}");
            if name == SOURCE {
                assert!(text.contains("pinned"), "it runs only what is signed");
                continue;
            }
            for word in ["eval(", "eval)", "Function(", "new Worker", "WebAssembly", "createObjectURL", "innerHTML"] {
                assert!(!text.contains(word), "{name}: {word}");
            }
        }
    }
}
