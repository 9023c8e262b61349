use std::sync::LazyLock;

use redis::{Cmd, Script, ServerErrorKind, Value};

/// A script of the pool with its hash.
pub(super) struct PoolScript {
    script: Script,
    text: &'static str,
}

/// Declares a script: its own file after the shared one.
macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<PoolScript> =
            LazyLock::new(|| PoolScript::new(concat!(include_str!("user.lua"), include_str!($file))));
    };
}

script!(ADD_USER, "add_user.lua");
script!(FIND_USER, "find_user.lua");
script!(LIST_USERS, "list_users.lua");
script!(SET_PASSWORD, "set_password.lua");
script!(REHASH, "rehash.lua");
script!(SET_DISABLED, "set_disabled.lua");
script!(DELETE_USER, "delete_user.lua");
script!(BEGIN_FAMILY, "begin_family.lua");
script!(REDEEM, "redeem.lua");
script!(CONFIRM, "confirm.lua");
script!(REVOKE_SESSION, "revoke_session.lua");
script!(ADMIT, "admit.lua");
script!(WITHDRAW, "withdraw.lua");
script!(ABSOLVE, "absolve.lua");
script!(REVOCATIONS, "revocations.lua");
script!(PRUNE, "prune.lua");

impl PoolScript {
    fn new(text: &'static str) -> Self {
        Self { script: Script::new(text), text }
    }

    /// A call of the script by its hash.
    pub(super) fn by_hash(&self, root: &str, arguments: &[String]) -> Cmd {
        call("EVALSHA", self.script.get_hash(), root, arguments)
    }

    /// The same call with the script in it, for a server that does not know it (yet, or any more).
    pub(super) fn by_text(&self, root: &str, arguments: &[String]) -> Cmd {
        call("EVAL", self.text, root, arguments)
    }
}

fn call(command: &str, script: &str, root: &str, arguments: &[String]) -> Cmd {
    let mut call = redis::cmd(command);
    call.arg(script).arg(1).arg(root).arg(arguments);
    call
}

/// Did the server not know the script? Nothing has been done then.
pub(super) fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}
