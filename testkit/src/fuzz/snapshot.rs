//! A snapshot of anything that learns, as a node finds it on its disk or is handed it.

mod seeds;
mod trials;

use online::{
    AdaptiveTree, Auto, Basic, Boosted, Encoder, Ensemble, Hashing, HoeffdingTree, Linear, Logistic, Neighbours,
    OneHot, RegressionForest, RegressionTree, Scaler, Snapshot, anomaly,
    bandit::Thompson,
    calibrate::Calibrator,
    drift, evaluate, evidence,
    forecast::Forecast,
    guard::{Guard, Switchback},
    peers::Peers,
    registry::{Model, RegressorModel},
    share::FixedShare,
};

use super::{seed, split};

/// One kind of snapshot.
struct Room {
    /// Its name and version, which say what the state is.
    kind: &'static str,
    version: u16,
    /// Loads it, and has it do what it is for.
    run: fn(&[u8]),
    /// Some that were saved.
    seeds: fn() -> Vec<Vec<u8>>,
}

/// What each snapshot begins and ends with.
const MAGIC: &[u8] = b"mantlet online\n";
const CHECKSUM: usize = 4;

/// A whole snapshot; one without its checksum, which is made here; or the state of a kind that the next byte names, for
/// which all the rest is made here. What loads is saved as it is, gives answers, learns, and is saved as it is again.
pub fn snapshot(data: &[u8]) {
    let Some((way, rest)) = split(data, 3) else { return };
    match way {
        0 => ROOMS.iter().for_each(|room| (room.run)(rest)),
        1 => ROOMS.iter().for_each(|room| (room.run)(&sealed(rest.to_vec()))),
        _ => {
            let Some((place, state)) = split(rest, ROOMS.len() as u8) else { return };
            let room = &ROOMS[usize::from(place)];
            (room.run)(&sealed([&head(room), state].concat()));
        }
    }
}

fn head(room: &Room) -> Vec<u8> {
    let kind = room.kind.as_bytes();
    [MAGIC, &[kind.len() as u8], kind, &room.version.to_le_bytes()].concat()
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend_from_slice(&checksum);
    bytes
}

pub(super) fn all_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, room) in ROOMS.iter().enumerate() {
        for saved in (room.seeds)() {
            let state = &saved[head(room).len()..saved.len() - CHECKSUM];
            seeds.push(seed(2, [&[place as u8], state].concat()));
        }
    }
    let saved = (ROOMS[0].seeds)().swap_remove(0);
    seeds.push(seed(1, &saved[..saved.len() - CHECKSUM]));
    seeds.push(seed(0, saved));
    seeds
}

/// Rooms of types, with their names and versions as the types say.
macro_rules! rooms {
    ($($type:ty, $run:expr, $seeds:expr;)+) => {
        [$(Room {
            kind: <$type as Snapshot>::KIND,
            version: <$type as Snapshot>::VERSION,
            run: $run,
            seeds: || $seeds.iter().map(<$type as Snapshot>::save).collect(),
        }),+]
    };
}

/// Everything that can be saved.
const ROOMS: [Room; 48] = rooms! {
    Model, trials::classifier::<Model>, seeds::models();
    RegressorModel, trials::regressor::<RegressorModel>, seeds::regressors();
    Auto, trials::classifier::<Auto>, seeds::auto();
    Basic, trials::classifier::<Basic>, seeds::basic();
    Ensemble, trials::classifier::<Ensemble>, seeds::ensembles();
    Boosted, trials::classifier::<Boosted>, seeds::boosted();
    HoeffdingTree, trials::classifier::<HoeffdingTree>, seeds::tree();
    Logistic, trials::classifier::<Logistic>, seeds::logistic();
    Neighbours, trials::classifier::<Neighbours>, seeds::neighbours();
    RegressionForest, trials::regressor::<RegressionForest>, seeds::forest();
    Linear, trials::regressor::<Linear>, seeds::linear();
    Scaler, trials::transformer::<Scaler>, seeds::scalers();
    OneHot, trials::transformer::<OneHot>, seeds::one_hot();
    Hashing, trials::transformer::<Hashing>, seeds::hashing();
    Encoder, trials::encoder, seeds::encoder();
    anomaly::Ensemble, trials::scorer::<anomaly::Ensemble>, seeds::scorers();
    anomaly::HalfSpace, trials::scorer::<anomaly::HalfSpace>, seeds::half_space();
    anomaly::Isolation, trials::scorer::<anomaly::Isolation>, seeds::isolation();
    anomaly::Loda, trials::scorer::<anomaly::Loda>, seeds::loda();
    anomaly::Scaled<anomaly::HalfSpace>, trials::scorer::<anomaly::Scaled<anomaly::HalfSpace>>, seeds::scaled(seeds::half_space());
    anomaly::Scaled<anomaly::Isolation>, trials::scorer::<anomaly::Scaled<anomaly::Isolation>>, seeds::scaled(seeds::isolation());
    anomaly::Scaled<anomaly::Loda>, trials::scorer::<anomaly::Scaled<anomaly::Loda>>, seeds::scaled(seeds::loda());
    anomaly::Series, trials::scorer::<anomaly::Series>, seeds::series();
    anomaly::Scaler, trials::anomaly_scaler, seeds::anomaly_scaler();
    drift::Adwin, trials::detector::<drift::Adwin>, seeds::adwin();
    drift::Ddm, trials::detector::<drift::Ddm>, seeds::ddm();
    drift::EDetector, trials::detector::<drift::EDetector>, seeds::drift_e_detector();
    drift::HddmAverage, trials::detector::<drift::HddmAverage>, seeds::hddm_average();
    drift::HddmWeighted, trials::detector::<drift::HddmWeighted>, seeds::hddm_weighted();
    drift::PageHinkley, trials::detector::<drift::PageHinkley>, seeds::page_hinkley();
    drift::Inputs, trials::inputs, seeds::inputs();
    drift::Mmd, trials::mmd, seeds::mmd();
    Calibrator, trials::calibrator, seeds::calibrators();
    Forecast, trials::forecaster, seeds::forecast();
    Thompson, trials::thompson, seeds::bandits();
    FixedShare, trials::fixed_share, seeds::share();
    Guard, trials::guarded, seeds::guards();
    Switchback, trials::switchback, seeds::switchback();
    evidence::EProcess, trials::e_process, seeds::e_process();
    evidence::EDetector, trials::e_detector, seeds::e_detector();
    evidence::Season, trials::season, seeds::season();
    evidence::Interval, trials::interval, seeds::interval();
    evidence::SplitInterval, trials::split_interval, seeds::split_interval();
    AdaptiveTree, trials::classifier::<AdaptiveTree>, seeds::adaptive_tree();
    RegressionTree, trials::regressor::<RegressionTree>, seeds::regression_tree();
    evaluate::Classes, trials::judge_of_classes, seeds::judges_of_classes();
    evaluate::Numbers, trials::judge_of_numbers, seeds::judge_of_numbers();
    Peers, trials::peers, seeds::peers();
};
