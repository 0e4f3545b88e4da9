//! What every implementation of a store must do, as suites to run: one call per trait.
//!
//! Each suite starts from an empty store and panics with what it found.
#![expect(clippy::unwrap_used, reason = "suites are tests: failing loudly is their job")]

use bytes::Bytes;
use futures::StreamExt as _;
use types::{Digest, Timestamp};

use crate::{
    Artefacts, ByteStream, Catalog, Collection, Content, Document, Error, Expect, Log, LogRecord, Retention, Streams,
    Write, read_all, seek,
};

/// Runs the catalog suite.
pub async fn catalog(catalog: &dyn Catalog) {
    let write = |key: &str, expect, value: Option<&[u8]>| Write {
        collection: Collection::Model,
        key: key.into(),
        expect,
        value: value.map(<[u8]>::to_vec),
    };

    // Generations grow; compare-and-swap holds.
    let done = catalog.commit(vec![write("a/x", Expect::Absent, Some(b"1"))], vec![]).await.unwrap();
    assert_eq!((done.generations, done.outbox), (vec![1], None));
    let done = catalog.commit(vec![write("a/x", Expect::Generation(1), Some(b"2"))], vec![]).await.unwrap();
    assert_eq!(done.generations, [2]);
    for expect in [Expect::Absent, Expect::Generation(1), Expect::Generation(3)] {
        let result = catalog.commit(vec![write("a/x", expect, Some(b"3"))], vec![]).await;
        assert!(matches!(result, Err(Error::Conflict { .. })), "{expect:?}");
    }
    let found = catalog.get(Collection::Model, "a/x").await.unwrap().unwrap();
    assert_eq!(found, Document { key: "a/x".into(), generation: 2, value: b"2".to_vec() });
    assert_eq!(catalog.get(Collection::Version, "a/x").await.unwrap(), None, "collections are apart");

    // All or nothing, records included.
    let failing = vec![write("b/y", Expect::Absent, Some(b"1")), write("a/x", Expect::Absent, Some(b"9"))];
    assert!(catalog.commit(failing, vec![b"never".to_vec()]).await.is_err());
    assert_eq!(catalog.get(Collection::Model, "b/y").await.unwrap(), None);
    assert!(catalog.outbox(0, 10).await.unwrap().is_empty());

    // Prefixes don't leak into their neighbours; pages join.
    for key in ["a/y", "a/z", "ab/x", "b/x"] {
        catalog.commit(vec![write(key, Expect::Absent, Some(b"0"))], vec![]).await.unwrap();
    }
    let keys = |documents: Vec<Document>| documents.into_iter().map(|d| d.key).collect::<Vec<_>>();
    assert_eq!(keys(catalog.list(Collection::Model, "a/", None, 10).await.unwrap()), ["a/x", "a/y", "a/z"]);
    assert_eq!(keys(catalog.list(Collection::Model, "a/", Some("a/x"), 1).await.unwrap()), ["a/y"]);
    assert_eq!(keys(read_all(catalog, Collection::Model, "").await.unwrap()).len(), 5);

    // Removal.
    catalog.commit(vec![write("a/z", Expect::Generation(1), None)], vec![]).await.unwrap();
    assert_eq!(catalog.get(Collection::Model, "a/z").await.unwrap(), None);

    // The outbox keeps order, hands out once forgotten never again, and never reuses a sequence.
    let before = catalog.given().await.unwrap();
    let first = catalog.commit(vec![], vec![b"r1".to_vec(), b"r2".to_vec()]).await.unwrap().outbox.unwrap();
    let pending = catalog.outbox(0, 10).await.unwrap();
    assert_eq!(pending.iter().map(|(_, r)| r.as_slice()).collect::<Vec<_>>(), [b"r1", b"r2"]);
    assert_eq!(pending.last().unwrap().0, first);
    catalog.forget_outbox(first).await.unwrap();
    assert!(catalog.outbox(0, 10).await.unwrap().is_empty());
    let next = catalog.commit(vec![], vec![b"r3".to_vec()]).await.unwrap().outbox.unwrap();
    assert_eq!((next, first), (before + 3, before + 2), "a sequence is never used twice, and none is left out");
    assert_eq!(catalog.given().await.unwrap(), next);
}

/// Runs the streams suite.
pub async fn streams(streams: &dyn Streams) {
    let entries = |n: u8| (0..n).map(|i| vec![i; 10]).collect::<Vec<_>>();
    assert_eq!(streams.next("a").await.unwrap(), 1);
    assert_eq!(streams.append("a", Timestamp(10), entries(3)).await.unwrap(), 1);
    assert_eq!(streams.append("b", Timestamp(10), entries(1)).await.unwrap(), 1, "streams count apart");
    assert_eq!(streams.append("a", Timestamp(20), entries(2)).await.unwrap(), 4);
    let read = streams.read("a", 2, 3).await.unwrap();
    assert_eq!(read.iter().map(|e| e.sequence).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!((read[0].data.as_slice(), read[2].at), (&[1; 10][..], Timestamp(20)));

    let age = Retention { not_before: Timestamp(15), bytes: u64::MAX };
    assert_eq!(streams.retain("a", age).await.unwrap(), 3);
    assert_eq!(streams.read("a", 1, 10).await.unwrap().first().unwrap().sequence, 4);
    let size = Retention { not_before: Timestamp(0), bytes: 10 };
    assert_eq!(streams.retain("a", size).await.unwrap(), 1);
    assert_eq!(streams.next("a").await.unwrap(), 6, "dropping moves no offset");
    streams.erase("a", &[5, 99]).await.unwrap();
    let read = streams.read("a", 5, 10).await.unwrap();
    assert_eq!((read.len(), read[0].sequence, read[0].at, read[0].data.len()), (1, 5, Timestamp(20), 0), "emptied");
    assert_eq!(streams.append("c", Timestamp(10), entries(4)).await.unwrap(), 1);
    assert_eq!(streams.append("c", Timestamp(20), entries(3)).await.unwrap(), 5);
    for (at, found) in [(0, 1), (10, 1), (11, 5), (20, 5), (21, 8)] {
        assert_eq!(seek(streams, "c", Timestamp(at)).await.unwrap(), found, "{at}");
    }
    assert_eq!(streams.append("c.d", Timestamp(20), entries(1)).await.unwrap(), 1);
    assert_eq!(streams.names("c").await.unwrap(), ["c", "c.d"]);
    assert_eq!(seek(streams, "none", Timestamp(1)).await.unwrap(), 1);
    assert_eq!(streams.append("a", Timestamp(30), vec![]).await.unwrap(), 6, "nothing appended, nothing counted");

    // By the largest key, too: it is no number of SQLite's.
    let keyed = |key: u64| vec![(vec![1], None), (vec![2], Some(key)), (vec![3], Some(7))];
    assert_eq!(streams.append_keyed("k.a", Timestamp(40), keyed(u64::MAX)).await.unwrap(), 1);
    assert_eq!(streams.append_keyed("k.b", Timestamp(40), keyed(8)).await.unwrap(), 1);
    let place = |stream: &str, sequence: u64| (stream.to_owned(), sequence);
    assert_eq!(streams.find("k.", u64::MAX, 10).await.unwrap(), [place("k.a", 2)]);
    assert_eq!(streams.find("k.", 7, 10).await.unwrap(), [place("k.a", 3), place("k.b", 3)]);
    assert_eq!(streams.find("k.", 7, 1).await.unwrap().len(), 1);
    assert_eq!(streams.find("k.b", 7, 10).await.unwrap(), [place("k.b", 3)]);
    assert_eq!(streams.find("k.", 9, 10).await.unwrap(), []);
    streams.retain("k.a", Retention { not_before: Timestamp(50), bytes: 1 << 20 }).await.unwrap();
    assert_eq!(streams.find("k.", 7, 10).await.unwrap(), [place("k.b", 3)], "what is dropped is found no more");
}

/// Runs the log suite.
pub async fn log(log: &dyn Log) {
    assert_eq!(log.head().await.unwrap(), crate::Head::default());
    let record = |source: u64| LogRecord { source, data: source.to_le_bytes().to_vec() };
    log.append(0, vec![record(5), record(6)], vec![(0, [1; 32]), (1, [2; 32])], b"c1".to_vec()).await.unwrap();
    let head = log.head().await.unwrap();
    assert_eq!((head.size, head.checkpoint.as_slice(), head.source), (2, &b"c1"[..], 6));
    let stale = log.append(0, vec![record(7)], vec![(9, [0; 32])], b"cx".to_vec()).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })));
    let again = log.append(2, vec![record(6)], vec![(3, [0; 32])], b"cx".to_vec()).await;
    assert!(again.is_err(), "a source is appended once");
    assert_eq!(log.head().await.unwrap().size, 2, "a failed append leaves nothing behind");
    assert_eq!(log.hashes(&[1, 7]).await.unwrap(), [(1, [2; 32])]);
    assert_eq!((log.position(6).await.unwrap(), log.position(7).await.unwrap()), (Some(1), None));
    assert_eq!(log.records(1, 10).await.unwrap(), [6_u64.to_le_bytes().to_vec()]);
    assert!(log.records(2, 10).await.unwrap().is_empty());
}

/// Runs the artefacts suite.
pub async fn artefacts(artefacts: &dyn Artefacts) {
    let body = |chunks: Vec<&'static [u8]>| -> ByteStream {
        futures::stream::iter(chunks).map(|chunk| Ok(Bytes::from_static(chunk))).boxed()
    };
    let staged = artefacts.stage(body(vec![b"hello ", b"world"]), 100).await.unwrap();
    assert_eq!((staged.size, staged.digest), (11, Digest::of(b"hello world")));
    assert_eq!(artefacts.read_staged(&staged.id).await.unwrap(), b"hello world");
    let over = artefacts.stage(body(vec![b"hello ", b"world"]), 10).await;
    assert!(matches!(over, Err(Error::TooLarge { limit: 10, .. })));
    let broken: ByteStream =
        futures::stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("cut"))]).boxed();
    assert!(artefacts.stage(broken, 100).await.is_err());

    let digest = Digest::of(b"bundle");
    let files = vec![
        ("model.onnx".to_owned(), Content::Staged(staged.id.clone())),
        ("manifest.json".to_owned(), Content::Bytes(b"{}".to_vec())),
    ];
    artefacts.publish(digest, files).await.unwrap();
    assert_eq!(artefacts.list(digest).await.unwrap(), ["manifest.json", "model.onnx"]);
    assert_eq!(artefacts.read(digest, "model.onnx").await.unwrap(), b"hello world");
    assert!(artefacts.read_staged(&staged.id).await.is_err(), "published files leave staging");
    artefacts.publish(digest, vec![("other".into(), Content::Bytes(vec![1]))]).await.unwrap();
    assert_eq!(artefacts.list(digest).await.unwrap().len(), 2, "a published bundle never changes");
    for name in ["../manifest.json", "/etc/passwd", "", ".", "a/b"] {
        assert!(artefacts.read(digest, name).await.is_err(), "{name} leaves the bundle");
        assert!(artefacts.read_staged(name).await.is_err(), "{name} leaves staging");
    }
    artefacts.replace(digest, "manifest.json", b"again").await.unwrap();
    assert_eq!(artefacts.read(digest, "manifest.json").await.unwrap(), b"again");
    assert!(artefacts.replace(digest, "other", b"x").await.is_err(), "only what is there is replaced");

    artefacts.remove(digest).await.unwrap();
    artefacts.remove(digest).await.unwrap();
    assert!(artefacts.list(digest).await.is_err());
}
