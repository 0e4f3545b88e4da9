//! Event streams in SQLite.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    Connection as _, Row as _, Sqlite,
    pool::PoolConnection,
    sqlite::{SqliteRow, SqliteSynchronous},
};
use tokio::time::Instant;
use types::Timestamp;

use super::{Database, signed, unsigned};
use crate::{Entry, Error, Keyed, Retention, Streams};

/// Streams in one file.
#[derive(Debug, Clone)]
pub struct SqliteStreams {
    database: Database,
}

/// Entries dropped per transaction, so that retention never holds the writer for long.
const DROP: u32 = 500;
/// How long retention rests after each transaction, in what that took: it must leave the machine to others, since a day's
/// worth of entries may have to go at once.
const REST: u32 = 3;

impl SqliteStreams {
    /// Opens or makes the file and brings it to this release's layout.
    ///
    /// # Errors
    /// `Unavailable` when it can't be opened.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let migrations = sqlx::migrate!("migrations/events");
        let opened = Database::open(path, SqliteSynchronous::Normal, &migrations).await;
        let database = opened.map_err(|error| match error {
            Error::Corrupt { what, why } => {
                let why = format!("{why} (moved away, the node starts without it, and what it held can't be proved)");
                Error::Corrupt { what, why }
            }
            error => error,
        })?;
        Ok(Self { database })
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// The writer's connection, on which what is deleted leaves no bytes behind in the file.
    async fn thorough(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let mut connection = self.database.writer.acquire().await.map_err(self.database.fail())?;
        sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await.map_err(self.database.fail())?;
        Ok(connection)
    }

    async fn drop_oldest(&self, stream: &str, retention: Retention) -> Result<u64, Error> {
        let fail = self.database.fail();
        let mut connection = self.thorough().await?;
        let mut transaction = connection.begin().await.map_err(&fail)?;
        let kept: i64 = sqlx::query_scalar("SELECT coalesce((SELECT bytes FROM stream WHERE name = ?), 0)")
            .bind(stream)
            .fetch_one(&mut *transaction)
            .await
            .map_err(&fail)?;
        let oldest =
            sqlx::query("SELECT sequence, at, length(data) FROM event WHERE stream = ? ORDER BY sequence LIMIT ?")
                .bind(stream)
                .bind(DROP)
                .fetch_all(&mut *transaction)
                .await
                .map_err(&fail)?;
        let (mut left, mut last, mut dropped) = (unsigned(kept), None, 0);
        for row in oldest {
            let (sequence, at, size): (i64, i64, i64) =
                (|| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))().map_err(&fail)?;
            if unsigned(at) >= retention.not_before.0 && left <= retention.bytes {
                break;
            }
            left = left.saturating_sub(unsigned(size));
            last = Some(sequence);
            dropped += 1;
        }
        if let Some(last) = last {
            sqlx::query("DELETE FROM event WHERE stream = ? AND sequence <= ?")
                .bind(stream)
                .bind(last)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            sqlx::query("DELETE FROM entry_key WHERE stream = ? AND sequence <= ?")
                .bind(stream)
                .bind(last)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            sqlx::query("UPDATE stream SET bytes = ? WHERE name = ?")
                .bind(signed(left))
                .bind(stream)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
        }
        transaction.commit().await.map_err(&fail)?;
        Ok(dropped)
    }
}

#[async_trait]
impl Streams for SqliteStreams {
    async fn append_keyed(&self, stream: &str, at: Timestamp, entries: Vec<Keyed>) -> Result<u64, Error> {
        let fail = self.database.fail();
        let size: usize = entries.iter().map(|(data, _)| data.len()).sum();
        let mut transaction = self.database.writer.begin().await.map_err(&fail)?;
        let next: i64 = sqlx::query_scalar(
            "INSERT INTO stream (name, next, bytes) VALUES (?, 1 + ?, ?)
             ON CONFLICT (name) DO UPDATE SET next = next + ?, bytes = bytes + ? RETURNING next",
        )
        .bind(stream)
        .bind(signed(entries.len() as u64))
        .bind(signed(size as u64))
        .bind(signed(entries.len() as u64))
        .bind(signed(size as u64))
        .fetch_one(&mut *transaction)
        .await
        .map_err(&fail)?;
        let first = unsigned(next).saturating_sub(entries.len() as u64);
        for (sequence, (data, key)) in (first..).zip(entries) {
            if let Some(key) = key {
                sqlx::query("INSERT INTO entry_key (hash, stream, sequence) VALUES (?, ?, ?)")
                    .bind(key.cast_signed())
                    .bind(stream)
                    .bind(signed(sequence))
                    .execute(&mut *transaction)
                    .await
                    .map_err(&fail)?;
            }
            sqlx::query("INSERT INTO event (stream, sequence, at, data) VALUES (?, ?, ?, ?)")
                .bind(stream)
                .bind(signed(sequence))
                .bind(signed(at.0))
                .bind(data)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
        }
        transaction.commit().await.map_err(&fail)?;
        Ok(first)
    }

    async fn read(&self, stream: &str, from: u64, limit: u32) -> Result<Vec<Entry>, Error> {
        let rows = sqlx::query(
            "SELECT sequence, at, data FROM event WHERE stream = ? AND sequence >= ? ORDER BY sequence LIMIT ?",
        )
        .bind(stream)
        .bind(signed(from))
        .bind(limit)
        .fetch_all(&self.database.reader)
        .await
        .map_err(self.database.fail())?;
        let entry = |row: &SqliteRow| {
            let (sequence, at, data) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Entry { sequence: unsigned(sequence), at: Timestamp(unsigned(at)), data })
        };
        rows.iter().map(entry).collect::<Result<_, _>>().map_err(self.database.fail())
    }

    async fn find(&self, prefix: &str, key: u64, limit: u32) -> Result<Vec<(String, u64)>, Error> {
        let rows = sqlx::query(
            "SELECT stream, sequence FROM entry_key WHERE hash = ? AND stream >= ? AND stream < ? ORDER BY stream, sequence LIMIT ?",
        )
        .bind(key.cast_signed())
        .bind(prefix)
        .bind(format!("{prefix}\u{7f}"))
        .bind(limit)
        .fetch_all(&self.database.reader)
        .await
        .map_err(self.database.fail())?;
        let place = |row: &SqliteRow| Ok((row.try_get(0)?, unsigned(row.try_get(1)?)));
        rows.iter().map(place).collect::<Result<_, _>>().map_err(self.database.fail())
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        // Names are ASCII: every one below the prefix sorts before prefix + 0x7f.
        let names = sqlx::query_scalar("SELECT name FROM stream WHERE name >= ? AND name < ? ORDER BY name")
            .bind(prefix)
            .bind(format!("{prefix}\u{7f}"))
            .fetch_all(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        Ok(names)
    }

    async fn next(&self, stream: &str) -> Result<u64, Error> {
        let next: Option<i64> = sqlx::query_scalar("SELECT next FROM stream WHERE name = ?")
            .bind(stream)
            .fetch_optional(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        Ok(next.map_or(1, unsigned))
    }

    async fn erase(&self, stream: &str, sequences: &[u64]) -> Result<(), Error> {
        let fail = self.database.fail();
        let mut connection = self.thorough().await?;
        let mut transaction = connection.begin().await.map_err(&fail)?;
        let mut freed = 0;
        for sequence in sequences {
            let size: Option<i64> =
                sqlx::query_scalar("SELECT length(data) FROM event WHERE stream = ? AND sequence = ?")
                    .bind(stream)
                    .bind(signed(*sequence))
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(&fail)?;
            freed += size.unwrap_or(0);
            sqlx::query("UPDATE event SET data = x'' WHERE stream = ? AND sequence = ?")
                .bind(stream)
                .bind(signed(*sequence))
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
        }
        sqlx::query("UPDATE stream SET bytes = max(0, bytes - ?) WHERE name = ?")
            .bind(freed)
            .bind(stream)
            .execute(&mut *transaction)
            .await
            .map_err(&fail)?;
        transaction.commit().await.map_err(&fail)?;
        // What the log of the file still holds of them goes as well.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await.map_err(&fail)?;
        Ok(())
    }

    async fn retain(&self, stream: &str, retention: Retention) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let begun = Instant::now();
            let dropped = self.drop_oldest(stream, retention).await?;
            total += dropped;
            if dropped < u64::from(DROP) {
                return Ok(total);
            }
            tokio::time::sleep(begun.elapsed() * REST).await;
        }
    }
}
