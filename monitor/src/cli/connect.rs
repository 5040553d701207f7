//! Asking a `taskleak run` that is there already: over TCP or its Unix socket, without privileges.

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::Failure;
use crate::export::http::{PARTIAL, Token, token};

/// More than the daemon takes before it gives up.
const PATIENCE: Duration = Duration::from_secs(40);
/// A million goroutines, each told by itself, are less.
const MAX_BODY: usize = 1 << 30;

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("which socket? unix:PATH".to_owned()),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Self::Tcp(host.to_owned())),
            _ => Err("neither HOST:PORT nor unix:PATH".to_owned()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(formatter, "http://{host}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Whom to ask, and what to show.
#[derive(Args, Clone, Debug, Default)]
pub struct Connect {
    /// Ask the `taskleak run` that listens there (HOST:PORT or unix:PATH), which needs no privileges; it shows stacks on its
    /// Unix socket, or with --expose-stacks
    #[arg(long, value_name = "ADDR")]
    connect: Option<Address>,
    /// The token that it asks for
    #[arg(long, env = "TASKLEAK_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<PathBuf>,
}

impl Connect {
    pub fn is_given(&self) -> bool {
        self.connect.is_some()
    }

    /// Whoever is to be asked; `None`: nobody.
    ///
    /// # Errors
    /// When there is no token in the file.
    pub fn api(&self) -> Result<Option<Api>, Failure> {
        let Some(address) = &self.connect else {
            return Ok(None);
        };
        let token = self.token_file.as_deref().map(token::read).transpose()?;
        let failed = |error: io::Error| Failure::NotPermitted(error.to_string());
        Api::new(address.clone(), token).map(Some).map_err(failed)
    }
}

/// A daemon's answer.
pub struct Answer {
    pub body: Bytes,
    /// The process has ended while it was looked at.
    pub is_partial: bool,
}

/// A daemon.
pub struct Api {
    address: Address,
    token: Option<HeaderValue>,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    fn new(address: Address, token: Option<Token>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            address,
            token: token.and_then(|token| token.header()),
            runtime,
        })
    }

    /// What it answers to a GET of a path, with its query.
    ///
    /// # Errors
    /// When it is not reached, or refuses: with its own words.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        let (address, token) = (&self.address, self.token.as_ref());
        let told = self.runtime.block_on(async {
            let exchanged = async {
                match address {
                    Address::Tcp(host) => exchange(TcpStream::connect(host).await?, host, path, token).await,
                    Address::Unix(socket) => {
                        exchange(UnixStream::connect(socket).await?, "localhost", path, token).await
                    }
                }
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            timeout(PATIENCE, exchanged).await.map_err(late)?
        });
        let (status, answer) =
            told.map_err(|error| Failure::TargetGone(format!("no taskleak answers at {address}: {error}")))?;
        if status.is_success() {
            return Ok(answer);
        }
        let text = format!("{address}: {}", String::from_utf8_lossy(&answer.body).trim());
        Err(match status {
            StatusCode::BAD_REQUEST => Failure::Usage(text),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::NotPermitted(text),
            _ => Failure::TargetGone(text),
        })
    }
}

async fn exchange<S>(
    stream: S,
    host: &str,
    path: &str,
    token: Option<&HeaderValue>,
) -> io::Result<(StatusCode, Answer)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the answer, or says there what is wrong.
    tokio::spawn(connection);
    let mut request = Request::get(path).header(HOST, host).header(ACCEPT, "*/*");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let is_partial = response.headers().contains_key(PARTIAL);
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    Ok((status, Answer { body, is_partial }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_sockets() {
        let tcp = |text: &str| Address::from_str(text) == Ok(Address::Tcp("node7:9435".to_owned()));
        assert!(tcp("node7:9435") && tcp("http://node7:9435") && tcp("http://node7:9435/"));
        assert_eq!(
            Address::from_str("[::1]:9435"),
            Ok(Address::Tcp("[::1]:9435".to_owned()))
        );
        assert_eq!(
            Address::from_str("unix:/run/taskleak.sock"),
            Ok(Address::Unix(PathBuf::from("/run/taskleak.sock")))
        );
        for wrong in ["", "node7", "node7:http", "unix:", "https://node7", "node7:99999"] {
            assert!(Address::from_str(wrong).is_err(), "{wrong}");
        }
    }
}
