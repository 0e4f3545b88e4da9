//! One process that verifies, loads and runs models.
