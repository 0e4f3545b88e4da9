//! Jobs make new versions: labelled examples go in, a model comes out, and has to prove itself like any other. For a model that
//! learns by itself the job is built in: it looks for a better learner ([`tuner`]).
//!
//! A job is a program that the node's settings name ([`Kind`]). It runs when somebody says so, when a model drifts, or every
//! so often, one at a time, confined ([`process`]). How far each is, is kept before the next step is taken:
//! a start takes up what a crash left. What it made is deployed in the trainer's name; `spec.learning.promote` decides
//! what follows ([`learn`](crate::learn)).

mod examples;
mod kind;
pub mod process;
mod tuner;
pub mod worker;
mod workers;

use std::{
    collections::BTreeMap,
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use rpc::{
    Clock,
    orchestrator::ModelKey,
    registry::{Deploy, VersionRecord},
    trainer::{Alarm, Job, JobState, Retrain as Ask, VersionAlarm},
};
use store::{Collection, Expect, Write, read_all};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::{
    Code, Namespace, Refusal, Timestamp, Version,
    manifest::{Learning, Online, Promote, Retrain, Source},
};

use crate::{Known, learn::Stores};
use examples::{Selected, Selection};
pub use kind::{Kind, Kinds};
pub use process::Confine;

/// How often it is looked whether a model is to be trained anew.
const LOOK: Duration = Duration::from_secs(5);
/// The least time between two jobs of a model that nobody asked for.
const PAUSE: Duration = Duration::from_secs(60);
/// The wait after a job of a model has failed.
const RETRY: Duration = Duration::from_secs(300);
/// How often a job is begun that was cut short.
const ATTEMPTS: u32 = 3;
/// Jobs that wait, at most, and jobs of a model that are remembered.
const WAITING: usize = 64;
const REMEMBERED: usize = 10;
/// Bytes of a model and of what it says of itself, at most.
const LARGEST: u64 = 2 << 30;
const METRICS: u64 = 64 << 10;
/// The end of its log that is told.
const TAIL: u64 = 4 << 10;
const LINES: usize = 20;
/// Where in the catalog jobs are kept.
const PLACE: &str = "job/";

/// How jobs are run here.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Those that there are.
    pub kinds: Kinds,
    /// The node's own binary.
    pub binary: PathBuf,
    /// Where their folders lie.
    pub folder: PathBuf,
    /// How they are confined.
    pub confine: Confine,
    /// Workers that share the learning of one, at most.
    pub workers: usize,
}

/// Somebody asks for a job, and where the answer goes.
pub(crate) type Asked = (Ask, oneshot::Sender<Result<Job, Refusal>>);

/// Jobs by id, as the door tells of them.
pub(crate) type Table = BTreeMap<String, Job>;

/// The loop that runs jobs.
pub(crate) struct Jobs {
    settings: Settings,
    stores: Arc<Stores>,
    clock: Clock,
    known: Arc<Known>,
}

fn place(job: &Job) -> String {
    format!("{PLACE}{}/{}/{}", job.namespace, job.model, job.id)
}

/// The first of these alarms that is to begin a job.
pub(crate) fn last(alarms: Vec<VersionAlarm>, learning: &Learning) -> Option<Alarm> {
    let mut alarms = alarms.into_iter().map(|alarm| alarm.alarm);
    alarms.find(|alarm| learning.drift.retrain.contains(&alarm.kind))
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

impl Jobs {
    /// Takes up the jobs that are kept.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) async fn open(
        settings: Settings,
        stores: Arc<Stores>,
        clock: Clock,
        known: Arc<Known>,
    ) -> Result<Self, Refusal> {
        for document in read_all(&*stores.catalog, Collection::Evaluation, PLACE).await? {
            let job: Job = document.read()?;
            known.jobs.lock().insert(job.id.clone(), job);
        }
        Ok(Self { settings, stores, clock, known })
    }

    /// Runs until `stop` resolves; a job that runs then begins again at the next start.
    pub(crate) async fn run(self, mut asked: mpsc::Receiver<Asked>, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut looked = Instant::now();
        let mut work: Option<BoxFuture<'_, ()>> = None;
        loop {
            if work.is_none() {
                work = self.next().map(|job| self.work(job).boxed());
            }
            tokio::select! {
                () = &mut stop => return,
                Some((ask, answer)) = asked.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.ask(ask).await);
                }
                () = async { match &mut work { Some(work) => work.await, None => pending().await } } => work = None,
                () = tokio::time::sleep_until(looked + LOOK) => {
                    looked = Instant::now();
                    if let Err(refusal) = self.look().await {
                        tracing::warn!(%refusal, "it can't be seen which models are to be trained anew");
                    }
                }
            }
        }
    }

    /// The job to work on: one that was begun, else the one that waits longest.
    fn next(&self) -> Option<Job> {
        let jobs = self.known.jobs.lock();
        let begun = jobs.values().find(|job| job.state == JobState::Running);
        begun.or_else(|| jobs.values().find(|job| job.state == JobState::Waiting)).cloned()
    }

    async fn ask(&self, ask: Ask) -> Result<Job, Refusal> {
        let key = (ask.namespace, ask.model);
        let newest = self.newest(&key).await?.ok_or_else(|| Refusal::unknown_model(&key.0, &key.1))?;
        let job = job_of(&newest).ok_or_else(|| {
            let what = format!("version {} of `{}` names no job, and does not learn", newest.version, key.1);
            Refusal::new(Code::RequestMalformed, what).hint(
                "deploy it with spec.learning.train or, if it learns, with spec.learning.promote: docs/retraining.md",
            )
        })?;
        self.add(&key, job, format!("{}: {}", ask.actor, ask.reason)).await
    }

    /// Adds a job, unless one of this model waits or runs.
    async fn add(&self, (namespace, model): &ModelKey, name: &str, why: String) -> Result<Job, Refusal> {
        let (waiting, same) = {
            let jobs = self.known.jobs.lock();
            let open = || jobs.values().filter(|job| matches!(job.state, JobState::Waiting | JobState::Running));
            (open().count(), open().find(|job| (&job.namespace, &job.model) == (namespace, model)).cloned())
        };
        if let Some(same) = same {
            return Ok(same);
        }
        if waiting >= WAITING {
            return Err(Refusal::new(Code::Overloaded, format!("{waiting} jobs wait already")));
        }
        let job = Job {
            id: uuid::Uuid::now_v7().to_string(),
            namespace: namespace.clone(),
            model: model.clone(),
            job: name.to_owned(),
            state: JobState::Waiting,
            why,
            asked: self.clock.now(),
            began: None,
            ended: None,
            examples: 0,
            entries: [0, 0],
            attempts: 0,
            version: None,
            metrics: None,
            failure: None,
            log: Vec::new(),
        };
        self.keep(&job).await?;
        self.tidy(namespace, model).await?;
        Ok(job)
    }

    async fn keep(&self, job: &Job) -> Result<(), Refusal> {
        let write = Write::put(Collection::Evaluation, place(job), Expect::Any, job)?;
        self.stores.catalog.commit(vec![write], Vec::new()).await?;
        self.known.jobs.lock().insert(job.id.clone(), job.clone());
        Ok(())
    }

    /// Forgets the oldest jobs of a model, with their folders.
    async fn tidy(&self, namespace: &Namespace, model: &types::ModelName) -> Result<(), Refusal> {
        let mut of_model: Vec<Job> = {
            let jobs = self.known.jobs.lock();
            jobs.values().filter(|job| (&job.namespace, &job.model) == (namespace, model)).cloned().collect()
        };
        of_model.truncate(of_model.len().saturating_sub(REMEMBERED));
        for job in of_model {
            let write = Write::remove(Collection::Evaluation, place(&job), Expect::Any);
            self.stores.catalog.commit(vec![write], Vec::new()).await?;
            self.known.jobs.lock().remove(&job.id);
            // What is left there is in nobody's way.
            let _ = tokio::fs::remove_dir_all(self.folder(&job)).await;
        }
        Ok(())
    }

    fn folder(&self, job: &Job) -> PathBuf {
        self.settings.folder.join(&job.id)
    }

    /// The newest version of a model.
    async fn newest(&self, key: &ModelKey) -> Result<Option<VersionRecord>, Refusal> {
        Ok(self.stores.versions(key).await?.pop())
    }

    /// Notes that a job begins, or begins again, before anything of it is done.
    async fn begin(&self, job: &mut Job) -> Result<(), Refusal> {
        if job.attempts >= ATTEMPTS {
            return Err(internal(format!("the node stopped {ATTEMPTS} times while it ran")));
        }
        (job.state, job.attempts, job.began) = (JobState::Running, job.attempts + 1, Some(self.clock.now()));
        self.keep(job).await
    }

    /// Makes what a job found the next version, in the trainer's name. The model may have been deployed anew meanwhile: what is
    /// wanted of it now is what holds, but for a learner that was found.
    async fn deploy(&self, key: &ModelKey, found: Option<Source>, staged: Option<String>) -> Result<Version, Refusal> {
        let newest = self.newest(key).await?.ok_or_else(|| Refusal::unknown_model(&key.0, &key.1))?;
        let mut manifest = newest.manifest;
        manifest.spec.source = found.unwrap_or(manifest.spec.source);
        let (actor, namespace) = ("trainer".to_owned(), key.0.clone());
        let request = Deploy { actor, namespace, manifest, staged, signature: None };
        Ok(self.stores.registry.deploy(request).await?.version.version)
    }

    /// Adds the jobs whose time has come.
    async fn look(&self) -> Result<(), Refusal> {
        for key in self.known.streaming.models() {
            let Some(newest) = self.newest(&key).await? else { continue };
            let learning = &newest.manifest.spec.learning;
            let Some(job) = job_of(&newest) else { continue };
            let (last, done) = {
                let jobs = self.known.jobs.lock();
                let of_model = || jobs.values().rev().filter(|job| (&job.namespace, &job.model) == (&key.0, &key.1));
                (of_model().next().cloned(), of_model().find(|job| job.state == JobState::Done).map(|job| job.asked))
            };
            let now = self.clock.now();
            let since = last.as_ref().map_or(newest.created, |job| job.asked);
            // What takes long is not done again at once.
            let took = last.as_ref().and_then(|job| Some(job.ended?.since(job.began?))).unwrap_or_default();
            let failed = last.is_some_and(|job| job.state == JobState::Failed);
            if now.since(since) < PAUSE.max(took * 4).max(if failed { RETRY } else { Duration::ZERO }) {
                continue;
            }
            // A drift that a failed job was to follow is still to be followed.
            let followed = done.unwrap_or(newest.created);
            let why = match learning.retrain {
                Retrain::Never => None,
                Retrain::Every(every) => (now.since(since) >= every.0).then(|| format!("trainer: every {every}")),
                Retrain::OnDrift => {
                    let alarm = self.drifted(&key, learning).filter(|alarm| alarm.at > followed);
                    alarm.map(|Alarm { kind, what, .. }| format!("trainer: drift of {kind}: {what}"))
                }
            };
            if let Some(why) = why {
                self.add(&key, job, why).await?;
            }
        }
        Ok(())
    }

    /// The last drift of a model that is to begin a job.
    fn drifted(&self, key: &ModelKey, learning: &Learning) -> Option<Alarm> {
        last(self.known.alarms_of(key), learning)
    }

    /// When all was still as before the last drift.
    fn as_before(&self, key: &ModelKey, learning: &Learning) -> Option<Timestamp> {
        self.drifted(key, learning)?.since
    }

    /// Takes a job to its end, whatever that is.
    async fn work(&self, mut job: Job) {
        let outcome = self.attempt(&mut job).await;
        let (state, failure) = match outcome {
            Ok(()) => (JobState::Done, None),
            Err(refusal) => (JobState::Failed, Some(told(&refusal))),
        };
        (job.state, job.failure, job.ended) = (state, failure, Some(self.clock.now()));
        job.log = tail(&self.folder(&job).join(process::LOG));
        let Job { namespace, model, id, .. } = &job;
        match &job.failure {
            None => tracing::info!(%namespace, %model, id, version = ?job.version, "a job has trained a version"),
            Some(why) => tracing::warn!(%namespace, %model, id, why, "a job has failed: mantlet jobs"),
        }
        // Its data are in the log still, and in nobody's way here.
        let _ = tokio::fs::remove_file(self.folder(&job).join(process::DATA)).await;
        while let Err(refusal) = self.keep(&job).await {
            tracing::warn!(%refusal, "how a job ended can't be kept; it is tried again");
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn attempt(&self, job: &mut Job) -> Result<(), Refusal> {
        let key = (job.namespace.clone(), job.model.clone());
        let newest = self.newest(&key).await?.ok_or_else(|| Refusal::unknown_model(&key.0, &key.1))?;
        if newest.manifest.is_streaming() {
            return self.tune(job, &key).await;
        }
        let train = newest.manifest.spec.learning.train.clone();
        let train = train.ok_or_else(|| Refusal::new(Code::ManifestInvalid, "its newest version names no job"))?;
        let kind =
            self.settings.kinds.get(&train.job).cloned().ok_or_else(|| unknown(&train.job, &self.settings.kinds))?;
        self.begin(job).await?;
        let folder = self.folder(job);
        tokio::fs::create_dir_all(folder.join(process::STATE)).await.map_err(internal)?;
        let selection = Selection {
            model: &key,
            manifest: &newest.manifest,
            train: &train,
            drifted: self.as_before(&key, &newest.manifest.spec.learning),
            now: self.clock.now(),
        };
        let Selected { entries, examples } =
            selection.write(&*self.stores.streams, &folder.join(process::DATA)).await?;
        (job.entries, job.examples) = (entries, examples);
        if examples < train.least {
            let what = format!("there are {examples} examples, and spec.learning.train.least is {}", train.least);
            let hint = "only what versions were asked counts that capture features, and has a label: `mantlet models examples`";
            return Err(Refusal::new(Code::RequestMalformed, what).hint(hint));
        }
        let parameters = serde_json::to_vec(&train.parameters).map_err(internal)?;
        tokio::fs::write(folder.join(process::PARAMETERS), parameters).await.map_err(internal)?;
        self.keep(job).await?;
        self.train(&kind, &folder).await?;
        job.metrics = metrics(&folder).await?;
        let staged = self.stage(&folder.join(process::MODEL)).await?;
        job.version = Some(self.deploy(&key, None, Some(staged)).await?);
        Ok(())
    }

    /// Looks for a better learner than that of the version that answers.
    async fn tune(&self, job: &mut Job, key: &ModelKey) -> Result<(), Refusal> {
        let versions = self.stores.versions(key).await?;
        let current = self.stores.status(key).await?.and_then(|status| status.desired);
        let current = versions.iter().find(|record| Some(record.version) == current);
        let current = current.ok_or_else(|| Refusal::unknown_model(&key.0, &key.1))?;
        let mut manifest = current.manifest.clone();
        manifest.metadata.namespace = Some(key.0.clone());
        let online = |record: &VersionRecord| match &record.manifest.spec.source {
            Source::Online(online) => Some(online.clone()),
            _ => None,
        };
        let others = versions.iter().rev().filter_map(online).collect();
        self.begin(job).await?;
        let drifts = self.as_before(key, &manifest.spec.learning).into_iter().collect();
        let search = tuner::Search::open(&*self.stores.streams, key, (manifest, others), drifts).await?;
        let search = Arc::new(search);
        let found = search.run().await?;
        (job.metrics, job.examples, job.entries) = (Some(found.metrics), found.examples, found.entries);
        let (Some(learner), Some(newest)) = (found.learner, versions.last()) else { return Ok(()) };
        let (learner, state) = self.fit(job, search, &newest.manifest, learner).await?;
        let staged = match state {
            None => None,
            Some(state) => {
                let body = futures::stream::once(async move { Ok(bytes::Bytes::from(state)) }).boxed();
                Some(self.stores.artefacts.stage(body, LARGEST).await?.id)
            }
        };
        job.version = Some(self.deploy(key, Some(Source::Online(learner)), staged).await?);
        Ok(())
    }

    /// Has several workers learn what was found, where the manifest wants them and they can: the learner, and the state that it
    /// begins with. Otherwise it learns alone, from the log, as any new version does.
    async fn fit(
        &self,
        job: &mut Job,
        search: Arc<tuner::Search>,
        manifest: &types::Manifest,
        learner: Online,
    ) -> Result<(Online, Option<Vec<u8>>), Refusal> {
        let wanted = manifest.spec.learning.train.as_ref().map_or(1, |train| train.workers);
        if wanted == 1 {
            return Ok((learner, None));
        }
        let (workers, manifest, folder) = (wanted.min(self.settings.workers), manifest.clone(), self.folder(job));
        tokio::fs::create_dir_all(&folder).await.map_err(internal)?;
        let crew = workers::Crew::new(&self.settings, &folder);
        let alone = learner.clone();
        let shared = tuner::gently(move || search.fit(&manifest, &learner, workers)).await?;
        let (outcome, mut told) = match shared {
            Ok((fit, learner)) => {
                let (state, told) = crew.run(fit).await?;
                (state.map(|state| (learner, Some(state))), told)
            }
            Err(why) => (Err(why), serde_json::Map::new()),
        };
        let outcome = outcome.unwrap_or_else(|why| {
            crew.say(&format!("one learns alone: {why}"));
            told.insert("alone".into(), why.to_string().into());
            (alone, None)
        });
        if let Some(metrics) = &mut job.metrics {
            metrics["workers"] = told.into();
        }
        Ok(outcome)
    }

    /// Runs the program.
    async fn train(&self, kind: &Kind, folder: &Path) -> Result<(), Refusal> {
        for old in [process::MODEL, process::METRICS] {
            // None is there but after a crash.
            let _ = tokio::fs::remove_file(folder.join(old)).await;
        }
        let mut running = process::start(&self.settings.binary, kind, folder, self.settings.confine)?;
        let failed = |what: String| Err(Refusal::new(Code::Internal, what));
        match running.ended().await.map_err(internal)? {
            Some(0) => Ok(()),
            Some(process::LATE) => failed(format!("it was not done after {}", kind.time)),
            Some(code) if code > 128 => {
                failed(format!("signal {} ended it: it may have taken too much memory", code - 128))
            }
            Some(code) => failed(format!("it ended with {code}")),
            None => failed("it was killed".into()),
        }
    }

    /// Hands a model over.
    async fn stage(&self, path: &Path) -> Result<String, Refusal> {
        let file = tokio::fs::File::open(path).await;
        let file =
            file.map_err(|_| Refusal::new(Code::Internal, "it ended well and wrote no model to $MANTLET_JOB_MODEL"))?;
        let chunks = futures::stream::try_unfold(file, |mut file| async move {
            let mut chunk = vec![0; 1 << 20];
            let read = tokio::io::AsyncReadExt::read(&mut file, &mut chunk).await?;
            chunk.truncate(read);
            Ok::<_, std::io::Error>((read > 0).then(|| (bytes::Bytes::from(chunk), file)))
        });
        Ok(self.stores.artefacts.stage(chunks.boxed(), LARGEST).await?.id)
    }
}

/// What trains the next version after this one: the job that it names; the tuner, where it learns and a next one may prove
/// itself.
fn job_of(version: &VersionRecord) -> Option<&str> {
    let learning = &version.manifest.spec.learning;
    let tuned = version.manifest.is_streaming() && learning.promote != Promote::Off;
    match &learning.train {
        _ if tuned => Some(tuner::NAME),
        Some(train) if !version.manifest.is_streaming() => Some(&train.job),
        _ => None,
    }
}

/// Why a job failed, in words.
fn told(refusal: &Refusal) -> String {
    let hint = refusal.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", refusal.message)
}

/// That there is no such job.
fn unknown(name: &str, kinds: &Kinds) -> Refusal {
    let known: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let there = if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) };
    Refusal::new(Code::ManifestInvalid, format!("this node has no job `{name}`; {there}"))
        .hint("who runs the node names jobs in a file, and the file by the setting trainer.jobs")
}

/// What a job says of itself: one JSON object, where it wrote one.
async fn metrics(folder: &Path) -> Result<Option<serde_json::Value>, Refusal> {
    let path = folder.join(process::METRICS);
    let Ok(about) = tokio::fs::metadata(&path).await else { return Ok(None) };
    if about.len() > METRICS {
        return Err(internal(format!("its metrics are {} bytes, of {METRICS} at most", about.len())));
    }
    let bytes = tokio::fs::read(&path).await.map_err(internal)?;
    let read = serde_json::from_slice(&bytes);
    read.map(Some).map_err(|error| internal(format!("its metrics are no JSON: {error}")))
}

/// The last lines of a log.
fn tail(path: &Path) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}
