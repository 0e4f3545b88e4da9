//! The arbiter, case by case.

use std::time::Duration;

use types::defence::Counts;

use super::*;

fn sighting(caller: &str, second: u64) -> Sighting {
    Sighting {
        subject: format!("caller:bank/{caller}").parse().unwrap(),
        model: Some("fraud".parse().unwrap()),
        autonomy: Some(Autonomy::Act),
        admin: false,
        length_ms: 60_000,
        window: second / 60,
        at: Timestamp(1_000_000 + second * 1_000),
        counts: Counts::default(),
        readings: Vec::new(),
    }
}

fn reading(agent: AgentName, rule: f64) -> Reading {
    Reading { agent, score: 1.0, rule, twin: 0.0, certain: false, what: "it looks bad".into() }
}

fn arbiter() -> Arbiter {
    Arbiter::new(Settings::default())
}

fn kinds(acts: &[Act]) -> Vec<Kind> {
    acts.iter().map(|act| act.kind.clone()).collect()
}

fn set(act: &Act) -> (Rung, Option<Timestamp>) {
    let Kind::Set { rung, until } = act.kind else { panic!("{act:?}") };
    (rung, until)
}

#[test]
fn evidence_climbs_and_time_ends_it() {
    let mut arbiter = arbiter();
    let first = sighting("eve", 0);
    let acts = arbiter.take(&first, &reading(AgentName::Extraction, 8.1), Worth::Unknown);
    assert_eq!(set(&acts[0]), (Rung::Degrade, Some(first.at.plus(Duration::from_secs(60)))));
    assert_eq!(acts[0].model, first.model, "it is about one model alone");
    let acts = arbiter.take(&sighting("eve", 1), &reading(AgentName::Extraction, 9.2), Worth::Unknown);
    assert_eq!(set(&acts[0]).0, Rung::Quarantine);
    assert!(arbiter.tick(first.at.plus(Duration::from_secs(30))).is_empty());
    let over = arbiter.tick(first.at.plus(Duration::from_secs(70)));
    assert_eq!(kinds(&over), [Kind::End { why: "its time is over" }]);
    // Nothing new, and nothing happens; more of it lasts longer.
    assert!(arbiter.take(&sighting("eve", 80), &reading(AgentName::Caller, 0.0), Worth::Unknown).is_empty());
    let again = sighting("eve", 90);
    let acts = arbiter.take(&again, &reading(AgentName::Extraction, 8.1), Worth::Unknown);
    assert_eq!(set(&acts[0]).1, Some(again.at.plus(Duration::from_secs(300))));
}

#[test]
fn two_kinds_of_evidence_block_everywhere() {
    let mut arbiter = arbiter();
    arbiter.take(&sighting("eve", 0), &reading(AgentName::Extraction, 9.2), Worth::Unknown);
    let elsewhere = Sighting { model: None, ..sighting("eve", 1) };
    let acts = arbiter.take(&elsewhere, &reading(AgentName::Intruder, 6.0), Worth::Unknown);
    assert_eq!((set(&acts[0]).0, &acts[0].model), (Rung::Block, &None));
    assert_eq!(acts[0].reasons.len(), 2);
}

#[test]
fn what_was_learnt_acts_only_when_it_is_on() {
    for (mode, acts) in [(Mode::On, 1), (Mode::Shadow, 0), (Mode::Off, 0)] {
        let mut arbiter = arbiter();
        arbiter.set_mode(AgentName::Evasion, mode);
        let twin = Reading { twin: 9.0, ..reading(AgentName::Evasion, 0.0) };
        let twins = arbiter.take(&sighting("ann", 0), &twin, Worth::Known(-0.5, false));
        assert_eq!(twins.len(), usize::from(mode == Mode::Shadow), "the twin acts in the place of what was learnt");
        let found = arbiter.take(&sighting("eve", 0), &reading(AgentName::Evasion, 0.0), Worth::Known(11.5, true));
        assert_eq!(found.len(), acts, "{mode:?}");
        let ruled = arbiter.take(&sighting("mal", 0), &reading(AgentName::Evasion, 9.0), Worth::Unknown);
        assert_eq!(ruled.is_empty(), mode == Mode::Off, "rules act in shadow, too");
    }
}

#[test]
fn autonomy_says_how_far_it_goes() {
    let take = |autonomy| {
        let sighting = Sighting { autonomy: Some(autonomy), ..sighting("eve", 0) };
        kinds(&arbiter().take(&sighting, &reading(AgentName::Evasion, 9.0), Worth::Unknown))
    };
    assert_eq!(take(Autonomy::Observe), [Kind::Note]);
    assert!(matches!(take(Autonomy::Recommend)[..], [Kind::Propose { .. }]));
    assert!(matches!(take(Autonomy::Approve)[..], [Kind::Propose { rung: Rung::Quarantine, .. }]));
    assert!(matches!(take(Autonomy::Act)[..], [Kind::Set { .. }]));
}

#[test]
fn a_proposal_is_made_once_and_does_something_when_it_is_approved() {
    let mut arbiter = arbiter();
    let asks = |second| Sighting { autonomy: Some(Autonomy::Approve), ..sighting("eve", second) };
    let acts = arbiter.take(&asks(0), &reading(AgentName::Evasion, 9.0), Worth::Unknown);
    assert_eq!(acts.len(), 1);
    assert!(arbiter.take(&asks(1), &reading(AgentName::Evasion, 9.0), Worth::Unknown).is_empty());
    let subject = &acts[0].subject;
    let act = arbiter.approve(subject, Rung::Quarantine, acts[0].model.clone(), asks(2).at);
    assert_eq!((set(&act).0, arbiter.rung(subject)), (Rung::Quarantine, Rung::Quarantine));
}

#[test]
fn when_many_are_suspicious_at_once_the_detector_is() {
    let mut arbiter = arbiter();
    for n in 0..50 {
        arbiter.take(&sighting(&format!("c{n}"), 0), &reading(AgentName::Caller, 0.0), Worth::Unknown);
    }
    let mut found = Vec::new();
    for n in 0..50 {
        let sighting = sighting(&format!("c{n}"), 10);
        found.extend(arbiter.take(&sighting, &reading(AgentName::Evasion, 0.0), Worth::Known(11.5, true)));
    }
    let count = |of: fn(&Kind) -> bool| found.iter().filter(|act| of(&act.kind)).count();
    assert_eq!(count(|kind| matches!(kind, Kind::Set { .. })), 1, "one in a hundred, and one at least");
    assert_eq!(count(|kind| matches!(kind, Kind::Suspect { agent: AgentName::Evasion, .. })), 1);
    assert_eq!(count(|kind| matches!(kind, Kind::Propose { .. })), 1, "the others are judged by the rule from then on");
    let later = sighting("c40", 700);
    assert_eq!(arbiter.mode(later.subject.namespace(), AgentName::Evasion, later.at), Mode::On);
}

#[test]
fn nobody_is_answered_that_may_not_be() {
    let mut arbiter = arbiter();
    let admin = Sighting { admin: true, ..sighting("root", 0) };
    let acts = arbiter.take(&admin, &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    assert_eq!(set(&acts[0]).0, Rung::Throttle);
    let acts = arbiter.take(
        &Sighting { at: Timestamp(1_002_000), ..admin },
        &reading(AgentName::Evasion, 9.2),
        Worth::Unknown,
    );
    assert!(matches!(acts[0].kind, Kind::Propose { rung: Rung::Quarantine, why: "it is an admin" }));
    let source = Sighting { subject: "source:10.0.0.9".parse().unwrap(), ..sighting("x", 0) };
    let acts = arbiter.take(&source, &reading(AgentName::Caller, 9.2), Worth::Unknown);
    assert_eq!(set(&acts[0]).0, Rung::Throttle);
}

#[test]
fn a_persons_word_is_believed_for_a_day_but_against_certainty() {
    let mut arbiter = arbiter();
    let acts = arbiter.take(&sighting("app", 0), &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    let act = arbiter.pardon(&acts[0].subject, sighting("app", 5).at);
    assert!(matches!(act.kind, Kind::End { .. }));
    assert!(arbiter.take(&sighting("app", 10), &reading(AgentName::Evasion, 9.2), Worth::Unknown).is_empty());
    let certain = Reading { certain: true, ..reading(AgentName::Intruder, 13.8) };
    assert_eq!(set(&arbiter.take(&sighting("app", 20), &certain, Worth::Unknown)[0]).0, Rung::Block);
    arbiter.tick(sighting("app", 89_000).at);
    let later = arbiter.take(&sighting("app", 90_000), &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    assert!(!later.is_empty());
}

#[test]
fn it_steps_down_one_at_a_time_and_not_at_once() {
    let mut arbiter = arbiter();
    let first = sighting("eve", 0);
    arbiter.take(&first, &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    let standing = arbiter.subjects.get_mut(&first.subject).unwrap();
    standing.until = Some(first.at.plus(Duration::from_secs(7_200)));
    assert!(arbiter.tick(first.at.plus(Duration::from_secs(29))).is_empty());
    let mut rungs = Vec::new();
    for second in 30..7_200 {
        for act in arbiter.tick(first.at.plus(Duration::from_secs(second))) {
            rungs.push(match act.kind {
                Kind::Set { rung, .. } => rung,
                _ => Rung::Observe,
            });
        }
    }
    assert_eq!(rungs, [Rung::Degrade, Rung::Throttle, Rung::Observe]);
}

#[test]
fn a_liar_is_told_of_once_and_when_it_is_trusted_again() {
    let mut arbiter = arbiter();
    let liar = Sighting { subject: "contributor:bank/fraud/eve".parse().unwrap(), ..sighting("x", 0) };
    let acts = arbiter.take(&liar, &reading(AgentName::Poisoner, 9.2), Worth::Unknown);
    assert_eq!(set(&acts[0]), (Rung::Quarantine, None));
    assert!(arbiter.take(&liar, &reading(AgentName::Poisoner, 9.2), Worth::Unknown).is_empty());
    assert!(arbiter.tick(Timestamp(u64::MAX / 2)).is_empty(), "who does it takes it back");
    let acts = arbiter.take(&liar, &reading(AgentName::Poisoner, 0.0), Worth::Unknown);
    assert!(matches!(acts[0].kind, Kind::End { .. }));
}

#[test]
fn what_is_kept_goes_on() {
    let mut arbiter = arbiter();
    let first = sighting("eve", 0);
    arbiter.take(&first, &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    arbiter.take(&sighting("app", 0), &reading(AgentName::Evasion, 0.0), Worth::Unknown);
    let kept: Kept = serde_json::from_str(&serde_json::to_string(&arbiter.keep()).unwrap()).unwrap();
    assert_eq!(kept.subjects.len(), 1);
    let mut again = Arbiter::resume(Settings::default(), kept);
    assert_eq!(again.rung(&first.subject), Rung::Quarantine);
    assert_eq!(again.tick(first.at.plus(Duration::from_secs(61))).len(), 1);
}

#[test]
fn subjects_are_bounded_and_a_suspect_is_not_washed_away() {
    let mut arbiter = arbiter();
    let suspect = Sighting { autonomy: Some(Autonomy::Observe), ..sighting("eve", 0) };
    arbiter.take(&suspect, &reading(AgentName::Evasion, 9.2), Worth::Unknown);
    for n in 0..70_000_u64 {
        arbiter.take(&sighting(&format!("c{n}"), n / 700), &reading(AgentName::Caller, 0.0), Worth::Unknown);
    }
    assert!(arbiter.subjects.len() <= SUBJECTS && arbiter.subjects.contains_key(&suspect.subject));
}

#[test]
fn what_was_learnt_is_handed_back_when_people_undo_it_and_comes_back_when_one_says_so() {
    let mut arbiter = arbiter();
    let (bank, agent): (Namespace, _) = ("bank".parse().unwrap(), AgentName::Evasion);
    let mut told = Vec::new();
    for n in 0..10 {
        // A day apart, so that there is room for each.
        let seen = sighting(&format!("c{n}"), n * 86_400);
        let acts = arbiter.take(&seen, &reading(agent, 0.0), Worth::Known(11.5, true));
        if acts.is_empty() {
            break;
        }
        // What waits for a word outlives a start.
        let kept = serde_json::to_string(&arbiter.keep()).unwrap();
        arbiter = Arbiter::resume(Settings::default(), serde_json::from_str(&kept).unwrap());
        told.extend(arbiter.label(&seen.subject, false, seen.at));
        assert!(arbiter.label(&seen.subject, false, seen.at).is_empty(), "a word counts once");
        arbiter.pardon(&seen.subject, seen.at);
    }
    assert_eq!(kinds(&told), [Kind::Guard { agent, namespace: bank.clone(), turn: Turn::HandedBack }]);
    assert_eq!((&told[0].subject, told[0].namespace()), (&Subject::Agent(agent), Some(&bank)));
    let later = sighting("eve", 11 * 86_400);
    let mode = |arbiter: &Arbiter| arbiter.mode(Some(&bank), agent, later.at);
    assert!(mode(&arbiter) == Mode::Shadow && arbiter.is_handed_back(Some(&bank), agent));
    assert_eq!(arbiter.mode(Some(&"other".parse().unwrap()), agent, later.at), Mode::On);
    // Its rule acts on, and what it learnt is judged by that.
    assert_eq!(arbiter.take(&later, &reading(agent, 9.0), Worth::Known(-1.0, false)).len(), 1);
    assert!(arbiter.take_up(&bank, agent, later.at).is_some() && arbiter.take_up(&bank, agent, later.at).is_none());
    assert_eq!(mode(&arbiter), Mode::On);
}

#[test]
fn approved_actions_keep_what_was_learnt_and_rules_that_said_it_too_teach_nothing() {
    for (rule, hostile) in [(0.0, true), (9.0, false), (9.0, true)] {
        let mut arbiter = arbiter();
        for n in 0..30 {
            let seen = sighting(&format!("c{n}"), n * 86_400);
            let acts = arbiter.take(&seen, &reading(AgentName::Evasion, rule), Worth::Known(11.5, true));
            assert!(!acts.is_empty(), "{n}: {rule}");
            assert!(arbiter.label(&seen.subject, hostile, seen.at).is_empty());
            arbiter.pardon(&seen.subject, seen.at);
        }
    }
}
