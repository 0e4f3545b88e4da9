//! Copies of a file as it stands at one moment, while others may go on writing it.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{BUSY, failure};
use crate::Error;

async fn open(path: &Path) -> Result<SqliteConnection, Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY);
    let opened = SqliteConnection::connect_with(&options).await;
    opened.map_err(|error| failure(&path.display().to_string(), error))
}

/// Writes the file's state at this moment into a new file.
///
/// # Errors
/// `Unavailable` when either can't be used, or `to` exists.
pub async fn snapshot(from: &Path, to: &Path) -> Result<(), Error> {
    let fail = |error| failure(&from.display().to_string(), error);
    let mut connection = open(from).await?;
    sqlx::query("VACUUM INTO ?").bind(to.display().to_string()).execute(&mut connection).await.map_err(fail)?;
    connection.close().await.map_err(fail)
}

/// Lets a catalog count its outbox on from where a ledger has got to. A ledger that was copied later than its catalog
/// has records from outbox sequences that the catalog has not given out yet; given out again, they would be passed over.
///
/// # Errors
/// `Unavailable` when either can't be used.
pub async fn continue_outbox(catalog: &Path, ledger: &Path) -> Result<(), Error> {
    let fail = |error| failure(&catalog.display().to_string(), error);
    let mut connection = open(ledger).await?;
    let source: i64 = sqlx::query_scalar("SELECT coalesce(max(source), 0) FROM record")
        .fetch_one(&mut connection)
        .await
        .map_err(fail)?;
    connection.close().await.map_err(fail)?;
    let mut connection = open(catalog).await?;
    let given: i64 = sqlx::query_scalar("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)")
        .fetch_one(&mut connection)
        .await
        .map_err(fail)?;
    for statement in
        ["DELETE FROM sqlite_sequence WHERE name = 'outbox'", "INSERT INTO sqlite_sequence VALUES ('outbox', ?)"]
    {
        sqlx::query(statement).bind(given.max(source)).execute(&mut connection).await.map_err(fail)?;
    }
    connection.close().await.map_err(fail)
}
