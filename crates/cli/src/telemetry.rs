//! Logs and metrics.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::arguments::Arguments;

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging to stderr.
pub fn install(arguments: &Arguments) {
    // The tree that state goes to on disk removes its folder as a whole and then warns that files in it are gone.
    let filter = EnvFilter::try_new(format!("lsm_tree=error,fjall=error,{}", arguments.log)).unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if arguments.log_json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
}

/// Starts collecting metrics.
pub fn collect() {
    let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3_600.0];
    let built = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &buckets);
    if let Some(handle) = built.ok().and_then(|b| b.install_recorder().ok()) {
        let _ = METRICS.set(handle);
    }
}

/// Every metric in Prometheus' text format.
pub fn render_metrics() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
