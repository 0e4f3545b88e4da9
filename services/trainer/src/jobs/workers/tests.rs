//! Workers that are processes give what workers here would; one that ends, hangs or lies is left out, and named.

use std::{fs, os::unix::fs::PermissionsExt as _};

use streaming::{Cell, Row, Truth, workers::Lesson};
use types::{Manifest, PredictionId};

use super::*;
use crate::jobs::worker;

const FOREST: &str = "{ learner: adaptive-random-forest, settings: { trees: 4 } }";
const LOGISTIC: &str = "{ learner: logistic }";
/// What makes a process of this test a worker.
const ORDER: &str = "MANTLET_TEST_WORKER";

/// Not a test but where none asks for it: what a worker's process does, with its output where this program's words are not.
#[test]
fn works_for_others() {
    if std::env::var_os(ORDER).is_some() {
        let mut to = fs::OpenOptions::new().write(true).open("/proc/self/fd/3").unwrap();
        worker::work(&mut std::io::stdin().lock(), &mut to, &mut || {}).unwrap();
    }
}

struct Place(PathBuf);

impl Place {
    /// A crew whose workers are this program, but for those of whom the script says something else: it sees which by `$2`.
    fn new(name: &str, script: &str) -> (Self, Crew) {
        let folder = std::env::temp_dir().join(format!("mantlet-workers-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (own, binary) = (std::env::current_exe().unwrap(), folder.join("binary"));
        let honest = format!(
            "exec 3>&1 1>/dev/null\n{ORDER}=1 exec {} --exact jobs::workers::tests::works_for_others --nocapture",
            own.display()
        );
        let text = format!("#!/bin/bash\ncase $2 in\n{script}\nesac\n{honest}\n");
        fs::write(&binary, text).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let crew = Crew { binary, folder: folder.clone(), confine: Confine::Off, time: TIME, round: ROUND };
        (Self(folder), crew)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join(LOG)).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fit(learner: &str, workers: usize) -> Fit {
    let text = format!(
        "apiVersion: mantlet.dev/v1\nkind: Model\nmetadata: {{ name: m }}\nspec: {{ source: {{ online: {learner} }}, \
         inputs: [{{ name: x, type: FP64 }}, {{ name: y, type: FP64 }}], task: {{ kind: classification, classes: [a, b] }}, \
         capture: {{ input: features }} }}\n"
    );
    let example = |n: u32| {
        let (x, y) = (f64::from(n * 37 % 101), f64::from(n * 61 % 89));
        (PredictionId(uuid::Uuid::from_u128(n.into())), vec![Cell::Number(x), Cell::Number(y)], usize::from(x > y))
    };
    let examples: Vec<(PredictionId, Row, usize)> = (0..2_500).map(example).collect();
    let lessons =
        examples.iter().map(|(id, asked, class)| Lesson { key: (*id, 0), asked, truth: Truth::Class(*class) });
    Fit::new(&Manifest::from_yaml(&text).unwrap(), lessons, workers, 9).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_give_the_same_state_as_none_bit_for_bit() {
    for (learner, name) in [(FOREST, "trees"), (LOGISTIC, "weights")] {
        // The first is done last.
        let (place, crew) = Place::new(name, "*-1.json) for turn in {1..20000}; do :; done ;;");
        let (state, told) = crew.run(fit(learner, 3)).await.unwrap();
        assert_eq!(state.unwrap(), fit(learner, 3).here().unwrap().model.save(), "{told:?} {}", place.log());
        assert_eq!((&told["way"], told["each"].as_array().unwrap().len()), (&json!(name), 3));
        assert!(told["each"][0]["distance"].is_number(), "{told:?}");
        assert!(place.log().contains("3 workers learnt"), "{}", place.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_four_that_ends_or_lies_is_left_out_and_named() {
    let bad = [
        ("exit 3", "it ended with 3"),
        ("kill -9 $$", "signal 9 ended it"),
        ("echo no; exit 0", "it ended with 0, and had more to say"),
        (r"printf '\377\377\377\377\377\377\377\177'; exec cat > /dev/null", "it sends 9223372036854775807 bytes"),
        (r"printf '\144\0\0\0\0\0\0\0'; head -c 100 /dev/zero; exec cat > /dev/null", ""),
        (r"printf '\030\0\0\0\0\0\0\0'; head -c 10 /dev/zero; exit 0", "it ended with 0, and had more to say"),
        ("exec 0<&-; exec 1>&-; exec sleep 1000", "it says nothing more"),
    ];
    for (what, why) in bad {
        for learner in [FOREST, LOGISTIC] {
            let (place, crew) = Place::new("bad", &format!("*-2.json) {what} ;;"));
            let (state, told) = crew.run(fit(learner, 4)).await.unwrap();
            assert!(state.is_ok(), "{what}: {state:?} {}", place.log());
            let said = told["each"][1]["left_out"].as_str().unwrap();
            assert!(said.contains(why), "{what}: {said}");
            assert!(told["each"][0].get("left_out").is_none(), "{told:?}");
            assert!(place.log().contains("worker 2 of 4 is left out: "), "{}", place.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_is_not_waited_for_for_ever_and_with_too_few_left_one_learns_alone() {
    for learner in [FOREST, LOGISTIC] {
        let (place, mut crew) = Place::new("hangs", "*) exec sleep 1000 ;;");
        (crew.time, crew.round) = (Duration::from_millis(300), Duration::from_millis(200));
        let (state, told) = crew.run(fit(learner, 2)).await.unwrap();
        assert_eq!(state, Err(Alone::Left { left: 0, workers: 2 }), "{}", place.log());
        assert_eq!(told["each"][0]["left_out"], "it was not done in time");
    }
    let (_place, mut crew) = Place::new("none", "");
    crew.binary = "/nowhere/mantlet".into();
    let (state, told) = crew.run(fit(FOREST, 2)).await.unwrap();
    assert_eq!(state, Err(Alone::Left { left: 0, workers: 2 }));
    assert!(told["each"][1]["left_out"].as_str().unwrap().contains("it can't be started"), "{told:?}");
}
