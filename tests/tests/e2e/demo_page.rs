//! The page that a node serves, in a real browser: from connected to verified to an authorized call, and to a refused one.

use countersign_tests::browser::Browser;
use countersign_tests::http;
use countersign_tests::{Node, Plan};
use serde_json::json;

/// Waits until a step of the page ends and expects that it went well.
async fn done(browser: &Browser, step: &str) -> String {
    let ended = format!(
        "const step = document.querySelector('[data-step={step}]'); const {{ state }} = step.dataset; \
         return state === 'done' || state === 'failed' ? state + ' ' + step.querySelector('.result').textContent : null"
    );
    let shown = browser.until(&format!("the step {step} ends"), &ended).await;
    let shown = shown.as_str().unwrap_or_default().to_owned();
    assert!(shown.starts_with("done "), "{step}: {shown}");
    shown
}

/// What the console complained of, but for the refused call that the page makes on purpose.
async fn complaints(browser: &Browser) -> Vec<String> {
    let console = browser.console().await;
    console.into_iter().filter(|line| !line.contains("401")).collect()
}

#[tokio::test]
async fn a_node_without_configuration_shows_the_whole_flow() {
    let node = Plan::bare().start();
    let browser = Browser::start().await;
    browser.goto(&node.url("/")).await;
    for step in ["connect", "challenge", "evaluate", "verify"] {
        done(&browser, step).await;
    }
    assert!(done(&browser, "call").await.contains("200 {\"greeting\":\"Hello, World!\"}"));
    assert!(done(&browser, "stolen").await.contains("401"));
    done(&browser, "subscribe").await;
    assert!(done(&browser, "publish").await.contains("hello, lobby"));
    assert_eq!(browser.script("return document.getElementById('state').dataset.state").await, "verified");
    browser.until("the close button is ready", "return !document.getElementById('close').disabled").await;
    let facts = "return ['form', 'mode'].map((name) => document.getElementById(name).textContent)";
    let facts = browser.script(facts).await;
    assert_eq!((&facts[0], &facts[1]), (&json!("vm"), &json!("ticket")));
    // The age is shown by a ticking clock.
    let shown = "return document.getElementById('ticket').textContent.endsWith(' s old, good for 15 s') || null";
    browser.until("the ticket's age is shown", shown).await;
    let older = "const [age] = document.getElementById('ticket').textContent.split(' '); return Number(age) > 0.5";
    browser.until("the ticket grows older", &format!("{older} || null")).await;
    browser.screenshot("demo-verified").await;
    let id = browser.script("return document.getElementById('connection').textContent").await;
    assert_eq!(node.authorize(id.as_str().unwrap()).await.status, 401, "the id alone opens nothing");
    browser.click("#steal").await;
    assert!(done(&browser, "stolen").await.contains("401"));

    browser.click("#close").await;
    done(&browser, "close").await;
    assert!(done(&browser, "denied").await.contains("401"));
    assert_eq!(browser.script("return document.getElementById('state').dataset.state").await, "closed");
    browser.screenshot("demo-closed").await;
    assert_eq!(node.authorize(id.as_str().unwrap()).await.status, 401);

    browser.click("#again").await;
    done(&browser, "publish").await;
    let again = browser.script("return document.getElementById('connection').textContent").await;
    assert_ne!(again, id, "a connection id is never used again");
    assert_eq!(complaints(&browser).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_page_under_the_name_localhost_works_too() {
    let node = Plan::bare().start();
    let browser = Browser::start().await;
    browser.goto(&format!("http://localhost:{}/", node.gateway.port())).await;
    done(&browser, "publish").await;
    browser.screenshot("demo-localhost").await;
}

#[tokio::test]
async fn the_page_keeps_to_its_policy_and_is_off_when_configured_so() {
    let bare = Plan::bare().start();
    let page = http::get(&bare.url("/")).send().await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    for outside in ["http://", "https://", "//cdn"] {
        let text = page.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains(outside), "the page needs nothing from outside: {outside}");
    }
    let configured = Node::start("");
    assert_eq!(http::get(&configured.url("/")).send().await.status, 404);
}
