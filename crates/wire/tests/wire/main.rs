//! Real clients against the port: `psql` (2 versions of its protocol: text and prepared) and tokio-postgres.

mod clients;
mod hostile;
mod world;
