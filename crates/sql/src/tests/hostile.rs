//! Whatever the bytes, the answer is definitions or an error with words in it.

use super::{EXAMPLE, env, file, parse};
use crate::{Place, error_at, parse_project, picture};

fn survives(text: &str) {
    if let Err(error) = parse_project(&[file(text)], &env) {
        assert!(!error.message().is_empty() && error.code().starts_with("SQL"));
        assert!(!error.report().contains("hunter2"));
    }
}

#[test]
fn truncations_and_changed_bytes_of_a_good_file() {
    for (end, _) in EXAMPLE.char_indices() {
        survives(EXAMPLE.get(..end).unwrap_or(""));
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let alphabet: Vec<char> = "();,.'\"${}[]<>=-*/\\\0\n\t %:é🦀AasS01".chars().collect();
    for _ in 0..2_000 {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        for _ in 0..=random(3) {
            let at = random(text.len());
            match random(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, alphabet[random(alphabet.len())]),
                _ => text[at] = alphabet[random(alphabet.len())],
            }
        }
        survives(&text.into_iter().collect::<String>());
    }
    let tokens: Vec<&str> = EXAMPLE.split_inclusive([' ', '(', ')', ',']).collect();
    for _ in 0..2_000 {
        let mut shuffled = tokens.clone();
        let (from, to) = (random(shuffled.len()), random(shuffled.len()));
        shuffled.swap(from, to);
        shuffled.remove(random(shuffled.len()));
        survives(&shuffled.concat());
    }
}

#[test]
fn garbage() {
    for text in [
        "",
        ";",
        ";;;",
        "\0",
        "\u{feff}",
        "CREATE",
        "CREATE OR",
        "'",
        "\"",
        "$$",
        "E'\\",
        "U&'\\XYZ'",
        "/*",
        "--",
        "🦀",
        "\r\n\r\n",
        "CREATE SOURCE",
        "CREATE SOURCE \"\" (",
        "CREATE TABLE a AS (",
        "CREATE VIEW a AS SELECT * FROM TUMBLE(",
        "CREATE VIEW a AS WITH",
        "CREATE VIEW a AS SELECT 1 FROM TUMBLE() FROM",
        "CREATE SOURCE s (a MAP<",
        "CREATE SOURCE s (a ARRAY<INT>>>>) WITH ()",
        "CREATE SOURCE s (a INT) WITH (a = '${')",
        "CREATE SOURCE s (a INT) WITH (a = '${}')",
        "CREATE SOURCE s (a INT) WITH (a = '$${$${${')",
        "CREATE SOURCE s (a DECIMAL(99999999999999999999999)) WITH ()",
        "CREATE VIEW a AS SELECT 99999999999999999999999e99999",
        "CREATE VIEW a AS SELECT * FROM t EMIT",
        "CREATE VIEW a AS EMIT ON CLOSE",
        "CREATE VIEW a AS SELECT 1 EMIT ON",
        "CREATE VIEW a AS SELECT 1 EMIT ON CLOSE,",
        "CREATE VIEW a AS SELECT 1 EMIT ON CLOSE EARLY",
        "CREATE VIEW a AS ON LATE DROP",
        "CREATE VIEW a AS SELECT 1 ALLOWED LATENESS INTERVAL",
        "CREATE VIEW a AS SELECT * FROM t FOR SYSTEM_TIME",
        "CREATE VIEW a AS SELECT * FROM t JOIN FOR SYSTEM_TIME AS OF",
        "CREATE VIEW a AS SELECT * FROM t JOIN u FOR SYSTEM_TIME AS OF PROCTIME(",
        "CREATE VIEW a AS SELECT * FROM SESSION(t PARTITION BY",
        "CREATE VIEW a AS SELECT * FROM SESSION(t PARTITION BY (), ts, ",
        "CREATE VIEW a AS SELECT * FROM CUMULATE(t, ts, INTERVAL '1 s', `OFFSET` =>",
        "CREATE VIEW a AS SELECT TUMBLE_START() FROM t GROUP BY TUMBLE()",
        "CREATE VIEW a AS SELECT 1 GROUP BY HOP(a, INTERVAL '1 s', INTERVAL",
        "CREATE SOURCE s (PRIMARY KEY",
        "CREATE TABLE s (CONSTRAINT c PRIMARY KEY () NOT",
    ] {
        survives(text);
    }
}

#[test]
fn depth_and_length_have_bounds() {
    let megabyte = 1 << 20;
    let view = "CREATE VIEW v AS SELECT ";
    for text in [
        "(".repeat(megabyte),
        format!("{view}{}1{}", "(".repeat(30), ")".repeat(30)),
        format!("{view}{}", "(".repeat(59)),
        format!("{view}* FROM {}t", "(".repeat(58)),
        format!("{view}* FROM {}t{}", "(".repeat(25), ")".repeat(25)),
        format!("{view}* FROM {}t JOIN{}", "(".repeat(25), ")".repeat(25)),
        format!("{view}{}1", "- ".repeat(megabyte)),
        format!("{view}{}1", "NOT ".repeat(3_000)),
        format!("{view}1{}", " + 1".repeat(1_900)),
        format!("{view}1{}", " + 1".repeat(megabyte / 4)),
        format!("{view}1{}", "::INT".repeat(1_900)),
        format!("{view}a{}", "[1]".repeat(1_200)),
        format!("{view}1{}", " UNION SELECT 1".repeat(1_200)),
        format!("{view}{}1{}", "CASE WHEN ".repeat(900), " END".repeat(900)),
        format!("{view}{}", "f(".repeat(55)),
        format!("{view}{}1{}", "f(".repeat(14), ")".repeat(14)),
        format!("{view}{}1{}", "f((".repeat(14), "))".repeat(14)),
        format!("{view}* FROM {}t{}", "((SELECT * FROM ".repeat(14), ") AS a JOIN b ON true)".repeat(14)),
        format!("{view}* FROM {}t{}", "(SELECT * FROM ".repeat(30), ") AS a".repeat(30)),
        format!("{view}* FROM {}t{}", "a JOIN (".repeat(30), ")".repeat(30)),
        format!("{view}* FROM t WHERE {}true{}", "a IN (SELECT 1 WHERE ".repeat(30), ")".repeat(30)),
        format!("{view}* FROM {}t", "TUMBLE(".repeat(58)),
        format!("CREATE SOURCE s (a {}INT", "ARRAY<".repeat(megabyte / 8)),
        format!("CREATE SOURCE s (a INT{}", "[]".repeat(megabyte / 8)),
        format!("CREATE SOURCE s (a INT) WITH ({})", "a = '',".repeat(megabyte / 8)),
        format!("CREATE SOURCE s (a INT) WITH (a = '{}')", "${".repeat(megabyte / 8)),
        format!("{view}{}", "a, ".repeat(megabyte / 8)),
        "é".repeat(megabyte),
        "CREATE ".repeat(megabyte / 8),
    ] {
        let start = std::time::Instant::now();
        let result = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
            let head: String = text.chars().take(60).collect();
            drop(parse(&text).map_err(|error| assert!(!error.message().is_empty())));
            head
        });
        let head = result.expect("a thread starts").join().expect("it does not panic");
        assert!(start.elapsed().as_secs() < 20, "{head} took {:?}", start.elapsed());
    }
}

#[test]
fn pictures_fit_any_line() {
    let long = format!("{}x{}", "a".repeat(1_000), "b".repeat(1_000));
    let place = |line, column| Place { file: "p.sql".into(), line, column };
    let drawn = picture(&file(&long), &place(1, 1_001), 1);
    assert!(drawn.contains(&format!("…{}x{}…", "a".repeat(60), "b".repeat(59))), "{drawn}");
    assert!(drawn.ends_with(&format!("{}^", " ".repeat(62))), "{drawn}");
    assert_eq!(picture(&file("a\n\tb\0c"), &place(2, 3), 99), "  |\n2 | \tb\u{fffd}c\n  | \t ^^");
    for (line, column, width) in [(0, 0, 0), (9, 9, 9), (u32::MAX, u32::MAX, usize::MAX), (1, 5_000, 5)] {
        assert!(picture(&file(&long), &place(line, column), width).contains('^'));
    }
    let error = error_at("SQL0105", &[file("SELECT a")], &place(1, 8), 1, "no column \"a\"");
    assert_eq!(error.message(), "p.sql:1:8: no column \"a\"\n  |\n1 | SELECT a\n  |        ^");
}
