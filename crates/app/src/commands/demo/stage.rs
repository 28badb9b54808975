//! Two scripted providers, a gateway before them, and a client that does what Claude Code does when an answer ends early. Never prints.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hotspare_gateway::{Event, Gateway, Observer, Options, Outside};
use hotspare_testkit::{Script, Upstream};
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::timeline::Timeline;
use crate::error::{CliError, Exit};
use crate::state;

/// The client asks at most so often, as Claude Code does when it asks for the rest.
const TRIES: usize = 3;

/// Events that may wait to be drawn; an act has a dozen.
const EVENTS: usize = 256;

/// How often the picture moves.
const FRAME: Duration = Duration::from_millis(50);

/// One act's providers and gateway.
pub(super) struct Stage {
    gateway: Arc<Gateway>,
    token: SecretString,
    events: mpsc::Receiver<Event>,
    serving: AbortHandle,
    _providers: [Upstream; 2],
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Watch(mpsc::Sender<Event>);

impl Observer for Watch {
    fn on_event(&self, event: &Event) {
        // Nobody listens while the stage is taken down, and a picture may miss a stroke.
        let _ = self.0.try_send(event.clone());
    }
}

/// How one answer ended for the client.
enum Ended {
    Whole,
    /// The message says that its length is used up: the client asks for the rest.
    AskForRest,
    /// The connection broke: the client asks again.
    Broken,
}

impl Stage {
    /// Starts everything on free ports.
    pub(super) async fn set(primary: Script, spare: Script) -> Result<Self, CliError> {
        let providers = [Upstream::sequence(vec![primary]).await?, Upstream::sequence(vec![spare]).await?];
        let config = json!({
            "failover_policy": {
                "primary_profile": "primary", "secondary_profile": "spare",
                "clocks": { "first_content": "2s" },
            },
            "profiles": {
                "primary": { "base_url": providers[0].url(), "auth": { "env": "PATH" } },
                "spare": { "base_url": providers[1].url(), "auth": { "env": "PATH" } },
            },
        });
        let config = hotspare_config::parse(&config.to_string(), Path::new("demo.json"), Path::new("/"))
            .map_err(|errors| CliError::drawn(Exit::Failed, errors.render(false)))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let token = state::new_token()?;
        let (watch, events) = mpsc::channel(EVENTS);
        let options = Options {
            token: token.clone(),
            extra_roots: None,
            observer: Some(Arc::new(Watch(watch))),
            outside: Outside::default(),
            store: None,
        };
        let gateway = Gateway::new(&config, &listener, options).map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
        let serving = tokio::spawn(hotspare_gateway::serve(gateway.clone(), listener, std::future::pending())).abort_handle();
        Ok(Self { gateway, token, events, serving, _providers: providers })
    }

    /// Asks until the answer is whole, and gives its text.
    pub(super) async fn converse(mut self, timeline: &mut Timeline) -> Result<String, CliError> {
        let mut text = String::new();
        for _ in 0..TRIES {
            match self.ask(&mut text, timeline).await? {
                Ended::Whole => return Ok(text),
                Ended::AskForRest => timeline.note("has the first part, and asks for the rest by itself")?,
                Ended::Broken => timeline.note("asks again by itself")?,
            }
        }
        Ok(text)
    }

    async fn ask(&mut self, text: &mut String, timeline: &mut Timeline) -> Result<Ended, CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::new(Exit::Failed, format!("the demo's client failed: {error}"));
        let stream = TcpStream::connect(self.gateway.local()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        let connection = tokio::spawn(connection);
        let request = self.request(text);
        let mut head = pin!(sender.send_request(request));
        let mut body: Option<Incoming> = None;
        let mut reader = Reader::default();
        let mut tick = tokio::time::interval(FRAME);
        let ended = loop {
            // Cancel-safe: a head, a frame, an event or a tick that loses stays for the next turn.
            tokio::select! {
                Some(event) = self.events.recv() => timeline.on_event(&event, text)?,
                _ = tick.tick() => timeline.draw(text)?,
                response = &mut head, if body.is_none() => {
                    let response = response.map_err(|error| failed(&error))?;
                    if !response.status().is_success() {
                        return Err(failed(&format!("status {}", response.status())));
                    }
                    body = Some(response.into_body());
                }
                frame = next_frame(&mut body), if body.is_some() => match frame {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            reader.read(data, text);
                        }
                    }
                    Some(Err(_)) => break Ended::Broken,
                    None => break reader.ended(),
                },
            }
        };
        connection.abort();
        while let Ok(event) = self.events.try_recv() {
            timeline.on_event(&event, text)?;
        }
        Ok(ended)
    }

    fn request(&self, so_far: &str) -> Request<Full<Bytes>> {
        let mut messages = vec![json!({"role": "user", "content": "Why do the workers hang?"})];
        if !so_far.is_empty() {
            messages.push(json!({"role": "assistant", "content": so_far}));
            messages.push(json!({"role": "user", "content": "Go on where you stopped."}));
        }
        let body = json!({"model": "claude-opus-5-5", "max_tokens": 1000, "messages": messages, "stream": true}).to_string();
        Request::post("/v1/messages?beta=true")
            .header(header::HOST, self.gateway.local().to_string())
            .header(header::USER_AGENT, "claude-cli/2.1.330 (external, cli)")
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-claude-code-session-id", "demo")
            .header("x-hotspare-token", self.token.expose_secret())
            .body(Full::new(Bytes::from(body)))
            .expect("the demo's request is made of valid parts")
    }
}

async fn next_frame(body: &mut Option<Incoming>) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    body.as_mut()?.frame().await
}

/// Reads the text out of an event stream, as far as the demo's client needs it.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    stop_reason: Option<String>,
    stopped: bool,
}

impl Reader {
    fn read(&mut self, bytes: &[u8], text: &mut String) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(event) = line.strip_prefix(b"data: ").and_then(|data| serde_json::from_slice::<Value>(data).ok()) {
                text.push_str(event["delta"]["text"].as_str().unwrap_or_default());
                self.stopped |= event["type"] == "message_stop";
                if let Some(reason) = event["delta"]["stop_reason"].as_str() {
                    self.stop_reason = Some(reason.to_owned());
                }
            }
        }
    }

    fn ended(&self) -> Ended {
        match (self.stopped, self.stop_reason.as_deref()) {
            (true, Some("max_tokens")) => Ended::AskForRest,
            (true, _) => Ended::Whole,
            (false, _) => Ended::Broken,
        }
    }
}
