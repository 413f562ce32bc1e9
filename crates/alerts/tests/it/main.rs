//! Alerts from outside: rules over samples, messages to real servers, files that survive.

mod delivery;
mod lives;
mod receivers;
mod reference;
mod settings;
