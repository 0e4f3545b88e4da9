//! Signed bundles, as the registry makes them.

use std::{collections::BTreeMap, fs, path::Path};

use access::signing::{Key, MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, root};
use types::{Digest, Manifest, Namespace};

/// Writes a bundle of this model into a folder that is there, signed by this key; returns its digest.
///
/// # Panics
/// When it can't be written.
pub fn write(folder: &Path, key: &Key, (namespace, name): (&str, &str), model: &[u8]) -> Digest {
    let mut manifest = Manifest::for_onnx(name.parse().unwrap(), MODEL_FILE);
    manifest.metadata.namespace = Some(namespace.parse::<Namespace>().unwrap());
    let files = [(MODEL_FILE, model.to_vec()), (MANIFEST_FILE, serde_json::to_vec(&manifest).unwrap())];
    let digests: BTreeMap<String, Digest> =
        files.iter().map(|(name, data)| ((*name).to_owned(), Digest::of(data))).collect();
    for (name, data) in &files {
        fs::write(folder.join(name), data).unwrap();
    }
    fs::write(folder.join(SIGNATURE_FILE), key.sign(name, &digests).unwrap()).unwrap();
    root(&digests)
}
