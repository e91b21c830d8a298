//! The policy file, read again: when it changes, on SIGHUP, when the operator says so.
//!
//! A file that is not right changes nothing: the policy in force stays, the log lists every problem, and a metric says
//! that file and gateway differ. The folder is watched, not the file, so that editors and mounts that replace the file
//! are seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::ledger::Ledger;
use crate::ledger::directory::Directory;
use crate::policy::live::Policies;
use crate::policy::load;

/// Changes come in bursts: a pause lets an editor finish.
const SETTLE: Duration = Duration::from_millis(100);

/// Keeps the policy in force as the file says.
pub(super) struct Reloader {
    /// The policy file.
    pub(super) file: PathBuf,
    /// The policy in force.
    pub(super) policies: Arc<Policies>,
    /// Who is on which plan.
    pub(super) directory: Arc<Directory>,
    /// Keeps every policy that was ever in force.
    pub(super) ledger: Arc<dyn Ledger>,
    /// Wakes it.
    pub(super) wake: Arc<Notify>,
}

impl Reloader {
    /// Runs until it is dropped.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        metrics::describe_counter!(
            "overfall_policy_reloads_total",
            "Times the policy file was read again, by outcome."
        );
        metrics::describe_gauge!(
            "overfall_policy_file_refused",
            "1 while the policy file is not right and an older policy is in force."
        );
        self.warn_of_missing_plans();
        let _watcher = watch(&self.file, Arc::clone(&self.wake))?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                _ = hangup.recv() => tracing::info!("reading the policy again on SIGHUP"),
            }
            tokio::time::sleep(SETTLE).await;
            self.read_again().await;
        }
    }

    async fn read_again(&self) {
        let outcome = match self.load().await {
            Ok(Some(version)) => {
                tracing::info!(policy.version = %version, "the policy is in force");
                self.warn_of_missing_plans();
                "applied"
            }
            Ok(None) => "unchanged",
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the policy file is not right; the old policy stays");
                "refused"
            }
        };
        metrics::counter!("overfall_policy_reloads_total", "outcome" => outcome).increment(1);
        metrics::gauge!("overfall_policy_file_refused").set(if outcome == "refused" { 1.0 } else { 0.0 });
    }

    /// An account on a plan that is not there has nothing: its requests are refused until it has another plan.
    fn warn_of_missing_plans(&self) {
        let policy = self.policies.current();
        for (plan, accounts) in self.directory.plans() {
            if policy.plan(&plan).is_none() {
                tracing::warn!(%plan, accounts, "accounts are on a plan that the policy does not have");
            }
        }
    }

    async fn load(&self) -> anyhow::Result<Option<crate::units::PolicyVersion>> {
        let text = std::fs::read_to_string(&self.file)?;
        let policy = load::parse(&self.file.display().to_string(), &text)?;
        let version = policy.version;
        if version == self.policies.current().version {
            return Ok(None);
        }
        self.ledger.keep_policy(version, &text).await?;
        self.policies.replace(Arc::new(policy));
        Ok(Some(version))
    }
}

fn watch(file: &Path, wake: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let name = file.file_name().map(ToOwned::to_owned);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let touches = |event: &notify::Event| {
            let read = matches!(event.kind, notify::EventKind::Access(_));
            // A mounted configuration is swapped by a link beside the file: then the file itself is not named.
            let names = event.paths.iter().any(|path| path.file_name() == name.as_deref());
            let linked = event.paths.iter().any(|path| path.is_symlink() || !path.exists());
            !read && (names || linked)
        };
        if event.is_ok_and(|event| touches(&event)) {
            wake.notify_one();
        }
    })?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}
