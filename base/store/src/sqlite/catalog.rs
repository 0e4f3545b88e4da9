//! The catalog in SQLite.

use std::path::Path;

use async_trait::async_trait;
use sqlx::{
    Row as _, SqliteConnection,
    sqlite::{SqliteRow, SqliteSynchronous},
};

use super::{Database, signed, unsigned};
use crate::{Catalog, Collection, Committed, Document, Error, Expect, Write};

/// Documents and outbox in one file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    database: Database,
}

impl SqliteCatalog {
    /// Opens or makes the file and brings it to this release's layout.
    ///
    /// # Errors
    /// `Unavailable` when it can't be opened.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let migrations = sqlx::migrate!("migrations/catalog");
        Ok(Self { database: Database::open(path, SqliteSynchronous::Full, &migrations).await? })
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[async_trait]
impl Catalog for SqliteCatalog {
    async fn get(&self, collection: Collection, key: &str) -> Result<Option<Document>, Error> {
        let row = sqlx::query("SELECT key, generation, value FROM document WHERE collection = ? AND key = ?")
            .bind(collection.as_str())
            .bind(key)
            .fetch_optional(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        row.as_ref().map(document).transpose().map_err(self.database.fail())
    }

    async fn list(
        &self,
        collection: Collection,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Error> {
        // Keys are ASCII: every key below the prefix sorts before prefix + 0x7f.
        let rows = sqlx::query(
            "SELECT key, generation, value FROM document
             WHERE collection = ? AND key >= ? AND key < ? AND key > ? ORDER BY key LIMIT ?",
        )
        .bind(collection.as_str())
        .bind(prefix)
        .bind(format!("{prefix}\u{7f}"))
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.database.reader)
        .await
        .map_err(self.database.fail())?;
        rows.iter().map(document).collect::<Result<_, _>>().map_err(self.database.fail())
    }

    async fn commit(&self, writes: Vec<Write>, records: Vec<Vec<u8>>) -> Result<Committed, Error> {
        let fail = self.database.fail();
        let mut transaction = self.database.writer.begin().await.map_err(&fail)?;
        let mut generations = Vec::with_capacity(writes.len());
        for write in &writes {
            generations.push(apply(&mut transaction, write, &fail).await?);
        }
        let mut outbox = None;
        for record in records {
            let done = sqlx::query("INSERT INTO outbox (record) VALUES (?)")
                .bind(record)
                .execute(&mut *transaction)
                .await
                .map_err(&fail)?;
            outbox = Some(unsigned(done.last_insert_rowid()));
        }
        transaction.commit().await.map_err(&fail)?;
        Ok(Committed { generations, outbox })
    }

    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let rows = sqlx::query("SELECT sequence, record FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?")
            .bind(signed(after))
            .bind(limit)
            .fetch_all(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        let record = |row: &SqliteRow| Ok((unsigned(row.try_get(0)?), row.try_get(1)?));
        rows.iter().map(record).collect::<Result<_, _>>().map_err(self.database.fail())
    }

    async fn given(&self) -> Result<u64, Error> {
        // SQLite keeps the last sequence of a table that counts up and never back.
        let given: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
            .fetch_optional(&self.database.reader)
            .await
            .map_err(self.database.fail())?;
        Ok(given.map_or(0, unsigned))
    }

    async fn forget_outbox(&self, upto: u64) -> Result<(), Error> {
        sqlx::query("DELETE FROM outbox WHERE sequence <= ?")
            .bind(signed(upto))
            .execute(&self.database.writer)
            .await
            .map_err(self.database.fail())?;
        Ok(())
    }
}

fn document(row: &SqliteRow) -> Result<Document, sqlx::Error> {
    Ok(Document { key: row.try_get(0)?, generation: unsigned(row.try_get(1)?), value: row.try_get(2)? })
}

async fn apply(
    connection: &mut SqliteConnection,
    write: &Write,
    fail: &(impl Fn(sqlx::Error) -> Error + Sync),
) -> Result<u64, Error> {
    let found: Option<i64> = sqlx::query_scalar("SELECT generation FROM document WHERE collection = ? AND key = ?")
        .bind(write.collection.as_str())
        .bind(&write.key)
        .fetch_optional(&mut *connection)
        .await
        .map_err(fail)?;
    let fits = match write.expect {
        Expect::Any => true,
        Expect::Absent => found.is_none(),
        Expect::Generation(generation) => found == Some(signed(generation)),
    };
    if !fits {
        return Err(Error::Conflict { collection: write.collection.as_str(), key: write.key.clone() });
    }
    let Some(value) = &write.value else {
        sqlx::query("DELETE FROM document WHERE collection = ? AND key = ?")
            .bind(write.collection.as_str())
            .bind(&write.key)
            .execute(&mut *connection)
            .await
            .map_err(fail)?;
        return Ok(0);
    };
    let generation = found.unwrap_or(0) + 1;
    sqlx::query("INSERT OR REPLACE INTO document (collection, key, generation, value) VALUES (?, ?, ?, ?)")
        .bind(write.collection.as_str())
        .bind(&write.key)
        .bind(generation)
        .bind(value)
        .execute(&mut *connection)
        .await
        .map_err(fail)?;
    Ok(unsigned(generation))
}
