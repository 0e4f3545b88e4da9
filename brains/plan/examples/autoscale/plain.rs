//! What nobody can be: the peak all the time, and whoever knows the future.

use std::collections::VecDeque;

use plan::scale::{Scaler, Seen, Terms};

use crate::simulator::SERVICE;

/// As many as the busiest minute needs at seven tenths, all the time.
pub(crate) struct Peak(u32);

impl Peak {
    pub(crate) fn new(requests: &[f64], terms: &Terms) -> Self {
        let minute = |seconds: &[f64]| seconds.iter().filter(|count| count.is_finite()).sum::<f64>() / 60.0;
        let most = requests.chunks(60).map(minute).fold(0.0, f64::max);
        Self(terms.bounded(most * SERVICE / 0.7))
    }
}

impl Scaler for Peak {
    fn second(&mut self, _: u64, _: &Seen) -> u32 {
        self.0
    }
}

/// As many as let nobody wait, from now until another one could be there.
pub(crate) struct Oracle(Vec<u32>);

impl Oracle {
    pub(crate) fn new(requests: &[f64], terms: &Terms) -> Self {
        let needs = requests.iter().map(|count| terms.bounded(if count.is_nan() { 0.0 } else { count * SERVICE }));
        let needs: Vec<u32> = needs.collect();
        let ahead = terms.cold as usize + 2;
        let (mut falling, mut wanted) = (VecDeque::new(), vec![0; needs.len()]);
        for (at, need) in needs.iter().enumerate().rev() {
            while falling.back().is_some_and(|(_, last)| last <= need) {
                falling.pop_back();
            }
            falling.push_back((at, *need));
            while falling.front().is_some_and(|(first, _)| first - at >= ahead) {
                falling.pop_front();
            }
            if let (Some(slot), Some((_, most))) = (wanted.get_mut(at), falling.front()) {
                *slot = *most;
            }
        }
        Self(wanted)
    }
}

impl Scaler for Oracle {
    fn second(&mut self, at: u64, _: &Seen) -> u32 {
        self.0.get(at as usize).or(self.0.last()).copied().unwrap_or(1)
    }
}
