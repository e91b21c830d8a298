//! `overfall checkpoint`, and the checkpoints that a gateway makes by itself.
//!
//! The key is a file of its own in the data folder, made when it is first needed and readable by its owner alone. Each
//! checkpoint is a file in `checkpoints/` beside it, named by its instant. They are small and never deleted here: the
//! oldest proves the most.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::books::OpenBooks;
use super::output::{say, say_json};
use super::{ConfigFile, Format};
use crate::audit::checkpoint::{Checkpoint, Signed};
use crate::config::Config;
use crate::units::Timestamp;
use crate::units::time::Clock;

/// `overfall checkpoint`
#[derive(Debug, Subcommand)]
pub(super) enum CheckpointVerb {
    /// Take a checkpoint of the books now, sign it and keep it
    Make(Of),
    /// Show the newest checkpoint
    Show(Of),
    /// Show the public key that checkpoints are signed under
    Key(Of),
}

/// Whose checkpoints.
#[derive(Debug, Args)]
pub(super) struct Of {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    format: Format,
}

/// The checkpoints of one data folder.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    config: Config,
}

impl CheckpointVerb {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (Self::Make(of) | Self::Show(of) | Self::Key(of)) = &self;
        let kept = Checkpoints::of(&Config::load(&of.config.config)?);
        let json = of.format.json;
        match self {
            Self::Make(_) => kept.make(Clock::machine().now())?.tell(json)?,
            Self::Show(_) => match kept.newest()? {
                Some(path) => Made { signed: read(&path)?, path }.tell(json)?,
                None => anyhow::bail!("there is no checkpoint yet"),
            },
            Self::Key(_) => {
                let key = hex::encode(kept.key()?.public_key());
                if json { say_json(&serde_json::json!({"key": key}))? } else { say(&key) }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a checkpoint's file.
pub(super) fn read(path: &Path) -> anyhow::Result<Signed> {
    let unread = || format!("{} is not a checkpoint", path.display());
    let text = std::fs::read_to_string(path).with_context(unread)?;
    serde_json::from_str(&text).with_context(unread)
}

/// A checkpoint and its file.
pub(super) struct Made {
    pub(super) signed: Signed,
    pub(super) path: PathBuf,
}

impl Made {
    fn tell(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return say_json(&self.signed);
        }
        let Signed { checkpoint, key, .. } = &self.signed;
        say(&format!(
            "checkpoint of {}: {} heads, root {}\nsigned under {key}\n{}",
            checkpoint.at,
            checkpoint.leaves,
            checkpoint.root,
            self.path.display()
        ));
        Ok(())
    }
}

impl Checkpoints {
    /// Those of a deployment.
    pub(super) fn of(config: &Config) -> Self {
        Self { config: config.clone() }
    }

    /// Takes, signs and keeps one.
    pub(super) fn make(&self, now: Timestamp) -> anyhow::Result<Made> {
        let ledger = self.config.ledger_at()?;
        let unread = || format!("{ledger} cannot be read");
        let books = OpenBooks::at(&ledger).with_context(unread)?;
        let signed = Checkpoint::take(books.books(), now).with_context(unread)?.sign(&self.key()?);
        let folder = self.folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let path = folder.join(format!("{:015}.json", now.ms()));
        let unkept = || format!("{} cannot be written", path.display());
        // Whole or not at all, also where another is made in the same moment.
        let mut file = tempfile::NamedTempFile::new_in(&folder).with_context(unkept)?;
        serde_json::to_writer_pretty(&mut file, &signed)?;
        writeln!(file)?;
        file.as_file().sync_all().with_context(unkept)?;
        file.persist(&path).with_context(unkept)?;
        Ok(Made { signed, path })
    }

    /// Makes one every so often, as long as anything has been booked since the last.
    pub(super) async fn run(self, every: Duration, clock: Clock) {
        let this = Arc::new(self);
        let mut last = None;
        loop {
            tokio::time::sleep(every).await;
            let (of, now) = (Arc::clone(&this), clock.now());
            let made = tokio::task::spawn_blocking(move || of.make_if_changed(last, now)).await;
            match made {
                Ok(Ok(Some(made))) => {
                    let checkpoint = &made.signed.checkpoint;
                    last = Some(checkpoint.extent());
                    tracing::info!(checkpoint.root = %checkpoint.root, checkpoint.path = %made.path.display(), "a checkpoint of the books is made");
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => {
                    tracing::error!(error = %format!("{error:#}"), "no checkpoint of the books could be made");
                }
                Err(error) => {
                    tracing::error!(error = %error, "no checkpoint of the books could be made");
                }
            }
        }
    }

    fn make_if_changed(
        &self,
        last: Option<crate::ledger::books::Extent>,
        now: Timestamp,
    ) -> anyhow::Result<Option<Made>> {
        let extent = OpenBooks::at(&self.config.ledger_at()?)?.books().extent()?;
        if last == Some(extent) { Ok(None) } else { self.make(now).map(Some) }
    }

    /// The newest one's file.
    pub(super) fn newest(&self) -> anyhow::Result<Option<PathBuf>> {
        let folder = self.folder();
        if !folder.exists() {
            return Ok(None);
        }
        let mut newest = None;
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                newest = newest.max(Some(path));
            }
        }
        Ok(newest)
    }

    /// The key, made where there is none.
    pub(super) fn key(&self) -> anyhow::Result<Ed25519KeyPair> {
        let path = self.config.data.join("checkpoint-key");
        let unread = || format!("the key {} cannot be read", path.display());
        if !path.exists() {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| anyhow::anyhow!("the machine gives no random numbers"))?;
            let unkept = || format!("the key {} cannot be made", path.display());
            std::fs::create_dir_all(&self.config.data).with_context(unkept)?;
            let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = file.with_context(unkept)?;
            file.write_all(made.as_ref()).and_then(|()| file.sync_all()).with_context(unkept)?;
        }
        let bytes = std::fs::read(&path).with_context(unread)?;
        Ed25519KeyPair::from_pkcs8(&bytes).map_err(|error| anyhow::anyhow!("{error}")).with_context(unread)
    }

    fn folder(&self) -> PathBuf {
        self.config.data.join("checkpoints")
    }
}
