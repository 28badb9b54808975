//! Asks the running gateways of this user over their local ports, all at the same time. Never starts one.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use hotspare_gateway::Status;
use hotspare_gateway::server::STATUS_MODEL;
use http::{HeaderValue, Method, Request, StatusCode, header, request, response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::state::Instance;

/// Longest a gateway may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Most bytes of its answer.
const ANSWER_CAP: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// It is gone, or something else has its port.
    Gone,
    /// It does not answer in time.
    Late,
    /// It does not want to, and says why.
    Refused(StatusCode, String),
}

/// Asks each of them for what is at this path.
pub(crate) async fn get<A: DeserializeOwned>(instances: &[Instance], path: &str) -> Vec<Result<A, NoAnswer>> {
    get_within(ANSWER_TIME, instances, path).await
}

/// The same for whoever cannot wait so long.
pub(crate) async fn get_within<A: DeserializeOwned>(time: Duration, instances: &[Instance], path: &str) -> Vec<Result<A, NoAnswer>> {
    each(time, instances, &Method::GET, path, &Bytes::new()).await
}

/// The status of one, with the next request naming this model.
pub(crate) async fn status_within(time: Duration, instance: &Instance, model: Option<&str>) -> Result<Status, NoAnswer> {
    let mut request = Request::builder().method(Method::GET).uri("/hotspare/status");
    if let Some(model) = model.and_then(|model| HeaderValue::from_str(model).ok()) {
        request = request.header(STATUS_MODEL, model);
    }
    let answered = tokio::time::timeout(time, send(instance, request, Bytes::new())).await;
    let (head, body) = answered.map_err(|_| NoAnswer::Late)?.map_err(|_| NoAnswer::Gone)?;
    let body = body.map_err(|_| NoAnswer::Gone)?;
    if head.status.is_success() { serde_json::from_slice(&body).map_err(|_| NoAnswer::Gone) } else { Err(NoAnswer::Gone) }
}

/// Asks one for a text.
pub(crate) async fn text(instance: &Instance, path: &str) -> Option<String> {
    let answered = tokio::time::timeout(ANSWER_TIME, ask(instance, &Method::GET, path, Bytes::new())).await;
    let (status, bytes) = answered.ok()?.ok()?;
    status.is_success().then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Tells each of them.
pub(crate) async fn post<A: DeserializeOwned>(instances: &[Instance], path: &str, request: &impl Serialize) -> Vec<Result<A, NoAnswer>> {
    post_within(ANSWER_TIME, instances, path, request).await
}

/// The same for whoever cannot wait so long.
pub(crate) async fn post_within<A: DeserializeOwned>(
    time: Duration,
    instances: &[Instance],
    path: &str,
    request: &impl Serialize,
) -> Vec<Result<A, NoAnswer>> {
    let body = serde_json::to_vec(request).expect("a request is plain data with text keys");
    each(time, instances, &Method::POST, path, &Bytes::from(body)).await
}

async fn each<A: DeserializeOwned>(
    time: Duration,
    instances: &[Instance],
    method: &Method,
    path: &str,
    body: &Bytes,
) -> Vec<Result<A, NoAnswer>> {
    let asked = instances.iter().map(|instance| async move {
        let answered = tokio::time::timeout(time, ask(instance, method, path, body.clone())).await;
        let (status, bytes) = answered.map_err(|_| NoAnswer::Late)?.map_err(|_| NoAnswer::Gone)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|_| NoAnswer::Gone);
        }
        let words = serde_json::from_slice::<Value>(&bytes).ok().and_then(|body| Some(body["error"]["message"].as_str()?.to_owned()));
        Err(NoAnswer::Refused(status, words.unwrap_or_default().trim_start_matches("hotspare: ").to_owned()))
    });
    future::join_all(asked).await
}

pub(crate) type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(instance: &Instance, method: &Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AnyError> {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
    let (head, body) = send(instance, request, body).await?;
    Ok((head.status, body?))
}

/// Sends one request with the local token, and gives the answer's head and its body, at most [`ANSWER_CAP`] bytes; an error in its place
/// where that broke off.
pub(crate) async fn send(
    instance: &Instance,
    request: request::Builder,
    body: Bytes,
) -> Result<(response::Parts, Result<Bytes, AnyError>), AnyError> {
    let stream = TcpStream::connect(instance.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request =
        request.header(header::HOST, instance.address.to_string()).header("x-hotspare-token", &instance.token).body(Full::new(body))?;
    let (head, incoming) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(incoming, ANSWER_CAP).collect().await.map(http_body_util::Collected::to_bytes);
    connection.abort();
    Ok((head, body))
}
