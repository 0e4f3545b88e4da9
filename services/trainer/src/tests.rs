//! What becomes of a label, case by case.

use std::time::Duration;

use rpc::trainer::{Alarm, AlarmKind, Told};
use types::{
    DataType, Manifest, PredictionId, Timestamp, Version,
    event::{Captured, Features, Feedback, Kept, Label, Outcome, Prediction},
};

use crate::{
    find::Found,
    join::{HORIZON, Labelled, join},
    joined::{Entry, Example, Reason, Said},
    judge::{Judged, Kept as Stored},
};

const ID: &str = "01980000-0000-7000-8000-000000000000";

fn id() -> PredictionId {
    PredictionId(ID.parse().unwrap())
}

fn manifest(task: &str) -> Manifest {
    let text = format!(
        r#"{{"apiVersion":"mantlet.dev/v1","kind":"Model","metadata":{{"name":"fraud"}},"spec":{{"source":{{"onnx":"m.onnx"}}{task}}}}}"#
    );
    Manifest::from_json(text.as_bytes()).unwrap()
}

fn classes() -> Manifest {
    manifest(r#","task":{"kind":"classification","classes":["ok","fraud"],"positive":"fraud"}"#)
}

/// A prediction of two rows, made at 1,000 ms by caller `shop` of namespace `bank`.
fn prediction() -> Prediction {
    let data: Vec<u8> = [0.25_f32, 0.75, 0.5, 0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
    let output =
        Kept { name: "probabilities".into(), datatype: DataType::Fp32, shape: vec![2, 2], data: Some(data.into()) };
    Prediction {
        prediction: id(),
        namespace: Some("bank".parse().unwrap()),
        model: Some("fraud".parse().unwrap()),
        version: Some(Version(1)),
        snapshot: None,
        caller: Some("shop".parse().unwrap()),
        client_id: None,
        at: Timestamp(1_000),
        steps: Vec::new(),
        replica: None,
        rows: 2,
        batch: 2,
        attempts: 1,
        assessment: None,
        outcome: Outcome::Answered,
        shadow_of: None,
        input: Captured::None,
        output: Captured::Features(Features { digest: types::Digest::of(b""), tensors: vec![output] }),
        keep: None,
        sketch: Vec::new(),
    }
}

fn label(row: u64, label: Label) -> Feedback {
    Feedback {
        prediction: id(),
        row,
        label,
        contributor: "shop".into(),
        at: None,
        received: Timestamp(5_000),
        namespace: "bank".parse().unwrap(),
        caller: "shop".parse().unwrap(),
        any: false,
    }
}

fn fraud() -> Label {
    Label::Word("fraud".into())
}

fn found(prediction: &Prediction) -> Found {
    Found { prediction: Box::new(prediction.clone()), copies: Vec::new() }
}

fn of(label: &Feedback, prediction: Option<&Prediction>, manifest: Option<&Manifest>) -> Result<Example, Reason> {
    let (nothing, found) = (Labelled::default(), prediction.map(found));
    match join(label, found.as_ref(), manifest, [&nothing, &nothing]) {
        Entry::Example(example) => Ok(example),
        Entry::Refused(refused) => Err(refused.reason),
        Entry::Progress { .. } | Entry::Looked(_) => panic!("a label is neither"),
    }
}

#[test]
fn a_label_meets_its_row() {
    let example = of(&label(0, fraud()), Some(&prediction()), Some(&classes())).unwrap();
    assert_eq!(example.answer, Said::Probabilities(vec![0.25, 0.75]));
    assert_eq!((example.truth, example.version), (Said::Class(1), Version(1)));
}

#[test]
fn a_copy_is_judged_by_the_same_label() {
    let copy = |version, output| {
        let output = Captured::Features(Features { digest: types::Digest::of(b""), tensors: output });
        Prediction { version: Some(Version(version)), output, ..prediction() }
    };
    let kept = |value: &Captured| match value {
        Captured::Features(features) => features.tensors.clone(),
        _ => panic!("the outputs are kept"),
    };
    let copies = vec![copy(2, kept(&prediction().output)), copy(3, Vec::new())];
    let found = Found { prediction: Box::new(prediction()), copies };
    let nothing = Labelled::default();
    let Entry::Example(example) = join(&label(1, fraud()), Some(&found), Some(&classes()), [&nothing, &nothing]) else {
        panic!("it has a label")
    };
    assert_eq!(example.answer_of(Version(1)), Some(&example.answer));
    assert_eq!(example.answer_of(Version(2)), Some(&example.answer), "it answered the same");
    assert_eq!(example.answer_of(Version(3)), None, "what was not kept can't be compared");
}

#[test]
fn each_reason_has_its_case() {
    let (known, manifest) = (prediction(), classes());
    let case = |label: &Feedback, prediction: &Prediction| of(label, Some(prediction), Some(&manifest)).err().unwrap();
    assert_eq!(of(&label(0, fraud()), None, None).err(), Some(Reason::Unknown));
    let elsewhere = Feedback { namespace: "shop".parse().unwrap(), any: true, ..label(0, fraud()) };
    assert_eq!(case(&elsewhere, &known), Reason::Unknown, "of another namespace: as if it were not there");
    let foreign = Feedback { caller: "other".parse().unwrap(), ..label(0, fraud()) };
    assert_eq!(case(&foreign, &known), Reason::Foreign);
    assert!(of(&Feedback { any: true, ..foreign }, Some(&known), Some(&manifest)).is_ok(), "an admin labels anybody's");
    let late = Feedback { received: known.at.plus(HORIZON + Duration::from_secs(1)), ..label(0, fraud()) };
    assert_eq!(case(&late, &known), Reason::Late);
    let hasty =
        self::manifest(r#","task":{"kind":"classification","classes":["ok","fraud"]},"learning":{"horizon":"3s"}"#);
    assert_eq!(of(&label(0, fraud()), Some(&known), Some(&hasty)).err(), Some(Reason::Late), "as the manifest says");
    assert_eq!(case(&label(2, fraud()), &known), Reason::NoRow);
    let refused = Prediction { outcome: Outcome::Refused(types::Code::Overloaded), ..known.clone() };
    assert_eq!(case(&label(0, fraud()), &refused), Reason::Unanswered);
    assert_eq!(case(&label(0, Label::Word("theft".into())), &known), Reason::WrongType);
    assert_eq!(of(&label(0, fraud()), Some(&known), Some(&self::manifest(""))).err(), Some(Reason::NoTask));
    assert_eq!(of(&label(0, fraud()), Some(&known), None).err(), Some(Reason::NoTask), "its version was deleted");
    let digest = Prediction { output: Captured::Digest(types::Digest::of(b"")), ..known.clone() };
    assert_eq!(case(&label(0, fraud()), &digest), Reason::NotCaptured);
}

#[test]
fn a_row_has_one_label() {
    let (known, manifest) = (prediction(), classes());
    let first = of(&label(0, fraud()), Some(&known), Some(&manifest)).unwrap();
    let (mut kept, batch) = (Labelled::default(), Labelled::default());
    kept.note(&first);
    for labelled in [[&kept, &batch], [&batch, &kept]] {
        let again = |given: &Feedback| match join(given, Some(&found(&known)), Some(&manifest), labelled) {
            Entry::Refused(refused) => Some(refused.reason),
            _ => None,
        };
        assert_eq!(again(&label(0, fraud())), Some(Reason::Duplicate));
        assert_eq!(again(&label(0, Label::Number(1.0))), Some(Reason::Duplicate), "the same class by its number");
        assert_eq!(again(&label(0, Label::Number(0.0))), Some(Reason::Contradicting));
        assert_eq!(again(&label(1, fraud())), None, "another row");
    }
}

#[test]
fn what_is_kept_is_what_was_known() {
    let (known, manifest) = (prediction(), classes());
    let mut judged = Judged::default();
    for row in [0, 1] {
        let example = of(&label(row, fraud()), Some(&known), Some(&manifest)).unwrap();
        judged.take(&example, Some(&manifest));
    }
    let Entry::Refused(refused) =
        join(&label(7, fraud()), Some(&found(&known)), Some(&manifest), [&Labelled::default(); 2])
    else {
        panic!("there is no row 7")
    };
    judged.refuse(&refused);
    let text = serde_json::to_string(&Stored::of(&judged)).unwrap();
    let mut loaded = serde_json::from_str::<Stored>(&text).unwrap().judged().unwrap();
    assert_eq!((loaded.report(), loaded.labels()), (judged.report(), judged.labels()));
    let [report] = &judged.report()[..] else { panic!("one version") };
    assert_eq!((report.labelled, report.label_age_ms), (2, Some(4_000)));
    // Row 1 was a tie, and the first class is said then.
    assert_eq!(report.figures["since_start"]["accuracy"], 0.5);
    assert_eq!(judged.labels()["no_row"].count, 1);
    // Both go on alike.
    let more = of(&label(0, Label::Number(0.0)), Some(&known), Some(&manifest)).unwrap();
    judged.take(&more, Some(&manifest));
    loaded.take(&more, None);
    assert_eq!(loaded.report(), judged.report());
}

#[test]
fn of_what_drifts_that_begins_a_job_which_the_manifest_names() {
    let known = crate::Known::default();
    let key = ("bank".parse().unwrap(), "fraud".parse().unwrap());
    let alarm = |at: u64, kind| Alarm { at: Timestamp(at), kind, what: String::new(), since: None, moved: Vec::new() };
    let version = (key.0, key.1, Version(2));
    let alarms = vec![alarm(3, AlarmKind::Answers), alarm(9, AlarmKind::Inputs)];
    known.alarms.lock().insert(version.clone(), alarms.clone());
    let told = Told::Delivered { attempts: 1, at: Timestamp(4) };
    known.told.lock().insert(crate::alarms::id(&version, &alarms[0]), told.clone());
    let key = (version.0, version.1);
    let shown: Vec<_> = known.alarms_of(&key).into_iter().map(|alarm| (alarm.alarm.at.0, alarm.told)).collect();
    assert_eq!(shown, [(9, None), (3, Some(told))], "the newest first");
    let mut learning = types::manifest::Learning::default();
    let last = |learning: &types::manifest::Learning| crate::jobs::last(known.alarms_of(&key), learning);
    assert_eq!(last(&learning), None, "errors alone, by default");
    learning.drift.retrain = vec![AlarmKind::Errors, AlarmKind::Answers];
    assert_eq!(last(&learning).map(|alarm| alarm.at), Some(Timestamp(3)));
    learning.drift.retrain.push(AlarmKind::Inputs);
    assert_eq!(last(&learning).map(|alarm| alarm.at), Some(Timestamp(9)));
}
