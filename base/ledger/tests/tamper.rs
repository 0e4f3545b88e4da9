//! A thousand random edits, drops, swaps, inserts and truncations of an export: each is caught, and those of a record
//! with its index.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::collections::BTreeMap;

use ledger::{Key, Record, TrustedKey, export, verify};

/// Records of the honest log: more than two tiles.
const SIZE: usize = 600;

type Files = BTreeMap<String, Vec<u8>>;

/// Numbers that look random and are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end as u64).unwrap()
    }
}

fn records() -> Vec<Vec<u8>> {
    let record = |n: usize| Record {
        v: 1,
        at: 1_700_000_000_000 + n as u64,
        action: "caller.add".into(),
        namespace: Some("bank".into()),
        actor: "caller:default/admin".into(),
        subject: format!("caller:bank/c{n}"),
        detail: serde_json::Value::Null,
    };
    (0..SIZE).map(|n| record(n).to_line()).collect()
}

/// The export of these records, signed by this key.
fn signed(records: &[Vec<u8>], key: &Key) -> Files {
    let tree = export::Tree::over(records.iter().map(Vec::as_slice)).unwrap();
    let checkpoint = key.sign(tree.size(), tree.root_at(tree.size()).unwrap()).unwrap();
    export::files(records, checkpoint, key.public()).unwrap()
}

/// One way to change the records.
fn tamper(records: &mut Vec<Vec<u8>>, numbers: &mut Numbers) {
    let (a, b) = (numbers.below(records.len()), numbers.below(records.len()));
    match numbers.below(5) {
        0 => {
            let at = numbers.below(records[a].len());
            records[a][at] ^= 1 << numbers.below(7);
        }
        1 => drop(records.remove(a)),
        2 => records.swap(a, if a == b { (a + 1) % SIZE } else { b }),
        3 => records.insert(a, records[b].clone()),
        _ => records.truncate(a),
    }
}

#[test]
fn a_thousand_ways_to_tamper_are_caught() {
    let key = Key::generate("mantlet.dev/test").unwrap();
    let trusted = TrustedKey::parse(key.public()).unwrap();
    let honest = records();
    let files = signed(&honest, &key);
    let kept = files["checkpoint"].clone();
    verify::files_verify(&files, &trusted, Some(&kept)).unwrap();
    let (mut numbers, mut ways) = (Numbers(0x5eed), [0; 4]);
    for round in 0..1_000 {
        let way = numbers.below(ways.len());
        ways[way] += 1;
        let mut changed = honest.clone();
        tamper(&mut changed, &mut numbers);
        let first = (0..=SIZE).find(|n| changed.get(*n) != honest.get(*n)).map(|n| n as u64);
        match way {
            // The lines alone: the tiles tell the first record that is not as it was.
            0 => {
                let mut edited = files.clone();
                let lines = export::files(&changed, kept.clone(), key.public()).unwrap().remove("records.ndjson");
                edited.insert("records.ndjson".into(), lines.unwrap());
                let failure = verify::files_verify(&edited, &trusted, None).unwrap_err();
                assert_eq!(failure.index, first, "round {round}: {failure}");
            }
            // Tiles made anew: only the signature is left to contradict.
            1 => {
                let edited = export::files(&changed, kept.clone(), key.public()).unwrap();
                verify::files_verify(&edited, &trusted, None).unwrap_err();
            }
            // The log's own key in bad hands: what somebody kept contradicts.
            2 => {
                let edited = signed(&changed, &key);
                let failure = verify::files_verify(&edited, &trusted, Some(&kept)).unwrap_err();
                if changed.len() < SIZE {
                    assert_eq!(failure.index, Some(changed.len() as u64), "round {round}: {failure}");
                }
            }
            // A bit of a tile: it tells which records it covers.
            _ => {
                let mut edited = files.clone();
                let names: Vec<String> = files.keys().filter(|name| name.starts_with("tile/")).cloned().collect();
                let tile = edited.get_mut(&names[numbers.below(names.len())]).unwrap();
                let at = numbers.below(tile.len());
                tile[at] ^= 1 << numbers.below(8);
                let failure = verify::files_verify(&edited, &trusted, None).unwrap_err();
                assert!(failure.index.is_some(), "round {round}: {failure}");
            }
        }
    }
    assert!(ways.iter().all(|count| *count > 200), "{ways:?}");
}
