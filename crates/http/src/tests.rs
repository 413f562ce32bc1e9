//! The log as its users see it: what was acknowledged is there, once, in order, whatever happens to disk and process.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use watershed_ports::{Polled, Source};
use watershed_types::{PartitionPosition, Positions};

use crate::body::BodyKind;
use crate::disk::{Disk, LocalDisk, SegmentFile};
use crate::{HttpOptions, Log};

fn small() -> HttpOptions {
    HttpOptions { segment_bytes: 4 << 10, retention: None, ..HttpOptions::default() }
}

fn append(log: &Log, body: &str) -> watershed_types::Result<crate::Appended> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(log.append(Bytes::from(body.to_owned()), BodyKind::Auto))
}

fn read_from(log: &Arc<Log>, offset: u64, max_bytes: usize) -> Vec<String> {
    let mut reader = log.reader();
    let positions = Positions::from([("0".to_owned(), PartitionPosition { offset, record: offset })]);
    reader.seek(&positions).expect("the offset is there");
    let (mut records, mut next) = (Vec::new(), offset);
    while let Polled::Chunk(chunk) = reader.poll(max_bytes, Duration::ZERO).expect("reads") {
        assert_eq!(chunk.offset, next, "chunks follow each other");
        let text = String::from_utf8(chunk.bytes.to_vec()).expect("text");
        records.extend(text.lines().map(str::to_owned));
        next = chunk.end_offset;
        assert_eq!(records.len() as u64, next - offset);
    }
    records
}

fn reopen(folder: &Path) -> watershed_types::Result<Arc<Log>> {
    // The appender thread of a dropped log gives the lock back a moment later.
    for _ in 0..200 {
        match Log::open(folder, "s", small()) {
            Err(error) if error.code() == "HTTP0022" => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    Log::open(folder, "s", small())
}

#[test]
fn reads_what_was_acknowledged_from_any_offset_in_any_slices_before_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = reopen(folder.path()).expect("opens");
    let mut all = Vec::new();
    for request in 0..150 {
        let lines: Vec<String> = (0..1 + request % 7).map(|i| format!("{{\"r\":{request},\"i\":{i}}}")).collect();
        let done = append(&log, &lines.join("\n")).expect("is accepted");
        assert_eq!((done.first_offset, done.records), (all.len() as u64, lines.len() as u64));
        all.extend(lines);
    }
    assert!(std::fs::read_dir(folder.path().join("0")).expect("lists").count() > 3, "several segments");
    for restart in [false, true] {
        let log = if restart {
            drop(Arc::clone(&log));
            reopen_after(&log, folder.path())
        } else {
            Arc::clone(&log)
        };
        for (offset, max_bytes) in [(0, 1), (0, 100), (0, 1 << 20), (1, 50), (77, 1 << 20), (all.len(), 10)] {
            assert_eq!(read_from(&log, offset as u64, max_bytes), all[offset..], "from {offset} by {max_bytes}");
        }
    }
}

/// Reads through a second, read-only log: nothing is in memory there.
fn reopen_after(_log: &Arc<Log>, folder: &Path) -> Arc<Log> {
    Log::open_read_only(folder, "s", small()).expect("opens")
}

#[test]
fn a_tail_torn_at_any_byte_leaves_exactly_the_whole_frames_and_appending_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = reopen(folder.path()).expect("opens");
    append(&log, "{\"a\":1}\n{\"a\":2}").expect("is accepted");
    append(&log, "{\"a\":3}").expect("is accepted");
    let file = folder.path().join("0").join(format!("{:020}.log", 0));
    let whole = std::fs::read(&file).expect("reads");
    let first = 48 + 16;
    drop(log);
    for cut in first..whole.len() {
        let copy = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(copy.path().join("0")).expect("makes");
        std::fs::write(copy.path().join("0").join(format!("{:020}.log", 0)), &whole[..cut]).expect("writes");
        let log = reopen(copy.path()).expect("opens");
        let done = append(&log, "{\"a\":4}").expect("is accepted");
        assert_eq!(done.first_offset, 2, "cut at {cut}");
        assert_eq!(read_from(&log, 0, 1 << 20), ["{\"a\":1}", "{\"a\":2}", "{\"a\":4}"], "cut at {cut}");
    }
}

#[test]
fn a_bit_flipped_in_acknowledged_records_is_an_error_that_names_file_and_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = reopen(folder.path()).expect("opens");
    append(&log, "{\"a\":1}").expect("is accepted");
    append(&log, "{\"a\":2}").expect("is accepted");
    drop(log);
    let file = folder.path().join("0").join(format!("{:020}.log", 0));
    let whole = std::fs::read(&file).expect("reads");
    for byte in 0..56 {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x10;
        std::fs::write(&file, &flipped).expect("writes");
        let error = Log::open_read_only(folder.path(), "s", small()).err().unwrap_or_else(|| panic!("byte {byte} was not noticed"));
        assert!(error.message().contains(&file.display().to_string()) && error.message().contains("byte 0"), "{error}");
    }
}

#[test]
fn concurrent_requests_are_each_there_once_and_in_one_piece() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = reopen(folder.path()).expect("opens");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..16 {
            let log = Arc::clone(&log);
            tasks.push(tokio::spawn(async move {
                for request in 0..50 {
                    let body = format!("{task}-{request}-a\n{task}-{request}-b\n");
                    log.append(Bytes::from(body), BodyKind::Ndjson).await.expect("is accepted");
                }
            }));
        }
        for task in tasks {
            task.await.expect("ends");
        }
    });
    let records = read_from(&log, 0, 1 << 20);
    assert_eq!(records.len(), 1_600);
    assert!(records.chunks(2).all(|pair| pair[0].strip_suffix('a') == pair[1].strip_suffix('b')));
    let distinct: std::collections::HashSet<_> = records.iter().collect();
    assert_eq!(distinct.len(), 1_600);
}

#[test]
fn committed_segments_go_after_retention_and_unread_ones_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = HttpOptions { segment_bytes: 4 << 10, retention: Some(Duration::ZERO), max_backlog: 64 << 10, ..HttpOptions::default() };
    let log = Log::open(folder.path(), "s", options).expect("opens");
    let mut sent = 0;
    let refused = loop {
        match append(&log, &"x".repeat(900)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.code(), "HTTP0004", "the backlog limit was reached: {refused}");
    let mut reader = log.reader();
    reader.seek(&Positions::new()).expect("seeks");
    let files = || std::fs::read_dir(folder.path().join("0")).expect("lists").count();
    let before = files();
    let Polled::Chunk(chunk) = reader.poll(20 << 10, Duration::ZERO).expect("reads") else { panic!("nothing read") };
    let upto = |offset| Positions::from([("0".to_owned(), PartitionPosition { offset, record: offset })]);
    reader.committed(&upto(chunk.end_offset)).expect("cleans");
    assert!(files() < before && files() > 1);
    assert!(append(&log, "x").is_ok(), "reading made room");
    let mut rest = 0;
    while let Polled::Chunk(chunk) = reader.poll(1 << 20, Duration::ZERO).expect("reads") {
        rest += chunk.end_offset - chunk.offset;
    }
    assert_eq!(chunk.end_offset + rest, sent + 1);
    reader.committed(&upto(sent + 1)).expect("cleans");
    assert_eq!(files(), 1, "the newest stays");
    let error = log.reader().seek(&upto(0)).expect_err("offset 0 is gone");
    assert_eq!(error.code(), "HTTP0023");
}

/// A disk with so many bytes left; syncing fails while it is negative.
struct FullDisk(Arc<AtomicI64>);
struct FullFile(Box<dyn SegmentFile>, Arc<AtomicI64>);

impl Disk for FullDisk {
    fn open_segment(&self, path: &Path) -> std::io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(FullFile(LocalDisk.open_segment(path)?, Arc::clone(&self.0))))
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        LocalDisk.sync_dir(dir)
    }
}

impl SegmentFile for FullFile {
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> std::io::Result<()> {
        let size: usize = parts.iter().map(|p| p.len()).sum();
        if self.1.fetch_sub(size as i64, Ordering::SeqCst) < size as i64 {
            // Half of it lands, as on a real disk.
            let half: Vec<u8> = parts.iter().flat_map(|p| p.to_vec()).take(size / 2).collect();
            self.0.append(&mut [IoSlice::new(&half)])?;
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.append(parts)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn truncate(&mut self, len: u64) -> std::io::Result<()> {
        self.0.truncate(len)
    }
}

#[test]
fn a_full_disk_refuses_loses_nothing_acknowledged_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let left = Arc::new(AtomicI64::new(1_000));
    let log = Log::open_on(folder.path(), "s", small(), Arc::new(FullDisk(Arc::clone(&left)))).expect("opens");
    let mut acknowledged = Vec::new();
    let (mut refused, mut sent) = (0, 0);
    while acknowledged.len() < 60 {
        let record = format!("{{\"n\":{sent}}}");
        sent += 1;
        match append(&log, &record) {
            Ok(_) => acknowledged.push(record),
            Err(error) => {
                assert_eq!(error.code(), "HTTP0005");
                assert_eq!(error.certainty(), Some(watershed_types::Certainty::Definite));
                refused += 1;
                left.store(1_000, Ordering::SeqCst);
            }
        }
    }
    assert!(refused > 0, "the disk was full at least once");
    assert_eq!(read_from(&log, 0, 1 << 20), acknowledged);
    assert_eq!(read_from(&Log::open_read_only(folder.path(), "s", small()).expect("opens"), 0, 64), acknowledged);
}

#[test]
fn the_door_answers_in_http() {
    use http_body_util::{BodyExt, Full};
    let folder = tempfile::tempdir().expect("a folder");
    let options = HttpOptions { max_body: 1_000, max_record: 100, ..small() };
    let log = Log::open(folder.path(), "s", options).expect("opens");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address");
        let router = crate::router(vec![("s".to_owned(), Arc::clone(&log))]);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let call = async |method: &str, path: &str, body: Vec<u8>, encoding: &str| {
            let request = hyper::Request::builder()
                .method(method)
                .uri(format!("http://{address}{path}"))
                .header("content-encoding", encoding)
                .body(Full::new(Bytes::from(body)))
                .expect("a request");
            let response = client.request(request).await.expect("an answer");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            (status, String::from_utf8_lossy(&body).into_owned())
        };
        let (status, body) = call("POST", "/v1/ingest/s", b"{}\n[1]\nnot json".to_vec(), "identity").await;
        assert_eq!((status, body.as_str()), (200, r#"{"accepted":3,"partition":0,"first_offset":0,"last_offset":2}"#));
        let zipped = zstd::encode_all(&b"[{\"a\":1},\n2]"[..], 1).expect("compresses");
        assert_eq!(call("POST", "/v1/ingest/s", zipped, "zstd").await.0, 200);
        assert_eq!(call("POST", "/v1/ingest/s", vec![], "identity").await.1, r#"{"accepted":0,"partition":0,"first_offset":0,"last_offset":0}"#);
        for (method, path, body, encoding, status) in [
            ("POST", "/v1/ingest/t", b"{}".to_vec(), "identity", 404),
            ("GET", "/v1/ingest/s", vec![], "identity", 405),
            ("POST", "/v1/ingest/s", b"[1,".to_vec(), "identity", 400),
            ("POST", "/v1/ingest/s", b"nonsense".to_vec(), "gzip", 400),
            ("POST", "/v1/ingest/s", b"x".to_vec(), "br", 415),
            ("POST", "/v1/ingest/s", vec![b'x'; 101], "identity", 413),
            ("POST", "/v1/ingest/s", vec![b'\n'; 1_001], "identity", 413),
        ] {
            let (found, text) = call(method, path, body, encoding).await;
            assert_eq!(found, status, "{method} {path}: {text}");
            assert!(text.contains("\"code\":\"HTTP"), "{text}");
        }
    });
    assert_eq!(read_from(&log, 0, 1 << 20), ["{}", "[1]", "not json", "{\"a\":1}", "2"]);
}
