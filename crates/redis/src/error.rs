//! What went wrong, in the words of `docs/errors`.

use redis::{RedisError, ServerError};
use watershed_types::{Error, Generation};

/// What errors may name: never a password, never a value.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub sink: String,
    /// Host and port.
    pub server: String,
    /// The template of the keys.
    pub pattern: String,
}

pub(crate) fn bad_option(sink: &str, message: impl std::fmt::Display, hint: impl Into<String>) -> Error {
    Error::invalid("RDS0001", format!("sink \"{sink}\": {message}")).hint(hint)
}

impl Place {
    /// No connection. Nothing was written.
    pub fn unreachable(&self, cause: RedisError) -> Error {
        let Self { sink, server, .. } = self;
        if matches!(cause.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM")) || cause.kind() == redis::ErrorKind::AuthenticationFailed {
            return Error::denied("RDS0004", format!("sink \"{sink}\": \"{server}\" does not let us in")).hint("Check the user and the password of the url.").definite();
        }
        Error::unavailable("RDS0002", format!("sink \"{sink}\": no connection to \"{server}\""))
            .hint("Check that the server runs and takes connections; it is tried again.")
            .caused_by(cause)
            .definite()
    }

    /// The connection ended while values were on their way.
    pub fn lost(&self, cause: RedisError) -> Error {
        Error::unavailable("RDS0003", format!("sink \"{}\": the connection to \"{}\" was lost", self.sink, self.server))
            .hint("Nothing needs to be done: values are set again, which changes nothing where they are there.")
            .caused_by(cause)
            .indefinite()
    }

    /// The server refused a command. Others of the same call may have been taken.
    pub fn refused(&self, said: &ServerError) -> Error {
        let Self { sink, server, pattern } = self;
        let words = said.details().unwrap_or("").to_owned();
        let error = match said.code() {
            "WRONGTYPE" => Error::conflict("RDS0005", format!("sink \"{sink}\": a key like \"{pattern}\" holds a value of another type"))
                .hint("Somebody else writes such keys, or the sink's type was changed: delete them (SCAN … MATCH, then UNLINK), or choose another key."),
            "NOAUTH" | "NOPERM" | "WRONGPASS" => Error::denied("RDS0004", format!("sink \"{sink}\": \"{server}\" refuses a command"))
                .hint("Allow the user of the url HSET, HDEL, SET, DEL, PEXPIRE, HMGET and EVAL on these keys."),
            "OOM" => Error::unavailable("RDS0007", format!("sink \"{sink}\": the memory of \"{server}\" is full"))
                .hint("Raise maxmemory, choose a policy that evicts, or give the sink a ttl."),
            "READONLY" => Error::unavailable("RDS0007", format!("sink \"{sink}\": \"{server}\" is a replica")).hint("Point url at the primary."),
            "LOADING" => Error::unavailable("RDS0007", format!("sink \"{sink}\": \"{server}\" still loads its data")).hint("It is tried again."),
            "MOVED" | "ASK" | "CROSSSLOT" => {
                Error::invalid("RDS0007", format!("sink \"{sink}\": \"{server}\" is a cluster")).hint("Point url at a single server or a proxy of the cluster.")
            }
            code => Error::unavailable("RDS0007", format!("sink \"{sink}\": \"{server}\" refuses a command: {code} {words}")).hint("It is tried again; look at the server's log."),
        };
        error.indefinite()
    }

    pub fn fenced(&self, ours: Generation, theirs: u64) -> Error {
        Error::fenced("RDS0006", format!("sink \"{}\": generation {theirs} owns it, this run is generation {ours}", self.sink))
            .hint("Another run of the pipeline took over; stop this one.")
            .definite()
    }

    pub fn unfit_rows(&self, what: impl std::fmt::Display) -> Error {
        Error::internal("RDS0008", format!("sink \"{}\": rows do not have the declared columns: {what}", self.sink)).hint("Please report this.").definite()
    }
}
