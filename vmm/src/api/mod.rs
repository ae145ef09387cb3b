//! Requests, reports and events.
