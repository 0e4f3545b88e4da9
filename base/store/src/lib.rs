//! Catalog, event streams and artefacts behind traits.
