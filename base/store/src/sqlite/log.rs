//! The ledger's records and hashes in SQLite.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    Row as _,
    sqlite::{SqliteRow, SqliteSynchronous},
};

use super::{Database, signed, unsigned};
use crate::{Error, Head, Log, LogRecord};

/// The log in one file.
#[derive(Debug, Clone)]
pub struct SqliteLog {
    database: Database,
}

impl SqliteLog {
    /// Opens or makes the file and brings it to this release's layout.
    ///
    /// # Errors
    /// `Unavailable` when it can't be opened.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let migrations = sqlx::migrate!("migrations/ledger");
        Ok(Self { database: Database::open(path, SqliteSynchronous::Full, &migrations).await? })
    }

    /// Opens a file for readers alone, also while a node uses it; nothing of it is changed.
    ///
    /// # Errors
    /// `Unavailable` when it can't be opened.
    pub async fn open_to_read(path: &Path) -> Result<Self, Error> {
        Ok(Self { database: Database::open_to_read(path).await? })
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn head(&self) -> Result<Head, Error> {
        let row = sqlx::query(
            "SELECT size, checkpoint, coalesce((SELECT max(source) FROM record), 0) FROM head WHERE id = 1",
        )
        .fetch_optional(&self.database.reader)
        .await
        .map_err(self.database.fail())?;
        let head = |row: SqliteRow| {
            let (size, checkpoint, source) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Head { size: unsigned(size), checkpoint, source: unsigned(source) })
        };
        row.map_or_else(|| Ok(Head::default()), head).map_err(self.database.fail())
    }

    async fn hashes(&self, indexes: &[u64]) -> Result<Vec<(u64, [u8; 32])>, Error> {
        let mut hashes = Vec::with_capacity(indexes.len());
        for index in indexes {
            let hash: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM hash WHERE position = ?")
                .bind(signed(*index))
                .fetch_optional(&self.database.reader)
                .await
                .map_err(self.database.fail())?;
            if let Some(hash) = hash.and_then(|h| <[u8; 32]>::try_from(h).ok()) {
                hashes.push((*index, hash));
            }
        }
        Ok(hashes)
    }

    async fn position(&self, source: u64) -> Result<Option<u64>, Error> {
        let position: Option<i64> = sqlx::query_scalar("SELECT position FROM record WHERE source = ?")
            .bind(signed(source))
            .fetch_optional(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        Ok(position.map(unsigned))
    }

    async fn append(
        &self,
        first: u64,
        records: Vec<LogRecord>,
        hashes: Vec<(u64, [u8; 32])>,
        checkpoint: Vec<u8>,
    ) -> Result<(), Error> {
        let fail = self.database.fail();
        let mut transaction = self.database.writer.begin().await.map_err(&fail)?;
        let size: i64 = sqlx::query_scalar("SELECT coalesce((SELECT size FROM head WHERE id = 1), 0)")
            .fetch_one(&mut *transaction)
            .await
            .map_err(&fail)?;
        if unsigned(size) != first {
            return Err(Error::Conflict { collection: "log", key: first.to_string() });
        }
        let count = records.len() as u64;
        for (position, record) in (first..).zip(records) {
            sqlx::query("INSERT INTO record (position, source, data) VALUES (?, ?, ?)")
                .bind(signed(position))
                .bind(signed(record.source))
                .bind(record.data)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
        }
        for (position, hash) in hashes {
            sqlx::query("INSERT INTO hash (position, hash) VALUES (?, ?)")
                .bind(signed(position))
                .bind(hash.as_slice())
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
        }
        sqlx::query("INSERT OR REPLACE INTO head (id, size, checkpoint) VALUES (1, ?, ?)")
            .bind(signed(first + count))
            .bind(checkpoint)
            .execute(&mut *transaction)
            .await
            .map_err(&fail)?;
        transaction.commit().await.map_err(&fail)
    }

    async fn records(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>, Error> {
        let rows = sqlx::query("SELECT position, data FROM record WHERE position >= ? ORDER BY position LIMIT ?")
            .bind(signed(from))
            .bind(limit)
            .fetch_all(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        let mut records = Vec::with_capacity(rows.len());
        for (position, row) in (from..).zip(&rows) {
            let (found, data) = (|| Ok((row.try_get(0)?, row.try_get(1)?)))().map_err(self.database.fail())?;
            if unsigned(found) != position {
                let why = format!("record {position} is missing");
                return Err(Error::Corrupt { what: self.database.what.clone(), why });
            }
            records.push(data);
        }
        Ok(records)
    }
}
