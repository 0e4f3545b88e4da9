//! Carries out plans: starts, probes, restarts and drains model servers.
