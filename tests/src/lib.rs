//! The harness and the integration tests: real endpoint, real Docker, real workers.
