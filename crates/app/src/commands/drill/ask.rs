//! Sends the drill's own request over the local port as any client would, and again where its answer was cut. Never sends anything that
//! could reach a provider: a request with a drill's name ends in that drill.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hotspare_gateway::drill::{ClientLogin, DRILL_HEADER};
use http::{HeaderMap, Method, Request, header};
use serde_json::json;

use crate::gateways::{self, AnyError};
use crate::state::Instance;

/// Longest that all tries together may take. The broken profile is given up after a second; each spare may take its own.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A client asks again after a cut, at most so often.
const TRIES: usize = 3;

/// Stands for the client's own credential, by its form. It goes nowhere.
fn no_login(login: ClientLogin) -> Option<&'static str> {
    match login {
        ClientLogin::Anthropic => Some("Bearer sk-ant-hotspare-drill-no-login"),
        ClientLogin::Other => Some("Bearer hotspare-drill-no-login"),
        ClientLogin::None => None,
    }
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// The exchanges that it took, in order.
    pub exchanges: Vec<String>,
    pub status: u16,
    pub profile: Option<String>,
    /// The message has its end.
    pub whole: bool,
    pub took: Duration,
    /// Why there is nothing, or what was said in its stead.
    pub trouble: Option<String>,
}

/// Asks, and asks again where the answer was cut.
pub(super) async fn ask(instance: &Instance, drill: &str, model: &str, login: ClientLogin) -> Answered {
    let begun = Instant::now();
    let mut answered = Answered::default();
    let tries = async {
        for _ in 0..TRIES {
            match once(instance, drill, model, login).await {
                Ok(came) => {
                    let cut = came.note(&mut answered);
                    if !cut {
                        break;
                    }
                }
                Err(error) => {
                    answered.trouble = Some(error.to_string());
                    break;
                }
            }
        }
    };
    if tokio::time::timeout(ANSWER_TIME, tries).await.is_err() {
        answered.trouble = Some(format!("no answer within {} s", ANSWER_TIME.as_secs()));
    }
    answered.took = begun.elapsed();
    answered
}

struct Came {
    status: u16,
    headers: HeaderMap,
    /// None: the connection broke.
    body: Option<Bytes>,
}

impl Came {
    /// Returns whether the answer was cut.
    fn note(self, answered: &mut Answered) -> bool {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        answered.exchanges.extend(text("x-hotspare-request-id"));
        answered.status = self.status;
        answered.profile = text("x-hotspare-profile");
        let Some(body) = self.body else { return true };
        let body = String::from_utf8_lossy(&body);
        answered.whole = self.status == 200 && body.contains("event: message_stop");
        answered.trouble = (self.status != 200).then(|| said(&body));
        false
    }
}

/// The words of an error in Anthropic's shape.
fn said(body: &str) -> String {
    let words = serde_json::from_str::<serde_json::Value>(body).ok().and_then(|body| Some(body["error"]["message"].as_str()?.to_owned()));
    words.unwrap_or_else(|| "an answer without words".to_owned())
}

async fn once(instance: &Instance, drill: &str, model: &str, login: ClientLogin) -> Result<Came, AnyError> {
    let body =
        json!({ "model": model, "max_tokens": 64, "stream": true, "messages": [{ "role": "user", "content": "A drill of hotspare." }] });
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/v1/messages")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("hotspare-drill/", env!("CARGO_PKG_VERSION")))
        .header("anthropic-version", "2023-06-01")
        .header(DRILL_HEADER, drill);
    if let Some(login) = no_login(login) {
        request = request.header(header::AUTHORIZATION, login);
    }
    let (head, body) = gateways::send(instance, request, Bytes::from(body.to_string())).await?;
    Ok(Came { status: head.status.as_u16(), headers: head.headers, body: body.ok() })
}
