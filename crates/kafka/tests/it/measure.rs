use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use rdkafka::producer::BaseRecord;
use watershed_kafka::{KafkaSinkOptions, KafkaTarget, Wants};
use watershed_ports::{Framing, Polled, Source, Target};
use watershed_types::{Epoch, Generation, Positions};

use crate::broker::Broker;

/// `cargo test --release -p watershed-kafka --test it -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn how_many_messages_a_second_are_read() {
    const COUNT: u64 = 3_000_000;
    let broker = Broker::start();
    broker.create("speed", 4);
    let writer = broker.producer(&[("linger.ms", "20"), ("batch.size", "1000000"), ("compression.type", "lz4")]);
    let value = "x".repeat(300);
    let started = Instant::now();
    for n in 0..COUNT {
        let key = format!("k{}", n % 1_000);
        writer.record(BaseRecord::<[u8], [u8]>::to("speed").partition((n % 4) as i32).key(key.as_bytes()).payload(value.as_bytes()));
    }
    writer.flush();
    println!("written: {:.0} messages/s", COUNT as f64 / started.elapsed().as_secs_f64());
    for (name, wants) in [("values", Wants::default()), ("values, keys, timestamps", Wants { key: true, headers: false, timestamp: true })] {
        let mut source = broker.source(&[("topic", "speed")], wants);
        source.seek(&Positions::new()).expect("sought");
        source.drain();
        let (mut seen, mut chunks) = (0, 0);
        let started = Instant::now();
        while let Polled::Chunk(chunk) = source.poll(4 << 20, Duration::ZERO).expect("polls") {
            let Framing::Ranges(ranges) = &chunk.framing else { panic!("a log has ranges") };
            seen += ranges.len() as u64;
            chunks += 1;
        }
        assert_eq!(seen, COUNT);
        println!("{name}: {:.0} messages/s in {chunks} chunks", COUNT as f64 / started.elapsed().as_secs_f64());
    }
}

#[test]
#[ignore = "a measurement"]
fn how_many_rows_a_second_are_delivered() {
    const ROWS: i64 = 8_192;
    let broker = Broker::start();
    broker.create("speed-out", 4);
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..ROWS))),
        ("name", Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("a name of ordinary length {n}"))))),
        ("amount", Arc::new(Decimal128Array::from_iter_values((0..ROWS).map(i128::from)).with_precision_and_scale(18, 2).expect("fits"))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values((0..ROWS).map(|n| 1_767_225_600_000_000 + n * 1_001)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut options = broker.options(&[("topic", "speed-out"), ("key", "id"), ("compression.type", "lz4")]);
    let options = KafkaSinkOptions::take(&mut options, "out", &batch.schema()).expect("right");
    let target = KafkaTarget::new(options, "p/speed", batch.schema()).expect("a target");
    target.claim(Generation(1)).expect("claimed");
    for (epoch, batches) in [(1, 100), (2, 1), (3, 1)] {
        let started = Instant::now();
        target.deliver(Epoch(epoch), Generation(1), &mut std::iter::repeat_n(batch.clone(), batches).map(Ok)).expect("delivered");
        let took = started.elapsed();
        println!("{} rows: {:.0} rows/s, {took:?}", batches as i64 * ROWS, (batches as i64 * ROWS) as f64 / took.as_secs_f64());
    }
}
