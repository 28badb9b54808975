//! Passes to the client's own provider what asks no model, and brings its answers back as they are. Never to a spare, never an exchange,
//! never with another credential than the client's, and never remembered.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hotspare_config::BaseUrl;
use hotspare_core::{Clocks, Failure, FailureKind, Platform};
use hotspare_upstream::headers::{for_passing, for_passing_back};
use hotspare_upstream::{Credential, Received, Target, UpstreamBody, clock};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep};

use super::tunnel::{TUNNEL_IDLE, carry};
use super::{HOST, PORT, refuse};
use crate::answer;
use crate::body::{ClientBody, CutShort};
use crate::guard::Guarded;
use crate::replay::RequestBody;
use crate::server::Gateway;

/// Longest that the provider may take for the head of an answer. Longer than any client waits: it is the client that gives up.
const HEAD_TIME: Duration = Duration::from_secs(900);

/// Pause between the last bytes and the cut, in which what has come goes out.
const CUT_PAUSE: Duration = Duration::from_millis(60);

/// The provider itself, with the client's own credential.
pub(super) static ORIGIN: LazyLock<Target> = LazyLock::new(|| Target {
    name: Arc::from(HOST),
    platform: Platform::Anthropic,
    https: true,
    host: HOST.to_owned(),
    port: PORT,
    prefix: String::new(),
    credential: Credential::Client.into(),
});

/// An answer's body on its way through.
pub struct Passed {
    body: UpstreamBody<RequestBody>,
    /// Ends one that nothing comes of any more, or one that broke.
    idle: Pin<Box<Sleep>>,
    broke: bool,
}

impl fmt::Debug for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passed").finish_non_exhaustive()
    }
}

impl Passed {
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if !self.broke {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Err(_))) => {
                    self.broke = true;
                    self.idle.as_mut().reset(Instant::now() + CUT_PAUSE);
                }
                Poll::Ready(frame) => {
                    self.idle.as_mut().reset(Instant::now() + TUNNEL_IDLE);
                    return Poll::Ready(frame.map(|frame| frame.map_err(|_| CutShort)));
                }
                Poll::Pending => {}
            }
        }
        self.idle.as_mut().poll(cx).map(|()| Some(Err(CutShort)))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The place behind a base URL, or the provider itself, with the client's own credential.
fn origin(url: Option<&BaseUrl>) -> Target {
    let Some(url) = url else { return ORIGIN.clone() };
    Target {
        name: Arc::from(url.host.as_str()),
        https: url.https,
        host: url.host.clone(),
        port: url.port,
        prefix: url.prefix.clone(),
        ..ORIGIN.clone()
    }
}

/// Passes a request that was sent to our own port, to where it would have gone without us: the place behind `url`, or the provider itself.
pub(crate) async fn pass_directly(gateway: &Gateway, mut request: Request<Incoming>, url: Option<&BaseUrl>) -> Response<ClientBody> {
    let origin = origin(url);
    let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (uri, host) = (format!("{}{path}", origin.prefix).parse(), HeaderValue::from_str(&origin.authority()));
    let (Ok(uri), Ok(host)) = (uri, host) else {
        return answer::error(StatusCode::BAD_REQUEST, "invalid_request_error", "hotspare: this address cannot be sent");
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(http::header::HOST, host);
    pass(gateway, request, &origin).await
}

/// Passes one request through.
pub(super) async fn pass(gateway: &Gateway, request: Request<Incoming>, origin: &Target) -> Response<ClientBody> {
    let (mut head, body) = request.into_parts();
    head.headers = for_passing(&head.headers, |value| holds(value, gateway.token()));
    let ask = |body: RequestBody, fresh: bool| {
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        *request.extensions_mut() = head.extensions.clone();
        async move {
            let clocks = Clocks::default();
            let passing = gateway.upstreams().pass(origin, request, &clocks, fresh);
            let late = || Failure::new(FailureKind::HeadTimeout, hotspare_core::Stage::Head, format!("no answer within {HEAD_TIME:?}"));
            clock::timeout(HEAD_TIME, passing).await.unwrap_or_else(|| Err(late()))
        }
    };
    // What is kept alive may be dead. A request without a body can be asked again; one with a body gets a connection of its own.
    let outcome = if body.is_end_stream() {
        match ask(RequestBody::Parts(std::collections::VecDeque::new()), false).await {
            Err(failure) if failure.kind == FailureKind::StaleConnection => {
                ask(RequestBody::Parts(std::collections::VecDeque::new()), true).await
            }
            outcome => outcome,
        }
    } else {
        ask(RequestBody::Passed(body), true).await
    };
    match outcome {
        Ok(received) => passed_back(received),
        Err(failure) => {
            tracing::debug!(%failure, "a request could not be passed through");
            // The client asks for its settings and limits at its start, and after a 5xx six times over 17 s (measured). A 4xx lets it begin.
            let words = format!("hotspare: {} cannot be reached: {failure}", origin.host);
            answer::error(StatusCode::FAILED_DEPENDENCY, "api_error", &words)
        }
    }
}

fn passed_back(received: Received<RequestBody>) -> Response<ClientBody> {
    let (mut head, body) = received.into_parts();
    head.headers = for_passing_back(&head.headers);
    let idle = Box::pin(tokio::time::sleep(TUNNEL_IDLE));
    Response::from_parts(head, ClientBody::Passed(Box::new(Passed { body, idle, broke: false })))
}

/// Whether a header's value is our token, alone or as a bearer.
fn holds(value: &HeaderValue, token: &str) -> bool {
    let value = value.as_bytes();
    let secret = value.strip_prefix(b"Bearer ").unwrap_or(value);
    bool::from(secret.ct_eq(token.as_bytes()))
}

/// The client wants another protocol of its provider (a WebSocket): from here on the connection is between the two.
pub(super) async fn another_protocol<I>(gateway: &Gateway, mut client: Guarded<I>, head: &[u8], stop: Pin<&mut impl Future<Output = ()>>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    if head.windows(gateway.token().len()).any(|part| part == gateway.token().as_bytes()) {
        return refuse(&mut client, 400, "", "invalid_request_error", "hotspare: the local token stands in this request").await;
    }
    let mut origin = match gateway.network().connect(&ORIGIN, &Clocks::default()).await {
        Ok(stream) => stream.into_io(),
        Err(failure) => {
            let words = format!("hotspare: {HOST} cannot be reached: {failure}");
            return refuse(&mut client, 502, "", "api_error", &words).await;
        }
    };
    if origin.write_all(head).await.is_ok() && origin.flush().await.is_ok() {
        carry(client, origin, TUNNEL_IDLE, stop).await;
    }
}
