//! `mantlet config show`: every setting, and where its value came from.

use std::{fs, path::Path, path::PathBuf};

use serde_json::json;
use settings::Resolved;
use types::Refusal;

use crate::{
    cli::{Config, Format, Node},
    client, output,
};

pub(crate) fn run(node: &Node, verb: Config, format: Format) -> Result<(), Refusal> {
    let Config::Show { config } = verb;
    let resolved = resolve(&client::data_dir(node)?, config.as_deref(), &[])?;
    resolved.settings()?;
    let rows: Vec<_> = resolved
        .rows()
        .map(|(key, value, origin)| {
            json!({ "key": format!("{}.{}", key.table, key.name), "value": value, "from": origin.to_string(), "about": key.doc })
        })
        .collect();
    output::show(&rows, format, |rows| {
        let cell = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| ["key", "value", "from", "about"].map(|field| cell(row, field)).to_vec()).collect();
        output::table(&["SETTING", "VALUE", "FROM", "ABOUT"], &cells)
    });
    Ok(())
}

/// Settings of the node with this data directory.
pub(crate) fn resolve(
    dir: &Path,
    named: Option<&Path>,
    flags: &[(&'static str, &'static str, &str, String)],
) -> Result<Resolved, Refusal> {
    let own = dir.join("mantlet.toml");
    let path: Option<PathBuf> = named.map(Path::to_owned).or_else(|| own.is_file().then_some(own));
    let text = path.as_deref().map(|path| fs::read_to_string(path).map_err(output::file(path))).transpose()?;
    settings::resolve(path.as_deref().zip(text.as_deref()), std::env::vars(), flags)
}
