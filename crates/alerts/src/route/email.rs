//! Mail by SMTP.

use std::fmt;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Mailbox, MessageBuilder};
use lettre::{SmtpTransport, Transport};
use watershed_types::{Error, Result, Secret};

use super::{Again, Refused};
use crate::message::Message;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Readers of mail.
#[derive(Clone)]
pub struct Email {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Email {
    /// Checks the server's address and everybody's.
    pub fn new(route: &str, url: Secret, from: &str, to: &[String]) -> Result<Email> {
        // The parser's words would show the address, and a password may be in it.
        let transport = SmtpTransport::from_url(url.expose()).map_err(|_| {
            Error::invalid("ALR0004", format!("route \"{route}\": url is not the address of a mail server"))
                .hint("Write it as smtps://user:password@host, or smtp://host:587?tls=required; percent-encode what is special in the password.")
        })?;
        let mailbox = |key: &str, text: &str| {
            let wrong = |_| Error::invalid("ALR0004", format!("route \"{route}\": {key}: \"{}\" is not a mail address", text.escape_debug()));
            text.parse::<Mailbox>().map_err(wrong).map_err(|e| e.hint("Write it as name@example.com or Name <name@example.com>."))
        };
        if to.is_empty() {
            return Err(Error::invalid("ALR0004", format!("route \"{route}\": to is empty")).hint("Write to = [\"name@example.com\"]."));
        }
        let to = to.iter().map(|text| mailbox("to", text)).collect::<Result<_>>()?;
        Ok(Email { transport: transport.timeout(Some(TIMEOUT)).build(), from: mailbox("from", from)?, to })
    }

    /// Sends one mail. Its id is the same whenever it is sent again, so that mail servers can tell.
    pub fn send(&self, route: &str, message: &Message, id: &str) -> std::result::Result<(), Refused> {
        let domain = self.from.email.domain();
        let mut builder = MessageBuilder::new().from(self.from.clone()).subject(message.title()).message_id(Some(format!("<{id}@{domain}>"))).header(ContentType::TEXT_PLAIN);
        for reader in &self.to {
            builder = builder.to(reader.clone());
        }
        let refuse = |code, words: &str, cause: lettre::transport::smtp::Error| {
            let error = if code == "ALR0009" {
                Error::rejected(code, format!("route \"{route}\": {words}")).definite()
            } else {
                Error::unavailable(code, format!("route \"{route}\": {words}")).indefinite()
            };
            error.caused_by(cause)
        };
        let mail = builder
            .body(message.text())
            .map_err(|e| Refused { error: Error::internal("ALR0009", format!("route \"{route}\": the mail cannot be written")).caused_by(e), again: Again::Never })?;
        let Err(cause) = self.transport.send(&mail) else { return Ok(()) };
        // 53x is about who we are; the other permanent answers are about this mail.
        let about_us = cause.status().is_some_and(|code| matches!(u16::from(code), 530..=538));
        if cause.is_permanent() && !about_us {
            let hint = "The message was put into .watershed/alerts/failed; the messages after it are sent.";
            return Err(Refused { error: refuse("ALR0009", "the mail server does not take the message", cause).hint(hint), again: Again::Never });
        }
        let hint = "The message waits in .watershed/alerts/outbox and is sent again.";
        Err(Refused { error: refuse("ALR0008", "the mail server does not take messages", cause).hint(hint), again: Again::Later(None) })
    }
}
