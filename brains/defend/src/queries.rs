//! What callers' rows give away about what they are after: a model's copy (extraction), or a row that it gets wrong (evasion).
//!
//! A gateway holds one [`Queries`] for each model and hands it the rows that were answered. What comes back are two scores of the
//! caller, which are calibrated by namespace ([`online::calibrate`]), how much of the model it has taken, and what plain rules say.
//! Who looks for a boundary asks rows that nobody meets by chance: near each other with unlike answers, on lines, mirrored,
//! ever closer to a change. Who copies with made-up rows asks for what never comes, and who chooses the most telling rows asks
//! where answers are unsure. Rows of one who copies with natural rows look like everybody's: only the budget bounds it.
//!
//! Answers are made coarser in [`degrade`](crate::degrade).

use online::Random;

mod answer;
mod artificial;
mod caller;
mod callers;
mod chains;
mod evidence;
mod joint;
mod natural;
mod neighbours;
mod rates;
mod scale;
mod sketch;
#[cfg(test)]
mod tests;

use answer::Answer;
pub use answer::Said;
use artificial::Made;
use caller::{Caller, Counts};
use callers::Callers;
use chains::{Chains, Walk};
pub use evidence::{Evidence, Rule};
use natural::{Learnt, Natural};
use neighbours::{Asked, Near, Neighbours};
use rates::Rates;
use sketch::{Sketch, Sketcher};

/// How many spacings of ordinary rows two rows are apart at most to be near.
const NEAR: f32 = 0.5;
/// By how much a near row with no other answer near speaks against a search, in nats.
const UNLIKE_NONE: f32 = 0.3;
/// The same of a row that is near none of its caller's: of a batch of thousands some are near each other by chance.
const UNLIKE_FAR: f32 = 0.05;
/// The least distance that counts, in spacings: ordinary noise may be as small.
const LEAST_NEAR: f32 = 0.01;
/// The distance up to which two rows are the same.
const SAME: f32 = 1e-6;
/// The share of ordinary rows that are as far from all others, below which a row is strange.
const STRANGE: f32 = 0.02;
/// The share of ordinary rows whose columns hang together as little, below which a row is torn.
const TORN: f32 = 0.05;
/// The share of ordinary answers that are as unsure, up to which an answer is beside a boundary.
const UNSURE: f32 = 0.1;
/// The share of columns from which on a row is very odd.
const VERY_ODD: f32 = 0.2;
/// How often a caller's own answers along a chain change before it answers for what others do along it.
const TURNS: u32 = 2;
/// Score from which on a caller teaches nothing.
const SUSPECT: f32 = 6.0;
/// Rows of a caller that make it one of those who say what is ordinary, and how many of these there must be beside it for that to count in full: where
/// one caller alone asks a model, whatever it asks is ordinary there.
const TAUGHT: u32 = 8;
const TEACHERS: f32 = 4.0;
/// Rows of a caller that teach; of further ones, ever fewer.
const TEACHES: u64 = 32;
/// Settled callers who say what is ordinary by themselves; with fewer everybody does. Windows in which everybody does of a model that is new.
const REGULARS: u32 = 8;
const YOUNG: f64 = 2.0 * caller::SETTLED as f64;
/// Rows up to which a caller is one of the crowd.
const CROWD: f32 = 20.0;

/// How a [`Queries`] counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Seconds in which a caller's score only grows. Default 60.
    pub window: f64,
    /// Rows that are remembered, 280 bytes each. Default 16,384.
    pub rows: usize,
    /// Callers that are remembered, 512 bytes each. Default 4,096.
    pub callers: usize,
    /// Bits that a copy of the model takes: what is spent counts in units of these. Default 2,000.
    pub size: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { window: 60.0, rows: 16_384, callers: 4_096, size: 2_000.0 }
    }
}

/// What is known of a caller after a row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// Evidence that the caller looks for a row that the model gets wrong: 1 and nats, the greatest in its window.
    pub evasion: f64,
    /// Evidence that it copies the model by rows that nobody asks: as above.
    pub extraction: f64,
    /// What it has spent of the model's size, half of it forgotten in a day.
    pub spent: f64,
    /// What this row cost, from 0 to 1 bit.
    pub price: f64,
    /// What the plain rules say.
    pub rule: Option<Rule>,
}

/// Looks at the rows that one model is asked.
///
/// - A row becomes 64 numbers, in units of each column's spread, learnt from ordinary rows.
/// - Those asked lately are **neighbours** by random projections, of all callers together: rows that several accounts take turns
///   with are one chain. An exact repeat, as of a retry or a cron job, is no evidence.
/// - Evidence is what a caller's **own** rows say beside each other (provenance: QPA). Rows that others asked nearby say nothing of
///   it, so that nobody can have an ordinary caller taken for an attacker by asking beside its rows. Only a caller that is new, with
///   most of its rows along a chain and answers that change there, answers for the others on it too.
/// - **Evasion** (Blacklight: Li et al., USENIX Security 2022; adaptive: OARS, Feng et al., CCS 2023; graphs of queries: QPA, Li et
///   al. 2024) is near rows with unlike answers, each counted by how seldom that is at such a distance, less with each in one
///   chain; rows on a line, as a binary search makes; rows that mirror each other column by column; margins that fall more often
///   than by chance.
/// - **Extraction** (PRADA: Juuti et al., EuroS&P 2019; Atli et al. 2020) is rows far from all ordinary ones, values outside of
///   their column's range, values that do not go together (a tree of columns: Chow and Liu 1968), a block's mean apart from the sample's,
///   answers beside a boundary more often than others'. What callers of few rows do counts together as well, up to twice what
///   each one's own rows say.
/// - What is **ordinary** is learnt of callers that are not suspect, of each ever fewer rows (32, and then as its logarithm); once a model
///   is sixteen windows old and has eight callers that asked in eight windows on end without suspicion, only of such, so that many new
///   accounts can't teach it theirs.
/// - Each kind of evidence is a rate against the ordinary one, in nats; rows saturate at 50, since ordinary callers differ.
///
/// Rows are \[columns\], NaN and infinities are missing values; a row of another width is not looked at. 5 to 20 µs a row of at most
/// 1,024 columns; of more, windows of 1,024 are looked at. What is ordinary is learnt after 64 rows, 256, 1,024, 4,096, and each
/// 16,384 from there, in some milliseconds; what was near is forgotten then. At most 10 MB for a model.
///
/// Blind spots: natural rows, chosen without the model, are a copy's cost alone (`spent`). An attacker that shuns what is near, by
/// waiting for the memory to pass or by steps as large as ordinary ones are apart, is not seen; one with many accounts that have been
/// here for long is seen later, each by its own rows. Nothing is said before 64 rows, and of rows that are not ordinary nothing to whoever asks alone.
///
/// ```
/// use defend::queries::{Queries, Said, Settings};
///
/// let mut queries = Queries::new(Settings::default(), 4, 7);
/// for n in 0..200 {
///     let row = [0.1, 0.7, 0.3, 0.9].map(|step| (f64::from(n) * step).sin());
///     queries.observe(n as u64 % 5, &row, Said::Scores(&[0.9, 0.1]), f64::from(n));
/// }
/// let (mut low, high) = ([0.0; 4], [0.5, -0.5, 0.25, 0.5]);
/// let mut seen = Default::default();
/// for n in 0..12 {
///     low = std::array::from_fn(|at| (low[at] + high[at]) / 2.0);
///     seen = queries.observe(99, &low, Said::Label(u32::from(n % 2 == 0)), 200.0 + f64::from(n));
/// }
/// assert!(seen.evasion > 10.0, "a binary search lies on one line: {seen:?}");
/// ```
#[derive(Debug, Clone)]
pub struct Queries {
    settings: Settings,
    sketcher: Sketcher,
    natural: Natural,
    neighbours: Neighbours,
    chains: Chains,
    rates: Rates,
    callers: Callers,
    crowd: Counts,
    crowd_at: f64,
    /// Callers who said what is ordinary.
    teachers: u32,
    /// Callers that are settled, and when the first row came.
    settled: u32,
    begun: Option<f64>,
    picked: Vec<f32>,
    /// Rows of another width than the model's.
    misshapen: u64,
}

/// A row, and all that is found out about it alone.
struct Row {
    sketch: Sketch,
    answer: Answer,
    near: Near,
    counts: Counts,
    /// How far the nearest is, in spacings; and if they are near, the nearest of the caller's own, and of its own with another answer.
    nearest: Option<f32>,
    own: Option<f32>,
    other: Option<f32>,
    /// The nearest of another answer, if it is near, by whomever.
    unlike: Option<f32>,
    price: f32,
    is_near: bool,
    /// How many values are odd.
    odd: u32,
}

impl Queries {
    /// One for a model of rows with `width` numbers. `seed` salts where rows fall, and should be a secret of the node's.
    pub fn new(settings: Settings, width: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sketcher = Sketcher::new(width, &mut random);
        Self {
            natural: Natural::new(sketcher.looked_at(), random.fork()),
            neighbours: Neighbours::new(settings.rows.clamp(64, 1 << 22), &mut random),
            callers: Callers::new(settings.callers, random.fork()),
            sketcher,
            settings,
            chains: Chains::default(),
            rates: Rates::default(),
            crowd: Counts::default(),
            crowd_at: 0.0,
            teachers: 0,
            settled: 0,
            begun: None,
            picked: Vec::new(),
            misshapen: 0,
        }
    }

    /// Takes a row that was answered. `now` is in seconds, from whenever; a time before an earlier one counts as that.
    pub fn observe(&mut self, caller: u64, row: &[f64], said: Said<'_>, now: f64) -> Seen {
        self.observe_by(caller, (row.len(), |at| row.get(at).copied().unwrap_or(f64::NAN)), said, now)
    }

    /// The same of a row of so many numbers, of which those are asked for that are looked at: 1,024 at most.
    pub fn observe_by(
        &mut self,
        caller: u64,
        (width, row): (usize, impl Fn(usize) -> f64),
        said: Said<'_>,
        now: f64,
    ) -> Seen {
        if width != self.sketcher.width() || !now.is_finite() {
            self.misshapen += 1;
            return Seen::default();
        }
        self.sketcher.pick(row, &mut self.picked);
        let answer = Answer::of(said);
        let window = self.settings.window;
        let Some(of) = self.callers.of(caller, now) else { return Seen::default() };
        self.settled += u32::from(of.pass(now, window));
        of.asked += 1;
        of.window.rows += 1;
        match self.look(caller, answer) {
            Some((row, keys)) => {
                self.take(caller, &row, &keys, now);
                Seen { price: row.price.into(), ..self.seen(caller) }
            }
            None => {
                self.teach(caller, answer, None);
                self.seen(caller)
            }
        }
    }

    /// What a row is, by itself and beside those asked before. `None` while nothing was learnt.
    fn look(&self, caller: u64, answer: Answer) -> Option<(Row, neighbours::Keys)> {
        let learnt = self.natural.learnt()?;
        let sketch = self.sketcher.sketch(&self.picked, &learnt.scale);
        let keys = self.neighbours.keys(&sketch);
        let known = self.callers.get(caller);
        let newest = known.map_or(&[][..], Caller::recent).iter().copied();
        let near = self.neighbours.near((caller, answer.label), &sketch, &keys, newest, &self.sketcher);
        let spacings = |found: Option<(u64, f32)>| found.map(|(_, distance)| distance / learnt.spacing);
        let within = |found| spacings(found).filter(|distance| *distance <= NEAR);
        let (nearest, own, other) = (spacings(near.nearest), within(near.own), within(near.other));
        let unlike = within(near.unlike);
        let odd = learnt.scale.odd(&self.picked);
        let mut row = Row {
            sketch,
            answer,
            near,
            counts: Counts::default(),
            nearest,
            own,
            other,
            unlike,
            price: 0.0,
            odd,
            is_near: false,
        };
        row.is_near = !row.is_repeat() && nearest.is_some_and(|nearest| nearest <= NEAR);
        if !row.is_repeat() {
            row.counts = self.count(learnt, &row);
            row.price = (nearest.unwrap_or(1.0).min(1.0) * answer.bits).clamp(0.0, 1.0);
            let made = self.made(learnt, caller, &row);
            row.counts.line = made.on_line.map(|is| f32::from(u8::from(is)));
            row.counts.mirrored = f32::from(u8::from(made.mirrored));
        }
        Some((row, keys))
    }

    fn count(&self, learnt: &Learnt, row: &Row) -> Counts {
        let (p, _) = learnt.strangeness(&row.sketch, &self.sketcher);
        let odd = row.odd;
        let is = |yes: bool| f32::from(u8::from(yes));
        let near = row.own.is_some();
        // Near a row that is odd itself, it is odd as well.
        let before = row.near.own.and_then(|(place, _)| self.neighbours.get(place));
        let odder = near && before.is_some_and(|before| before.odd < odd);
        let unsure = row.answer.margin.is_some_and(|margin| learnt.unsure(margin) <= UNSURE);
        Counts {
            rows: 1.0,
            near: is(near),
            near_odd: is(odder),
            strange: is(p <= STRANGE),
            odd: is(odd > 0),
            very_odd: is(odd > 1 && odd as f32 >= VERY_ODD * self.picked.len() as f32),
            torn: is(learnt.joint.torn(&row.sketch) <= TORN),
            unsure: is(unsure),
            ..Counts::default()
        }
    }

    /// Whether a row was made from two of those that its caller asked itself: lately, or that are nearest.
    fn made(&self, learnt: &Learnt, caller: u64, row: &Row) -> Made {
        let known = self.callers.get(caller);
        let own = known.map_or(&[][..], Caller::recent).iter().copied();
        let anchor = known.and_then(|known| known.anchor);
        let near = row.near.own.map(|(place, _)| place);
        let chain = near.and_then(|place| self.neighbours.get(place)?.chain);
        let first = chain.and_then(|chain| self.chains.get(chain)).map(|chain| chain.first);
        let mut bases: [Option<&Sketch>; caller::RECENT + 3] = [None; caller::RECENT + 3];
        for (into, place) in bases.iter_mut().zip(own.chain([anchor, first, near].into_iter().flatten())) {
            let base = self.neighbours.get(place).filter(|base| base.owner == caller);
            *into = base.map(|base| &base.sketch);
        }
        let free = if row.odd > 0 { &[true; sketch::SIZE] } else { &learnt.free };
        let single = self.sketcher.single();
        let smooth = if learnt.scale.is_off_grid(&self.picked) { &single } else { &learnt.smooth };
        let mut made = Made::default();
        for (at, one) in bases.iter().enumerate().filter_map(|(at, base)| base.map(|base| (at, base))) {
            for other in bases.iter().skip(at + 1).flatten() {
                made.look(&row.sketch, one, other, smooth, free);
            }
        }
        made
    }

    /// Takes a row in that was looked at.
    fn take(&mut self, id: u64, row: &Row, keys: &neighbours::Keys, now: f64) {
        let Some(caller) = self.callers.of(id, now) else { return };
        if row.is_repeat() {
            let place = row.near.own.filter(|(_, distance)| *distance <= SAME).map(|(place, _)| place);
            // What somebody else asked before is the caller's own as well from now on.
            let place = place.unwrap_or_else(|| self.neighbours.add(row.asked(id, None), keys));
            caller.remember(place, caller.fresh);
            return;
        }
        if row.own.is_some() {
            caller.window.near += 1;
        } else {
            caller.flips = (caller.flips - UNLIKE_FAR).max(0.0);
        }
        caller.measure(f64::from(row.nearest.unwrap_or(10.0)));
        caller.quick.add(&row.counts);
        let new = row.counts.times(row.novelty());
        caller.slow.add(&new);
        caller.spent += f64::from(row.price);
        self.crowd_in(id, &new, now);
        let chain = self.link(id, row, now);
        let place = self.neighbours.add(row.asked(id, chain), keys);
        self.compare_block(id, &row.sketch, now);
        if let Some(caller) = self.callers.of(id, now) {
            caller.remember(place, caller.fresh);
        }
        self.score(id, now);
        self.teach(id, row.answer, Some(row));
    }

    /// What callers of few rows ask counts together.
    fn crowd_in(&mut self, id: u64, counts: &Counts, now: f64) {
        self.crowd.fade((-(now - self.crowd_at).max(0.0) / 600.0).exp2() as f32);
        self.crowd_at = now.max(self.crowd_at);
        if self.callers.get(id).is_some_and(|caller| caller.slow.rows <= CROWD) {
            self.crowd.add(counts);
        }
    }

    /// Lets a row join the chain of its neighbour. Who came near others' rows alone is no further on its own way: an attacker may ask
    /// rows beside anybody's.
    fn link(&mut self, id: u64, row: &Row, now: f64) -> Option<u32> {
        let (place, _) = row.near.nearest.filter(|_| row.is_near)?;
        let (chain, links) = self.chains.join(self.neighbours.get(place)?.chain, place, now)?;
        self.neighbours.join(place, chain);
        let rates = self.rates;
        let rarity = |other: f32| rates.flips() * other.clamp(LEAST_NEAR, 1.0);
        let caller = self.callers.of(id, now)?;
        if caller.walk.chain != chain {
            caller.walk = Walk::new(chain, row.answer.label);
        }
        let walk = &mut caller.walk;
        walk.step(row.answer.label, row.unlike.map(rarity));
        if walk.turns >= TURNS {
            links.join(id);
        }
        match (row.other, row.unlike) {
            (Some(other), _) => caller.flips += links.flip(rarity(other)),
            // Where others' rows have other answers a boundary is: that it is there says less and less, and nothing of the caller.
            (None, Some(unlike)) => {
                links.flip(rarity(unlike));
            }
            (None, None) => caller.flips = (caller.flips - UNLIKE_NONE).max(0.0),
        }
        if let Some(margin) = row.answer.margin {
            walk.descend(margin);
            caller.descent = caller.descent.max(walk.descent);
        }
        Some(chain)
    }

    fn compare_block(&mut self, id: u64, sketch: &Sketch, now: f64) {
        let Some(caller) = self.callers.of(id, now) else { return };
        self.natural.wave(sketch, &mut caller.waves);
        caller.block += 1;
        if let (true, Some(learnt)) = (caller.block_is_full(), self.natural.learnt()) {
            let discrepancy = learnt.discrepancy(&caller.waves, caller.block);
            caller.discrepancy = caller.discrepancy.max(2.0 * (discrepancy / 4.0).max(1.0).ln());
            caller.waves = Default::default();
            caller.block = 0;
        }
    }

    /// The caller's scores, which only grow in a window.
    fn score(&mut self, id: u64, now: f64) {
        let (rates, crowd, teachers) = (self.rates, self.crowd, self.teachers);
        let Some(caller) = self.callers.of(id, now) else { return };
        let own = evidence::evasion(caller, &rates);
        if let Some(chain) = self.chains.get_mut(caller.walk.chain) {
            caller.shared = caller.shared.max(chain.suspect(own).min(evidence::share(caller, &rates)));
        }
        let evasion = own.max(caller.shared);
        let others = teachers.saturating_sub(u32::from(caller.taught >= TAUGHT));
        let extraction = evidence::extraction(caller, &rates, &crowd, CROWD) * (others as f32 / TEACHERS).min(1.0);
        caller.window.evasion = caller.window.evasion.max(evasion);
        caller.window.extraction = caller.window.extraction.max(extraction);
    }

    /// Learns what is ordinary, of who isn't suspect.
    fn teach(&mut self, id: u64, answer: Answer, row: Option<&Row>) {
        let now = self.callers.get(id).map_or(0.0, |caller| caller.last);
        let is_young = now - *self.begun.get_or_insert(now) < YOUNG * self.settings.window;
        let has_regulars = !is_young && self.settled >= REGULARS;
        let Some(caller) = self.callers.of(id, now) else { return };
        // Newcomers beside them say nothing: whoever has many accounts would have its own rows taken for ordinary.
        if caller.is_suspect() || (has_regulars && !caller.is_settled()) {
            return;
        }
        // The first rows teach, then every second, third, …
        let step = (caller.asked / TEACHES).max(1);
        if caller.asked % step != 0 {
            return;
        }
        caller.taught = caller.taught.saturating_add(1);
        if caller.taught == TAUGHT {
            self.teachers = self.teachers.saturating_add(1);
        }
        if let Some(row) = row {
            let new = row.nearest.unwrap_or(1.0).min(1.0);
            let full = caller.recent().len() == caller::RECENT;
            self.rates.teach(
                &row.counts,
                (new, full),
                row.is_near.then(|| (row.nearest.unwrap_or(1.0), row.unlike.is_some())),
            );
        }
        let margin = answer.margin.unwrap_or(1.0);
        if self.natural.teach(&self.picked, margin, &self.sketcher)
            && let Some(learnt) = self.natural.learnt()
        {
            self.neighbours.restart(NEAR * learnt.spacing, &self.sketcher);
        }
    }

    fn seen(&self, id: u64) -> Seen {
        let Some(caller) = self.callers.get(id) else { return Seen::default() };
        Seen {
            evasion: 1.0 + f64::from(caller.window.evasion),
            extraction: 1.0 + f64::from(caller.window.extraction),
            spent: caller.spent / self.settings.size.max(1.0),
            price: 0.0,
            rule: evidence::rule(caller),
        }
    }

    /// What speaks for and against a caller, for people. `None` of one that isn't known.
    pub fn evidence(&self, caller: u64) -> Option<Evidence> {
        self.callers.get(caller).map(|caller| evidence::of(caller, self.settings.size))
    }

    /// How many callers are remembered.
    pub fn callers(&self) -> usize {
        self.callers.len()
    }

    /// How many callers were forgotten since there were too many.
    pub fn forgotten(&self) -> u64 {
        self.callers.forgotten
    }

    /// How many rows were not looked at, being of another width, or at no time.
    pub fn misshapen(&self) -> u64 {
        self.misshapen
    }
}

impl Row {
    /// What is remembered of it.
    fn asked(&self, owner: u64, chain: Option<u32>) -> Asked {
        Asked { sketch: self.sketch, label: self.answer.label, odd: self.odd, chain, owner }
    }

    /// How much of a row is new, from 0 of one that is near another to 1 of one as far as ordinary ones are apart: a frame of a film is
    /// no new row.
    fn novelty(&self) -> f32 {
        let nearest = self.nearest.unwrap_or(1.0);
        (2.0 * nearest / NEAR - 1.0).clamp(0.0, 1.0)
    }

    fn is_repeat(&self) -> bool {
        self.near.nearest.is_some_and(|(_, distance)| distance <= SAME)
    }
}
