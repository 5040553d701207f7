//! Verdicts on simulated processes.

use anyhow::Result;

use crate::workspace;

/// Goals: below 1 false alarm in 1,000 process-days; one a minute found in 15 minutes, one an hour in 24 hours.
pub fn verdict() -> Result<()> {
    println!("\n## Verdicts on simulated processes");
    workspace::run(workspace::cargo().args(["bench", "--package", "taskleak", "--bench", "verdict"]))
}
