//! `taskleak health`: asks the daemon beside it whether it is well. An image of nothing but this binary has no curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Args;

use super::Failure;
use crate::config::DEFAULT_LISTEN;

const PATIENCE: Duration = Duration::from_secs(4);

/// Ask a running `taskleak run` whether its sweeps are up to date: exit 0, or 4 (for health checks of containers)
#[derive(Args)]
pub struct HealthCommand {
    /// Address and port that it listens on
    #[arg(long, env = "TASKLEAK_LISTEN", value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
}

impl HealthCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let url = format!("http://{}/readyz", reachable(self.listen));
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            // Nobody stands between us.
            .proxy(None)
            .build()
            .into();
        let told = |what: String| Failure::TargetGone(format!("{url}: {what}"));
        let mut answer = agent.get(&url).call().map_err(|error| told(error.to_string()))?;
        let text = answer
            .body_mut()
            .read_to_string()
            .map_err(|error| told(error.to_string()))?;
        if !answer.status().is_success() {
            return Err(told(text.trim().to_owned()).into());
        }
        print!("{text}");
        Ok(ExitCode::SUCCESS)
    }
}

/// An address to connect to, for one to listen on.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let of = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9435"), "127.0.0.1:9435");
        assert_eq!(of("[::]:80"), "[::1]:80");
        assert_eq!(of("10.0.0.7:9435"), "10.0.0.7:9435");
    }
}
