//! The queue without workers, so that every step is the test's; and batches on the real ONNX Runtime.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use balance::batch::Limits;
use testkit::{onnx, setup};
use types::{DataType, Tensor};

use super::*;
use crate::{Engine, Sessions, load, trial};

const LIMITS: Limits = Limits { rows: 8, budget: Duration::from_secs(1) };

/// A batcher that has seen that all cost is fixed.
fn eager() -> Batcher {
    let mut batcher = Batcher::new(LIMITS);
    for _ in 0..100 {
        batcher.observe(1, Duration::from_millis(1));
        batcher.observe(8, Duration::from_millis(1));
    }
    batcher
}

fn pool(batcher: Option<Batcher>) -> Pool {
    Pool::start(Vec::new(), ModelMetadata::default(), batcher).unwrap()
}

fn request(name: &str, values: &[f32]) -> InferRequest {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let rows = i64::try_from(values.len() / 4).unwrap();
    of(Tensor::new(name, DataType::Fp32, vec![rows, 4], data.into()).unwrap())
}

fn of(input: Tensor) -> InferRequest {
    let inputs = vec![input];
    InferRequest { model: "m".parse().unwrap(), version: None, id: None, inputs, outputs: vec![], timeout: None }
}

fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn rows(batch: &[Waiting]) -> Vec<u64> {
    batch.iter().map(|waiting| waiting.rows).collect()
}

/// What a worker with a session would run next.
fn taken(queue: &Queue) -> Vec<Waiting> {
    queue.state.lock().batch(1, 1).unwrap()
}

#[test]
fn the_front_of_the_queue_is_taken_as_far_as_it_can_be_joined() {
    let pool = pool(Some(eager()));
    let queue = pool.queue();
    let enter = |name: &str, rows: usize| queue.enter(request(name, &vec![0.0; 4 * rows]), None).unwrap().1;
    let _answers = [("x", 1), ("x", 2), ("x", 3), ("x", 4), ("z", 1), ("x", 1), ("x", 20), ("x", 1)]
        .map(|(name, rows)| enter(name, rows));
    let taken = || rows(&taken(queue));
    assert_eq!(taken(), [1, 2, 3], "8 rows at most");
    assert_eq!(taken(), [4], "another input comes next");
    assert_eq!(taken(), [1]);
    assert_eq!(taken(), [1], "20 more would be too many");
    assert_eq!(taken(), [20], "one alone may have any number of rows");
    assert_eq!((taken(), queue.waiting(), queue.state.lock().rows), (vec![1], 0, 0));
}

#[test]
fn where_nothing_may_be_joined_every_request_runs_alone() {
    let pool = pool(None);
    let _answers = [1, 2].map(|rows| pool.queue().enter(request("x", &vec![0.0; 4 * rows]), None).unwrap().1);
    assert_eq!(rows(&taken(pool.queue())), [1]);
    assert_eq!(rows(&taken(pool.queue())), [2]);
}

#[test]
fn who_goes_away_leaves_the_queue() {
    let pool = pool(Some(eager()));
    let queue = pool.queue();
    let mut stays = pin!(queue.infer(request("x", &[1.0; 4]), None));
    assert!(poll(stays.as_mut()).is_pending());
    {
        let mut goes = pin!(queue.infer(request("x", &[2.0; 8]), None));
        assert!(poll(goes.as_mut()).is_pending());
        assert_eq!((queue.waiting(), queue.state.lock().rows), (2, 3));
    }
    assert_eq!((queue.waiting(), queue.state.lock().rows), (1, 1));
    assert_eq!(rows(&taken(queue)), [1]);
    // The batch was dropped unanswered, as by a worker that is lost.
    let Poll::Ready(Err(refusal)) = poll(stays) else { panic!("no answer") };
    assert_eq!(refusal.code, Code::Internal);
}

#[test]
fn a_closed_queue_sends_all_away_and_takes_nobody() {
    let pool = pool(Some(eager()));
    let queue = pool.queue().clone();
    let mut waits = pin!(queue.infer(request("x", &[1.0; 4]), None));
    assert!(poll(waits.as_mut()).is_pending());
    drop(pool);
    let Poll::Ready(Err(refusal)) = poll(waits) else { panic!("no answer") };
    assert_eq!(refusal.code, Code::ModelNotReady);
    assert_eq!(queue.enter(request("x", &[1.0; 4]), None).unwrap_err().code, Code::ModelNotReady);
    assert!(queue.next(None).is_none(), "workers end");
}

fn engine(test: &str) -> Option<Engine> {
    let Some(library) = setup::onnxruntime() else {
        setup::skip(test, "ONNX Runtime's library is not set up: cargo xtask setup");
        return None;
    };
    Some(Engine::new(&library, Sessions::Exactly(1)).unwrap())
}

/// A session of this model with its metadata, and its time for a row.
fn session(engine: &Engine, model: &[u8]) -> (Session, ModelMetadata, Duration) {
    let mut session = load::session(engine.environment(), model, 1).unwrap();
    let mut metadata = load::declared(&session).unwrap();
    let alone = trial::warm_up(&mut session, &mut metadata).unwrap();
    (session, metadata, alone)
}

fn run(
    session: &mut Session,
    metadata: &ModelMetadata,
    requests: Vec<InferRequest>,
) -> Vec<Result<InferResponse, Refusal>> {
    let pool = Pool::start(Vec::new(), metadata.clone(), Some(eager())).unwrap();
    let mut answers: Vec<_> =
        requests.into_iter().map(|request| pool.queue().enter(request, None).unwrap().1).collect();
    let batch = taken(pool.queue());
    assert_eq!(batch.len(), answers.len());
    pool.queue().run(session, batch);
    answers.iter_mut().map(|answer| answer.try_recv().unwrap()).collect()
}

#[test]
fn a_joint_batch_gives_each_its_own_rows() {
    let Some(engine) = engine("model-server batcher::a_joint_batch_gives_each_its_own_rows") else { return };
    let (mut session, metadata, _) = session(&engine, &onnx::add(10.0));
    let requests = vec![request("x", &[1.0; 4]), request("x", &[2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0])];
    let answers = run(&mut session, &metadata, requests);
    let values = |at: usize| answers[at].as_ref().unwrap().outputs[0].iter_floats().collect::<Vec<_>>();
    assert_eq!(values(0), [11.0; 4]);
    assert_eq!(values(1), [12.0, 12.0, 12.0, 12.0, 13.0, 13.0, 13.0, 13.0]);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().batch == 3));
}

#[test]
fn one_bad_request_does_not_fail_its_neighbours() {
    let Some(engine) = engine("model-server batcher::one_bad_request_does_not_fail_its_neighbours") else { return };
    let (mut session, metadata, _) = session(&engine, &onnx::look_up());
    let at = |place: i64| of(Tensor::new("x", DataType::Int64, vec![1], place.to_le_bytes().to_vec().into()).unwrap());
    let answers = run(&mut session, &metadata, vec![at(1), at(9), at(3)]);
    let value = |answer: &Result<InferResponse, Refusal>| {
        let answer = answer.as_ref().map_err(|refusal| refusal.code)?;
        Ok::<_, Code>((answer.outputs[0].iter_floats().next(), answer.batch))
    };
    let expected = [Ok((Some(10.0), 1)), Err(Code::InferenceFailed), Ok((Some(30.0), 1))];
    assert_eq!(answers.iter().map(value).collect::<Vec<_>>(), expected);
}

#[test]
fn only_models_whose_rows_keep_to_themselves_are_batched() {
    let test = "model-server batcher::only_models_whose_rows_keep_to_themselves_are_batched";
    let Some(engine) = engine(test) else { return };
    let verdict = |model: &[u8]| {
        let (mut session, metadata, alone) = session(&engine, model);
        trial::batcher(&mut session, &metadata, &[], LIMITS, alone).map(|batcher| batcher.cost().is_some())
    };
    assert_eq!(verdict(&onnx::add(1.0)), Ok(true));
    assert_eq!(verdict(&onnx::look_up()), Ok(true));
    for (model, reason) in [(onnx::centre(), "depends on its neighbours"), (onnx::add_to_one(1.0), "is not open")] {
        let why = verdict(&model).unwrap_err();
        assert!(why.contains(reason), "{why}");
    }
}
