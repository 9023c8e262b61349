use std::time::Duration;

use futures_util::future::join_all;

use super::*;
use crate::identity::WeakPassword;
use crate::telemetry::AuthOutcome;

#[actix_web::test]
async fn sign_in_gives_tokens_that_verify_and_carry_the_claims_of_the_seed() {
    let fixture = Fixture::new();
    fixture.add(" Ada ");
    let session = fixture.sign_in("ADA", PASSWORD).await.unwrap();
    assert_eq!((session.username.as_str(), session.expires_in), ("Ada", 3_600));
    let now = fixture.clock.seconds();
    let id = claims_of(&session.id_token);
    assert_eq!(id["token_use"], "id");
    assert_eq!(id["aud"], "countersign");
    assert_eq!(id["iss"], "http://127.0.0.1:8080");
    assert_eq!(id["cognito:username"], "Ada");
    assert_eq!(id["email"], "ada@example.org");
    assert_eq!((id["iat"].as_u64(), id["exp"].as_u64(), id["auth_time"].as_u64()), (Some(now), Some(now + 3_600), Some(now)));
    let access = claims_of(&session.access_token);
    assert_eq!((&access["token_use"], &access["client_id"]), (&json!("access"), &json!("countersign")));
    assert!(access.get("aud").is_none() && access["jti"] != id["jti"] && access["origin_jti"] == id["origin_jti"]);
    for token in [&session.id_token, &session.access_token] {
        let principal = fixture.verify(token).await.unwrap();
        assert_eq!((principal.issuer.as_str(), principal.username.as_str()), ("pool", "Ada"));
        assert_eq!(principal.subject, id["sub"].as_str().unwrap());
    }
}

#[actix_web::test]
async fn only_the_configured_uses_open_anything() {
    let fixture = Fixture::with(|settings| settings.identity.pool.token_use = vec!["id".to_owned()]);
    fixture.add("ada");
    let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
    assert!(fixture.verify(&session.id_token).await.is_ok());
    assert_eq!(fixture.verify(&session.access_token).await, Err(TokenRefusal::WrongClaims));
}

#[actix_web::test]
async fn every_failed_sign_in_is_refused_alike() {
    let fixture = Fixture::new();
    fixture.add("ada");
    fixture.add("bob");
    fixture.admin().set_disabled("bob", true).unwrap();
    for (name, password) in [("ada", "wrong"), ("nobody", PASSWORD), ("bob", PASSWORD), ("", ""), ("a\0b", PASSWORD)] {
        assert_eq!(refused(fixture.sign_in(name, password).await), "Refused", "{name:?}");
    }
}

#[actix_web::test]
async fn lock_out_counts_before_it_judges() {
    let fixture = Fixture::with(|settings| settings.identity.pool.hash_queue_max = 1_000);
    fixture.add("ada");
    let attempts = join_all((0..40).map(|_| fixture.sign_in("ada", "wrong"))).await;
    let judged = attempts.iter().filter(|attempt| matches!(attempt, Err(AuthRefusal::Refused))).count();
    assert_eq!(judged, 5, "the threshold holds for attempts made at once");
    assert_eq!(refused(fixture.sign_in("ada", PASSWORD).await), "Locked");
    fixture.clock.advance(Duration::from_millis(999));
    assert_eq!(refused(fixture.sign_in("ada", PASSWORD).await), "Locked", "an attempt while locked extends nothing");
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(refused(fixture.sign_in("ada", "wrong").await), "Refused");
    fixture.clock.advance(Duration::from_millis(1_999));
    assert_eq!(refused(fixture.sign_in("ada", PASSWORD).await), "Locked", "the delay has doubled");
    fixture.clock.advance(Duration::from_millis(1));
    assert!(fixture.sign_in("ada", PASSWORD).await.is_ok());
    assert_eq!(refused(fixture.sign_in("ada", "wrong").await), "Refused", "success has absolved");
}

#[actix_web::test]
async fn unknown_names_lock_as_known_ones_do() {
    let fixture = Fixture::new();
    for _ in 0..5 {
        assert_eq!(refused(fixture.sign_in("nobody", "wrong").await), "Refused");
    }
    assert_eq!(refused(fixture.sign_in(" NOBODY", "wrong").await), "Locked");
}

#[actix_web::test]
async fn a_full_hash_queue_counts_no_failure() {
    let fixture = Fixture::with(|settings| {
        settings.identity.pool.hash_concurrency = 1;
        settings.identity.pool.hash_queue_max = 0;
    });
    fixture.add("ada");
    let attempts = join_all((0..40).map(|_| fixture.sign_in("ada", PASSWORD))).await;
    assert!(attempts.iter().all(|attempt| !matches!(attempt, Err(AuthRefusal::Refused))));
    // Those at once may lock the name for an instant, until those without a hash are taken back.
    fixture.clock.advance(Duration::from_secs(1));
    assert!(fixture.sign_in("ada", PASSWORD).await.is_ok());
}

#[actix_web::test]
async fn a_temporary_password_opens_the_way_to_another_only() {
    let fixture = Fixture::new();
    let admin = fixture.admin();
    let made_up = admin.add("ada", None, GivenPassword::Generated).unwrap().unwrap();
    assert_eq!(refused(fixture.sign_in("ada", &made_up).await), "ChangeRequired");
    let pool = fixture.identity.pool().unwrap();
    let weak = pool.change_password("ada", made_up.clone(), secret("short")).await;
    assert!(matches!(weak, Err(AuthRefusal::Weak(WeakPassword::ShorterThanEight))));
    let same = pool.change_password("ada", made_up.clone(), made_up.clone()).await;
    assert!(matches!(same, Err(AuthRefusal::Weak(WeakPassword::Unchanged))));
    assert_eq!(refused(pool.change_password("ada", secret("wrong"), secret(PASSWORD)).await), "Refused");
    let session = pool.change_password("ada", made_up.clone(), secret(PASSWORD)).await.unwrap();
    assert!(fixture.verify(&session.id_token).await.is_ok(), "issued after the revocation, in the same second");
    assert_eq!(refused(fixture.sign_in("ada", &made_up).await), "Refused");
    assert!(fixture.sign_in("ada", PASSWORD).await.is_ok());
}

#[actix_web::test]
async fn a_temporary_password_ends() {
    let fixture = Fixture::new();
    // The command line goes by the system's clock, which is behind the fixture's.
    fixture.admin().add("ada", None, GivenPassword::Temporary(secret(PASSWORD))).unwrap();
    fixture.clock.advance(Duration::from_secs(3_650 * 86_400));
    assert_eq!(refused(fixture.sign_in("ada", PASSWORD).await), "Refused");
}

#[actix_web::test]
async fn the_compatible_profile_accepts_the_seeds_passwords_and_keeps_refresh_tokens() {
    let fixture = Fixture::with(|settings| {
        settings.identity.pool.password_policy = PasswordPolicy::CognitoCompat;
        settings.identity.pool.rotate_refresh_tokens = false;
    });
    fixture.admin().add("ada", None, GivenPassword::Permanent(secret("Abcde1"))).unwrap();
    let session = fixture.sign_in("ada", "Abcde1").await.unwrap();
    for _ in 0..3 {
        fixture.clock.advance(Duration::from_secs(60));
        assert_eq!(fixture.refresh(&session.refresh_token).await.unwrap().refresh_token, session.refresh_token);
    }
}

#[actix_web::test]
async fn refresh_rotates_and_keeps_the_sessions_facts() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let first = fixture.sign_in("ada", PASSWORD).await.unwrap();
    fixture.clock.advance(Duration::from_secs(100));
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    let (before, after) = (claims_of(&first.id_token), claims_of(&second.id_token));
    assert_eq!((&before["auth_time"], &before["origin_jti"]), (&after["auth_time"], &after["origin_jti"]));
    assert_ne!(before["jti"], after["jti"]);
    let pool = fixture.identity.pool().unwrap();
    assert!(pool.refresh(Some(" ADA "), &second.refresh_token).await.is_ok());
    assert_eq!(refused(pool.refresh(Some("eve"), &second.refresh_token).await), "Refused");
    for nonsense in ["", "x", "AAAA", &"A".repeat(43), &"€".repeat(20)] {
        assert_eq!(refused(fixture.refresh(nonsense).await), "Refused", "{nonsense}");
    }
}

#[actix_web::test]
async fn a_second_use_within_the_grace_gets_the_same_successor() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let first = fixture.sign_in("ada", PASSWORD).await.unwrap().refresh_token;
    let at_once = join_all((0..8).map(|_| fixture.refresh(&first))).await;
    let successor = at_once[0].as_ref().unwrap().refresh_token.clone();
    assert!(at_once.iter().all(|session| session.as_ref().unwrap().refresh_token == successor));
    fixture.clock.advance(Duration::from_millis(4_999));
    assert_eq!(fixture.refresh(&first).await.unwrap().refresh_token, successor);
    assert_eq!(fixture.revoked(), 0);
}

#[actix_web::test]
async fn a_second_use_after_the_grace_ends_family_and_tokens_once() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let stolen = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let current = fixture.refresh(&stolen.refresh_token).await.unwrap();
    fixture.clock.advance(Duration::from_millis(5_000));
    assert_eq!(refused(fixture.refresh(&stolen.refresh_token).await), "Reused");
    assert_eq!(fixture.verify(&current.id_token).await, Err(TokenRefusal::Revoked));
    assert_eq!(refused(fixture.refresh(&current.refresh_token).await), "Refused");
    assert_eq!(fixture.revoked(), 1, "heard before the answer");
    let fresh = fixture.sign_in("ada", PASSWORD).await.unwrap();
    assert_eq!(refused(fixture.refresh(&stolen.refresh_token).await), "Refused", "an old copy ends nothing more");
    assert!(fixture.verify(&fresh.id_token).await.is_ok());
    assert_eq!(fixture.revoked(), 1);
}

#[actix_web::test]
async fn sessions_end_by_idleness_and_by_age() {
    let fixture = Fixture::with(|settings| {
        settings.identity.pool.refresh_idle_seconds = Seconds(100);
        settings.identity.pool.refresh_lifetime_seconds = Seconds(250);
        settings.identity.pool.rotation_grace_ms = Millis(0);
    });
    fixture.add("ada");
    let idle = fixture.sign_in("ada", PASSWORD).await.unwrap().refresh_token;
    let mut used = fixture.sign_in("ada", PASSWORD).await.unwrap().refresh_token;
    for _ in 0..2 {
        fixture.clock.advance(Duration::from_secs(99));
        used = fixture.refresh(&used).await.unwrap().refresh_token;
    }
    assert_eq!(refused(fixture.refresh(&idle).await), "Refused");
    fixture.clock.advance(Duration::from_secs(52));
    assert_eq!(refused(fixture.refresh(&used).await), "Refused");
    assert_eq!(fixture.revoked(), 0, "an end is no theft");
}

/// A connection between the verification of its token and its entry in the table is found by no revocation.
#[actix_web::test]
async fn a_principal_that_was_verified_before_a_revocation_is_known_as_revoked() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let before = fixture.verify(&session.id_token).await.unwrap();
    let verifier = fixture.identity.verifier();
    assert!(!verifier.is_revoked(&before));
    fixture.identity.pool().unwrap().revoke(&session.refresh_token).await.unwrap();
    assert!(verifier.is_revoked(&before));
    let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let after = fixture.verify(&session.id_token).await.unwrap();
    assert!(!verifier.is_revoked(&after));
    let elsewhere = Principal { issuer: "partner".to_owned(), ..Principal::clone(&before) };
    assert!(!verifier.is_revoked(&elsewhere), "another issuer's user of the same subject");
}

#[actix_web::test]
async fn revocation_ends_tokens_and_is_heard_before_it_is_answered() {
    let fixture = Fixture::new();
    fixture.add("ada");
    let session = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let principal = fixture.verify(&session.id_token).await.unwrap();
    let pool = fixture.identity.pool().unwrap();
    pool.revoke(&session.refresh_token).await.unwrap();
    let revocation = fixture.revocations.lock().unwrap()[0].clone();
    assert!(revocation.covers(&principal));
    assert_eq!(fixture.verify(&session.id_token).await, Err(TokenRefusal::Revoked), "remembered tokens too");
    assert_eq!(refused(fixture.refresh(&session.refresh_token).await), "Refused");
    let again = fixture.sign_in("ada", PASSWORD).await.unwrap();
    let again = fixture.verify(&again.id_token).await.unwrap();
    assert!(!revocation.covers(&again), "issued in the same second, after it");
    pool.revoke(&session.refresh_token).await.unwrap();
    pool.revoke("nonsense").await.unwrap();
    assert_eq!(fixture.revoked(), 1);
}

#[actix_web::test]
async fn sign_up_refuses_taken_names_and_weak_passwords() {
    let fixture = Fixture::new();
    let pool = fixture.identity.pool().unwrap();
    let sign_up = |name: &'static str, password: &'static str| pool.sign_up(name, secret(password), None);
    assert!(sign_up("ada", PASSWORD).await.is_ok());
    assert_eq!(refused(sign_up(" Ada", PASSWORD).await), "Taken");
    assert_eq!(refused(sign_up("bob", "password1").await), "Weak(Common)");
    assert_eq!(refused(sign_up(" ", PASSWORD).await), "BadName");
    assert_eq!(fixture.metrics.auth.of(AuthOutcome::Ok).get(), 0, "requests are counted at the door only");
}
