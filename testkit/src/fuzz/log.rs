//! The ledger's papers: checkpoints, cosignatures, proofs, exports, records and events.

use std::{collections::BTreeMap, sync::LazyLock};

use ledger::{
    Frontier, Hash, Key, Record, TrustedKey,
    batch::{self, Batch, EventProof},
    export::{self, Tree},
    open, open_seen,
    proof::{Inclusion, Question, is_start},
    tile::Tile,
    verify,
    witness::{TrustedWitness, WitnessKey},
};
use types::event::{self, Event};

use super::{keys, seed, split};

const ORIGIN: &str = "log.example/fuzz";
/// When the witness saw what it saw, in seconds since 1970.
const SEEN: u64 = 1_700_000_000;

/// A log of seven records, one of them a batch, with all that was ever signed about it.
struct Log {
    key: Key,
    trusted: TrustedKey,
    witness: TrustedWitness,
    tree: Tree,
    records: Vec<Vec<u8>>,
    /// A checkpoint for each size.
    signed: Vec<Vec<u8>>,
    /// The same cosigned.
    cosigned: Vec<Vec<u8>>,
    proof: EventProof,
    files: BTreeMap<String, Vec<u8>>,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let (secret, public) = keys::note(keys::LOG, ORIGIN, 7);
    let key = Key::parse(&format!("{secret}\n{public}\n")).expect("a log's key");
    let trusted = TrustedKey::parse(&public).expect("its public half");
    let (secret, public) = keys::note(keys::WITNESS, "witness.example", 9);
    let witnessing = WitnessKey::parse(&secret).expect("a witness's key");
    let envelopes = events().map(|event| batch::envelope([7; batch::NONCE], event.as_bytes()));
    let batch = Batch::over(&envelopes.each_ref().map(|envelope| batch::commitment(envelope))).expect("a batch");
    let root = batch.root().expect("its root").to_string();
    let detail = serde_json::json!({ "count": envelopes.len(), "root": root });
    let mut records: Vec<Vec<u8>> = (0..6).map(|n| record(n, "caller.add", serde_json::Value::Null)).collect();
    records.insert(3, record(9, batch::ACTION, detail));
    let tree = Tree::over(records.iter().map(Vec::as_slice)).expect("a tree");
    let sign = |size| key.sign(size, tree.root_at(size).expect("its root")).expect("a checkpoint");
    let signed: Vec<Vec<u8>> = (0..=7).map(sign).collect();
    let cosign = |signed: &Vec<u8>| witnessing.cosign(signed, &trusted, SEEN).expect("a cosignature");
    let cosigned = signed.iter().map(cosign).collect();
    let proof = EventProof {
        event: events()[1].clone(),
        nonce: "07".repeat(batch::NONCE),
        batch: batch.prove(1).expect("a proof"),
        record: String::from_utf8(records[3].clone()).expect("text"),
        log: tree.prove(3, 7).expect("a proof"),
        checkpoint: String::from_utf8(signed[7].clone()).expect("text"),
    };
    let files = export::files(&records, signed[7].clone(), key.public()).expect("an export");
    let witness = TrustedWitness::parse(&public).expect("its public half");
    Log { key, trusted, witness, tree, records, signed, cosigned, proof, files }
});

fn events() -> [String; 3] {
    [1, 2, 3].map(|lost| {
        let gap = event::Gap { lost, reason: "queue full".into(), at: types::Timestamp(5) };
        serde_json::to_string(&Event::Gap(gap)).expect("an event can be written")
    })
}

fn record(at: u64, action: &str, detail: serde_json::Value) -> Vec<u8> {
    let subject = format!("thing:{at}");
    let (action, actor) = (action.to_owned(), "caller:default/admin".to_owned());
    Record { v: 1, at, action, namespace: Some("default".into()), actor, subject, detail }.to_line()
}

fn number(data: &[u8]) -> (u64, &[u8]) {
    data.split_first_chunk::<8>().map_or((0, data), |(head, rest)| (u64::from_le_bytes(*head), rest))
}

fn hashes(data: &[u8]) -> Vec<Hash> {
    data.as_chunks::<32>().0.iter().map(|bytes| Hash(*bytes)).collect()
}

/// Papers of the ledger, each in its way: a checkpoint that opens was signed, and by the witness cosigned; one signed
/// over any size and root opens to just these, and not with a bit changed; a proof of an event that holds is of an event
/// that was recorded; an export with one file exchanged or added does not verify; tiles have one name; a path leads
/// where it was made for and nowhere else; a key that is read signs what it opens.
pub fn checkpoint(data: &[u8]) {
    let Some((way, rest)) = split(data, 7) else { return };
    match way {
        0 => opened(rest),
        1 => signed(rest),
        2 => proved(rest),
        3 => exported(rest),
        4 => tile(rest),
        5 => path(rest),
        _ => key(rest),
    }
}

fn opened(data: &[u8]) {
    let log = &*LOG;
    let roots = |size: u64, root: Hash| log.tree.root_at(size).is_ok_and(|known| known == root);
    if let Ok((size, root)) = open(data, &log.trusted) {
        assert!(roots(size, root) && log.signed.iter().any(|known| known == data), "nobody signed this");
    }
    let seen = open_seen(data, &log.trusted);
    if let Ok((size, root)) = seen {
        assert!(roots(size, root), "nobody signed this");
    }
    if let Ok((size, root, seconds)) = log.witness.open(data, &log.trusted) {
        assert!(roots(size, root) && seconds == SEEN, "nobody cosigned this");
        assert_eq!(seen, Ok((size, root)));
    }
}

fn signed(data: &[u8]) {
    let log = &*LOG;
    let (size, rest) = number(data);
    let root = hashes(rest).first().copied().unwrap_or_default();
    let mut checkpoint = log.key.sign(size, root).expect("the origin can stand in a checkpoint");
    assert_eq!(open(&checkpoint, &log.trusted), Ok((size, root)));
    let bit = number(rest.get(32..).unwrap_or_default()).0;
    let bit = usize::try_from(bit % (checkpoint.len() as u64 * 8)).expect("it is small");
    checkpoint[bit / 8] ^= 1 << (bit % 8);
    assert!(open(&checkpoint, &log.trusted).is_err(), "bit {bit} was changed");
}

fn proved(data: &[u8]) {
    let Ok(proof) = serde_json::from_slice::<EventProof>(data) else { return };
    let text = serde_json::to_vec(&proof).expect("a proof can be written");
    assert_eq!(serde_json::from_slice::<EventProof>(&text).ok().as_ref(), Some(&proof));
    if proof.check(&LOG.trusted).is_ok() {
        assert!(events().contains(&proof.event), "nobody recorded `{}`", proof.event);
        assert!(LOG.records.iter().any(|record| record == proof.record.as_bytes()));
    }
}

fn exported(data: &[u8]) {
    let Some((which, content)) = data.split_first() else { return };
    let log = &*LOG;
    let mut files = log.files.clone();
    match files.values_mut().nth(usize::from(*which) % (log.files.len() + 1)) {
        Some(file) => content.clone_into(file),
        None => {
            files.insert(String::from_utf8_lossy(content).into_owned(), Vec::new());
        }
    }
    let verified = verify::files_verify(&files, &log.trusted, Some(&log.cosigned[4]));
    assert_eq!(verified.is_ok(), files == log.files);
    let _ = verify::files_verify(&log.files, &log.trusted, Some(content));
}

fn tile(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let Some(tile) = Tile::parse(path) else { return };
    assert_eq!(tile.path(), path);
    assert_eq!(tile.level().is_some(), tile.hashes().is_some());
    assert!(tile.hashes().is_none_or(|hashes| hashes.len() == usize::from(tile.width())));
    assert!(!tile.is_within(0));
    assert!(!tile.is_within(7) || tile.number() == 0);
}

fn path(data: &[u8]) {
    let tree = &LOG.tree;
    let ((a, rest), size) = (number(data), tree.size());
    let (b, rest) = number(rest);
    let path = hashes(rest);
    let root = tree.root_at(size).expect("its root");
    let real = |index| tree.prove(index, size).expect("a proof").path;
    for index in 0..size {
        let leaf = tlog_leaf(&LOG.records[usize::try_from(index).expect("it is small")]);
        if (Inclusion { index: a, size: b, path: path.clone() }).leads(leaf, root) {
            assert_eq!(path, real(index), "another way to the root");
        }
    }
    for old in 1..size {
        let old_root = tree.root_at(old).expect("its root");
        if is_start(&path, (old, old_root), (size, root)) {
            assert_eq!(path, Question::Tree { old, size }.answer(&stored(old)).expect("a proof"));
        }
        assert!(!is_start(&path, (a.max(1), Hash([0; 32])), (size, root)), "a start that nobody has");
    }
    // What is asked of a log that can't be is answered too.
    for question in [Question::Record { index: a, size: b }, Question::Tree { old: a, size: b }] {
        assert!(question.needs().len() <= 4_096);
    }
}

/// The hash of a record's leaf, by a tree of that record alone.
fn tlog_leaf(record: &[u8]) -> Hash {
    Tree::over([record]).and_then(|tree| tree.root_at(1)).expect("a tree of one")
}

/// The stored hashes that prove that the first `old` records are a start of all.
fn stored(old: u64) -> BTreeMap<u64, Hash> {
    let mut frontier = Frontier::default();
    let made = LOG.records.iter().flat_map(|record| frontier.append(record).expect("a record can be added"));
    let all: BTreeMap<u64, Hash> = made.collect();
    let needs = Question::Tree { old, size: LOG.tree.size() }.needs();
    all.into_iter().filter(|(index, _)| needs.contains(index)).collect()
}

fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(trusted) = TrustedKey::parse(text) {
        assert!(TrustedKey::parse(trusted.text()).is_ok());
        // The key's number may be written in either case.
        let parts = |text: &str| text.splitn(3, '+').map(str::to_owned).collect::<Vec<_>>();
        let (told, own) = (parts(trusted.text()), parts(LOG.trusted.text()));
        let same = told[1].eq_ignore_ascii_case(&own[1]) && (&told[0], &told[2]) == (&own[0], &own[2]);
        assert!(open(&LOG.signed[7], &trusted).is_err() || same);
    }
    if let Ok(key) = Key::parse(text) {
        // The two halves are read one by one; what is signed opens with the half that belongs to it.
        let checkpoint = key.sign(1, Hash([1; 32]));
        let opened = TrustedKey::parse(key.public()).ok().zip(checkpoint.ok());
        assert!(opened.is_none_or(|(trusted, checkpoint)| {
            open(&checkpoint, &trusted).is_ok_and(|opened| opened == (1, Hash([1; 32])))
        }));
    }
    let _ = TrustedWitness::parse(text);
    if let Ok(key) = WitnessKey::parse(text) {
        assert!(WitnessKey::parse(&key.secret()).is_ok_and(|again| again.public() == key.public()));
        assert!(TrustedWitness::parse(&key.public()).is_ok());
    }
}

/// Lines and events, each in its way: what is read is written on one line and reads back the same; an envelope gives back
/// its event; a tree has the same root however it is grown, and each record of it leads there.
pub fn records(data: &[u8]) {
    let Some((way, rest)) = split(data, 3) else { return };
    match way {
        0 => {
            let Ok(record) = serde_json::from_slice::<Record>(rest) else { return };
            let line = record.to_line();
            assert!(!line.contains(&b'\n'), "a record is one line");
            assert_eq!(serde_json::from_slice::<Record>(&line).ok(), Some(record));
        }
        1 => {
            let Ok(event) = serde_json::from_slice::<Event>(rest) else { return };
            let text = serde_json::to_vec(&event).expect("an event can be written");
            if let Event::Prediction(prediction) = &event {
                let _ = (prediction.input.whole(), prediction.output.whole(), prediction.prediction.made());
            }
            assert_eq!(serde_json::from_slice::<Event>(&text).ok(), Some(event), "{}", String::from_utf8_lossy(&text));
        }
        _ => grown(rest),
    }
}

fn grown(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').take(40).collect();
    let mut frontier = Frontier::default();
    for line in &lines {
        let envelope = batch::envelope([3; batch::NONCE], line);
        assert_eq!(batch::event(&envelope), (!line.is_empty()).then_some(*line));
        assert_eq!(batch::event(&envelope[..batch::NONCE]), None, "an erased event is gone");
        frontier.append(line).expect("a record can be added");
    }
    let tree = Tree::over(lines.iter().copied()).expect("a tree");
    let root = tree.root_at(tree.size()).expect("its root");
    assert_eq!(frontier.root().ok(), Some(root));
    for (index, line) in (0..).zip(&lines) {
        let proof = tree.prove(index, tree.size()).expect("a proof");
        assert!(proof.leads(tlog_leaf(line), root), "record {index}");
        let next = usize::try_from(index + 1).expect("it is small");
        if lines.get(next) != Some(line) {
            let moved = Inclusion { index: index + 1, ..proof };
            assert!(!moved.leads(tlog_leaf(line), root), "record {index} proves another place");
        }
    }
}

/// A key with its number in upper case.
fn upper(key: &str) -> String {
    let mut parts: Vec<String> = key.splitn(3, '+').map(str::to_owned).collect();
    parts[1].make_ascii_uppercase();
    parts.join("+")
}

pub(super) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let log = &*LOG;
    let (secret, public) = keys::note(keys::LOG, ORIGIN, 7);
    let (witness, watched) = keys::note(keys::WITNESS, "witness.example", 9);
    let way = |index: u64, size: u64, path: &[Hash]| {
        let path: Vec<u8> = path.iter().flat_map(|hash| hash.0).collect();
        seed(5, [&index.to_le_bytes()[..], &size.to_le_bytes(), &path].concat())
    };
    let start = Question::Tree { old: 3, size: 7 }.answer(&stored(3)).expect("a proof");
    let mut seeds = vec![
        seed(0, &log.signed[0]),
        seed(0, &log.signed[7]),
        seed(0, &log.cosigned[3]),
        seed(1, [&77_u64.to_le_bytes()[..], &[5; 32], &300_u64.to_le_bytes()].concat()),
        seed(2, serde_json::to_vec(&log.proof).expect("a proof can be written")),
        seed(4, "tile/0/000"),
        seed(4, "tile/3/x234/067.p/8"),
        seed(4, "tile/entries/x001/234.p/255"),
        way(3, 7, &log.tree.prove(3, 7).expect("a proof").path),
        way(3, 7, &start),
        seed(6, format!("{secret}\n{public}\n")),
        seed(6, upper(log.trusted.text())),
        seed(6, public),
        seed(6, witness),
        seed(6, watched),
    ];
    for (which, content) in (0..).zip(log.files.values()) {
        seeds.push(seed(3, seed(which, content)));
    }
    seeds.push(seed(3, seed(u8::try_from(log.files.len()).expect("a few files"), "tile/0/001")));
    seeds
}

pub(super) fn record_seeds() -> Vec<Vec<u8>> {
    let detail =
        serde_json::json!({ "version": 1, "share": 0.1, "list": [null, true, "\n", -5, u64::MAX], "a": { "b": {} } });
    let mut seeds = vec![seed(0, record(1, "model.deploy", detail)), seed(0, &LOG.records[3]), seed(2, "a\nb\n\nc\nd")];
    let texts = [
        r#"{"kind":"prediction","prediction":"0190a6c0-1111-7222-8333-444455556666","namespace":"bank","model":"m",
            "version":3,"snapshot":null,"caller":"c","at":5,"steps":[["identify",7]],"replica":"r","rows":1,"batch":1,
            "attempts":1,"assessment":null,"outcome":{"refused":"input_mismatch"},"shadow_of":null,
            "input":{"features":{"digest":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "tensors":[{"name":"x","datatype":"UINT8","shape":[3],"data":"AQID"}]}},
            "output":{"digest":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},"keep":9,"sketch":[1]}"#,
        r#"{"kind":"feedback","prediction":"01980000-0000-7000-8000-000000000000","row":0,"label":0.1,"contributor":"c","at":1,"received":2,"namespace":"n","caller":"c","any":true}"#,
        r#"{"kind":"decision","decider":"d","mode":"m","inputs":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","choice":"c","reason":"r","at":1}"#,
        r#"{"kind":"action","subject":"s","rung":"r","reason":"x","evidence":[1],"until":5,"undo":"u","author":"a","at":1}"#,
        r#"{"kind":"observation","replica":"r","metrics":{"a":1.5,"b":1e300},"at":1}"#,
        r#"{"kind":"denial","subject":null,"namespace":null,"action":"a","resource":"r","code":"not_allowed","at":1}"#,
    ];
    seeds.extend(events().map(|event| seed(1, event)));
    seeds.extend(texts.map(|text| seed(1, text)));
    seeds
}
