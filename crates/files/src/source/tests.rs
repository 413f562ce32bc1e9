use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::runtime::Runtime;
use watershed_types::{Kind, OptionValue, Options};

use super::*;

const NO_WAIT: Duration = Duration::ZERO;
const HEADER: Option<CsvFraming> = Some(CsvFraming { quote: b'"', header: true });

struct Bench {
    dir: tempfile::TempDir,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), runtime: Runtime::new().expect("a runtime") }
    }
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("written");
    }
    fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).open(self.dir.path().join(name)).expect("opened");
        file.write_all(content.as_ref()).expect("appended");
    }
    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).expect("removed");
    }
    fn source_at(&self, path: &str, csv: Option<CsvFraming>, more: &[(&str, &str)]) -> FilesSource {
        let pairs = [("path", path), ("discover_interval", "20ms")].into_iter().chain(more.iter().copied());
        let values = pairs.map(|(k, v)| (k.to_owned(), OptionValue::new(v, v, "a.sql:1:1"))).collect();
        let mut options = Options::new("source \"s\"", values);
        let taken = FilesOptions::take(&mut options, self.dir.path()).expect("options");
        options.finish().expect("all taken");
        FilesSource::new(taken, csv, self.runtime.handle().clone()).expect("a source")
    }
    fn source(&self, csv: Option<CsvFraming>) -> FilesSource {
        let mut source = self.source_at(".", csv, &[]);
        source.seek(&Positions::new()).expect("seek");
        source
    }
}

fn gzip(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content.as_ref()).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zst(content: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(content.as_ref(), 3).expect("in memory")
}

/// All chunks until caught up.
fn chunks(source: &mut FilesSource, max_bytes: usize) -> Vec<RawChunk> {
    let mut all = Vec::new();
    while let Polled::Chunk(chunk) = source.poll(max_bytes, NO_WAIT).expect("poll") {
        assert!(chunk.byte_positions && &*chunk.partition == "0" && !chunk.bytes.is_empty());
        all.push(chunk);
    }
    all
}

/// The records until caught up, as `file:text`.
fn read(source: &mut FilesSource) -> Vec<String> {
    records(&chunks(source, 1 << 20))
}

fn records(chunks: &[RawChunk]) -> Vec<String> {
    let mut all = Vec::new();
    for chunk in chunks {
        let text = String::from_utf8(chunk.bytes.to_vec()).expect("text");
        all.extend(text.lines().skip(usize::from(chunk.header)).filter(|l| !l.is_empty()).map(|l| format!("{}:{l}", chunk.stretch)));
    }
    all
}

/// Reads again once something is there, within a second.
fn read_soon(source: &mut FilesSource) -> Vec<String> {
    match source.poll(1 << 20, Duration::from_secs(1)).expect("poll") {
        Polled::Chunk(chunk) => records(&[chunk]),
        _ => Vec::new(),
    }
}

fn rows(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(n as usize % 50))).collect()
}

#[test]
fn reads_in_name_order_and_skips_what_is_not_data() {
    let bench = Bench::new();
    for name in ["b.json", "a/2.json", "a/1.json", ".h.json", "_log/x.json", "c.json.tmp", "c.part"] {
        bench.write(name, "1\n");
    }
    assert_eq!(read(&mut bench.source(None)), ["a/1.json:1", "a/2.json:1", "b.json:1"]);
    let mut glob = bench.source_at("a/*.json", None, &[]);
    assert_eq!(read(&mut glob), ["1.json:1", "2.json:1"]);
    let mut single = bench.source_at(".h.json", None, &[]);
    assert_eq!(read(&mut single), [".h.json:1"]);
}

#[test]
fn discovers_files_also_ones_that_sort_before() {
    let bench = Bench::new();
    bench.write("b.json", "1\n");
    let mut source = bench.source(None);
    assert_eq!(read(&mut source), ["b.json:1"]);
    bench.write("a.json", "2\n");
    assert_eq!(read_soon(&mut source), ["a.json:2"]);
    bench.write("c.json", "3\n");
    assert_eq!(read_soon(&mut source), ["c.json:3"]);
}

#[test]
fn a_half_written_line_waits_for_its_end() {
    let bench = Bench::new();
    bench.write("a.json", "{\"a\":1}\n{\"a\"");
    bench.write("b.json", "{\"b\":1}\r\n\r\n\n");
    let mut source = bench.source(None);
    assert_eq!(read(&mut source), ["a.json:{\"a\":1}", "b.json:{\"b\":1}"]);
    assert_eq!(source.lag().bytes, Some(4));
    bench.append("a.json", ":2}");
    assert!(matches!(source.poll(100, Duration::from_millis(30)).expect("poll"), Polled::CaughtUp));
    bench.append("a.json", "\n{\"a\":3}\n");
    let started = Instant::now();
    assert_eq!(read_soon(&mut source), ["a.json:{\"a\":2}", "a.json:{\"a\":3}"]);
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    bench.append("b.json", "{\"b\":2}\n");
    assert_eq!(read_soon(&mut source), ["b.json:{\"b\":2}"]);
    assert_eq!(source.lag().bytes, Some(0));
}

#[test]
fn draining_takes_a_whole_last_line_and_reports_half_a_one() {
    let bench = Bench::new();
    bench.write("a.json", "{\"a\":1}\n{\"a\":2} ");
    bench.write("b.json", "{\"b\":1}\n{\"b\":");
    let mut source = bench.source(None);
    assert_eq!(read(&mut source).len(), 2);
    source.drain();
    assert_eq!(read(&mut source), ["a.json:{\"a\":2} "]);
    let notices = source.notices();
    assert!(notices.len() == 1 && notices[0].contains("\"b.json\" ends at byte 13 without a line end"), "{notices:?}");
    // A later run goes on behind it.
    bench.append("a.json", "\n{\"a\":3}\n");
    assert_eq!(read(&mut source), ["a.json:{\"a\":3}"]);
}

#[test]
fn seeking_to_any_chunk_border_yields_the_same_records() {
    let text = rows(0..900);
    let bench = Bench::new();
    bench.write("a.json", rows(0..700));
    bench.write("b.json.gz", [gzip(&text[..5_000]), gzip(&text[5_000..])].concat());
    bench.write("c.json.zst", [zst(&text[..7_001]), zst(&text[7_001..])].concat());
    bench.write("magic", gzip(rows(0..20)));
    let expected = read(&mut bench.source(None));
    assert_eq!(expected.len(), 700 + 900 + 900 + 20);
    let all = chunks(&mut bench.source(None), 3_000);
    assert!(all.len() > 20);
    let mut positions = Positions::new();
    let mut seen = Vec::new();
    for chunk in &all {
        let mut source = bench.source_at(".", None, &[]);
        source.seek(&positions).expect("seek");
        let rest = [seen.clone(), read(&mut source)].concat();
        assert_eq!(rest, expected);
        let at = positions.entry(chunk.stretch.to_string()).or_default();
        assert_eq!((at.offset, at.record), (chunk.offset, chunk.record));
        let lines = chunk.bytes.iter().filter(|b| **b == b'\n').count() as u64;
        *at = PartitionPosition { offset: chunk.end_offset, record: at.record + lines };
        seen.extend(records(std::slice::from_ref(chunk)));
    }
    let mut source = bench.source_at(".", None, &[]);
    source.seek(&positions).expect("seek");
    assert!(read(&mut source).is_empty());
    assert_eq!(source.lag().bytes, Some(0));
}

#[test]
fn a_truncated_compressed_file_goes_on_when_the_rest_comes() {
    for (name, whole) in [("a.gz", gzip(rows(0..500))), ("a.zst", zst(rows(0..500)))] {
        let bench = Bench::new();
        let cut = whole.len() / 2;
        bench.write(name, &whole[..cut]);
        let mut source = bench.source(None);
        let mut all = read(&mut source);
        assert!(all.len() < 500);
        source.drain();
        all.extend(read(&mut source));
        let notices = source.notices();
        assert!(notices.iter().any(|n| n.contains("ends inside its compressed data")), "{name}: {notices:?}");
        for piece in whole[cut..].chunks(100) {
            bench.append(name, piece);
            all.extend(read(&mut source));
        }
        std::thread::sleep(Duration::from_millis(10));
        all.extend(read(&mut source));
        bench.append(name, if name == "a.gz" { gzip("{}\n") } else { zst("{}\n") });
        std::thread::sleep(Duration::from_millis(10));
        all.extend(read(&mut source));
        assert_eq!(all.len(), 501, "{name}");
        assert_eq!(all[..500].join("\n").replace(&format!("{name}:"), ""), rows(0..500).trim_end(), "{name}");
    }
}

#[test]
fn a_damaged_compressed_file_is_an_error_that_names_it() {
    for (name, mut bytes) in [("a.gz", gzip(rows(0..5_000))), ("a.zst", zst(rows(0..5_000)))] {
        let bench = Bench::new();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 40].fill(0xff);
        bench.write(name, &bytes);
        let mut source = bench.source(None);
        let mut records_before = 0;
        let error = loop {
            match source.poll(1 << 20, NO_WAIT) {
                Ok(Polled::Chunk(chunk)) => records_before += records(&[chunk]).len(),
                Ok(other) => panic!("{name}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains(&format!("file \"{name}\" is damaged at byte")) && error.next_step().is_some());
        assert!(source.poll(1 << 20, NO_WAIT).is_err(), "it stays damaged");
        // An intact copy, of another size, is read on from where the damage was.
        let intact = rows(0..5_001);
        bench.write(name, if name == "a.gz" { gzip(&intact) } else { zst(&intact) });
        std::thread::sleep(Duration::from_millis(30));
        let more = read(&mut source);
        assert_eq!(records_before + more.len(), 5_001, "{name}");
    }
}

#[test]
fn a_complete_compressed_file_may_lack_its_last_line_end() {
    let bench = Bench::new();
    bench.write("a.csv.gz", gzip("x,y\n1,2\n3,4"));
    bench.write("b.csv", "x,y\n1,2\n3,4");
    let mut source = bench.source(HEADER);
    source.drain();
    assert_eq!(read(&mut source), ["a.csv.gz:1,2", "a.csv.gz:3,4", "b.csv:1,2"]);
    assert!(source.notices().iter().any(|n| n.contains("\"b.csv\"")));
    let mut source = bench.source_at("b.csv", HEADER, &[("unterminated_last_line", "take")]);
    source.drain();
    assert_eq!(read(&mut source), ["b.csv:1,2", "b.csv:3,4"]);
}

#[test]
fn csv_chunks_end_at_records_and_start_with_the_header() {
    let bench = Bench::new();
    let header = "\"a\nb\",c\r\n";
    let body: String = (0..300).map(|n| format!("{n},\"line\n{n}\n\"\"q\"\"\"\r\n")).collect();
    let text = format!("\u{feff}{header}{body}");
    bench.write("a.csv", &text);
    bench.write("b.csv.gz", gzip(&text));
    let mut positions = Positions::new();
    let mut bodies: BTreeMap<String, String> = BTreeMap::new();
    loop {
        // A new source for every chunk: each one resumes.
        let mut source = bench.source_at(".", HEADER, &[]);
        source.seek(&positions).expect("seek");
        let Polled::Chunk(chunk) = source.poll(500, NO_WAIT).expect("poll") else { break };
        let bytes = std::str::from_utf8(&chunk.bytes).expect("text");
        let records = bytes.strip_prefix(header).expect("a header");
        assert!(chunk.header && records.ends_with("\"\"\"\r\n") && records.len() < 600);
        let at = chunk.offset as usize;
        assert_eq!(&text[at..chunk.end_offset as usize], records);
        bodies.entry(chunk.stretch.to_string()).or_default().push_str(records);
        positions.insert(chunk.stretch.to_string(), PartitionPosition { offset: chunk.end_offset, record: 0 });
    }
    assert_eq!(bodies.len(), 2);
    assert!(bodies.values().all(|read| *read == body));
}

#[test]
fn a_vanished_file_is_a_notice_only_if_something_was_unread() {
    let bench = Bench::new();
    bench.write("a.json", "1\n");
    bench.write("b.json", "1\n2");
    let mut source = bench.source(None);
    assert_eq!(read(&mut source).len(), 2);
    bench.remove("a.json");
    bench.remove("b.json");
    bench.write("c.json", "3\n");
    assert_eq!(read_soon(&mut source), ["c.json:3"]);
    assert_eq!(source.notices(), ["file \"b.json\" vanished with 1 bytes unread"]);
}

#[test]
fn a_file_shorter_than_what_was_read_is_an_error() {
    let bench = Bench::new();
    bench.write("a.json", "{\"a\":1}\n{\"a\":2}\nhalf");
    let mut source = bench.source(None);
    assert_eq!(read(&mut source).len(), 2);
    // Cutting an undelivered tail is fine.
    bench.write("a.json", "{\"a\":1}\n{\"a\":2}\n{\"\n");
    assert_eq!(read_soon(&mut source), ["a.json:{\""]);
    bench.write("a.json", "{\"a\":1}\n");
    let error = source.poll(100, Duration::from_millis(200)).expect_err("shrunk");
    assert_eq!(error.kind(), Kind::Corrupt);
    assert_eq!(error.message(), "file \"a.json\" is shorter than what was read of it: it has 8 bytes, 19 were read");
    for (name, content, offset) in [("a.json", "{}\n".to_owned().into_bytes(), 19), ("a.gz", gzip("{}\n"), 19)] {
        bench.write(name, content);
        let mut again = bench.source_at(name, None, &[]);
        let positions = Positions::from([(name.to_owned(), PartitionPosition { offset, record: 2 })]);
        again.seek(&positions).expect("seek");
        assert_eq!(again.poll(100, NO_WAIT).expect_err("shorter").kind(), Kind::Corrupt, "{name}");
    }
}

#[test]
fn a_changed_file_is_noticed_on_resuming() {
    let bench = Bench::new();
    bench.write("a.json", "{\"other\":\"content\"}\n");
    let mut source = bench.source_at("a.json", None, &[]);
    source.seek(&Positions::from([("a.json".to_owned(), PartitionPosition { offset: 8, record: 1 })])).expect("seek");
    assert!(source.poll(100, NO_WAIT).expect_err("changed").message().contains("no line starts at byte 8"));
}

#[test]
fn long_lines_are_delivered_whole_and_alone() {
    let bench = Bench::new();
    let long = "y".repeat(9 << 20);
    bench.write("a.json", format!("1\n{long}\n2\n"));
    let mut source = bench.source_at("a.json", None, &[("max_line_bytes", "1MB")]);
    let all = chunks(&mut source, 1_000);
    let lengths: Vec<usize> = all.iter().map(|chunk| chunk.bytes.len()).collect();
    assert_eq!(lengths, [2, (9 << 20) + 1, 2]);
    assert_eq!(all[2].record, 2);
    assert!(source.notices()[0].contains("more than max_line_bytes"));
}

#[test]
fn nothing_there_is_a_notice_given_once() {
    let bench = Bench::new();
    for path in ["no/such/*.json", "nothing", "*.json"] {
        let mut source = bench.source_at(path, None, &[]);
        source.seek(&Positions::new()).expect("seek");
        assert!(read(&mut source).is_empty());
        assert_eq!(source.notices().len(), 1, "{path}");
        assert!(read(&mut source).is_empty() && source.notices().is_empty());
    }
}

#[test]
fn reads_through_an_object_store() {
    let bench = Bench::new();
    let text = rows(0..200_000);
    bench.write("d/a.json", &text);
    bench.write("d/b.json.gz", gzip(&text));
    bench.write("d/x/c.csv", "1\n");
    let url = |path: &str| format!("file://{}", Path::new(bench.dir.path()).join(path).display());
    let mut source = bench.source_at(&url("d/*.json*"), None, &[]);
    let all = chunks(&mut source, 1 << 20);
    assert_eq!(records(&all).len(), 400_000);
    let border = &all[all.len() / 4];
    let mut resumed = bench.source_at(&url("d/*.json*"), None, &[]);
    let position = PartitionPosition { offset: border.end_offset, record: 0 };
    resumed.seek(&Positions::from([(border.stretch.to_string(), position)])).expect("seek");
    let before = records(&all[..=all.len() / 4]).len();
    assert_eq!(read(&mut resumed).len(), 400_000 - before);
    bench.append("d/a.json", "{}\n");
    assert_eq!(read_soon(&mut source), ["a.json:{}"]);
    let mut folder = bench.source_at(&url("d/"), None, &[]);
    assert_eq!(read(&mut folder).len(), 400_002);
    let mut single = bench.source_at(&url("d/x/c.csv"), None, &[]);
    assert_eq!(read(&mut single), ["c.csv:1"]);
}

#[test]
fn several_files_grow_at_once_and_none_is_starved() {
    let bench = Bench::new();
    bench.write("a.json", "");
    bench.write("b.json", "");
    let mut source = bench.source(None);
    let mut all = Vec::new();
    for n in 0..50 {
        bench.append("a.json", format!("{n}\n"));
        bench.append("b.json", format!("{n}\n{n}"));
        bench.append("b.json", "\n");
        all.extend(read_soon(&mut source));
    }
    while all.len() < 150 {
        let more = read_soon(&mut source);
        assert!(!more.is_empty(), "{} of 150", all.len());
        all.extend(more);
    }
    let of = |name: &str| all.iter().filter(|r| r.starts_with(name)).cloned().collect::<Vec<_>>();
    assert_eq!(of("a"), (0..50).map(|n| format!("a.json:{n}")).collect::<Vec<_>>());
    assert_eq!(of("b").len(), 100);
}

#[test]
#[ignore = "a measurement: run it with --ignored --nocapture"]
fn throughput() {
    let bench = Bench::new();
    let text = rows(0..200_000).repeat(60);
    let gz = gzip(&text);
    let zs = zst(&text);
    for (name, csv, content) in [("a.json", None, text.as_bytes()), ("a.csv", HEADER, text.as_bytes()), ("a.json.gz", None, &gz), ("a.json.zst", None, &zs)] {
        bench.write(name, content);
        let mut source = bench.source_at(name, csv, &[]);
        let started = Instant::now();
        let mut bytes = 0;
        while let Polled::Chunk(chunk) = source.poll(1 << 20, NO_WAIT).expect("poll") {
            bytes += chunk.bytes.len();
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{name}: {:.0} MB/s of {} MB", bytes as f64 / seconds / 1e6, bytes / 1_000_000);
    }
}
