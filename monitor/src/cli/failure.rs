//! Why a command failed, as an exit code.

use std::process::ExitCode;

use crate::{
    config::ConfigError, export::http::token::TokenError, observe::bpf::LoadError, series::SeriesError,
};

/// A failure that has an exit code of its own; the text says cause and cure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    TargetGone(String),
}

impl Failure {
    /// The exit code of an error: what is neither wrong usage nor a lost target could not be done here.
    pub fn exit_code(error: &anyhow::Error) -> ExitCode {
        let code = match error.downcast_ref::<Self>() {
            Some(Self::Usage(_)) => 2,
            Some(Self::TargetGone(_)) => 4,
            Some(Self::NotPermitted(_)) | None => 3,
        };
        ExitCode::from(code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<SeriesError> for Failure {
    fn from(error: SeriesError) -> Self {
        match error {
            SeriesError::Unreachable { .. } => Self::TargetGone(error.to_string()),
            _ => Self::Usage(error.to_string()),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::NotPermitted(error.to_string())
    }
}
