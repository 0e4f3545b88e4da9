//! `mantlet audit`: export the ledger, prove a prediction, verify either offline, cosign checkpoints.

use std::{collections::BTreeMap, fs, path::Path};

use ledger::{
    TrustedKey,
    batch::EventProof,
    export, verify,
    witness::{TrustedWitness, WitnessKey},
};
use rpc::registry::{LedgerPage, TreeProof};
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
        Audit::Witness { key, state, log_key, name } => {
            witness(&Client::find(node)?, &key, &state, &log_key, &name, format).await
        }
        Audit::Verify { dir, key, since: None, .. } if dir.is_file() => verify_proof(&dir, &key, format),
        Audit::Verify { dir, key, since, witness } => verify(&dir, &key, since.as_deref(), witness.as_deref(), format),
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

async fn witness(
    client: &Client,
    key: &Path,
    state: &Path,
    log_key: &Path,
    name: &str,
    format: Format,
) -> Result<(), Refusal> {
    let trusted = trusted(log_key)?;
    let key = witness_key(key, name)?;
    let (old, old_root) = match fs::read(state) {
        Ok(kept) => {
            ledger::open_seen(&kept, &trusted).map_err(|what| ledger_refusal(format!("{}: {what}", state.display())))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, ledger::Hash::default()),
        Err(error) => return Err(output::file(state)(error)),
    };
    let shown: TreeProof = client.get(&format!("/v1/ledger/consistency?old={old}")).await?;
    let checkpoint = shown.checkpoint.as_bytes();
    let (size, root) = ledger::open(checkpoint, &trusted).map_err(ledger_refusal)?;
    let path: Vec<ledger::Hash> = shown.path.iter().map(|hash| ledger::Hash(hash.0)).collect();
    if !ledger::proof::is_start(&path, (old, old_root), (size, root)) {
        return Err(ledger_refusal(format!(
            "the node's log of {size} records does not continue the {old} that were cosigned: it was cut or rewritten"
        )));
    }
    let seconds = rpc::Clock::System.now().0 / 1000;
    let cosigned = key.cosign(checkpoint, &trusted, seconds).map_err(ledger_refusal)?;
    let folder = state.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(output::file(folder))?;
    std::io::Write::write_all(&mut file, &cosigned).map_err(output::file(state))?;
    file.persist(state).map_err(|error| output::file(state)(error.error))?;
    let shown = json!({ "records": size, "root": root.to_string(), "continues": old, "state": state });
    output::show(&shown, format, |_| {
        format!("cosigned {size} records, which continue the {old} cosigned before; kept in {}\n", state.display())
    });
    Ok(())
}

/// The witness's key; a new one, with its public half in a file beside it, when there is none.
fn witness_key(path: &Path, name: &str) -> Result<WitnessKey, Refusal> {
    let wrong = |error: ledger::KeyError| {
        Refusal::new(Code::FileUnreadable, format!("{}: {error}", path.display())).hint("name a witness's secret key")
    };
    match fs::read_to_string(path) {
        Ok(text) => return WitnessKey::parse(&zeroize::Zeroizing::new(text)).map_err(wrong),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(output::file(path)(error)),
    }
    let key = WitnessKey::generate(name).map_err(wrong)?;
    let mut options = fs::OpenOptions::new();
    let options = std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    let mut file = options.open(path).map_err(output::file(path))?;
    std::io::Write::write_all(&mut file, key.secret().as_bytes()).map_err(output::file(path))?;
    let public = path.with_extension("pub");
    fs::write(&public, format!("{}\n", key.public())).map_err(output::file(&public))?;
    output::note(&format!("made a key for this witness: {}; give {} to verifiers", path.display(), public.display()));
    Ok(key)
}

fn verify(dir: &Path, key: &Path, since: Option<&Path>, witness: Option<&Path>, format: Format) -> Result<(), Refusal> {
    let trusted = trusted(key)?;
    let earlier = since.map(|path| fs::read(path).map_err(output::file(path))).transpose()?;
    if let (Some(path), Some(earlier)) = (witness, &earlier) {
        let text = fs::read_to_string(path).map_err(output::file(path))?;
        let witness = TrustedWitness::parse(&text).map_err(|error| {
            Refusal::new(Code::FileUnreadable, format!("{}: {error}", path.display()))
                .hint("name a witness's public key")
        })?;
        witness.open(earlier, &trusted).map_err(ledger_refusal)?;
    }
    let verified = verify::directory(dir, &trusted, earlier.as_deref())
        .map_err(|failure| ledger_refusal(format!("{}: {failure}", dir.display())))?;
    output::show(&verified, format, |verified| {
        format!("{} records verify against {} (root {})\n", verified.records, key.display(), verified.root)
    });
    Ok(())
}
