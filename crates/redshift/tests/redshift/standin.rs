//! A Postgres that answers as Redshift would.
//!
//! Between the client and the server sits a proxy that reads the simple protocol. Statements go through as they are, but for words
//! Postgres does not know (`DISTKEY`, `VARBYTE`); `BEGIN` asks for Redshift's snapshot isolation; a `COPY … FROM 's3://…'` is done by
//! the proxy: it reads the manifest, checks the lengths, and copies the Parquet files' rows into the table, in the open
//! transaction. The proxy also cuts connections at a statement that a test names.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use watershed_postgres::{Columns, Encoder, SIGNATURE, TRAILER};

use super::moto::{BUCKET, get};
use super::support::{postgres_options, shared, sql};

/// What the database lacks of Redshift.
const PRELUDE: &str = "
CREATE DOMAIN super AS jsonb; CREATE DOMAIN varbyte AS bytea;
CREATE FUNCTION getdate() RETURNS timestamp LANGUAGE sql AS 'SELECT clock_timestamp()::timestamp';
CREATE FUNCTION json_parse(value text) RETURNS jsonb LANGUAGE sql AS 'SELECT value::jsonb';
CREATE FUNCTION from_hex(value text) RETURNS bytea LANGUAGE sql AS $$SELECT decode(value, 'hex')$$;
CREATE TABLE sys_load_error_detail (start_time timestamp DEFAULT clock_timestamp(), file_name text, column_name text, error_message text);
";

/// Redshift refuses this text, and the sink cannot know.
pub const POISON: &str = "poison";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the server hears of the statement.
    Before,
    /// The server does it and answers, and the client never hears.
    After,
    /// The client's connection ends; the server hears of the statement once another client waits for the sink's lock.
    Linger,
}

#[derive(Default)]
struct State {
    armed: Option<(Fault, &'static str)>,
    log: Vec<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    locks: Mutex<usize>,
    locking: Condvar,
    fired: AtomicUsize,
    loads: AtomicUsize,
}

/// The proxy before the shared server.
pub struct StandIn {
    pub port: u16,
    shared: Arc<Shared>,
}

impl StandIn {
    /// `isolation` is `REPEATABLE READ`, which is Redshift's SNAPSHOT, or `SERIALIZABLE`.
    pub fn start(isolation: &'static str) -> Self {
        static PREPARED: std::sync::Once = std::sync::Once::new();
        PREPARED.call_once(|| drop(sql(PRELUDE)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<Shared>::default();
        let of_threads = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&of_threads);
                std::thread::spawn(move || serve(client, isolation, &state));
            }
        });
        Self { port, shared: state }
    }
    pub fn url(&self) -> String {
        shared().through(self.port) + if shared().url.contains('?') { "&sslmode=disable" } else { "?sslmode=disable" }
    }
    /// The next statement that begins with these words meets a fault.
    pub fn arm(&self, fault: Fault, words: &'static str) {
        self.shared.state.lock().expect("unpoisoned").armed = Some((fault, words));
    }
    pub fn fired(&self) -> usize {
        self.shared.fired.load(Ordering::SeqCst)
    }
    /// Loads from S3 so far.
    pub fn loads(&self) -> usize {
        self.shared.loads.load(Ordering::SeqCst)
    }
    /// Every statement since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().expect("unpoisoned").log)
    }
}

struct Message {
    kind: u8,
    body: Vec<u8>,
}

fn read(stream: &mut TcpStream) -> Option<Message> {
    let mut head = [0u8; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut body = vec![0u8; length - 4];
    stream.read_exact(&mut body).ok()?;
    Some(Message { kind: head[0], body })
}

fn write(stream: &mut TcpStream, kind: u8, body: &[u8]) -> Option<()> {
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).ok()
}

fn query(server: &mut TcpStream, sql: &str) -> Option<()> {
    let mut body = sql.as_bytes().to_vec();
    body.push(0);
    write(server, b'Q', &body)
}

/// Hands the answer on, up to "ready". Gives an error's message.
fn relay(server: &mut TcpStream, client: &mut TcpStream) -> Option<Option<String>> {
    let mut error = None;
    loop {
        let message = read(server)?;
        if message.kind == b'E' {
            let field = message.body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'M'));
            error = field.map(|field| String::from_utf8_lossy(&field[1..]).into_owned());
        }
        write(client, message.kind, &message.body)?;
        if message.kind == b'Z' {
            return Some(error);
        }
    }
}

fn serve(mut client: TcpStream, isolation: &str, shared_state: &Arc<Shared>) -> Option<()> {
    client.set_nodelay(true).ok()?;
    let mut server = TcpStream::connect(("127.0.0.1", shared().port)).ok()?;
    server.set_nodelay(true).ok()?;
    let mut length = [0u8; 4];
    client.read_exact(&mut length).ok()?;
    let mut startup = vec![0u8; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut startup).ok()?;
    server.write_all(&length).ok()?;
    server.write_all(&startup).ok()?;
    relay(&mut server, &mut client)?;
    loop {
        let message = read(&mut client)?;
        assert_eq!(message.kind as char, if message.kind == b'X' { 'X' } else { 'Q' }, "only the simple protocol is spoken");
        if message.kind == b'X' {
            return write(&mut server, b'X', &[]);
        }
        let sql = String::from_utf8(message.body[..message.body.len() - 1].to_vec()).expect("text");
        let fault = {
            let mut state = shared_state.state.lock().expect("unpoisoned");
            state.log.push(sql.clone());
            match state.armed {
                Some((fault, words)) if sql.starts_with(words) => {
                    state.armed = None;
                    shared_state.fired.fetch_add(1, Ordering::SeqCst);
                    Some(fault)
                }
                _ => None,
            }
        };
        match fault {
            Some(Fault::Before) => return client.shutdown(Shutdown::Both).ok(),
            Some(Fault::After) => {
                let (mut nobody, listener) = nobody();
                run(&mut server, &mut nobody, &sql, isolation, shared_state)?;
                drop(listener);
                return client.shutdown(Shutdown::Both).ok();
            }
            Some(Fault::Linger) => {
                let locks = shared_state.locks.lock().expect("unpoisoned");
                let before = *locks;
                client.shutdown(Shutdown::Both).ok()?;
                let locks = shared_state.locking.wait_while(locks, |locks| *locks == before).expect("unpoisoned");
                drop(locks);
                let (mut nobody, _listener) = nobody();
                return run(&mut server, &mut nobody, &sql, isolation, shared_state);
            }
            None => {}
        }
        if sql.starts_with("LOCK") {
            *shared_state.locks.lock().expect("unpoisoned") += 1;
            shared_state.locking.notify_all();
        }
        run(&mut server, &mut client, &sql, isolation, shared_state)?;
    }
}

/// A connection that takes an answer nobody reads.
fn nobody() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    (stream, listener.accept().expect("accepted").0)
}

fn run(server: &mut TcpStream, client: &mut TcpStream, sql: &str, isolation: &str, state: &Arc<Shared>) -> Option<()> {
    if sql.starts_with("COPY ") && sql.contains(" FROM 's3://") {
        state.loads.fetch_add(1, Ordering::SeqCst);
        return load(server, client, sql);
    }
    query(server, &rewritten(sql, isolation))?;
    relay(server, client).map(drop)
}

fn rewritten(sql: &str, isolation: &str) -> String {
    if sql == "BEGIN" {
        return format!("BEGIN ISOLATION LEVEL {isolation}");
    }
    let mut sql = sql.replace("VARBYTE(32767)", "varbyte").replace("VACUUM DELETE ONLY", "VACUUM");
    if sql.starts_with("CREATE")
        && let Some(end) = sql.find(") DISTSTYLE").or(sql.find(") SORTKEY"))
    {
        sql.truncate(end + 1);
    }
    sql
}

/// What Redshift does for `COPY table FROM 'manifest' … FORMAT AS PARQUET MANIFEST`.
fn load(server: &mut TcpStream, client: &mut TcpStream, sql: &str) -> Option<()> {
    assert!(sql.ends_with("FORMAT AS PARQUET MANIFEST"), "{sql}");
    let mut words = sql.split_whitespace();
    let table = words.nth(1).expect("a table");
    let url = words.nth(1).expect("a manifest").trim_matches('\'');
    let bytes = match files(url) {
        Ok(bytes) => bytes,
        Err(refusal) => {
            if let Some((file, column, noted)) = &refusal.noted {
                note(file, column, noted);
            }
            query(server, &format!("DO $$BEGIN RAISE EXCEPTION '{}' USING ERRCODE = 'XX000'; END$$", refusal.words.replace('\'', "''")))?;
            return relay(server, client).map(drop);
        }
    };
    query(server, &format!("COPY {table} FROM STDIN BINARY"))?;
    loop {
        let message = read(server)?;
        match message.kind {
            b'G' => break,
            // Refused before the first row.
            other => write(client, other, &message.body)?,
        }
        if message.kind == b'Z' {
            return Some(());
        }
    }
    for piece in bytes.chunks(1 << 20) {
        write(server, b'd', piece)?;
    }
    write(server, b'c', &[])?;
    if let Some(error) = relay(server, client)? {
        note(url, "", &error);
    }
    Some(())
}

fn note(file: &str, column: &str, message: &str) {
    let quoted = |text: &str| text.replace('\'', "''");
    sql(&format!("INSERT INTO sys_load_error_detail (file_name, column_name, error_message) VALUES ('{}', '{}', '{}')", quoted(file), quoted(column), quoted(message)));
}

struct Refusal {
    words: String,
    noted: Option<(String, String, String)>,
}

/// The rows of a manifest's files as the tuples of a binary `COPY`.
fn files(url: &str) -> Result<Vec<u8>, Refusal> {
    let key = |url: &str| url.strip_prefix(&format!("s3://{BUCKET}/")).expect("in the bucket").to_owned();
    let manifest: serde_json::Value = serde_json::from_slice(&get(&key(url))).expect("a manifest");
    let mut out = SIGNATURE.to_vec();
    for entry in manifest["entries"].as_array().expect("entries") {
        let file = entry["url"].as_str().expect("a url");
        let bytes = get(&key(file));
        if entry["mandatory"] != true || entry["meta"]["content_length"] != bytes.len() {
            return Err(Refusal { words: format!("manifest: {file} has another length"), noted: None });
        }
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).and_then(|builder| builder.build()).expect("Parquet") {
            let batch = batch.expect("rows");
            poison(&batch, file)?;
            let options = postgres_options("any");
            let columns = Columns::new(&options, &batch.schema()).expect("columns");
            let encoder = Encoder::new("standin", &columns, &batch).expect("an encoder");
            for row in 0..batch.num_rows() {
                encoder.put(row, &mut out).expect("a tuple");
            }
        }
    }
    out.extend_from_slice(TRAILER);
    Ok(out)
}

/// As Redshift says it: which row it was is not told.
fn poison(batch: &RecordBatch, file: &str) -> Result<(), Refusal> {
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()).filter(|(field, _)| *field.data_type() == DataType::Utf8) {
        let text = column.as_string::<i32>();
        if (0..text.len()).any(|row| text.is_valid(row) && text.value(row) == POISON) {
            return Err(Refusal {
                words: "Load into table 'watershed_stage' failed.  Check 'sys_load_error_detail' system table for details.".to_owned(),
                noted: Some((file.to_owned(), field.name().clone(), "Invalid value".to_owned())),
            });
        }
    }
    Ok(())
}
