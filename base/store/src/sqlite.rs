//! The embedded form: three SQLite files in WAL mode, each with one writer connection and a few readers.
//!
//! Catalog and ledger are written with `synchronous=FULL`: what is acknowledged survives a power cut. Events
//! are written with `NORMAL`: they survive the process, and a power cut may cost the last batch.

mod catalog;
mod log;
mod snapshot;
mod stream;

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use catalog::SqliteCatalog;
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
        let fail = |error: sqlx::Error| Error::unavailable(what.clone(), error);
        let options = SqliteConnectOptions::from_str("sqlite:")
            .map_err(fail)?
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY);
        let pool = |size: u32| SqlitePoolOptions::new().min_connections(0).max_connections(size).idle_timeout(None);
        let writer = pool(1).connect_with(options.clone()).await.map_err(fail)?;
        migrations.run(&writer).await.map_err(|error| Error::unavailable(what.clone(), error))?;
        let reader = pool(READERS).connect_lazy_with(options.read_only(true));
        Ok(Self { what, writer, reader })
    }

    fn fail(&self) -> impl Fn(sqlx::Error) -> Error + use<> {
        let what = self.what.clone();
        move |error| Error::unavailable(what.clone(), error)
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// SQLite integers are signed; sequences and generations stay far below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
