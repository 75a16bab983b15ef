//! Untrusted programs in Docker cells: profiles, a warm pool and a reaper.
