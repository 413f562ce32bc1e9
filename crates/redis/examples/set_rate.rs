//! How fast keys are set: `cargo run --release -p watershed-redis --example set_rate -- [keys]`, against a private server.
//!
//! Prints the server's own ceiling, the same commands made beforehand and sent in the same flights, and then the sink. Keys are there
//! before: the first round of the ceiling makes them and does not count.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use watershed_redis::{RedisLive, RedisOptions};
use watershed_types::{OptionValue, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let keys: i64 = std::env::args().nth(1).map_or(Ok(500_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/redis");
    let said = Command::new(script).arg("start").arg(folder.path()).args(["--fast", "--parent", &std::process::id().to_string()]).output()?;
    let url = String::from_utf8(said.stdout)?.trim().strip_prefix("url=").ok_or("the server did not start")?.to_owned();

    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("status", DataType::Utf8, false), Field::new("orders", DataType::Int64, false)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..keys)),
        Arc::new(StringArray::from_iter_values((0..keys).map(|_| "paid"))),
        Arc::new(Int64Array::from_iter_values((0..keys).map(|id| id * 31))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;

    let mut connection = redis::Client::open(url.as_str())?.get_connection()?;
    for kind in ["hash", "json"] {
        let command = |id: i64| match kind {
            "hash" => redis::cmd("HSET").arg(format!("hash:{id}")).arg("status").arg("paid").arg("orders").arg(id * 31).get_packed_command(),
            _ => redis::cmd("SET").arg(format!("json:{id}")).arg(format!(r#"{{"id":{id},"status":"paid","orders":{}}}"#, id * 31)).get_packed_command(),
        };
        let flights: Vec<Vec<u8>> = (0..keys / 1_000).map(|flight| (flight * 1_000..flight * 1_000 + 1_000).flat_map(command).collect()).collect();
        let mut ceiling = 0.0;
        for _ in 0..2 {
            ceiling = raw(&mut connection, &flights)?;
        }
        println!("{kind}: commands made beforehand  {ceiling:>9.0} keys/s");

        let key = format!("{kind}:{{id}}");
        let pairs = [("url", url.as_str()), ("key", key.as_str()), ("type", kind)];
        let values: BTreeMap<_, _> = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "rate"))).collect();
        let options = RedisOptions::take(&mut Options::new("sink \"rate\"", values), "rate", &schema)?;
        let mut sink = RedisLive::new(options, "rate", "rate", schema.clone())?;
        let began = Instant::now();
        sink.write(&batch)?;
        let rate = keys as f64 / began.elapsed().as_secs_f64();
        println!("{kind}: sink                      {rate:>9.0} keys/s   {:.2} of the ceiling", rate / ceiling);
    }
    Command::new(script).arg("remove").arg(folder.path()).status()?;
    Ok(())
}

/// Keys per second with two flights under way.
fn raw(connection: &mut redis::Connection, flights: &[Vec<u8>]) -> redis::RedisResult<f64> {
    let began = Instant::now();
    let mut unanswered = 0;
    for flight in flights {
        connection.send_packed_command(flight)?;
        unanswered += 1_000;
        while unanswered > 1_000 {
            connection.recv_response()?;
            unanswered -= 1;
        }
    }
    for _ in 0..unanswered {
        connection.recv_response()?;
    }
    Ok((flights.len() * 1_000) as f64 / began.elapsed().as_secs_f64())
}
