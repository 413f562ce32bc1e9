//! `watershed status`: what the pipeline does, or what it left behind.
//!
//! A running pipeline is asked over its own API; `.watershed/run.json` says where that listens. A stopped one is
//! described from its checkpoint.

mod running;
mod stopped;

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use watershed_engine::run::Status;
use watershed_types::Result;

use crate::arguments::{Format, StatusArguments};
use crate::output::print_json;
use crate::project::Project;
use crate::session::runtime;
use crate::system;

/// Who runs the project and where to ask.
#[derive(Debug, Deserialize)]
struct Running {
    pid: u64,
    address: String,
    #[serde(default)]
    token: Option<String>,
}

/// Runs the command.
pub fn run(arguments: StatusArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let runtime = runtime()?;
    let held = system::is_running(&project);
    let announced: Option<Running> = std::fs::read(project.work().join("run.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let (true, Some(announced)) = (held, &announced) {
        match runtime.block_on(ask(announced)) {
            Ok(status) if arguments.format == Format::Table => return running::show(&status, &announced.address).map(|()| 0),
            Ok(status) => return print_json(&serde_json::to_value(status).unwrap_or_default()).map(|()| 0),
            Err(error) => eprintln!("process {} holds the project, but does not answer at {}: {error}", announced.pid, announced.address),
        }
    }
    stopped::show(&project, &runtime, held, arguments.format)?;
    Ok(0)
}

/// Asks a running pipeline, for a second at most.
async fn ask(running: &Running) -> std::result::Result<Status, Box<dyn std::error::Error + Send + Sync>> {
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut request = hyper::Request::get(format!("http://{}/v1/status", running.address));
    if let Some(token) = &running.token {
        request = request.header(hyper::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::new())?;
    let bytes = tokio::time::timeout(Duration::from_secs(1), async {
        let response = client.request(request).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.into_body().collect().await?.to_bytes())
    })
    .await??;
    Ok(serde_json::from_slice(&bytes)?)
}
