//! What every store promises. Each case has a fresh store and two handles on it, as two processes would.

use super::*;

/// Two handles on one store.
pub(super) struct Pair {
    pub(super) one: Box<dyn UserStore>,
    pub(super) two: Box<dyn UserStore>,
}

/// Every case, each on a store of its own.
pub(super) fn check(make: impl Fn(usize) -> Pair) {
    let cases: [fn(&Pair); 9] = [
        users_are_kept_by_name,
        a_weaker_hash_is_replaced_only_while_it_stands,
        of_uses_at_once_through_two_handles_one_rotates,
        a_replaced_token_gets_its_successor_within_the_grace_and_ends_its_family_after_it,
        families_end_by_idleness_age_and_with_their_user,
        a_password_checked_while_it_was_replaced_opens_nothing,
        of_attempts_at_once_the_threshold_lets_through_no_more,
        delays_double_are_taken_back_and_forgotten,
        revocations_are_told_in_order_and_pruned,
    ];
    for (number, case) in cases.into_iter().enumerate() {
        case(&make(number));
    }
}

#[test]
fn the_embedded_store_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    check(|number| {
        let open = || Box::new(EmbeddedStore::open(&folder.path().join(format!("{number}.db"))).unwrap());
        Pair { one: open(), two: open() }
    });
}

const RULES: RefreshRules = RefreshRules { rotate: true, grace_ms: 10, idle_ms: 1_000, lifetime_ms: 2_000 };
const LOCKOUT: LockoutRules = LockoutRules { threshold: 2, base_ms: 10, max_ms: 100 };

fn new<'a>(name: &'a str, state: PasswordState) -> NewUser<'a> {
    NewUser { name, username: "Ada", email: Some("ada@example.org"), password: "phc", state }
}

fn add(store: &dyn UserStore, name: &str) -> User {
    store.add_user(&new(name, PasswordState::Permanent), 1).unwrap();
    store.find_user(name).unwrap().unwrap()
}

fn begin(store: &dyn UserStore, user: &User, now: u64) -> RefreshToken {
    store.begin_family(user, "jti", &RULES, now).unwrap().unwrap()
}

/// What a token is worth: the next one, `refused` or `reused`.
fn redeem(store: &dyn UserStore, token: &RefreshToken, now: u64) -> Result<RefreshToken, &'static str> {
    match store.redeem(None, token, &RULES, now).unwrap() {
        Redeemed::Session { token, .. } => Ok(token),
        Redeemed::Refused => Err("refused"),
        Redeemed::Reused => Err("reused"),
    }
}

fn users_are_kept_by_name(Pair { one, two }: &Pair) {
    let until = PasswordState::TemporaryUntil(1_700_000_000_000);
    let plain = NewUser { email: None, ..new("bob {1}", until) };
    let sub = one.add_user(&plain, 1_600_000_000_000).unwrap();
    let ada = add(one.as_ref(), "ada");
    assert!(matches!(two.add_user(&plain, 2), Err(StoreError::UserExists)));
    let users = two.users().unwrap();
    assert_eq!(users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["ada", "bob {1}"]);
    assert_eq!(users[0], ada);
    let bob = User { name: plain.name.to_owned(), sub, email: None, password_state: until, ..ada.clone() };
    assert_eq!(users[1], User { created_ms: 1_600_000_000_000, updated_ms: 1_600_000_000_000, ..bob });
    let changed = two.set_password("ada", "other", until, None, 5).unwrap();
    assert_eq!((changed.password.as_str(), changed.password_state, changed.generation), ("other", until, 1));
    assert_eq!((changed.created_ms, changed.updated_ms), (1, 5));
    two.set_disabled("ada", true, 6).unwrap();
    assert!(one.find_user("ada").unwrap().unwrap().disabled);
    two.delete_user("ada", 7).unwrap();
    assert_eq!(one.find_user("ada").unwrap(), None);
    for missing in [
        one.delete_user("ada", 8),
        one.set_disabled("ada", true, 8),
        one.set_password("ada", "third", until, None, 8).map(drop),
    ] {
        assert!(matches!(missing, Err(StoreError::NoSuchUser)));
    }
    assert_ne!(add(one.as_ref(), "ada").sub, ada.sub);
}

fn a_weaker_hash_is_replaced_only_while_it_stands(Pair { one, two }: &Pair) {
    let user = add(one.as_ref(), "ada");
    let family = begin(one.as_ref(), &user, 1);
    one.rehash("ada", "phc", "stronger").unwrap();
    two.rehash("ada", "phc", "late").unwrap();
    two.rehash("nobody", "phc", "late").unwrap();
    assert_eq!(two.find_user("ada").unwrap().unwrap().password, "stronger");
    assert!(two.find_user("nobody").unwrap().is_none());
    assert!(redeem(two.as_ref(), &family, 2).is_ok(), "the password is the same");
}

fn of_uses_at_once_through_two_handles_one_rotates(Pair { one, two }: &Pair) {
    let user = add(one.as_ref(), "ada");
    let token = begin(one.as_ref(), &user, 1).text();
    let successors = std::thread::scope(|scope| {
        let uses = (0..8).map(|n| {
            let (store, token) = (if n % 2 == 0 { one } else { two }, RefreshToken::parse(&token).unwrap());
            scope.spawn(move || redeem(store.as_ref(), &token, 2).unwrap().text())
        });
        let uses: Vec<_> = uses.collect();
        uses.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(successors.iter().all(|successor| *successor == successors[0] && *successor != token));
}

fn a_replaced_token_gets_its_successor_within_the_grace_and_ends_its_family_after_it(Pair { one, two }: &Pair) {
    let user = add(one.as_ref(), "ada");
    let (first, other) = (begin(one.as_ref(), &user, 100), begin(one.as_ref(), &user, 100));
    let second = redeem(one.as_ref(), &first, 200).unwrap();
    assert_eq!(redeem(two.as_ref(), &first, 209).unwrap().text(), second.text());
    assert!(matches!(two.redeem(Some("eve"), &second, &RULES, 210), Ok(Redeemed::Refused)));
    assert!(matches!(two.redeem(Some("ada"), &second, &RefreshRules { rotate: false, ..RULES }, 210),
        Ok(Redeemed::Session { token, user, origin_jti, auth_time_ms: 100 })
            if token.text() == second.text() && user.name == "ada" && origin_jti == "jti"));
    let mut mark = Mark::default();
    assert_eq!(two.revocations_since(&mut mark).unwrap(), []);
    assert_eq!(redeem(one.as_ref(), &first, 210).err(), Some("reused"));
    for token in [&first, &second] {
        assert_eq!(redeem(one.as_ref(), token, 211).err(), Some("refused"), "an old copy ends nothing more");
    }
    assert_eq!(two.revocations_since(&mut mark).unwrap().len(), 1);
    let other = redeem(two.as_ref(), &other, 212).unwrap();
    assert!(one.revoke_session(&other, 213).unwrap());
    assert!(!one.revoke_session(&other, 214).unwrap());
    assert_eq!(redeem(two.as_ref(), &other, 215).err(), Some("refused"));
    assert_eq!(one.find_user("ada").unwrap().unwrap().generation, 2);
    assert!(!one.revoke_session(&RefreshToken::random().unwrap(), 216).unwrap());
}

/// Refreshes so often that the first tokens are forgotten. A case of its own, since each store counts what it has kept afterwards.
pub(super) fn refresh_without_end(store: &dyn UserStore) {
    let rules = RefreshRules { grace_ms: 0, idle_ms: 1 << 40, lifetime_ms: 1 << 40, ..RULES };
    let next = |token: &RefreshToken| match store.redeem(None, token, &rules, 2).unwrap() {
        Redeemed::Session { token, .. } => token,
        Redeemed::Refused => panic!("refused"),
        Redeemed::Reused => panic!("reused"),
    };
    let first = begin(store, &add(store, "ada"), 1);
    let second = next(&first);
    let third = next(&second);
    // All but the newest are replaced; of those, the second is the last to be forgotten.
    let newest = (3..=TOKENS_OF_FAMILY_MAX + 1).fold(third.again(), |token, _| next(&token));
    for forgotten in [&first, &second] {
        assert!(matches!(store.redeem(None, forgotten, &rules, 3).unwrap(), Redeemed::Refused), "forgotten");
    }
    let newest = next(&newest);
    assert!(matches!(store.redeem(None, &third, &rules, 3).unwrap(), Redeemed::Refused), "forgotten now");
    assert_eq!(store.find_user("ada").unwrap().unwrap().generation, 0, "nothing of it was taken for theft");
    assert!(matches!(store.redeem(None, &newest, &rules, 3).unwrap(), Redeemed::Session { .. }), "the newest stays good");
}

fn families_end_by_idleness_age_and_with_their_user(Pair { one, two }: &Pair) {
    let user = add(one.as_ref(), "ada");
    let (idle, used) = (begin(one.as_ref(), &user, 100), begin(one.as_ref(), &user, 100));
    let used = redeem(two.as_ref(), &used, 1_099).unwrap();
    assert_eq!(redeem(two.as_ref(), &idle, 1_100).err(), Some("refused"));
    assert!(redeem(two.as_ref(), &used, 2_098).is_ok());
    assert_eq!(redeem(two.as_ref(), &used, 2_100).err(), Some("refused"));
    let acts: [fn(&dyn UserStore); 3] = [
        |store| store.set_password("ada", "new", PasswordState::Permanent, None, 3_001).map(drop).unwrap(),
        |store| store.set_disabled("ada", true, 3_001).and_then(|()| store.set_disabled("ada", false, 3_002)).unwrap(),
        |store| store.delete_user("ada", 3_001).unwrap(),
    ];
    for act in acts {
        let user = one.find_user("ada").unwrap().unwrap();
        let token = begin(one.as_ref(), &user, 3_000);
        act(two.as_ref());
        assert_eq!(redeem(one.as_ref(), &token, 3_003).err(), Some("refused"));
        assert!(one.begin_family(&user, "jti", &RULES, 3_003).unwrap().is_none());
    }
}

fn a_password_checked_while_it_was_replaced_opens_nothing(Pair { one: node, two: command }: &Pair) {
    let user = add(node.as_ref(), "ada");
    command.set_password("ada", "other", PasswordState::Permanent, None, 2).unwrap();
    assert!(node.begin_family(&user, "jti", &RULES, 3).unwrap().is_none());
    let late = node.set_password("ada", "third", PasswordState::Permanent, Some("phc"), 3);
    assert!(matches!(late, Err(StoreError::NoSuchUser)));
    assert_eq!(node.find_user("ada").unwrap().unwrap().password, "other");
}

fn of_attempts_at_once_the_threshold_lets_through_no_more(Pair { one, two }: &Pair) {
    let rules = LockoutRules { threshold: 5, ..LOCKOUT };
    let admitted = std::thread::scope(|scope| {
        let attempts = (0..20).map(|n| {
            let store = if n % 2 == 0 { one } else { two };
            scope.spawn(move || store.admit("nobody", &rules, 1_000).unwrap() == Admission::Admitted)
        });
        let attempts: Vec<_> = attempts.collect();
        attempts.into_iter().map(|handle| handle.join().unwrap()).filter(|admitted| *admitted).count()
    });
    assert_eq!(admitted, 5);
}

fn delays_double_are_taken_back_and_forgotten(Pair { one, two }: &Pair) {
    let (start, admitted) = (1_700_000_000_000, Admission::Admitted);
    let admit = |store: &dyn UserStore, now| store.admit("ada", &LOCKOUT, start + now).unwrap();
    assert_eq!((admit(one.as_ref(), 0), admit(two.as_ref(), 0)), (admitted, admitted));
    assert_eq!(admit(one.as_ref(), 9), Admission::LockedUntil(start + 10));
    assert_eq!((admit(two.as_ref(), 10), admit(one.as_ref(), 29)), (admitted, Admission::LockedUntil(start + 30)));
    two.withdraw("ada", start + 29).unwrap();
    assert_eq!((admit(one.as_ref(), 29), admit(two.as_ref(), 30)), (admitted, Admission::LockedUntil(start + 49)));
    one.absolve("ada").unwrap();
    assert_eq!((admit(two.as_ref(), 30), admit(one.as_ref(), 31)), (admitted, admitted));
    assert_eq!((admit(one.as_ref(), 141), admit(one.as_ref(), 141)), (admitted, admitted), "long ago starts anew");
    one.withdraw("nobody", start).unwrap();
    one.absolve("nobody").unwrap();
    let none = LockoutRules { threshold: 0, ..LOCKOUT };
    assert!((0..9).all(|_| one.admit("eve", &none, start).unwrap() == admitted));
}

fn revocations_are_told_in_order_and_pruned(Pair { one, two }: &Pair) {
    let (ada, bob) = (add(one.as_ref(), "ada").sub, add(one.as_ref(), "bob").sub);
    let (mut mark, told) = (Mark::default(), |subject: &str, generation, not_before_ms| Revocation {
        subject: subject.to_owned(),
        generation,
        not_before_ms,
    });
    one.set_disabled("ada", true, 10).unwrap();
    one.set_disabled("bob", true, 20).unwrap();
    one.set_disabled("ada", true, 30).unwrap();
    assert_eq!(two.revocations_since(&mut mark).unwrap(), [told(&bob, 1, 20), told(&ada, 2, 30)]);
    assert_eq!(two.revocations_since(&mut mark).unwrap(), []);
    one.delete_user("bob", 40).unwrap();
    assert_eq!(two.revocations_since(&mut mark).unwrap(), [told(&bob, 2, 40)]);
    one.prune(&RULES, LOCKOUT.max_ms, 40, 50).unwrap();
    assert_eq!(two.revocations_since(&mut Mark::default()).unwrap(), [told(&bob, 2, 40)]);
    one.prune(&RULES, LOCKOUT.max_ms, 41, 50).unwrap();
    assert_eq!(two.revocations_since(&mut Mark::default()).unwrap(), []);
}
