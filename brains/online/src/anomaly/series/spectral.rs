//! The spectral residual: how much the last value stands out once a series' usual frequencies are taken away.

/// Values of a spectrum: a power of two.
const SIZE: usize = 64;
/// Times that the last value is repeated: an edge of the spectrum's window stands out by itself.
const AFTER: usize = 5;
/// Neighbours on each side that a frequency's amplitude is compared with.
const NEIGHBOURS: usize = 1;

/// How many times the mean saliency the last value's saliency is, less one (Ren et al. 2019, eq. 1 to 7): at least
/// −1, and 0 for a constant series. `before` are the values before it, the newest last.
pub(super) fn residual(before: &[f64], value: f64) -> f64 {
    let (mut real, mut imaginary) = ([0.0; SIZE], [0.0; SIZE]);
    let last = SIZE - 1 - AFTER;
    for (place, old) in real.iter_mut().take(last).rev().zip(before.iter().rev()) {
        *place = *old;
    }
    // What follows is the last value moved on by the mean slope of the few before it, as there.
    let slope = (value - real[last - AFTER]) / AFTER as f64;
    for (place, real) in real.iter_mut().skip(last).enumerate() {
        *real = if place == 0 { value } else { value + slope };
    }
    fourier(&mut real, &mut imaginary);
    flatten(&mut real, &mut imaginary);
    // The transform of the conjugate is the conjugate of the inverse: amplitudes are the same.
    imaginary.iter_mut().for_each(|value| *value = -*value);
    fourier(&mut real, &mut imaginary);
    let saliency = |place: usize| real[place].hypot(imaginary[place]);
    let mean = (0..=last).map(saliency).sum::<f64>() / (last + 1) as f64;
    if mean > 1e-12 { saliency(last) / mean - 1.0 } else { 0.0 }
}

/// Divides each frequency's amplitude by its neighbours' geometric mean.
fn flatten(real: &mut [f64; SIZE], imaginary: &mut [f64; SIZE]) {
    let amplitudes: [f64; SIZE] = std::array::from_fn(|at| real[at].hypot(imaginary[at]));
    let logs = amplitudes.map(|amplitude| (amplitude + 1e-8).ln());
    for at in 0..SIZE {
        let around = (SIZE + at - NEIGHBOURS..=SIZE + at + NEIGHBOURS).map(|near| logs[near % SIZE]);
        let mean = around.sum::<f64>() / (2 * NEIGHBOURS + 1) as f64;
        let scale = (logs[at] - mean).exp() / amplitudes[at].max(1e-8);
        real[at] *= scale;
        imaginary[at] *= scale;
    }
}

/// The discrete Fourier transform in place (Cooley and Tukey 1965).
fn fourier(real: &mut [f64; SIZE], imaginary: &mut [f64; SIZE]) {
    let bits = SIZE.trailing_zeros();
    for at in 0..SIZE {
        let other = at.reverse_bits() >> (usize::BITS - bits);
        if at < other {
            real.swap(at, other);
            imaginary.swap(at, other);
        }
    }
    let mut half = 1;
    while half < SIZE {
        let (step_sin, step_cos) = (-std::f64::consts::PI / half as f64).sin_cos();
        let (mut cos, mut sin) = (1.0, 0.0);
        for offset in 0..half {
            for even in (offset..SIZE).step_by(2 * half) {
                let odd = even + half;
                let turned = (real[odd] * cos - imaginary[odd] * sin, real[odd] * sin + imaginary[odd] * cos);
                (real[odd], imaginary[odd]) = (real[even] - turned.0, imaginary[even] - turned.1);
                (real[even], imaginary[even]) = (real[even] + turned.0, imaginary[even] + turned.1);
            }
            (cos, sin) = (cos * step_cos - sin * step_sin, cos * step_sin + sin * step_cos);
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transform_is_the_sum_it_stands_for() {
        let values: [f64; SIZE] = std::array::from_fn(|at| ((at * at) % 17) as f64);
        let (mut real, mut imaginary) = (values, [0.0; SIZE]);
        fourier(&mut real, &mut imaginary);
        for frequency in [0, 1, 7, 32, 63] {
            let angle = |at: usize| -std::f64::consts::TAU * (at * frequency) as f64 / SIZE as f64;
            let sum = |part: fn(f64) -> f64| {
                values.iter().enumerate().map(|(at, value)| value * part(angle(at))).sum::<f64>()
            };
            assert!(
                (real[frequency] - sum(f64::cos)).abs() < 1e-9 && (imaginary[frequency] - sum(f64::sin)).abs() < 1e-9
            );
        }
    }

    #[test]
    fn a_spike_stands_out_of_a_rhythm() {
        let wave = |at: usize| (at as f64 * 0.7).sin();
        let before: Vec<f64> = (0..SIZE - 1).map(wave).collect();
        assert!(residual(&before, 5.0) > residual(&before, wave(SIZE - 1)) + 1.0);
        assert_eq!(residual(&[0.0; SIZE - 1], 0.0), 0.0);
        assert!(residual(&[2.0; SIZE - 1], 2.0).is_finite());
    }
}
