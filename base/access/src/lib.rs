//! Who is calling and what they may do: CA, identities, tokens, policies.
