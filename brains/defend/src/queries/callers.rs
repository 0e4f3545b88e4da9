//! The callers of a model, so many at most: whoever is least suspect and was longest silent is forgotten first.

use std::collections::BTreeMap;

use online::Random;

use super::caller::Caller;

/// Callers that are looked at to find whom to forget.
const LOOKED_AT: u32 = 16;

#[derive(Debug, Clone)]
pub(super) struct Callers {
    callers: Vec<Caller>,
    places: BTreeMap<u64, u32>,
    capacity: usize,
    random: Random,
    pub(super) forgotten: u64,
}

impl Callers {
    pub(super) fn new(capacity: usize, random: Random) -> Self {
        Self { callers: Vec::new(), places: BTreeMap::new(), capacity: capacity.max(1), random, forgotten: 0 }
    }

    pub(super) fn get(&self, id: u64) -> Option<&Caller> {
        self.callers.get(*self.places.get(&id)? as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    /// A caller; a new one when it isn't known.
    pub(super) fn of(&mut self, id: u64, now: f64) -> Option<&mut Caller> {
        if let Some(place) = self.places.get(&id) {
            return self.callers.get_mut(*place as usize);
        }
        let new = Caller::new(id, now);
        let place = if self.callers.len() < self.capacity {
            self.callers.push(new);
            self.callers.len() - 1
        } else {
            let place = self.least(now);
            let old = self.callers.get_mut(place)?;
            self.places.remove(&old.id);
            *old = new;
            self.forgotten += 1;
            place
        };
        self.places.insert(id, place as u32);
        self.callers.get_mut(place)
    }

    /// Who is least suspect for its silence, of some by chance.
    fn least(&mut self, now: f64) -> usize {
        let mut best = (0, f64::INFINITY);
        for _ in 0..LOOKED_AT {
            let at = self.random.below(self.callers.len() as u32) as usize;
            let Some(caller) = self.callers.get(at) else { continue };
            let risk = f64::from(caller.window.evasion.max(caller.window.extraction)) + caller.spent.sqrt() / 10.0;
            let value = (risk + 0.1) / (now - caller.last).max(0.1);
            if value < best.1 {
                best = (at, value);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_callers_neither_grows_it_nor_drives_out_whoever_is_suspect() {
        let mut callers = Callers::new(1_000, Random::new(1));
        callers.of(7, 0.0).unwrap().window.evasion = 30.0;
        for id in 1_000..101_000_u32 {
            assert_eq!(callers.of(u64::from(id), f64::from(id) / 100.0).unwrap().id, u64::from(id));
        }
        assert_eq!((callers.len(), callers.places.len()), (1_000, 1_000));
        assert_eq!(callers.forgotten, 99_001);
        assert!(callers.get(7).is_some());
    }
}
