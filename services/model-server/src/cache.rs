//! The models of a model server: which are in memory, who goes when room is needed, how they are.
//!
//! A model that is not in memory is loaded when it is asked for, one at a time. Room is made by letting go of those
//! that were used least recently and have nothing to do; one in use never goes.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rpc::model_server::Load;
use tokio::time::Instant;
use types::{ModelName, Version};

use crate::{
    batcher::{Pool, Queue},
    load::{Form, Loaded},
    stand::Stand,
    streaming::Streaming,
    trial::Golden,
    upstream::Upstream,
};

/// Golden inputs are tried no oftener than this.
const PROBE: Duration = Duration::from_secs(10);
/// And so seldom that they take no more than this part of one core.
const SHARE: u32 = 100;
/// Wrong or missing answers in a row that make a model sick.
const MISSES: u32 = 2;

/// One model, in memory or not.
pub(crate) struct Slot {
    pub(crate) load: Load,
    /// The way to it, where another server holds it.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The model, where it is one that learns: always in memory.
    pub(crate) streaming: Option<Streaming>,
    pool: RwLock<Option<Pool>>,
    /// What was found out when it was first loaded.
    learned: Mutex<Option<Learned>>,
    users: AtomicU32,
    /// When it was last used, in microseconds of the cache's clock.
    used: AtomicU64,
    bytes: AtomicU64,
    /// One at a time wakes it.
    pub(crate) waking: tokio::sync::Mutex<()>,
    probing: AtomicBool,
    probed: Mutex<Instant>,
    misses: AtomicU32,
    /// What is counted of requests to it.
    pub(crate) stand: Arc<Stand>,
}

#[derive(Clone)]
struct Learned {
    form: Form,
    golden: Option<Golden>,
}

impl Slot {
    /// A model that is known and not in memory.
    pub(crate) fn cold(load: Load) -> Self {
        Self {
            load,
            upstream: None,
            streaming: None,
            pool: RwLock::new(None),
            learned: Mutex::new(None),
            users: AtomicU32::new(0),
            used: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            waking: tokio::sync::Mutex::new(()),
            probing: AtomicBool::new(false),
            probed: Mutex::new(Instant::now()),
            misses: AtomicU32::new(0),
            stand: Arc::default(),
        }
    }

    /// A model that another server holds.
    pub(crate) fn outward(load: Load, upstream: Upstream) -> Self {
        Self { upstream: Some(Arc::new(upstream)), ..Self::cold(load) }
    }

    /// A streaming model; what was counted before its state changed goes on.
    pub(crate) fn streaming(load: Load, streaming: Streaming, stand: Arc<Stand>) -> Self {
        let bytes = AtomicU64::new(streaming.model().memory() as u64);
        Self { streaming: Some(streaming), bytes, stand, ..Self::cold(load) }
    }

    /// A model that was just loaded.
    pub(crate) fn warm(load: Load, loaded: Loaded, bytes: u64) -> Self {
        let slot = Self::cold(load);
        slot.fill(loaded, bytes);
        slot
    }

    /// Takes in what was loaded.
    pub(crate) fn fill(&self, loaded: Loaded, bytes: u64) {
        let Loaded { pool, form, golden, .. } = loaded;
        *self.learned.lock() = Some(Learned { form, golden });
        self.refill(pool, bytes);
    }

    /// Takes in what was loaded again.
    pub(crate) fn refill(&self, pool: Pool, bytes: u64) {
        *self.probed.lock() = Instant::now();
        self.bytes.store(bytes, Ordering::Relaxed);
        *self.pool.write() = Some(pool);
    }

    /// In what form it was loaded before.
    pub(crate) fn form(&self) -> Option<Form> {
        self.learned.lock().as_ref().map(|learned| learned.form.clone())
    }

    /// Bytes that it takes, or took when it was last in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_warm(&self) -> bool {
        self.pool.read().is_some()
    }

    /// Where to wait; nothing while it is not in memory.
    pub(crate) fn queue(&self) -> Option<Arc<Queue>> {
        self.pool.read().as_ref().map(|pool| pool.queue().clone())
    }

    /// While the guard lives, it stays in memory.
    pub(crate) fn enter(self: &Arc<Self>) -> User {
        self.users.fetch_add(1, Ordering::SeqCst);
        User(self.clone())
    }

    pub(crate) fn is_used(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 0
    }

    /// Takes it out of memory, unless somebody uses it.
    fn take_idle(&self) -> Option<Pool> {
        let mut pool = self.pool.write();
        if self.is_used() { None } else { pool.take() }
    }

    /// Takes it out of memory.
    pub(crate) fn take(&self) -> Option<Pool> {
        self.pool.write().take()
    }

    fn is_well(&self) -> bool {
        self.misses.load(Ordering::Relaxed) < MISSES && self.pool.read().as_ref().is_none_or(Pool::whole)
    }

    /// Its golden input, if it is time to try it; whoever gets it says how it went.
    fn due(&self) -> Option<Golden> {
        let learned = self.learned.lock();
        let golden = learned.as_ref()?.golden.as_ref().filter(|_| self.is_warm())?;
        let pause = PROBE.max(golden.took.saturating_mul(SHARE));
        (self.probed.lock().elapsed() >= pause && !self.probing.swap(true, Ordering::Relaxed)).then(|| golden.clone())
    }

    /// Notes whether its golden input was answered as it should be.
    pub(crate) fn probed(&self, well: bool) {
        *self.probed.lock() = Instant::now();
        if well {
            self.misses.store(0, Ordering::Relaxed);
        } else {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
        self.probing.store(false, Ordering::Relaxed);
    }
}

/// Somebody who uses a model.
pub(crate) struct User(Arc<Slot>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All models of a model server.
pub(crate) struct Cache {
    slots: RwLock<HashMap<ModelName, Vec<Arc<Slot>>>>,
    epoch: Instant,
    /// Bytes that those in memory may take together: as things are, and where the machine has memory enough.
    room: AtomicU64,
    most: u64,
    unloaded: AtomicU64,
}

impl Cache {
    pub(crate) fn new(room: u64) -> Self {
        let (epoch, unloaded) = (Instant::now(), AtomicU64::new(0));
        Self { slots: RwLock::new(HashMap::new()), epoch, room: AtomicU64::new(room), most: room, unloaded }
    }

    /// The model asked for, which counts as used now; without a version, the newest.
    pub(crate) fn get(&self, model: &ModelName, version: Option<Version>) -> Option<Arc<Slot>> {
        let slot = self.find(model, version)?;
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        slot.used.store(now, Ordering::Relaxed);
        Some(slot)
    }

    /// The same, which does not count as using it.
    pub(crate) fn find(&self, model: &ModelName, version: Option<Version>) -> Option<Arc<Slot>> {
        let slots = self.slots.read();
        let versions = slots.get(model)?.iter();
        let slot = match version {
            Some(version) => versions.clone().find(|slot| slot.load.version == version),
            None => versions.max_by_key(|slot| slot.load.version),
        };
        slot.cloned()
    }

    /// Adds a model; returns the one it replaces.
    pub(crate) fn insert(&self, slot: Arc<Slot>) -> Option<Arc<Slot>> {
        let mut slots = self.slots.write();
        let versions = slots.entry(slot.load.model.clone()).or_default();
        let before = versions.iter().position(|old| old.load.version == slot.load.version);
        let before = before.map(|place| versions.swap_remove(place));
        versions.push(slot);
        before
    }

    /// Puts a model in the place of the same version; nowhere, when that is gone.
    pub(crate) fn swap(&self, slot: Arc<Slot>) {
        let mut slots = self.slots.write();
        let versions = slots.get_mut(&slot.load.model);
        let before = versions.and_then(|all| all.iter_mut().find(|old| old.load.version == slot.load.version));
        if let Some(before) = before {
            *before = slot;
        }
    }

    pub(crate) fn remove(&self, model: &ModelName, version: Version) -> Option<Arc<Slot>> {
        let mut slots = self.slots.write();
        let versions = slots.get_mut(model)?;
        let place = versions.iter().position(|slot| slot.load.version == version)?;
        let slot = versions.swap_remove(place);
        if versions.is_empty() {
            slots.remove(model);
        }
        Some(slot)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().flatten().cloned().collect()
    }

    /// Whether every model is well.
    pub(crate) fn is_well(&self) -> bool {
        self.slots.read().values().flatten().all(|slot| slot.is_well())
    }

    /// Models whose golden input is to be tried now, a few at a time.
    pub(crate) fn due(&self, at_most: usize) -> Vec<(Arc<Slot>, Golden)> {
        let slots = self.slots.read();
        slots.values().flatten().filter_map(|slot| Some((slot.clone(), slot.due()?))).take(at_most).collect()
    }

    /// Models out of memory so far.
    pub(crate) fn unloaded(&self) -> u64 {
        self.unloaded.load(Ordering::Relaxed)
    }

    /// Lets its models take so many bytes less than they do, and takes as many out of memory as that needs and as are idle; the
    /// caller lets go of them. With 0 they may take as much as at the start again.
    pub(crate) fn relieve(&self, bytes: u64) -> (Vec<Pool>, u64) {
        if bytes == 0 {
            self.room.store(self.most, Ordering::Relaxed);
            return (Vec::new(), 0);
        }
        let taken = self.taken();
        self.room.store(taken.saturating_sub(bytes).min(self.most), Ordering::Relaxed);
        // What is in use stays: it goes when others come, like everything beyond the room.
        let gone = self.let_go(0);
        (gone, taken.saturating_sub(self.taken()))
    }

    /// Those that are in memory.
    fn warm(&self) -> Vec<Arc<Slot>> {
        self.all().into_iter().filter(|slot| slot.is_warm() || slot.streaming.is_some()).collect()
    }

    /// Bytes that those in memory take.
    fn taken(&self) -> u64 {
        self.warm().iter().map(|slot| slot.bytes()).sum()
    }

    /// Takes idle models out of memory, the least recently used first, until `need` more bytes have room; the caller
    /// lets go of them. An error is how many bytes are lacking.
    pub(crate) fn make_room(&self, need: u64) -> Result<Vec<Pool>, u64> {
        let gone = self.let_go(need);
        let (taken, room) = (self.taken(), self.room.load(Ordering::Relaxed));
        let lacking = taken.saturating_add(need).saturating_sub(room);
        // With nothing else in memory it may try: the limit on the process decides.
        if lacking == 0 || taken == 0 { Ok(gone) } else { Err(lacking) }
    }

    /// Takes idle models out of memory, the least recently used first, until `need` more bytes have room.
    fn let_go(&self, need: u64) -> Vec<Pool> {
        let (warm, room) = (self.warm(), self.room.load(Ordering::Relaxed));
        let mut taken: u64 = warm.iter().map(|slot| slot.bytes()).sum();
        let mut idle: Vec<&Arc<Slot>> = warm.iter().filter(|slot| !slot.is_used()).collect();
        idle.sort_by_key(|slot| slot.used.load(Ordering::Relaxed));
        let mut gone = Vec::new();
        for slot in idle {
            if taken.saturating_add(need) <= room {
                break;
            }
            if let Some(pool) = slot.take_idle() {
                tracing::debug!(model = %slot.load.model, version = %slot.load.version, "out of memory to make room");
                taken -= slot.bytes();
                gone.push(pool);
            }
        }
        self.unloaded.fetch_add(u64::try_from(gone.len()).unwrap_or(0), Ordering::Relaxed);
        gone
    }
}

/// Reads how much private memory the process has; opened before the process confines itself.
#[derive(Debug)]
pub struct Gauge {
    file: File,
    /// Bytes of a page of memory; asked for before, too.
    page: u64,
}

impl Gauge {
    /// Opens it; `None` where the system has none.
    pub fn open() -> Option<Self> {
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Some(Self { file: File::open("/proc/self/statm").ok()?, page })
    }

    /// Bytes of private writable memory and stack, as the limit on the process counts them.
    pub fn bytes(&self) -> Option<u64> {
        self.pages()?.get(5)?.checked_mul(self.page)
    }

    /// Bytes of private memory that are in use: what the machine has back when the process ends.
    pub fn resident(&self) -> Option<u64> {
        let pages = self.pages()?;
        pages.get(1)?.saturating_sub(*pages.get(2)?).checked_mul(self.page)
    }

    /// Pages: all, in use, shared, code, none, private, none.
    fn pages(&self) -> Option<Vec<u64>> {
        let mut text = [0; 128];
        let length = self.file.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split_whitespace().map(|number| number.parse().ok()).collect()
    }
}
