//! What a caller's queries of one model give away: extraction and evasion.
