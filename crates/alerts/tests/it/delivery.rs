//! Messages on their way: receivers that are down, slow, choosy, and a process that is killed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use watershed_alerts::message::{Action, FORMAT, Message, Told};
use watershed_alerts::outbox::Outbox;
use watershed_alerts::sample::Labels;
use watershed_alerts::{Options, Pauses, Plan, Service, Settings, Severity, send_test};

use crate::receivers::{Answers, Http, Smtp, wait};

const QUICK: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(200) };

fn plan(toml: &str) -> Plan {
    let settings: Settings = toml::from_str(toml).expect("settings");
    Plan::new(&settings, &|name| (name == "KEY").then(|| "s3cr3t-key".to_owned())).expect("a plan")
}

/// Rules `a0`, `a1`, … that hold as soon as `v0`, `v1`, … are 1; each makes a message of its own.
fn rules(count: usize) -> String {
    let rules: String = (0..count).map(|n| format!("[[rules]]\nname = \"a{n}\"\nwhen = \"processing_rate > {n}\"\nkeep_firing_for = \"0s\"\n")).collect();
    format!("default_rules = false\ninterval = \"20ms\"\ncooldown = \"1ms\"\n{rules}")
}

/// A service whose `processing_rate` is what the cell says.
fn service(work: &Path, plan: Plan, rate: &Arc<Mutex<f64>>) -> Service {
    let rate = Arc::clone(rate);
    let metrics = Box::new(move || format!("watershed_processing_rate {}\n", rate.lock().expect("no panic")));
    Service::start(Options { project: "shop".to_owned(), work: work.to_owned(), plan, metrics, ask: None, pauses: QUICK }).expect("it starts")
}

fn always(status: u16) -> Answers {
    Box::new(move |_| (status, ""))
}

fn webhook(url: &str) -> String {
    format!("[routes.hook]\ntype = \"webhook\"\nurl = \"{url}\"\nsecret = \"${{KEY}}\"\n")
}

#[test]
fn messages_wait_for_a_route_that_is_down_and_arrive_in_order() {
    let work = tempfile::tempdir().expect("a folder");
    // A port that nobody listens on: taken and given back.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let rate = Arc::new(Mutex::new(0.0));
    let running = service(work.path(), plan(&format!("{}{}", rules(5), webhook(&format!("http://{address}/in")))), &rate);
    for n in 1..=5 {
        *rate.lock().expect("no panic") = f64::from(n);
        wait("the next message waits", || (running.routes()["hook"].waiting >= n as usize).then_some(()));
    }
    wait("the fault has fired", || (running.routes()["hook"].failures >= 2).then_some(()));
    let failure = running.routes()["hook"].error.clone().expect("it says why");
    assert!(failure.contains("route \"hook\"") && !failure.contains("127.0.0.1"), "{failure}");

    let server = Http::on(address, always(200));
    let requests = server.wait_for(5);
    let rules: Vec<String> = requests.iter().map(|r| r.json()["firing"][0]["rule"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(rules, ["a0", "a1", "a2", "a3", "a4"]);
    wait("all have left", || (running.routes()["hook"].waiting == 0).then_some(()));
    running.finish(Duration::from_secs(1));
}

/// Not a test of its own: the process that the next one kills.
#[test]
fn child_that_is_killed() {
    let (Ok(work), Ok(url)) = (std::env::var("ALERTS_CHILD_WORK"), std::env::var("ALERTS_CHILD_URL")) else { return };
    let rate = Arc::new(Mutex::new(100.0));
    let _running = service(Path::new(&work), plan(&format!("{}{}", rules(20), webhook(&url))), &rate);
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn messages_survive_kill_9_and_are_told_apart_when_they_come_twice() {
    let work = tempfile::tempdir().expect("a folder");
    // The first three arrive, the fourth is refused for as long as the process lives.
    let server = Http::start(Box::new(|n| if n < 3 { (200, "") } else { (503, "") }));
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "delivery::child_that_is_killed", "--nocapture"])
        .env("ALERTS_CHILD_WORK", work.path())
        .env("ALERTS_CHILD_URL", server.url("/in"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let before = server.wait_for(6);
    assert!(child.try_wait().expect("its state").is_none(), "the kill hits a running process");
    child.kill().expect("is killed");
    child.wait().expect("its end");
    assert!(before.iter().any(|r| r.answered == 503), "the fault has fired");
    drop(server);

    let server = Http::start(always(200));
    let rate = Arc::new(Mutex::new(100.0));
    let running = service(work.path(), plan(&format!("{}{}", rules(20), webhook(&server.url("/in")))), &rate);
    server.wait_for(17);
    wait("all have left", || (running.routes()["hook"].waiting == 0).then_some(()));
    running.finish(Duration::from_secs(1));
    let taken: Vec<_> = before.into_iter().filter(|r| r.answered == 200).chain(server.taken()).collect();
    let first_of = |n: usize| taken.iter().position(|r| r.json()["dedup_key"] == format!("watershed/shop/rule=a{n}"));
    let order: Vec<Option<usize>> = (0..20).map(first_of).collect();
    assert!(order.iter().all(Option::is_some), "every alert was told: {order:?}");
    let triggers = taken.iter().filter(|r| r.json()["action"] == "trigger").count();
    assert_eq!(triggers, 20, "the new process knew what the killed one had put into its outbox");
}

#[test]
fn a_signed_message_can_be_checked_and_what_is_refused_for_good_does_not_block() {
    let work = tempfile::tempdir().expect("a folder");
    // The first is wrong for good, the second comes too often.
    let server = Http::start(Box::new(|n| match n {
        0 => (422, ""),
        1 => (429, "Retry-After: 1\r\n"),
        _ => (200, ""),
    }));
    let rate = Arc::new(Mutex::new(0.5));
    let running = service(work.path(), plan(&format!("{}{}", rules(2), webhook(&server.url("/in?token=t0ken")))), &rate);
    server.wait_for(1);
    *rate.lock().expect("no panic") = 5.0;
    server.wait_for(2);
    let refused = Instant::now();
    let requests = server.wait_for(3);
    assert!(refused.elapsed() >= Duration::from_millis(900), "the receiver's own wait is kept");
    assert_eq!(requests[1].headers["x-watershed-delivery"], requests[2].headers["x-watershed-delivery"], "sent again under the same id");
    let (time, signature) = requests[2].headers["x-watershed-signature"].split_once(",v1=").expect("two parts");
    let mut signed = Command::new("openssl").args(["dgst", "-sha256", "-hmac", "s3cr3t-key", "-hex"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("openssl");
    let message = [format!("{}.", time.trim_start_matches("t=")).as_bytes(), &requests[2].raw].concat();
    signed.stdin.take().expect("its input").write_all(&message).expect("it reads");
    let expected = String::from_utf8(signed.wait_with_output().expect("its end").stdout).expect("text");
    assert!(expected.trim().ends_with(signature), "{expected} {signature}");
    wait("all have left", || (running.routes()["hook"].waiting == 0).then_some(()));
    let failed = std::fs::read_dir(work.path().join("alerts/failed/hook")).expect("it is kept").flatten().next().expect("a file");
    let kept = std::fs::read_to_string(failed.path()).expect("text");
    assert!(kept.contains("422") && kept.contains("\"a0\"") && !kept.contains("t0ken"), "{kept}");
    running.finish(Duration::from_secs(1));
}

#[test]
fn a_route_that_hangs_delays_neither_the_others_nor_the_end() {
    let work = tempfile::tempdir().expect("a folder");
    // It takes connections and never answers.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = Http::start(always(200));
    let routes = format!("[routes.deaf]\ntype = \"slack\"\nurl = \"http://{}\"\n{}", deaf.local_addr().expect("its address"), webhook(&server.url("/in")));
    let running = service(work.path(), plan(&format!("{}{routes}", rules(3))), &Arc::new(Mutex::new(9.0)));
    server.wait_for(3);
    let (_held, _) = deaf.accept().expect("the fault has fired: somebody waits for an answer");
    assert!(running.routes()["deaf"].waiting >= 3);
    let ending = Instant::now();
    running.finish(Duration::from_millis(300));
    assert!(ending.elapsed() < Duration::from_secs(5), "the end does not wait for the request");
    assert_eq!(std::fs::read_dir(work.path().join("alerts/outbox/deaf")).expect("a folder").count(), 3, "they leave after the next start");
}

#[test]
fn each_receiver_gets_what_it_understands_and_no_secret_is_shown() {
    let server = Http::start(always(200));
    let refusing = Http::start(Box::new(|_| (403, "")));
    let mail = Smtp::start(1);
    let toml = format!(
        r#"
[routes.pager]
type = "pagerduty"
routing_key = "${{KEY}}"
url = "{0}"
[routes.chat]
type = "slack"
url = "{1}"
channel = "ops"
[routes.topic]
type = "sns"
topic_arn = "arn:aws:sns:eu-central-1:123456789012:alerts.fifo"
access_key_id = "AKIDEXAMPLE"
secret_access_key = "${{KEY}}"
session_token = "t0ken"
url = "{2}"
[routes.post]
type = "email"
url = "smtp://{3}"
from = "Watershed <ws@example.com>"
to = ["ops@example.com", "boss@example.com"]
[routes.closed]
type = "pagerduty"
routing_key = "${{KEY}}"
url = "{4}"
"#,
        server.url("/pager"),
        server.url("/chat"),
        server.url("/topic"),
        mail.address,
        refusing.url("/secret-path"),
    );
    let settings: Settings = toml::from_str(&toml).expect("settings");
    let plan = plan(&toml);
    for shown in [format!("{settings:?}"), format!("{plan:?}")] {
        assert!(!["s3cr3t", "t0ken", "127.0.0.1", "AKID"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    for route in ["pager", "chat", "topic"] {
        send_test(&plan, "shop", route).expect(route);
    }
    let requests = server.wait_for(4);
    let events: Vec<_> = requests[..2]
        .iter()
        .map(|r| (r.json()["event_action"].clone(), r.json()["dedup_key"].clone(), r.json()["routing_key"].clone(), r.json()["payload"]["severity"].clone()))
        .collect();
    assert_eq!(events, ["trigger", "resolve"].map(|action| (action.into(), "watershed/shop/test".into(), "s3cr3t-key".into(), "info".into())));
    assert_eq!((requests[2].path.as_str(), requests[2].json()["channel"].as_str()), ("/chat", Some("ops")));
    assert!(requests[2].json()["text"].as_str().is_some_and(|text| text.starts_with("[P3] shop: test: ")), "{requests:?}");
    let signed = &requests[3].headers["authorization"];
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") && signed.contains("/eu-central-1/sns/aws4_request"), "{signed}");
    assert!(requests[3].headers.contains_key("x-amz-date") && requests[3].headers["x-amz-security-token"] == "t0ken");
    assert!(requests[3].body.contains("Action=Publish") && requests[3].body.contains("MessageGroupId=watershed%2Fshop%2Ftest"), "{}", requests[3].body);

    let refusal = send_test(&plan, "shop", "post").expect_err("the mail server refuses the first");
    assert_eq!((refusal.code(), *mail.refused.lock().expect("no panic")), ("ALR0008", 1), "{}", refusal.report());
    send_test(&plan, "shop", "post").expect("the second goes through");
    let mails = mail.mails.lock().expect("no panic").clone();
    assert!(mails.len() == 1 && mails[0].contains("Subject: [P3] shop: test: ") && mails[0].contains("To: ops@example.com, boss@example.com"), "{mails:?}");

    let refusal = send_test(&plan, "shop", "closed").expect_err("the key is wrong");
    assert_eq!(refusing.wait_for(1).len(), 1, "the fault has fired");
    let told = refusal.report();
    assert!(refusal.code() == "ALR0008" && told.contains("403") && !["s3cr3t", "secret-path", "127.0.0.1"].iter().any(|secret| told.contains(secret)), "{told}");
}

fn message(key: &str, at: i64) -> Message {
    let told = Told { id: key.to_owned(), rule: key.to_owned(), severity: Severity::P2, labels: Labels::new(), value: Some(1.0), summary: "s".to_owned(), runbook: None, since: 0 };
    Message {
        format: FORMAT,
        action: Action::Trigger,
        project: "p".to_owned(),
        dedup_key: key.to_owned(),
        at,
        severity: Severity::P2,
        group: Labels::new(),
        firing: vec![told],
        resolved: vec![],
        more: 0,
    }
}

#[test]
fn a_full_outbox_drops_what_is_superfluous_and_a_damaged_letter_is_put_aside() {
    let work = tempfile::tempdir().expect("a folder");
    let open = || Outbox::open(work.path(), "r", 3).expect("it opens");
    let outbox = open().outbox;
    for (key, at, dropped) in [("a", 1, None), ("b", 2, None), ("b", 3, None), ("c", 4, Some("b")), ("d", 5, Some("a"))] {
        assert_eq!(outbox.push(&message(key, at)).expect("it is kept").as_deref(), dropped, "{key} {at}");
    }
    drop(outbox);
    // The one in the middle is damaged: a byte of it has changed.
    let folder = work.path().join("outbox/r");
    let mut files: Vec<_> = std::fs::read_dir(&folder).expect("a folder").flatten().map(|e| e.path()).collect();
    files.sort();
    assert_eq!(files.len(), 3);
    let text = std::fs::read_to_string(&files[1]).expect("text");
    std::fs::write(&files[1], text.replace("\"c\"", "\"x\"")).expect("is written");
    let opened = open();
    assert_eq!(opened.damaged.iter().map(|e| e.code()).collect::<Vec<_>>(), ["ALR0007"]);
    let mut left = vec![];
    while let Some((number, letter)) = opened.outbox.head().expect("it reads") {
        left.push((letter.message.dedup_key, letter.message.at));
        opened.outbox.done(number).expect("it goes");
    }
    assert_eq!(left, [("b".to_owned(), 3), ("d".to_owned(), 5)]);
    assert_eq!(std::fs::read_dir(work.path().join("failed/r")).expect("a folder").count(), 1);
}

/// A server with a certificate for `localhost` that nobody but its own file vouches for; it answers one request with 200.
fn tls_server(folder: &Path) -> (String, std::thread::JoinHandle<bool>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("is written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("is written");
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).expect("TLS");
    acceptor.set_private_key_file(&key, SslFiletype::PEM).expect("a key");
    acceptor.set_certificate_chain_file(&certificate).expect("a certificate");
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://localhost:{}/in", listener.local_addr().expect("its address").port());
    let answered = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody comes");
        let Ok(mut stream) = acceptor.accept(stream) else { return false };
        let mut seen = vec![];
        let mut buffer = [0; 4096];
        while !seen.ends_with(b"}") {
            let read = stream.read(&mut buffer).expect("it reads");
            seen.extend_from_slice(&buffer[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").is_ok()
    });
    (url, answered)
}

/// Not a test of its own: it trusts whom its environment names.
#[test]
fn child_that_trusts() {
    let Ok(url) = std::env::var("ALERTS_CHILD_TLS") else { return };
    send_test(&plan(&format!("[routes.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n")), "shop", "hook").expect("it arrives");
}

#[test]
fn messages_go_by_tls_to_whom_the_machine_trusts_and_to_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (url, answered) = tls_server(folder.path());
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "delivery::child_that_trusts"])
        .env("ALERTS_CHILD_TLS", &url)
        .env("SSL_CERT_FILE", folder.path().join("certificate.pem"))
        .output()
        .expect("it runs");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(answered.join().expect("no panic"));

    let (url, answered) = tls_server(folder.path());
    let stranger = plan(&format!("[routes.hook]\ntype = \"webhook\"\nurl = \"{url}\"\n"));
    let refused = send_test(&stranger, "shop", "hook").expect_err("nobody vouches for it");
    assert_eq!(refused.code(), "ALR0008", "{}", refused.report());
    assert!(!answered.join().expect("no panic"), "nothing was said to it");
}
