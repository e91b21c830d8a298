//! Where books are, as a command or a deployment file says it.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::Secret;

/// What an address of a server begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Where books are.
#[derive(Clone, Debug)]
pub enum LedgerAt {
    /// In a file.
    File(PathBuf),
    /// On a PostgreSQL server with this address, which may hold a password.
    Server(Secret),
}

impl FromStr for LedgerAt {
    type Err = Infallible;

    /// An address by its scheme; anything else is a file.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let is_server = SCHEMES.iter().any(|scheme| text.starts_with(scheme));
        let address = Secret::new(text, "the address of a ledger").ok().filter(|_| is_server);
        Ok(address.map_or_else(|| Self::File(text.into()), Self::Server))
    }
}

impl fmt::Display for LedgerAt {
    /// The file, or the server without who logs in there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(address) => {
                let address = address.as_address();
                let place = address.split_once("://").map_or("", |(_, rest)| rest);
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                let place = place.split('?').next().unwrap_or_default();
                write!(f, "postgres://{place}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_who_logs_in() {
        for (text, shown) in [
            ("data/ledger.sqlite", "data/ledger.sqlite"),
            (
                "postgres://ada:p@ss@db.example:5432/books?sslmode=require&password=x",
                "postgres://db.example:5432/books",
            ),
            ("postgresql://%2Frun%2Fpostgres/books", "postgres://%2Frun%2Fpostgres/books"),
        ] {
            let Ok(at) = text.parse::<LedgerAt>();
            assert_eq!(at.to_string(), shown);
            assert!(!format!("{at:?}").contains("ada"));
        }
    }
}
