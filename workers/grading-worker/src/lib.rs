//! Grades student submissions: runs them against a problem's tests in a sandbox.
