//! Small ones of everything that can be saved, which have seen a few rows.

use online::{
    AdaptiveTree, Auto, Basic, Boosted, Classifier, Encoder, Ensemble, Feature, Hashing, HoeffdingTree, Linear,
    Logistic, Neighbours, OneHot, Random, RegressionForest, RegressionTree, Regressor, Result, Scaler, Schema,
    Transformer, adaptive, anomaly,
    anomaly::Scorer,
    auto,
    bandit::{Reward, Thompson},
    boosted,
    calibrate::{self, Calibrator},
    drift::{self, Detector, RowDetector},
    ensemble,
    evaluate::{self, Answer},
    evidence, fimt_dd,
    forecast::{self, Forecast},
    forest,
    guard::{self, Guard, Switchback},
    linear, logistic, neighbours,
    peers::{self, Peers},
    registry::{Model, RegressorModel, RegressorSpec, Spec},
    share::FixedShare,
    transform::{
        hashing, one_hot,
        scaler::{self, By},
    },
    tree,
};

/// Rows that each has seen.
const ROWS: usize = 60;

/// A number and a word of three.
fn mixed() -> Schema {
    Schema::new(vec![Feature::number("n"), Feature::words("w", 3)]).expect("a schema")
}

fn rows() -> impl Iterator<Item = [f64; 2]> {
    let mut random = Random::new(1);
    (0..ROWS).map(move |place| {
        let number = if place % 11 == 0 { f64::NAN } else { random.normal() };
        [number, f64::from(random.below(3))]
    })
}

fn classifier<T: Classifier>(learner: Result<T>) -> [T; 1] {
    let mut learner = learner.expect("a learner");
    for row in rows() {
        learner.learn(&row, usize::from(row[0] > 0.0), 1.0).expect("a row");
    }
    [learner]
}

fn regressor<T: Regressor>(learner: Result<T>) -> [T; 1] {
    let mut learner = learner.expect("a learner");
    for row in rows() {
        learner.learn(&row, row[1] * 10.0, 1.0).expect("a row");
    }
    [learner]
}

fn transformer<T: Transformer>(step: Result<T>) -> [T; 1] {
    let mut step = step.expect("a transformer");
    rows().for_each(|row| step.learn(&row, 1.0).expect("a row"));
    [step]
}

fn scorer<T: Scorer>(scorer: Result<T>) -> [T; 1] {
    let mut scorer = scorer.expect("a scorer");
    rows().for_each(|[number, _]| scorer.learn(&[number]).expect("a row"));
    [scorer]
}

fn detector<T: Detector>(detector: Result<T>) -> [T; 1] {
    let mut detector = detector.expect("a detector");
    for [_, word] in rows() {
        detector.update(word / 2.0).expect("a number");
    }
    [detector]
}

fn of_rows<T: RowDetector>(mut detector: T, count: usize) -> T {
    let rows: Vec<_> = rows().collect();
    for row in rows.iter().cycle().take(count) {
        detector.update(&row[..detector.width()]).expect("a row");
    }
    detector
}

pub(super) fn models() -> Vec<Model> {
    let plain = [
        r#"{ "learner": "logistic" }"#,
        r#"{ "learner": "pipeline", "steps": [{ "step": "scaler" }, { "step": "one-hot", "words": 2 }], "model": { "learner": "naive-bayes" } }"#,
        r#"{ "learner": "pipeline", "steps": [{ "step": "hashing", "bits": 3 }], "model": { "learner": "neighbours", "window": 20 } }"#,
        r#"{ "learner": "auto", "trees": 1 }"#,
    ];
    let build = |json: &str| serde_json::from_str::<Spec>(json).expect("a learner").build(mixed(), 2, 1);
    plain.into_iter().flat_map(|json| classifier(build(json))).collect()
}

pub(super) fn regressors() -> Vec<RegressorModel> {
    let plain = [
        r#"{ "learner": "regression-forest", "trees": 2 }"#,
        r#"{ "learner": "pipeline", "steps": [{ "step": "one-hot" }, { "step": "scaler" }], "model": { "learner": "linear" } }"#,
    ];
    let build = |json: &str| serde_json::from_str::<RegressorSpec>(json).expect("a learner").build(mixed(), 1);
    plain.into_iter().flat_map(|json| regressor(build(json))).collect()
}

pub(super) fn auto() -> [Auto; 1] {
    let settings = auto::Settings { trees: Some(1), ..auto::Settings::default() };
    classifier(Auto::new(settings, Schema::numeric(2).expect("a schema"), 2, 1))
}

pub(super) fn basic() -> [Basic; 1] {
    classifier(HoeffdingTree::naive_bayes(mixed(), 3)).map(Basic::Tree)
}

pub(super) fn ensembles() -> Vec<Ensemble> {
    let [forest, patches] = [ensemble::Settings::adaptive_random_forest, ensemble::Settings::streaming_random_patches];
    let ensemble = |mut settings: ensemble::Settings| {
        settings.tree.grace = 20.0;
        classifier(Ensemble::new(settings, mixed(), 2, 1))
    };
    [forest(1), patches(1)].into_iter().flat_map(ensemble).collect()
}

pub(super) fn boosted() -> [Boosted; 1] {
    classifier(Boosted::new(boosted::Settings::of(2), mixed(), 3, 1))
}

pub(super) fn tree() -> [HoeffdingTree; 1] {
    let settings = tree::Settings { grace: 20.0, delta: 0.4, tie: 1.0, ..tree::Settings::default() };
    classifier(HoeffdingTree::new(settings, mixed(), 2, 1))
}

pub(super) fn logistic() -> [Logistic; 1] {
    classifier(Logistic::new(logistic::Settings { l1: 0.1, ..logistic::Settings::default() }, mixed(), 3))
}

pub(super) fn neighbours() -> [Neighbours; 1] {
    let settings = neighbours::Settings { neighbours: 3, window: 20, ..neighbours::Settings::default() };
    classifier(Neighbours::new(settings, mixed(), 2))
}

pub(super) fn forest() -> [RegressionForest; 1] {
    let mut settings = forest::Settings::of(1);
    settings.tree.grace = 20.0;
    regressor(RegressionForest::new(settings, mixed(), 1))
}

pub(super) fn linear() -> Vec<Linear> {
    let linear = |estimate| {
        let settings = linear::Settings { estimate, ..linear::Settings::default() };
        regressor(Linear::new(settings, mixed()))
    };
    [linear::Estimate::Mean, linear::Estimate::Quantile(0.9)].into_iter().flat_map(linear).collect()
}

pub(super) fn scalers() -> Vec<Scaler> {
    let scaler = |by| transformer(Scaler::new(scaler::Settings { by }, Schema::numeric(2).expect("a schema"), 1));
    [By::Deviation, By::Quantiles].into_iter().flat_map(scaler).collect()
}

pub(super) fn one_hot() -> [OneHot; 1] {
    transformer(OneHot::new(one_hot::Settings { words: 2 }, mixed()))
}

pub(super) fn hashing() -> [Hashing; 1] {
    transformer(Hashing::new(hashing::Settings { bits: 2, seed: 1 }, mixed()))
}

pub(super) fn encoder() -> [Encoder; 1] {
    let columns = vec![Feature::number("n"), Feature::words("w", 6)];
    let mut encoder = Encoder::new(columns).expect("an encoder");
    for word in ["nl", "de", "fr", "nl"] {
        encoder.learn(&[1.0.into(), word.into()]).expect("a row");
    }
    [encoder]
}

fn small() -> anomaly::ensemble::Settings {
    anomaly::ensemble::Settings {
        half_space: anomaly::half_space::Settings { trees: 1, depth: 3, window: 32, seed: 1 },
        isolation: anomaly::isolation::Settings { trees: 1, window: 32, leaf: 4, seed: 1 },
        loda: anomaly::loda::Settings { projections: 2, window: 128, seed: 1 },
    }
}

pub(super) fn scorers() -> [anomaly::Ensemble; 1] {
    scorer(anomaly::Ensemble::new(1, small()))
}

pub(super) fn half_space() -> [anomaly::HalfSpace; 1] {
    scorer(anomaly::HalfSpace::new(1, small().half_space))
}

pub(super) fn isolation() -> [anomaly::Isolation; 1] {
    scorer(anomaly::Isolation::new(1, small().isolation))
}

pub(super) fn loda() -> [anomaly::Loda; 1] {
    scorer(anomaly::Loda::new(1, small().loda))
}

pub(super) fn scaled<T: Scorer>([one]: [T; 1]) -> [anomaly::Scaled<T>; 1] {
    scorer(anomaly::Scaled::new(one))
}

pub(super) fn series() -> [anomaly::Series; 1] {
    let settings = anomaly::series::Settings {
        season: 8,
        window: 4,
        paces: vec![1, 2],
        ensemble: small(),
        ..anomaly::series::Settings::default()
    };
    scorer(anomaly::Series::new(1, settings))
}

pub(super) fn anomaly_scaler() -> [anomaly::Scaler; 1] {
    let mut scaler = anomaly::Scaler::new(1, 1).expect("a scaler");
    rows().for_each(|[number, _]| scaler.learn(&[number]).expect("a row"));
    [scaler]
}

pub(super) fn adwin() -> [drift::Adwin; 1] {
    detector(drift::Adwin::new(drift::adwin::Settings::default()))
}

pub(super) fn ddm() -> [drift::Ddm; 1] {
    detector(drift::Ddm::new(drift::ddm::Settings::default()))
}

pub(super) fn drift_e_detector() -> [drift::EDetector; 1] {
    let settings = drift::edetector::Settings { block: 4, ..drift::edetector::Settings::default() };
    detector(drift::EDetector::new(settings))
}

pub(super) fn hddm_average() -> [drift::HddmAverage; 1] {
    let settings = drift::hddm::Settings { direction: drift::Direction::Both, ..drift::hddm::Settings::default() };
    detector(drift::HddmAverage::new(settings))
}

pub(super) fn hddm_weighted() -> [drift::HddmWeighted; 1] {
    detector(drift::HddmWeighted::new(drift::hddm::Settings::default(), 0.05))
}

pub(super) fn page_hinkley() -> [drift::PageHinkley; 1] {
    detector(drift::PageHinkley::new(drift::page_hinkley::Settings::default()))
}

pub(super) fn inputs() -> [drift::Inputs; 2] {
    let settings = drift::inputs::Settings { reference: 200, window: 100, ..drift::inputs::Settings::default() };
    [50, 350].map(|count| of_rows(drift::Inputs::new(mixed(), settings.clone()).expect("a detector"), count))
}

pub(super) fn mmd() -> [drift::Mmd; 2] {
    let settings = drift::mmd::Settings {
        block: 5,
        reference: 8,
        window: 8,
        draws: 19,
        alpha: 0.05,
        ..drift::mmd::Settings::default()
    };
    [50, 260].map(|count| of_rows(drift::Mmd::new(1, settings.clone()).expect("a detector"), count))
}

pub(super) fn calibrators() -> [Calibrator; 2] {
    [10, 150].map(|count| {
        let settings = calibrate::Settings { alpha: 0.1, capacity: 100, ..calibrate::Settings::default() };
        let mut calibrator = Calibrator::new(settings, Some(3.0)).expect("a calibrator");
        for place in 0..count {
            calibrator.observe(place % 7, 1.0 + (place % 13) as f64, place as f64).expect("a score");
        }
        calibrator.confirm(3);
        calibrator
    })
}

pub(super) fn forecast() -> [Forecast; 1] {
    let settings = forecast::Settings { horizons: vec![1, 3], slots: 7, ..forecast::Settings::every(3_600.0) };
    let mut forecast = Forecast::new(settings).expect("a forecast");
    for (hour, [_, word]) in rows().enumerate() {
        forecast.observe(hour as f64 * 3_600.0, word).expect("a value");
    }
    [forecast]
}

pub(super) fn bandits() -> [Thompson; 2] {
    [Reward::Bernoulli, Reward::Gaussian].map(|reward| {
        let mut bandit = Thompson::new(3, reward, 0.99, 1).expect("a bandit");
        for [_, word] in rows() {
            let arm = bandit.choose();
            bandit.reward(arm, word / 2.0).expect("a reward");
        }
        bandit
    })
}

pub(super) fn share() -> [FixedShare; 1] {
    let mut share = FixedShare::new(3, 1.0, 0.01).expect("shares");
    share.update(&[0.1, f64::NAN, 0.7]).expect("losses");
    [share]
}

pub(super) fn guards() -> Vec<Guard> {
    let guard = |mode, evidence| {
        let settings =
            guard::Settings { mode, evidence, season: None, least: 5, slices: 1, ..guard::Settings::default() };
        Guard::new(settings).expect("a guard")
    };
    let mut paired = guard(guard::Mode::On, guard::Evidence::Paired);
    for label in 0..300 {
        let now = f64::from(label);
        let label =
            guard::Label { requested: now, champion: 1.0, challengers: &[0.0], slice: Some(0), contributor: None };
        paired.paired(&label, now).expect("a label");
    }
    let mut split = guard(guard::Mode::Shadow, guard::Evidence::Split);
    let lot = split.lot(0.5, 0.7).expect("a lot");
    split.split(&guard::Outcome { lot, requested: 1.0, loss: 0.5, slice: None }, 2.0).expect("an outcome");
    vec![paired, split, Guard::new(guard::Settings::default()).expect("a guard")]
}

pub(super) fn switchback() -> [Switchback; 1] {
    let mut blocks = Switchback::new(100.0, 1.0, 2, 1).expect("blocks");
    for second in [5.0, 50.0, 150.0] {
        blocks.observe(second, 0.5, second).expect("a loss");
    }
    [blocks]
}

pub(super) fn e_process() -> [evidence::EProcess; 1] {
    let mut process = evidence::EProcess::default();
    rows().for_each(|[_, word]| process.observe(word - 1.0).expect("a gain"));
    [process]
}

pub(super) fn e_detector() -> [evidence::EDetector; 1] {
    let mut detector = evidence::EDetector::new(1e4).expect("a detector");
    for [_, word] in rows() {
        detector.observe(word - 1.0).expect("a harm");
    }
    [detector]
}

pub(super) fn season() -> [evidence::Season; 1] {
    let mut season = evidence::Season::new(10.0).expect("a season");
    season.ended(3.0).expect("a time");
    [season]
}

pub(super) fn interval() -> [evidence::Interval; 1] {
    let mut interval = evidence::Interval::new(0.05).expect("an interval");
    rows().for_each(|[_, word]| interval.observe(word - 1.0).expect("a difference"));
    [interval]
}

pub(super) fn split_interval() -> [evidence::SplitInterval; 1] {
    let mut interval = evidence::SplitInterval::new(0.05, (0.5, 0.5)).expect("an interval");
    interval.observe(evidence::split::Side::First, 0.5).expect("a loss");
    interval.observe(evidence::split::Side::Second, 0.25).expect("a loss");
    [interval]
}

pub(super) fn adaptive_tree() -> [AdaptiveTree; 1] {
    classifier(AdaptiveTree::new(adaptive::Settings::default(), mixed(), 2, 1))
}

pub(super) fn regression_tree() -> [RegressionTree; 1] {
    let mut settings = fimt_dd::Settings { threshold: 1.0, ..fimt_dd::Settings::default() };
    (settings.tree.grace, settings.tree.delta) = (10.0, 0.4);
    regressor(RegressionTree::new(settings, mixed(), 1))
}

pub(super) fn judges_of_classes() -> [evaluate::Classes; 2] {
    [None, Some(1)].map(|positive| {
        let settings = evaluate::Settings { short: 5, long: 20, half_life: 10.0 };
        let mut judge = evaluate::Classes::new(settings, 2, positive).expect("a judge");
        for [number, word] in rows() {
            let answer = if number > 0.5 { Answer::Class(1) } else { Answer::Probabilities(&[0.75, 0.25]) };
            judge.observe(answer, usize::from(word > 0.0)).expect("an answer");
        }
        judge
    })
}

pub(super) fn judge_of_numbers() -> [evaluate::Numbers; 1] {
    let settings = evaluate::Settings { short: 5, long: 20, half_life: 10.0 };
    let mut judge = evaluate::Numbers::new(settings, 0.5).expect("a judge");
    rows().for_each(|[_, word]| judge.observe(1.0, word).expect("numbers"));
    [judge]
}

pub(super) fn peers() -> [Peers; 2] {
    let few = peers::Settings { block: 8, remembered: 3, ..peers::Settings::default() };
    // The second finds who turns labels round at once, and forgets who labelled least recently.
    [peers::Settings::default(), peers::Settings { run_length: 10.0, ..few }].map(|settings| {
        let mut peers = Peers::new(settings).expect("peers");
        for (turn, [_, word]) in rows().enumerate() {
            let who = turn as u64 % 5;
            peers.observe(who, word as u32, who == 4);
        }
        peers.distrust(0);
        peers
    })
}
