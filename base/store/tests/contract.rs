//! The embedded stores run through every contract suite, and keep what they were given across a reopening.

use store::{
    Catalog, Collection, Expect, Log, Write, contract,
    directory::Directory,
    sqlite::{SqliteCatalog, SqliteLog, SqliteStreams},
};

#[tokio::test]
async fn sqlite_catalog() {
    let dir = tempfile::tempdir().unwrap();
    contract::catalog(&SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap()).await;
}

#[tokio::test]
async fn sqlite_streams() {
    let dir = tempfile::tempdir().unwrap();
    contract::streams(&SqliteStreams::open(&dir.path().join("events.db")).await.unwrap()).await;
}

#[tokio::test]
async fn sqlite_log() {
    let dir = tempfile::tempdir().unwrap();
    contract::log(&SqliteLog::open(&dir.path().join("ledger.db")).await.unwrap()).await;
}

#[tokio::test]
async fn directory_artefacts() {
    let dir = tempfile::tempdir().unwrap();
    contract::artefacts(&Directory::open(dir.path()).await.unwrap()).await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let catalog = SqliteCatalog::open(&path).await.unwrap();
    let write = Write::put(Collection::Model, "a/x", Expect::Absent, &"value").unwrap();
    catalog.commit(vec![write], vec![b"record".to_vec()]).await.unwrap();
    catalog.close().await;
    let catalog = SqliteCatalog::open(&path).await.unwrap();
    assert_eq!(catalog.get(Collection::Model, "a/x").await.unwrap().unwrap().read::<String>().unwrap(), "value");
    assert_eq!(catalog.outbox(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    std::fs::write(&path, "this is no database, and long enough to be looked at as one: ".repeat(40)).unwrap();
    let Err(error) = SqliteLog::open(&path).await else { panic!("it opened") };
    assert!(error.to_string().contains("ledger.db"), "{error}");
}

#[tokio::test]
async fn concurrent_commits_each_see_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let catalog = catalog.clone();
            tokio::spawn(async move {
                let write = Write::put(Collection::Desired, "one", Expect::Absent, &n).unwrap();
                catalog.commit(vec![write], vec![]).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
    assert!(SqliteLog::open(&dir.path().join("l.db")).await.unwrap().head().await.is_ok());
}
