//! Full mode: we are the HTTPS proxy of one client. Its provider's host is terminated, every other one tunnelled blindly. Never trusted by
//! anyone but that client, never open without the local token, and never in the way: what asks no model passes as it is.
//!
//! A tunnel to the terminated host stands before its provider was asked anything: that is what lets another profile answer in an outage.

pub mod authority;
mod pass;
pub mod proof;
pub mod terminator;
mod tunnel;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use hyper::body::Incoming;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub use self::authority::Authority;
pub(crate) use self::pass::{Passed, pass_directly};
pub use self::terminator::Terminator;
use crate::admission::{self, Admitted};
use crate::answer;
use crate::body::ClientBody;
use crate::connections::{IDLE_TIME, serve_requests};
use crate::guard::{Connect, Guarded, Opening};
use crate::peer::Peer;
use crate::server::{Entrance, Gateway};

/// The one host that is terminated.
pub const HOST: &str = "api.anthropic.com";

/// Its port; other ports of it are tunnelled.
pub const PORT: u16 = 443;

/// Longest that a client's TLS handshake may take.
const TLS_TIME: Duration = Duration::from_secs(10);

/// What opens a tunnel.
const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Serves a connection that wants a tunnel.
pub(crate) async fn serve<I>(
    gateway: Arc<Gateway>,
    mut client: Guarded<I>,
    asked: Connect,
    peer: &Peer,
    stop: Pin<&mut impl Future<Output = ()>>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !opens(&asked, gateway.token()) {
        tracing::debug!(?asked, "a tunnel was asked for without the local token");
        let fields = "proxy-authenticate: Basic realm=\"hotspare\"\r\n";
        let words = "hotspare: the local token is missing or wrong in the proxy's address; start the client with `hotspare run -- …`";
        refuse(&mut client, 407, fields, "authentication_error", words).await;
    } else if asked.host == HOST && asked.port == PORT && !gateway.is_direct(peer).await {
        terminate(gateway, client, stop).await;
    } else {
        tunnel::blind(&gateway, client, &asked, stop).await;
    }
}

/// Whether the password of its proxy credentials is the local token. Any name will do.
fn opens(asked: &Connect, token: &str) -> bool {
    let given = asked.authorization.as_deref().and_then(|value| {
        let (scheme, encoded) = value.split_at_checked(b"Basic ".len())?;
        scheme.eq_ignore_ascii_case(b"Basic ").then(|| STANDARD.decode(encoded.trim_ascii()).ok())?
    });
    given.is_some_and(|given| {
        let password = given.iter().position(|byte| *byte == b':').map(|colon| &given[colon + 1..]);
        password.is_some_and(|password| bool::from(password.ct_eq(token.as_bytes())))
    })
}

/// Ends the client's TLS in the host's name and serves what comes within.
async fn terminate<I>(gateway: Arc<Gateway>, mut client: Guarded<I>, mut stop: Pin<&mut impl Future<Output = ()>>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(terminator) = gateway.terminator() else { return };
    let acceptor = match terminator.acceptor(gateway.outside().wall()) {
        Ok(acceptor) => acceptor,
        Err(reason) => {
            tracing::error!("full mode has no certificate: {reason}");
            let words = format!("hotspare: there is no certificate for {HOST}: {reason}");
            return refuse(&mut client, 502, "", "api_error", &words).await;
        }
    };
    if client.write_all(ESTABLISHED).await.is_err() {
        return;
    }
    let tls = match tokio::time::timeout(TLS_TIME, acceptor.accept(client)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            if is_distrust(&error) {
                tracing::warn!("a client does not trust hotspare's certificate: is `NODE_EXTRA_CA_CERTS` set for it? ({error})");
                terminator.distrusted();
            } else {
                tracing::debug!(%error, "a client's TLS handshake failed");
            }
            return;
        }
        Err(_) => return tracing::debug!("a client's TLS handshake took too long"),
    };
    let mut within = Guarded::within(Box::new(tls), HOST);
    // Cancel-safe: after the stop nothing is read any more.
    let opening = tokio::select! {
        biased;
        opening = tokio::time::timeout(IDLE_TIME, within.opening()) => opening,
        () = &mut stop => return,
    };
    match opening {
        Ok(Opening::Upgrade(head)) => pass::another_protocol(&gateway, within, &head, stop).await,
        Ok(Opening::Requests | Opening::Connect(_)) => serve_requests(gateway, within, Entrance::Tunnel, Peer::unknown(), stop).await,
        Err(_) => tracing::debug!("nothing came through a tunnel"),
    }
}

/// Whether a handshake failed because the client does not take our certificate.
fn is_distrust(error: &std::io::Error) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, DecryptError, UnknownCA};
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    // A client that trusts an authority of ours from before or after this one finds its name, and that its signature is wrong.
    matches!(alert, Some(rustls::Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown | CertificateExpired | DecryptError)))
}

/// A request within a tunnel: a question to a model goes from profile to profile, everything else to where it was sent.
pub(crate) async fn route(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<ClientBody> {
    let Some(endpoint) = admission::asks_a_model(request.method(), request.uri()) else {
        return pass::pass(&gateway, request, &pass::ORIGIN).await;
    };
    match admission::admit_within(request.headers(), gateway.token()) {
        Ok(Admitted { credential }) => gateway.ask(endpoint, request, credential).await,
        Err(refusal) => refusal.map(|body| body.draining(request.into_body())),
    }
}

/// Writes an error of our own and ends the connection.
async fn refuse<I>(client: &mut Guarded<I>, status: u16, fields: &str, kind: &str, words: &str)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    // A client that has gone needs no answer.
    let _ = client.write_all(&answer::raw_error(status, fields, kind, words)).await;
    let _ = client.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "hs-0123456789abcdef";

    fn opens_with(authorization: Option<&str>) -> bool {
        let authorization = authorization.map(|value| value.as_bytes().to_vec());
        opens(&Connect { host: HOST.to_owned(), port: PORT, authorization }, TOKEN)
    }

    #[test]
    fn t3_only_the_token_as_the_password_opens_a_tunnel() {
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert!(opens_with(Some(&basic(&format!("hotspare:{TOKEN}")))));
        assert!(opens_with(Some(&basic(&format!(":{TOKEN}")))));
        assert!(opens_with(Some(&basic(&format!("x:{TOKEN}")).replace("Basic", "basic"))));
        for wrong in [
            format!("hotspare:{TOKEN}0"),
            format!("hotspare:{}", &TOKEN[..TOKEN.len() - 1]),
            format!("{TOKEN}:"),
            TOKEN.to_owned(),
            format!("a:b:{TOKEN}"),
            ":".to_owned(),
            String::new(),
        ] {
            assert!(!opens_with(Some(&basic(&wrong))), "{wrong}");
        }
        for odd in [None, Some(""), Some("Basic"), Some("Basic !!!"), Some("Bearer hs-0123456789abcdef"), Some(TOKEN), Some("Bäsic x")] {
            assert!(!opens_with(odd), "{odd:?}");
        }
    }
}
