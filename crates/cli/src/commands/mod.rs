//! One file a command.

mod alert;
pub mod checkpoint;
mod demo;
pub mod explain;
mod init;
pub mod plan;
mod produce;
pub mod quarantine;
pub mod query;
mod run;
mod status;
mod token;
mod up;
pub mod verify;

use std::time::Instant;

use watershed_types::Result;

use crate::arguments::{Arguments, Command};

/// Runs a command; the number is the exit code.
pub fn run(arguments: Arguments, started: Instant) -> Result<u8> {
    match arguments.command {
        Command::Init(a) => init::run(a),
        Command::Up(a) => up::run(a, started),
        Command::Run(a) => run::run(a, started),
        Command::Plan(a) => plan::run(a),
        Command::Query(a) => query::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Status(a) => status::run(a),
        Command::Checkpoint(a) => checkpoint::run(a),
        Command::Alert(a) => alert::run(a),
        Command::Quarantine(a) => quarantine::run(a, started),
        Command::Demo(a) => demo::run(a, started),
        Command::Produce(a) => produce::run(*a),
        Command::Token(a) => token::run(a),
        Command::Explain { code } => explain::run(&code),
    }
}
