//! Secrets: never in a log, an error or `Debug`.

use std::fmt;
use std::path::PathBuf;

use http::HeaderValue;
use subtle::ConstantTimeEq;

/// A secret text.
#[derive(Clone)]
pub struct Secret(String);

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In an environment variable.
    Env(String),
    /// In the first line of a file.
    File(PathBuf),
}

/// Why a secret is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set, or empty.
    #[error("the environment variable {name} is not set: it holds {what}")]
    NotSet {
        /// Which.
        name: String,
        /// What it is for.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("{what} cannot be read from {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is empty, or not visible ASCII.
    #[error("{what} is empty, or has characters that no header may have")]
    Unfit {
        /// What it is for.
        what: &'static str,
    },
}

impl Secret {
    /// A secret of visible ASCII characters, at least one.
    pub fn new(text: &str, what: &'static str) -> Result<Self, SecretError> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(SecretError::Unfit { what }) }
    }

    /// Whether it is this one. How much agrees does not show in the time.
    pub fn is(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }

    /// What follows `mark`, which it has to begin with.
    pub fn without_mark(&self, mark: &str) -> Option<&str> {
        self.0.strip_prefix(mark)
    }

    /// The parts of it that `mark` divides.
    pub fn parts(&self, mark: char) -> impl Iterator<Item = Self> {
        self.0.split(mark).map(str::trim).filter(|part| !part.is_empty()).map(|part| Self(part.to_owned()))
    }

    /// As the address of a server, which may hold a password.
    pub fn as_address(&self) -> &str {
        &self.0
    }

    /// As the value of an `Authorization` header, marked as sensitive.
    pub fn bearer(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl SecretSource {
    /// Reads the secret; `what` says in errors what it is for.
    pub fn read(&self, what: &'static str) -> Result<Secret, SecretError> {
        let text =
            match self {
                Self::Env(name) => {
                    let not_set = || SecretError::NotSet { name: name.clone(), what };
                    std::env::var(name).ok().filter(|text| !text.trim().is_empty()).ok_or_else(not_set)?
                }
                Self::File(path) => std::fs::read_to_string(path)
                    .map_err(|source| SecretError::Unreadable { path: path.clone(), what, source })?,
            };
        Secret::new(text.lines().next().unwrap_or_default().trim(), what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("sk-very-secret", "a test").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert!(!format!("{:?}", secret.bearer().unwrap()).contains("very"));
    }

    #[test]
    fn a_secret_that_no_header_may_have_is_refused_without_showing_it() {
        for text in ["", "two words", "line\nbreak", "ümlaut"] {
            let error = Secret::new(text, "the upstream's key").unwrap_err().to_string();
            assert_eq!(error, "the upstream's key is empty, or has characters that no header may have");
        }
    }

    #[test]
    fn the_first_line_of_a_file_is_the_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-one\nsecond line\n").unwrap();
        let secret = SecretSource::File(file.path().to_owned()).read("a test").unwrap();
        assert!(secret.is(b"sk-one"));
        assert!(!secret.is(b"sk-onf"));
    }
}
