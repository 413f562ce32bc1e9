//! Rows as commands.

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::options::{Piece, RedisOptions, Type};
use crate::resp::{command, word};
use crate::text;

/// Appends the key of a row.
pub(crate) fn key<'a>(pieces: &[Piece], column: impl Fn(usize) -> &'a ArrayRef, row: usize, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Column(index) => text::key_piece(out, column(*index), row),
        }
    }
}

/// Writes the commands of rows; keeps its scratch from row to row.
pub(crate) struct Writer {
    key: Vec<u8>,
    value: Vec<u8>,
    ttl: Option<Vec<u8>>,
    /// Times and keys for the index, since it was last written.
    listed: Vec<(i64, Vec<u8>)>,
}

impl Writer {
    pub fn new(options: &RedisOptions) -> Self {
        Self { key: Vec::new(), value: Vec::new(), ttl: options.ttl.map(|ttl| ttl.as_millis().to_string().into_bytes()), listed: Vec::new() }
    }

    /// Appends a row's commands and says how many.
    pub fn put(&mut self, options: &RedisOptions, schema: &SchemaRef, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> usize {
        self.key.clear();
        key(&options.key, |index| batch.column(index), row, &mut self.key);
        match options.kind {
            Type::Hash => self.hash(options, schema, batch, row, out),
            Type::String => {
                let column = batch.column(options.fields[0]);
                if column.is_null(row) {
                    command(out, 2);
                    word(out, b"DEL");
                    word(out, &self.key);
                } else {
                    self.value.clear();
                    text::plain(&mut self.value, column, row);
                    self.set(out);
                }
                1
            }
            Type::Json => {
                self.value.clear();
                self.value.push(b'{');
                for (i, index) in options.fields.iter().enumerate() {
                    if i > 0 {
                        self.value.push(b',');
                    }
                    text::text(&mut self.value, schema.field(*index).name());
                    self.value.push(b':');
                    text::value(&mut self.value, batch.column(*index), row);
                }
                self.value.push(b'}');
                self.set(out);
                1
            }
        }
    }

    /// Notes the row just put for the index.
    pub fn list(&mut self, time: i64) {
        self.listed.push((time, self.key.clone()));
    }

    /// Appends the command that lists what was noted, and says how many commands that is. It goes after the values: what
    /// is listed is there.
    pub fn index(&mut self, index: &str, out: &mut Vec<u8>) -> usize {
        if self.listed.is_empty() {
            return 0;
        }
        command(out, 2 + 2 * self.listed.len());
        word(out, b"ZADD");
        word(out, index.as_bytes());
        for (time, key) in self.listed.drain(..) {
            word(out, time.to_string().as_bytes());
            word(out, &key);
        }
        1
    }

    fn set(&self, out: &mut Vec<u8>) {
        command(out, if self.ttl.is_some() { 5 } else { 3 });
        word(out, b"SET");
        word(out, &self.key);
        word(out, &self.value);
        if let Some(ttl) = &self.ttl {
            word(out, b"PX");
            word(out, ttl);
        }
    }

    /// Sets what there is and deletes what is NULL, so that no value of an earlier tick shows through.
    fn hash(&mut self, options: &RedisOptions, schema: &SchemaRef, batch: &RecordBatch, row: usize, out: &mut Vec<u8>) -> usize {
        let nulls = options.fields.iter().filter(|index| batch.column(**index).is_null(row)).count();
        let mut commands = 0;
        if nulls < options.fields.len() {
            command(out, 2 + 2 * (options.fields.len() - nulls));
            word(out, b"HSET");
            word(out, &self.key);
            for index in options.fields.iter().filter(|index| !batch.column(**index).is_null(row)) {
                word(out, schema.field(*index).name().as_bytes());
                self.value.clear();
                text::plain(&mut self.value, batch.column(*index), row);
                word(out, &self.value);
            }
            commands += 1;
        }
        if nulls > 0 {
            command(out, 2 + nulls);
            word(out, b"HDEL");
            word(out, &self.key);
            for index in options.fields.iter().filter(|index| batch.column(**index).is_null(row)) {
                word(out, schema.field(*index).name().as_bytes());
            }
            commands += 1;
        }
        if let Some(ttl) = &self.ttl {
            command(out, 3);
            word(out, b"PEXPIRE");
            word(out, &self.key);
            word(out, ttl);
            commands += 1;
        }
        commands
    }
}
