//! The Prometheus side: rules, alerts and dashboard as they are in `dashboards/`, by promtool and by real servers, and
//! how many series there can be.

mod cardinality;
mod dashboard;
mod end_to_end;
mod names;
mod promql;
mod promtool;
mod rules;
mod servers;
