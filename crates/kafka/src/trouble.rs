//! The codes of this crate, and errors that several places raise.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use watershed_types::{Error, near_miss};

pub(crate) const CLIENT: &str = "KAF0001";
pub(crate) const UNREACHABLE: &str = "KAF0002";
pub(crate) const NO_TOPIC: &str = "KAF0003";
pub(crate) const DENIED: &str = "KAF0004";
pub(crate) const OPTION: &str = "KAF0005";
pub(crate) const REMOVED: &str = "KAF0006";
pub(crate) const PAST_END: &str = "KAF0007";
pub(crate) const TOPIC_GONE: &str = "KAF0008";
pub(crate) const UNREADABLE: &str = "KAF0009";
pub(crate) const POSITION: &str = "KAF0010";
pub(crate) const FENCED: &str = "KAF0020";
pub(crate) const DELIVERY: &str = "KAF0021";
pub(crate) const UNCERTAIN: &str = "KAF0022";
pub(crate) const CLAIM: &str = "KAF0023";
pub(crate) const EPOCH: &str = "KAF0024";
pub(crate) const CREATE: &str = "KAF0025";
pub(crate) const UNACKNOWLEDGED: &str = "KAF0026";
pub(crate) const ENCODE: &str = "KAF0027";
pub(crate) const UNSURE: &str = "KAF0028";

pub(crate) fn option(owner: &str, what: &str, hint: &str) -> Error {
    Error::invalid(OPTION, format!("{owner} {what}")).hint(hint)
}

pub(crate) fn unreachable(brokers: &str, waited: std::time::Duration, cause: Option<KafkaError>) -> Error {
    let error = Error::unavailable(UNREACHABLE, format!("brokers \"{brokers}\" did not answer within {} s", waited.as_secs()))
        .hint("Check that the address is right, that the brokers run, and that security.protocol is what they expect.");
    match cause {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}

pub(crate) fn denied(brokers: &str, words: &str) -> Error {
    Error::denied(DENIED, format!("brokers \"{brokers}\" refuse access: {words}"))
        .hint("Correct security.protocol, the sasl.* or ssl.* options, or ask for the right on the topic and the group.")
}

pub(crate) fn no_topic<'a>(topic: &str, there: impl IntoIterator<Item = &'a str>) -> Error {
    let hint = match near_miss(topic, there) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => "Create the topic, or correct its name.".to_owned(),
    };
    Error::invalid(NO_TOPIC, format!("topic \"{topic}\" does not exist")).hint(hint)
}

pub(crate) fn topic_gone(topic: &str) -> Error {
    Error::invalid(TOPIC_GONE, format!("topic \"{topic}\" was deleted while it was read")).hint("Restore the topic, or take the source out of the project.")
}

/// True if an error says that somebody may not do something, whatever is tried again.
pub(crate) fn is_denial(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::TopicAuthorizationFailed
            | C::GroupAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::TransactionalIdAuthorizationFailed
            | C::SaslAuthenticationFailed
            | C::Authentication
    )
}
