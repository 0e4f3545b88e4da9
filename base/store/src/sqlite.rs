//! The embedded form: three SQLite files in WAL mode, each with one writer connection and a few readers.
//!
//! Catalog and ledger are written with `synchronous=FULL`: what is acknowledged survives a power cut. Events
//! are written with `NORMAL`: they survive the process, and a power cut may cost the last batch.

mod catalog;
mod check;
mod log;
mod snapshot;
mod stream;

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    Connection as _, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use catalog::SqliteCatalog;
pub use check::check;
pub use log::SqliteLog;
pub use snapshot::{continue_outbox, snapshot};
pub use stream::SqliteStreams;

use crate::Error;

/// How long a reader waits for a lock before it gives up.
const BUSY: Duration = Duration::from_secs(10);
/// Readers beside the one writer.
const READERS: u32 = 3;

/// One file: a writer and its readers.
#[derive(Debug, Clone)]
struct Database {
    what: String,
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Database {
    async fn open(path: &Path, synchronous: SqliteSynchronous, migrations: &Migrator) -> Result<Self, Error> {
        let what = path.display().to_string();
        let fail = |error: sqlx::Error| failure(&what, error);
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(fail)?
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY);
        // Where SQLite itself has rolled a transaction back, as it does on a full disk, sqlx's own rollback fails. Its
        // count of open transactions is one too high from then on, and what is committed later is not.
        let pool = |size: u32| {
            let pool = SqlitePoolOptions::new().min_connections(0).max_connections(size).idle_timeout(None);
            pool.before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
        };
        let writer = pool(1).connect_with(options.clone()).await.map_err(fail)?;
        check::at_start(path, &writer).await?;
        migrations.run(&writer).await.map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => fail(error),
            error => Error::unavailable(what.clone(), error),
        })?;
        let reader = pool(READERS).connect_lazy_with(options.read_only(true));
        Ok(Self { what, writer, reader })
    }

    /// The same file for readers alone: its writer can't write.
    async fn open_to_read(path: &Path) -> Result<Self, Error> {
        let what = path.display().to_string();
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
        let reader = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let reader = reader.map_err(|error| failure(&what, error))?;
        Ok(Self { what, writer: reader.clone(), reader })
    }

    fn fail(&self) -> impl Fn(sqlx::Error) -> Error + use<> {
        let what = self.what.clone();
        move |error| failure(&what, error)
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// What SQLite says of a file that is not whole, whatever the details in the upper bits.
const CORRUPT: i32 = 11;
const NO_DATABASE: i32 = 26;

/// Tells a file that is damaged from one that can't be used now.
fn failure(what: &str, error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    let damaged = matches!(code.map(|code| code & 0xff), Some(CORRUPT | NO_DATABASE));
    if damaged || matches!(error, sqlx::Error::ColumnDecode { .. }) {
        return Error::Corrupt { what: what.to_owned(), why: error.to_string() };
    }
    Error::unavailable(what, error)
}

/// SQLite integers are signed; sequences and generations stay far below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
