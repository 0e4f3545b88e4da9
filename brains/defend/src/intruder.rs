//! Injection, traversal and scanning in text: parameter values, addresses, whole requests, tensors of bytes.
//!
//! A text is first made plain ([`Normal`]), then [`Rules`] that people wrote and a learner look at it. Rules are a floor:
//! the learner may call hostile what they do not know, and forgives nothing that they hit. [`Intruder::request`] takes a
//! request apart and goes by its worst part, so that it learns attacks and not a site; what is usual at one site is for
//! [`Site`] and [`History`], whose surprise is a score of its own.
//!
//! Blind spots: what is hostile only by who asks for it or in which order; a wrong price or another's number in a
//! well-formed parameter; languages without quotes, brackets or words that rules and grammars know.

use online::{Error, Snapshot};
use serde::{Deserialize, Serialize};

mod features;
mod history;
mod learner;
mod normal;
mod plain;
mod reflex;
mod request;
mod rules;
mod shape;
mod site;
pub mod walk;

pub use history::History;
pub use normal::{Evasion, Normal};
pub use reflex::Usual;
pub use request::{Part, Piece, Request};
pub use rules::{FAMILIES, HIT, Points, Rules};
pub use site::Site;

use learner::Learner;

/// Thresholds and weights that the product comes with, written by `examples/intruder_train.rs`.
const SHIPPED: &[u8] = include_bytes!("intruder/weights.bin");
/// Bytes of a file's thresholds.
const HEAD: usize = 16;

/// Log-odds from which on something is called hostile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// For a text alone.
    pub text: f64,
    /// For a whole request, which is as bad as the worst of its many parts.
    pub request: f64,
}

/// What was found in a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Log-odds of the worst part.
    pub score: f64,
    /// Whether that is above the threshold.
    pub hostile: bool,
    /// The family of attacks whose rules speak most for it, when any do.
    pub family: Option<&'static str>,
    /// Where it is.
    pub part: Part,
    /// The parameter's or header's name; empty for a path or a body.
    pub name: String,
}

/// Rules and a learner, as one.
///
/// A score costs some 2 µs for a parameter's value and 33 to 47 µs a KB of text (two cores, others building), half of it for pieces
/// and shapes; it takes 1.7 MB, and 0.2 MB of rules. [`reflex`](Self::reflex) looks at less, in 20 µs. Any bytes will do.
///
/// ```
/// use defend::intruder::{Intruder, Request};
///
/// let intruder = Intruder::shipped();
/// let request = Request { target: "/search?q=1%27+UNION+SELECT+password+FROM+users--", ..Request::default() };
/// let found = intruder.request(&request);
/// assert!(found.hostile);
/// assert_eq!((found.family, found.name.as_str()), (Some("sqli"), "q"));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Intruder {
    learner: Learner,
    thresholds: Thresholds,
    #[serde(skip)]
    rules: Rules,
}

impl Default for Intruder {
    fn default() -> Self {
        Self::shipped()
    }
}

impl Intruder {
    /// The one that the product comes with: taught by grammars of ours and by openly licensed collections.
    pub fn shipped() -> Self {
        // A test reads it.
        Self::with_weights(SHIPPED).unwrap_or_else(|_| Self::blank())
    }

    /// One that knows only the rules.
    pub fn blank() -> Self {
        Self { learner: Learner::new(), thresholds: Thresholds { text: 0.0, request: 0.0 }, rules: Rules::new() }
    }

    /// Log-odds that a text alone is an attack. What a rule hits is no less than the threshold.
    pub fn score(&self, text: impl AsRef<[u8]>) -> f64 {
        let (score, points) = self.judge(text.as_ref(), Part::Value);
        if is_hit(&points) { score.max(self.thresholds.text) } else { score }
    }

    /// Whether a text alone is an attack.
    pub fn is_hostile(&self, text: impl AsRef<[u8]>) -> bool {
        self.score(text) >= self.thresholds.text
    }

    /// Looks at all parts of a request, and tells the worst.
    pub fn request(&self, request: &Request<'_>) -> Found {
        let mut worst = (f64::NEG_INFINITY, [0; FAMILIES.len()], Part::Path, String::new());
        for Piece { part, name, text } in request.pieces() {
            let (score, points) = self.judge(&text, part);
            let score = if is_hit(&points) { score.max(self.thresholds.request) } else { score };
            if score > worst.0 {
                worst = (score, points, part, name);
            }
        }
        let (score, points, part, name) = worst;
        let family = FAMILIES.iter().zip(points).filter(|(_, points)| *points > 0).max_by_key(|(_, points)| *points);
        let family = family.map(|(family, _)| *family);
        Found { score, hostile: score >= self.thresholds.request, family, part, name }
    }

    /// What the learner says of a text, and the points that rules give; of base64 the worse of it and what it says.
    fn judge(&self, raw: &[u8], part: Part) -> (f64, Points) {
        let (score, points) = self.judge_plain(raw, part);
        let Some(inner) = normal::from_base64(raw) else { return (score, points) };
        let (other, others) = self.judge_plain(&inner, part);
        if other > score { (other, others) } else { (score, points) }
    }

    fn judge_plain(&self, raw: &[u8], part: Part) -> (f64, Points) {
        let text = Normal::new(raw);
        let points = self.points(&text, part);
        (f64::from(self.learner.score(&text, &points, part)), points)
    }

    fn points(&self, text: &Normal, part: Part) -> Points {
        Self::at_part(self.rules.points(text), part)
    }

    /// A path that is probed for is looked for in paths; a scanner's name in headers.
    fn at_part(mut points: Points, part: Part) -> Points {
        let [.., probe, scanner] = &mut points;
        if !matches!(part, Part::Path | Part::Value) {
            *probe = 0;
        }
        if part != Part::Header {
            *scanner = 0;
        }
        points
    }

    /// Learns from what somebody said of a text: hostile or not. Weights are from 0 to 10; 1 is one example.
    pub fn learn(&mut self, text: impl AsRef<[u8]>, part: Part, hostile: bool, weight: f64) {
        let text = Normal::new(text.as_ref());
        let points = self.points(&text, part);
        self.learner.learn(&text, &points, part, hostile, weight as f32);
    }

    /// Learns from what somebody said of a request: all its parts were ordinary, or the worst of them is hostile.
    pub fn learn_request(&mut self, request: &Request<'_>, hostile: bool, weight: f64) {
        let pieces = request.pieces();
        if !hostile {
            pieces.iter().for_each(|piece| self.learn(&piece.text, piece.part, false, weight));
            return;
        }
        let score = |piece: &Piece| self.judge_plain(&piece.text, piece.part).0;
        let worst = pieces.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
        if let Some(Piece { part, text, .. }) = worst {
            self.learn(text, *part, true, weight);
        }
    }

    /// From where on it calls something hostile.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Sets from where on it calls something hostile.
    pub fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Its thresholds and weights, rounded, as the file that [`shipped`](Self::shipped) reads: some two bytes for each
    /// weight that is not 0.
    pub fn weights(&self) -> Vec<u8> {
        let Thresholds { text, request } = self.thresholds;
        [&text.to_le_bytes()[..], &request.to_le_bytes(), &self.learner.write()].concat()
    }

    /// One with the thresholds and weights of a file.
    ///
    /// # Errors
    /// [`Error::Snapshot`] where it is none.
    pub fn with_weights(file: &[u8]) -> online::Result<Self> {
        let none = Error::Snapshot("is no file of weights");
        let (head, weights) = file.split_at_checked(HEAD).ok_or(none.clone())?;
        let number =
            |place: usize| head.get(place..).and_then(<[u8]>::first_chunk).map(|bytes| f64::from_le_bytes(*bytes));
        let (Some(text), Some(request)) = (number(0), number(8)) else { return Err(none) };
        let intruder = Self {
            learner: Learner::read(weights).ok_or(none)?,
            thresholds: Thresholds { text, request },
            rules: Rules::new(),
        };
        intruder.check().map(|()| intruder)
    }

    /// Bytes that its state takes, rules apart.
    pub fn memory(&self) -> usize {
        self.learner.memory() + size_of::<Self>()
    }
}

fn is_hit(points: &Points) -> bool {
    points.iter().any(|points| *points >= HIT)
}

impl Snapshot for Intruder {
    const KIND: &'static str = "intruder";
    const VERSION: u16 = 1;

    fn check(&self) -> online::Result<()> {
        let Thresholds { text, request } = self.thresholds;
        if self.learner.sound() && text.is_finite() && request.is_finite() {
            Ok(())
        } else {
            Err(Error::Snapshot("has weights that can't be"))
        }
    }
}

#[cfg(test)]
mod tests;
