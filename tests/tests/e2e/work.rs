//! Puzzles beside the program: asked for while much is pending, and checked.

use countersign_tests::Plan;
use countersign_tests::socket::Dial;
use serde_json::json;

#[tokio::test]
async fn a_page_that_does_the_work_is_verified_and_one_that_does_not_is_closed() {
    let node =
        Plan::new().toml("challenge.work = { enabled = true, from_percent = 0, bits = 6, bits_max = 6, count = 4 }").start();
    let mut worker = Dial::page(&node).welcomed().await;
    let challenge = worker.challenge().await;
    assert_eq!(challenge["work"], json!({ "bits": 6, "count": 4 }));
    worker.ok("answer", worker.answer(&challenge)).await;
    worker.event("verified").await;
    for wrong in [None, Some(json!([])), Some(json!([0, 0, 0, 0])), Some(json!("none")), Some(json!(null))] {
        let mut idler = Dial::page(&node).welcomed().await;
        let challenge = idler.challenge().await;
        let mut answer = idler.answer(&challenge);
        match &wrong {
            Some(work) => answer["work"] = work.clone(),
            None => drop(answer.as_object_mut().unwrap().remove("work")),
        }
        answer["id"] = 9.into();
        answer["action"] = "answer".into();
        idler.json(&answer).await;
        assert_eq!(idler.close_code().await, 4403, "{wrong:?}");
    }
}

#[tokio::test]
async fn work_is_asked_for_by_load_and_not_of_a_quiet_node() {
    let settings = "challenge = { pending_max = 10, work = { enabled = true, from_percent = 50, bits = 4, bits_max = 8 } }";
    let node = Plan::new().toml(settings).start();
    let mut first = Dial::page(&node).welcomed().await;
    let challenge = first.challenge().await;
    assert_eq!(challenge.get("work"), None, "one of ten");
    let mut asked = Vec::new();
    let mut held = Vec::new();
    for _ in 0..9 {
        let mut socket = Dial::page(&node).welcomed().await;
        asked.push(socket.challenge().await["work"]["bits"].as_u64());
        held.push(socket);
    }
    // Two to ten of ten.
    assert_eq!(asked, [None, None, None, Some(4), Some(5), Some(6), Some(7), Some(8), Some(8)]);
    drop(held);
    first.ok("answer", first.answer(&challenge)).await;
}
