//! Models that share a model server: in memory while there is room, back when they are asked for.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::{fs, sync::Arc};

use access::signing::{Key, MODEL_FILE};
use model_server::{Engine, Sessions};
use rpc::{
    ModelServer,
    model_server::{Load, Relieve, Unload},
};
use testkit::{onnx, setup};
use types::{Code, DataType, Tensor, Version, infer::InferRequest};

/// Bytes that stay free for what a model works in.
const WORK: u64 = 4 << 20;

struct Shelf {
    dir: tempfile::TempDir,
    key: Key,
}

impl Shelf {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), key: Key::generate().unwrap() }
    }

    /// A bundle of a model that adds `term`, and what loads it.
    fn add(&self, name: &str, term: f32) -> Load {
        self.put(name, &onnx::add(term))
    }

    fn put(&self, name: &str, model: &[u8]) -> Load {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).unwrap();
        let digest = testkit::bundle::write(&path, &self.key, ("bank", name), model);
        Load {
            namespace: "bank".parse().unwrap(),
            model: name.parse().unwrap(),
            version: Version(1),
            digest,
            path,
            keys: vec![self.key.public().unwrap().pem().to_owned()],
            known: None,
            state: None,
            credential: None,
        }
    }
}

fn size(load: &Load) -> u64 {
    fs::read_dir(&load.path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

async fn ask(engine: &Engine, model: &str) -> Result<f64, Code> {
    let data: Vec<u8> = [0.0_f32; 4].iter().flat_map(|value| value.to_le_bytes()).collect();
    let request = InferRequest {
        model: model.parse().unwrap(),
        version: Some(Version(1)),
        id: None,
        inputs: vec![Tensor::new("x", DataType::Fp32, vec![1, 4], data.into()).unwrap()],
        outputs: vec![],
        timeout: None,
    };
    let answer = engine.infer(request).await.map_err(|refusal| refusal.code)?;
    Ok(answer.outputs[0].iter_floats().next().unwrap())
}

fn engine(test: &str) -> Option<Engine> {
    let Some(library) = setup::onnxruntime() else {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    };
    Some(Engine::new(&library, Sessions::Exactly(1)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_is_out_of_memory_and_answers_all_the_same() {
    let Some(engine) = engine("model-server cache::least_recently_used") else { return };
    let shelf = Shelf::new();
    let loads = [shelf.add("a", 1.0), shelf.add("b", 2.0), shelf.add("c", 3.0)];
    // Two fit, beside what a third would work in.
    let engine = engine.with_room(WORK + 2 * size(&loads[0]) + size(&loads[0]) / 2, None);
    for load in loads {
        engine.load(load).await.unwrap();
    }
    for _ in 0..3 {
        for (model, term) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
            assert_eq!(ask(&engine, model).await, Ok(term));
            let status = engine.status().await.unwrap();
            assert!(status.ready && (1..=2).contains(&status.loaded), "{status:?}");
        }
    }
    let before = engine.status().await.unwrap().unloaded;
    assert!(before >= 6, "each of nine questions was about one that was out: {before}");
    // Who is used again and again stays.
    assert_eq!(ask(&engine, "a").await, Ok(1.0));
    for other in ["b", "c", "b", "c"] {
        assert_eq!(ask(&engine, other).await, Ok(if other == "b" { 2.0 } else { 3.0 }));
        assert_eq!(ask(&engine, "a").await, Ok(1.0));
    }
    let after = engine.status().await.unwrap().unloaded;
    assert!(after - before <= 5, "only b and c took turns: {}", after - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_loaded_when_it_is_asked_for_and_once() {
    let Some(engine) = engine("model-server cache::known") else { return };
    let shelf = Shelf::new();
    let load = shelf.add("a", 1.0);
    let metadata = engine.load(load.clone()).await.unwrap();
    engine.unload(Unload { model: "a".parse().unwrap(), version: Version(1) }).await.unwrap();
    let known = Load { known: Some(metadata.clone()), ..load.clone() };
    assert_eq!(engine.load(known).await.unwrap(), metadata);
    assert_eq!(engine.status().await.unwrap().loaded, 0);
    let engine = Arc::new(engine);
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { ask(&engine, "a").await })
        })
        .collect();
    for answer in asking {
        assert_eq!(answer.await.unwrap(), Ok(1.0));
    }
    assert_eq!(engine.status().await.unwrap().loaded, 1);
    // A bundle that was changed meanwhile is found out then.
    let other = shelf.add("b", 2.0);
    let known = Load { known: Some(metadata), ..other.clone() };
    engine.load(known).await.unwrap();
    fs::write(other.path.join(MODEL_FILE), onnx::add(9.0)).unwrap();
    assert_eq!(ask(&engine, "b").await, Err(Code::BundleUntrusted));
    assert_eq!(ask(&engine, "a").await, Ok(1.0), "the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_no_function_of_its_inputs_is_refused() {
    let Some(engine) = engine("model-server cache::refused") else { return };
    let shelf = Shelf::new();
    let load = shelf.put("dice", &onnx::dice());
    let refusal = engine.load(load).await.unwrap_err();
    assert_eq!(refusal.code, Code::ModelUnsupported, "{refusal}");
    assert!(refusal.message.contains("when the same input is asked again"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_goes_when_memory_is_to_be_given_up_and_answers_all_the_same() {
    let Some(engine) = engine("model-server cache::given_up") else { return };
    let shelf = Shelf::new();
    let loads = [shelf.add("a", 1.0), shelf.add("b", 2.0), shelf.add("c", 3.0)];
    let one = size(&loads[0]);
    for load in loads {
        engine.load(load).await.unwrap();
    }
    assert_eq!(ask(&engine, "a").await, Ok(1.0));
    assert_eq!(
        engine.relieve(Relieve { bytes: one }).await.unwrap(),
        one,
        "one is enough: the one used least recently"
    );
    let status = engine.status().await.unwrap();
    assert_eq!((status.loaded, status.unloaded, status.ready), (2, 1, true));
    // Who is asked comes back, and others go for it: there is less room than there was.
    for (model, term) in [("b", 2.0), ("a", 1.0), ("c", 3.0)] {
        assert_eq!(ask(&engine, model).await, Ok(term));
        assert!(engine.status().await.unwrap().loaded <= 2);
    }
    // Room again: all are in memory.
    assert_eq!(engine.relieve(Relieve { bytes: 0 }).await.unwrap(), 0);
    for (model, term) in [("a", 1.0), ("b", 2.0), ("c", 3.0)] {
        assert_eq!(ask(&engine, model).await, Ok(term));
    }
    assert_eq!(engine.status().await.unwrap().loaded, 3);
}
