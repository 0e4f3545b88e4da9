//! Small attackers and ordinary callers against [`Queries`].

use online::Random;
use proptest::prelude::*;

use super::*;

const WIDTH: usize = 8;

/// Ordinary rows: columns that hang together, and a model that is a line through them.
struct World(Random);

impl World {
    fn row(&mut self) -> Vec<f64> {
        let (one, other) = (self.0.normal(), self.0.normal());
        self.beside(one, other)
    }

    fn beside(&mut self, one: f64, other: f64) -> Vec<f64> {
        (0..WIDTH)
            .map(|at| one * (at as f64 * 0.7).sin() + other * (at as f64 * 0.4).cos() + 0.1 * self.0.normal())
            .collect()
    }

    fn seen() -> (Self, Queries) {
        let mut world = Self(Random::new(5));
        let mut queries = Queries::new(Settings::default(), WIDTH, 3);
        for n in 0..1_200_u32 {
            let row = world.row();
            ask(&mut queries, u64::from(n % 40), &row, f64::from(n) / 4.0);
        }
        (world, queries)
    }
}

/// The model: how likely the second class is.
fn scores(row: &[f64]) -> [f64; 2] {
    let sum: f64 = row.iter().enumerate().map(|(at, value)| value * ((at * 3 % 5) as f64 - 2.0)).sum();
    let second = 1.0 / (1.0 + (-sum).exp());
    [1.0 - second, second]
}

fn label(row: &[f64]) -> bool {
    scores(row)[1] > 0.5
}

fn ask(queries: &mut Queries, caller: u64, row: &[f64], now: f64) -> Seen {
    queries.observe(caller, row, Said::Scores(&scores(row)), now)
}

fn middle(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| (one + other) / 2.0).collect()
}

/// Two ordinary rows of unlike answers.
fn apart(world: &mut World) -> (Vec<f64>, Vec<f64>) {
    let one = world.row();
    loop {
        let other = world.row();
        if label(&other) != label(&one) {
            return (one, other);
        }
    }
}

#[test]
fn a_binary_search_between_two_rows_is_seen_within_twelve() {
    let (mut world, mut queries) = World::seen();
    let (mut one, mut other) = apart(&mut world);
    let mut seen = [ask(&mut queries, 900, &one, 301.0), ask(&mut queries, 900, &other, 301.1)][1];
    for step in 0..10 {
        let half = middle(&one, &other);
        seen = ask(&mut queries, 900, &half, 301.2 + f64::from(step) / 10.0);
        if label(&half) == label(&one) { one = half } else { other = half }
    }
    assert!(seen.evasion > 15.0, "{seen:?}");
    let words = queries.evidence(900).unwrap().to_string();
    assert!(words.contains("lie between two others"), "{words}");
}

#[test]
fn accounts_that_take_turns_are_one_attacker() {
    let (mut world, mut queries) = World::seen();
    let (mut one, mut other) = apart(&mut world);
    for _ in 0..10 {
        let half = middle(&one, &other);
        if label(&half) == label(&one) { one = half } else { other = half }
    }
    let mut last = [Seen::default(); 4];
    for step in 0..160_u32 {
        let noisy: Vec<f64> = one.iter().map(|value| value + 0.01 * world.0.normal()).collect();
        last[step as usize % 4] = ask(&mut queries, 900 + u64::from(step % 4), &noisy, 301.0 + f64::from(step));
    }
    assert!(last.iter().all(|seen| seen.evasion > 15.0), "{last:?}");
}

#[test]
fn made_up_rows_are_seen_at_once_and_by_many_accounts_as_well() {
    for accounts in [1, 10] {
        let (mut world, mut queries) = World::seen();
        let mut greatest = 1.0_f64;
        for step in 0..30_u32 {
            let row: Vec<f64> = (0..WIDTH).map(|_| 8.0 * world.0.uniform() - 4.0).collect();
            let seen = ask(&mut queries, 900 + u64::from(step % accounts), &row, 301.0 + f64::from(step) / 10.0);
            greatest = greatest.max(seen.extraction);
        }
        assert!(greatest > 12.0, "{accounts} accounts: {greatest}");
    }
}

#[test]
fn ordinary_callers_are_left_alone() {
    let (mut world, mut queries) = World::seen();
    let mut state = (1.5, 1.5);
    let job: Vec<Vec<f64>> = (0..30).map(|_| world.row()).collect();
    for step in 0..600_u32 {
        let now = 301.0 + f64::from(step);
        // One that hardly moves, one that asks the same again and again, and one that tries again.
        state = (0.99 * state.0 + 0.1 * world.0.normal(), 0.99 * state.1 + 0.1 * world.0.normal());
        let sensor = world.beside(state.0, state.1);
        let new = world.row();
        for (caller, row) in [(900, &sensor), (901, &job[step as usize % 30]), (902, &new), (902, &new)] {
            let seen = ask(&mut queries, caller, row, now);
            // Half of what is a rule's word.
            assert!(seen.evasion < 11.0 && seen.extraction < 12.0, "{caller} {seen:?} {:?}", queries.evidence(caller));
        }
    }
}

/// Somebody who looks for a boundary around a row, by rows on a line through it and mirrored at it, with unlike, unsure answers.
fn frame(world: &mut World, queries: &mut Queries, row: &[f64], now: f64) {
    let way: Vec<f64> = world.row().iter().map(|value| 0.05 * value).collect();
    for step in 0..8_u32 {
        let share = (1.0 - f64::from(step) / 8.0) * if step % 2 == 0 { 1.0 } else { -1.0 };
        let beside: Vec<f64> = row.iter().zip(&way).map(|(row, way)| row + share * way).collect();
        let unsure = 0.5 + 0.05 / f64::from(step + 1);
        let said = if step % 2 == 0 { [unsure, 1.0 - unsure] } else { [1.0 - unsure, unsure] };
        queries.observe(800 + u64::from(step % 2), &beside, Said::Scores(&said), now);
    }
}

#[test]
fn nobody_can_frame_a_batch_a_retry_or_a_film() {
    let (mut world, mut queries) = World::seen();
    let (mut shot, mut greatest) = (world.row(), [1.0_f64; 3]);
    while scores(&shot)[0].min(scores(&shot)[1]) > 0.1 {
        shot = world.row();
    }
    for step in 0..150_u32 {
        let now = 301.0 + f64::from(step);
        let new = world.row();
        let frame_of_film: Vec<f64> = shot.iter().map(|value| value + 0.02 * world.0.normal()).collect();
        for row in [&new, &shot] {
            frame(&mut world, &mut queries, row, now);
        }
        for (at, (caller, row)) in [(900, &new), (901, &new), (902, &frame_of_film)].into_iter().enumerate() {
            greatest[at] = greatest[at].max(ask(&mut queries, caller, row, now + 0.1).evasion);
        }
        frame(&mut world, &mut queries, &new, now + 0.2);
        greatest[1] = greatest[1].max(ask(&mut queries, 901, &new, now + 0.3).evasion);
    }
    assert!(greatest.iter().all(|greatest| *greatest < 9.0), "{greatest:?}");
    let framer = ask(&mut queries, 800, &shot, 452.0);
    assert!(framer.evasion > 20.0, "who does it is seen: {framer:?}");
}

#[test]
fn a_crowd_that_asks_made_up_rows_says_little_of_a_newcomer() {
    let (mut world, mut queries) = World::seen();
    for account in 0..200_u32 {
        let row: Vec<f64> = (0..WIDTH).map(|_| 8.0 * world.0.uniform() - 4.0).collect();
        ask(&mut queries, 5_000 + u64::from(account), &row, 301.0 + f64::from(account) / 10.0);
    }
    let (one, other) = apart(&mut world);
    let unsure: Vec<f64> = middle(&one, &other);
    ask(&mut queries, 900, &unsure, 330.0);
    let seen = ask(&mut queries, 900, &one, 331.0);
    assert!(seen.extraction < 9.0, "{seen:?}");
}

#[test]
fn steps_of_equal_size_are_seen_in_whole_numbers_too() {
    let mut world = World(Random::new(5));
    let mut queries = Queries::new(Settings::default(), WIDTH, 3);
    let whole = |row: Vec<f64>| -> Vec<f64> { row.iter().map(|value| (10.0 * value).round()).collect() };
    for n in 0..1_200_u32 {
        let row = whole(world.row());
        ask(&mut queries, u64::from(n % 40), &row, f64::from(n) / 4.0);
    }
    let row = whole(world.row());
    let mut seen = ask(&mut queries, 900, &row, 301.0);
    for step in 0..6_u32 {
        let made: Vec<f64> = row.iter().map(|value| value + if world.0.below(2) == 0 { 0.6 } else { -0.6 }).collect();
        seen = ask(&mut queries, 900, &made, 302.0 + f64::from(step));
    }
    assert!(seen.evasion > 12.0, "{seen:?} {:?}", queries.evidence(900));
}

#[test]
fn natural_values_that_do_not_go_together_are_seen() {
    let (mut world, mut queries) = World::seen();
    let mut greatest = 1.0_f64;
    for step in 0..30_u32 {
        let row: Vec<f64> = (0..WIDTH).map(|at| world.row()[at]).collect();
        greatest = greatest.max(ask(&mut queries, 900, &row, 301.0 + f64::from(step)).extraction);
    }
    assert!(greatest > 12.0, "{greatest}");
}

#[test]
fn what_is_asked_again_costs_nothing_and_what_was_spent_is_forgotten_slowly() {
    let (mut world, mut queries) = World::seen();
    let row = world.row();
    assert!(queries.observe(900, &row, Said::Scores(&[0.5, 0.5]), 301.0).price > 0.0);
    let again = queries.observe(900, &row, Said::Scores(&[0.5, 0.5]), 302.0);
    assert_eq!(again.price, 0.0);
    let later = queries.observe(900, &row, Said::Scores(&[0.5, 0.5]), 302.0 + 86_400.0);
    assert!((later.spent / again.spent - 0.5).abs() < 1e-6, "{later:?} {again:?}");
}

#[test]
fn a_score_only_grows_in_its_window() {
    let (mut world, mut queries) = World::seen();
    for _ in 0..5 {
        let row: Vec<f64> = (0..WIDTH).map(|_| 8.0 * world.0.uniform() - 4.0).collect();
        ask(&mut queries, 900, &row, 301.0);
    }
    let before = ask(&mut queries, 900, &[9.0; WIDTH], 302.0).extraction;
    for step in 0..50 {
        let row = world.row();
        assert!(ask(&mut queries, 900, &row, 303.0 + f64::from(step) / 10.0).extraction >= before);
    }
    let row = world.row();
    assert!(ask(&mut queries, 900, &row, 301.0 + 36_000.0).extraction < before / 2.0);
}

#[test]
fn many_callers_do_not_grow_it_and_the_suspect_one_is_kept() {
    let mut world = World(Random::new(1));
    let mut queries = Queries::new(Settings { callers: 500, rows: 1_000, ..Settings::default() }, WIDTH, 3);
    for n in 0..2_000_u32 {
        let row = world.row();
        ask(&mut queries, u64::from(n % 100), &row, f64::from(n) / 100.0);
    }
    for n in 0..20_u32 {
        let row: Vec<f64> = (0..WIDTH).map(|_| 8.0 * world.0.uniform() - 4.0).collect();
        ask(&mut queries, 7_777_777, &row, 20.0 + f64::from(n) / 100.0);
    }
    for n in 0..5_000_u32 {
        let row = [f64::from(n % 53), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f64::from(n % 13)];
        ask(&mut queries, 1_000_000 + u64::from(n), &row, 21.0 + f64::from(n) / 10_000.0);
    }
    assert_eq!(queries.callers(), 500);
    assert!(queries.forgotten() > 4_000);
    assert!(queries.evidence(7_777_777).is_some());
}

#[test]
fn large_images_are_looked_at_in_windows() {
    let mut random = Random::new(2);
    let mut queries = Queries::new(Settings { rows: 256, ..Settings::default() }, 230_000, 1);
    let mut image = vec![0.0; 230_000];
    for n in 0..80_u32 {
        for value in image.iter_mut().step_by(97) {
            *value = random.uniform();
        }
        let seen = queries.observe(u64::from(n % 5), &image, Said::Label(n % 2), f64::from(n));
        assert!(seen.evasion >= 1.0 && seen.extraction >= 1.0);
    }
    assert_eq!(queries.observe(0, &image[1..], Said::Value(1.0), 99.0), Seen::default());
    assert_eq!(queries.misshapen(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic_or_say_what_is_no_number(
        width in 0_usize..70,
        values in prop::collection::vec(any::<f64>(), 70),
        kind in 0_u8..3,
        seed in any::<u64>(),
    ) {
        let mut queries = Queries::new(Settings { rows: 64, callers: 4, ..Settings::default() }, width, seed);
        let mut random = Random::new(seed);
        for n in 0..200_u32 {
            let row: Vec<f64> = (0..width).map(|_| values[random.below(70) as usize] * random.uniform()).collect();
            let said = match kind {
                0 => Said::Scores(&values[..width.min(5)]),
                1 => Said::Label(n % 3),
                _ => Said::Value(values[0]),
            };
            let now = if n == 150 { values[0] } else { f64::from(n) };
            let seen = queries.observe(u64::from(random.below(9)), &row, said, now);
            for number in [seen.evasion, seen.extraction, seen.spent, seen.price] {
                prop_assert!(number.is_finite() && number >= 0.0, "{:?}", seen);
            }
        }
        prop_assert!(queries.callers() <= 4);
    }
}

#[test]
fn whoever_asks_a_model_alone_is_what_is_ordinary_there() {
    let (mut world, mut queries) = (World(Random::new(8)), Queries::new(Settings::default(), WIDTH, 3));
    for step in 0..600_u32 {
        // A clock among the columns, so that each row is beyond all before it.
        let mut row = world.row();
        row[0] = f64::from(step) / 10.0;
        let seen = ask(&mut queries, 7, &row, f64::from(step));
        assert!(seen.extraction < 2.0, "{step}: {seen:?}");
    }
    // Somebody else beside it is still seen, if later.
    let mut seen = Seen::default();
    for step in 0..200_u32 {
        let row: Vec<f64> = (0..WIDTH).map(|_| 80.0 * world.0.uniform() - 40.0).collect();
        seen = ask(&mut queries, 8, &row, 700.0 + f64::from(step));
    }
    assert!(seen.extraction > 8.0, "{seen:?}");
}

/// A jittered search for a boundary by five accounts in turn: after how many rows all of them together are suspect, at most 2,000.
fn search(world: &mut World, queries: &mut Queries, accounts: u64, begin: f64) -> u32 {
    let (mut one, mut other) = apart(world);
    for step in 0..2_000_u32 {
        let noisy: Vec<f64> = middle(&one, &other).iter().map(|value| value + 0.02 * world.0.normal()).collect();
        let account = accounts + u64::from(step / 7 % 5);
        if ask(queries, account, &noisy, begin + f64::from(step) / 20.0).evasion > 12.0 {
            return step;
        }
        if label(&noisy) == label(&one) { one = noisy } else { other = noisy }
    }
    2_000
}

#[test]
fn many_new_accounts_do_not_teach_what_is_ordinary() {
    let (mut world, mut queries) = World::seen();
    let mut at = 301.0;
    // Twenty windows of ordinary callers: they are settled, the model is not new any more.
    for step in 0..1_200_u32 {
        let row = world.row();
        ask(&mut queries, u64::from(step % 40), &row, at + f64::from(step));
    }
    at += 1_200.0;
    let flips = queries.rates.flips();
    let line = queries.rates.line();
    let mut rows = Vec::new();
    for number in 0..80_u32 {
        rows.push(search(&mut world, &mut queries, 1_000 + 5 * u64::from(number), at));
        at += 30.0;
    }
    let median = |rows: &[u32]| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows[rows.len() / 2]
    };
    let (first, last) = (median(&rows[..20]), median(&rows[60..]));
    assert!(last <= 2 * first.max(10), "{first} rows, and after sixty others {last}");
    assert_eq!((queries.rates.flips(), queries.rates.line()), (flips, line), "only strangers asked");
}

#[test]
fn where_few_ask_everybody_says_what_is_ordinary() {
    let (mut world, mut queries) = (World(Random::new(8)), Queries::new(Settings::default(), WIDTH, 3));
    for step in 0..2_400_u32 {
        let row = world.row();
        ask(&mut queries, u64::from(step % 3), &row, f64::from(step));
    }
    let before = queries.rates.flips();
    for step in 0..300_u32 {
        let (one, other) = apart(&mut world);
        let noisy: Vec<f64> = one.iter().map(|value| value + 0.02 * world.0.normal()).collect();
        for row in [&one, &noisy, &other] {
            ask(&mut queries, 50, row, 2_400.0 + f64::from(step));
        }
    }
    assert!(queries.rates.flips() != before, "a newcomer beside three others");
}
