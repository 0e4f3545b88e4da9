//! Whether a file is whole, as far as SQLite itself can tell.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, SqliteExecutor, sqlite::SqliteConnectOptions};

use super::{BUSY, failure};
use crate::Error;

/// Files up to this size are looked through at every start, which takes less than 100 ms; larger ones only when asked.
const SMALL: u64 = 32 << 20;

/// Looks through a file; one that a node uses may go on being used. Reads all of it.
///
/// # Errors
/// `Corrupt` when it is damaged, `Unavailable` when it can't be read.
pub async fn check(path: &Path) -> Result<(), Error> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let what = path.display().to_string();
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(|error| failure(&what, error))?;
    let found = look(path, &mut connection).await;
    connection.close().await.map_err(|error| failure(&what, error))?;
    found
}

/// Looks through a file that a node is about to use, when that is quickly done.
pub(super) async fn at_start(path: &Path, writer: impl SqliteExecutor<'_>) -> Result<(), Error> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() <= SMALL => look(path, writer).await,
        _ => Ok(()),
    }
}

async fn look(path: &Path, executor: impl SqliteExecutor<'_>) -> Result<(), Error> {
    let what = path.display().to_string();
    let found: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(executor).await.map_err(|error| failure(&what, error))?;
    if found == "ok" { Ok(()) } else { Err(Error::Corrupt { what, why: found.replace('\n', "; ") }) }
}
