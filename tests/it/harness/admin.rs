//! The operator's API, as a program of the operator's calls it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::wait::until;

/// The operator's token.
pub(crate) const TOKEN: &str = "operator-token-0123456789abcdef";

/// A client of the operator's listener.
#[derive(Clone)]
pub(crate) struct Admin {
    base: String,
    agent: ureq::Agent,
}

/// Someone who calls: an account with one user and one key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) account: String,
    pub(crate) user: String,
    pub(crate) key: String,
    pub(crate) key_id: String,
}

impl Admin {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .max_idle_connections(0);
        Self { base: format!("http://{addr}"), agent: ureq::Agent::new_with_config(config.build()) }
    }

    /// A call under `/admin/v1`.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, text) = self
            .raw(method, &format!("/admin/v1{path}"), Some(TOKEN), body)
            .expect("the operator's listener");
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") })
    }

    /// Any call, with any token.
    pub(crate) fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, String), ureq::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.map(Value::to_string).unwrap_or_default()).expect("a request");
        let mut response = self.agent.run(request)?;
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), text))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, value) = self.call("GET", path, None);
        assert_eq!(status, 200, "GET {path}: {value}");
        value
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, value) = self.call("POST", path, Some(body));
        assert!((200..300).contains(&status), "POST {path}: {status} {value}");
        value
    }

    /// The status of a probe.
    pub(crate) fn probe(&self, path: &str) -> Result<u16, ureq::Error> {
        self.raw("GET", path, None, None).map(|(status, _)| status)
    }

    /// A new account on a plan, with a user and a key.
    pub(crate) fn caller(&self, plan: &str) -> Caller {
        let name = format!("{plan}-{:08x}", rand::random::<u32>());
        let account = text(&self.post("/accounts", &json!({"name": name, "plan": plan})), "id");
        self.user_of(&account)
    }

    /// A further user of an account, with a key.
    pub(crate) fn user_of(&self, account: &str) -> Caller {
        let name = format!("user-{:08x}", rand::random::<u32>());
        let user = text(&self.post(&format!("/accounts/{account}/users"), &json!({"name": name})), "id");
        let made = self.post(&format!("/accounts/{account}/users/{user}/keys"), &json!({}));
        Caller { account: account.to_owned(), user, key: text(&made, "key"), key_id: text(&made, "id") }
    }

    /// Credits for the account's wallet.
    pub(crate) fn grant(&self, caller: &Caller, amount: &str) -> Value {
        let order = json!({
            "balance": "wallet", "amount": amount, "idempotency_key": format!("grant-{:016x}", rand::random::<u64>()),
        });
        self.post(&format!("/accounts/{}/grants", caller.account), &order)
    }

    /// Waits until a decision is in the books, and gives it.
    pub(crate) fn booked(&self, decision: &str) -> Value {
        until(&format!("{decision} is booked"), || {
            let (status, value) = self.call("GET", &format!("/decisions/{decision}"), None);
            (status == 200).then_some(value)
        })
    }

    /// Waits until so many decisions of an account are in the books, and gives the newest page of them.
    pub(crate) fn booked_count(&self, account: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} decisions of {account} are booked"), || {
            let page = self.get(&format!("/accounts/{account}/decisions?limit=1000"));
            let items = page["items"].as_array().expect("items").clone();
            (items.len() >= count).then_some(items)
        })
    }

    /// What `/metrics` tells.
    pub(crate) fn metrics(&self) -> String {
        let (status, text) = self.raw("GET", "/metrics", None, None).expect("the operator's listener");
        assert_eq!(status, 200);
        text
    }

    /// The sum of a metric over its series whose labels have all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics();
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            (found == name && labels.iter().all(|label| rest.contains(label)))
                .then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }
}

/// A member that is a text.
pub(crate) fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}")).to_owned()
}
