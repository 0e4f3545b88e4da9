//! Who is better is promoted, who is not is not, and a person's word holds.

use super::*;

fn learning(promote: Promote) -> Learning {
    let season = Some(types::quantity::Span(std::time::Duration::ZERO));
    Learning { promote, season, ..Learning::default() }
}

fn contest(promote: Promote) -> Contest {
    Contest::new([Version(1), Version(2)], 1, 10, (&learning(promote), 0)).unwrap()
}

fn seen(sequence: u64, at: u64, contributor: u64, truth: Truth) -> Seen {
    Seen { sequence, at: Timestamp(at), received: Timestamp(at + 5), contributor, slice: None, truth }
}

fn says(right: bool) -> Answer {
    Answer::Probabilities(if right { vec![0.1, 0.9] } else { vec![0.9, 0.1] })
}

/// Tells a contest of labels, where each side is wrong every so many times; returns what followed and when.
fn run(contest: &mut Contest, from: u64, labels: u64, wrong: [u64; 2]) -> Option<(u64, Verdict)> {
    (from..from + labels).find_map(|n| {
        let said = wrong.map(|every| says(every == 0 || n % every != 0));
        let verdict = contest.take(&seen(n, n * 10, 1, Truth::Class(1)), [&said[0], &said[1]])?;
        Some((n, verdict))
    })
}

#[test]
fn who_is_better_is_promoted_and_hands_back_when_it_becomes_worse() {
    let mut contest = contest(Promote::Automatic);
    let (when, verdict) = run(&mut contest, 10, 2_000, [4, 40]).unwrap();
    assert_eq!((verdict, contest.stand), (Verdict::Promote, Stand::Promoted));
    assert!((100..700).contains(&when), "{when}");
    let decided = contest.decided().unwrap().clone();
    assert_eq!((decided.from, decided.offset, decided.labels), (10, when + 1, when - 9));
    assert!(decided.challenger_loss < decided.champion_loss);
    assert!(contest.reason().contains("version 2 lost") && contest.acts());
    let (later, verdict) = run(&mut contest, when + 1, 2_000, [40, 2]).unwrap();
    assert_eq!((verdict, contest.stand), (Verdict::HandBack, Stand::HandedBack));
    assert!(later - when < 500, "{later}");
    assert_eq!(run(&mut contest, later + 1, 1_000, [2, 40]), None, "it had its chance");
}

#[test]
fn who_is_alike_or_worse_is_not_and_old_entries_count_once() {
    for wrong in [[10, 10], [20, 10], [0, 10]] {
        assert_eq!(run(&mut contest(Promote::Automatic), 10, 3_000, wrong), None, "{wrong:?}");
    }
    let mut contest = contest(Promote::Automatic);
    run(&mut contest, 10, 50, [4, 40]);
    let before = serde_json::to_value(&contest).unwrap();
    run(&mut contest, 10, 50, [4, 40]);
    assert_eq!(serde_json::to_value(&contest).unwrap(), before, "what was taken in is not taken in again");
}

#[test]
fn a_person_is_asked_and_has_the_last_word() {
    let mut asked = contest(Promote::Suggest);
    let (when, verdict) = run(&mut asked, 10, 2_000, [4, 40]).unwrap();
    assert_eq!((verdict, asked.stand), (Verdict::Propose, Stand::Proposed));
    assert_eq!(run(&mut asked, when + 1, 500, [4, 40]), None, "once is enough");
    let kept: Contest = serde_json::from_value(serde_json::to_value(&asked).unwrap()).unwrap();
    let mut approved = kept;
    approved.approve("ada: it is".into());
    assert!(approved.acts());
    assert_eq!(run(&mut approved, when + 501, 300, [4, 40]), None, "it answers already");
    assert_eq!(run(&mut approved, when + 801, 2_000, [40, 2]).unwrap().1, Verdict::HandBack, "and is watched");
    asked.reject("ada: not today".into());
    assert_eq!(run(&mut asked, when + 501, 2_000, [4, 40]), None);
    assert_eq!(asked.word(), Some("ada: not today"));
}

#[test]
fn of_a_crowd_no_contributor_decides_alone() {
    let mut contest = contest(Promote::Automatic);
    let mut promoted = None;
    for n in 0..4_000 {
        // One of ten says that the challenger is always right and the champion wrong; with the others both are alike.
        let said = if n % 10 == 0 { [says(false), says(true)] } else { [says(n % 7 != 0), says(n % 7 != 0)] };
        let seen = seen(10 + n, n * 10, n % 10, Truth::Class(1));
        promoted = promoted.or(contest.take(&seen, [&said[0], &said[1]]));
    }
    assert_eq!(promoted, None);
}

#[test]
fn a_regression_is_compared_by_its_errors() {
    let mut contest = contest(Promote::Automatic);
    let verdict = (10..2_000).find_map(|n| {
        let truth = (n % 17) as f64;
        let said = [Answer::Value(truth + 3.0), Answer::Value(truth + 1.0)];
        contest.take(&seen(n, n * 10, 1, Truth::Number(truth)), [&said[0], &said[1]])
    });
    assert_eq!(verdict, Some(Verdict::Promote));
}

#[test]
fn later_challengers_need_more() {
    let alpha = |attempt| {
        Contest::new([Version(1), Version(2)], attempt, 0, (&learning(Promote::Automatic), 0)).unwrap().evidence().alpha
    };
    let spent: f64 = (1..1_000).map(alpha).sum();
    assert!(spent <= ALPHA && alpha(1) > 0.03 && alpha(2) < alpha(1) / 3.9, "{spent}");
}

#[test]
fn a_slice_that_suffers_is_named() {
    let terms = learning(Promote::Automatic);
    let mut contest = Contest::new([Version(1), Version(2)], 1, 0, (&terms, 3)).unwrap();
    for n in 0..3_000 {
        // In slice 2, one label in ten, the challenger is always wrong; elsewhere the champion is, one time in four.
        let slice = if n % 10 == 0 { 2 } else { 0 };
        let said = [says(slice == 2 || n % 4 != 1), says(slice != 2)];
        let seen = Seen { slice: Some(slice), ..seen(n, n * 10, 1, Truth::Class(1)) };
        assert_eq!(contest.take(&seen, [&said[0], &said[1]]), None, "{n}");
    }
    assert_eq!(contest.why().as_deref(), Some("proven to be better, but worse in slice 2"));
}
