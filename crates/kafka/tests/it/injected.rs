//! Errors that a real broker does not give on demand. The mock proves nothing about transactions themselves.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use watershed_kafka::{KafkaSinkOptions, KafkaTarget};
use watershed_ports::Target;
use watershed_types::{Certainty, Epoch, Generation, OptionValue, Options};

#[test]
fn errors_that_pass_are_retried_in_place() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let rows = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).expect("a column");
    let bootstrap = cluster.bootstrap_servers();
    let values = [("brokers", bootstrap.as_str()), ("topic", "t")].map(|(key, value)| (key.to_owned(), OptionValue::new(value, value, "a.sql:1:1")));
    let options = KafkaSinkOptions::take(&mut Options::new("sink \"s\"", values.into()), "s", &rows.schema()).expect("right");
    let target = KafkaTarget::new(options, "p/s", rows.schema()).expect("a target");
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS]);
    target.claim(Generation(1)).expect("claimed");
    for (api, error) in [
        (RDKafkaApiKey::EndTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (RDKafkaApiKey::AddOffsetsToTxn, RDKafkaRespErr::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (RDKafkaApiKey::Produce, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
    ] {
        cluster.request_errors(api, &[error, error]);
    }
    let deliver = |epoch| target.deliver(Epoch(epoch), Generation(1), &mut [Ok(rows.clone())].into_iter());
    assert!(!deliver(1).expect("delivered in one call").already_there);
    // One that does not pass is an error, so faults do fire; what comes after it works again.
    cluster.request_errors(RDKafkaApiKey::AddOffsetsToTxn, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let denied = deliver(2).expect_err("not allowed");
    assert_eq!((denied.code(), denied.certainty()), ("KAF0004", Some(Certainty::Definite)), "{denied:?}");
    assert!(!deliver(2).expect("allowed again").already_there);
}
