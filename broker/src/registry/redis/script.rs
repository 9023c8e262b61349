use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script, ServerErrorKind, Value};

/// A script of the registry with its hash.
pub(super) struct RegistryScript {
    script: Script,
    text: String,
}

/// Declares a script: its own file after the shared one.
macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<RegistryScript> =
            LazyLock::new(|| RegistryScript::new(concat!(include_str!("entry.lua"), include_str!($file))));
    };
}

script!(APPLY, "apply.lua");
script!(FIND, "find.lua");
script!(PAGE, "page.lua");
script!(COUNT, "count.lua");
script!(LEASE, "lease.lua");
script!(FORGET, "forget.lua");
script!(DEAD, "dead.lua");

impl RegistryScript {
    fn new(text: &str) -> Self {
        Self { script: Script::new(text), text: text.to_owned() }
    }

    /// A call of the script with one key; the caller adds the arguments.
    pub(super) fn on(&self, key: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(1).arg(key);
        call
    }

    /// The same commands with the script sent along: for a server that does not know it (yet, or any more).
    pub(super) fn with_text(&self, commands: &Pipeline) -> Pipeline {
        let mut with_text = Pipeline::with_capacity(commands.len() + 1);
        with_text.cmd("SCRIPT").arg("LOAD").arg(&self.text);
        for command in commands.cmd_iter() {
            with_text.add_command(command.clone());
        }
        with_text
    }
}

/// Did the server not know the script?
pub(super) fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}
