//! What a gateway says of an inference to the replica that it asks, and what the replica says of itself beside its answer.
//!
//! Both are one header each, numbers with spaces between them, so that either side may be older than the other: who does
//! not know a header asks and answers as if there were none. A replica that is asked without a request says the same text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Metadata of a request: who asks, and how much work that is.
pub(crate) const WORK: &str = "mantlet-work";
/// Metadata of an answer: how the replica stands.
pub(crate) const REPORT: &str = "mantlet-report";

/// The furthest that a mean logarithm may be from 0.
const FARTHEST: f64 = 20.0;
/// The most readings that a mean may be said to stand on.
const READINGS: f64 = 1e6;
/// Parts of one in which logarithms and readings are written.
const PARTS: f64 = 1e6;

/// Who asks, and how much work that is by its prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// A number that no other gateway has.
    pub sender: u64,
    /// What it will take on a usual replica; zero where nothing is predicted.
    pub predicted: Duration,
}

impl Asked {
    /// As a header's text.
    pub fn to_text(self) -> String {
        format!("{} {}", self.sender, nanos(self.predicted))
    }

    /// Reads a header's text; nothing where it is another.
    pub fn from_text(text: &str) -> Option<Self> {
        let [sender, predicted] = numbers(text)?;
        Some(Self { sender, predicted: Duration::from_nanos(predicted) })
    }
}

/// How a replica stands. Times are lengths, so that both sides' clocks need not agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Report {
    /// Requests here.
    pub in_flight: u32,
    /// Predicted work of those that wait.
    pub waiting: Duration,
    /// Predicted work of the one that has been worked on longest.
    pub running: Duration,
    /// For how long.
    pub running_for: Duration,
    /// Mean logarithm of actual over predicted time, from -20 to 20.
    pub pace: f64,
    /// Readings that it stands on, from 0 to a million.
    pub readings: f64,
    /// Mean time of work.
    pub mean: Duration,
    /// How long ago the newest reading was.
    pub age: Duration,
    /// Latency at about as many requests in flight; zero as long as nothing is known.
    pub latency: Duration,
}

impl Report {
    /// As a header's text.
    pub fn to_text(&self) -> String {
        let [waiting, running, running_for] = [self.waiting, self.running, self.running_for].map(nanos);
        let [mean, age, latency] = [self.mean, self.age, self.latency].map(nanos);
        // The casts saturate, and make nothing of what is no number.
        let pace = ((self.pace.clamp(-FARTHEST, FARTHEST) + FARTHEST) * PARTS).round() as u64;
        let readings = (self.readings.clamp(0.0, READINGS) * PARTS).round() as u64;
        let in_flight = self.in_flight;
        format!("{in_flight} {waiting} {running} {running_for} {pace} {readings} {mean} {age} {latency}")
    }

    /// Reads a header's text; nothing where it is another, and every number in its range.
    pub fn from_text(text: &str) -> Option<Self> {
        let [in_flight, waiting, running, running_for, pace, readings, mean, age, latency] = numbers(text)?;
        let [waiting, running, running_for] = [waiting, running, running_for].map(Duration::from_nanos);
        let [mean, age, latency] = [mean, age, latency].map(Duration::from_nanos);
        Some(Self {
            in_flight: u32::try_from(in_flight).ok()?,
            waiting,
            running,
            running_for,
            pace: (pace as f64 / PARTS - FARTHEST).clamp(-FARTHEST, FARTHEST),
            readings: (readings as f64 / PARTS).min(READINGS),
            mean,
            age,
            latency,
        })
    }
}

impl From<Report> for String {
    fn from(report: Report) -> Self {
        report.to_text()
    }
}

impl TryFrom<String> for Report {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_text(&text).ok_or("it is not how a replica stands")
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Exactly so many numbers.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut parts = text.split(' ');
    let mut all = [0; N];
    for number in &mut all {
        *number = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_survive_the_way() {
        let asked = Asked { sender: u64::MAX, predicted: Duration::from_nanos(12_345) };
        assert_eq!(Asked::from_text(&asked.to_text()), Some(asked));
        let report = Report {
            in_flight: 3,
            waiting: Duration::from_micros(1_500),
            running: Duration::from_millis(2),
            running_for: Duration::from_nanos(7),
            pace: -0.25,
            readings: 12.5,
            mean: Duration::from_millis(1),
            age: Duration::from_secs(3),
            latency: Duration::from_millis(4),
        };
        assert_eq!(Report::from_text(&report.to_text()), Some(report));
        let document = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&document).unwrap(), report);
        assert!(serde_json::from_str::<Report>("\"1 2\"").is_err());
        let strange = Report { pace: f64::NAN, readings: f64::INFINITY, waiting: Duration::MAX, ..report };
        let read = Report::from_text(&strange.to_text()).unwrap();
        assert_eq!((read.pace, read.readings, read.waiting), (-FARTHEST, READINGS, Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn another_text_says_nothing() {
        let texts =
            ["", " ", "1", "1 x", "1 2 3", "-1 2", "1  2", "1 99999999999999999999", "5000000000 1 1 1 1 1 1 1 1"];
        for text in texts {
            assert_eq!((Asked::from_text(text), Report::from_text(text)), (None, None), "{text:?}");
        }
        let far =
            Report::from_text(&["18446744073709551615"; 9].join(" ").replacen("18446744073709551615", "1", 1)).unwrap();
        assert_eq!((far.pace, far.readings), (FARTHEST, READINGS));
    }
}
