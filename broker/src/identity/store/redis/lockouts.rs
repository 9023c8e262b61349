use super::{RedisStore, SLACK_MS, script};
use crate::identity::store::{Admission, LOCKOUT_NAMES_MAX, LockoutRules, Lockouts, StoreError};

impl Lockouts for RedisStore {
    fn admit(&self, name: &str, rules: &LockoutRules, now: u64) -> Result<Admission, StoreError> {
        if rules.threshold == 0 {
            return Ok(Admission::Admitted);
        }
        let numbers = [u64::from(rules.threshold), rules.base_ms, rules.max_ms, now, LOCKOUT_NAMES_MAX, SLACK_MS];
        let mut arguments = vec![name.to_owned()];
        arguments.extend(numbers.map(|number| number.to_string()));
        let locked_until: String = self.run(&script::ADMIT, arguments)?;
        match locked_until.parse() {
            Ok(time) => Ok(Admission::LockedUntil(time)),
            Err(_) => Ok(Admission::Admitted),
        }
    }

    fn withdraw(&self, name: &str, now: u64) -> Result<(), StoreError> {
        self.found(&script::WITHDRAW, vec![name.to_owned(), now.to_string()]).map(drop)
    }

    fn absolve(&self, name: &str) -> Result<(), StoreError> {
        self.found(&script::ABSOLVE, vec![name.to_owned()]).map(drop)
    }
}
