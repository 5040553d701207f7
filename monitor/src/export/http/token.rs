//! The token that whoever asks over TCP must show, if there is one (RFC 6750, `Authorization: Bearer`).

use std::{fmt, fs::File, io::Read as _, path::Path, sync::Arc};

use axum::http::{HeaderMap, HeaderValue, header};

/// A longer one is no token, but another file.
const LONGEST: u64 = 4096;

/// A secret: never printed.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token file {path} cannot be read: {cause}")]
    Unreadable { path: String, cause: std::io::Error },
    #[error(
        "the token file {path} has no token: it must be one line of visible ASCII characters, without spaces"
    )]
    Malformed { path: String },
}

/// The token in a file; white space around it does not count.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<Token, TokenError> {
    let unreadable = |cause| TokenError::Unreadable {
        path: path.display().to_string(),
        cause,
    };
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LONGEST + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    let token = text.trim_ascii();
    let is_sound = text.len() as u64 <= LONGEST && token.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(token) {
        Ok(token) if is_sound && !token.is_empty() => Ok(Token(token.into())),
        _ => Err(TokenError::Malformed {
            path: path.display().to_string(),
        }),
    }
}

impl Token {
    /// As a request shows it; `None`: never, for what [`read`] has let through.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut shown = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        shown.set_sensitive(true);
        Some(shown)
    }

    /// Whether a request shows it.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(header::AUTHORIZATION) else {
            return false;
        };
        let Some((scheme, shown)) = shown.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && is_same(shown.trim_ascii(), self.0.as_bytes())
    }
}

/// In a time that does not tell how much of it is right.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Token, TokenError> {
        let file = std::env::temp_dir().join(format!("taskleak-token-{}-{}", std::process::id(), text.len()));
        std::fs::write(&file, text).unwrap();
        let token = read(&file);
        std::fs::remove_file(&file).unwrap();
        token
    }

    #[test]
    fn only_who_shows_the_whole_token_passes() {
        let token = of(b" secret-7\n").unwrap();
        let passes = |shown: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, shown.parse().unwrap());
            token.is_shown(&headers)
        };
        assert!(passes("Bearer secret-7") && passes("bearer  secret-7"));
        for shown in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secret-",
            "Bearer secret-77",
            "Bearer Secret-7",
            "Basic secret-7",
            "secret-7",
        ] {
            assert!(!passes(shown), "{shown}");
        }
        assert!(!token.is_shown(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn what_is_no_token_is_said() {
        for text in [&b""[..], b"\n  ", b"two words", b"\xff\xfe\xfd", &[b'a'; 5000]] {
            assert!(matches!(of(text), Err(TokenError::Malformed { .. })), "{text:?}");
        }
        let missing = read(Path::new("/nowhere/token")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/token cannot be read"), "{missing}");
    }
}
