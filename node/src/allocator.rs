//! The process's allocator; with the feature `allocations`, one that counts, for `cargo xtask bench allocations`.

/// A small prediction is some hundred allocations, many of them freed by another thread than made them, which the
/// system's allocator takes an eighth of the time for.
#[cfg(not(feature = "allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// What was allocated so far, in Prometheus' text form; nothing where nobody counts.
pub(crate) fn counted() -> String {
    #[cfg(feature = "allocations")]
    {
        let stats = ALLOCATOR.stats();
        let made = stats.allocations + stats.reallocations;
        format!("mantlet_node_allocations_total {made}\nmantlet_node_allocated_bytes_total {}\n", stats.bytes_allocated)
    }
    #[cfg(not(feature = "allocations"))]
    String::new()
}
