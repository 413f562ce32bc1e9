//! Against Apache Kafka itself. `scripts/kafka` downloads it once and starts it on free loopback ports; where that is not
//! possible these tests fail and say why.

mod broker;
mod injected;
mod measure;
mod source;
mod target;
