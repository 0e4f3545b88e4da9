//! The model server's contract, in both forms: a call, and mTLS gRPC; on the real ONNX Runtime.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use std::sync::Arc;

use access::signing::Key;
use model_server::{Engine, Sessions};
use rpc::{
    ModelServer,
    model_server::{Load, ModelServerClient, StandOf, Unload, model_server_router},
    report::Asked,
};
use testkit::{onnx, setup};
use types::{Code, DataType, Digest, Tensor, Version, infer::InferRequest};

struct Bundle {
    dir: tempfile::TempDir,
    key: Key,
    digest: Digest,
}

fn bundle() -> Bundle {
    let (dir, key) = (tempfile::tempdir().unwrap(), Key::generate().unwrap());
    let digest = testkit::bundle::write(dir.path(), &key, ("bank", "add"), &onnx::add(10.0));
    Bundle { dir, key, digest }
}

fn load(bundle: &Bundle) -> Load {
    Load {
        namespace: "bank".parse().unwrap(),
        model: "add".parse().unwrap(),
        version: Version(1),
        digest: bundle.digest,
        path: bundle.dir.path().to_owned(),
        keys: vec![bundle.key.public().unwrap().pem().to_owned()],
        known: None,
        state: None,
        credential: None,
    }
}

fn request(values: &[f32]) -> InferRequest {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let rows = i64::try_from(values.len() / 4).unwrap();
    InferRequest {
        model: "add".parse().unwrap(),
        version: Some(Version(1)),
        id: Some("a".into()),
        inputs: vec![Tensor::new("x", DataType::Fp32, vec![rows, 4], data.into()).unwrap()],
        outputs: vec![],
        timeout: None,
    }
}

async fn suite(server: &dyn ModelServer) {
    let code = |outcome: Result<types::infer::InferResponse, types::Refusal>| outcome.unwrap_err().code;
    assert_eq!(code(server.infer(request(&[1.0; 4])).await), Code::ModelNotReady);
    assert_eq!(server.status().await.unwrap().loaded, 0);

    let (good, strange) = (bundle(), bundle());
    let foreign = Load { keys: load(&strange).keys, ..load(&good) };
    assert_eq!(server.load(foreign).await.unwrap_err().code, Code::BundleUntrusted);
    let renamed = Load { model: "other".parse().unwrap(), ..load(&good) };
    assert_eq!(server.load(renamed).await.unwrap_err().code, Code::BundleUntrusted);
    let metadata = server.load(load(&good)).await.unwrap();
    assert_eq!((metadata.inputs[0].shape.as_slice(), metadata.outputs[0].name.as_str()), (&[-1, 4][..], "y"));

    let answer = server.infer(request(&[1.0, 2.0, 3.0, 4.0, f32::NAN, 0.0, 0.0, 0.0])).await.unwrap();
    let values: Vec<f64> = answer.outputs[0].iter_floats().collect();
    assert_eq!(answer.outputs[0].shape(), [2, 4]);
    assert_eq!(&values[..4], [11.0, 12.0, 13.0, 14.0]);
    assert!(values[4].is_nan());
    assert_eq!(answer.batch, 2, "alone, and carried over the wire");
    let wrong = InferRequest { inputs: vec![], ..request(&[]) };
    assert_eq!(code(server.infer(wrong).await), Code::InferenceFailed);
    let many = (0..64).map(|n| server.infer(request(&[f32::from(n as u8); 4])));
    for (n, answer) in join_all(many).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().outputs[0].iter_floats().next(), Some(10.0 + n as f64));
    }

    counted(server).await;
    let status = server.status().await.unwrap();
    assert_eq!((status.ready, status.in_flight, status.queued), (true, 0, 0));
    let unload = |version| Unload { model: "add".parse().unwrap(), version: Version(version) };
    server.unload(unload(9)).await.unwrap();
    assert_eq!(server.status().await.unwrap().loaded, 1, "another version's unload changes nothing");
    server.unload(unload(1)).await.unwrap();
    assert_eq!(code(server.infer(request(&[1.0; 4])).await), Code::ModelNotReady);
}

/// Who asks alone hears nothing of the replica; who shares it does, and all are answered.
async fn counted(server: &dyn ModelServer) {
    let ask = async |sender| {
        let asked = Asked { sender, predicted: std::time::Duration::from_micros(50) };
        let (answer, report) = server.infer_counted(request(&[1.0; 4]), asked).await.unwrap();
        assert_eq!(answer.outputs[0].iter_floats().next(), Some(11.0));
        report
    };
    assert_eq!((ask(7).await, ask(7).await), (None, None));
    let report = ask(8).await.unwrap();
    assert_eq!((report.in_flight, report.waiting), (0, std::time::Duration::ZERO));
    assert!(report.readings > 2.0 && report.mean > std::time::Duration::ZERO, "{report:?}");
    assert!(ask(7).await.is_some());
    // Who asks without a request hears the same, and of what is not there nothing.
    let of = |version, sender| StandOf { model: "add".parse().unwrap(), version: Version(version), sender };
    let report = server.stand(of(1, 9)).await.unwrap().unwrap();
    assert!(report.in_flight == 0 && report.readings > 3.0, "{report:?}");
    assert_eq!(server.stand(of(9, 9)).await.unwrap(), None);
}

/// Polls all at once, in order of their answers' places.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(done.drain(..).flatten().collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

fn engine(test: &str) -> Option<Engine> {
    let Some(library) = setup::onnxruntime() else {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    };
    Some(Engine::new(&library, Sessions::Exactly(2)).unwrap())
}

#[tokio::test]
async fn in_process() {
    if let Some(engine) = engine("model-server contract::in_process") {
        suite(&engine).await;
    }
}

#[tokio::test]
async fn remote() {
    if let Some(engine) = engine("model-server contract::remote") {
        let remote = testkit::remote::open(model_server_router(Arc::new(engine), Arc::new(|_| Ok(()))));
        suite(&ModelServerClient::new(remote.channel.clone())).await;
    }
}
