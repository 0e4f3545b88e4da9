//! `mantlet audit`: export the ledger, prove a prediction, verify either offline.

use std::{collections::BTreeMap, fs, path::Path};

use ledger::{TrustedKey, batch::EventProof, export, verify};
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
        Audit::Prove { prediction, out } => prove(&Client::find(node)?, &prediction, out.as_deref(), format).await,
        Audit::Verify { dir, key, since: None } if dir.is_file() => verify_proof(&dir, &key, format),
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

async fn prove(client: &Client, prediction: &str, out: Option<&Path>, format: Format) -> Result<(), Refusal> {
    let proof: EventProof = client.get(&format!("/v1/predictions/{prediction}/proof")).await?;
    // Where the node's directory is at hand, nothing is handed on that does not verify.
    let key = client.dir.as_ref().map(|dir| dir.join("log.key"));
    if let Some(key) = &key {
        proof.check(&trusted(key)?).map_err(ledger_refusal)?;
    }
    let Some(out) = out else {
        output::raw(&serde_json::to_string_pretty(&proof).map_err(|error| output::internal(&error))?);
        return Ok(());
    };
    let text = serde_json::to_vec_pretty(&proof).map_err(|error| output::internal(&error))?;
    fs::write(out, text).map_err(output::file(out))?;
    let shown = json!({ "file": out, "prediction": prediction, "record": proof.log.index });
    output::show(&shown, format, |_| {
        let key = key.unwrap_or_else(|| "log.key".into());
        format!(
            "the proof of {prediction} is in {}; record {} of the ledger holds its batch\nverify it anywhere, without a \
             node:\n  mantlet audit verify {} --key {}\n",
            out.display(),
            proof.log.index,
            out.display(),
            key.display()
        )
    });
    Ok(())
}

fn trusted(key: &Path) -> Result<TrustedKey, Refusal> {
    let text = fs::read_to_string(key).map_err(output::file(key))?;
    TrustedKey::parse(&text).map_err(|error| {
        Refusal::new(Code::FileUnreadable, format!("{}: {error}", key.display())).hint("name the node's log.key")
    })
}

fn verify_proof(file: &Path, key: &Path, format: Format) -> Result<(), Refusal> {
    let trusted = trusted(key)?;
    let text = fs::read(file).map_err(output::file(file))?;
    let proof: EventProof = serde_json::from_slice(&text)
        .map_err(|error| ledger_refusal(format!("{} is no proof: {error}", file.display())))?;
    proof.check(&trusted).map_err(|what| ledger_refusal(format!("{}: {what}", file.display())))?;
    let shown = json!({ "record": proof.log.index, "records": proof.log.size, "event": proof.event });
    output::show(&shown, format, |_| {
        format!(
            "recorded as:\n{}\nin record {} of the ledger, which has {} records and is signed by {}\n",
            proof.event,
            proof.log.index,
            proof.log.size,
            key.display()
        )
    });
    Ok(())
}

fn verify(dir: &Path, key: &Path, since: Option<&Path>, format: Format) -> Result<(), Refusal> {
    let trusted = trusted(key)?;
    let earlier = since.map(|path| fs::read(path).map_err(output::file(path))).transpose()?;
    let verified = verify::directory(dir, &trusted, earlier.as_deref())
        .map_err(|failure| ledger_refusal(format!("{}: {failure}", dir.display())))?;
    output::show(&verified, format, |verified| {
        format!("{} records verify against {} (root {})\n", verified.records, key.display(), verified.root)
    });
    Ok(())
}
