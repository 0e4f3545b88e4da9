//! Reads a bundle and checks its signature: what is hashed is what is loaded.

use std::{collections::BTreeMap, fs, path::Path};

use access::signing::{self, MANIFEST_FILE, MODEL_FILE, PublicKey, SIGNATURE_FILE, STATE_FILE};
use types::{Code, Digest, Manifest, Refusal, manifest::Source};

/// Bytes of all files of a bundle, at most.
const LIMIT: u64 = 8 << 30;

/// A bundle whose every byte was checked.
#[derive(Debug)]
pub struct Bundle {
    /// The model's bytes, or what a streaming model has learnt; none where another server holds it.
    pub model: Vec<u8>,
    /// Its manifest.
    pub manifest: Manifest,
}

/// Reads every file of the folder once, checks the signature over what was read, and returns it.
///
/// # Errors
/// `bundle_untrusted` when anything differs from what a trusted key signed under this digest.
pub fn open(path: &Path, digest: Digest, trusted: &[PublicKey]) -> Result<Bundle, Refusal> {
    let untrusted = |why: String| {
        Refusal::new(Code::BundleUntrusted, format!("the bundle {digest} is not trusted: {why}"))
            .hint("deploy the model again from a file you trust: `mantlet deploy`")
    };
    let mut files = read(path).map_err(|error| untrusted(format!("{}: {error}", path.display())))?;
    let signature = files.remove(SIGNATURE_FILE).ok_or_else(|| untrusted("it is not signed".into()))?;
    let digests = files.iter().map(|(name, data)| (name.clone(), Digest::of(data))).collect();
    let signed = signing::verify(&signature, trusted, &digests).map_err(|error| untrusted(error.to_string()))?;
    if signed != digest {
        return Err(untrusted(format!("its digest is {signed}")));
    }
    let mut take = |name: &str| files.remove(name).ok_or_else(|| untrusted(format!("it has no `{name}`")));
    let manifest = Manifest::from_json(&take(MANIFEST_FILE)?)?;
    let model = match &manifest.spec.source {
        Source::Upstream(_) => Vec::new(),
        Source::Online(_) => take(STATE_FILE)?,
        _ => take(MODEL_FILE)?,
    };
    Ok(Bundle { model, manifest })
}

fn read(root: &Path) -> std::io::Result<BTreeMap<String, Vec<u8>>> {
    let wrong = |what: &str| std::io::Error::other(what.to_owned());
    let (mut files, mut total) = (BTreeMap::new(), 0_u64);
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|_| wrong("a file name is not UTF-8"))?;
        if !entry.file_type()?.is_file() {
            return Err(wrong("it holds something that is not a plain file"));
        }
        total += entry.metadata()?.len();
        if total > LIMIT || files.len() > 64 {
            return Err(wrong("it is larger than any bundle"));
        }
        files.insert(name, fs::read(entry.path())?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use access::signing::Key;

    use super::*;

    fn bundle(key: &Key) -> (tempfile::TempDir, Digest) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = serde_json::to_vec(&Manifest::for_onnx("m".parse().unwrap(), "m.onnx")).unwrap();
        let files = [(MODEL_FILE, b"model".to_vec()), (MANIFEST_FILE, manifest)];
        let digests = files.iter().map(|(n, d)| ((*n).to_owned(), Digest::of(d))).collect();
        for (name, data) in &files {
            fs::write(dir.path().join(name), data).unwrap();
        }
        fs::write(dir.path().join(SIGNATURE_FILE), key.sign("m", &digests).unwrap()).unwrap();
        (dir, signing::root(&digests))
    }

    #[test]
    fn a_signed_bundle_opens_and_any_changed_byte_closes_it() {
        let key = Key::generate().unwrap();
        let trusted = [key.public().unwrap()];
        let (dir, digest) = bundle(&key);
        assert_eq!(open(dir.path(), digest, &trusted).unwrap().model, b"model");
        for name in [MODEL_FILE, MANIFEST_FILE, SIGNATURE_FILE] {
            let path = dir.path().join(name);
            let good = fs::read(&path).unwrap();
            for at in [0, good.len() / 2] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                fs::write(&path, bad).unwrap();
                assert_eq!(open(dir.path(), digest, &trusted).unwrap_err().code, Code::BundleUntrusted, "{name} {at}");
            }
            fs::write(&path, good).unwrap();
        }
        assert!(open(dir.path(), digest, &trusted).is_ok());
    }

    #[test]
    fn unsigned_foreign_and_swapped_bundles_stay_closed() {
        let (key, foreign) = (Key::generate().unwrap(), Key::generate().unwrap());
        let trusted = [key.public().unwrap()];
        let (dir, digest) = bundle(&key);
        assert!(open(dir.path(), Digest([0; 32]), &trusted).is_err(), "another bundle's digest");
        fs::write(dir.path().join("extra"), "x").unwrap();
        assert!(open(dir.path(), digest, &trusted).is_err(), "an unsigned file");
        fs::remove_file(dir.path().join("extra")).unwrap();
        fs::remove_file(dir.path().join(SIGNATURE_FILE)).unwrap();
        assert!(open(dir.path(), digest, &trusted).is_err(), "no signature");
        let (dir, digest) = bundle(&foreign);
        assert!(open(dir.path(), digest, &trusted).is_err(), "signed by a stranger");
    }
}
