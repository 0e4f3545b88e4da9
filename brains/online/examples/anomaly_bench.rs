//! How well and how fast the anomaly scorers score: tables with labels by areas under curves, series by the volume
//! under the precision surface. `cargo run --release --example anomaly_bench -- [--data DIR] [--out FILE] [--quick]`.
//!
//! Every row is scored before it is learnt, in an order that is shuffled for each seed (tables) or as it came
//! (series). Labels are only looked at to judge.

use online::{
    Random,
    anomaly::{
        Ensemble, HalfSpace, Isolation, Loda, Scaled, Scorer, Series, ensemble, half_space, isolation, loda, series,
    },
};

#[expect(dead_code, reason = "other benches take the rest")]
mod measure;
use measure::{Arguments, Figures, Result, areas, files, number, pieces, table, timed};

/// Values of the twin's windows.
const WINDOW: usize = 32;

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let seeds = if arguments.quick { 2 } else { 10 };
    tables(&arguments, seeds, &mut figures)?;
    all_series(&arguments, &mut figures)?;
    figures.write(arguments.out.as_deref())
}

/// The scorers for rows of a width.
fn scorers(width: usize, seed: u64) -> Result<Vec<(&'static str, Box<dyn Scorer>)>> {
    let half_space = half_space::Settings { seed, ..Default::default() };
    let isolation = isolation::Settings { seed, ..Default::default() };
    let loda = loda::Settings { seed, ..Default::default() };
    let all = ensemble::Settings { half_space: half_space.clone(), isolation: isolation.clone(), loda: loda.clone() };
    Ok(vec![
        ("ours half-space", Box::new(Scaled::new(HalfSpace::new(width, half_space)?)?)),
        ("ours isolation", Box::new(Scaled::new(Isolation::new(width, isolation)?)?)),
        ("ours loda", Box::new(Scaled::new(Loda::new(width, loda)?)?)),
        ("ours ensemble", Box::new(Ensemble::new(width, all)?)),
    ])
}

fn tables(arguments: &Arguments, seeds: u64, figures: &mut Figures) -> Result<()> {
    for (case, path) in files(&arguments.data.join("anomaly"), |name| name.starts_with("adbench_"))? {
        let (header, rows) = table(&path)?;
        let width = header.len() - 1;
        let values: Vec<Vec<f64>> =
            rows.iter().map(|row| row.iter().take(width).map(|cell| number(cell)).collect()).collect();
        let labels: Vec<bool> = rows.iter().map(|row| number(&row[width]) > 0.0).collect();
        let mut sums = vec![[0.0; 6]; scorers(width, 0)?.len()];
        for seed in 0..seeds {
            let order = shuffled(values.len(), seed);
            for ((_, mut scorer), sums) in scorers(width, seed)?.into_iter().zip(&mut sums) {
                let (scores, time) = timed(|| prequential(&mut *scorer, order.iter().map(|place| &values[*place])));
                let truth: Vec<bool> = order.iter().map(|place| labels[*place]).collect();
                let (roc, precision, recall) = areas(&scores?, &truth);
                let after: Result<Vec<f64>> = values.iter().map(|row| Ok(scorer.score(row)?)).collect();
                let (roc_after, ..) = areas(&after?, &labels);
                let speed = values.len() as f64 / time.as_secs_f64();
                let found = [roc, precision, recall, roc_after, speed, scorer.memory() as f64 / 1e6];
                sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
            }
        }
        for ((subject, _), sums) in scorers(width, 0)?.iter().zip(&sums) {
            let metrics = [
                ("roc_auc", ""),
                ("pr_auc", ""),
                ("recall_at_1_percent", ""),
                ("roc_auc_after", ""),
                ("rows_per_s", "rows/s"),
                ("memory", "MB"),
            ];
            for ((metric, unit), sum) in metrics.iter().zip(sums) {
                figures.add([&case, subject, metric, unit], sum / seeds as f64)?;
            }
        }
    }
    Ok(())
}

fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..rows).collect();
    for place in (1..rows).rev() {
        order.swap(place, random.below(place as u32 + 1) as usize);
    }
    order
}

fn prequential<'a>(scorer: &mut dyn Scorer, rows: impl Iterator<Item = &'a Vec<f64>>) -> Result<Vec<f64>> {
    let step = |row: &Vec<f64>| {
        let score = scorer.score(row)?;
        scorer.learn(row)?;
        Ok(score)
    };
    rows.map(step).collect()
}

/// Every series of every file: volume under the surface, its mean by file.
fn all_series(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    for (case, path) in files(&arguments.data.join("anomaly"), |name| !name.starts_with("adbench_"))? {
        let (mut total, mut twin, mut count) = (0.0, 0.0, 0.0);
        let (mut rows, mut seconds) = (0.0, 0.0);
        for piece in pieces(&path)?.iter().filter(|piece| piece.tells()) {
            let mut scorer = Series::new(piece.rows[0].len(), series::Settings::default())?;
            let score = |row: &Vec<f64>| Ok(scorer.score_and_learn(row)?);
            let (scores, time) = timed(|| piece.rows.iter().map(score).collect::<Result<Vec<f64>>>());
            total += piece.volume(&scores?);
            twin += piece.volume(&sliding_components(&piece.rows));
            (rows, seconds) = (rows + piece.rows.len() as f64, seconds + time.as_secs_f64());
            count += 1.0;
        }
        if count > 0.0 {
            figures.add([&case, "ours series", "vus_pr", ""], total / count)?;
            figures.add([&case, "ours series", "us_per_row", "µs"], seconds * 1e6 / rows)?;
            figures.add([&case, "sliding pca, all at once", "vus_pr", ""], twin / count)?;
        }
    }
    Ok(())
}

/// The twin: windows of the whole series at once, by their squared distance along all principal components, each by its
/// variance; summed over channels, and put at the window's middle. It knows the future, as batch methods do.
fn sliding_components(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut total = vec![0.0; rows.len()];
    for channel in 0..rows.first().map_or(0, Vec::len) {
        let values: Vec<f64> = rows.iter().map(|row| if row[channel].is_nan() { 0.0 } else { row[channel] }).collect();
        let windows: Vec<&[f64]> = values.windows(WINDOW).collect();
        let n = windows.len().max(1) as f64;
        let mean: Vec<f64> = (0..WINDOW).map(|lag| windows.iter().map(|window| window[lag]).sum::<f64>() / n).collect();
        let mut covariance = vec![[0.0; WINDOW]; WINDOW];
        for window in &windows {
            for a in 0..WINDOW {
                for b in 0..=a {
                    covariance[a][b] += (window[a] - mean[a]) * (window[b] - mean[b]) / n;
                }
            }
        }
        let ridge = (0..WINDOW).map(|lag| covariance[lag][lag]).sum::<f64>() / WINDOW as f64 * 1e-6 + 1e-12;
        (0..WINDOW).for_each(|lag| covariance[lag][lag] += ridge);
        let factor = cholesky(covariance);
        for (begin, window) in windows.iter().enumerate() {
            let mut z = [0.0; WINDOW];
            for a in 0..WINDOW {
                let known: f64 = (0..a).map(|b| factor[a][b] * z[b]).sum();
                z[a] = (window[a] - mean[a] - known) / factor[a][a];
            }
            total[begin + WINDOW / 2] += z.iter().map(|z| z * z).sum::<f64>();
        }
    }
    total
}

fn cholesky(mut matrix: Vec<[f64; WINDOW]>) -> Vec<[f64; WINDOW]> {
    for a in 0..WINDOW {
        for b in 0..=a {
            let known: f64 = (0..b).map(|c| matrix[a][c] * matrix[b][c]).sum();
            let rest = matrix[a][b] - known;
            matrix[a][b] = if a == b { rest.max(1e-15).sqrt() } else { rest / matrix[b][b] };
        }
    }
    matrix
}
