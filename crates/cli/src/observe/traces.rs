//! Traces of epochs, to any collector that speaks OTLP over HTTP.
//!
//! ```text
//! epoch ├─ open ───────────────┤
//!                              ├ seal ┤ prepare ┤ commit lake.clean ┤ commit warehouse ┤ record ┤
//! ```
//!
//! I1: an epoch is drawn when it is over, from the times its commit took down: drawing costs the pipeline a few
//! microseconds an epoch.
//! I2: spans wait in a bounded queue for a thread that exports them; a collector that is down loses spans, nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use watershed_engine::run::trace::{EpochTrace, Step, listen};
use watershed_types::{Error, Result};

use crate::project::Project;

/// How long an export may take, and how long the last one may at the end.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Traces at work.
pub struct Traces(SdkTracerProvider);

/// Starts exporting, if the project or the environment says where to.
pub fn start(project: &Project) -> Result<Option<Traces>> {
    let settings = &project.settings.telemetry;
    if !(0.0..=1.0).contains(&settings.trace_sample) {
        return Err(Error::invalid("CLI0101", format!("[telemetry] trace_sample is {}, which is no share", settings.trace_sample)).hint("Write a number from 0 to 1."));
    }
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = match (&settings.otlp_endpoint, environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), environment("OTEL_EXPORTER_OTLP_ENDPOINT")) {
        (Some(base), _, _) => address("[telemetry] otlp_endpoint", base, true)?,
        (None, Some(exact), _) => address("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &exact, false)?,
        (None, None, Some(base)) => address("OTEL_EXPORTER_OTLP_ENDPOINT", &base, true)?,
        (None, None, None) => return Ok(None),
    };
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build();
    let exporter =
        exporter.map_err(|e| Error::unavailable("CLI0102", "traces cannot be exported").hint("Is [telemetry] otlp_endpoint right? Without it nothing is traced.").caused_by(e))?;
    let resource = Resource::builder().with_service_name("watershed").with_attribute(KeyValue::new("watershed.pipeline", project.name())).build();
    let sampler = Sampler::TraceIdRatioBased(settings.trace_sample);
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_sampler(sampler).with_resource(resource).build();
    let tracer = provider.tracer("watershed");
    if !listen(move |trace| draw(&tracer, &trace)) {
        return Err(Error::internal("CLI0102", "epochs of this process are traced already"));
    }
    Ok(Some(Traces(provider)))
}

/// Where spans go: the standard path below a base, or an address as it is.
fn address(what: &str, text: &str, base: bool) -> Result<String> {
    let good = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !good {
        return Err(Error::invalid("CLI0101", format!("{what} is not an address")).hint("Write it as http://127.0.0.1:4318."));
    }
    let trimmed = text.trim_end_matches('/');
    Ok(if base && !trimmed.ends_with("/v1/traces") { format!("{trimmed}/v1/traces") } else { text.to_owned() })
}

impl Traces {
    /// Exports what waits, for a moment.
    pub fn finish(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_EXPORT) {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

fn at(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One trace: the epoch and its steps.
fn draw(tracer: &SdkTracer, trace: &EpochTrace) {
    let (Some(first), Some(last)) = (trace.steps.first(), trace.steps.last()) else { return };
    let bytes: u64 = trace.steps.iter().filter_map(|step| step.bytes).sum();
    let attributes = [
        KeyValue::new("watershed.pipeline", trace.pipeline.clone()),
        KeyValue::new("watershed.epoch", number(trace.epoch)),
        KeyValue::new("watershed.generation", number(trace.generation)),
        KeyValue::new("watershed.records", number(trace.records)),
        KeyValue::new("watershed.bytes", number(bytes)),
    ];
    let root = SpanBuilder::from_name("epoch").with_kind(SpanKind::Internal).with_start_time(at(first.started_at)).with_attributes(attributes);
    let mut root = tracer.build_with_context(root, &Context::new());
    if let Some(error) = &trace.error {
        root.set_status(Status::error(error.clone()));
    }
    let context = Context::new().with_span(root);
    for step in &trace.steps {
        step_span(tracer, &context, trace, step);
    }
    context.span().end_with_timestamp(at(last.ended_at));
}

fn step_span(tracer: &SdkTracer, context: &Context, trace: &EpochTrace, step: &Step) {
    let name = step.sink.as_ref().map_or_else(|| step.name.to_owned(), |sink| format!("{} {sink}", step.name));
    let mut attributes = vec![KeyValue::new("watershed.epoch", number(trace.epoch))];
    attributes.extend(step.sink.as_ref().map(|sink| KeyValue::new("watershed.sink", sink.clone())));
    attributes.extend(step.rows.map(|rows| KeyValue::new("watershed.rows", number(rows))));
    attributes.extend(step.bytes.map(|bytes| KeyValue::new("watershed.bytes", number(bytes))));
    let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Internal).with_start_time(at(step.started_at)).with_attributes(attributes);
    let mut span = tracer.build_with_context(builder, context);
    span.end_with_timestamp(at(step.ended_at));
}
