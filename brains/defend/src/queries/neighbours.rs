//! The rows that a model was asked lately, by whomever, and which of them are near another.
//!
//! Rows fall into buckets by random projections (Datar et al., SoCG 2004), several times over: near ones share a bucket at least
//! once, nearly always. Sums over all columns are used and not hashes of a few (as Blacklight's): noise in each column, which an
//! attacker adds at no cost, moves a hash of any columns, but not by much a sum.

use online::Random;

use super::sketch::{SIZE, Sketch, Sketcher};

/// How many times over rows fall into buckets.
const TABLES: usize = 6;
/// Projections that make one bucket.
const PROJECTIONS: usize = 3;
/// Buckets of a table.
const BUCKETS: usize = 2_048;
/// Rows of a bucket; the oldest goes.
const DEEP: usize = 8;
/// How many of the distances that count as near a bucket is wide.
const WIDE: f32 = 4.0;

/// A row that was asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sketch: Sketch,
    pub(super) label: u32,
    /// How many values are odd.
    pub(super) odd: u32,
    pub(super) chain: Option<u32>,
    /// Who asked it.
    pub(super) owner: u64,
}

/// The nearest rows of each kind, by place, with their distances.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Near {
    pub(super) nearest: Option<(u64, f32)>,
    /// Of the same caller, and of the same caller with another answer: what others asked says nothing of who comes near it.
    pub(super) own: Option<(u64, f32)>,
    pub(super) other: Option<(u64, f32)>,
    /// Of another answer, by whomever.
    pub(super) unlike: Option<(u64, f32)>,
}

/// Memory: 288 bytes a row, and 0.4 MB of buckets.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    rows: Vec<Asked>,
    capacity: usize,
    /// The place of the next row; places never come again.
    next: u64,
    projections: Vec<Sketch>,
    shifts: Vec<f32>,
    buckets: Vec<[u32; DEEP]>,
    salt: u64,
    width: f32,
}

impl Neighbours {
    pub(super) fn new(capacity: usize, random: &mut Random) -> Self {
        let mut projections = Vec::new();
        for _ in 0..TABLES * PROJECTIONS {
            let mut projection = [0.0; SIZE];
            projection.iter_mut().for_each(|into| *into = random.normal() as f32);
            projections.push(projection);
        }
        let shifts = projections.iter().map(|_| random.uniform() as f32).collect();
        let buckets = vec![[u32::MAX; DEEP]; TABLES * BUCKETS];
        Self { rows: Vec::new(), capacity, next: 0, projections, shifts, buckets, salt: random.bits(), width: 1.0 }
    }

    /// Forgets all rows. `near` is the distance up to which rows are to be found.
    pub(super) fn restart(&mut self, near: f32, sketcher: &Sketcher) {
        self.rows.clear();
        self.next = 0;
        self.buckets.fill([u32::MAX; DEEP]);
        self.width = WIDE * near * (sketcher.looked_at().max(1) as f32).sqrt();
    }

    pub(super) fn get(&self, place: u64) -> Option<&Asked> {
        if place >= self.next || place + (self.capacity as u64) < self.next {
            return None;
        }
        self.rows.get((place % self.capacity as u64) as usize)
    }

    /// Lets a row belong to a chain.
    pub(super) fn join(&mut self, place: u64, chain: u32) {
        if let Some(row) = self.rows.get_mut((place % self.capacity as u64) as usize) {
            row.chain = Some(chain);
        }
    }

    /// The nearest rows among those that share a bucket, at most 48, and those at `places`, which are the asker's: so nobody else can
    /// drive a caller's newest rows out of its sight.
    pub(super) fn near(
        &self,
        (owner, label): (u64, u32),
        sketch: &Sketch,
        keys: &Keys,
        places: impl Iterator<Item = u64>,
        sketcher: &Sketcher,
    ) -> Near {
        let mut near = Near::default();
        let mut seen = [u32::MAX; TABLES * DEEP];
        let mut number = 0;
        let mut look = |place: u64, row: &Asked| {
            let distance = sketcher.distance(sketch, &row.sketch);
            closer(&mut near.nearest, place, distance);
            if row.label != label {
                closer(&mut near.unlike, place, distance);
            }
            if row.owner != owner {
                return;
            }
            closer(&mut near.own, place, distance);
            if row.label != label {
                closer(&mut near.other, place, distance);
            }
        };
        for slot in keys.0.iter().filter_map(|key| self.buckets.get(*key as usize)).flatten() {
            if *slot == u32::MAX || seen[..number].contains(slot) {
                continue;
            }
            seen[number] = *slot;
            number += 1;
            if let Some(row) = self.rows.get(*slot as usize) {
                look(self.place_of(*slot), row);
            }
        }
        for place in places {
            if let Some(row) = self.get(place) {
                look(place, row);
            }
        }
        near
    }

    /// The place of the row that lies in a slot now.
    fn place_of(&self, slot: u32) -> u64 {
        let (capacity, newest) = (self.capacity as u64, self.next.saturating_sub(1));
        let back = (newest % capacity + capacity - u64::from(slot)) % capacity;
        newest.saturating_sub(back)
    }

    /// Keeps a row; the oldest goes when there are too many. Answers its place.
    pub(super) fn add(&mut self, row: Asked, keys: &Keys) -> u64 {
        let (place, slot) = (self.next, (self.next % self.capacity as u64) as u32);
        match self.rows.get_mut(slot as usize) {
            Some(old) => *old = row,
            None => self.rows.push(row),
        }
        self.next += 1;
        for bucket in &keys.0 {
            if let Some(bucket) = self.buckets.get_mut(*bucket as usize) {
                bucket.rotate_right(1);
                bucket[0] = slot;
            }
        }
        place
    }

    /// The buckets of a row.
    pub(super) fn keys(&self, sketch: &Sketch) -> Keys {
        let mut keys = Keys([0; TABLES]);
        let projected = self.projections.chunks(PROJECTIONS).zip(self.shifts.chunks(PROJECTIONS));
        for (table, (into, (projections, shifts))) in keys.0.iter_mut().zip(projected).enumerate() {
            let mut hash = self.salt ^ table as u64;
            for (projection, shift) in projections.iter().zip(shifts) {
                let step = (dot(projection, sketch) / self.width + shift).floor();
                hash = (hash ^ (step as i64 as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 29;
            }
            *into = (table * BUCKETS + (hash >> 40) as usize % BUCKETS) as u32;
        }
        keys
    }
}

/// The buckets of a row, one in each table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys([u32; TABLES]);

fn closer(best: &mut Option<(u64, f32)>, place: u64, distance: f32) {
    if best.is_none_or(|(_, than)| distance < than) {
        *best = Some((place, distance));
    }
}

pub(super) fn dot(one: &Sketch, other: &Sketch) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += one * other;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::scale::Scale;

    #[test]
    fn near_rows_are_found_among_many_and_old_ones_are_forgotten() {
        let mut random = Random::new(1);
        let sketcher = Sketcher::new(20, &mut random);
        let scale = Scale::learn(&[vec![-1.0; 20], vec![1.0; 20]], 20);
        let mut neighbours = Neighbours::new(500, &mut random);
        neighbours.restart(0.2, &sketcher);
        let (mut found, mut first) = (0, None);
        for n in 0..1_000_u64 {
            let row: Vec<f32> = (0..20).map(|_| random.normal() as f32).collect();
            let sketch = sketcher.sketch(&row, &scale);
            let keys = neighbours.keys(&sketch);
            let asked = Asked { sketch, label: (n % 2) as u32, odd: 0, chain: None, owner: n % 3 };
            assert_eq!(neighbours.add(asked, &keys), n);
            first.get_or_insert(sketch);
            let near: Vec<f32> = row.iter().map(|value| value + 0.1 * random.normal() as f32).collect();
            let near = sketcher.sketch(&near, &scale);
            let seen = neighbours.near((n % 3, 1), &near, &neighbours.keys(&near), std::iter::empty(), &sketcher);
            let strange = neighbours.near((9, 1), &near, &neighbours.keys(&near), std::iter::empty(), &sketcher);
            assert!(strange.nearest == seen.nearest && strange.own.is_none() && strange.other.is_none());
            found += u32::from(seen.nearest.is_some_and(|(place, _)| place == n));
            if n % 2 == 0 && seen.nearest.is_some_and(|(place, _)| place == n) {
                assert_eq!(seen.other.map(|(place, _)| place), Some(n));
            }
        }
        assert!(found > 970, "{found} of 1,000");
        assert!(neighbours.get(0).is_none() && neighbours.get(499).is_none() && neighbours.get(500).is_some());
        assert!(neighbours.get(1_000).is_none());
        let first = first.unwrap();
        let seen = neighbours.near((0, 0), &first, &neighbours.keys(&first), std::iter::empty(), &sketcher);
        assert!(seen.nearest.is_none_or(|(_, distance)| distance > 0.1), "{seen:?}");
    }

    #[test]
    fn sums_of_wide_rows_keep_distances() {
        let mut random = Random::new(2);
        let sketcher = Sketcher::new(784, &mut random);
        let scale = Scale::learn(&[vec![-1.0; 784], vec![1.0; 784]], 784);
        for _ in 0..20 {
            let [one, other]: [Vec<f32>; 2] = [0; 2].map(|_| (0..784).map(|_| random.normal() as f32).collect());
            let true_distance = dot_of(&one, &other) / 784.0;
            let seen = sketcher.distance(&sketcher.sketch(&one, &scale), &sketcher.sketch(&other, &scale));
            let ratio = f64::from(seen * seen) / f64::from(true_distance);
            assert!((0.3..2.5).contains(&ratio), "{ratio}");
        }
    }

    fn dot_of(one: &[f32], other: &[f32]) -> f32 {
        one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum()
    }
}
