//! What a gateway counts of everybody who asks, window by window, and what its detectors read beside that.
//!
//! One entry for each subject and model. There are no more than [`CAPACITY`]: when it is full, an eighth goes, of whom least is
//! suspicious first, and of those alike whoever was away longest. What was read of whoever goes is remembered in a count-min sketch
//! (Cormode and Muthukrishnan 2005), which only ever says too much, so that a suspect who waits until it is forgotten is suspect
//! when it comes back, for half an hour at least.
//!
//! O(1) a request, some 100 ns; at most 16 MB.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

use types::{
    ModelName, Timestamp,
    defence::{Counts, Reading, Sighting, Subject},
    manifest::Autonomy,
};

/// Subjects × models that are counted.
pub const CAPACITY: usize = 32_768;
/// A score that can't wait to be told.
const HOT: f64 = 6.0;
/// Different places that are told apart in a window.
const PLACES: usize = 24;
/// The sketch: rows × columns.
const ROWS: usize = 4;
const COLUMNS: usize = 4_096;
/// How long the sketch remembers at least; twice as long at most.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(1_800);

/// One request, as it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Rows.
    pub rows: u64,
    /// Bytes that came.
    pub bytes: u64,
    /// Microseconds that the model computed.
    pub cost_us: u64,
    /// How it ended.
    pub end: Ended,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ended {
    /// It was answered, or failed for no fault of whoever asked.
    #[default]
    Answered,
    /// What was in it was wrong.
    Fault,
    /// It was for what is not there, or not for it: a number for the place.
    Miss(u64),
    /// A limit or restriction kept it out.
    KeptOut,
}

/// Who asks, and what is known of that.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Whom it is counted for.
    pub subject: &'a Subject,
    /// At which model.
    pub model: Option<&'a ModelName>,
    /// How far agents may go there.
    pub autonomy: Option<Autonomy>,
    /// Whether it is an admin.
    pub admin: bool,
}

#[derive(Debug)]
struct Entry {
    window: u64,
    at: Timestamp,
    counts: Counts,
    autonomy: Option<Autonomy>,
    admin: bool,
    changed: bool,
    /// Whether it can't wait to be told.
    hot: bool,
    streak: u64,
    places: Vec<u64>,
    readings: Vec<Reading>,
    risk: f32,
}

/// Everybody who asked lately.
#[derive(Debug)]
pub struct Crowd {
    /// Milliseconds of a window.
    length: u64,
    entries: HashMap<(Subject, Option<ModelName>), Entry>,
    suspects: [Sketch; 2],
    turned: Timestamp,
    hot: bool,
}

/// A count-min sketch of the greatest risk.
#[derive(Debug, Clone)]
struct Sketch(Vec<f32>);

impl Sketch {
    fn new() -> Self {
        Self(vec![0.0; ROWS * COLUMNS])
    }

    fn cells(key: &impl std::hash::Hash) -> [usize; ROWS] {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        std::array::from_fn(|row| row * COLUMNS + (hash >> (row * 16)) as usize % COLUMNS)
    }

    fn note(&mut self, key: &impl std::hash::Hash, risk: f32) {
        for cell in Self::cells(key) {
            if let Some(cell) = self.0.get_mut(cell) {
                *cell = cell.max(risk);
            }
        }
    }

    fn of(&self, key: &impl std::hash::Hash) -> f32 {
        Self::cells(key).into_iter().filter_map(|cell| self.0.get(cell)).copied().fold(f32::INFINITY, f32::min)
    }
}

impl Crowd {
    /// Nobody yet; windows are of so many milliseconds.
    pub fn new(length: u64) -> Self {
        Self {
            length: length.max(1),
            entries: HashMap::new(),
            suspects: [Sketch::new(), Sketch::new()],
            turned: Timestamp(0),
            hot: false,
        }
    }

    /// Counts a request.
    pub fn ask(&mut self, who: Who<'_>, asked: Asked, now: Timestamp) {
        let entry = self.entry(who, now);
        let counts = &mut entry.counts;
        counts.requests += 1;
        counts.rows += asked.rows;
        counts.bytes += asked.bytes;
        counts.cost_us += asked.cost_us;
        let failed = match asked.end {
            Ended::Answered => false,
            Ended::Fault => {
                counts.faults += 1;
                true
            }
            Ended::Miss(place) => {
                counts.misses += 1;
                entry.hot = true;
                if !entry.places.contains(&place) && entry.places.len() < PLACES {
                    entry.places.push(place);
                    counts.places = entry.places.len() as u64;
                }
                true
            }
            // It says nothing of what was asked.
            Ended::KeptOut => {
                counts.kept_out += 1;
                return;
            }
        };
        entry.streak = if failed { entry.streak + 1 } else { 0 };
        entry.counts.streak = entry.counts.streak.max(entry.streak);
        let hot = entry.hot;
        self.hot |= hot;
    }

    /// Takes in what a detector read; of a window, the worst of each agent counts.
    pub fn read(&mut self, who: Who<'_>, reading: Reading, now: Timestamp) {
        let entry = self.entry(who, now);
        entry.hot |= reading.rule > 0.0 || reading.twin > 0.0 || reading.score >= HOT;
        entry.risk = entry.risk.max((reading.rule.max(reading.twin) + reading.score.ln_1p()) as f32);
        match entry.readings.iter_mut().find(|known| known.agent == reading.agent) {
            Some(known) if reading.score > known.score || reading.rule > known.rule || reading.twin > known.twin => {
                let (score, rule) = (reading.score.max(known.score), reading.rule.max(known.rule));
                let twin = reading.twin.max(known.twin);
                let certain = reading.certain || known.certain;
                *known = Reading { score, rule, twin, certain, ..reading };
            }
            Some(_) => {}
            None => entry.readings.push(reading),
        }
        let hot = entry.hot;
        self.hot |= hot;
    }

    /// How suspicious a subject was at most, lately.
    pub fn risk(&self, subject: &Subject, model: Option<&ModelName>) -> f32 {
        let key = (subject.clone(), model.cloned());
        let remembered = self.suspects.iter().map(|sketch| sketch.of(&key)).fold(0.0, f32::max);
        self.entries.get(&key).map_or(remembered, |entry| entry.risk.max(remembered))
    }

    fn entry(&mut self, who: Who<'_>, now: Timestamp) -> &mut Entry {
        let key = (who.subject.clone(), who.model.cloned());
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let window = now.0 / self.length;
        let remembered = &self.suspects;
        let entry = self.entries.entry(key).or_insert_with_key(|key| Entry {
            window,
            at: now,
            counts: Counts::default(),
            autonomy: None,
            admin: false,
            changed: false,
            hot: false,
            streak: 0,
            places: Vec::new(),
            readings: Vec::new(),
            risk: remembered.iter().map(|sketch| sketch.of(key)).fold(0.0, f32::max),
        });
        if window > entry.window {
            entry.window = window;
            entry.counts = Counts::default();
            entry.places.clear();
            entry.readings.clear();
            entry.streak = 0;
            // What was suspicious once stays so for a while.
            entry.risk *= 0.9;
        }
        entry.at = now;
        entry.autonomy = who.autonomy;
        entry.admin = who.admin;
        entry.changed = true;
        entry
    }

    /// Whether something changed that can't wait.
    pub fn is_hot(&self) -> bool {
        self.hot
    }

    /// What changed since the last time, window by window; of what can wait nothing, where `all` is not wanted.
    pub fn drain(&mut self, now: Timestamp, all: bool) -> Vec<Sighting> {
        self.hot = false;
        if now.since(self.turned) >= REMEMBERED {
            self.turned = now;
            self.suspects.swap(0, 1);
            if let Some(oldest) = self.suspects.first_mut() {
                *oldest = Sketch::new();
            }
        }
        let length_ms = self.length;
        let changed = self.entries.iter_mut().filter_map(|(key, entry)| {
            let hot = std::mem::take(&mut entry.hot);
            let told = entry.changed && (all || hot);
            entry.changed &= !told;
            told.then_some((key, entry))
        });
        changed
            .map(|((subject, model), entry)| Sighting {
                subject: subject.clone(),
                model: model.clone(),
                autonomy: entry.autonomy,
                admin: entry.admin,
                window: entry.window,
                length_ms,
                at: entry.at,
                counts: entry.counts,
                readings: entry.readings.clone(),
            })
            .collect()
    }

    fn make_room(&mut self, now: Timestamp) {
        let worth = |entry: &Entry| f64::from(entry.risk) - now.since(entry.at).as_secs_f64() / 600.0;
        let mut all: Vec<f64> = self.entries.values().map(worth).collect();
        let (_, least, _) = all.select_nth_unstable_by(CAPACITY / 8, f64::total_cmp);
        let least = *least;
        let suspects = &mut self.suspects;
        self.entries.retain(|key, entry| {
            let stays = worth(entry) > least;
            if !stays && entry.risk > 0.0 {
                suspects.iter_mut().for_each(|sketch| sketch.note(key, entry.risk));
            }
            stays
        });
    }

    /// Subjects × models that are counted now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody asked lately.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use types::defence::AgentName;

    use super::*;

    fn who(subject: &Subject) -> Who<'_> {
        Who { subject, model: None, autonomy: None, admin: false }
    }

    fn reading(score: f64, rule: f64) -> Reading {
        Reading { agent: AgentName::Intruder, score, rule, twin: 0.0, certain: false, what: format!("{score}") }
    }

    #[test]
    fn a_window_counts_what_was_asked_and_begins_anew() {
        let (mut crowd, app) = (Crowd::new(1_000), "caller:bank/app".parse::<Subject>().unwrap());
        for n in 0..5 {
            crowd.ask(who(&app), Asked { rows: 2, end: Ended::Miss(n % 2), ..Asked::default() }, Timestamp(n));
        }
        crowd.ask(who(&app), Asked { rows: 2, ..Asked::default() }, Timestamp(6));
        crowd.ask(who(&app), Asked { end: Ended::KeptOut, ..Asked::default() }, Timestamp(7));
        let counts = crowd.drain(Timestamp(8), true)[0].counts;
        assert_eq!((counts.requests, counts.rows, counts.misses, counts.places), (7, 12, 5, 2));
        assert_eq!((counts.streak, counts.kept_out), (5, 1));
        assert!(crowd.drain(Timestamp(9), true).is_empty(), "nothing is new");
        crowd.ask(who(&app), Asked::default(), Timestamp(1_000));
        let sighting = crowd.drain(Timestamp(1_001), true).remove(0);
        assert_eq!((sighting.window, sighting.counts.requests), (1, 1));
    }

    #[test]
    fn what_can_t_wait_is_told_alone() {
        let (mut crowd, app, eve) =
            (Crowd::new(1_000), "caller:bank/app".parse().unwrap(), "caller:bank/eve".parse().unwrap());
        crowd.ask(who(&app), Asked::default(), Timestamp(1));
        assert!(!crowd.is_hot());
        crowd.ask(who(&eve), Asked { end: Ended::Miss(1), ..Asked::default() }, Timestamp(2));
        assert!(crowd.is_hot());
        let told = crowd.drain(Timestamp(3), false);
        assert_eq!((told.len(), &told[0].subject, crowd.is_hot()), (1, &eve, false));
        assert_eq!(crowd.drain(Timestamp(4), true)[0].subject, app);
    }

    #[test]
    fn the_worst_reading_of_a_window_counts() {
        let (mut crowd, app) = (Crowd::new(1_000), "caller:bank/app".parse::<Subject>().unwrap());
        for (score, rule) in [(3.0, 0.0), (1.0, 4.0), (2.0, 1.0)] {
            crowd.read(who(&app), reading(score, rule), Timestamp(1));
        }
        let readings = crowd.drain(Timestamp(2), true).remove(0).readings;
        assert_eq!((readings[0].score, readings[0].rule, readings.len()), (3.0, 4.0, 1));
    }

    #[test]
    fn many_callers_are_bounded_and_waiting_washes_nobody_clean() {
        let (mut crowd, eve) = (Crowd::new(60_000), "caller:bank/eve".parse::<Subject>().unwrap());
        crowd.read(who(&eve), reading(50.0, 9.0), Timestamp(0));
        crowd.drain(Timestamp(1), true);
        for n in 0..200_000_u64 {
            let subject: Subject = format!("caller:bank/c{n}").parse().unwrap();
            crowd.ask(who(&subject), Asked::default(), Timestamp(n));
        }
        assert!(crowd.len() <= CAPACITY);
        assert!(crowd.risk(&eve, None) > 9.0, "{}", crowd.risk(&eve, None));
        let honest = (0..1_000).filter(|n| {
            let subject: Subject = format!("caller:bank/c{n}").parse().unwrap();
            crowd.risk(&subject, None) > 9.0
        });
        assert!(honest.count() < 5, "a sketch says too much of few");
    }
}
