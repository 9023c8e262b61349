use serde_json::json;

use super::{ChannelRule, ProtectedResource, Requirement, Settings};

impl Settings {
    /// What a node without a configuration file runs: the defaults, the demo page, and what that page shows.
    ///
    /// Nothing is more open than by default: the page's own origin only, and verified connections only.
    #[must_use]
    pub fn trial() -> Self {
        let mut settings = Self::default();
        settings.fill_for_trial(|_| false);
        settings
    }

    /// Sets what a trial adds, unless environment or flags set it.
    pub(super) fn fill_for_trial(&mut self, is_set: impl Fn(&str) -> bool) {
        if !is_set("server.demo_page") {
            self.server.demo_page = true;
        }
        if !is_set("channels") {
            let verified = Some(Requirement::Verified);
            let rule = ChannelRule { pattern: "demo:**".to_owned(), subscribe: verified.clone(), publish: verified };
            self.channels = vec![rule];
        }
        if !is_set("protected") {
            let body = json!({ "greeting": "Hello, World!" });
            self.protected = vec![ProtectedResource { path: "/demo/greeting".to_owned(), require: None, mode: None, body }];
        }
    }
}
