//! Blocks of time that go to one side as a whole, for controllers whose choices change what comes after them.

use serde::{Deserialize, Serialize};

use super::{Act, Lot, Outcome};
use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
};

/// A block is at least so many times what it takes to settle, so that little of it is still the other side's.
const SETTLED: f64 = 10.0;

/// The block that time is in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its number since time 0.
    pub number: u64,
    /// Who acts during it.
    pub lot: Lot,
}

/// A switchback experiment (Bojinov, Simchi-Levi and Zhao, Management Science 2023): time is cut into blocks of one
/// length, each of which goes to champion or challengers by an even lot. An autoscaler or a balancer changes its own
/// queue, so requests next to one another are no independent witnesses; a block is *one* observation. What happens
/// before a block has settled, and what was asked in another block, is left out.
///
/// The lot is a hash of seed and block: whoever knows both knows who acts, and nobody has to keep it. O(1); 120 bytes.
///
/// ```
/// use online::guard::Switchback;
///
/// let mut blocks = Switchback::new(600.0, 60.0, 1, 7)?;
/// let mut outcomes = 0;
/// for second in 0..3_600 {
///     let (now, loss) = (f64::from(second), 0.25);
///     outcomes += u32::from(blocks.observe(now, loss, now)?.is_some());
/// }
/// assert_eq!(outcomes, 5);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switchback {
    length: f64,
    settling: f64,
    challengers: u16,
    seed: u64,
    block: Option<u64>,
    sum: f64,
    count: u64,
    now: Option<f64>,
}

impl Switchback {
    /// Blocks of `length` seconds, up to 10⁹, where what acts needs up to `settling` seconds to show; `challengers`
    /// from 1 to 256.
    ///
    /// # Errors
    /// [`Error::Range`] for a length that is no positive number, is below ten times the settling time, or for another
    /// number of challengers.
    pub fn new(length: f64, settling: f64, challengers: u16, seed: u64) -> Result<Self> {
        within("a block's length", length, (1e-3, 1e9), "from 0.001 to 10⁹ seconds")?;
        within("the settling time", settling, (0.0, length / SETTLED), "at most a tenth of a block's length")?;
        within("the number of challengers", f64::from(challengers), (1.0, 256.0), "from 1 to 256")?;
        Ok(Self { length, settling, challengers, seed, block: None, sum: 0.0, count: 0, now: None })
    }

    /// The block at a time of 0 … 10¹² seconds, and who acts in it.
    ///
    /// # Errors
    /// [`Error::Range`] for another time.
    pub fn at(&self, now: f64) -> Result<Block> {
        within("the time", now, (0.0, 1e12), "from 0 to 10¹² seconds")?;
        let number = (now / self.length) as u64;
        Ok(Block { number, lot: self.lot(number) })
    }

    /// Takes in the loss, 0 … 1, of a request. Gives the outcome of the block before when this is the first of
    /// another, if that had any loss once it had settled.
    ///
    /// # Errors
    /// [`Error::Range`] for another loss or time, [`Error::Time`] when time went back or the request comes after now.
    /// Then nothing has changed.
    pub fn observe(&mut self, requested: f64, loss: f64, now: f64) -> Result<Option<Outcome>> {
        within("the loss", loss, (0.0, 1.0), "from 0 to 1")?;
        finite("the time of the request", requested)?;
        let block = self.at(now)?.number;
        if let Some(before) = self.now.filter(|before| now < *before) {
            return Err(Error::Time { before, now });
        }
        if requested > now {
            return Err(Error::Time { before: requested, now });
        }
        let outcome = if self.block == Some(block) { None } else { self.turn(block) };
        self.now = Some(now);
        if requested >= block as f64 * self.length + self.settling {
            self.sum += loss;
            self.count = self.count.saturating_add(1);
        }
        Ok(outcome)
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
    }

    fn turn(&mut self, block: u64) -> Option<Outcome> {
        let before = self.block.replace(block);
        let (sum, count) = (std::mem::take(&mut self.sum), std::mem::take(&mut self.count));
        let before = before.filter(|_| count > 0)?;
        let loss = (sum / count as f64).clamp(0.0, 1.0);
        Some(Outcome { lot: self.lot(before), requested: before as f64 * self.length, loss, slice: None })
    }

    fn lot(&self, block: u64) -> Lot {
        // With this share each arm has the same probability, whoever is said to act.
        let arms = u64::from(self.challengers) + 1;
        let share = f64::from(self.challengers) / arms as f64;
        let place = crate::Random::new(self.seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bits() % arms;
        let arm =
            u16::try_from(place).ok().and_then(|place| place.checked_sub(1)).map_or(Act::Champion, Act::Challenger);
        Lot { arm, acting: Act::Champion, share }
    }
}

impl Snapshot for Switchback {
    const KIND: &'static str = "switchback";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.length, self.settling, self.challengers, self.seed)
            .map_err(|_| Error::Snapshot("has settings out of range"))?;
        let sums = (0.0..=self.count as f64 + 1e-6).contains(&self.sum) && self.now.is_none_or(f64::is_finite);
        if sums { Ok(()) } else { Err(Error::Snapshot("has sums that no losses give")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lots_are_even() {
        let blocks = Switchback::new(10.0, 1.0, 3, 1).unwrap();
        let mut drawn = [0; 4];
        for number in 0..4_000 {
            match blocks.at(f64::from(number) * 10.0).unwrap().lot.arm() {
                Act::Champion => drawn[0] += 1,
                Act::Challenger(challenger) => drawn[usize::from(challenger) + 1] += 1,
            }
        }
        assert!(drawn.iter().all(|count| (880..1_120).contains(count)), "{drawn:?}");
    }

    #[test]
    fn what_has_not_settled_is_left_out() {
        let mut blocks = Switchback::new(100.0, 10.0, 1, 1).unwrap();
        assert_eq!(blocks.observe(5.0, 1.0, 5.0), Ok(None));
        assert_eq!(blocks.observe(50.0, 0.5, 50.0), Ok(None));
        // Asked in the block before: it comes too late.
        let outcome = blocks.observe(99.0, 1.0, 101.0).unwrap().unwrap();
        assert_eq!((outcome.loss, outcome.requested), (0.5, 0.0));
        assert_eq!(blocks.observe(205.0, 1.0, 205.0), Ok(None));
        assert!(Switchback::new(100.0, 11.0, 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn any_input_is_an_error_or_leaves_a_state(
            calls in prop::collection::vec((-10.0..1e4_f64, -0.1..1.1_f64, -10.0..1e4_f64), 0..60),
        ) {
            let mut blocks = Switchback::new(50.0, 5.0, 2, 3).unwrap();
            for (requested, loss, now) in calls {
                let before = blocks.clone();
                if blocks.observe(requested, loss, now).is_err() {
                    prop_assert_eq!(&blocks, &before);
                }
                prop_assert!(blocks.check().is_ok());
                prop_assert_eq!(&Switchback::load(&blocks.save()).unwrap(), &blocks);
            }
            prop_assert!(blocks.observe(f64::NAN, 0.5, 1e5).is_err() && blocks.at(f64::INFINITY).is_err());
        }
    }
}
