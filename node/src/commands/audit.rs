//! `mantlet audit`: export the ledger, verify an export offline.

use std::{collections::BTreeMap, fs, path::Path};

use ledger::{TrustedKey, export, verify};
use rpc::registry::LedgerPage;
use serde_json::json;
use types::{Code, Refusal};

use crate::{
    cli::{Audit, Format, Node},
    client::Client,
    output,
};

pub(crate) async fn run(node: &Node, verb: Audit, format: Format) -> Result<(), Refusal> {
    match verb {
        Audit::Export { dir } => export(&Client::find(node)?, &dir, format).await,
        Audit::Verify { dir, key, since } => verify(&dir, &key, since.as_deref(), format),
    }
}

async fn export(client: &Client, dir: &Path, format: Format) -> Result<(), Refusal> {
    super::models::empty_folder(dir)?;
    let page = async |from: usize| client.get::<LedgerPage>(&format!("/v1/ledger?from={from}&limit=5000")).await;
    let first = page(0).await?;
    let (size, checkpoint, key) = (first.size, first.checkpoint, first.key);
    let mut records: Vec<Vec<u8>> = first.records.into_iter().map(String::into_bytes).collect();
    while (records.len() as u64) < size {
        let next = page(records.len()).await?.records;
        if next.is_empty() {
            return Err(ledger_refusal(format!("the node has {} of {size} signed records", records.len())));
        }
        records.extend(next.into_iter().map(String::into_bytes));
    }
    // The log may have grown meanwhile; the export is what the first page's checkpoint covers.
    records.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    let files = export::files(&records, checkpoint.into_bytes(), &key).map_err(|error| output::internal(&error))?;
    let trusted = TrustedKey::parse(&key).map_err(|error| output::internal(&error))?;
    let verified =
        verify::files_verify(&files, &trusted, None).map_err(|failure| ledger_refusal(failure.to_string()))?;
    write(dir, &files)?;
    let shown = json!({ "dir": dir, "records": verified.records, "root": verified.root });
    output::show(&shown, format, |_| {
        let key = client.dir.as_ref().map_or_else(|| "log.key".into(), |dir| dir.join("log.key"));
        format!(
            "{} records are in {}\nverify them anywhere, without a node:\n  mantlet audit verify {} --key {}\n",
            verified.records,
            dir.display(),
            dir.display(),
            key.display()
        )
    });
    Ok(())
}

fn ledger_refusal(what: String) -> Refusal {
    Refusal::new(Code::LedgerInvalid, what)
        .hint("keep this export as evidence, and compare it with an earlier one: `mantlet audit verify DIR --key FILE --since CHECKPOINT`")
}

fn write(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Refusal> {
    for (name, data) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(output::file(parent))?;
        }
        fs::write(&path, data).map_err(output::file(&path))?;
    }
    Ok(())
}

fn verify(dir: &Path, key: &Path, since: Option<&Path>, format: Format) -> Result<(), Refusal> {
    let text = fs::read_to_string(key).map_err(output::file(key))?;
    let trusted = TrustedKey::parse(&text).map_err(|error| {
        Refusal::new(Code::FileUnreadable, format!("{}: {error}", key.display())).hint("name the node's log.key")
    })?;
    let earlier = since.map(|path| fs::read(path).map_err(output::file(path))).transpose()?;
    let verified = verify::directory(dir, &trusted, earlier.as_deref())
        .map_err(|failure| ledger_refusal(format!("{}: {failure}", dir.display())))?;
    output::show(&verified, format, |verified| {
        format!("{} records verify against {} (root {})\n", verified.records, key.display(), verified.root)
    });
    Ok(())
}
