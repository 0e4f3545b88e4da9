//! What a bundle brings: a signature file, and an ONNX graph.

use std::{collections::BTreeMap, sync::LazyLock};

use access::signing::{self, Key, PublicKey};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use p256::ecdsa::{DerSignature, signature::Signer as _};
use serde_json::{Value, json};
use types::Digest;

use super::{dull, keys, seed, split};

type Files = BTreeMap<String, Digest>;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

static SIGNING: LazyLock<p256::ecdsa::SigningKey> = LazyLock::new(|| keys::p256(7));
static KEY: LazyLock<Key> = LazyLock::new(|| Key::parse(&keys::pem(&SIGNING)).expect("a key"));
static TRUSTED: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [KEY.public().expect("its public half")]);
/// A signature file as the product writes it, and its payload: the only one that this key has signed.
static SIGNED: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let file = KEY.sign("model", &files()).expect("files can be signed");
    let payload = payload(&file);
    (file, payload)
});

fn files() -> Files {
    ["a/z", "a-b/c", "manifest.json", "model.onnx"]
        .map(|name| (name.to_owned(), Digest::of(name.as_bytes())))
        .into_iter()
        .collect()
}

fn payload(file: &[u8]) -> Vec<u8> {
    let bundle: Value = serde_json::from_slice(file).expect("what verified is JSON");
    let text = bundle.pointer("/dsseEnvelope/payload").and_then(Value::as_str).expect("what verified has a payload");
    BASE64_STANDARD.decode(text).expect("what verified is base64")
}

/// A signature file: what verifies is what was signed, over exactly these files. Then a statement that is signed here,
/// whatever it says: if it is taken, then for the files it lists, not one more, less or changed, and none outside.
pub fn bundle(data: &[u8]) {
    let Some((way, rest)) = split(data, 2) else { return };
    if way == 0 {
        let Ok(root) = signing::verify(rest, &*TRUSTED, &files()) else { return };
        assert_eq!(payload(rest), SIGNED.1, "nobody signed this");
        assert_eq!(root, signing::root(&files()));
        return;
    }
    if dull(rest) {
        return;
    }
    let listed = listed(rest);
    let file = sign(rest);
    let check = |files: &Files| signing::verify(&file, &*TRUSTED, files);
    let Ok(root) = check(&listed) else { return };
    assert_eq!(root, signing::root(&listed));
    let mut more = listed.clone();
    let free = (0..).map(|n| format!("more{n}")).find(|name| !listed.contains_key(name)).expect("there are many names");
    more.insert(free, Digest::of(b""));
    assert!(check(&more).is_err(), "a file that nobody signed was taken");
    let inside = |name: &String| name.split('/').all(|part| !matches!(part, "" | ".."));
    assert!(listed.keys().all(inside), "{listed:?} leaves the folder");
    // One of them at a time: a signature takes longer than all else here.
    if let Some((name, digest)) = listed.iter().nth(rest.len() % listed.len().max(1)) {
        let mut other = listed.clone();
        let mut bytes = digest.0;
        bytes[31] ^= 1;
        other.insert(name.clone(), Digest(bytes));
        assert!(check(&other).is_err(), "`{name}` was changed and taken");
        other.remove(name);
        assert!(check(&other).is_err(), "`{name}` is missing and was not missed");
    }
}

/// The files that a statement lists, as far as they can be made out; some of very many.
fn listed(statement: &[u8]) -> Files {
    let statement: Value = serde_json::from_slice(statement).unwrap_or_default();
    let resources = statement.pointer("/predicate/resources").and_then(Value::as_array);
    let file = |resource: &Value| {
        let digest = resource.get("digest")?.as_str()?.parse().ok()?;
        Some((resource.get("name")?.as_str()?.to_owned(), digest))
    };
    resources.into_iter().flatten().take(8).filter_map(file).collect()
}

/// A signature file over any payload.
fn sign(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    let signature: DerSignature = SIGNING.sign(&[head.as_bytes(), payload].concat());
    let mut file: Value = serde_json::from_slice(&SIGNED.0).expect("it is JSON");
    let signatures = json!([{ "sig": BASE64_STANDARD.encode(signature.as_bytes()), "keyid": "" }]);
    file["dsseEnvelope"]["payload"] = BASE64_STANDARD.encode(payload).into();
    file["dsseEnvelope"]["signatures"] = signatures;
    serde_json::to_vec(&file).expect("JSON can be written")
}

pub(super) fn bundle_seeds() -> Vec<Vec<u8>> {
    let (file, payload) = &*SIGNED;
    let compact: Value = serde_json::from_slice(file).expect("it is JSON");
    let other = Key::parse(&keys::pem(&keys::p256(9))).and_then(|key| key.sign("model", &files())).expect("a key");
    let hidden: Files = files().into_iter().chain([(".git/config".to_owned(), Digest::of(b""))]).collect();
    let hidden = self::payload(&KEY.sign("model", &hidden).expect("files can be signed"));
    let none = self::payload(&KEY.sign("model", &Files::new()).expect("no files can be signed"));
    vec![seed(0, file), seed(0, compact.to_string()), seed(0, other), seed(1, payload), seed(1, hidden), seed(1, none)]
}

/// An ONNX file: what its graph declares came from the file, and a field that nobody knows changes nothing.
pub fn onnx(data: &[u8]) {
    let Ok(graph) = registry::onnx::read(data) else { return };
    let names = graph.inputs.iter().map(|input| &input.name).chain(&graph.outputs);
    let dimensions: usize = graph.inputs.iter().map(|input| input.shape.len()).sum();
    assert!(names.map(String::len).sum::<usize>() + dimensions <= data.len(), "more than the file says");
    assert!(graph.inputs.iter().flat_map(|input| &input.shape).all(|d| *d >= -1), "{graph:?}");
    assert!(!graph.outputs.is_empty());
    let unknown = field(99, b"metadata of a later version");
    assert_eq!(registry::onnx::read(&[data, &unknown].concat()), Ok(graph));
}

/// A length-delimited field of a protobuf message.
fn field(number: usize, content: &[u8]) -> Vec<u8> {
    let varint = |mut n: usize| {
        let mut out = Vec::new();
        while n > 127 {
            out.push(u8::try_from(n & 127 | 128).expect("seven bits and one"));
            n >>= 7;
        }
        out.push(u8::try_from(n).expect("seven bits"));
        out
    };
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

pub(super) fn onnx_seeds() -> Vec<Vec<u8>> {
    let add = crate::onnx::add(1.0);
    let graph = |fields: &[Vec<u8>]| {
        let tensor = |name: &[u8]| {
            let shape = field(2, &[field(1, &[8, 4]), field(1, &field(2, b"n"))].concat());
            [field(1, name), field(2, &field(1, &[&[8, 1][..], &shape].concat()))].concat()
        };
        let node = field(1, &field(4, b"Identity"));
        let ends = [field(11, &tensor(b"x")), field(12, &tensor(b"y"))].concat();
        [&[8, 8][..], &field(7, &[node, ends, fields.concat()].concat())].concat()
    };
    let inner = |content: &[u8]| field(1, &[field(4, b"If"), field(5, &field(6, content))].concat());
    let weights = field(5, &[vec![8, 2], vec![8, 3], field(8, b"w"), field(9, &[0; 24]), vec![0x70, 0]].concat());
    let scores = field(4, &field(1, &field(5, &[&[8, 7][..], &field(2, &field(1, &[8, 1]))].concat())));
    let custom = field(1, &[field(4, b"Op"), field(7, b"mine")].concat());
    let function = field(25, &[field(1, b"Op"), field(7, &field(4, b"Add")), field(10, b"mine")].concat());
    let deep = (0..17).fold(Vec::new(), |content, _| inner(&content));
    vec![
        add,
        graph(&[]),
        graph(&[weights.clone(), inner(&[custom.clone(), weights].concat())]),
        graph(&[field(12, &[field(1, b"scores"), field(2, &scores)].concat())]),
        [graph(&[custom]), function].concat(),
        graph(&[deep]),
        graph(&[[0x0a, 0].repeat(1_000)]),
        b"\x80\x04\x95....".to_vec(),
        b"PK\x03\x04....".to_vec(),
        b"{\"learner\": 1}".to_vec(),
        b"\x89HDF\r\n".to_vec(),
    ]
}
