//! To the operator's API: over its listener where a gateway runs, else in process on the embedded store.
//!
//! Both ways reach the same routes. Whether a gateway runs is asked of its listener; in process the data folder is
//! locked meanwhile, and everything done is booked before the command ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use crate::admin::Operator;
use crate::cli::node::Node;
use crate::config::{Config, Secret};

const PREFIX: &str = "/admin/v1";
const PAGE: usize = 1000;

/// A way to the operator's API.
pub(in crate::cli) enum Channel {
    /// A gateway runs.
    Remote { agent: ureq::Agent, base: String, token: Secret },
    /// None runs.
    Local(Box<Local>),
}

/// The routes in process.
pub(in crate::cli) struct Local {
    runtime: tokio::runtime::Runtime,
    node: Node,
    operator: Arc<Operator>,
}

impl Channel {
    /// Finds the way that the deployment file tells.
    pub(in crate::cli) fn open(config: &Path) -> anyhow::Result<Self> {
        let config = Config::load(config)?;
        let token = config.admin_token()?;
        let base = format!("http://{}", config.listen.admin);
        let timeouts = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(Duration::from_secs(30)));
        let agent = ureq::Agent::new_with_config(timeouts.build());
        if agent.get(format!("{base}/healthz")).call().is_ok() {
            return Ok(Self::Remote { agent, base, token });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let node = runtime.block_on(super::super::serve::open(&config))?;
        let operator = node.operator(token, None, Arc::default());
        Ok(Self::Local(Box::new(Local { runtime, node, operator })))
    }

    /// One call. The answer's body, or its error.
    pub(in crate::cli) fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let path = format!("{PREFIX}{path}");
        let (status, text) = match self {
            Self::Remote { agent, base, token } => {
                remote(agent, &format!("{base}{path}"), token, method, body)?
            }
            Self::Local(local) => local.call(method, &path, body)?,
        };
        let value: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        if (200..300).contains(&status) {
            return Ok(value);
        }
        bail!("{}", value["error"]["message"].as_str().unwrap_or("the operator's API refused"))
    }

    /// A whole list, page by page.
    pub(in crate::cli) fn list(&mut self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items: Vec<Value> = Vec::new();
        loop {
            let after = items.last().and_then(|item| item["id"].as_str());
            let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
            let mut page = self.call("GET", &format!("{path}?limit={PAGE}{after}"), None)?;
            let Value::Array(page) = page["items"].take() else { bail!("the answer has no items") };
            // Grants and adjustments come whole, whatever the limit.
            let last = page.len() != PAGE || path.ends_with("/grants") || path.ends_with("/adjustments");
            items.extend(page);
            if last {
                return Ok(items);
            }
        }
    }
}

fn remote(
    agent: &ureq::Agent,
    url: &str,
    token: &Secret,
    method: &str,
    body: Option<Value>,
) -> anyhow::Result<(u16, String)> {
    let request = http::Request::builder()
        .method(method)
        .uri(url)
        .header("authorization", token.bearer()?)
        .header("content-type", "application/json")
        .body(body.map(|body| body.to_string()).unwrap_or_default())?;
    let mut response = agent.run(request).context("the gateway's operator listener did not answer")?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

impl Local {
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<(u16, String)> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", self.operator.token.bearer()?)
            .header("content-type", "application/json")
            .body(Body::from(body.map(|body| body.to_string()).unwrap_or_default()))?;
        let router = crate::admin::router(Arc::clone(&self.operator));
        self.runtime.block_on(async {
            let response = router.oneshot(request).await?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await?.to_bytes();
            // What this call did is in the books before the next one asks them.
            self.node.settle().await;
            Ok((status, String::from_utf8(body.to_vec())?))
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.node.close();
    }
}
