//! The Data API before the stand-in: statements run in the background, batches in one transaction, tokens make a repeated request
//! the same statement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::support::runtime;

#[derive(Default)]
struct Statement {
    status: Value,
    records: Vec<Value>,
}

#[derive(Default)]
struct Inner {
    url: String,
    tokens: Mutex<HashMap<String, String>>,
    statements: Mutex<HashMap<String, Statement>>,
    /// Answers to batches that are lost, each after it was taken.
    lost: AtomicUsize,
    /// The next batch does not begin before it is cancelled.
    stalled: AtomicBool,
    /// The next batch is committed, and is said to have failed.
    slandered: AtomicBool,
    batches: AtomicUsize,
    cancelled: AtomicUsize,
    seen: Mutex<Vec<Value>>,
}

pub struct DataApi {
    pub endpoint: String,
    inner: Arc<Inner>,
}

impl DataApi {
    pub fn start(url: String) -> Self {
        let inner = Arc::new(Inner { url, ..Inner::default() });
        let router = Router::new().route("/", post(answer)).with_state(Arc::clone(&inner));
        let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let endpoint = format!("http://{}/", listener.local_addr().expect("an address"));
        runtime().spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, inner }
    }
    pub fn lose(&self, answers: usize) {
        self.inner.lost.store(answers, Ordering::SeqCst);
    }
    /// Answers still to lose.
    pub fn to_lose(&self) -> usize {
        self.inner.lost.load(Ordering::SeqCst)
    }
    pub fn stall(&self) {
        self.inner.stalled.store(true, Ordering::SeqCst);
    }
    pub fn slander(&self) {
        self.inner.slandered.store(true, Ordering::SeqCst);
    }
    pub fn cancelled(&self) -> usize {
        self.inner.cancelled.load(Ordering::SeqCst)
    }
    /// Batches that ran.
    pub fn batches(&self) -> usize {
        self.inner.batches.load(Ordering::SeqCst)
    }
    /// The last request that ran a batch.
    pub fn last_batch(&self) -> Value {
        self.inner.seen.lock().expect("unpoisoned").last().cloned().expect("a batch")
    }
}

async fn answer(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let action = headers["x-amz-target"].to_str().expect("text").strip_prefix("RedshiftData.").expect("an action").to_owned();
    let authorization = headers["authorization"].to_str().expect("text");
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=test/") && authorization.contains("/us-east-1/redshift-data/aws4_request"), "{authorization}");
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    let id = request["Id"].as_str().unwrap_or_default().to_owned();
    match action.as_str() {
        "ExecuteStatement" | "BatchExecuteStatement" => {
            let batch = action == "BatchExecuteStatement";
            let id = start(&inner, &request, batch);
            if batch && inner.lost.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                return (StatusCode::INTERNAL_SERVER_ERROR, json!({"__type": "InternalServerException", "message": "lost"}).to_string());
            }
            (StatusCode::OK, json!({ "Id": id }).to_string())
        }
        "DescribeStatement" => (StatusCode::OK, inner.statements.lock().expect("unpoisoned")[&id].status.to_string()),
        "CancelStatement" => {
            inner.cancelled.fetch_add(1, Ordering::SeqCst);
            inner.statements.lock().expect("unpoisoned").get_mut(&id).expect("a statement").status = json!({"Id": id, "Status": "ABORTED"});
            (StatusCode::OK, json!({"Status": true}).to_string())
        }
        "GetStatementResult" => {
            let statements = inner.statements.lock().expect("unpoisoned");
            let records = &statements[&id].records;
            // A row a page.
            let page: usize = request["NextToken"].as_str().map_or(0, |token| token.parse().expect("a page"));
            let next = if page + 1 < records.len() { json!((page + 1).to_string()) } else { Value::Null };
            (StatusCode::OK, json!({"Records": records.get(page).into_iter().collect::<Vec<_>>(), "NextToken": next}).to_string())
        }
        other => (StatusCode::BAD_REQUEST, json!({"__type": "ValidationException", "message": other}).to_string()),
    }
}

fn start(inner: &Arc<Inner>, request: &Value, batch: bool) -> String {
    let token = request["ClientToken"].as_str().expect("a token").to_owned();
    assert_eq!((request["WorkgroupName"].as_str(), request["Database"].as_str()), (Some("stand-in"), Some("dev")));
    let mut tokens = inner.tokens.lock().expect("unpoisoned");
    if let Some(id) = tokens.get(&token) {
        return id.clone();
    }
    let id = format!("statement-{}", tokens.len());
    tokens.insert(token, id.clone());
    inner.statements.lock().expect("unpoisoned").insert(id.clone(), Statement { status: json!({"Id": id, "Status": "STARTED"}), records: vec![] });
    let sqls: Vec<String> = match &request["Sqls"] {
        Value::Array(sqls) => sqls.iter().map(|sql| sql.as_str().expect("text").to_owned()).collect(),
        _ => vec![request["Sql"].as_str().expect("text").to_owned()],
    };
    assert!(sqls.len() <= 40 && sqls.iter().all(|sql| sql.len() < 100_000), "the limits of the Data API");
    if batch {
        inner.seen.lock().expect("unpoisoned").push(request.clone());
    }
    let stalled = batch && inner.stalled.swap(false, Ordering::SeqCst);
    if !stalled {
        inner.batches.fetch_add(usize::from(batch), Ordering::SeqCst);
        runtime().spawn(run(Arc::clone(inner), id.clone(), sqls, batch));
    }
    id
}

async fn run(inner: Arc<Inner>, id: String, sqls: Vec<String>, batch: bool) {
    // Late enough that the first question finds it under way.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (client, connection) = tokio_postgres::connect(&inner.url, NoTls).await.expect("the stand-in");
    tokio::spawn(connection);
    if batch {
        client.batch_execute("BEGIN").await.expect("begun");
    }
    let (mut parts, mut records, mut error) = (Vec::new(), Vec::new(), None);
    for sql in &sqls {
        if error.is_some() {
            parts.push(json!({"Status": "ABORTED"}));
            continue;
        }
        match client.simple_query(sql).await {
            Ok(messages) => {
                parts.push(json!({"Status": "FINISHED"}));
                for message in messages {
                    if let SimpleQueryMessage::Row(row) = message {
                        let cell = |index| row.get(index).map_or(json!({"isNull": true}), |text: &str| json!({"stringValue": text}));
                        records.push((0..row.len()).map(cell).collect());
                    }
                }
            }
            Err(cause) => {
                let words = cause.as_db_error().map_or_else(|| cause.to_string(), |db| format!("ERROR: {}", db.message()));
                parts.push(json!({"Status": "FAILED", "Error": words}));
                error = Some(words);
            }
        }
    }
    if batch {
        let ended = client.batch_execute(if error.is_some() { "ROLLBACK" } else { "COMMIT" }).await;
        error = error.or(ended.err().map(|cause| cause.to_string()));
        if error.is_none() && inner.slandered.swap(false, Ordering::SeqCst) {
            error = Some("the session ended while it committed".to_owned());
        }
    }
    let mut status = json!({"Id": id, "Status": if error.is_some() { "FAILED" } else { "FINISHED" }});
    if let Some(error) = error {
        status["Error"] = json!(format!("Query failed: {error}"));
    }
    if batch {
        status["SubStatements"] = json!(parts);
    }
    inner.statements.lock().expect("unpoisoned").insert(id, Statement { status, records });
}
