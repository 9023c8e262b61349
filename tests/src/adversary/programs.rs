//! Clients that are no browser.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::challenge::{Disguise, Tapes, evaluate};
use countersign_node_proto::ConnectionId;
use serde_json::{Value, json};

use super::{Target, verdict};
use crate::socket::{Dial, NATIVE, Socket};

/// A socket of a program that claims to be the honest page.
pub(super) async fn pretend(target: &Target) -> Socket {
    Dial::to(&target.node).origin(&target.page.origin()).protocol(NATIVE).welcomed().await
}

/// Answers by means of an engine that has been told what its `location` is.
pub(super) async fn emulate(target: &Target, attempts: u32) -> u32 {
    let mut successes = 0;
    for _ in 0..attempts {
        let mut socket = pretend(target).await;
        let challenge = socket.challenge().await;
        socket.ask_and_forget("answer", socket.answer(&challenge)).await;
        successes += u32::from(verdict(&mut socket).await);
    }
    successes
}

/// Answers by means of an interpreter of its own: Countersign's, whose source is open, stands for anybody's.
pub(super) async fn interpret(target: &Target, attempts: u32) -> u32 {
    let mut successes = 0;
    for _ in 0..attempts {
        let mut socket = pretend(target).await;
        let mut hello = socket.hello();
        hello["forms"] = json!(["vm"]);
        socket.ok("hello", hello.clone()).await;
        let challenge = socket.event("challenge").await;
        let lanes = run(&challenge, &hello, &socket, &target.page.origin());
        let answer = socket.view().answer_with(&challenge, &lanes, &socket.key);
        socket.ask_and_forget("answer", answer).await;
        successes += u32::from(verdict(&mut socket).await);
    }
    successes
}

/// The lanes of a program in bytecode.
fn run(challenge: &Value, hello: &Value, socket: &Socket, origin: &str) -> Vec<u8> {
    let bytes = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().expect("text")).expect("base64url");
    let fixed = |value: &Value| <[u8; 32]>::try_from(bytes(value)).expect("32 bytes");
    let (_, program) = Disguise::decode(&bytes(&challenge["program"])).expect("a program");
    let (server, client) = (fixed(&challenge["nonce"]), fixed(&hello["nonce"]));
    let thumbprint = <[u8; 32]>::try_from(socket.key.thumbprint()).expect("32 bytes");
    let connection = ConnectionId::from_bytes(bytes(&json!(socket.id)).try_into().expect("16 bytes"));
    let tapes = Tapes {
        server_nonce: &server,
        client_nonce: Some(&client),
        connection: &connection,
        thumbprint: Some(&thumbprint),
        origin,
        file: None,
    };
    evaluate(&program, &tapes).expect("it runs").to_bytes().to_vec()
}

/// Asks for access under connection ids that it makes up, while there is one that would do.
pub(super) async fn guess(target: &Target, attempts: u32) -> u32 {
    let mut victim = pretend(target).await;
    victim.verify().await;
    let mut successes = 0;
    for _ in 0..attempts {
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).expect("randomness");
        let answer = target.node.authorize(&URL_SAFE_NO_PAD.encode(id)).await;
        successes += u32::from(answer.status == 200);
    }
    successes
}
