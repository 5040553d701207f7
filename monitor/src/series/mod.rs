//! Recorded series, for `judge`: from a file, or from a Prometheus server.

mod csv;
mod file;
mod prometheus;
mod query;

pub use file::read_file;
pub use query::{Range, query_range};

/// A series that was recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As Prometheus writes it (`name{label="value"}`), or a column's name.
    pub name: String,
    /// Unix seconds and values, as they were recorded.
    pub samples: Vec<(f64, f64)>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    #[error("{path} cannot be read: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error(
        "{path}, line {line}: {cause} (wanted: Prometheus' query_range JSON, or CSV of unix seconds and a value by series)"
    )]
    Malformed { path: String, line: u64, cause: String },
    #[error("{url} does not answer: {cause}")]
    Unreachable { url: String, cause: String },
    #[error("{url} answers: {cause}")]
    Refused { url: String, cause: String },
}
