//! How much memory the machine has and how much of it is free: read where the system says so, each second.

use std::{
    fs,
    path::{Path, PathBuf},
};

use plan::pressure::Memory;

/// What is to stay free, and where it is read how much is.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserve {
    /// The share of all memory that is to stay free.
    pub share: f64,
    /// Files in the form of `/proc/meminfo`, and folders of control groups (version 2); the one that has the least left, by share,
    /// counts. One that can't be read says nothing.
    pub sources: Vec<PathBuf>,
}

impl Reserve {
    /// As it is now; nothing where no source says anything.
    pub(crate) fn read(&self) -> Option<Memory> {
        let read = |path: &PathBuf| if path.is_dir() { group(path) } else { machine(&fs::read_to_string(path).ok()?) };
        let left = |memory: &Memory| memory.free as f64 / memory.total as f64;
        self.sources.iter().filter_map(read).min_by(|a, b| left(a).total_cmp(&left(b)))
    }
}

/// A machine's, as `/proc/meminfo` says it.
fn machine(text: &str) -> Option<Memory> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1_024)
    };
    let (total, free) = (of("MemTotal")?, of("MemAvailable")?);
    (total > 0).then_some(Memory { total, free })
}

/// A control group's with a limit; files that were read are given up when memory is needed.
fn group(folder: &Path) -> Option<Memory> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (total, taken) = (number("memory.max")?, number("memory.current")?);
    let stat = read("memory.stat")?;
    let of =
        |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0);
    let files = of("inactive_file ").saturating_add(of("active_file "));
    (total > 0).then_some(Memory { total, free: total.saturating_sub(taken.saturating_sub(files)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_with_the_least_left_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (meminfo, limited, free) =
            (dir.path().join("meminfo"), dir.path().join("limited"), dir.path().join("free"));
        fs::write(&meminfo, "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n").unwrap();
        for (folder, most) in [(&limited, "1000"), (&free, "max")] {
            fs::create_dir(folder).unwrap();
            let files = [
                ("memory.max", most),
                ("memory.current", "900"),
                ("memory.stat", "anon 1\ninactive_file 200\nactive_file 50\n"),
            ];
            files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        }
        let of = |sources: &[&PathBuf]| {
            Reserve { share: 0.1, sources: sources.iter().map(|path| (*path).clone()).collect() }.read()
        };
        let (all, group) = (Memory { total: 1_024_000, free: 409_600 }, Memory { total: 1_000, free: 350 });
        assert_eq!((of(&[&meminfo]), of(&[&limited])), (Some(all), Some(group)));
        assert_eq!(of(&[&free]), None, "a group without a limit has what the machine has");
        assert_eq!(of(&[&meminfo, &limited, &free]), Some(group));
        assert_eq!(of(&[&dir.path().join("absent")]), None);
        fs::write(&meminfo, "MemTotal: many\nMemAvailable: 1 kB").unwrap();
        assert_eq!(of(&[&meminfo]), None);
    }

    #[test]
    fn this_machine_says_how_much_it_has() {
        let machine = Reserve { share: 0.1, sources: vec!["/proc/meminfo".into()] }.read();
        assert!(machine.is_some_and(|memory| memory.total > memory.free && memory.free > 0), "{machine:?}");
    }
}
