//! The gate: whatever happens, everybody is answered once; who is fair, who is first, who is refused.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ask(namespace: u8, model: u8, rows: u64) -> Ask<u8, u8> {
    Ask { namespace, model, rows, priority: Priority::Normal, deadline: Duration::from_secs(3_600) }
}

fn served(millis: u64) -> Option<Served> {
    let took = Duration::from_millis(millis);
    Some(Served { latency: took, compute: took, queued: None, batch: 1, cost: took })
}

/// A gate that knows that a row of these models takes so many milliseconds.
fn gate(models: &[u8], millis: u64) -> Gate<u8, u8> {
    let mut gate = Gate::new(2);
    for model in models {
        let (Entry::Admitted(ticket), _) = gate.enter(ask(0, *model, 1), Duration::ZERO) else { panic!("it is idle") };
        gate.leave(&ticket, served(millis), Duration::ZERO);
    }
    gate
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Enter { namespace: u8, model: u8, rows: u64, priority: Priority, patience: u64 },
    Leave(prop::sample::Index, Option<u64>),
    Cancel(prop::sample::Index),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let priority = prop::sample::select(vec![Priority::High, Priority::Normal, Priority::Low]);
    let enter = (0..4_u8, 0..5_u8, 0..200_u64, priority, 0..5_000_u64).prop_map(
        |(namespace, model, rows, priority, patience)| Event::Enter { namespace, model, rows, priority, patience },
    );
    let index = any::<prop::sample::Index>;
    prop::collection::vec(
        prop_oneof![
            2 => (0..500_u64).prop_map(Event::Pass),
            8 => enter,
            5 => (index(), prop::option::of(0..300_u64)).prop_map(|(at, millis)| Event::Leave(at, millis)),
            1 => index().prop_map(Event::Cancel),
        ],
        1..400,
    )
}

proptest! {
    #[test]
    fn whatever_happens_every_ticket_is_answered_once_and_nobody_waits_for_nothing(events in events()) {
        let (mut gate, mut now) = (Gate::new(1), Duration::ZERO);
        let (mut inside, mut waiting) = (Vec::<Ticket<u8, u8>>::new(), Vec::<Ticket<u8, u8>>::new());
        for event in events {
            let verdicts = match event {
                Event::Pass(millis) => { now += MS * u32::try_from(millis).unwrap(); Vec::new() }
                Event::Enter { namespace, model, rows, priority, patience } => {
                    let deadline = now + Duration::from_millis(patience);
                    let (entry, verdicts) = gate.enter(Ask { namespace, model, rows, priority, deadline }, now);
                    match entry {
                        Entry::Admitted(ticket) => inside.push(ticket),
                        Entry::Waiting(ticket) => waiting.push(ticket),
                        Entry::Shed(_) => {}
                    }
                    verdicts
                }
                Event::Leave(at, millis) if !inside.is_empty() => {
                    let ticket = inside.swap_remove(at.index(inside.len()));
                    gate.leave(&ticket, millis.and_then(served), now)
                }
                Event::Cancel(at) if !waiting.is_empty() => {
                    let ticket = waiting.swap_remove(at.index(waiting.len()));
                    gate.cancel(&ticket, now)
                }
                Event::Leave(..) | Event::Cancel(..) => Vec::new(),
            };
            for (id, verdict) in verdicts {
                let place = waiting.iter().position(|ticket| ticket.id == id);
                prop_assert!(place.is_some(), "a verdict on nobody who waits");
                let ticket = waiting.swap_remove(place.unwrap());
                if verdict == Verdict::Admitted {
                    inside.push(ticket);
                }
            }
            prop_assert_eq!(gate.waiting(), waiting.len());
            let in_flight: u32 = gate.models.values().map(|model| model.in_flight).sum();
            prop_assert_eq!(in_flight as usize, inside.len());
            prop_assert!(inside.is_empty() || gate.in_flight > 0.0);
            prop_assert!(!inside.is_empty() || waiting.is_empty(), "all wait and nobody is inside");
            let could = waiting.iter().any(|ticket| gate.below(&ticket.model) && gate.in_flight < 1e-9);
            prop_assert!(!could, "there is room, and somebody waits");
        }
        // When everybody leaves, nothing is left behind.
        while let Some(ticket) = inside.pop() {
            for (id, verdict) in gate.leave(&ticket, None, now) {
                let place = waiting.iter().position(|ticket| ticket.id == id).unwrap();
                let ticket = waiting.swap_remove(place);
                if verdict == Verdict::Admitted {
                    inside.push(ticket);
                }
            }
        }
        prop_assert!(waiting.is_empty() && gate.waiting() == 0 && gate.in_flight.abs() < 1e-6);
    }
}

#[test]
fn a_model_s_limit_holds_and_others_pass() {
    let mut gate = gate(&[1, 2], 1);
    let (limit, _) = gate.model(&1).unwrap();
    let entries: Vec<_> = (0..limit + 5).map(|_| gate.enter(ask(0, 1, 1), MS).0).collect();
    let admitted = entries.iter().filter(|entry| matches!(entry, Entry::Admitted(_))).count();
    assert_eq!((admitted, gate.waiting()), (limit as usize, 5));
    assert!(matches!(gate.enter(ask(0, 2, 1), MS).0, Entry::Admitted(_)), "another model is not held up");
    let Entry::Admitted(first) = &entries[0] else { panic!("it was let in") };
    let verdicts = gate.leave(first, served(1), MS * 2);
    assert!(matches!(verdicts[..], [(_, Verdict::Admitted)]), "{verdicts:?}");
}

#[test]
fn a_flood_of_one_namespace_leaves_the_other_its_half() {
    // Rows of 10 ms: room for 20 of them. One namespace has hundreds waiting over ten models.
    let models: Vec<u8> = (0..11).collect();
    let mut gate = gate(&models, 10);
    let mut inside = VecDeque::new();
    let mut names = BTreeMap::new();
    for n in 0..500_u16 {
        let (entry, _) = gate.enter(ask(1, u8::try_from(n % 10).unwrap(), 1), MS);
        match entry {
            Entry::Admitted(ticket) => inside.push_back(ticket),
            Entry::Waiting(ticket) => drop(names.insert(ticket.id, ticket)),
            Entry::Shed(_) => panic!("there is time enough"),
        }
    }
    for n in 0..200 {
        match gate.enter(ask(2, 10, 1), MS).0 {
            Entry::Admitted(ticket) if n == 0 => inside.push_back(ticket),
            Entry::Waiting(ticket) => drop(names.insert(ticket.id, ticket)),
            entry => panic!("the room is full: {entry:?}"),
        }
    }
    let mut gone = [0_u32; 3];
    for n in 0..300 {
        let ticket = inside.pop_front().unwrap();
        for (id, _) in gate.leave(&ticket, served(10), MS * (2 + n)) {
            let ticket = names.remove(&id).unwrap();
            gone[usize::from(ticket.namespace)] += 1;
            inside.push_back(ticket);
        }
    }
    assert!(gone[2].abs_diff(gone[1]) <= 25, "{gone:?}");
}

#[test]
fn inside_a_namespace_priority_goes_first_then_who_came_first() {
    let mut gate = gate(&[1], 100);
    let mut enter = |priority, rows| {
        let (entry, _) = gate.enter(Ask { priority, ..ask(1, 1, rows) }, MS);
        match entry {
            Entry::Admitted(ticket) | Entry::Waiting(ticket) => ticket,
            Entry::Shed(_) => panic!("there is time enough"),
        }
    };
    // Two for each core go on, however much they cost.
    let mut normal = || enter(Priority::Normal, 2);
    let [first, ..] = [normal(), normal(), normal(), normal()];
    let low = enter(Priority::Low, 2);
    let normal = enter(Priority::Normal, 2);
    let (high, second) = (enter(Priority::High, 2), enter(Priority::Normal, 2));
    let mut order = Vec::new();
    let mut last = first;
    let mut by_id: BTreeMap<u64, _> = [low, normal, high, second].map(|ticket| (ticket.id, ticket)).into();
    let ids: Vec<u64> = by_id.keys().copied().collect();
    while let Some((id, _)) = gate.leave(&last, None, MS * 2).first().copied() {
        order.push(id);
        last = by_id.remove(&id).unwrap();
    }
    assert_eq!(order, [ids[2], ids[1], ids[3], ids[0]]);
}

#[test]
fn who_can_t_be_answered_in_time_is_refused_at_once() {
    let mut gate = gate(&[1], 100);
    for _ in 0..40 {
        gate.enter(ask(1, 1, 1), MS);
    }
    let soon = Ask { deadline: MS * 150, ..ask(1, 1, 1) };
    let (Entry::Shed(wait), _) = gate.enter(soon.clone(), MS) else { panic!("it can't make it") };
    assert!(wait > MS * 50, "{wait:?}");
    assert!(gate.peek(&1, &1, Priority::Normal, soon.deadline, MS).is_err());
    assert!(gate.peek(&1, &1, Priority::Normal, Duration::from_secs(60), MS).is_ok());
    // Who matters more waits for none of them.
    assert!(gate.peek(&1, &1, Priority::High, MS * 400, MS).is_ok());
    let high = Ask { priority: Priority::High, deadline: MS * 400, ..ask(1, 1, 1) };
    assert!(matches!(gate.enter(high, MS).0, Entry::Waiting(_)));
}

#[test]
fn who_fills_the_queue_loses_its_newest() {
    let mut gate = gate(&[1, 2], 100);
    while gate.waiting() < WAITING {
        gate.enter(ask(1, 1, 1), MS);
    }
    assert!(matches!(gate.enter(ask(1, 1, 1), MS), (Entry::Shed(_), verdicts) if verdicts.is_empty()));
    assert!(matches!(gate.enter(ask(2, 2, 1), MS), (Entry::Admitted(_), verdicts) if verdicts.is_empty()));
    let (entry, verdicts) = gate.enter(ask(2, 2, 1), MS);
    assert!(matches!(entry, Entry::Waiting(_)), "{entry:?}");
    assert!(matches!(verdicts[..], [(_, Verdict::Shed(_))]), "{verdicts:?}");
    assert_eq!(gate.waiting(), WAITING);
}

#[test]
fn what_costs_much_keeps_every_core_busy_and_leaves_room_for_others() {
    let mut gate = gate(&[1, 2], 500);
    let mut enter = |namespace| gate.enter(ask(namespace, 1, 1), MS).0;
    let admitted = |entry: &Entry<u8, u8>| matches!(entry, Entry::Admitted(_));
    let entries: Vec<_> = (0..5).map(|_| enter(1)).collect();
    assert_eq!(entries.iter().map(admitted).collect::<Vec<_>>(), [true, true, true, true, false]);
    assert!(admitted(&enter(2)), "another namespace's first does not wait for them");
    assert!(!admitted(&enter(2)), "its second does");
}

/// The room was not full, one more had no room, and the queue grew up to the deadline.
#[test]
fn the_queue_stays_short_however_many_come() {
    // Four of 6 ms are more than the room of one core, three are less.
    let mut gate = Gate::new(1);
    let (Entry::Admitted(first), _) = gate.enter(ask(1, 1, 1), MS) else { panic!("it is idle") };
    gate.leave(&first, served(6), MS);
    let mut shed = 0;
    for n in 0..1_000 {
        let soon = Ask { deadline: MS * 102, ..ask(1, 1, 1) };
        shed += u32::from(matches!(gate.enter(soon, MS * (2 + n / 1_000)).0, Entry::Shed(_)));
    }
    assert!(gate.waiting() <= 8 && shed >= 980, "{} wait, {shed} are refused", gate.waiting());
}

#[test]
fn a_model_that_is_gone_is_forgotten_with_its_last_request() {
    let mut gate = gate(&[1, 2], 1);
    gate.forget(&2);
    assert_eq!(gate.model(&2), None);
    let Entry::Admitted(ticket) = gate.enter(ask(0, 1, 1), MS).0 else { panic!("it is idle") };
    gate.forget(&1);
    assert_eq!(gate.load(&1), (1, 0));
    gate.leave(&ticket, served(1), MS * 2);
    assert_eq!(gate.model(&1), None);
}
