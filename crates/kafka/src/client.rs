//! How to reach the brokers: the options every Kafka connector shares.
//!
//! **Owns** the names that are handed to librdkafka as they are, its defaults of ours, and the context that turns its log and
//! errors into ours. **Does not own** what a source or a sink is about.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use watershed_types::{Error, Options, Result};

use crate::trouble;

/// librdkafka's own properties that any connector hands on as they are written.
pub const COMMON: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "client.id",
    "client.rack",
    "client.dns.lookup",
    "broker.address.family",
    "socket.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "connections.max.idle.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.interval.ms",
];

/// Properties whose values are never printed.
const SECRET: &[&str] = &["sasl.password", "sasl.oauthbearer.client.secret", "ssl.key.password", "ssl.key.pem"];

/// Where the brokers are and how to be let in. Prints no secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConnection {
    brokers: String,
    properties: BTreeMap<&'static str, String>,
}

impl KafkaConnection {
    /// Takes `brokers` (or `bootstrap.servers`) and every property in [`COMMON`].
    pub fn take(options: &mut Options) -> Result<Self> {
        let other = options.take("bootstrap.servers");
        let brokers = match other {
            Some(brokers) if options.peek("brokers").is_none() => brokers,
            Some(_) => return Err(trouble::option(options.owner(), "has both \"brokers\" and \"bootstrap.servers\"", "Leave one of them out.")),
            None => options.require("brokers")?,
        };
        if brokers.split(',').all(|broker| broker.trim().is_empty()) {
            return Err(trouble::option(options.owner(), "has no broker in \"brokers\"", "Write brokers = 'host:9092', several separated by commas."));
        }
        let mut connection = Self { brokers, properties: BTreeMap::new() };
        connection.pass_through(options, COMMON);
        let sasl = connection.properties.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().starts_with("sasl"));
        if sasl && !connection.properties.contains_key("sasl.mechanism") {
            // librdkafka's own default, GSSAPI, is not built in.
            connection.properties.insert("sasl.mechanism", "PLAIN".to_owned());
        }
        Ok(connection)
    }

    /// Takes the properties of a list, to be handed on as they are written.
    pub fn pass_through(&mut self, options: &mut Options, names: &[&'static str]) {
        for name in names {
            if let Some(value) = options.take(name) {
                self.properties.insert(name, value);
            }
        }
    }

    /// A property that was written, or set by [`KafkaConnection::default_to`].
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// Sets a property unless it was written.
    pub fn default_to(&mut self, name: &'static str, value: &str) {
        self.properties.entry(name).or_insert_with(|| value.to_owned());
    }

    /// The brokers, as written: for errors.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A fresh configuration with all of it.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            config.set(*name, value);
        }
        config
    }
}

impl fmt::Debug for KafkaConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entry(&"brokers", &self.brokers);
        for (name, value) in &self.properties {
            let shown = if SECRET.contains(name) { "(secret)" } else { value.as_str() };
            map.entry(name, &shown);
        }
        map.finish()
    }
}

/// Makes a client; what librdkafka has against a property is an error that names the property.
pub(crate) fn create<C, T>(config: &ClientConfig, context: C) -> Result<T>
where
    C: ClientContext,
    T: FromClientConfigAndContext<C>,
{
    config.create_with_context(context).map_err(refused)
}

/// Checks a configuration without making a client of it.
pub(crate) fn check(config: &ClientConfig) -> Result<()> {
    config.create_native_config().map(drop).map_err(refused)
}

fn refused(error: KafkaError) -> Error {
    let detail = match &error {
        KafkaError::ClientConfig(_, words, name, value) if SECRET.contains(&name.as_str()) => format!("\"{name}\": {}", words.replace(value.as_str(), "(secret)")),
        KafkaError::ClientConfig(_, words, name, value) => format!("\"{name}\" = '{value}': {words}"),
        KafkaError::ClientCreation(words) => words.clone(),
        other => other.to_string(),
    };
    Error::invalid(trouble::CLIENT, format!("librdkafka refuses the options: {detail}")).hint("Correct the option; its values are those of librdkafka's CONFIGURATION.md.")
}

/// What a client says of itself while it works.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<HealthState>,
}

#[derive(Debug, Default)]
struct HealthState {
    down_since: Option<Instant>,
    denied: Option<String>,
    fatal: Option<String>,
}

impl Health {
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, words: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::debug!(target: "librdkafka", "{facility}: {words}");
            }
            _ => tracing::trace!(target: "librdkafka", "{facility}: {words}"),
        }
    }

    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut state = self.state.lock();
        match code {
            RDKafkaErrorCode::AllBrokersDown => {
                state.down_since.get_or_insert_with(Instant::now);
            }
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL => state.denied = Some(reason.trim().to_owned()),
            RDKafkaErrorCode::Fatal => state.fatal = Some(reason.trim().to_owned()),
            _ => {}
        }
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }

    /// An answer came.
    pub(crate) fn up(&self) {
        let mut state = self.state.lock();
        (state.down_since, state.denied) = (None, None);
    }

    /// Since when no broker can be reached.
    pub(crate) fn down_since(&self) -> Option<Instant> {
        self.state.lock().down_since
    }

    /// Why the brokers do not let us in, if they said so.
    pub(crate) fn denied(&self) -> Option<String> {
        self.state.lock().denied.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watershed_types::OptionValue;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), OptionValue::new(*value, *value, "a.sql:1:1"))).collect();
        Options::new("source \"s\"", values)
    }

    #[test]
    fn secrets_are_not_printed_and_sasl_gets_a_mechanism_that_is_built_in() {
        let mut given = options(&[("bootstrap.servers", "b:9092"), ("security.protocol", "SASL_SSL"), ("sasl.username", "me"), ("sasl.password", "hunter2")]);
        let connection = KafkaConnection::take(&mut given).expect("the options are right");
        given.finish().expect("nothing is left");
        assert!(!format!("{connection:?}").contains("hunter2"));
        let config = connection.config();
        assert_eq!(config.get("sasl.mechanism"), Some("PLAIN"));
        assert_eq!(config.get("sasl.password"), Some("hunter2"));
    }

    #[test]
    fn a_wrong_property_is_named_without_a_secret() {
        struct Plain;
        impl ClientContext for Plain {}
        impl rdkafka::consumer::ConsumerContext for Plain {}
        let mut given = options(&[("brokers", "b:9092"), ("security.protocol", "sasl_ssl"), ("sasl.mechanism", "NONSENSE"), ("sasl.password", "hunter2")]);
        let connection = KafkaConnection::take(&mut given).expect("taken");
        let made: Result<rdkafka::consumer::BaseConsumer<Plain>> = create(&connection.config(), Plain);
        let error = made.err().expect("no such mechanism");
        assert_eq!(error.code(), trouble::CLIENT);
        assert!(check(connection.config().set("compression.type", "best")).is_err_and(|error| error.message().contains("compression.type")));
        assert!(error.message().contains("NONSENSE") && !error.report().contains("hunter2"), "{error:?}");
    }
}
