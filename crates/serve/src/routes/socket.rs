//! Live topics over a WebSocket.
//!
//! A client is a task: it wakes with each beat and sends the newest frame of what it follows. While a send waits for a slow
//! reader, beats pass it by; a send that makes no progress ends the connection (see [`crate::io`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::auth::Caller;
use crate::hub::{BEAT, Hub, THE_END, Topic};
use crate::problem::{Answer, Problem, ProblemBody, code};
use crate::shared::Shared;

/// Clients at once.
const CLIENTS: usize = 256;
/// What a client may say at once.
const MESSAGE: usize = 16 << 10;
/// Topics of one client.
const TOPICS: usize = 64;
/// How often a client is asked whether it is there …
const PING: Duration = Duration::from_secs(15);
/// … and how long it may say nothing.
const SILENCE: Duration = Duration::from_secs(45);

/// What clients say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    subscribe: Vec<String>,
    unsubscribe: Vec<String>,
    ping: Option<Value>,
}

/// Follow the pipeline live.
///
/// A WebSocket: send `{"subscribe":["graph","series","alerts","rows:TABLE"]}`, get messages with a `topic` each.
#[utoipa::path(
    get,
    path = "/v1/live/ws",
    tag = "pipeline",
    responses(
        (status = 101, description = "A WebSocket from here on"),
        (status = "4XX", description = "Not a WebSocket, or not for you", content_type = "application/problem+json", body = ProblemBody),
        (status = 503, description = "Too many clients", content_type = "application/problem+json", body = ProblemBody),
    )
)]
pub async fn socket(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>, upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Answer<Response> {
    let upgrade = upgrade.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, code::REQUEST, error.body_text()).hint("This address is for WebSockets."))?;
    if !shared.hub.enter(CLIENTS) {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code::CLIENTS, format!("{CLIENTS} clients follow already")).hint("Close one.").retry_after(10));
    }
    let place = Place(Arc::clone(&shared.hub));
    Ok(upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE).on_upgrade(move |socket| async move {
        Client { hub: Arc::clone(&place.0), socket, followed: BTreeMap::new(), heard: Instant::now() }.run(&caller).await;
    }))
}

/// A client's place, given back whatever happens.
struct Place(Arc<Hub>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.exit();
    }
}

/// A topic that is followed; left when dropped.
struct Following {
    topic: Arc<Topic>,
    sent: Option<u64>,
}

impl Following {
    fn new(topic: Arc<Topic>) -> Self {
        topic.follow();
        Self { topic, sent: None }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.topic.leave();
    }
}

struct Client {
    hub: Arc<Hub>,
    socket: WebSocket,
    followed: BTreeMap<String, Following>,
    heard: Instant,
}

/// The connection is over.
struct Gone;

type Step = Result<(), Gone>;

impl Client {
    async fn run(mut self, caller: &Caller) {
        let mut beats = self.hub.beats();
        let hello = json!({ "topic": "hello", "version": 1, "role": caller.role, "interval_ms": BEAT.as_millis() as u64 });
        if self.say(&hello).await.is_err() {
            return;
        }
        // Gone: there is nobody left to tell.
        let _ = self.turn(&mut beats).await;
    }

    async fn turn(&mut self, beats: &mut watch::Receiver<u64>) -> Step {
        let mut asked = Instant::now();
        loop {
            tokio::select! {
                beat = beats.changed() => {
                    let ended = beat.is_err() || *beats.borrow_and_update() == THE_END;
                    if ended {
                        return self.bye("the pipeline stops", close_code::AWAY).await;
                    }
                    self.send_newest().await?;
                    if self.heard.elapsed() > SILENCE {
                        return self.bye("nothing was heard for too long", close_code::POLICY).await;
                    }
                    if asked.elapsed() > PING {
                        asked = Instant::now();
                        self.socket.send(Message::Ping(Default::default())).await.map_err(|_| Gone)?;
                    }
                }
                heard = self.socket.recv() => {
                    let Some(Ok(message)) = heard else { return Err(Gone) };
                    self.heard = Instant::now();
                    match message {
                        Message::Text(text) => self.hear(text.as_str()).await?,
                        Message::Binary(bytes) => self.hear(&String::from_utf8_lossy(&bytes)).await?,
                        Message::Close(_) => return Err(Gone),
                        // The library answers pings.
                        Message::Ping(_) | Message::Pong(_) => {}
                    }
                }
            }
        }
    }

    async fn send_newest(&mut self) -> Step {
        for following in self.followed.values_mut() {
            let Some(frame) = following.topic.newest().filter(|frame| following.sent != Some(frame.seq)) else { continue };
            let text = match (&frame.delta, following.sent) {
                (Some(delta), Some(sent)) if sent + 1 == frame.seq => delta.clone(),
                _ => frame.full.clone(),
            };
            following.sent = Some(frame.seq);
            self.socket.send(Message::Text(text)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    async fn hear(&mut self, text: &str) -> Step {
        let wish: Wish = match serde_json::from_str(text) {
            Ok(wish) => wish,
            Err(error) => return self.refuse(&format!("that is not understood: {error}"), "Send {\"subscribe\":[\"graph\"]}.").await,
        };
        for name in wish.unsubscribe {
            self.followed.remove(&name);
        }
        for name in wish.subscribe {
            if self.followed.contains_key(&name) {
                continue;
            }
            if self.followed.len() >= TOPICS {
                return self.refuse("that are too many topics at once", &format!("At most {TOPICS}.")).await;
            }
            match self.hub.topic(&name) {
                Some(topic) => {
                    self.followed.insert(name, Following::new(topic));
                }
                None => self.refuse(&format!("there is no topic {}", json!(name)), "Topics: graph, series, alerts, rows:TABLE.").await?,
            }
        }
        match wish.ping {
            Some(ping) => self.say(&json!({ "topic": "pong", "ping": ping })).await,
            None => Ok(()),
        }
    }

    async fn refuse(&mut self, title: &str, detail: &str) -> Step {
        self.say(&json!({ "topic": "error", "code": code::MESSAGE, "title": title, "detail": detail })).await
    }

    async fn say(&mut self, message: &Value) -> Step {
        self.socket.send(Message::Text(message.to_string().into())).await.map_err(|_| Gone)
    }

    async fn bye(&mut self, why: &'static str, close: u16) -> Step {
        self.say(&json!({ "topic": "bye", "why": why })).await?;
        self.socket.send(Message::Close(Some(CloseFrame { code: close, reason: Utf8Bytes::from_static(why) }))).await.map_err(|_| Gone)
    }
}
