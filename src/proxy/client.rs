//! Which client is at hand: the same block has to be told to each in the words that it acts on.
//!
//! Codex CLI reads other bodies and headers than `OpenAI`'s SDKs do, and retries what they do not. It names itself in
//! `originator`, and in the user agent; an editor that embeds it may give its own name in both, yet sends the id of
//! its context window with every call.

use http::HeaderMap;
use http::header::USER_AGENT;

/// No plan that Codex knows, so that it shows its neutral sentence instead of an offer of somebody else.
pub(super) const CODEX_PLAN_TYPE: &str = "overfall";

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As `OpenAI` answers: its SDKs, curl, everybody else.
    OpenAi,
    /// As Codex CLI and what embeds it understand.
    Codex,
}

/// What Codex has come to the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// Windows.
    Limit,
    /// Credits.
    Credits,
    /// A spend cap.
    Spend,
}

impl Reached {
    /// The word for it in Codex's protocol. The only user of an account owns it; any other is a member and has an
    /// owner to ask.
    pub(super) const fn as_str(self, sole_user: bool) -> &'static str {
        match (self, sole_user) {
            (Self::Limit, _) => "rate_limit_reached",
            (Self::Credits, true) => "workspace_owner_credits_depleted",
            (Self::Credits, false) => "workspace_member_credits_depleted",
            (Self::Spend, true) => "workspace_owner_usage_limit_reached",
            (Self::Spend, false) => "workspace_member_usage_limit_reached",
        }
    }
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Codex];

    /// The dialect of the client that sent these headers.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let names_codex =
            |name: &str| headers.get(name).is_some_and(|value| begins_with_codex(value.as_bytes()));
        let is_codex = names_codex("originator")
            || names_codex(USER_AGENT.as_str())
            || headers.contains_key("x-codex-window-id");
        if is_codex { Self::Codex } else { Self::OpenAi }
    }

    /// The word for it, in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Codex => "codex",
        }
    }
}

fn begins_with_codex(value: &[u8]) -> bool {
    value.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"codex"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codex_is_known_by_originator_user_agent_or_context_window() {
        for (name, value, dialect) in [
            ("originator", "codex_cli_rs", Dialect::Codex),
            ("originator", "codex_exec", Dialect::Codex),
            ("originator", "codex-tui", Dialect::Codex),
            ("originator", "codex_vscode", Dialect::Codex),
            ("originator", "Codex Desktop", Dialect::Codex),
            ("originator", "my-editor", Dialect::OpenAi),
            ("originator", "code", Dialect::OpenAi),
            ("user-agent", "codex_exec/0.169.0 (Debian 12.0.0; x86_64) xterm", Dialect::Codex),
            ("user-agent", "codex-tui/0.169.0 (Debian 12.0.0; x86_64)", Dialect::Codex),
            ("user-agent", "OpenAI/Python 3.54.0", Dialect::OpenAi),
            ("user-agent", "curl/8.5.0 codex", Dialect::OpenAi),
            ("x-codex-window-id", "01a20378-29f9-7d51-a5a4-4785a13aab18:0", Dialect::Codex),
            ("x-codex-turn-state", "", Dialect::OpenAi),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(Dialect::of_request(&headers), dialect, "{name}: {value}");
        }
        assert_eq!(Dialect::of_request(&HeaderMap::new()), Dialect::OpenAi);
    }
}
