//! `watershed produce`: simulated transactions into a Kafka topic.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use watershed_producer::{Event, Guarantee, ProduceOptions, run as produce};
use watershed_types::{Error, Result};

use crate::arguments::{Format, ProduceArguments};
use crate::output::{print, print_json};
use crate::session::{runtime, stop_on_signals};

/// Runs the command.
pub fn run(arguments: ProduceArguments) -> Result<u8> {
    let format = arguments.format;
    let options = options(arguments)?;
    let runtime = runtime()?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&runtime, Arc::clone(&stop), "sending what is waiting; press again to stop at once", "stopped at once; what was waiting may not have been sent");
    let live = std::io::stderr().is_terminal() && format != Format::Json;
    let report = produce(options, stop, |event| match (&event, live) {
        (_, false) if format == Format::Json => {
            if let Ok(text) = serde_json::to_string(&event) {
                eprintln!("{text}");
            }
        }
        // One line that changes.
        (Event::Progress(progress), true) => eprint!("\r\x1b[2K{}", progress.render()),
        _ => eprintln!("{}", event.render()),
    });
    if live {
        eprint!("\r\x1b[2K");
    }
    let report = report?;
    match format {
        Format::Json => {
            let value = serde_json::to_value(&report).map_err(|e| Error::internal("CLI0090", "the report cannot be written as JSON").caused_by(e))?;
            print_json(&value)?;
        }
        Format::Table | Format::Csv => print(&report.render())?,
    }
    report.verdict().map(|()| 0)
}

fn options(a: ProduceArguments) -> Result<ProduceOptions> {
    let guarantee = match (a.transactional, a.idempotent) {
        (true, false) => {
            return Err(
                Error::invalid("CLI0091", "--transactional and --idempotent=false contradict each other").hint("A transactional producer is idempotent: leave --idempotent out.")
            );
        }
        (true, true) => Guarantee::Transactional { records: a.transaction_records, interval: a.transaction_interval },
        (false, true) => Guarantee::Idempotent,
        (false, false) => Guarantee::None,
    };
    Ok(ProduceOptions {
        rate: a.rate,
        records: a.records,
        seconds: a.seconds,
        seed: a.seed,
        customers: a.customers,
        duplicates: a.duplicates,
        disorder: a.disorder,
        max_delay: a.max_delay,
        corrupt: a.corrupt,
        invalid: a.invalid,
        late: a.late,
        start: a.start,
        hot_keys: a.hot_keys,
        hot_key_count: a.hot_key_count,
        salt_hot_keys: a.salt_hot_keys,
        hot_key_threshold: a.hot_key_threshold,
        create_topic: a.create_topic,
        partitions: a.partitions,
        replication: a.replication,
        guarantee,
        properties: a.properties,
        generators: a.generators,
        ..ProduceOptions::new(a.brokers, a.topic)
    })
}
