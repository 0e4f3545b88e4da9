//! The file that names jobs: a table for each, with its program and what that may use.

use std::{collections::BTreeMap, fs, path::Path};

use trainer::jobs::{Kind, Kinds};
use types::{Code, Refusal};

/// The jobs of a file; none where no file is named. Paths in it are relative to its folder.
///
/// # Errors
/// `settings_invalid`, with what is wrong and where.
pub(crate) fn read(path: &Path) -> Result<Kinds, Refusal> {
    if path.as_os_str().is_empty() {
        return Ok(Kinds::new());
    }
    let wrong = |what: String| {
        Refusal::new(Code::SettingsInvalid, format!("trainer.jobs: {}: {what}", path.display()))
            .hint("write TOML: [NAME] on one line, command = [\"/usr/bin/python3\", \"train.py\"] on the next")
    };
    let path = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
    let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let mut kinds: BTreeMap<String, Kind> = toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    for (name, kind) in &mut kinds {
        for file in &mut kind.read {
            *file = folder.join(&file);
        }
        // An argument that names a file beside this one is that file, and may be read.
        for word in &mut kind.command {
            let file = folder.join(&word);
            if file.is_file() {
                if !word.starts_with('/') {
                    kind.read.push(file.clone());
                }
                *word = file.display().to_string();
            }
        }
        kind.check(name)?;
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_s_own_files_lie_beside_its_description() {
        let folder = std::env::temp_dir().join(format!("mantlet-jobs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let folder = folder.canonicalize().unwrap();
        let file = folder.join("jobs.toml");
        fs::write(folder.join("train.py"), "").unwrap();
        let text =
            "[sklearn]\ncommand = [\"/usr/bin/env\", \"train.py\", \"--fast\"]\nread = [\"more\"]\ntime = \"5m\"\n";
        fs::write(&file, text).unwrap();
        let kinds = read(&file).unwrap();
        let kind = &kinds["sklearn"];
        let script = folder.join("train.py");
        assert_eq!(kind.command, ["/usr/bin/env", script.to_str().unwrap(), "--fast"]);
        assert_eq!(kind.read, [folder.join("more"), script]);
        assert_eq!((kind.time.0.as_secs(), kind.cores), (300, 1));
        for (text, part) in [
            ("[a]\ncommand = []", "job `a`: command is empty"),
            ("[a]\ncommand = [\"python3\"]", "whole path"),
            ("[a]\ncommand = [\"/bin/sh\"]\ntime = \"0s\"", "some time"),
            ("[a]\ncommand = [\"/bin/sh\"]\ncolour = 1", "colour"),
        ] {
            fs::write(&file, text).unwrap();
            assert!(read(&file).unwrap_err().message.contains(part), "{text}");
        }
        assert!(read(Path::new("/nowhere/jobs.toml")).unwrap_err().message.contains("trainer.jobs"));
        assert_eq!(read(Path::new("")), Ok(Kinds::new()));
        fs::remove_dir_all(folder).unwrap();
    }
}
