//! Questions about files that a page ships, and puzzles, answered by the SDK in a real browser.

use std::path::Path;

use countersign_tests::browser::Browser;
use countersign_tests::socket::Dial;
use countersign_tests::{Node, Plan, eventually};
use serde_json::json;

/// A node whose own page is asked about its script, as it lies in this folder.
fn asking(folder: &Path) -> Node {
    let script = countersign_tests::node::root().join("broker/web/demo/demo.js");
    std::fs::copy(script, folder.join("app.js")).unwrap();
    let folder = folder.display();
    Plan::new()
        .toml("server.demo_page = true")
        .toml(&format!("challenge = {{ files_dir = '{folder}', files_url_prefix = '/demo/' }}"))
        .toml("challenge.work = { enabled = true, from_percent = 0, bits = 6, bits_max = 6, count = 4 }")
        .start()
}

/// How the page's verification ended.
async fn verification(browser: &Browser) -> String {
    let ended = "const { state } = document.querySelector('[data-step=verify]').dataset; \
                 return state === 'done' || state === 'failed' ? state : null";
    browser.until("the verification ends", ended).await.as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_page_that_has_the_file_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let node = asking(folder.path());
    let browser = Browser::start().await;
    browser.goto(&node.url("/")).await;
    assert_eq!(verification(&browser).await, "done");
    // Printed programs are asked about none.
    let mut printed = Dial::page(&node).welcomed().await;
    assert_eq!(printed.challenge().await.get("file"), None);
    let mut bytecode = Dial::page(&node).welcomed().await;
    let mut hello = bytecode.hello();
    hello["forms"] = json!(["vm"]);
    bytecode.ok("hello", hello).await;
    let file = bytecode.event("challenge").await["file"].clone();
    assert_eq!((&file["path"], file.as_object().unwrap().len()), (&json!("/demo/app.js"), 3), "no digest: {file}");
}

#[tokio::test]
async fn a_page_that_has_another_version_of_the_file_is_not_verified_until_the_node_has_read_that() {
    let folder = tempfile::tempdir().unwrap();
    let node = asking(folder.path());
    let path = folder.path().join("app.js");
    let same = std::fs::read(&path).unwrap();
    std::fs::write(&path, same.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    eventually("the node has read it again", || async { node.log().contains("files of challenges read again").then_some(()) })
        .await;
    let browser = Browser::start().await;
    browser.goto(&node.url("/")).await;
    node.metric_at_least("countersign_challenge_verdicts_total", &[("verdict", "wrong_answer")], 1.0).await;
    std::fs::write(&path, same).unwrap();
    eventually("the node has read it again", || async {
        (node.log().matches("files of challenges read again").count() == 2).then_some(())
    })
    .await;
    browser.goto(&node.url("/")).await;
    assert_eq!(verification(&browser).await, "done");
}
