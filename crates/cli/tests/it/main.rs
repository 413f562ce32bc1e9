//! The whole of it from outside: projects on disk, the `watershed` binary, its tables read back.

mod support;
