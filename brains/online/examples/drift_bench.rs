//! How long the drift detectors run without a change, and how late they are after one, at equal run length. `cargo
//! run --release --example drift_bench -- [--out FILE] [--quick]`.
//!
//! Errors of a model are simulated: 0 or 1 with a probability, or a loss that depends on the one before, or one with
//! a season. The e-detector's promise is checked on all three. Its delay is compared with that of ADWIN where both
//! run equally long: each is run at several settings, and the delay between two settings is interpolated in the
//! logarithm of the run length. Errors come from a probability that jumps, and from a tree that learnt one concept of SEA,
//! Agrawal, LED, RBF or hyperplane and is then asked about another.

use std::rc::Rc;

use online::{
    Classifier, HoeffdingTree, Random, Schema,
    drift::{
        Adwin, Ddm, Detector, EDetector, HddmAverage, HddmWeighted, PageHinkley, State, adwin, ddm, edetector, hddm,
        page_hinkley,
    },
    learner::greatest,
    tree,
};

#[path = "shared/concepts.rs"]
mod concepts;
#[expect(dead_code, reason = "other benches take the rest")]
mod measure;
use concepts::Concepts;
use measure::{Arguments, Figures, Result, timed};

/// The mean loss of all streams before a change.
const BEFORE: f64 = 0.1;
/// Values before a change.
const STABLE: usize = 2_000;
/// Losses after which a run is cut off, in stated run lengths.
const CUT: f64 = 4.0;

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let runs = if arguments.quick { 50 } else { 1_000 };
    promise(runs, &mut figures)?;
    let curve = if arguments.quick { 20 } else { 300 };
    delays(curve, &jumps(), &mut figures)?;
    for concepts in Concepts::ALL {
        delays(curve, &frozen(concepts)?, &mut figures)?;
    }
    speed(&mut figures)?;
    figures.write(arguments.out.as_deref())
}

/// Draws the next loss of a stream, by its place.
type Stream = Box<dyn FnMut(&mut Random, usize) -> f64>;

fn errors(probability: f64) -> Stream {
    Box::new(move |random, _| f64::from(u8::from(random.uniform() < probability)))
}

/// Losses with a mean of `BEFORE` of which each is near the one before: φ = 0.9.
fn dependent() -> Stream {
    let mut state = 0.0;
    Box::new(move |random, _| {
        state = 0.9 * state + 0.19_f64.sqrt() * random.normal();
        (BEFORE + 0.03 * state).clamp(0.0, 1.0)
    })
}

/// Errors whose probability has a season of 96, such as quarters of hours of a day.
fn seasonal() -> Stream {
    Box::new(|random, place| {
        let angle = place as f64 * std::f64::consts::TAU / 96.0;
        f64::from(u8::from(random.uniform() < BEFORE + 0.08 * angle.sin()))
    })
}

/// Values until the first drift, at most so many.
fn first(detector: &mut dyn Detector, stream: &mut Stream, random: &mut Random, most: usize) -> Result<usize> {
    for place in 0..most {
        if detector.update(stream(random, place))? == State::Drift {
            return Ok(place + 1);
        }
    }
    Ok(most)
}

type MakeStream = fn() -> Stream;
type MakeDetector = dyn Fn() -> Result<Box<dyn Detector>>;

/// The e-detector's run length without a change: the mean over runs that are cut off, so never too high.
fn promise(runs: u64, figures: &mut Figures) -> Result<()> {
    let settings = |baseline, block| edetector::Settings { baseline, run_length: 10_000.0, block };
    // Of dependent losses the mean of a block may be expected above the mean: three deviations of the state, faded
    // over a block.
    let dependent_baseline = BEFORE + 3.0 * 0.03 * 0.09;
    let cases: [(&str, edetector::Settings, MakeStream); 3] = [
        ("independent", settings(BEFORE, 1), || errors(BEFORE)),
        ("autoregressive 0.9", settings(dependent_baseline, 100), dependent),
        ("seasonal", settings(BEFORE, 96), seasonal),
    ];
    for (case, settings, stream) in cases {
        let most = (CUT * settings.run_length) as usize;
        let (mut total, mut cut) = (0, 0);
        for seed in 0..runs {
            let length = first(&mut EDetector::new(settings.clone())?, &mut stream(), &mut Random::new(seed), most)?;
            total += length;
            cut += u32::from(length == most);
        }
        figures.add(
            [case, "ours e-detector", "run_length_of_stated", ""],
            total as f64 / runs as f64 / settings.run_length,
        )?;
        figures.add([case, "ours e-detector", "runs_cut_off", ""], f64::from(cut) / runs as f64)?;
        let others: [(&str, &MakeDetector); 5] = [
            ("ours adwin 0.002", &|| Ok(Box::new(Adwin::new(adwin::Settings::default())?))),
            ("ours ddm", &|| Ok(Box::new(Ddm::new(ddm::Settings::default())?))),
            ("ours hddm-a", &|| Ok(Box::new(HddmAverage::new(hddm::Settings::default())?))),
            ("ours hddm-w", &|| Ok(Box::new(HddmWeighted::new(hddm::Settings::default(), 0.05)?))),
            ("ours page-hinkley", &|| Ok(Box::new(PageHinkley::new(page_hinkley::Settings::default())?))),
        ];
        for (subject, new) in others {
            let runs = runs.min(200);
            let mut total = 0;
            for seed in 0..runs {
                total += first(&mut *new()?, &mut stream(), &mut Random::new(seed), most)?;
            }
            figures.add([case, subject, "run_length_at_most_40000", "values"], total as f64 / runs as f64)?;
        }
    }
    Ok(())
}

type Make = Box<dyn Fn() -> Stream>;

/// A stream before a change and after each of several.
struct Changes {
    case: String,
    /// The mean loss before.
    level: f64,
    before: Make,
    after: Vec<(String, Make)>,
    /// Losses after which a run without a change is cut off.
    most: usize,
}

/// The probability of an error jumps.
fn jumps() -> Changes {
    let after = [0.15, 0.2, 0.3, 0.5];
    let after = after.map(|to| (format!("{BEFORE} to {to}"), Box::new(move || errors(to)) as Make));
    let before = Box::new(|| errors(BEFORE));
    Changes { case: format!("errors {BEFORE}"), level: BEFORE, before, after: after.into(), most: 400_000 }
}

/// Rows that a tree learns before it is frozen, and that its errors are taken from at each step of a change.
const LEARNT: usize = 10_000;
const POOL: usize = 20_000;
/// Steps of a gradual change, and rows of one.
const STEPS: usize = 10;
const STEP_ROWS: usize = 500;

/// The errors of a tree that has learnt the first concept, and learns no more.
fn frozen(concepts: Concepts) -> Result<Changes> {
    let (mut random, mut row) = (Random::new(7), vec![0.0; concepts.width()]);
    let schema = Schema::numeric(concepts.width())?;
    let mut tree = HoeffdingTree::new(tree::Settings::default(), schema, concepts.classes(), 7)?;
    for _ in 0..LEARNT {
        let class = concepts.draw(0.0, &mut random, &mut row);
        tree.learn(&row, class, 1.0)?;
    }
    let steps = if concepts.is_gradual() { STEPS } else { 1 };
    let mut probabilities = vec![0.0; concepts.classes()];
    let mut pools = Vec::new();
    for step in 0..=steps {
        let mut pool = Vec::with_capacity(POOL);
        for _ in 0..POOL {
            let class = concepts.draw(step as f64 / steps as f64, &mut random, &mut row);
            tree.predict(&row, &mut probabilities)?;
            pool.push(f64::from(u8::from(greatest(&probabilities) != class)));
        }
        pools.push(pool);
    }
    let mean = |pool: &Vec<f64>| pool.iter().sum::<f64>() / POOL as f64;
    let (level, last) = (mean(&pools[0]), mean(&pools[steps]));
    let pools = Rc::new(pools);
    let drawn = |pools: &Rc<Vec<Vec<f64>>>, pool_of: fn(usize, usize) -> usize| {
        let pools = pools.clone();
        Box::new(move || {
            let pools = pools.clone();
            Box::new(move |random: &mut Random, place: usize| {
                pools[pool_of(place, pools.len() - 1)][random.below(POOL as u32) as usize]
            }) as Stream
        }) as Make
    };
    let before = drawn(&pools, |_, _| 0);
    let after = drawn(&pools, |place, steps| if steps == 1 { 1 } else { (1 + place / STEP_ROWS).min(steps) });
    let how = if concepts.is_gradual() { "gradually" } else { "at once" };
    let after = vec![(format!("{}, {how}, {level:.3} to {last:.3}", concepts.name()), after)];
    Ok(Changes { case: concepts.name().to_owned(), level, before, after, most: 100_000 })
}

/// A detector at one setting: its run length, and its delays after each change.
struct Point {
    length: f64,
    delays: Vec<f64>,
}

fn point(runs: u64, changes: &Changes, new: &dyn Fn() -> Result<Box<dyn Detector>>) -> Result<Point> {
    let mut total = 0;
    for seed in 0..runs.div_ceil(3) {
        total += first(&mut *new()?, &mut (changes.before)(), &mut Random::new(seed), changes.most)?;
    }
    let mut delays = Vec::new();
    for (_, after) in &changes.after {
        let (mut sum, mut count) = (0, 0);
        for seed in 0..runs {
            let (mut detector, mut random) = (new()?, Random::new(1_000_000 + seed));
            // A run that alarms before the change has no delay.
            if first(&mut *detector, &mut (changes.before)(), &mut random, STABLE)? < STABLE {
                continue;
            }
            sum += first(&mut *detector, &mut after(), &mut random, 100_000)?;
            count += 1;
        }
        delays.push(sum as f64 / f64::from(count.max(1)));
    }
    Ok(Point { length: total as f64 / runs.div_ceil(3) as f64, delays })
}

/// The delay at a run length, between the two settings around it.
fn at(points: &[Point], length: f64, change: usize) -> Option<f64> {
    points.windows(2).find_map(|pair| {
        let [a, b] = pair else { return None };
        let inside = (a.length.min(b.length)..=a.length.max(b.length)).contains(&length);
        let part = (length.ln() - a.length.ln()) / (b.length.ln() - a.length.ln());
        inside.then(|| a.delays[change] + part * (b.delays[change] - a.delays[change]))
    })
}

fn delays(runs: u64, changes: &Changes, figures: &mut Figures) -> Result<()> {
    let mut ours = Vec::new();
    for stated in [300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0] {
        let settings = edetector::Settings { baseline: changes.level, run_length: stated, block: 1 };
        ours.push(point(runs, changes, &|| Ok(Box::new(EDetector::new(settings.clone())?)))?);
        report(figures, changes, &format!("ours e-detector {stated}"), ours.last())?;
    }
    let mut adwins = Vec::new();
    for delta in [0.9, 0.5, 0.3, 0.1, 0.03, 0.01, 0.002] {
        let settings = adwin::Settings { delta, ..Default::default() };
        adwins.push(point(runs, changes, &|| Ok(Box::new(Adwin::new(settings.clone())?)))?);
        report(figures, changes, &format!("ours adwin {delta}"), adwins.last())?;
    }
    for (place, (change, _)) in changes.after.iter().enumerate() {
        for point in &adwins {
            if let Some(delay) = at(&ours, point.length, place) {
                let case = format!("{change}, run length {:.0}", point.length);
                figures.add([&case, "ours e-detector", "delay_of_adwin", ""], delay / point.delays[place])?;
            }
        }
    }
    Ok(())
}

fn report(figures: &mut Figures, changes: &Changes, subject: &str, point: Option<&Point>) -> Result<()> {
    let Some(point) = point else { return Ok(()) };
    let metric = format!("run_length_at_most_{}", changes.most);
    figures.add([&changes.case, subject, &metric, "values"], point.length)?;
    for ((change, _), delay) in changes.after.iter().zip(&point.delays) {
        figures.add([change, subject, "delay", "values"], *delay)?;
    }
    Ok(())
}

fn speed(figures: &mut Figures) -> Result<()> {
    let new: [(&str, Box<dyn Detector>); 6] = [
        ("ours adwin", Box::new(Adwin::new(adwin::Settings::default())?)),
        ("ours e-detector", Box::new(EDetector::new(edetector::Settings { baseline: 0.2, ..Default::default() })?)),
        ("ours ddm", Box::new(Ddm::new(ddm::Settings::default())?)),
        ("ours hddm-a", Box::new(HddmAverage::new(hddm::Settings::default())?)),
        ("ours hddm-w", Box::new(HddmWeighted::new(hddm::Settings::default(), 0.05)?)),
        ("ours page-hinkley", Box::new(PageHinkley::new(page_hinkley::Settings::default())?)),
    ];
    let mut random = Random::new(1);
    let losses: Vec<f64> = (0..1_000_000).map(|_| f64::from(u8::from(random.uniform() < BEFORE))).collect();
    for (subject, mut detector) in new {
        let (done, time) = timed(|| losses.iter().try_for_each(|loss| detector.update(*loss).map(|_| ())));
        done?;
        figures.add(["errors 0.1", subject, "ns_per_value", "ns"], time.as_secs_f64() * 1e9 / losses.len() as f64)?;
        figures.add(["errors 0.1", subject, "memory", "bytes"], detector.memory() as f64)?;
    }
    Ok(())
}
