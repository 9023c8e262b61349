use std::collections::HashSet;
use std::sync::LazyLock;

use crate::config::PasswordPolicy;

/// Longest password in characters, so that a hash has a bounded input. Nothing is ever cut.
const CHARACTERS_MAX: usize = 256;

/// Longest user name in bytes, normalised or not.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// The most common passwords of at least 8 characters, lower case, one a line.
static COMMON: LazyLock<HashSet<&'static str>> = LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// What a password lacks. Each says what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Under eight characters.
    #[error("password must have at least 8 characters")]
    ShorterThanEight,
    /// Under six characters, where those are enough.
    #[error("password must have at least 6 characters")]
    ShorterThanSix,
    /// Over the bound.
    #[error("password must have at most {CHARACTERS_MAX} characters")]
    TooLong,
    /// One that everybody tries first.
    #[error("password is one of the most common ones: choose another")]
    Common,
    /// The user's own name.
    #[error("password must not be the user name")]
    IsName,
    /// No digit, where one is asked for.
    #[error("password must have a digit")]
    NoDigit,
    /// No upper-case letter, where one is asked for.
    #[error("password must have an upper-case letter")]
    NoUpperCase,
    /// The same as before.
    #[error("new password must differ from the current one")]
    Unchanged,
}

/// Judges a password that is to be set. `name` is normalised.
///
/// # Errors
/// [`WeakPassword`] with what it lacks.
pub(super) fn check_password(policy: PasswordPolicy, name: &str, password: &str) -> Result<(), WeakPassword> {
    let length = password.chars().count();
    if length > CHARACTERS_MAX {
        return Err(WeakPassword::TooLong);
    }
    match policy {
        // Length and rarity are what counts; rules of composition make passwords worse (OWASP ASVS 5.0, 6.2).
        PasswordPolicy::Modern => {
            let folded = password.to_lowercase();
            match () {
                () if length < 8 => Err(WeakPassword::ShorterThanEight),
                () if COMMON.contains(folded.as_str()) => Err(WeakPassword::Common),
                () if normalise(password).as_deref() == Some(name) => Err(WeakPassword::IsName),
                () => Ok(()),
            }
        }
        PasswordPolicy::CognitoCompat => match () {
            () if length < 6 => Err(WeakPassword::ShorterThanSix),
            () if !password.chars().any(|c| c.is_ascii_digit()) => Err(WeakPassword::NoDigit),
            () if !password.chars().any(char::is_uppercase) => Err(WeakPassword::NoUpperCase),
            () => Ok(()),
        },
    }
}

/// A user name as it is compared: trimmed and lower case. None if it cannot be one: empty, too long, or with control
/// characters.
pub(super) fn normalise(name: &str) -> Option<String> {
    let name = name.trim().to_lowercase();
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    fits.then_some(name)
}

/// The normalised name of a new user. None if [`normalise`] has none, or for white space and `/` within: such names do
/// not survive shells, addresses and channel names. Users that have one from before keep it.
pub(super) fn normalise_new(name: &str) -> Option<String> {
    normalise(name).filter(|name| !name.contains(|c: char| c.is_whitespace() || c == '/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modern(password: &str) -> Result<(), WeakPassword> {
        check_password(PasswordPolicy::Modern, "countess ada", password)
    }

    fn compat(password: &str) -> Result<(), WeakPassword> {
        check_password(PasswordPolicy::CognitoCompat, "ada", password)
    }

    #[test]
    fn modern_policy_asks_for_length_and_rarity_only() {
        assert_eq!(modern("violets are blue"), Ok(()));
        assert_eq!(modern("kgjwpxqz"), Ok(()));
        assert_eq!(modern("ключслон"), Ok(()));
        assert_eq!(modern("Aa1!Aa1"), Err(WeakPassword::ShorterThanEight));
        assert_eq!(modern("Password123"), Err(WeakPassword::Common));
        assert_eq!(modern(" Countess Ada "), Err(WeakPassword::IsName));
        assert_eq!(modern(&"ö".repeat(256)), Ok(()));
        assert_eq!(modern(&"x".repeat(257)), Err(WeakPassword::TooLong));
    }

    #[test]
    fn compatible_policy_asks_for_a_digit_and_an_upper_case_letter() {
        assert_eq!(compat("Abcde1"), Ok(()));
        assert_eq!(compat("Abcd1"), Err(WeakPassword::ShorterThanSix));
        assert_eq!(compat("Abcdef"), Err(WeakPassword::NoDigit));
        assert_eq!(compat("abcde1"), Err(WeakPassword::NoUpperCase));
    }

    #[test]
    fn common_passwords_are_as_they_are_compared() {
        assert!(COMMON.len() >= 300);
        for password in COMMON.iter() {
            assert!(password.chars().count() >= 8 && *password == password.to_lowercase().trim(), "{password}");
        }
    }

    #[test]
    fn names_are_compared_trimmed_and_in_lower_case() {
        assert_eq!(normalise("  Ada.Lovelace@Example.org ").as_deref(), Some("ada.lovelace@example.org"));
        for none in ["", "   ", "a\nb", "a\0b", &"x".repeat(129)] {
            assert_eq!(normalise(none), None, "{none:?}");
        }
    }
}
