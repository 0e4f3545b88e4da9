//! Reference pages that are generated from the code: a test holds each against what the code says now.

use std::{fs, path::Path};

/// Compares a page below `docs/reference` with what it must be; writes it anew under `cargo xtask gen`.
pub fn check(name: &str, content: &str) {
    let path = crate::setup::root().join("docs/reference").join(name);
    let content = format!("{}\n", content.trim_end());
    if std::env::var_os("MANTLET_GEN").is_some() {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("the folder can be made");
        fs::write(&path, content).expect("the page can be written");
        return;
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == content,
        "docs/reference/{name} is not what the code says: run `cargo xtask gen`, and read the difference"
    );
}
