//! Domain XML: text to a typed model.
