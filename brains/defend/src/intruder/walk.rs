//! From texts to evidence of who sends them: a sequential test (Wald 1945) for each sender.
//!
//! What stands in an address or a header of this port is read by us, and no client of ours has reason to send an attack there:
//! one in a thousand may, by mistake. What a model is asked may be anything, code and quotes and talk of attacks among it: of an
//! honest sender up to fifteen texts in a hundred look hostile, of one who attacks seven in ten.

/// What is taken of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An address or a header.
    Address,
    /// What a model is asked.
    Payload,
}

/// The shares of texts that look hostile: of an honest sender, of an attacker.
fn shares(place: Place) -> (f64, f64) {
    match place {
        Place::Address => (0.001, 0.5),
        Place::Payload => (0.15, 0.7),
    }
}

/// What the walks say at most.
const MOST: f64 = 9.21;

/// Two walks of one sender: by rules alone, and by all that is known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Walk {
    /// By rules, as the logarithm of the likelihood ratio; at least 0.
    pub rules: f64,
    /// By rules and the learner.
    pub all: f64,
    /// Texts that a rule hit, and that anything called hostile.
    pub hits: u32,
    /// See `hits`.
    pub hostile: u32,
    /// Texts.
    pub texts: u32,
}

impl Walk {
    /// Takes a text in: whether a rule hit it, and whether it was called hostile at all.
    pub fn step(&mut self, place: Place, hit: bool, hostile: bool) {
        let (honest, attacker) = shares(place);
        let step = |walk: f64, yes: bool| {
            let ratio = if yes { attacker / honest } else { (1.0 - attacker) / (1.0 - honest) };
            (walk + ratio.ln()).clamp(0.0, MOST)
        };
        self.rules = step(self.rules, hit);
        self.all = step(self.all, hostile || hit);
        self.hits = self.hits.saturating_add(u32::from(hit));
        self.hostile = self.hostile.saturating_add(u32::from(hostile || hit));
        self.texts = self.texts.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_attacks_in_addresses_are_enough_and_one_is_a_mistake() {
        let mut walk = Walk::default();
        walk.step(Place::Address, true, true);
        assert!(walk.rules < 7.0, "{walk:?}");
        walk.step(Place::Address, true, true);
        assert!(walk.rules >= MOST, "{walk:?}");
    }

    #[test]
    fn a_model_that_is_asked_about_code_now_and_then_is_attacked_by_nobody() {
        let mut walk = Walk::default();
        let mut greatest: f64 = 0.0;
        for n in 0..10_000_u32 {
            let talk = n % 10 == 3;
            walk.step(Place::Payload, talk, talk);
            greatest = greatest.max(walk.rules);
        }
        assert!(greatest < 4.0, "{greatest}");
        let mut walk = Walk::default();
        (0..8).for_each(|_| walk.step(Place::Payload, true, true));
        assert!(walk.rules >= MOST, "{walk:?}");
    }
}
